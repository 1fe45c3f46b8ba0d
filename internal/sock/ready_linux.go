//go:build !notunix

package sock

// Ready reports whether a read would not wait: bytes have arrived, the peer has ended the
// connection, or it has failed. It reads nothing. It does not peek at a byte, because that would
// clear the error of the socket, and the read could not return it.
func Ready(fd uintptr) bool {
	revents, err := poll(fd, pollIN)
	return err != nil || revents != 0 // after an error, the read finds out
}
