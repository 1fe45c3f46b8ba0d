//go:build !linux

package sock

// Behind returns false.
func Behind(uintptr) (unread int32, ended, ok bool) { return 0, false, false }
