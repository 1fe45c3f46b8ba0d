// Package websocket serves WebSocket connections (RFC 6455, version 13) from
// net/http. It is an idiomatic port of the CHICKEN Scheme websockets egg and needs
// the standard library alone.
//
// [Handle] makes an [http.Handler] of a function:
//
//	http.Handle("/echo", websocket.Handle(func(c *websocket.Conn) error {
//		for {
//			op, data, err := c.ReceiveMessage()
//			if err != nil {
//				return err // a normal close is no error to anybody
//			}
//			if err := c.SendMessage(op, data); err != nil {
//				return err
//			}
//		}
//	}))
//
// The function has the connection for as long as it runs, and how it ends is how
// the connection is closed, see [HandlerFunc]. Messages are received and sent by the
// methods of [Conn], all of which may be called from any goroutine.
//
// # Safe by default
//
// Only pages of the same origin get in, and clients that are no browser: see
// [SameOrigin], and [AcceptConnection] to change it. What a peer can make the
// server hold in memory is bounded by [MaxFrameSize], [MaxMessageSize] and
// [MaxFragments], and follows what it sends, not what it announces. How long it can
// make anybody wait is bounded by [ConnectionTimeout], [WriteTimeout] and
// [CloseTimeout]. A peer that breaks a rule of RFC 6455 is told which one in the
// close frame, and so is the function, by the error of whatever it calls next.
//
// # Keepalive
//
// Every connection has a timer that pings the peer each [PingInterval] and ends the
// connection after ConnectionTimeout of silence. It needs no reader: while no method
// is receiving, it handles the control frames that arrive ahead of the next message
// by itself. [Conn.Context] is done as soon as the connection has ended.
//
// # Frames
//
// Below messages there are frames: [Conn.ReadFrame] and [Conn.WriteFrame] for
// protocols of one's own, and [ReadHeader], [ReadFrame], [WriteFrame], [AppendFrame] and
// [Mask], which need no Conn at all, for proxies, test clients and other APIs.
//
// # From the egg
//
// Options are named after the egg's parameters. Two defaults differ from it on
// purpose: other origins are refused and pings are answered; [EggDefaults] is for
// those who want them back.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A HandlerFunc is what a connection runs: it gets the Conn once the handshake is
// done, and how it ends is how the connection is closed.
//
//   - nil closes with 1000.
//   - A [*CloseError] that it made closes with that code and reason.
//   - What a method returned because the connection has ended changes nothing.
//   - Any other error, and a panic, closes with 1011 and without its text, which
//     goes to OnError instead. A panic then goes on to net/http; with [Detached]
//     it is logged as net/http does.
type HandlerFunc func(c *Conn) error

// A Handler is an [http.Handler] that upgrades requests to WebSocket connections
// and runs a HandlerFunc with each. See [Handle].
type Handler struct {
	fn         HandlerFunc
	opts       *options
	concurrent bool
}

// Handle returns an http.Handler that upgrades every request that is a WebSocket
// handshake and runs fn with the connection, on the goroutine of the request or,
// with [Detached], on one of its own. It answers what is not a handshake, and what
// AcceptConnection refuses, over HTTP.
//
// When fn ends, the close handshake follows, for at most CloseTimeout, and the
// socket is closed. A nil fn or an option out of range makes Handle panic.
func Handle(fn HandlerFunc, opts ...Option) *Handler {
	if fn == nil {
		panic("websocket: Handle(nil): want a HandlerFunc")
	}
	return &Handler{fn: fn, opts: newOptions(opts)}
}

// HandleConcurrent is Handle with a goroutine beside fn that reads from the
// connection all the time: pings are answered and a close is seen at once, also
// while fn is busy. At most 16 messages are read ahead; then the goroutine waits
// until fn takes one. ReadFrame and ReceiveFragments cannot be used with it.
func HandleConcurrent(fn HandlerFunc, opts ...Option) *Handler {
	h := Handle(fn, opts...)
	h.concurrent = true
	return h
}

// ServeHTTP upgrades the request and runs the HandlerFunc. It returns when the
// connection is closed or, with [Detached], when the request is answered.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := upgrade(w, r, h.opts)
	if err != nil {
		return // the refusal is answered
	}
	if h.concurrent {
		c.readAhead()
	}
	if h.opts.detached {
		go c.serve(h.fn) // nobody waits for it: fn and Close are what end it, as with net/http's
		return
	}
	c.serve(h.fn)
}

// serve runs fn and closes the connection as it ends. Nothing outlives it.
func (c *Conn) serve(fn HandlerFunc) {
	if c.opts.detached {
		defer c.logPanic() // behind the other: a panic of OnError comes here, too
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover() // nil for runtime.Goexit
		c.Close(StatusInternalError, "")
		if v == nil {
			return
		}
		if c.opts.onError != nil && v != http.ErrAbortHandler {
			c.opts.onError(c, fmt.Errorf("websocket: handler panicked: %v", v))
		}
		panic(v)
	}()
	err := c.closeAs(fn(c))
	returned = true
	if err != nil {
		c.report(err)
	}
}

// closeAs closes c as fn's result says and returns what is to be reported of it.
func (c *Conn) closeAs(err error) error {
	if ended := c.err(); ended != nil || c.out.closeSent.Load() && err != nil {
		c.Close(StatusNormalClosure, "")
		return c.reportable(err, isCommon(err, ended))
	}
	if err == nil {
		return c.reportable(c.Close(StatusNormalClosure, ""), true)
	}
	var own *CloseError
	if !errors.As(err, &own) || own == nil {
		c.Close(StatusInternalError, "")
		return err
	}
	if _, invalid := closePayload(own.Code, own.Reason); invalid != nil {
		c.Close(StatusInternalError, "")
		return fmt.Errorf("%w; the HandlerFunc wanted to close with: %w", invalid, err)
	}
	return c.reportable(c.Close(own.Code, own.Reason), true)
}

// reportable is err unless it is a common one and those are not to be reported.
func (c *Conn) reportable(err error, common bool) error {
	if common && !c.opts.propagateCommonErrors {
		return nil
	}
	return err
}

// isCommon reports whether err, returned by a HandlerFunc whose connection has
// ended or was about to, is only that end.
func isCommon(err, ended error) bool {
	return errors.Is(err, ended) || CloseStatus(err) != 0 ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}

func (c *Conn) report(err error) {
	if c.opts.onError != nil {
		c.opts.onError(c, err)
		return
	}
	c.logf("websocket: handler of %q for %v: %v", c.request.URL.Path, c.RemoteAddr(), err)
}

// logf writes to the log of the http.Server.
func (c *Conn) logf(format string, args ...any) {
	if srv, ok := c.request.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// A Conn is a WebSocket connection to one client. Every method may be called from
// any goroutine, and by several at once.
//
// A connection ends once, and its error is sticky: every method that is waiting,
// and every call from then on, returns an error that tells how.
//
//   - The peer closed it: a [*CloseError], which is [io.EOF] for 1000, 1001 and a
//     close without a code.
//   - It was closed here: [net.ErrClosed].
//   - The peer broke a rule or a limit: [ErrProtocol], [ErrInvalidUTF8] or
//     [ErrMessageTooLarge].
//   - The peer was silent for too long: [ErrConnectionTimeout].
//   - The TCP connection died: the error of the network.
//
// [CloseStatus] gives the close code for each. The cause of Context is the same
// error.
type Conn struct {
	conn        net.Conn
	opts        *options
	request     *http.Request
	subprotocol string

	in        receiver
	out       sender
	inbox     *inbox // what HandleConcurrent has read ahead; nil with Handle
	deadlines deadlines
	keepalive keepalive

	lastHeard atomic.Int64 // when the last byte came, or the upgrade, see clock

	ended atomic.Pointer[error] // see err and end
	gone  wait.Event            // the socket is closed
	ctx   atomic.Pointer[connContext]
}

// connContext is made when it is asked for: most connections never are.
type connContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// newConn makes the Conn of a socket on which the handshake is done, and starts
// its keepalive. buffered is what came behind the handshake.
func newConn(nc net.Conn, r *http.Request, subprotocol string, o *options, buffered []byte) *Conn {
	c := &Conn{
		conn:        nc,
		opts:        o,
		request:     r,
		subprotocol: subprotocol,
	}
	c.in.waitFor(nc)
	if len(buffered) > 0 {
		c.in.buf = make([]byte, max(readBufferSize, len(buffered)))
		c.in.w = copy(c.in.buf, buffered)
	}
	c.startKeepalive()
	return c
}

// Context returns a context that is done exactly when the connection ends, with
// the reason as its [context.Cause]. It carries the values of the request's
// context, but not its cancellation, and the Conn itself for [FromContext].
func (c *Conn) Context() context.Context {
	ctx := c.ctx.Load()
	if ctx == nil {
		values := context.WithValue(context.WithoutCancel(c.request.Context()), connKey{}, c)
		ctx = new(connContext)
		ctx.Context, ctx.cancel = context.WithCancelCause(values)
		if !c.ctx.CompareAndSwap(nil, ctx) {
			ctx = c.ctx.Load()
		}
	}
	// Either this sees the end, or the end sees the context.
	if err := c.err(); err != nil {
		ctx.cancel(err)
	}
	return ctx.Context
}

type connKey struct{}

// FromContext returns the Conn whose [Conn.Context] ctx is or comes from.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}

// Request returns the handshake request. Its body is not to be used, and its context
// may be done before the connection is, with [Detached] always: use [Conn.Context].
func (c *Conn) Request() *http.Request { return c.request }

// Subprotocol returns the subprotocol that was agreed on, "" if none was.
func (c *Conn) Subprotocol() string { return c.subprotocol }

// LocalAddr returns the address of this side of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the address of the other side of the socket, which is the
// proxy's where there is one.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// NetConn returns the socket, for its options and its addresses. To read or write
// on it, to set its deadlines or to close it corrupts the connection.
func (c *Conn) NetConn() net.Conn { return c.conn }
