package sock

import (
	"syscall"
	"unsafe"
)

// Behind returns how many bytes of a TCP connection have arrived and were not read, and whether the
// peer has ended the connection after them. ok is false if the system does not report it.
func Behind(fd uintptr) (unread int32, ended, ok bool) {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&unread))); errno != 0 {
		return 0, false, false
	}
	// SYS_PPOLL exists on every processor, unlike SYS_POLL.
	poll, atOnce := pollFd{fd: int32(fd), events: pollRDHUP}, syscall.Timespec{}
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	if errno != 0 {
		return 0, false, false
	}
	return unread, poll.revents != 0, true
}

// pollFd is struct pollfd.
type pollFd struct {
	fd              int32
	events, revents int16
}

// pollRDHUP asks whether the peer sends nothing more. The system reports POLLERR and POLLHUP in any
// case.
const pollRDHUP = 0x2000
