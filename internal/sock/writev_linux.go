//go:build !notlinux

package sock

import (
	"syscall"
	"unsafe"
)

// WritevSupported reports whether Writev works on this system.
const WritevSupported = true

// Writev writes a and then b once, as much of them as there is room for, without waiting.
// b is not empty.
func Writev(fd uintptr, a, b []byte) (int, error) {
	vector, used := [2]syscall.Iovec{}, 0
	for _, p := range [2][]byte{a, b} {
		if len(p) > 0 {
			vector[used].Base = &p[0]
			vector[used].SetLen(len(p))
			used++
		}
	}
	noteWrite()
	n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vector)), uintptr(used))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
