//go:build !linux || 386 || s390x || notlinux

package sock

// AcksSupported reports whether AcksOf works on this system.
const AcksSupported = false

// AcksOf returns false.
func AcksOf(uintptr) (a Acks, ok bool) { return Acks{}, false }
