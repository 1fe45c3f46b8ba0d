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
	"runtime"
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

// writesAreExact is whether a Write of package net that a deadline has cut off returns how many bytes
// it has sent. On Windows it returns 0 (https://go.dev/issue/24727).
const writesAreExact = runtime.GOOS != "windows"

// isExact reports whether a failed Write of nc returns exactly how many bytes it has
// sent. Types that are not known here may wrap a TLS connection, which may have sent a
// part of a record and returns 0 nevertheless. A memnet.Conn is the connection of package
// websockettest, which must behave as TCP does.
func isExact(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn: // only where rawConn returns nil
		return writesAreExact
	case *memnet.Conn:
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

func (t *netTransport) writeNow(p []byte, _ bool) (int, error) {
	conn, ok := t.Conn.(*memnet.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	n, err := conn.TryWrite(p)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return 0, errors.ErrUnsupported // as rawTransport does
	}
	return n, err
}

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

// maxWrappers is how many wrappers of a net.Conn are opened to find its file descriptor. A faulty
// wrapper may return itself.
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
