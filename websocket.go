// Package websocket serves WebSocket connections (RFC 6455, version 13) from net/http.
// It is an idiomatic port of the CHICKEN Scheme websockets egg and needs only the
// standard library.
//
// [Handle] makes an [http.Handler] of a function:
//
//	http.Handle("/echo", websocket.Handle(func(c *websocket.Conn) error {
//		for {
//			op, data, err := c.ReceiveMessage()
//			if err != nil {
//				return err // Handle does not report the end of a connection as an error
//			}
//			if err := c.SendMessage(op, data); err != nil {
//				return err
//			}
//		}
//	}))
//
// The function has the connection until it returns, and its result decides how the
// connection is closed: see [HandlerFunc]. The methods of [Conn] receive and send
// messages. All of them may be called from any goroutine.
//
// # Safe by default
//
// By default, browser pages must have the same origin; clients other than browsers are
// accepted. See [SameOrigin], and [AcceptConnection] to change it. After a refused
// handshake, the HTTP/1 connection is closed.
//
// [MaxFrameSize], [MaxMessageSize] and [MaxFragments] limit the memory that a peer can
// make the server use; memory is allocated as data arrives, not for declared lengths.
// [ConnectionTimeout], [WriteTimeout] and [CloseTimeout] limit how long a peer can make
// a goroutine wait. If a peer breaks a rule of RFC 6455, the close frame and the error
// of the next method call say which rule.
//
// # Keepalive
//
// Every connection has a timer that sends a ping each [PingInterval] and ends the connection after
// ConnectionTimeout of silence. It needs no goroutine that receives: while no method is receiving,
// it looks once a second for control frames that have arrived, even after up to 4 KiB of unread
// messages, and answers them. [Conn.Context] is done as soon as the connection has ended.
//
// # Frames
//
// [Conn.ReadFrame] and [Conn.WriteFrame] are for protocols that work with frames
// instead of messages. [ReadHeader], [ReadFrame], [WriteFrame], [AppendFrame] and [Mask]
// need no Conn: they are for proxies, test clients and other APIs.
//
// # HTTP/2
//
// The handlers also serve WebSockets that are streams of an HTTP/2 connection (RFC 8441). The
// package extendedconnect switches WebSocket over HTTP/2 on for the process.
//
// # From the egg
//
// Options are named after the egg's parameters. Two defaults differ from the egg on
// purpose: requests from other origins are refused, and pings are answered.
// [EggDefaults] restores both.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
)

// A HandlerFunc serves one connection. It gets the Conn when the handshake is done, and
// its result decides how the connection is closed.
//
//   - nil closes with 1000.
//   - A [*CloseError] that the function has made closes with its code and reason. The reason
//     is cut as by [Conn.Close]. If the code must not be sent, the connection is closed with
//     1011 and OnError gets the error.
//   - If the connection has ended before, or a close frame was sent, the result does not
//     change the code. OnError still gets a panic, and an error that does not say how the
//     connection ended.
//   - The error of another Conn counts as if the function had made it: if the peer of that Conn
//     has closed it, its code and reason would close this one. So handle errors of other
//     connections where they occur.
//   - [ErrInvalidJSON] closes with 1007, and [ErrSendQueueFull] with 1013. They are common
//     errors, see [PropagateCommonErrors].
//   - Any other error, and a panic, closes with 1011. Its text is not sent to the peer;
//     OnError gets it. For example, the error of a deadline is such an error, and so is that
//     of a sending method that has refused its argument. A panic is then passed on to
//     net/http; with [Detached] and [HandleMessages], this package logs it as net/http does.
//
// Without [OnError], an error is logged in one line of at most a kilobyte, because its text
// may repeat what the peer has sent. The value of a panic is cut to one line for OnError and
// with Detached. Otherwise net/http logs all of it, so do not panic with text of the peer.
type HandlerFunc func(c *Conn) error

// A Handler is an [http.Handler] that upgrades requests to WebSocket connections
// and runs a function with each. [Handle], [HandleConcurrent] and [HandleMessages] make one.
type Handler struct {
	fn         HandlerFunc
	open       func(*Conn) (MessageFunc, error) // of HandleMessages
	opts       *options
	concurrent bool
	conns      registry
}

// Handle returns an http.Handler that upgrades each request that is a valid WebSocket
// handshake, and runs fn with the connection: on the goroutine of the request or, with
// [Detached], on another goroutine. Other requests, and those that AcceptConnection
// refuses, get an HTTP response.
//
// To send headers with the 101 response, such as cookies, set them on w.Header() in a handler
// that then calls ServeHTTP of this one.
//
// When fn returns, the close handshake follows, for at most CloseTimeout, and the socket
// is closed. Handle panics if fn is nil or an [Option] is invalid.
func Handle(fn HandlerFunc, opts ...Option) *Handler {
	if fn == nil {
		panic("websocket: Handle(nil): want a HandlerFunc")
	}
	return &Handler{fn: fn, opts: newOptions(opts)}
}

// HandleConcurrent is Handle with a second goroutine that reads from the connection all
// the time, so that pings are answered immediately, even while fn is busy. It reads at most
// 16 messages ahead, and then waits until fn receives one: that is up to 16 times
// MaxMessageSize of memory for each connection. ReadFrame and ReceiveFragments cannot be
// used with it.
//
// If the peer closes the connection or breaks a rule, the end takes effect only when fn has
// received all messages before it and asks for another, so that their answers are still sent.
// The wait for fn lasts a second at most after a close frame, and CloseTimeout otherwise.
// There is no wait if the TCP connection has failed. Messages that fn has not received by
// then are still returned.
func HandleConcurrent(fn HandlerFunc, opts ...Option) *Handler {
	h := Handle(fn, opts...)
	h.concurrent, h.opts.prepare = true, prepareReadAhead
	return h
}

// ServeHTTP upgrades the request and runs the HandlerFunc. It returns when the
// connection is closed or, with [Detached], when the handshake response is sent. With
// [HandleMessages], it returns when open has returned a function. Over HTTP/2 it always returns
// when the connection is closed.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.opts == nil {
		panic("websocket: the zero Handler serves no connections; make one with Handle, HandleConcurrent or HandleMessages")
	}
	c, err := upgrade(w, r, h.opts, &h.conns)
	if err != nil {
		return // the refusal is answered
	}
	if !h.concurrent {
		h.conns.add(c) // not by serve, because it takes stack
	}
	if s := c.socket.http2(); s != nil {
		h.serveStream(c, s)
		return
	}
	if h.open != nil {
		h.openMessages(c)
		return
	}
	if h.opts.detached {
		go h.serve(c) // it ends with fn and Close, as the goroutines of net/http do
		return
	}
	h.serve(c)
}

// serve runs fn and closes the connection when fn ends. When serve returns, the socket is
// closed and all goroutines of the connection have ended. Its one deferred call leaves the
// rest to end, because fn runs on top of the stack frame of serve
// (TestConn_stack_stays_small).
func (h *Handler) serve(c *Conn) {
	if h.concurrent {
		h.beginReadAhead(c)
	}
	returned := false
	defer func() { h.end(c, returned, recover()) }()
	err := h.closeAs(c, h.fn(c))
	returned = true
	if err != nil {
		h.report(c, err)
	}
}

// beginReadAhead begins what only HandleConcurrent does. It is not inlined, because fn
// runs on top of the stack frame of serve.
//
//go:noinline
func (h *Handler) beginReadAhead(c *Conn) {
	c.inbox.readsAhead().start()
	h.conns.add(c) // from now on, other goroutines may call its methods
}

// end runs after fn. If fn has not returned, end closes the connection. panicked is what fn or
// OnError has panicked with. It is nil for runtime.Goexit.
func (h *Handler) end(c *Conn, returned bool, panicked any) {
	defer h.conns.remove(c)                                                    // last, because Shutdown waits for it
	if h.opts.detached && c.socket.http2() == nil || c.request.Load() == nil { // HandleMessages, and open has returned
		defer logPanic(c)
	}
	if h.opts.onClose != nil {
		defer func() { h.opts.onClose(c, c.life.err()) }()
	}
	if !returned {
		c.Close(StatusInternalError, "")
	}
	if panicked == nil {
		return
	}
	if !returned && h.opts.onError != nil && panicked != http.ErrAbortHandler {
		h.opts.onError(c, fmt.Errorf("websocket: handler panicked: %s", oneLine(panicText(panicked))))
	}
	panic(panicked)
}

// closeAs closes c according to err, the result of fn, and returns the error to report, or
// nil.
func (h *Handler) closeAs(c *Conn, err error) error {
	if err != nil {
		c.settle() // fn returned the error of TrySend, which does not wait for the reason of the end
	}
	_, closeSent := c.life.closeSent()
	if ended := c.life.err(); ended != nil || closeSent && err != nil {
		c.Close(StatusNormalClosure, "")
		return h.reportable(err, isCommon(err, ended))
	}
	if err == nil {
		err := c.Close(StatusNormalClosure, "")
		if err == c.life.err() {
			return nil // another goroutine has ended the connection meanwhile
		}
		return h.reportable(err, true)
	}
	var own *CloseError
	switch {
	case errors.As(err, &own) && own != nil:
		if _, invalid := closePayload(own.Code, own.Reason); invalid != nil {
			c.Close(StatusInternalError, "")
			return fmt.Errorf("%w; the HandlerFunc wanted to close with: %w", invalid, err)
		}
		return h.reportable(c.Close(own.Code, own.Reason), true)
	case errors.Is(err, ErrInvalidJSON):
		c.Close(StatusInvalidPayload, "invalid JSON")
		return h.reportable(err, true)
	case errors.Is(err, ErrSendQueueFull):
		c.Close(StatusTryAgainLater, "the client reads too slowly")
		return h.reportable(err, true)
	}
	c.Close(StatusInternalError, "")
	return err
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
	switch {
	case ended != nil && errors.Is(err, ended), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return true
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrInvalidUTF8), errors.Is(err, ErrInvalidOpcode):
		return false // it did not end the connection, so a method has refused its argument
	}
	return CloseStatus(err) != 0
}

func (h *Handler) report(c *Conn, err error) {
	if h.opts.onError != nil {
		h.opts.onError(c, err)
		return
	}
	logf(c, "%s", cut(fmt.Sprintf("websocket: handler of %s for %v: %s", quoted(pathOf(c)), c.RemoteAddr(), oneLine(err.Error())), maxLogLine))
}

// Stats returns the statistics of the handler. It takes less than a microsecond for each open
// connection. The numbers of different connections may be from different moments.
func (h *Handler) Stats() HandlerStats {
	s, open := h.conns.counted()
	for _, c := range open {
		s.add(c.Stats())
	}
	h.conns.neverLess(&s)
	return s
}

// Shutdown closes all connections of the handler with 1001 (going away), all at the same time, and
// waits until their functions and the function of [OnClose] have returned. Each connection has
// CloseTimeout for its close handshake; if that is 0, only ConnectionTimeout and ctx end the wait.
// New requests, and those that AcceptConnection has not accepted yet, are answered with 503 and a
// Retry-After header.
//
// If ctx is done before that, Shutdown closes the remaining connections as [Conn.CloseNow] does,
// and returns the error of ctx without waiting for their functions. Their methods return an error,
// so these functions end soon unless they wait for something else. If a function of the handler
// calls Shutdown, it waits for itself until ctx is done.
//
// [http.Server.Shutdown] neither closes upgraded connections nor waits for them. Over HTTP/2
// it waits for them, but does not close them. It calls the functions that were passed to
// [http.Server.RegisterOnShutdown]; one of them can call Shutdown of the handler.
//
// A handler that was shut down cannot be used again. Shutdown may be called several times, even at
// the same time. Connections of [Upgrade] do not belong to a handler.
func (h *Handler) Shutdown(ctx context.Context) error {
	left, empty := h.conns.shutDown()
	for _, c := range left {
		c.StartClose(StatusGoingAway, "")
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-empty:
		return nil // both have happened, and the connections have ended as they should
	default:
	}
	for _, c := range h.conns.cutOff() {
		c.CloseNow()
	}
	return ctx.Err()
}

// Conns yields the connections that the handler is serving: from the end of the handshake until
// the function and [OnClose] have returned. It yields those that are served when the loop
// begins, in no particular order. The loop may do anything, such as Close, and may take any
// time, because it holds no lock. So a connection may have ended before it is yielded; its
// methods then return an error. A connection that comes during the loop is not yielded.
func (h *Handler) Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, c := range h.conns.all() {
			if !yield(c) {
				return
			}
		}
	}
}

// serveStream is serve for a connection over HTTP/2, whose stream ends when the handler returns.
// It is not inlined, because that would take stack in ServeHTTP.
//
//go:noinline
func (h *Handler) serveStream(c *Conn, s *h2stream) {
	returned := false
	defer func() { s.finish(returned) }()
	if h.open != nil {
		h.openMessages(c)
	} else {
		h.serve(c)
	}
	returned = true
}
