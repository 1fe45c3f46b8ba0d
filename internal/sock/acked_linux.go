//go:build linux && !386 && !s390x

package sock

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// Acked returns how many bytes the peer of a TCP connection has acknowledged so far, how many it will
// have acknowledged when it has got all that was written, and whether bytes wait that could not be
// sent yet, because the peer or the line takes no more. ok is false if the system does not report it.
func Acked(fd uintptr) (acked, written uint64, waits, ok bool) {
	var left int32 // asked for first: an acknowledgement in between makes written too large, never too small
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&left))); errno != 0 {
		return 0, 0, false, false
	}
	var info [infoSize]byte
	size := uint32(len(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < infoSize {
		return 0, 0, false, false
	}
	acked = binary.NativeEndian.Uint64(info[bytesAcked:])
	return acked, acked + uint64(left), binary.NativeEndian.Uint32(info[notSentBytes:]) > 0, true
}

// The offsets of two fields in struct tcp_info, and the size up to their end. Linux has both since
// version 4.6.
const (
	bytesAcked   = 120
	notSentBytes = 144
	infoSize     = notSentBytes + 4
)
