//go:build !linux || 386 || s390x

package sock

// Acked returns false.
func Acked(uintptr) (acked, written uint64, waits, ok bool) { return 0, 0, false, false }
