package websocket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/sock"
)

// A transport is what a connection needs of its socket. Kinds of sockets differ
// only here. One goroutine at a time reads and one writes.
type transport interface {
	// Read returns at least one byte or an error.
	Read(p []byte) (int, error)

	// fill reads once into the buffer that the transport was made with.
	fill() error

	// poll is fill for a caller that has set a read deadline of pingPoll. It may return
	// os.ErrDeadlineExceeded at once if nothing has arrived.
	poll() error

	// behind returns how many bytes wait in the kernel, and whether the peer has ended the TCP
	// connection after them. It returns false if the system does not report it.
	behind() (unread int32, ended, ok bool)

	// acked returns what the kernel reports about the bytes that were sent. It returns false if the
	// system does not report it.
	acked() (a acks, ok bool)

	// waitsWithoutBuffer reports whether fill always takes a buffer only when bytes have
	// arrived.
	waitsWithoutBuffer() bool

	Write(p []byte) (int, error)

	// writeLarge writes head and then payload, and reports its progress at least once
	// for each piece. It may use the free capacity of head.
	writeLarge(head, payload []byte, p progress) (int, error)

	// writeNow writes as much of p as the kernel takes without waiting. more says that closeWrite
	// follows at once, so that both can leave in one packet. It returns errors.ErrUnsupported if
	// the transport cannot do that.
	writeNow(p []byte, more bool) (int, error)

	// exact reports whether a write that fails returns exactly how many bytes it has
	// sent. If it does not, the rest cannot be sent later.
	exact() bool

	// closeWrite tells the peer that no more bytes follow. It returns errors.ErrUnsupported if the
	// transport cannot do that.
	closeWrite() error

	// cut closes the socket without waiting for anything. told says that the peer knows that
	// no frame follows.
	cut(told bool)

	// release waits for the goroutines of a transport that is cut.
	release()

	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error

	// conn returns the net.Conn that users see.
	conn() net.Conn
}

// A progress reports the progress of the write of a large frame that began at a time.
type progress struct {
	timer pieceNoter
	began time.Duration
}

// A pieceNoter limits the time of each piece of a write.
type pieceNoter interface {
	notePiece(began time.Duration) // the socket has taken a piece
}

func (p progress) report() { p.timer.notePiece(p.began) }

// progressSize is how much of a large payload counts as progress of its write. Each piece has its
// own WriteTimeout, so a peer has to read at least this much within WriteTimeout.
const progressSize = 64 << 10

// newTransport returns the transport of nc, which fills buf. It belongs to s.
func newTransport(nc net.Conn, s *socket, buf *inbuf) transport {
	switch nc := nc.(type) {
	case *net.TCPConn:
		if raw := rawConn(nc); raw != nil {
			return newTCPTransport(nc, raw, buf)
		}
	case *net.UnixConn:
		if raw := rawConn(nc); raw != nil {
			t := &unixTransport{UnixConn: nc}
			t.init(raw, buf)
			return t
		}
	case *h2stream:
		nc.buf = buf
		return nc
	case *tls.Conn:
		return newTLSTransport(nc, s, buf)
	}
	return &netTransport{Conn: nc, buf: buf, known: isExact(nc)}
}

// isExact reports whether a failed Write of nc returns exactly how many bytes it has
// sent. Types that are not known here may wrap a TLS connection, which may have sent a
// part of a record and returns 0 nevertheless. A memnet.Conn is the connection of package
// websockettest, which must behave as TCP does.
func isExact(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn, *memnet.Conn: // the first two only where rawConn returns nil
		return true
	}
	return reflect.TypeOf(nc) == pipeType
}

// pipeType is the type of net.Pipe, which tests use.
var pipeType = func() reflect.Type {
	conn, _ := net.Pipe()
	return reflect.TypeOf(conn)
}()

// writePieces writes head and then payload, in pieces of size bytes. Only the first piece
// shares a write with head.
func writePieces(w io.Writer, head, payload []byte, size int, p progress) (int, error) {
	next := min(len(payload), size)
	written, err := writeBoth(w, head, payload[:next])
	for payload = payload[next:]; len(payload) > 0 && err == nil; payload = payload[next:] {
		p.report()
		next = min(len(payload), size)
		var n int
		n, err = writeWhole(w, payload[:next])
		written += n
	}
	return written, err
}

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
		return 0, errors.ErrUnsupported // a deadline has passed: that of the user does not apply here, and Write returns others
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

// A netTransport is any net.Conn.
type netTransport struct {
	net.Conn
	buf   *inbuf
	known bool // see isExact
}

// maxEmptyReads is how often a net.Conn may return neither a byte nor an error
// before its connection ends with io.ErrNoProgress.
const maxEmptyReads = 100

func (t *netTransport) Read(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := t.Conn.Read(p)
		if n > 0 {
			return n, nil // the error comes again with the next read
		}
		if err != nil {
			return 0, asDeadline(err)
		}
	}
	return 0, io.ErrNoProgress
}

// asDeadline returns err as an os.ErrDeadlineExceeded if it is the timeout of a net.Conn that reports
// an expired deadline in its own way, as some userspace networks and multiplexers do. net/http
// works on them too. A timeout of TCP is no deadline.
func asDeadline(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return err
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return err
}

func (t *netTransport) fill() error {
	p := t.buf.space()
	n, err := t.Conn.Read(p)
	if n == 0 && err == nil {
		n, err = t.Read(p)
	}
	if n == 0 {
		return asDeadline(err)
	}
	t.buf.filled(n, false)
	return nil
}

func (t *netTransport) poll() error { return t.fill() }

func (t *netTransport) behind() (unread int32, ended, ok bool) { return behind(t.Conn) }
func (t *netTransport) acked() (a acks, ok bool)               { return acked(t.Conn) }

func (t *netTransport) waitsWithoutBuffer() bool { return false }

func (t *netTransport) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	switch {
	case err != nil:
		err = asDeadline(err)
	case n < len(p):
		err = io.ErrShortWrite
	}
	return n, err
}

func (t *netTransport) writeLarge(head, payload []byte, p progress) (int, error) {
	n, err := writePieces(t.Conn, head, payload, progressSize, p)
	return n, asDeadline(err)
}

func (t *netTransport) writeNow([]byte, bool) (int, error) { return 0, errors.ErrUnsupported }

func (t *netTransport) exact() bool { return t.known }

func (t *netTransport) closeWrite() error {
	conn, ok := t.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return conn.CloseWrite()
}

// cut closes what is below TLS first, if the net.Conn is a wrapper of a tls.Conn, see
// tlsTransport.cut. The wrapper is closed too, because it may count its connections.
func (t *netTransport) cut(bool) {
	if encrypted := tlsIn(t.Conn); encrypted != nil {
		encrypted.NetConn().Close()
	}
	t.Conn.Close()
}

// tlsIn returns the tls.Conn that conn wraps, or nil.
func tlsIn(conn net.Conn) *tls.Conn {
	for range maxWrappers {
		if encrypted, ok := conn.(*tls.Conn); ok {
			return encrypted
		}
		wrapper, wraps := conn.(netConner)
		if !wraps {
			return nil
		}
		conn = wrapper.NetConn()
	}
	return nil
}

func (t *netTransport) release()       {}
func (t *netTransport) conn() net.Conn { return t.Conn }

// A netConner is a wrapper of a net.Conn that says what it wraps.
type netConner interface{ NetConn() net.Conn }

// maxWrappers is how many wrappers of a net.Conn are opened to find its file descriptor, and
// how many of an http.ResponseWriter. A faulty wrapper may return itself.
const maxWrappers = 8

// behind implements transport.behind for any net.Conn.
func behind(conn net.Conn) (unread int32, ended, ok bool) {
	if !sock.BehindSupported {
		return 0, false, false
	}
	if raw := fileOf(conn); raw != nil {
		return behindIn(raw)
	}
	return 0, false, false
}

// acked implements transport.acked for any net.Conn.
func acked(conn net.Conn) (a acks, ok bool) {
	if !sock.AcksSupported {
		return acks{}, false
	}
	if raw := fileOf(conn); raw != nil {
		return ackedIn(raw)
	}
	return acks{}, false
}

// fileOf returns the file descriptor of conn, or nil if there is none. conn may be a wrapper, if it
// has a NetConn method, as a tls.Conn has.
func fileOf(conn net.Conn) syscall.RawConn {
	for range maxWrappers {
		wrapper, wraps := conn.(netConner)
		if !wraps {
			break
		}
		conn = wrapper.NetConn()
	}
	if file, hasFile := conn.(syscall.Conn); hasFile {
		if raw, err := file.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// A kernelQuery asks the kernel about a socket. It is pooled, as largeWrite is, because there are
// several queries a second for a busy connection.
type kernelQuery struct {
	unread        int32
	ended, ok     bool
	acks          acks
	behind, acked func(fd uintptr)
}

var kernelQueries = sync.Pool{New: func() any {
	q := new(kernelQuery)
	q.behind = func(fd uintptr) { q.unread, q.ended, q.ok = sock.Behind(fd) }
	q.acked = func(fd uintptr) { q.acks.Acks, q.ok = sock.AcksOf(fd) }
	return q
}}

// behindIn is behind for a file descriptor.
func behindIn(raw syscall.RawConn) (unread int32, ended, ok bool) {
	q := kernelQueries.Get().(*kernelQuery)
	defer kernelQueries.Put(q)
	if err := raw.Control(q.behind); err != nil {
		return 0, false, false
	}
	return q.unread, q.ended, q.ok
}

// ackedIn is acked for a file descriptor.
func ackedIn(raw syscall.RawConn) (a acks, ok bool) {
	q := kernelQueries.Get().(*kernelQuery)
	defer kernelQueries.Put(q)
	if err := raw.Control(q.acked); err != nil {
		return acks{}, false
	}
	return q.acks, q.ok
}

// parseAddr returns the address of http.Request.RemoteAddr, which middleware may have changed.
func parseAddr(s string) net.Addr {
	if addr, err := netip.ParseAddrPort(s); err == nil {
		return net.TCPAddrFromAddrPort(addr)
	}
	return textAddr(s)
}

// A textAddr is the address of a request whose RemoteAddr is not an IP address with a port.
type textAddr string

func (a textAddr) Network() string { return "tcp" }
func (a textAddr) String() string  { return string(a) }
