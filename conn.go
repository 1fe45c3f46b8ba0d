package websocket

import (
	"context"
	"net"
	"net/http"
	"time"
)

// A Conn is a WebSocket connection to one client. Every method may be called from
// any goroutine, and by several at once.
//
// A connection ends once, and its error is sticky: every method that is waiting,
// and every later call, returns an error that says how it ended.
//
//   - The peer closed it: a [*CloseError], which is also [io.EOF] for 1000, 1001 and
//     a close without a code.
//   - It was closed here: [net.ErrClosed], and also the peer's [*CloseError] if the peer
//     has answered.
//   - The peer did not answer a close frame of SendMessage or WriteFrame:
//     [ErrCloseTimeout].
//   - The peer broke a rule or a limit: [ErrProtocol], [ErrInvalidUTF8] or
//     [ErrMessageTooLarge].
//   - The peer was silent for too long: [ErrConnectionTimeout].
//   - The TCP connection failed: the wrapped error of the network. A write that took
//     longer than WriteTimeout is such a failure; for sending methods it is also
//     [os.ErrDeadlineExceeded].
//
// [CloseStatus] gives the close code for each. The cause of Context is the same
// error.
type Conn struct {
	request     *http.Request
	subprotocol string

	// The parts of a connection, each of which only its own methods touch.
	//
	// Lock order: in.lock, out.lock, then one of timer.mu, life.mu, out.urgent.mu,
	// socket.mu. timer.mu comes before life.mu. No goroutine locks in.lock while it holds
	// out.lock. The timer does no I/O: a tick sets the alarm again, and then Conn.tick does
	// the I/O.
	core
	out   writer
	in    reader
	ahead *readAhead // what HandleConcurrent has read, nil with Handle
}

// A config holds the settings of a connection. It is shared by all connections of a
// Handler and does not change.
type config struct {
	timeouts
	limits
	dropIncomingPings bool
	writeCoalescing   bool
}

// newConn makes the Conn of a socket on which the handshake is done, and starts its
// keepalive. buffered holds the bytes that arrived after the handshake.
func newConn(nc net.Conn, r *http.Request, subprotocol string, cfg *config, buffered []byte) *Conn {
	c := &Conn{request: r, subprotocol: subprotocol}
	c.socket.transport = newTransport(nc, &c.in.buf)
	c.out.core = &c.core
	c.out.coalescing = cfg.writeCoalescing
	c.in.core, c.in.out = &c.core, &c.out
	c.in.dropPings = cfg.dropIncomingPings
	c.in.incoming.limits = &cfg.limits
	c.in.buf.load(buffered)
	c.in.fresh = uint64(len(buffered))
	c.life.by = never
	c.timer.start(c, &c.life, &cfg.timeouts)
	return c
}

// Context returns a context that is done exactly when the connection ends, with
// the reason as its [context.Cause]. It carries the values of the request's
// context, but not its cancellation, and the Conn itself for [FromContext].
func (c *Conn) Context() context.Context {
	return c.life.context(func() context.Context {
		return context.WithValue(context.WithoutCancel(c.request.Context()), connKey{}, c)
	})
}

// afterClose calls f on a new goroutine after the connection is closed. Until then it needs a
// context, but no goroutine.
func (c *Conn) afterClose(f func(*Conn, error)) {
	context.AfterFunc(c.Context(), func() {
		defer logPanic(c)
		c.life.closed.Wait() // the close handshake has a limit
		f(c, c.life.err())
	})
}

type connKey struct{}

// FromContext returns the Conn that ctx belongs to: ctx is the result of
// [Conn.Context] or derived from it.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}

// Request returns the handshake request. Its body must not be used. Its context may
// be done before the connection has ended, and with [Detached] it always is: use
// [Conn.Context].
func (c *Conn) Request() *http.Request { return c.request }

// Subprotocol returns the subprotocol that was agreed on, "" if none was.
func (c *Conn) Subprotocol() string { return c.subprotocol }

// LocalAddr returns the address of this side of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.socket.conn().LocalAddr() }

// RemoteAddr returns the address of the other side of the socket. Behind a proxy,
// that is the proxy.
func (c *Conn) RemoteAddr() net.Addr { return c.socket.conn().RemoteAddr() }

// NetConn returns the socket, for its options, its addresses and its TLS state. To
// read from it, write to it, set its deadlines or close it corrupts the connection.
func (c *Conn) NetConn() net.Conn { return c.socket.conn() }

// SetReadDeadline sets the time after which receiving methods return an error that
// is [os.ErrDeadlineExceeded], also those that are waiting already. The zero time is
// no deadline. Messages that have arrived by then may still be returned.
//
// The connection stays usable, also in the middle of a message: set a later deadline
// and call the same method again to continue. The deadline does not apply to pongs
// that are written while receiving; WriteTimeout does. SetReadDeadline returns an error if
// the net.Conn has no deadlines.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if err := c.life.err(); err != nil {
		return err
	}
	if c.ahead != nil {
		c.ahead.deadline.Set(t)
		return nil
	}
	return c.socket.setUserRead(t)
}

// SetWriteDeadline sets the time after which sending methods return an error that
// is [os.ErrDeadlineExceeded]. WriteTimeout applies too. The zero time is no
// deadline. The connection stays usable if nothing of the frame was written. If a
// part of it was, the connection ends. Over TLS, every expired write ends it. The
// deadline does not apply to pongs, to the pings of the keepalive, and to Close.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if err := c.life.err(); err != nil {
		return err
	}
	return c.socket.setUserWrite(t)
}
