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
	"runtime"
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
		c.ahead = startReadAhead(&c.life, c.receiveAhead)
	}
	if h.opts.detached {
		go h.serve(c) // it ends with fn and Close, as the goroutines of net/http do
		return
	}
	h.serve(c)
}

// serve runs fn and closes the connection when it ends. Nothing of the connection is
// left when serve returns.
func (h *Handler) serve(c *Conn) {
	if h.opts.detached {
		defer logPanic(c) // after the next defer, because OnError may panic too
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
		if h.opts.onError != nil && v != http.ErrAbortHandler {
			h.opts.onError(c, fmt.Errorf("websocket: handler panicked: %v", v))
		}
		panic(v)
	}()
	err := h.closeAs(c, h.fn(c))
	returned = true
	if err != nil {
		h.report(c, err)
	}
}

// closeAs closes c as the result of fn demands, and returns what to report of it.
func (h *Handler) closeAs(c *Conn, err error) error {
	_, closeSent := c.life.closeSent()
	if ended := c.life.err(); ended != nil || closeSent && err != nil {
		c.Close(StatusNormalClosure, "")
		return h.reportable(err, isCommon(err, ended))
	}
	if err == nil {
		return h.reportable(c.Close(StatusNormalClosure, ""), true)
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
	return h.reportable(c.Close(own.Code, own.Reason), true)
}

// reportable returns err, unless it is a common error and those are not reported.
func (h *Handler) reportable(err error, common bool) error {
	if common && !h.opts.propagateCommonErrors {
		return nil
	}
	return err
}

// isCommon reports whether err, which a HandlerFunc returned, says only that the
// connection has ended or was about to end.
func isCommon(err, ended error) bool {
	return errors.Is(err, ended) || CloseStatus(err) != 0 ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}

func (h *Handler) report(c *Conn, err error) {
	if h.opts.onError != nil {
		h.opts.onError(c, err)
		return
	}
	logf(c, "websocket: handler of %q for %v: %v", c.request.URL.Path, c.RemoteAddr(), err)
}

// logPanic recovers and logs a panic of a detached HandlerFunc, with the words of
// net/http, because people search their logs for those. Without it the panic would
// end the process.
func logPanic(c *Conn) {
	v := recover()
	if v == nil || v == http.ErrAbortHandler {
		return
	}
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, false)]
	logf(c, "http: panic serving %v: %v\n%s", c.RemoteAddr(), v, stack)
}

// logf writes to the log of the http.Server.
func logf(c *Conn, format string, args ...any) {
	if srv, ok := c.request.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}
