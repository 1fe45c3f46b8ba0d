//go:build linux && !386 && !s390x && !notlinux

package sock

import (
	"syscall"
	"unsafe"
)

// MoreSupported reports whether WriteMore waits for the end of the stream on this system.
const MoreSupported = true

// WriteMore is Write for bytes that the end of the stream follows at once, so that both leave in one
// packet. If it does not follow, the kernel sends the bytes after about 200 ms. p is not empty. It is
// not syscall.SendmsgN, because that takes twice as long.
func WriteMore(fd uintptr, p []byte) (int, error) {
	noteWrite()
	n, _, errno := syscall.Syscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_MORE, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
