package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// startOn starts cmd on one core: the first or the last one that this process may use. With
// a single core it only starts cmd.
func startOn(cmd *exec.Cmd, last bool) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return cmd.Start()
	}
	for i, seen := 0, 0; seen < all.Count(); i++ {
		if !all.IsSet(i) {
			continue
		}
		seen++
		if last == (seen > 1) {
			one.Zero()
			one.Set(i)
		}
	}
	// A child process inherits the cores of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return cmd.Start()
	}
	defer unix.SchedSetaffinity(0, &all)
	return cmd.Start()
}

// resident returns the resident memory of this process, in bytes.
func resident() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if fields := bytes.Fields(statm); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
