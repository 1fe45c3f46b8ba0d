package websocket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Upgrade turns an HTTP request into a WebSocket connection by the handshake of RFC
// 6455 section 4.2. It is a low-level function: the caller must close the connection
// with [Conn.Close]. [Handle] closes the connection when its function returns.
//
// If the request is not a valid handshake, or if AcceptConnection refuses it, Upgrade
// answers it and returns a [*HandshakeError]; the caller should then return without
// writing to w. Its status is 403 if AcceptConnection refused, even if the handler of
// AccessDenied answered with another status. It is 500 if an [Option] is invalid. Any
// other error means that the connection failed while the response was sent; Upgrade has
// closed it.
//
// Over HTTP/1, net/http closes the connection after the answer to a refused request,
// because a proxy may have begun to forward raw bytes when it saw the request. It would then
// forward further requests without checking them.
//
// The response contains the headers that are already set on w, such as cookies and
// request IDs, except those that belong to the handshake, the connection or a body. w
// may be wrapped by middleware if the wrapper has a Hijack or an Unwrap method, so
// that [http.ResponseController] can hijack the connection. After a nil error, use
// neither w nor the body of r. Over HTTP/1, the handler of the request may return before the
// connection ends; [Detached] says what that means for middleware.
//
// A request with more than 400 header lines is refused with 431, because the connection
// would keep them, and each line takes about a hundred bytes more in net/http than its text.
// MaxHeaderBytes of the [http.Server] limits the size of all lines together.
//
// Over HTTP/2 (RFC 8441), a refusal ends its stream only, and w needs an Unwrap method for each
// wrapper. Close the connection before the handler of the request returns, because net/http
// ends the stream then, and gives the buffer of w to another request. Close waits for the
// goroutines that send; if one is still sending when the handler returns, it can damage the
// response to another client.
//
// OnError, PropagateCommonErrors and Detached have no effect, because Upgrade does not
// run a [HandlerFunc].
func Upgrade(w http.ResponseWriter, r *http.Request, opts ...Option) (*Conn, error) {
	o := applyOptions(opts)
	c, err := upgrade(w, r, o, nil)
	if err == nil && o.onClose != nil {
		afterClose(c, o.onClose)
	}
	return c, err
}

// afterClose calls f on a new goroutine after the connection is closed. Until then it needs a
// context, but no goroutine.
func afterClose(c *Conn, f func(*Conn, error)) {
	context.AfterFunc(c.Context(), func() {
		defer logPanic(c)
		c.life.closed.Wait() // the close handshake has a limit
		f(c, c.life.err())
	})
}

// upgrade is Upgrade with applied options. If it returns a Conn, the caller has to add it to
// conns, which is nil for Upgrade.
func upgrade(w http.ResponseWriter, r *http.Request, o *options, conns *registry) (c *Conn, err error) {
	a := admission{registry: conns}
	body := r.Body
	if isExtendedConnect(r) {
		r = withoutBody(r)
	}
	defer func() {
		if c == nil && !a.accepted { // even if a function of the user has panicked
			conns.noteRefused()
		}
	}()
	c, err = handshake(w, r, body, o, &a)
	if refused, ok := err.(*HandshakeError); ok && o.onRefused != nil {
		o.onRefused(r, refused)
	}
	return c, err
}

// withoutBody returns a copy of r with an empty body. The functions of the user get it, because the
// body of an extended CONNECT is the stream of the connection: r.FormValue would read from it, if
// the client says that it is a form, and store what it has read without a limit.
func withoutBody(r *http.Request) *http.Request {
	r = r.WithContext(r.Context())
	r.Body = http.NoBody
	return r
}

// handshake answers r, and returns a Conn or the reason why there is none. body is that of the
// request, from which a stream reads.
func handshake(w http.ResponseWriter, r *http.Request, body io.ReadCloser, o *options, a *admission) (c *Conn, err error) {
	if e := a.refusal(); e != nil {
		return nil, refuse(w, r, e)
	}
	if o.err != nil {
		return nil, refuseInvalidOptions(w, r, o.err)
	}
	if e := checkRequest(r); e != nil {
		return nil, refuse(w, r, e)
	}
	if !accepts(w, r, o.acceptConnection) {
		return nil, denyAccess(w, r, o.accessDenied)
	}
	if e := a.begin(); e != nil { // Shutdown was called while acceptConnection ran
		return nil, refuse(w, r, e)
	}
	defer func() {
		if c == nil { // even if a wrapper of w has panicked
			a.abandon()
		}
	}()
	if isExtendedConnect(r) {
		return establishStream(w, r, body, o, a)
	}
	return establish(w, r, o, a)
}

// establish makes a Conn of a request that is accepted. It hijacks the connection in the last
// step that can fail with a HandshakeError, because net/http sends the response to a refused
// request.
func establish(w http.ResponseWriter, r *http.Request, o *options, a *admission) (*Conn, error) {
	subprotocol, agreed := o.choose(r)
	nc, brw, err := hijack(w)
	if err != nil {
		return nil, refuse(w, r, hijackRefusal(w, err))
	}
	a.accept() // before the response, because the client may then ask for the statistics
	response := appendResponse(unusedBuffer(brw.Writer), r.Header["Sec-Websocket-Key"][0], subprotocol, agreed, w.Header())
	buffered, err := takeOver(nc, brw, response, o.writeTimeout)
	if err != nil {
		nc.Close()
		return nil, &connError{"sending the handshake response", err}
	}
	return newConn(nc, r, subprotocol, agreed, &o.config, buffered), nil
}

// choose returns the subprotocol, "" for none, and the extension for a request (RFC 6455 section 4.2.2
// step 4).
func (o *options) choose(r *http.Request) (subprotocol string, agreed agreement) {
	if o.minCompressed >= 0 {
		agreed = negotiate(r.Header["Sec-Websocket-Extensions"])
	}
	return chooseSubprotocol(o.subprotocols, r.Header["Sec-Websocket-Protocol"]), agreed
}

// hijack hijacks the connection of w through http.ResponseController. It returns an
// error for a nil connection and replaces nil buffers, because the Hijack method of a
// wrapper may return them without an error.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	nc, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if nc == nil {
		return nil, nil, errors.New("its Hijack method returned no connection")
	}
	if brw == nil {
		brw = &bufio.ReadWriter{}
	}
	return nc, brw, nil
}

// hijackRefusal returns the refusal for a connection that could not be hijacked. Its
// text names the types of w, so that the faulty wrapper can be found.
func hijackRefusal(w http.ResponseWriter, err error) *HandshakeError {
	if !errors.Is(err, http.ErrNotSupported) {
		return refusal(http.StatusInternalServerError, "hijacking the connection from %s: %v", writerTypes(w), err)
	}
	return refusal(http.StatusInternalServerError,
		"%s cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		writerTypes(w))
}

// minResponseTime is how long the response may take with a shorter WriteTimeout, because
// no byte is written if the deadline has passed before the write begins.
const minResponseTime = time.Second

// takeOver sends the response on a hijacked connection. It returns a copy of the bytes
// that the client has sent after its request and that net/http has read already. It
// removes the deadlines of net/http and releases its buffers. timeout, but at least
// minResponseTime, limits the writing of the response; 0 means no limit.
func takeOver(nc net.Conn, brw *bufio.ReadWriter, response []byte, timeout time.Duration) ([]byte, error) {
	// The errors of the three calls are ignored, because a connection that does not
	// support deadlines works without them.
	nc.SetDeadline(time.Time{})
	if timeout > 0 {
		nc.SetWriteDeadline(time.Now().Add(max(timeout, minResponseTime)))
		defer nc.SetWriteDeadline(time.Time{})
	}
	buffered := takeBuffered(brw.Reader)
	if err := flushHijacked(brw.Writer); err != nil {
		return nil, err
	}
	releaseBuffers(brw)
	_, err := nc.Write(response)
	return buffered, err
}

// takeBuffered returns a copy of the bytes in br. They are the client's first frames, if
// it sent them together with its handshake.
func takeBuffered(br *bufio.Reader) []byte {
	if br == nil || br.Buffered() == 0 {
		return nil
	}
	b, _ := br.Peek(br.Buffered()) // cannot fail, because the bytes are buffered
	return bytes.Clone(b)
}

// unusedBuffer returns the unused part of bw's buffer. The response is built in it,
// which saves an allocation.
func unusedBuffer(bw *bufio.Writer) []byte {
	if bw == nil {
		return nil
	}
	return bw.AvailableBuffer()
}

// flushHijacked sends the bytes that are buffered in bw, because they were written before the
// response. The Hijack method of net/http leaves no such bytes, but a wrapper may.
func flushHijacked(bw *bufio.Writer) error {
	if bw == nil || bw.Buffered() == 0 {
		return nil
	}
	return bw.Flush()
}

// releaseBuffers lets the garbage collector free the two 4 KiB buffers of net/http. It
// clears the two structs of brw, because http.Server keeps pointers to them while the
// handler runs, which is as long as the connection. This is safe: net/http does not
// read or write a hijacked connection again. If a wrapper reuses the structs, Reset
// gives a zero Reader or Writer a new buffer.
func releaseBuffers(brw *bufio.ReadWriter) {
	if brw.Reader != nil {
		*brw.Reader = bufio.Reader{}
	}
	if brw.Writer != nil {
		*brw.Writer = bufio.Writer{}
	}
}
