//go:build linux && !386 && !s390x

package sock

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// Acked returns how many bytes the peer of a TCP connection has acknowledged so far, and whether
// bytes wait that could not be sent yet, because the peer or the line takes no more. ok is false if
// the system does not report it.
func Acked(fd uintptr) (acked uint64, waits, ok bool) {
	var info [infoSize]byte
	size := uint32(len(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < infoSize {
		return 0, false, false
	}
	return binary.NativeEndian.Uint64(info[bytesAcked:]), binary.NativeEndian.Uint32(info[notSentBytes:]) > 0, true
}

// The offsets of two fields in struct tcp_info, and the size up to their end. Linux has both since
// version 4.6.
const (
	bytesAcked   = 120
	notSentBytes = 144
	infoSize     = notSentBytes + 4
)
