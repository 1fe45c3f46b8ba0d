//go:build unix

package websocket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A readiness waits for a TCP connection to be readable before there is a buffer
// to read into. It is worth 4 KiB for each idle connection.
type readiness struct {
	raw  syscall.RawConn // nil where a read needs a buffer to wait with
	read func(fd uintptr) bool

	n     int // the result of the last read
	errno syscall.Errno
}

func (r *readiness) waits() bool { return r.raw != nil }

// fill reads once into the receiver's buffer, behind what is there. It blocks, and
// keeps to the read deadline, as conn.Read does.
func (r *readiness) fill() (int, error) {
	if err := r.raw.Read(r.read); err != nil {
		return 0, err
	}
	if r.errno != 0 {
		return 0, os.NewSyscallError("read", r.errno)
	}
	if r.n == 0 {
		return 0, io.EOF
	}
	return r.n, nil
}

// waitFor prepares for reading from conn without a buffer, if that is a TCP
// connection.
//
// In the function that reads, the stack is at its deepest. So it is no method, which
// would have a frame for its method value, and calls takeBuffer only where it must:
// a detached goroutine whose stack is a few bytes deeper than 1 KiB here needs one of
// 4 KiB instead of 2 (BenchmarkStack).
func (in *receiver) waitFor(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	in.ready.raw = raw
	in.ready.read = func(fd uintptr) bool {
		if in.buf == nil && !in.bulk {
			in.buf = readBuffers.Get().(*[readBufferSize]byte)[:]
		} else {
			in.takeBuffer()
		}
		n, err := syscall.Read(int(fd), in.buf[in.w:])
		for err == syscall.EINTR {
			n, err = syscall.Read(int(fd), in.buf[in.w:])
		}
		in.ready.n = n
		in.ready.errno, _ = err.(syscall.Errno)
		if n > 0 {
			return true
		}
		in.shrinkBuffer()
		return err != syscall.EAGAIN // false is called again when something may be there
	}
}
