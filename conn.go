package websocket

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A Conn is a WebSocket connection to one client. Every method may be called from
// any goroutine, and by several at once.
//
// A connection ends once, and its error is sticky: every method that is waiting,
// and every later call, returns an error that says how it ended. Receiving methods may
// first return messages that arrived before the end.
//
//   - The peer closed it: a [*CloseError], which is also [io.EOF] for 1000, 1001 and
//     a close without a code.
//   - It was closed here: [net.ErrClosed]. If the close frame was sent by SendMessage or
//     WriteFrame, it is also the peer's [*CloseError] after the peer has answered.
//   - The peer did not answer a close frame of SendMessage or WriteFrame:
//     [ErrCloseTimeout].
//   - The peer broke a rule or a limit: [ErrProtocol], [ErrInvalidUTF8] or
//     [ErrMessageTooLarge].
//   - The peer was silent for too long: [ErrConnectionTimeout].
//   - The peer read too slowly, so a [Broadcast] did not fit: [ErrSendQueueFull], which is also
//     [net.ErrClosed].
//   - A [Conn.Stream] received a message of the other type: [net.ErrClosed], with the code 1003.
//   - The TCP connection failed: the wrapped error of the network. A write that took
//     longer than WriteTimeout is such a failure; for sending methods it is also
//     [os.ErrDeadlineExceeded].
//
// [CloseStatus] gives the close code for each. The cause of Context is the same
// error.
//
// An error that a timeout caused is itself a [net.Error] whose Timeout method returns true, so
// a type assertion and [os.IsTimeout] work too. If only a deadline of the user has passed, the
// connection is still usable, and the error of the Context is nil. Only then may a loop call the
// method again: after the end each call returns at once, so the loop would never end.
type Conn struct {
	request     atomic.Pointer[http.Request] // nil after open of HandleMessages has returned
	subprotocol *string                      // nil for none, as for most

	// The parts of a connection, each of which only its own methods touch.
	//
	// Lock order: in.lock, out.lock, then one of timer.mu, life.mu, out.urgent.mu, socket.mu,
	// seldom.mu. timer.mu and socket.mu come before life.mu. No goroutine locks in.lock while it
	// holds out.lock. docs/architecture.md says more. The timer does not read or write: a tick sets
	// the alarm again, and then Conn.tick does.
	core
	in    reader
	inbox *inbox // of HandleConcurrent and HandleMessages, nil with Handle; an interface would make Conn too large

	place int // in registry.conns: a map would take 37 bytes for each connection
}

// A config holds the settings of a connection. It is shared by all connections of a
// Handler and does not change.
type config struct {
	timeouts
	limits
	dropIncomingPings bool
	prepare           func(*Conn) // sets the inbox, before other goroutines can see it; nil with Handle
	writeCoalescing   bool
	minCompressed     int // see Compression; negative if it is off
}

// newConn makes the Conn of a socket on which the handshake is done, and starts its
// keepalive. buffered holds the bytes that arrived after the handshake.
func newConn(nc net.Conn, r *http.Request, subprotocol string, agreed agreement, cfg *config, buffered []byte) *Conn {
	c := new(Conn)
	c.request.Store(r)
	if subprotocol != "" {
		name := subprotocol // so that only this case allocates
		c.subprotocol = &name
	}
	c.socket.transport = newTransport(nc, &c.socket, &c.in.buf)
	if agreed.agreed() {
		c.seldomUsed().compression = newCompression(agreed, cfg.minCompressed)
		c.in.incoming.mayCompress = true
	}
	if cfg.prepare != nil {
		cfg.prepare(c)
	}
	c.out.core = &c.core
	c.out.coalescing = cfg.writeCoalescing
	c.in.core = &c.core
	c.in.dropPings = cfg.dropIncomingPings
	c.in.incoming.limits = &cfg.limits
	c.in.buf.load(buffered)
	c.socket.freshBytes = uint32(len(buffered))
	c.life.by = never
	c.timer.start(&c.core, &cfg.timeouts, c.ring)
	return c
}

// Context returns a context that is done exactly when the connection ends, with
// the reason as its [context.Cause]. It carries the values of the request's
// context, but not its cancellation, and the Conn itself for [FromContext]. With
// [HandleMessages] it has the values of the request only until open has returned.
func (c *Conn) Context() context.Context {
	return c.life.context(func() context.Context { return connValues{c} })
}

// connValues are the values of Conn.Context. They do not hold the request, because a Conn of
// HandleMessages releases that.
type connValues struct{ c *Conn }

func (connValues) Deadline() (time.Time, bool) { return time.Time{}, false }
func (connValues) Done() <-chan struct{}       { return nil }
func (connValues) Err() error                  { return nil }

func (v connValues) Value(key any) any {
	if key == (connKey{}) {
		return v.c
	}
	if r := v.c.request.Load(); r != nil {
		return context.WithoutCancel(r.Context()).Value(key)
	}
	return nil
}

type connKey struct{}

// FromContext returns the Conn that ctx belongs to: ctx is the result of
// [Conn.Context] or derived from it.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}

// Request returns the handshake request. Its context may be done before the connection has
// ended, and with [Detached] it always is: use [Conn.Context].
//
// Its body must not be used. Over HTTP/2, the body that a client sends is the connection, so
// this request, and that of the functions of the options, is a copy with an empty body.
// Middleware gets the body itself. It must take parameters from URL.Query(), because FormValue
// and ParseMultipartForm read the body, without a limit, if the client says that it is a form.
//
// With [HandleMessages], Request returns nil after open has returned. Otherwise the Conn keeps
// the request until it ends. Its headers have 400 lines at most, see
// [Upgrade], and MaxHeaderBytes of the [http.Server] limits their size.
func (c *Conn) Request() *http.Request { return c.request.Load() }

// Subprotocol returns the subprotocol that was agreed on, "" if none was.
func (c *Conn) Subprotocol() string {
	if c.subprotocol == nil {
		return ""
	}
	return *c.subprotocol
}

// LocalAddr returns the address of this side of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.socket.conn().LocalAddr() }

// RemoteAddr returns the address of the other side of the socket. Behind a proxy,
// that is the proxy. Over HTTP/2 it is the RemoteAddr of the request.
func (c *Conn) RemoteAddr() net.Addr { return c.socket.conn().RemoteAddr() }

// NetConn returns the socket, for its options, its addresses and its TLS state. To read
// from it, to write to it or to close it corrupts the connection.
//
// Deadlines that are set on the socket do not last, and may end the connection: the
// keepalive, the closing of the connection and [Conn.SetReadDeadline] set their own and
// remove yours. Use SetReadDeadline and [Conn.SetWriteDeadline], which the keepalive respects.
//
// Over HTTP/2 it is the stream, which has the addresses of its TCP connection and no options.
// The TLS state is in the TLS field of the request.
func (c *Conn) NetConn() net.Conn { return c.socket.conn() }

// SetReadDeadline sets the time after which receiving methods return an error that is
// [os.ErrDeadlineExceeded], including those that are already waiting. The zero time is no deadline.
// Messages that have arrived by then may still be returned.
//
// The connection stays usable, even in the middle of a message: set a later deadline and call the
// same method again to continue. Before a receiving method waits, it writes pongs and the messages
// that wait to be written together. With a deadline, it does not wait for that write, which then
// continues in the background. There is one exception: the deadline is set while the method is
// already in such a write, and passes before the write ends. Then a connection over TLS, over
// HTTP/2, on Windows, or over a net.Conn of an unknown type, ends: see SetWriteDeadline.
// SetReadDeadline returns an error if the net.Conn has no deadlines.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if err := c.life.err(); err != nil {
		return err
	}
	if c.inbox != nil {
		return c.inbox.setDeadline(t)
	}
	return c.deadlineError(c.socket.setUserRead(t))
}

// SetWriteDeadline sets the time after which sending methods return an error that
// is [os.ErrDeadlineExceeded]. WriteTimeout applies too. The zero time is no
// deadline. The connection stays usable if nothing of the frame was written. If a part of it
// was written, the connection ends. Only a [Conn.Stream] sends the rest later and continues.
//
// Only a [*net.TCPConn], a [*net.UnixConn] and a [net.Pipe] report how much they have
// written, the first two not on Windows. Over TLS, and over a net.Conn of any other type, every
// write that the deadline interrupts, or that begins after it, ends the connection, because a part
// of the frame may have been sent. Over HTTP/2, a write that has begun and expires resets the
// stream. A method whose write ends the connection returns up to 10 ms later, or up to about a
// second later if another goroutine is receiving, because the library first looks for a close frame
// of the peer.
//
// The deadline does not apply to Close. Pongs, pings of the keepalive, close frames and
// messages that were accepted earlier are not lost: a sending method waits for their
// write until the deadline at most, and the write continues in the background.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if err := c.life.err(); err != nil {
		return err
	}
	return c.deadlineError(c.socket.setUserWrite(t))
}

// deadlineError returns the error for a deadline that could not be set, because the connection has
// ended meanwhile, or because its net.Conn has no deadlines.
func (c *Conn) deadlineError(err error) error {
	if ended := c.life.err(); err != nil && ended != nil {
		return ended
	}
	return err
}

// SetMaxMessageSize sets [MaxMessageSize] of this connection to n bytes, from 1 to [MaxSize]: for
// example, a larger one when the client has logged in. It sets [MaxFrameSize] too, unless that was
// given as an option. It applies to the messages that begin from now on, even if a method is
// already waiting for one, and not to those that HandleConcurrent has received. It returns an error
// if n is out of range.
func (c *Conn) SetMaxMessageSize(n int64) error {
	if err := c.life.err(); err != nil {
		return err
	}
	if n < 1 || n > MaxSize {
		return fmt.Errorf("websocket: SetMaxMessageSize(%d): want 1 to %d", n, MaxSize)
	}
	s := c.seldomUsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.limits.Load()
	if before == nil {
		before = c.in.incoming.limits // which does not change before s.limits is set
	}
	after := *before // a copy, because all connections of a Handler share those of the options
	after.maxMessageSize = n
	if !after.frameSizeGiven {
		after.maxFrameSize = n
	}
	s.limits.Store(&after)
	return nil
}

// Extensions returns the extension that was agreed on in the handshake, as the response names
// it: permessage-deflate with its parameters, see [Compression]. It returns "" if there is none.
func (c *Conn) Extensions() string {
	if c.compression() == nil {
		return ""
	}
	return c.compression().agreed.String()
}

// SetCompression sets which messages are compressed from now on: those of at least minSize
// bytes, or none if minSize is negative. It has no effect if compression was not agreed on, see
// [Compression]. For example, call SetCompression(-1) before you send a message with a secret.
//
// Messages of a MessageWriter are compressed if that is allowed in each of its calls. The peer
// may compress its messages in any case.
func (c *Conn) SetCompression(minSize int) {
	if own := c.compression(); own != nil {
		own.minSize.Store(int64(minSize))
	}
}
