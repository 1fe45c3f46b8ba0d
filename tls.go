package websocket

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// A tlsTransport is a TLS connection. While it is quiet, it waits on the socket below TLS: without
// a buffer, and in a call that needs little stack.
//
// crypto/tls reads more from the socket than it returns, so the wait may begin only when it holds
// no complete record. A read that ends with a timeout has found none, and a read whose deadline has
// passed does not touch the socket. So the wait begins with such a read: interruptRead sets a
// deadline that has passed, and resumeRead restores the deadline that applies.
//
//   - When a ping is due, a read that waits is interrupted. The peer may not answer the ping.
//   - When the peer has answered, the next read begins with the interruption.
//
// When a message arrives, reads wait in TLS again until the next ping. So a busy connection is
// interrupted only once or twice in a PingInterval.
type tlsTransport struct {
	netTransport
	tls    *tls.Conn
	socket *socket

	raw   syscall.RawConn // the socket below TLS, nil if it cannot be waited for
	quiet bool            // the next call of fill begins with the interruption; in.lock guards it

	interrupted bool        // resumeRead has to restore the deadline; socket.mu guards it
	waits       atomic.Bool // for the socket below TLS
}

// newTLSTransport returns the transport of nc. A wrapped socket is not waited for, because the
// wrapper may hold bytes that the descriptor does not report.
func newTLSTransport(nc *tls.Conn, s *socket, buf *inbuf) *tlsTransport {
	t := &tlsTransport{netTransport: netTransport{Conn: nc, buf: buf}, tls: nc, socket: s}
	switch below := nc.NetConn().(type) {
	case *net.TCPConn:
		t.raw = rawConn(below)
	case *net.UnixConn:
		t.raw = rawConn(below)
	}
	return t
}

func (t *tlsTransport) fill() error {
	if t.quiet {
		t.quiet = false
		t.socket.interruptRead(t)
	}
	err := t.netTransport.fill()
	for err != nil && t.endInterruption(err) {
		if err = t.await(); err == nil {
			err = t.netTransport.fill()
		}
	}
	return err
}

// Read is for large pieces of a message. The caller holds the buffer for them already, so Read does
// not wait below TLS.
func (t *tlsTransport) Read(p []byte) (int, error) {
	n, err := t.netTransport.Read(p)
	for err != nil && t.endInterruption(err) {
		n, err = t.netTransport.Read(p)
	}
	return n, err
}

// endInterruption reports whether err is that of a read that was interrupted. Then it restores the
// deadline that applies, and the read has to be repeated.
func (t *tlsTransport) endInterruption(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && t.socket.resumeRead(t)
}

// await waits until there is something to read below TLS, unless the buffer holds the beginning of
// a frame. It respects the read deadline.
func (t *tlsTransport) await() error {
	if !t.buf.empty() {
		return nil
	}
	t.buf.release()
	t.waits.Store(true)
	defer t.waits.Store(false)
	return t.raw.Read(sock.Ready)
}

// behind counts the encrypted bytes in the kernel. crypto/tls may hold more, which are not counted.
func (t *tlsTransport) behind() (unread int32, ended, ok bool) { return behind(t.tls) }

// cut closes the connection below TLS. The Close method of a tls.Conn first sends
// an alert, and would wait for a peer that does not read.
func (t *tlsTransport) cut(bool) { t.tls.NetConn().Close() }

// overTLS returns the transport of a TLS connection that can wait on the socket below TLS, or nil.
func (s *socket) overTLS() *tlsTransport {
	if t, ok := s.transport.(*tlsTransport); ok && t.raw != nil {
		return t
	}
	return nil
}

// noteQuiet notes that the peer has answered a ping. The next read may have to wait for long. The
// lock of the reader is held.
func (s *socket) noteQuiet() {
	if t := s.overTLS(); t != nil {
		t.quiet = true
	}
}

// interruptRead makes the read that waits, or the next one, return at once, so that it continues
// below TLS. It does nothing while the library needs the read deadline for something else, because
// no read waits for long then.
func (s *socket) interruptRead(t *tlsTransport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadlineTaken() || t.waits.Load() {
		return
	}
	t.interrupted = true
	s.transport.SetReadDeadline(longAgo)
}

// resumeRead restores the read deadline after interruptRead. It reports false if the read was not
// interrupted. Another deadline that was set meanwhile stays.
func (s *socket) resumeRead(t *tlsTransport) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.interrupted {
		return false
	}
	t.interrupted = false
	s.applyUserRead()
	return true
}
