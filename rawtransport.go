package websocket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// rawConn returns the descriptor of c, or nil if the library cannot read from it.
func rawConn(c syscall.Conn) syscall.RawConn {
	if raw, err := c.SyscallConn(); err == nil && sock.Supported {
		return raw
	}
	return nil
}

// A tcpTransport is a TCP connection.
type tcpTransport struct {
	*net.TCPConn
	rawTransport
}

func newTCPTransport(conn *net.TCPConn, raw syscall.RawConn, buf *inbuf) *tcpTransport {
	t := &tcpTransport{TCPConn: conn}
	t.init(raw, buf)
	return t
}

// writeLarge passes all that is left to each system call, because the kernel says how many
// bytes it has taken. Writing in pieces would wake the peer for each piece, and would take
// 1.5 times the CPU for a message of 1 MiB on a fast line.
func (t *tcpTransport) writeLarge(head, payload []byte, p progress) (int, error) {
	if !sock.WritevSupported {
		return writePieces(t.TCPConn, head, payload, 4*progressSize, p)
	}
	return t.writev(head, payload, p)
}

func (t *tcpTransport) closeWrite() error { return t.TCPConn.CloseWrite() }
func (t *tcpTransport) cut(bool)          { t.TCPConn.Close() }
func (t *tcpTransport) conn() net.Conn    { return t.TCPConn }

// A unixTransport is a Unix socket, for example of a proxy on the same machine.
type unixTransport struct {
	*net.UnixConn
	rawTransport
}

func (t *unixTransport) writeLarge(head, payload []byte, p progress) (int, error) {
	if !sock.WritevSupported {
		return writePieces(t.UnixConn, head, payload, progressSize, p)
	}
	return t.writev(head, payload, p)
}

func (t *unixTransport) closeWrite() error { return t.UnixConn.CloseWrite() }
func (t *unixTransport) cut(bool)          { t.UnixConn.Close() }
func (t *unixTransport) conn() net.Conn    { return t.UnixConn }

// A rawTransport is what TCP connections and Unix sockets have in common. It waits for input
// without a buffer, because that saves 4 KiB for each idle connection.
type rawTransport struct {
	raw  syscall.RawConn
	read func(fd uintptr) bool
	buf  *inbuf
	last sock.Result // of read
}

func (t *rawTransport) init(raw syscall.RawConn, buf *inbuf) {
	t.raw, t.buf = raw, buf
	// The stack is deepest inside this callback. It is a closure because a method
	// value adds a stack frame, and it takes a small buffer inline because that is
	// the common case. With a few bytes more, the stack of a detached goroutine grows
	// from 2 to 4 KiB (TestConn_stack_stays_small). It captures only t, because each
	// connection has a closure.
	t.read = func(fd uintptr) bool {
		buf := t.buf
		if buf.buf == nil && !buf.large {
			buf.buf = readBuffers.Get().(*[readBufferSize]byte)[:]
		} else {
			buf.take()
		}
		n, err := sock.Read(fd, buf.buf[buf.w:])
		for sock.Interrupted(err) {
			n, err = sock.Read(fd, buf.buf[buf.w:])
		}
		t.last = sock.ResultOf(n, err)
		if n > 0 {
			return true
		}
		buf.shrink()
		return !sock.WouldWait(err) || buf.noWait // after false, it is called again when there may be input
	}
}

// fill blocks, and respects the read deadline, as Read does.
func (t *rawTransport) fill() error {
	if err := t.raw.Read(t.read); err != nil {
		return err
	}
	return t.result()
}

// poll does not wait, because there may be one for each connection and second.
func (t *rawTransport) poll() error {
	t.buf.noWait = true
	defer func() { t.buf.noWait = false }()
	return t.fill()
}

// result handles the result of t.read.
func (t *rawTransport) result() error {
	n := int(t.last)
	if n <= 0 {
		return emptyRead(t.last.Err())
	}
	t.buf.filled(n, true)
	return nil
}

// emptyRead returns the error of a sock.Read that has read nothing. os.ErrDeadlineExceeded itself says
// that the read has looked.
func emptyRead(err error) error {
	switch {
	case err == nil:
		return io.EOF
	case sock.WouldWait(err):
		return os.ErrDeadlineExceeded
	}
	return os.NewSyscallError("read", err)
}

// hasNotLooked reports whether err is that of a deadline that has ended a read before it has looked
// at the socket. Package net wraps the error of such a deadline, unlike emptyRead.
func hasNotLooked(err error) bool {
	return err != os.ErrDeadlineExceeded && errors.Is(err, os.ErrDeadlineExceeded)
}

func (t *rawTransport) behind() (unread int32, ended, ok bool) { return behindIn(t.raw) }
func (t *rawTransport) acked() (a acks, ok bool)               { return ackedIn(t.raw) }

func (t *rawTransport) waitsWithoutBuffer() bool { return true }

// writev is writeLarge with one system call for all that is left.
func (t *rawTransport) writev(head, payload []byte, p progress) (int, error) {
	w := largeWrites.Get().(*largeWrite)
	w.head, w.payload, w.progress, w.n, w.reported, w.err = head, payload, p, 0, 0, nil
	err := t.raw.Write(w.callback)
	if err == nil && w.err != nil {
		err = os.NewSyscallError("writev", w.err)
	}
	n := w.n
	w.head, w.payload, w.progress = nil, nil, progress{}
	largeWrites.Put(w)
	return n, err
}

// A largeWrite is a write of two slices that is in progress. It is pooled, because its
// callback would be allocated for each write.
type largeWrite struct {
	head, payload []byte
	progress      progress
	n             int // bytes that the kernel has taken
	reported      int // how many of them were reported as progress
	err           error
	callback      func(fd uintptr) bool
}

var largeWrites = sync.Pool{New: func() any {
	w := new(largeWrite)
	w.callback = w.write
	return w
}}

// write writes as much as there is room for. After false, it is called again when there is
// room.
func (w *largeWrite) write(fd uintptr) bool {
	for len(w.payload) > 0 {
		n, err := sock.Writev(fd, w.head, w.payload)
		switch {
		case sock.Interrupted(err):
			continue
		case sock.WouldWait(err):
			return false
		case err != nil:
			w.err = err
			return true
		}
		w.n += n
		fromHead := min(n, len(w.head))
		w.head, w.payload = w.head[fromHead:], w.payload[n-fromHead:]
		if w.n-w.reported >= progressSize {
			w.reported = w.n
			w.progress.report()
		}
	}
	return true
}

func (t *rawTransport) writeNow(p []byte, more bool) (int, error) {
	w := smallWrites.Get().(*smallWrite)
	w.p, w.more = p, more
	rawErr := t.raw.Write(w.callback)
	n, err := w.n, w.err
	w.p = nil
	smallWrites.Put(w)
	switch {
	case rawErr != nil:
		return 0, errors.ErrUnsupported // a deadline has passed, or the socket is closed: Write returns which
	case sock.WouldWait(err):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("write", err)
	}
	return n, nil
}

// A smallWrite is a call of writeNow. It is pooled, as largeWrite is.
type smallWrite struct {
	p        []byte
	more     bool
	n        int
	err      error
	callback func(fd uintptr) bool
}

var smallWrites = sync.Pool{New: func() any {
	w := new(smallWrite)
	w.callback = w.write
	return w
}}

func (w *smallWrite) write(fd uintptr) bool {
	write := sock.Write
	if w.more {
		write = sock.WriteMore
	}
	for w.n, w.err = write(fd, w.p); sock.Interrupted(w.err); {
		w.n, w.err = write(fd, w.p)
	}
	return true
}

func (t *rawTransport) exact() bool { return true }
func (t *rawTransport) release()    {}
