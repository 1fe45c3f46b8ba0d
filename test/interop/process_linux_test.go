package interop

import (
	"os/exec"
	"syscall"
)

// killWithParent makes the kernel kill cmd when the test process ends, because a test
// process that is killed does not run its cleanup.
func killWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
