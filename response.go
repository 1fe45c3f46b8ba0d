package websocket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"html"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// maxWriters is how many wrappers of an http.ResponseWriter are opened. Programs have one for each
// middleware. A faulty wrapper may return itself.
const maxWriters = 100

// unwrapped returns w and the ResponseWriters that it wraps. The last one is the innermost: it has no
// Unwrap method.
func unwrapped(w http.ResponseWriter) []http.ResponseWriter {
	all := []http.ResponseWriter{w}
	for range maxWriters {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapper.Unwrap()
		all = append(all, w)
	}
	return all
}

// writerTypes returns the types of w and of the ResponseWriters that w wraps. The last type is the
// one that has neither a Hijack nor an Unwrap method.
func writerTypes(w http.ResponseWriter) string {
	var types []string
	for _, w := range unwrapped(w) {
		types = append(types, fmt.Sprintf("%T", w))
	}
	return strings.Join(slices.Compact(types), " around ")
}

// setResponseHeader makes h the header of the response, with what middleware has set. A wrapper
// may have a header of its own, outer.
func setResponseHeader(h, outer http.Header, subprotocol string, agreed agreement) {
	maps.Copy(h, outer)
	maps.DeleteFunc(h, func(name string, _ []string) bool {
		return !allowedIn101(name) || strings.HasPrefix(name, http.TrailerPrefix)
	})
	if subprotocol != "" {
		h.Set("Sec-WebSocket-Protocol", subprotocol)
	}
	if agreed.agreed() {
		h.Set("Sec-WebSocket-Extensions", agreed.String())
	}
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

// refuseInvalidOptions answers r if an option of Upgrade is invalid. The response does not say
// which one.
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
// handler if there is one. The error always has the status 403. A wrapper of w could record the
// status of the custom handler, but would hide the other methods of w from the handler. So there is
// one only over HTTP/2, where it is necessary.
func denyAccess(w http.ResponseWriter, r *http.Request, custom http.Handler) error {
	e := &HandshakeError{Status: http.StatusForbidden, Reason: denial(r)}
	closeAfterResponse(w, r)
	switch {
	case custom != nil && isExtendedConnect(r):
		denying := &denyingWriter{ResponseWriter: w}
		custom.ServeHTTP(denying, r)
		denying.deny()
		return e
	case custom != nil:
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
