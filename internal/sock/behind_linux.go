package sock

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// Behind returns how many bytes of a TCP connection have arrived and were not read, and
// whether the peer has ended the connection behind them. ok is false if the system does
// not tell.
func Behind(fd uintptr) (unread int32, ended, ok bool) {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&unread))); errno != 0 {
		return 0, false, false
	}
	// The first four bytes of struct tcp_info are enough: the first byte is the state.
	info, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return 0, false, false
	}
	var first [4]byte
	binary.NativeEndian.PutUint32(first[:], uint32(info))
	switch first[0] {
	case tcpClose, tcpCloseWait, tcpLastACK, tcpClosing, tcpTimeWait:
		return unread, true, true
	}
	return unread, false, true
}

// The states of struct tcp_info in which the peer sends nothing more.
const (
	tcpTimeWait  = 6
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastACK   = 9
	tcpClosing   = 11
)
