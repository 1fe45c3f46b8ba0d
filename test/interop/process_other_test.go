//go:build !linux

package interop

import "os/exec"

// killWithParent does nothing, because only Linux can kill a process when its parent ends.
func killWithParent(*exec.Cmd) {}
