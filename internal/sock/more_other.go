//go:build !linux || 386 || s390x || notlinux

package sock

// MoreSupported reports whether WriteMore waits for the end of the stream on this system.
const MoreSupported = false

// WriteMore is Write, and does not wait for the end of the stream.
func WriteMore(fd uintptr, p []byte) (int, error) { return Write(fd, p) }
