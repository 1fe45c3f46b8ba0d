//go:build !unix

package sock

import "errors"

// Supported reports whether the functions of this package work on this system.
const Supported = false

// Read returns an error.
func Read(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Write returns an error.
func Write(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Ready returns true.
func Ready(uintptr) bool { return true }

// Interrupted returns false.
func Interrupted(error) bool { return false }

// WouldWait returns false.
func WouldWait(error) bool { return false }
