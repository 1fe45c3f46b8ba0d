//go:build !linux

package main

import (
	"os/exec"
	"runtime"
)

// startOn starts cmd wherever the system puts it: only Linux lets us choose a core.
func startOn(cmd *exec.Cmd, _ bool) error { return cmd.Start() }

// resident is, where there is no /proc, what the Go runtime has from the system.
func resident() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
