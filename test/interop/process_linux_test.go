package interop

import (
	"os/exec"
	"syscall"
)

// dieWithUs has cmd killed when the test is, even in a way that runs no cleanup.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
