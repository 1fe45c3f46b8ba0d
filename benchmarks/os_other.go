//go:build !linux

package main

import (
	"os/exec"
	"runtime"
)

// startOn starts cmd on any core. This program can choose a core only on Linux.
func startOn(cmd *exec.Cmd, _ bool) error { return cmd.Start() }

// resident returns the memory that the Go runtime has from the system, in bytes, because
// there is no /proc with the resident memory.
func resident() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
