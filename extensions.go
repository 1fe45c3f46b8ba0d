package websocket

import (
	"iter"
	"strconv"
	"strings"

	"github.com/f44ffc3b/websocket/internal/deflate"
)

// An agreement is permessage-deflate (RFC 7692) as the handshake has agreed on it. In the zero
// value no extension was agreed on.
type agreement struct {
	windowBits uint8 // the server's messages refer to at most 1<<windowBits bytes back
	noTakeover bool  // they refer to nothing in earlier messages
}

// agreed reports whether compression was agreed on.
func (a agreement) agreed() bool { return a.windowBits > 0 }

const deflateName = "permessage-deflate"

// String returns the value of Sec-WebSocket-Extensions in the response.
//
// client_no_context_takeover is always part of it, so that a connection holds no memory for
// the messages that it has received. A server may send it, and server_max_window_bits,
// although the client has not offered them (RFC 7692 sections 7.1.1.2 and 7.1.2.1).
// client_max_window_bits is not needed, because a Decoder accepts every window.
func (a agreement) String() string {
	if !a.agreed() {
		return ""
	}
	s := deflateName + "; client_no_context_takeover; server_max_window_bits=" + strconv.Itoa(int(a.windowBits))
	if a.noTakeover {
		s += "; server_no_context_takeover"
	}
	return s
}

// negotiate returns the agreement for the values of Sec-WebSocket-Extensions in a request,
// which are valid (see validExtensions). The offers come in the order of the client's
// preference, and the first acceptable one counts (RFC 7692 section 5.1). Offers that are not
// acceptable are declined, and never fail the handshake.
func negotiate(values []string) agreement {
	for offer := range listElements(values) {
		if a := acceptOffer(offer); a.agreed() {
			return a
		}
	}
	return agreement{}
}

// acceptOffer returns the agreement for one offer. It declines other extensions, and an offer
// with a parameter that is unknown, has a wrong value or comes twice (RFC 7692 section 7.1).
// Names are compared exactly, because a client may compare the names in the response exactly.
func acceptOffer(offer string) agreement {
	name, params, more := strings.Cut(offer, ";")
	if strings.Trim(name, " \t") != deflateName {
		return agreement{}
	}
	a := agreement{windowBits: deflate.MaxWindowBits}
	var seen [4]bool
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		n, ok := a.accept(param)
		if !ok || seen[n] {
			return agreement{}
		}
		seen[n] = true
	}
	return a
}

// accept takes over one parameter of an offer. n is the number of the parameter, with which
// acceptOffer finds a parameter that comes twice.
func (a *agreement) accept(param string) (n int, ok bool) {
	name, value, hasValue, ok := parseParameter(param)
	if !ok {
		return 0, false
	}
	switch name {
	case "server_no_context_takeover":
		a.noTakeover = true
		return 0, !hasValue
	case "client_no_context_takeover":
		return 1, !hasValue
	case "server_max_window_bits":
		bits, ok := parseWindowBits(value)
		a.windowBits = uint8(min(bits, deflate.MaxWindowBits))
		return 2, ok
	case "client_max_window_bits": // without a value, the client leaves the value to the server
		_, ok := parseWindowBits(value)
		return 3, ok || !hasValue
	}
	return 0, false
}

// parseWindowBits parses the size of a window: 8 to 15, in decimal digits without a zero in
// front.
func parseWindowBits(value string) (bits int, ok bool) {
	switch {
	case value == "8" || value == "9":
		return int(value[0] - '0'), true
	case len(value) == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5':
		return 10 + int(value[1]-'0'), true
	}
	return 0, false
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

// validParameter reports whether s is a parameter of an extension.
func validParameter(s string) bool {
	_, _, _, ok := parseParameter(s)
	return ok
}

// parseParameter parses token [ "=" ( token | quoted-string ) ] (RFC 6455 section 9.1), with
// whitespace around the tokens. The text in the quotes must be a token too, so a comma or a
// semicolon always separates.
func parseParameter(s string) (name, value string, hasValue, ok bool) {
	name, value, hasValue = strings.Cut(s, "=")
	name = strings.Trim(name, " \t")
	if !hasValue {
		return name, "", false, isToken(name)
	}
	value = strings.Trim(value, " \t")
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		if value, ok = strings.CutSuffix(inner, `"`); !ok || strings.Contains(value, `\\`) || strings.HasSuffix(value, `\`) {
			return "", "", false, false
		}
		value = strings.ReplaceAll(value, `\`, "") // a backslash stands for the next character
	}
	return name, value, true, isToken(name) && isToken(value)
}

// listElements yields the elements of a list header: comma-separated, in one or more
// lines, with optional whitespace. Empty elements are left out (RFC 9110 section 5.6.1).
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
