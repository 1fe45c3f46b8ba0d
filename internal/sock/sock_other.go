//go:build !unix || notunix

package sock

import "errors"

// Supported reports whether the functions of this package work on this system.
const Supported = false

// Read returns an error.
func Read(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// ResultOf returns a Result that stands for an error.
func ResultOf(int, error) Result { return -1 }

// Err returns an error.
func (Result) Err() error { return errors.ErrUnsupported }

// Write returns an error.
func Write(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Ready returns true.
func Ready(uintptr) bool { return true }

// Interrupted returns false.
func Interrupted(error) bool { return false }

// WouldWait returns false.
func WouldWait(error) bool { return false }
