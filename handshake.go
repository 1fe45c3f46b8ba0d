package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"strings"
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
// because a proxy may have begun to forward raw bytes when it saw the request, and would
// forward further requests without a look at them.
//
// The response contains the headers that are already set on w, such as cookies and
// request IDs, except those that belong to the handshake, the connection or a body. w
// may be wrapped by middleware if the wrapper has a Hijack or an Unwrap method, so
// that [http.ResponseController] can hijack the connection. After a nil error, use
// neither w nor the body of r.
//
// A request with more than 400 header lines is refused with 431, because the connection
// would keep them, and net/http needs about a hundred bytes for each line beside its text.
// MaxHeaderBytes of the [http.Server] limits the size of all lines together.
//
// Over HTTP/2 (RFC 8441), a refusal ends its stream only, and w needs an Unwrap method for each
// wrapper. Close the connection before the handler of the request returns, because net/http
// ends the stream then.
//
// OnError, PropagateCommonErrors and Detached have no effect, because Upgrade does not
// run a [HandlerFunc].
func Upgrade(w http.ResponseWriter, r *http.Request, opts ...Option) (*Conn, error) {
	o := applyOptions(opts)
	c, err := upgrade(w, r, o, nil)
	if err == nil && o.onClose != nil {
		c.afterClose(o.onClose)
	}
	return c, err
}

// upgrade is Upgrade with applied options. If it returns a Conn, the caller has to add it to
// conns, which is nil for Upgrade.
func upgrade(w http.ResponseWriter, r *http.Request, o *options, conns *registry) (c *Conn, err error) {
	a := admission{registry: conns}
	defer func() {
		if c == nil && !a.accepted { // also if a function of the user has panicked
			conns.noteRefused()
		}
	}()
	c, err = handshake(w, r, o, &a)
	if refused, ok := err.(*HandshakeError); ok && o.onRefused != nil {
		o.onRefused(r, refused)
	}
	return c, err
}

// handshake answers r, and returns a Conn or the reason why there is none.
func handshake(w http.ResponseWriter, r *http.Request, o *options, a *admission) (c *Conn, err error) {
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
		if c == nil { // also if a wrapper of w has panicked
			a.abandon()
		}
	}()
	if isExtendedConnect(r) {
		return establishStream(w, r, o, a)
	}
	return establish(w, r, o, a)
}

// establish makes a Conn of a request that is accepted. It hijacks the connection in the last
// step that can fail with a HandshakeError, because net/http sends the response to a refused
// request.
func establish(w http.ResponseWriter, r *http.Request, o *options, a *admission) (*Conn, error) {
	subprotocol := chooseSubprotocol(o.subprotocols, r.Header["Sec-Websocket-Protocol"])
	var agreed agreement
	if o.minCompressed >= 0 {
		agreed = negotiate(r.Header["Sec-Websocket-Extensions"])
	}
	nc, brw, err := hijack(w)
	if err != nil {
		return nil, refuse(w, r, hijackRefusal(w, err))
	}
	a.accept() // before the response, because its client may look at the statistics
	response := appendResponse(unusedBuffer(brw.Writer), r.Header["Sec-Websocket-Key"][0], subprotocol, agreed, w.Header())
	buffered, err := takeOver(nc, brw, response, o.writeTimeout)
	if err != nil {
		nc.Close()
		return nil, &connError{"sending the handshake response", err}
	}
	return newConn(nc, r, subprotocol, agreed, &o.config, buffered), nil
}

// refusal returns a HandshakeError with a formatted reason.
func refusal(status int, format string, args ...any) *HandshakeError {
	return &HandshakeError{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// refuse answers r with the status and reason of e, and returns e.
func refuse(w http.ResponseWriter, r *http.Request, e *HandshakeError) error {
	closeAfterResponse(w, r)
	switch e.Status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		w.Header().Set("Sec-WebSocket-Version", "13")
		if r.ProtoMajor == 1 { // HTTP/2 forbids these headers (RFC 9113 section 8.2.2)
			w.Header().Set("Upgrade", "websocket")
			w.Header().Add("Connection", "Upgrade") // RFC 9110 section 7.8
		}
	}
	http.Error(w, e.Reason, e.Status)
	return e
}

// closeAfterResponse makes net/http close an HTTP/1 connection after the response to r,
// for which "close" must be the first value and stand alone. Over HTTP/2 it would also
// end the other streams of the connection.
func closeAfterResponse(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// refuseInvalidOptions answers r if an option of Upgrade is invalid. The peer is not told which.
func refuseInvalidOptions(w http.ResponseWriter, r *http.Request, err error) error {
	closeAfterResponse(w, r)
	http.Error(w, "the WebSocket options of this server are invalid: its operator must correct them", http.StatusInternalServerError)
	return refusal(http.StatusInternalServerError, "%s", strings.TrimPrefix(err.Error(), "websocket: "))
}

// accepts calls a policy of AcceptConnection. If it panics, middleware may recover and
// answer, and the connection must be closed after that answer too.
func accepts(w http.ResponseWriter, r *http.Request, policy func(*http.Request) bool) bool {
	returned := false
	defer func() {
		if !returned {
			closeAfterResponse(w, r)
		}
	}()
	accepted := policy(r)
	returned = true
	return accepted
}

// denyAccess answers a valid handshake that AcceptConnection refused, with the custom
// handler if there is one. The error always has the status 403, because a wrapper of w
// that records the custom handler's status would hide w's other methods from it.
func denyAccess(w http.ResponseWriter, r *http.Request, custom http.Handler) error {
	e := &HandshakeError{Status: http.StatusForbidden, Reason: denial(r)}
	closeAfterResponse(w, r)
	if custom != nil {
		custom.ServeHTTP(w, r)
		closeAfterResponse(w, r) // if the handler has cleared the header and net/http has not sent it yet
		return e
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.Status)
	fmt.Fprintf(w, "<h1>Access denied</h1>\n<p>%s</p>\n", html.EscapeString(e.Reason))
	return e
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

// writerTypes returns the type of w and the types of the ResponseWriters that w wraps.
// The last type is the one that has neither a Hijack nor an Unwrap method.
func writerTypes(w http.ResponseWriter) string {
	types := fmt.Sprintf("%T", w)
	for range maxWrappers {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapper.Unwrap()
		types += fmt.Sprintf(" around %T", w)
	}
	return types
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

// appendResponse appends the response of RFC 6455 section 4.2.2 step 5 to dst, with the
// headers in extra that middleware has set. The response contains no text of the peer:
// it contains a hash of the key, and the subprotocol as the server's options spell it.
func appendResponse(dst []byte, key, subprotocol string, agreed agreement, extra http.Header) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAccept(dst, key)
	dst = append(dst, "\r\n"...)
	if subprotocol != "" {
		dst = append(dst, "Sec-WebSocket-Protocol: "...)
		dst = append(dst, subprotocol...)
		dst = append(dst, "\r\n"...)
	}
	if agreed.agreed() {
		dst = append(dst, "Sec-WebSocket-Extensions: "...)
		dst = append(dst, agreed.String()...)
		dst = append(dst, "\r\n"...)
	}
	if len(extra) > 0 {
		dst = appendExtra(dst, extra)
	}
	return append(dst, "\r\n"...)
}

// appendExtra appends the headers in h that a 101 response may contain. WriteSubset
// leaves out invalid names and replaces newlines in values with spaces.
func appendExtra(dst []byte, h http.Header) []byte {
	exclude := make(map[string]bool)
	for name := range h {
		if !allowedIn101(name) {
			exclude[name] = true
		}
	}
	b := bytes.NewBuffer(dst)
	h.WriteSubset(b, exclude) // a bytes.Buffer returns no errors
	return b.Bytes()
}

// allowedIn101 reports whether middleware may add the header with this name to the 101
// response. Headers of the handshake are not allowed, nor are those that describe a
// body or the HTTP connection, because a 101 has none. Case is ignored, because
// middleware can write any spelling into the map.
func allowedIn101(name string) bool {
	switch name = strings.ToLower(name); name {
	case "connection", "upgrade", "keep-alive", "proxy-connection",
		"transfer-encoding", "te", "trailer",
		"content-length", "content-type", "content-encoding", "content-range":
		return false
	}
	return !strings.HasPrefix(name, "sec-websocket-")
}

// chooseSubprotocol returns the first of ours that the client offers, or "". The
// comparison is case-sensitive, because the response must contain the value that the
// client sent (RFC 6455 section 4.2.2).
func chooseSubprotocol(ours, offered []string) string {
	for _, name := range ours {
		for element := range listElements(offered) {
			if element == name {
				return name
			}
		}
	}
	return ""
}

// keyGUID is the text that is appended to the key before hashing (RFC 6455 section 1.3).
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// AcceptKey returns the value of Sec-WebSocket-Accept for a client's Sec-WebSocket-Key
// (RFC 6455 section 4.2.2 step 5.4). [Upgrade] sends it, and a client compares it with
// the header of the response. AcceptKey does not check that key is valid.
func AcceptKey(key string) string {
	return string(appendAccept(make([]byte, 0, 28), key))
}

// appendAccept appends AcceptKey(key) to dst.
func appendAccept(dst []byte, key string) []byte {
	var room [keyLength + len(keyGUID)]byte
	sum := sha1.Sum(append(append(room[:0], key...), keyGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}
