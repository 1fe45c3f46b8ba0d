package websocket

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// establishStream is establish for HTTP/2. The response has status 200 (RFC 8441 section 5).
// Frames go to the innermost ResponseWriter, because a wrapper could compress them.
func establishStream(w http.ResponseWriter, r *http.Request, body io.ReadCloser, o *options, a *admission) (*Conn, error) {
	writers := unwrapped(w)
	inner, ok := writers[len(writers)-1].(streamWriter)
	if !ok {
		return nil, refuse(w, r, refusal(http.StatusInternalServerError,
			"%s cannot send frames on an HTTP/2 stream: middleware that wraps the http.ResponseWriter needs an Unwrap method", writerTypes(w)))
	}
	subprotocol, agreed := o.choose(r)
	setResponseHeader(inner.Header(), w.Header(), subprotocol, agreed)
	warnUnbounded(r)
	a.accept() // before the response, because the client may then ask for the statistics
	// The deadlines of ReadTimeout and WriteTimeout would end the stream.
	inner.SetReadDeadline(time.Time{})
	inner.SetWriteDeadline(time.Time{})
	inner.WriteHeader(http.StatusOK)
	if err := inner.FlushError(); err != nil {
		return nil, &connError{"sending the handshake response", err}
	}
	s := newStream(inner, r, body)
	if a.registry != nil { // not after Upgrade
		s.begin() // before onLost: the context may be done already
	}
	c := newConn(s, r, subprotocol, agreed, &o.config, nil)
	s.onLost(r.Context(), func() { c.timer.run(func() { c.streamLost(s) }) })
	return c, nil
}

// A denyingWriter is the ResponseWriter of the handler of AccessDenied. Over HTTP/2, every status 2xx
// accepts the WebSocket (RFC 8441 section 5), so a denyingWriter sends 403 instead.
type denyingWriter struct {
	http.ResponseWriter
	answered bool // with a status that is not informational
}

func (w *denyingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *denyingWriter) WriteHeader(status int) {
	if status/100 == 2 {
		status = http.StatusForbidden
	}
	w.answered = w.answered || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *denyingWriter) Write(p []byte) (int, error) {
	w.deny()
	return w.ResponseWriter.Write(p)
}

// Flush sends the status too, as the methods of net/http do.
func (w *denyingWriter) Flush() {
	w.deny()
	http.NewResponseController(w.ResponseWriter).Flush()
}

// deny answers with 403, unless there is an answer.
func (w *denyingWriter) deny() {
	if !w.answered {
		w.WriteHeader(http.StatusForbidden)
	}
}

var warnOnce sync.Once

// warnUnbounded logs one line if a peer that stops reading from its TCP connection can hold
// handlers for ever. A handler can do nothing then to end its write. The timeouts of an http2.Server
// of golang.org/x/net cannot be seen from here.
func warnUnbounded(r *http.Request) {
	srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || srv.HTTP2 != nil && (srv.HTTP2.WriteByteTimeout > 0 || srv.HTTP2.SendPingTimeout > 0) {
		return
	}
	warnOnce.Do(func() {
		logTo(srv, "websocket: the http.Server of a WebSocket over HTTP/2 sets neither HTTP2.WriteByteTimeout nor HTTP2.SendPingTimeout: unless the server of golang.org/x/net/http2 has such a timeout, a client that stops reading can block handlers for ever; call extendedconnect.Configure")
	})
}

// http2 returns the stream of a WebSocket over HTTP/2, or nil.
func (s *socket) http2() *h2stream {
	stream, _ := s.transport.(*h2stream)
	return stream
}

// streamLost ends a connection whose stream was reset or whose TCP connection has ended.
// Messages that have arrived before can still be received. The context of the request may also
// be done for another reason, because middleware can give it a time limit: then the connection
// goes on.
func (c *Conn) streamLost(s *h2stream) {
	for wait := time.Millisecond; !c.foundEnd(s); wait *= 2 {
		if wait > 64*time.Millisecond {
			return
		}
		select { // net/http cancels the context just before it closes the stream
		case <-time.After(wait):
		case <-c.life.over.Done():
			return
		}
	}
	if ahead := c.inbox.readsAhead(); ahead != nil {
		ahead.endNow()
	}
}

// foundEnd polls the stream, and ends the connection if the stream has ended. It reports
// whether it did.
func (c *Conn) foundEnd(s *h2stream) bool {
	if !c.in.lock.LockUnless(c.life.over.Done(), nil) {
		return true
	}
	defer func() {
		c.in.lock.Unlock()
		c.timer.resumePolls() // a tick may have taken this for a method that is receiving
		c.in.passTurn()
	}()
	switch p := c.life.current(); {
	case p >= phaseClosing:
		return true
	case p == phaseLost:
		c.lastLook(true)
		return true
	}
	lost, known := s.isLost()
	switch {
	case known && !lost:
		return false // a poll would act on a close frame before the handler is done with the messages
	case lost && c.in.aheadEnd() != nil:
		return true
	}
	err := c.in.poll(allEndings)
	if err == nil && lost && c.in.buf.full() {
		if err = c.in.closeBehind(); err == nil {
			err = c.in.endBehind(errStreamReset)
		}
	}
	if err != nil {
		c.received(err)
	}
	return err != nil
}
