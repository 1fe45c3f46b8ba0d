//go:build !notlinux

package sock

import (
	"syscall"
	"unsafe"
)

// BehindSupported reports whether Behind works on this system.
const BehindSupported = true

// Behind returns how many bytes of a TCP connection have arrived and were not read, and whether the
// peer has ended the connection after them. ok is false if the system does not report it.
func Behind(fd uintptr) (unread int32, ended, ok bool) {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&unread))); errno != 0 {
		return 0, false, false
	}
	revents, err := poll(fd, pollRDHUP)
	if err != nil {
		return 0, false, false
	}
	return unread, revents != 0, true
}
