//go:build !linux || notlinux

package sock

import "errors"

// WritevSupported reports whether Writev works on this system.
const WritevSupported = false

// Writev returns an error.
func Writev(uintptr, []byte, []byte) (int, error) { return 0, errors.ErrUnsupported }
