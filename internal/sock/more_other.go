//go:build !linux || 386 || s390x

package sock

// WriteMore is Write, and does not wait for the end of the stream.
func WriteMore(fd uintptr, p []byte) (int, error) { return Write(fd, p) }
