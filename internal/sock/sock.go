// Package sock reads from the file descriptor of a socket, and writes to it, inside the
// callback of a [syscall.RawConn]. It is a package because the system calls differ between
// operating systems.
//
// Read and the functions for its error are small enough to be inlined, because their
// caller is the deepest function on the stack of an idle connection. One more stack frame
// can double the size of that stack.
//
// The build tag notlinux replaces what only Linux has by the code for other systems, and notunix, which
// needs notlinux, also what only Unix has. So that code can be tested on Linux.
package sock

import "time"

// A Result is the result of a Read in one word, because each connection keeps that of its last
// read: the number of bytes, or a negative number that stands for an error.
type Result int

// Acks are what the system reports about a TCP connection.
type Acks struct {
	Acked   uint64        // bytes that the peer has acknowledged
	Written uint64        // what Acked will be when the peer has got all that was written
	Waits   bool          // bytes could not be sent yet, because the peer or the line takes no more
	Silence time.Duration // since the last bytes have arrived
}
