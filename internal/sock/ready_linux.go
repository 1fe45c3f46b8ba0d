package sock

import (
	"syscall"
	"unsafe"
)

// Ready reports whether a read would not wait: bytes have arrived, the peer has ended the
// connection, or it has failed. It reads nothing. It does not peek at a byte, because that would
// clear the error of the socket, and the read could not return it.
func Ready(fd uintptr) bool {
	poll, atOnce := pollFd{fd: int32(fd), events: pollIN}, syscall.Timespec{}
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	return errno != 0 || poll.revents != 0 // after an error, the read finds out
}

// pollIN asks whether a read would not wait.
const pollIN = 0x1
