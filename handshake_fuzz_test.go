package websocket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// FuzzHandshake reads a request as net/http does, and compares the library's check with
// naiveRefusal, a slow check that follows the text of RFC 6455.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(wstest.Request()))
	f.Add([]byte(wstest.Request("Upgrade: a, WEBSOCKET", "Connection: a", "Connection: b,\tupgrade ", "Origin: null")))
	f.Add([]byte(wstest.Request("Content-Length: 1") + "x"))
	f.Add([]byte(wstest.Request("Sec-WebSocket-Protocol: a, chat", "Sec-WebSocket-Extensions: x; y=\"z\"")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		refused := checkRequest(r)
		if broken := naiveRefusal(r); (refused == nil) != (broken == "") {
			t.Fatalf("checkRequest = %v, want an error if this is not empty: the broken rule %q", refused, broken)
		}
		w := httptest.NewRecorder()
		if refused != nil {
			refuse(w, r, refused)
			checkAnswer(t, w, refused)
			return
		}
		denyAccess(w, r, nil)
		if body := w.Body.String(); w.Code != 403 || strings.Count(body, "<") != 4 {
			t.Fatalf("denied with %d %q, want 403 and no markup of the peer's", w.Code, body)
		}
		subprotocol := chooseSubprotocol([]string{"chat"}, r.Header["Sec-Websocket-Protocol"])
		if subprotocol != "" && subprotocol != "chat" {
			t.Fatalf("agreed on subprotocol %q", subprotocol)
		}
		want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: " + AcceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\n"
		if subprotocol != "" {
			want += "Sec-WebSocket-Protocol: chat\r\n"
		}
		got := string(appendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), subprotocol, agreement{}, nil))
		if got != want+"\r\n" {
			t.Fatalf("response %q, want %q", got, want)
		}
	})
}

// checkAnswer checks that the response to a refused handshake is one line of text.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, refused *HandshakeError) {
	body := w.Body.String()
	if w.Code != refused.Status || body != refused.Reason+"\n" || strings.Count(body, "\n") != 1 || strings.Contains(body, "\r") {
		t.Fatalf("%v was answered with %d %q", refused, w.Code, body)
	}
}

// naiveRefusal names the rule that r breaks as a WebSocket handshake, or returns "".
func naiveRefusal(r *http.Request) string {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	body, bodyErr := io.ReadAll(io.LimitReader(r.Body, 1))
	switch {
	case r.Method != "GET":
		return "method"
	case r.ProtoMajor != 1 || r.ProtoMinor == 0:
		return "protocol"
	case r.Host == "":
		return "host"
	case !listHas(r.Header.Values("Upgrade"), "websocket"):
		return "upgrade"
	case !listHas(r.Header.Values("Connection"), "upgrade"):
		return "connection"
	case !slices.Equal(r.Header.Values("Sec-WebSocket-Version"), []string{"13"}):
		return "version"
	case len(r.Header.Values("Sec-WebSocket-Key")) != 1 || err != nil || len(key) != 16:
		return "key"
	case !isList(r.Header.Values("Sec-WebSocket-Protocol"), tokenPattern):
		return "subprotocols"
	case !isList(r.Header.Values("Sec-WebSocket-Extensions"), extensionPattern):
		return "extensions"
	case len(body) > 0 || bodyErr != nil || r.ContentLength > 0 || r.TransferEncoding != nil:
		return "body"
	}
	return ""
}

// isList reports whether lines are a list, which may be empty.
func isList(lines []string, element string) bool {
	list := regexp.MustCompile(`^[ \t,]*(?:` + element + `(?:[ \t]*,[ \t,]*` + element + `)*[ \t,]*)?$`)
	return list.MatchString(strings.Join(lines, ","))
}

func listHas(lines []string, token string) bool {
	for _, element := range strings.Split(strings.Join(lines, ","), ",") {
		isASCII := strings.IndexFunc(element, func(r rune) bool { return r > 0x7f }) < 0
		if isASCII && strings.ToLower(strings.Trim(element, " \t")) == token {
			return true
		}
	}
	return false
}

// The grammar of RFC 9110 section 5.6.2 and RFC 6455 section 9.1. A quoted string
// must be a token after its quotes and backslashes were removed.
const (
	tokenCharacter   = "[!#$%&'*+.^_`|~0-9A-Za-z-]"
	tokenPattern     = tokenCharacter + "+"
	parameterPattern = tokenPattern + `(?:[ \t]*=[ \t]*(?:` + tokenPattern + `|"(?:\\?` + tokenCharacter + `)+"))?`
	extensionPattern = tokenPattern + `(?:[ \t]*;[ \t]*` + parameterPattern + `)*`
)
