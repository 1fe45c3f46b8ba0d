package conformance

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// net/http does TLS, but the library ends a connection over TLS (section 7.1.1).
func TestConformance_10_6_TLS(t *testing.T) {
	srv := wstest.ServeTLS(t, websocket.Handle(echo, noPings))
	dialTLS := func(t testing.TB) *wstest.Client {
		t.Helper()
		p := wstest.DialTLS(t, srv.Listener.Addr().String())
		p.Handshake()
		return p
	}
	s := pattern(100 << 10)
	conformOn(t, dialTLS, []wireCase{
		{"messages", fromClient(0x81, "Hello", 0x89, "ping", 0x02, "a", 0x80, "b"), fromServer(0x81, "Hello", 0x8A, "ping", 0x82, "ab"), stillOpen},
		{"large message", fromClient(0x81, s), fromServer(0x81, s), stillOpen},
		{"close", fromClient(0x88, "\x03\xe8bye"), fromServer(0x88, "\x03\xe8"), answered},
		{"failure", fromClient(0x81, "Hello", unfinished(0x81, "\xff", 1000)), fromServer(0x81, "Hello"), failed(1007)},
	})
}

func TestConformance_4_2_2_accepted_handshake(t *testing.T) {
	const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	srv := serve(t, echo, websocket.Subprotocols("superchat", "chat"))
	for _, tc := range []struct {
		name    string
		changes []string
		extra   string
	}{
		{"the RFC's example", nil, ""},
		{"names and tokens in other case", []string{"Upgrade", "uPGRADE: WebSocket", "Connection", "CONNECTION: keep-alive, upgrade"}, ""},
		{"unknown headers", []string{"X-Unknown: ?", "Cookie: a=b"}, ""},
		{"no Origin", nil, ""},
		{"Origin of the host", []string{"Origin: http://" + wstest.Host}, ""},
		{"extensions are not agreed to", []string{"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, foo"}, ""},
		{"a subprotocol in both lists", []string{"Sec-WebSocket-Protocol: mqtt, chat"}, "Sec-WebSocket-Protocol: chat\r\n"},
		{"subprotocols on two lines", []string{"Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: chat"}, "Sec-WebSocket-Protocol: chat\r\n"},
		{"no subprotocols", []string{"Sec-WebSocket-Protocol: "}, ""},
		{"only commas for subprotocols", []string{"Sec-WebSocket-Protocol: ,, ,"}, ""},
		{"an empty line before the subprotocols", []string{"Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: mqtt,,chat"}, "Sec-WebSocket-Protocol: chat\r\n"},
		{"no extensions", []string{"Sec-WebSocket-Extensions: "}, ""},
		{"no subprotocol in both lists", []string{"Sec-WebSocket-Protocol: mqtt, CHAT"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := wstest.Dial(t, srv.Listener.Addr().String())
			// The first frame comes in the same segment as the request. The server
			// must not lose it.
			p.Write(append([]byte(wstest.Request(tc.changes...)), slices.Concat(fromClient(0x81, "early")...)...))
			p.ExpectBytes(append([]byte(accepted+tc.extra+"\r\n"), fromServer(0x81, "early")...))
			stillOpen.check(p)
		})
	}
}

func TestConformance_4_2_1_refused_handshake(t *testing.T) {
	srv := serve(t, echo, websocket.Subprotocols("chat"))
	post := strings.Replace(wstest.Request(), "GET", "POST", 1)
	post = strings.Replace(post, "\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1)
	for _, tc := range []struct {
		name, request string
		status        int
		header        string // that the response must have
	}{
		{"POST", post, 405, "Allow: GET"},
		{"HTTP/1.0", strings.Replace(wstest.Request(), "HTTP/1.1", "HTTP/1.0", 1), 426, "Upgrade: websocket"},
		{"no Host", wstest.Request("Host"), 400, ""},
		{"no Upgrade", wstest.Request("Upgrade"), 426, "Upgrade: websocket"},
		{"Upgrade to another protocol", wstest.Request("Upgrade: websockets"), 426, "Upgrade: websocket"},
		{"no Connection", wstest.Request("Connection"), 426, "Upgrade: websocket"},
		{"Connection without the token", wstest.Request("Connection: keep-alive"), 426, "Upgrade: websocket"},
		{"no key", wstest.Request("Sec-WebSocket-Key"), 400, ""},
		{"empty key", wstest.Request("Sec-WebSocket-Key: "), 400, ""},
		{"key of 15 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, ""},
		{"key of 17 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, ""},
		{"key that is not base64", wstest.Request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q=="), 400, ""},
		{"two keys", wstest.Request("Sec-WebSocket-Key: "+wstest.Key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400, ""},
		{"no version", wstest.Request("Sec-WebSocket-Version"), 426, "Sec-WebSocket-Version: 13"},
		{"version 8", wstest.Request("Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version: 13"},
		{"version 25", wstest.Request("Sec-WebSocket-Version: 25"), 426, "Sec-WebSocket-Version: 13"},
		{"version 013", wstest.Request("Sec-WebSocket-Version: 013"), 426, "Sec-WebSocket-Version: 13"},
		{"versions as a list", wstest.Request("Sec-WebSocket-Version: 13, 8"), 426, "Sec-WebSocket-Version: 13"},
		{"two versions", wstest.Request("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 426, "Sec-WebSocket-Version: 13"},
		{"another origin", wstest.Request("Origin: http://evil.test"), 403, ""},
		{"subprotocol that is not a token", wstest.Request("Sec-WebSocket-Protocol: chat, a b"), 400, ""},
		{"extension that is not a token", wstest.Request("Sec-WebSocket-Extensions: permessage deflate"), 400, ""},
		{"extension without a name", wstest.Request("Sec-WebSocket-Extensions: ; a=b"), 400, ""},
		{"extension parameter without a name", wstest.Request("Sec-WebSocket-Extensions: foo; =1"), 400, ""},
		{"extension parameter without its value", wstest.Request("Sec-WebSocket-Extensions: foo; a="), 400, ""},
		{"quoted extension parameter that is not a token", wstest.Request(`Sec-WebSocket-Extensions: foo; a="b c"`), 400, ""},
		{"extension parameter without its closing quote", wstest.Request(`Sec-WebSocket-Extensions: foo; a="b`), 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := wstest.Dial(t, srv.Listener.Addr().String())
			p.Conn.SetReadDeadline(time.Now().Add(wstest.Patience))
			// The connection ends, so the server does not answer the second request.
			p.Write([]byte(tc.request + "GET /admin HTTP/1.1\r\nHost: " + wstest.Host + "\r\n\r\n"))
			resp, err := http.ReadResponse(p.Buffer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || !resp.Close {
				t.Errorf("answered with Connection: close: %t, and a body that ends with %v", resp.Close, err)
			}
			p.ExpectEOF()
			if resp.StatusCode != tc.status {
				t.Errorf("answered with %s, want %d", resp.Status, tc.status)
			}
			if name, value, _ := strings.Cut(tc.header, ": "); resp.Header.Get(name) != value {
				t.Errorf("answered with %s %q, want %q", name, resp.Header.Get(name), value)
			}
			if accept := resp.Header.Get("Sec-WebSocket-Accept"); accept != "" {
				t.Errorf("refused with Sec-WebSocket-Accept %q", accept)
			}
		})
	}
}
