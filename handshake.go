package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Upgrade makes a WebSocket connection of an HTTP request, by the handshake of
// RFC 6455 section 4.2. It is the low-level way in: [Handle] calls it, and
// closes the connection when its function returns. Here the caller does, with
// [Conn.Close].
//
// A request that is no valid handshake, or that the policy of AcceptConnection
// turns away, has been answered when Upgrade returns: the error is a
// [*HandshakeError], and nothing is left to be done but to return. Any other
// error is that of a connection that died under the answer; it has been closed.
//
// Headers that are already set on w, such as cookies and request ids, are sent
// with the answer; those of the handshake itself, the connection and a body are
// not. w may be wrapped by middleware as long as [http.ResponseController] finds
// its Hijack method: the wrapper needs that or an Unwrap method. After a nil
// error neither w nor the body of r may be used.
//
// The status of the error is 403 for a request that AcceptConnection refused,
// also where the handler of AccessDenied answered with another.
//
// What is for a HandlerFunc, which is not run here, has no effect: OnError,
// PropagateCommonErrors and Detached. Upgrade panics if an option is out of range.
func Upgrade(w http.ResponseWriter, r *http.Request, opts ...Option) (*Conn, error) {
	return upgrade(w, r, newOptions(opts))
}

// upgrade leaves the connection to net/http for as long as a plain response can
// still be sent: hijacking is the last step that can be refused.
func upgrade(w http.ResponseWriter, r *http.Request, o *options) (*Conn, error) {
	if e := checkRequest(r); e != nil {
		return nil, refuse(w, r, e)
	}
	if !o.acceptConnection(r) {
		return nil, denyAccess(w, r, o.accessDenied)
	}
	subprotocol := chooseSubprotocol(o.subprotocols, r.Header["Sec-Websocket-Protocol"])
	nc, brw, err := hijack(w)
	if err != nil {
		return nil, refuse(w, r, hijackRefusal(w, err))
	}
	response := appendResponse(roomIn(brw.Writer), r.Header["Sec-Websocket-Key"][0], subprotocol, w.Header())
	buffered, err := takeOver(nc, brw, response, o.writeTimeout)
	if err != nil {
		nc.Close()
		return nil, &deadError{"sending the handshake response", err}
	}
	return newConn(nc, r, subprotocol, o, buffered), nil
}

// checkRequest holds r against RFC 6455 section 4.2.1, in the order that tells
// the sender of a wrong request the most. It returns nil for a valid handshake.
func checkRequest(r *http.Request) *HandshakeError {
	h := r.Header
	switch {
	// 4.2.1 item 1: an HTTP/1.1 GET. HTTP/2 has no Upgrade, and that of an
	// HTTP/1.0 request must be ignored (RFC 9110 section 7.8).
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return refusal(http.StatusUpgradeRequired,
			"WebSocket handshakes need HTTP/1.1; this request came as HTTP/%d.%d", r.ProtoMajor, r.ProtoMinor)
	case r.Method != http.MethodGet:
		return refusal(http.StatusMethodNotAllowed,
			"WebSocket handshakes are GET requests; this one is a %s", quote(r.Method))

	// Item 2: the server's authority, which origin policies compare with.
	case r.Host == "":
		return refusal(http.StatusBadRequest, "the Host header is empty; send the name of the server")

	// Items 3 and 4.
	case !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade"):
		return refusal(http.StatusUpgradeRequired,
			"this is a WebSocket endpoint: connect with a WebSocket client, which sends Upgrade: websocket and Connection: Upgrade; this request has %s and %s",
			describe("Upgrade", h["Upgrade"]), describe("Connection", h["Connection"]))

	// Item 6, and section 4.4: the answer to another version names ours.
	case len(h["Sec-Websocket-Version"]) != 1 || h["Sec-Websocket-Version"][0] != "13":
		return refusal(http.StatusUpgradeRequired,
			"this server speaks version 13 of the protocol; send Sec-WebSocket-Version: 13 once; this request has %s",
			describe("Sec-WebSocket-Version", h["Sec-Websocket-Version"]))

	// Item 5.
	case len(h["Sec-Websocket-Key"]) != 1 || !validKey(h["Sec-Websocket-Key"][0]):
		return refusal(http.StatusBadRequest,
			"send one Sec-WebSocket-Key of 16 random bytes in base64; this request has %s",
			describe("Sec-WebSocket-Key", h["Sec-Websocket-Key"]))

	// Items 8 and 9, though nothing of the latter is agreed on: what is not a list
	// as section 4.3 has it is no handshake.
	case !validSubprotocols(h["Sec-Websocket-Protocol"]):
		return refusal(http.StatusBadRequest,
			"Sec-WebSocket-Protocol is a list of tokens; this request has %s",
			describe("Sec-WebSocket-Protocol", h["Sec-Websocket-Protocol"]))
	case !validExtensions(h["Sec-Websocket-Extensions"]):
		return refusal(http.StatusBadRequest,
			"Sec-WebSocket-Extensions is a list as in RFC 6455 section 9.1; this request has %s",
			describe("Sec-WebSocket-Extensions", h["Sec-Websocket-Extensions"]))

	// A proxy that forwards the body and a server that takes its bytes for
	// frames would disagree on where the request ends: request smuggling.
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refusal(http.StatusBadRequest,
			"a WebSocket handshake has no body; send neither Content-Length nor Transfer-Encoding")
	}
	return nil
}

func refusal(status int, format string, args ...any) *HandshakeError {
	return &HandshakeError{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// refuse answers a request that cannot be upgraded, and returns e as an error.
func refuse(w http.ResponseWriter, r *http.Request, e *HandshakeError) error {
	switch e.Status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		w.Header().Set("Sec-WebSocket-Version", "13")
		if r.ProtoMajor == 1 { // HTTP/2 forbids them (RFC 9113 section 8.2.2)
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
		}
	}
	http.Error(w, e.Reason, e.Status)
	return e
}

// denyAccess answers a valid handshake that AcceptConnection refused. What
// status a custom handler answers with is not seen here: a wrapper that watched
// for it would hide the methods of w from the handler.
func denyAccess(w http.ResponseWriter, r *http.Request, custom http.Handler) error {
	e := &HandshakeError{Status: http.StatusForbidden, Reason: denial(r)}
	if custom != nil {
		custom.ServeHTTP(w, r)
		return e
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.Status)
	fmt.Fprintf(w, "<h1>Access denied</h1>\n<p>%s</p>\n", html.EscapeString(e.Reason))
	return e
}

// hijack is http.ResponseController's, but trusts no wrapper to return a
// connection and buffers where it returns no error.
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

func hijackRefusal(w http.ResponseWriter, err error) *HandshakeError {
	if !errors.Is(err, http.ErrNotSupported) {
		return refusal(http.StatusInternalServerError, "hijacking the connection from %s: %v", writerTypes(w), err)
	}
	return refusal(http.StatusInternalServerError,
		"%s cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		writerTypes(w))
}

// writerTypes names the type of w and of what it wraps: the one that lacks the
// method is the last.
func writerTypes(w http.ResponseWriter) string {
	types := fmt.Sprintf("%T", w)
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return types
		}
		w = wrapper.Unwrap()
		types += fmt.Sprintf(" around %T", w)
	}
}

// takeOver makes a hijacked connection ours: it sends the response and returns
// a copy of what the client has sent behind its request.
func takeOver(nc net.Conn, brw *bufio.ReadWriter, response []byte, timeout time.Duration) ([]byte, error) {
	// A connection that knows no deadlines fails here, and works all the same.
	nc.SetDeadline(time.Time{})
	if timeout > 0 {
		nc.SetWriteDeadline(time.Now().Add(timeout))
		defer nc.SetWriteDeadline(time.Time{})
	}
	buffered := takeBuffered(brw.Reader)
	if err := flush(brw.Writer); err != nil {
		return nil, err
	}
	releaseBuffers(brw)
	_, err := nc.Write(response)
	return buffered, err
}

// takeBuffered copies what br holds: a client may send its first frames right
// behind the handshake, and net/http has read them along with it.
func takeBuffered(br *bufio.Reader) []byte {
	if br == nil || br.Buffered() == 0 {
		return nil
	}
	b, _ := br.Peek(br.Buffered()) // cannot fail: it is all there
	return bytes.Clone(b)
}

// roomIn is the unused part of the buffer of bw, which spares the response one of
// its own.
func roomIn(bw *bufio.Writer) []byte {
	if bw == nil {
		return nil
	}
	return bw.AvailableBuffer()
}

// flush sends what the Hijack method of a wrapper left in its buffer, as it was
// written before the response. That of net/http is empty.
func flush(bw *bufio.Writer) error {
	if bw == nil || bw.Buffered() == 0 {
		return nil
	}
	return bw.Flush()
}

// releaseBuffers gives the two 4 KiB buffers of net/http to the garbage
// collector. The http.Server keeps the pointers to brw's two structs for as long
// as the handler runs, which is the life of the connection, so it is the structs
// that are emptied. That is safe: net/http neither reads nor writes a hijacked
// connection again, and were a wrapper to reuse them, Reset gives a zero Reader
// or Writer a new buffer.
func releaseBuffers(brw *bufio.ReadWriter) {
	if brw.Reader != nil {
		*brw.Reader = bufio.Reader{}
	}
	if brw.Writer != nil {
		*brw.Writer = bufio.Writer{}
	}
}

// appendResponse builds the answer of RFC 6455 section 4.2.2 step 5, and puts
// the headers behind it that middleware has set. Nothing in it is the peer's
// text: the key goes in as a hash and the subprotocol is the server's string.
func appendResponse(dst []byte, key, subprotocol string, extra http.Header) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAccept(dst, key)
	dst = append(dst, "\r\n"...)
	if subprotocol != "" {
		dst = append(dst, "Sec-WebSocket-Protocol: "...)
		dst = append(dst, subprotocol...)
		dst = append(dst, "\r\n"...)
	}
	if len(extra) > 0 {
		dst = appendExtra(dst, extra)
	}
	return append(dst, "\r\n"...)
}

// appendExtra appends what of h may stand in a 101 response. WriteSubset leaves
// out invalid names and turns newlines in values into spaces.
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

// allowedIn101 reports whether middleware may add the header to the response:
// not those of the handshake itself, and not those of a body or a connection
// that a 101 does not have. Middleware can put a name into the map in any case.
func allowedIn101(name string) bool {
	switch name = strings.ToLower(name); name {
	case "connection", "upgrade", "keep-alive", "proxy-connection",
		"transfer-encoding", "te", "trailer",
		"content-length", "content-type", "content-encoding", "content-range":
		return false
	}
	return !strings.HasPrefix(name, "sec-websocket-")
}

// chooseSubprotocol returns the first of ours that the client offers, or "".
// Subprotocols compare case-sensitively: RFC 6455 section 4.2.2 has it send back
// the very value it got.
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

// keyGUID is the constant of RFC 6455 section 1.3.
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// keyLength is that of 16 bytes in base64.
const keyLength = 24

// AcceptKey returns the Sec-WebSocket-Accept header that answers the
// Sec-WebSocket-Key of a client (RFC 6455 section 4.2.2 step 5.4). [Upgrade]
// sends it; a client compares it with what it got. The key is not checked.
func AcceptKey(key string) string {
	return string(appendAccept(make([]byte, 0, 28), key))
}

func appendAccept(dst []byte, key string) []byte {
	var room [keyLength + len(keyGUID)]byte
	sum := sha1.Sum(append(append(room[:0], key...), keyGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// validKey reports whether key is 16 bytes in base64. What the spare bits of
// the last digit hold is the client's business, as they are in no byte.
func validKey(key string) bool {
	if len(key) != keyLength {
		return false
	}
	var room [keyLength / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(room[:], []byte(key))
	return err == nil && n == 16
}

// validSubprotocols reports whether the header, if there is one, is 1#token.
func validSubprotocols(values []string) bool {
	return validList(values, isToken)
}

// validExtensions reports whether the header, if there is one, is the
// extension-list of RFC 6455 section 9.1.
func validExtensions(values []string) bool {
	return validList(values, func(extension string) bool {
		name, params, found := strings.Cut(extension, ";")
		for found {
			var param string
			param, params, found = strings.Cut(params, ";")
			if !validParameter(param) {
				return false
			}
		}
		return isToken(strings.Trim(name, " \t"))
	})
}

// validParameter reports whether s is token [ "=" ( token | quoted-string ) ].
// Unquoted, the latter must be a token too, so no comma or semicolon is hidden in
// one.
func validParameter(s string) bool {
	name, value, found := strings.Cut(s, "=")
	if !isToken(strings.Trim(name, " \t")) {
		return false
	}
	if !found {
		return true
	}
	value = strings.Trim(value, " \t")
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		if value, ok = strings.CutSuffix(inner, `"`); !ok || strings.Contains(value, `\\`) || strings.HasSuffix(value, `\`) {
			return false
		}
		value = strings.ReplaceAll(value, `\`, "") // each stands for what is behind it
	}
	return isToken(value)
}

// validList reports whether every element of a list header is valid, and there is
// one if there is the header at all.
func validList(values []string, valid func(element string) bool) bool {
	elements := 0
	for element := range listElements(values) {
		if !valid(element) {
			return false
		}
		elements++
	}
	return elements > 0 || len(values) == 0
}

// hasToken reports whether one of the comma-separated lists in values has
// token, in upper or lower case.
func hasToken(values []string, token string) bool {
	for element := range listElements(values) {
		// EqualFold takes the Kelvin sign for a k; those have another length.
		if len(element) == len(token) && strings.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// listElements yields the elements of a header that is a list: comma-separated
// and over several lines, with optional whitespace (RFC 9110 section 5.6.1).
func listElements(values []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range values {
			for element := range strings.SplitSeq(line, ",") {
				if element = strings.Trim(element, " \t"); element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.Contains("!#$%&'*+-.^_`|~", s[i:i+1]) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// describe names a header with what the peer has put there.
func describe(name string, values []string) string {
	if len(values) == 0 {
		return "no " + name
	}
	return name + " " + quote(strings.Join(values, ", "))
}

// quote makes text of the peer fit for a message: on one line, and short.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}
