//go:build linux && !386 && !s390x && !notlinux

package sock

import (
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"
)

// AcksSupported reports whether AcksOf works on this system.
const AcksSupported = true

// AcksOf returns the Acks of a connection. ok is false if the system does not report them.
func AcksOf(fd uintptr) (a Acks, ok bool) {
	var left int32 // asked for first: an acknowledgement in between makes Written too large, never too small
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&left))); errno != 0 {
		return Acks{}, false
	}
	var info [infoSize]byte
	size := uint32(len(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < infoSize {
		return Acks{}, false
	}
	acked := binary.NativeEndian.Uint64(info[bytesAcked:])
	if acked == 0 { // a kernel that does not fill the field in, or nothing is known yet
		return Acks{}, false
	}
	return Acks{
		Acked:   acked,
		Written: acked + uint64(left),
		Waits:   binary.NativeEndian.Uint32(info[notSentBytes:]) > 0,
		Silence: time.Duration(binary.NativeEndian.Uint32(info[lastDataRecv:])) * time.Millisecond,
	}, true
}

// The offsets of fields in struct tcp_info, and the size up to the end of the last. Linux has all of
// them since version 4.6.
const (
	lastDataRecv = 52
	bytesAcked   = 120
	notSentBytes = 144
	infoSize     = notSentBytes + 4
)
