//go:build !linux || notlinux

package sock

// BehindSupported reports whether Behind works on this system.
const BehindSupported = false

// Behind returns false.
func Behind(uintptr) (unread int32, ended, ok bool) { return 0, false, false }
