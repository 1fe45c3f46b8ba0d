//go:build !linux || 386 || s390x

package sock

// AcksOf returns false.
func AcksOf(uintptr) (a Acks, ok bool) { return Acks{}, false }
