//go:build unix && !notunix

package sock

import "syscall"

// Supported reports whether the functions of this package work on this system.
const Supported = true

// Read reads once, without waiting.
func Read(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

// ResultOf returns the Result for what Read has returned.
func ResultOf(n int, err error) Result {
	if errno, failed := err.(syscall.Errno); failed {
		return -Result(errno)
	}
	return Result(n)
}

// Err returns the error of the Read, or nil.
func (r Result) Err() error {
	if r >= 0 {
		return nil
	}
	return syscall.Errno(-r)
}

// Write writes once, as much as there is room for, without waiting.
func Write(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

// Interrupted reports whether a signal interrupted Read. The caller can call Read again
// at once.
func Interrupted(err error) bool { return err == syscall.EINTR }

// WouldWait reports whether Read failed because nothing has arrived.
func WouldWait(err error) bool { return err == syscall.EAGAIN }
