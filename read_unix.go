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
	raw  syscall.RawConn
	read func(fd uintptr) bool // r.tryRead, made once

	in  *receiver
	n   int // the result of the last read
	err error
}

// newReadiness returns nil for what is no TCP connection.
func newReadiness(conn net.Conn, in *receiver) *readiness {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	r := &readiness{raw: raw, in: in}
	r.read = r.tryRead
	return r
}

// fill reads once into the receiver's buffer, behind what is there. It blocks, and
// keeps to the read deadline, as conn.Read does.
func (r *readiness) fill() (int, error) {
	if err := r.raw.Read(r.read); err != nil {
		return 0, err
	}
	if r.err != nil {
		return 0, os.NewSyscallError("read", r.err)
	}
	if r.n == 0 {
		return 0, io.EOF
	}
	return r.n, nil
}

// tryRead reads what is there. It returns false if nothing is, and is called again
// when something may be.
func (r *readiness) tryRead(fd uintptr) bool {
	r.in.takeBuffer()
	for {
		r.n, r.err = syscall.Read(int(fd), r.in.buf[r.in.w:])
		if r.err != syscall.EINTR {
			break
		}
	}
	if r.err == nil && r.n > 0 {
		return true
	}
	r.in.shrinkBuffer()
	return r.err != syscall.EAGAIN
}
