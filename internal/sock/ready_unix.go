//go:build unix && !linux && !notunix

package sock

import "syscall"

// Ready reports whether a read would not wait: bytes have arrived, the peer has ended the
// connection, or it has failed. It reads nothing.
func Ready(fd uintptr) bool {
	var p [1]byte
	_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK)
	return !WouldWait(err)
}
