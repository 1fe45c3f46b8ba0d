package sock

import (
	"syscall"
	"unsafe"
)

// What poll is asked for. The system reports POLLERR and POLLHUP in any case.
const (
	pollIN    = 0x1    // whether a read would not wait
	pollRDHUP = 0x2000 // whether the peer sends nothing more
)

// poll returns which of the events a socket has now.
func poll(fd uintptr, events int16) (revents int16, err error) {
	p := struct { // struct pollfd
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: events}
	var atOnce syscall.Timespec
	// SYS_PPOLL exists on every processor, unlike SYS_POLL.
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return p.revents, nil
}
