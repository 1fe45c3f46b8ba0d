package websocket

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// checkRequest returns nil if r is a valid handshake (RFC 6455 section 4.2.1), else the
// refusal. If a request has several faults, the first check that fails is the one
// whose text helps the client's developer most.
func checkRequest(r *http.Request) *HandshakeError {
	if isExtendedConnect(r) {
		return checkConnect(r)
	}
	h := r.Header
	switch {
	// 4.2.1 item 1: an HTTP/1.1 GET. HTTP/2 has no Upgrade header, and a server
	// must ignore the one of an HTTP/1.0 request (RFC 9110 section 7.8).
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return refusal(http.StatusUpgradeRequired,
			"WebSocket handshakes need HTTP/1.1; this request came as HTTP/%d.%d: connect with a WebSocket client, and let proxies forward the handshake as HTTP/1.1",
			r.ProtoMajor, r.ProtoMinor)
	case r.Method != http.MethodGet:
		return refusal(http.StatusMethodNotAllowed,
			"send the WebSocket handshake as a GET request; this request has the method %s", quoted(r.Method))

	// Item 2: the server's authority. Origin policies compare Origin with it.
	case r.Host == "":
		return refusal(http.StatusBadRequest, "the Host header is empty; send the name of the server")

	// Items 3 and 4.
	case !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade"):
		return refusal(http.StatusUpgradeRequired,
			"this is a WebSocket endpoint: connect with a WebSocket client, which sends Upgrade: websocket and Connection: Upgrade; this request has %s and %s%s",
			headerText("Upgrade", h["Upgrade"]), headerText("Connection", h["Connection"]), upgradeAdvice(h))

	// Item 6. The answer names the supported version (section 4.4).
	case !hasVersion13(h):
		return versionRefusal(h)

	// Item 5.
	case len(h["Sec-Websocket-Key"]) != 1 || !validKey(h["Sec-Websocket-Key"][0]):
		return refusal(http.StatusBadRequest,
			"send one Sec-WebSocket-Key of 16 random bytes in base64; this request has %s",
			headerText("Sec-WebSocket-Key", h["Sec-Websocket-Key"]))

	// With a body, a proxy and this server would disagree on where the request
	// ends, because the server reads frames after the header (request smuggling).
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refusal(http.StatusBadRequest,
			"a WebSocket handshake has no body; send neither Content-Length nor Transfer-Encoding; this request has %s", bodyText(r))
	}
	return checkLists(h)
}

// checkLists checks the lists of the handshake, and the number of header lines. They are the same over
// HTTP/1.1 and HTTP/2.
func checkLists(h http.Header) *HandshakeError {
	switch {
	// Items 8 and 9: lists as section 4.3 defines them. An empty list is not valid there,
	// but is treated as an absent header, because clients send it if they have no elements.
	case !validList(h["Sec-Websocket-Protocol"], isToken):
		return refusal(http.StatusBadRequest,
			"send Sec-WebSocket-Protocol as a list of tokens, or leave it out; %s",
			noTokenText(h["Sec-Websocket-Protocol"]))
	case !validExtensions(h["Sec-Websocket-Extensions"]):
		return refusal(http.StatusBadRequest,
			"send Sec-WebSocket-Extensions as a list of extensions (RFC 6455 section 9.1), or leave it out; this request has %s",
			headerText("Sec-WebSocket-Extensions", h["Sec-Websocket-Extensions"]))

	case headerLines(h) > maxHeaderLines:
		return refusal(http.StatusRequestHeaderFieldsTooLarge,
			"this request has %d header lines; send at most %d, because the connection keeps them until it ends", headerLines(h), maxHeaderLines)
	}
	return nil
}

// maxHeaderLines is the largest number of header lines in a handshake. Real handshakes have
// fewer than a hundred. Each line takes about a hundred bytes more in net/http than its text,
// and the connection would hold them: a header of 1 MiB in short lines would take fifteen
// times its own size.
const maxHeaderLines = 400

// headerLines returns the number of lines of a header.
func headerLines(h http.Header) int {
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	return lines
}

func hasVersion13(h http.Header) bool {
	version := h["Sec-Websocket-Version"]
	return len(version) == 1 && version[0] == "13"
}

func versionRefusal(h http.Header) *HandshakeError {
	return refusal(http.StatusUpgradeRequired,
		"send Sec-WebSocket-Version: 13 once, because this server supports no other version; this request has %s",
		headerText("Sec-WebSocket-Version", h["Sec-Websocket-Version"]))
}

// upgradeAdvice says what to do if a request with a key does not ask for an upgrade. Only
// WebSocket clients send a key, so a proxy has changed the other headers.
func upgradeAdvice(h http.Header) string {
	if len(h["Sec-Websocket-Key"]) == 0 {
		return ""
	}
	return ", but a Sec-WebSocket-Key: let the proxy before this server forward the Upgrade and Connection headers"
}

// bodyText names the header that gives r a body.
func bodyText(r *http.Request) string {
	if len(r.TransferEncoding) > 0 {
		return headerText("Transfer-Encoding", r.TransferEncoding)
	}
	return fmt.Sprintf("Content-Length %d", r.ContentLength)
}

// keyLength is the length of 16 bytes in base64.
const keyLength = 24

// validKey reports whether key is 16 bytes in base64. The unused bits of the last digit
// may have any value.
func validKey(key string) bool {
	if len(key) != keyLength {
		return false
	}
	var room [keyLength / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(room[:], []byte(key))
	return err == nil && n == 16
}

// validExtensions reports whether the values of Sec-WebSocket-Extensions are an
// extension-list (RFC 6455 section 9.1), or the header is absent or empty.
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

// noTokenText says where a list has an element that is not a token. It does not repeat the element,
// because pages send credentials as subprotocols, and the text gets into logs.
func noTokenText(values []string) string {
	n := 0
	for element := range listElements(values) {
		n++
		for _, char := range element {
			if !isToken(string(char)) {
				return fmt.Sprintf("element %d has the character %q", n, char)
			}
		}
	}
	return "" // does not happen, because one of them is not a token
}

// validList reports whether all elements of a list header are valid. A header that is
// absent or has only empty elements has none.
func validList(values []string, valid func(element string) bool) bool {
	for element := range listElements(values) {
		if !valid(element) {
			return false
		}
	}
	return true
}

// hasToken reports whether one of the comma-separated lists in values contains token.
// Case is ignored.
func hasToken(values []string, token string) bool {
	for element := range listElements(values) {
		// EqualFold also equates k with the Kelvin sign, which has another length.
		if len(element) == len(token) && strings.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// isExtendedConnect reports whether r asks for another protocol on its HTTP/2 stream (RFC 8441
// section 4). net/http lets such requests through only after a setting, see docs/http2.md.
func isExtendedConnect(r *http.Request) bool {
	return r.ProtoMajor == 2 && r.Method == http.MethodConnect && len(r.Header[":protocol"]) > 0
}

// checkConnect is checkRequest for HTTP/2: the handshake of RFC 8441 section 5. There are no
// Upgrade and Connection headers, and no Sec-WebSocket-Key.
func checkConnect(r *http.Request) *HandshakeError {
	h := r.Header
	switch protocol := h[":protocol"]; {
	case len(protocol) != 1 || protocol[0] != "websocket":
		return refusal(http.StatusNotImplemented,
			"this server speaks only websocket over an extended CONNECT; this request has %s", headerText(":protocol", protocol))
	case headerBytes(r) > maxConnectHeader:
		return refusal(http.StatusRequestHeaderFieldsTooLarge,
			"this request has a header of %d bytes; send at most %d over HTTP/2, because the connection keeps them until it ends", headerBytes(r), maxConnectHeader)
	case len(r.Trailer) > 0: // net/http keeps a map of the names, which is much larger than their text
		return refusal(http.StatusBadRequest, "the stream of a WebSocket has no trailers; send no Trailer header")
	case r.Host == "":
		return refusal(http.StatusBadRequest, "the :authority is empty; send the name of the server")
	case r.ContentLength != -1:
		return refusal(http.StatusBadRequest,
			"the stream of a WebSocket stays open and has no length; send the HEADERS frame without END_STREAM and without Content-Length")
	case !hasVersion13(h):
		return versionRefusal(h)
	}
	return checkLists(h)
}

// maxConnectHeader is the largest size of the header of a handshake over HTTP/2. MaxHeaderBytes does
// not suffice there: a client that repeats a compressed Cookie needs 345 bytes for a header of 1 MiB,
// which net/http joins, and one TCP connection can hold 250 of them. Real handshakes have less than
// half of it.
const maxConnectHeader = 32 << 10

// headerBytes returns the size of the header of r over HTTP/2: of the path, the authority, and the names
// and values of the other fields.
func headerBytes(r *http.Request) int {
	size := len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size
}
