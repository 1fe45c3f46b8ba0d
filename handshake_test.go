package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// requestLine returns raw with line as its first line.
func requestLine(line, raw string) string {
	_, rest, _ := strings.Cut(raw, "\r\n")
	return line + "\r\n" + rest
}

// An upgradeServer is a real server on TCP whose handler calls Upgrade. It records the
// results of Upgrade, and closes the connections.
type upgradeServer struct {
	*httptest.Server
	results chan upgradeResult
}

type upgradeResult struct {
	conn *Conn
	err  error
	msg  []byte // the first message, if the test wants one
}

// newUpgradeServer serves Upgrade with opts on every path except /admin. If middleware is
// not nil, it wraps the handler.
func newUpgradeServer(t *testing.T, middleware func(http.Handler) http.Handler, opts ...Option) *upgradeServer {
	t.Helper()
	s := &upgradeServer{results: make(chan upgradeResult, 8)}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, opts...)
		if err != nil {
			s.results <- upgradeResult{conn: c, err: err}
			return
		}
		_, msg, err := c.ReceiveMessage()
		c.Close(StatusNormalClosure, "")
		s.results <- upgradeResult{c, err, msg}
	})
	if middleware != nil {
		h = middleware(h)
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/admin", func(w http.ResponseWriter, r *http.Request) { t.Error("the next request was served") })
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// dial opens a connection and sends raw in one segment.
func (s *upgradeServer) dial(t *testing.T, raw string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(nc, raw); err != nil {
		t.Fatal(err)
	}
	return nc, bufio.NewReader(nc)
}

// result waits for the results of Upgrade.
func (s *upgradeServer) result(t *testing.T) upgradeResult {
	t.Helper()
	select {
	case res := <-s.results:
		return res
	case <-time.After(10 * time.Second):
		t.Fatal("the handler did not return")
		panic("unreachable")
	}
}

// readResponse reads a response and its body.
func readResponse(t *testing.T, br *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return resp, string(body)
}

func TestUpgrade_answers_101(t *testing.T) {
	s := newUpgradeServer(t, nil)
	nc, br := s.dial(t, requestLine("GET /chat HTTP/1.1", wstest.Request()))
	want := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + wstest.Accept + "\r\n" +
		"\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
	nc.Close()
	res := s.result(t)
	if res.conn == nil {
		t.Fatalf("Upgrade returned %v", res.err)
	}
	if got := res.conn.Request().URL.Path; got != "/chat" {
		t.Errorf("Request has path %q, want /chat", got)
	}
	if got := res.conn.Subprotocol(); got != "" {
		t.Errorf("Subprotocol = %q, want none", got)
	}
}

func TestUpgrade_accepts(t *testing.T) {
	tests := []struct {
		name    string
		changes []string
	}{
		{"other case", []string{"Upgrade: WebSocket", "Connection: uPGRADE"}},
		{"lists", []string{"Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade"}},
		{"lists over several lines", []string{"Upgrade: h2c", "Upgrade: websocket", "Connection: keep-alive", "Connection: Upgrade"}},
		{"optional whitespace", []string{"Upgrade: \t websocket \t", "Connection: keep-alive\t, \tUpgrade,"}},
		{"empty elements", []string{"Upgrade: ,,websocket,", "Connection: , ,Upgrade"}},
		{"Content-Length: 0", []string{"Content-Length: 0"}},
		{"same origin", []string{"Origin: https://app.example"}},
		{"spare bits in the key", []string{"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB=="}},
		{"extensions, which are not negotiated", []string{"Sec-WebSocket-Extensions: permessage-deflate"}},
		{"subprotocols, of which none is spoken", []string{"Sec-WebSocket-Protocol: chat"}},
		{"no subprotocols in the header", []string{"Sec-WebSocket-Protocol: "}},
		{"no extensions in the header", []string{"Sec-WebSocket-Extensions: "}},
		{"only commas and whitespace", []string{"Sec-WebSocket-Protocol: , \t,", "Sec-WebSocket-Extensions: ,,"}},
		{"empty lines before and after", []string{
			"Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: ,",
			"Sec-WebSocket-Extensions: ", "Sec-WebSocket-Extensions: foo; a=b", "Sec-WebSocket-Extensions: ",
		}},
		{"empty elements of lists", []string{"Sec-WebSocket-Protocol: ,a,, b,", "Sec-WebSocket-Extensions: , foo ,,bar; a,"}},
	}
	s := newUpgradeServer(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc, br := s.dial(t, wstest.Request(test.changes...))
			resp, _ := readResponse(t, br)
			nc.Close()
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Errorf("status %d, want 101", resp.StatusCode)
			}
			for _, name := range []string{"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} {
				if got, ok := resp.Header[http.CanonicalHeaderKey(name)]; ok {
					t.Errorf("%s: %q, want none", name, got)
				}
			}
			if res := s.result(t); res.conn == nil {
				t.Errorf("Upgrade returned %v", res.err)
			}
		})
	}
}

// The next request on the connection of a refused request is not served. The policy, which
// runs code of the user, is not called for an invalid handshake.
func TestUpgrade_refuses(t *testing.T) {
	computes(t)
	upgradeRequired := http.Header{"Upgrade": {"websocket"}, "Connection": {"close", "Upgrade"}}
	versionRequired := http.Header{"Upgrade": {"websocket"}, "Connection": {"close", "Upgrade"}, "Sec-Websocket-Version": {"13"}}
	tests := []struct {
		name   string
		raw    string
		status int
		header http.Header
		body   []string
	}{
		{"POST", requestLine("POST /chat HTTP/1.1", wstest.Request()), 405, http.Header{"Allow": {"GET"}, "Connection": {"close"}}, []string{"GET", `"POST"`}},
		{"POST with a body", requestLine("POST /chat HTTP/1.1", wstest.Request("Content-Length: 3")) + "abc", 405, http.Header{"Allow": {"GET"}, "Connection": {"close"}}, []string{`"POST"`}},
		{"get", requestLine("get /chat HTTP/1.1", wstest.Request()), 405, http.Header{"Allow": {"GET"}, "Connection": {"close"}}, []string{`"get"`}},
		{"empty Host", wstest.Request("Host: "), 400, nil, []string{"Host"}},

		{"a browser's page load", wstest.Request("Upgrade", "Connection: keep-alive", "Sec-WebSocket-Key"), 426, upgradeRequired, []string{"WebSocket client", "no Upgrade", `Connection "keep-alive"`}},
		{"a proxy has removed the upgrade", wstest.Request("Upgrade", "Connection: close"), 426, upgradeRequired, []string{"no Upgrade", `Connection "close"`, "let the proxy before this server forward"}},
		{"no Upgrade", wstest.Request("Upgrade"), 426, upgradeRequired, []string{"no Upgrade"}},
		{"no Connection", wstest.Request("Connection"), 426, upgradeRequired, []string{"no Connection"}},
		{"another upgrade", wstest.Request("Upgrade: h2c"), 426, upgradeRequired, []string{`Upgrade "h2c"`}},
		{"part of a token in Upgrade", wstest.Request("Upgrade: websockets, xwebsocket, web socket"), 426, upgradeRequired, nil},
		{"part of a token in Connection", wstest.Request("Connection: Upgraded, no-upgrade"), 426, upgradeRequired, nil},
		{"websocket with a version", wstest.Request("Upgrade: websocket/13"), 426, upgradeRequired, nil},
		{"Kelvin sign for k", wstest.Request("Upgrade: websoc\u212aet"), 426, upgradeRequired, nil},
		{"long s for s", wstest.Request("Upgrade: web\u017focket"), 426, upgradeRequired, nil},

		{"no version", wstest.Request("Sec-WebSocket-Version"), 426, versionRequired, []string{"Sec-WebSocket-Version: 13", "no Sec-WebSocket-Version"}},
		{"empty version", wstest.Request("Sec-WebSocket-Version: "), 426, versionRequired, nil},
		{"version 8", wstest.Request("Sec-WebSocket-Version: 8"), 426, versionRequired, []string{`"8"`}},
		{"version 14", wstest.Request("Sec-WebSocket-Version: 14"), 426, versionRequired, nil},
		{"version 013", wstest.Request("Sec-WebSocket-Version: 013"), 426, versionRequired, nil},
		{"version +13", wstest.Request("Sec-WebSocket-Version: +13"), 426, versionRequired, nil},
		{"version list", wstest.Request("Sec-WebSocket-Version: 13, 8"), 426, versionRequired, []string{`"13, 8"`}},
		{"version twice", wstest.Request("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 426, versionRequired, []string{`"13, 13"`}},

		{"no key", wstest.Request("Sec-WebSocket-Key"), 400, nil, []string{"no Sec-WebSocket-Key", "16 random bytes in base64"}},
		{"empty key", wstest.Request("Sec-WebSocket-Key: "), 400, nil, nil},
		{"key twice", wstest.Request("Sec-WebSocket-Key: "+wstest.Key, "Sec-WebSocket-Key: "+wstest.Key), 400, nil, []string{wstest.Key + ", " + wstest.Key}},
		{"key of 15 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, nil, []string{`"AAAAAAAAAAAAAAAAAAAA"`}},
		{"key of 17 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, nil, nil},
		{"key of 18 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key of 24 bytes", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key without padding", wstest.Request("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key in base64url", wstest.Request("Sec-WebSocket-Key: -_AAAAAAAAAAAAAAAAAAAA=="), 400, nil, nil},
		{"key with text after", wstest.Request("Sec-WebSocket-Key: " + wstest.Key + "x"), 400, nil, nil},
		{"key that is not base64", wstest.Request("Sec-WebSocket-Key: <script>alert(1)</script"), 400, nil, []string{`"<script>`}},

		{"body with Content-Length", wstest.Request("Content-Length: 3") + "abc", 400, nil, []string{"no body", "Content-Length 3"}},
		{"chunked body", wstest.Request("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", 400, nil, []string{"no body"}},
		{"empty chunked body", wstest.Request("Transfer-Encoding: chunked") + "0\r\n\r\n", 400, nil, []string{"no body", `Transfer-Encoding "chunked"`}},
	}
	s := newUpgradeServer(t, nil, AcceptConnection(func(*http.Request) bool {
		t.Error("the policy was called for an invalid handshake")
		return true
	}))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, br := s.dial(t, test.raw+nextRequest)
			resp, body := readRefusal(t, br)
			if resp.StatusCode != test.status {
				t.Errorf("status %d, want %d", resp.StatusCode, test.status)
			}
			for name, want := range test.header {
				if got := resp.Header[name]; !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if got := resp.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type %q, want text/plain", got)
			}
			if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options %q, want nosniff", got)
			}
			for _, want := range test.body {
				if !strings.Contains(body, want) {
					t.Errorf("body %q, want %q in it", body, want)
				}
			}
			checkRefusal(t, s.result(t), test.status, strings.TrimSuffix(body, "\n"))
		})
	}
}

// checkRefusal checks the results of Upgrade for a request that it refused.
func checkRefusal(t *testing.T, res upgradeResult, status int, reason string) {
	t.Helper()
	if res.conn != nil {
		t.Error("Upgrade returned a Conn and an error")
	}
	var refused *HandshakeError
	if !errors.As(res.err, &refused) {
		t.Fatalf("Upgrade returned %v, want a *HandshakeError", res.err)
	}
	if refused.Status != status || refused.Reason != reason {
		t.Errorf("HandshakeError{%d, %q}, want {%d, %q}", refused.Status, refused.Reason, status, reason)
	}
}

func TestUpgrade_refuses_HTTP_1_0(t *testing.T) {
	s := newUpgradeServer(t, nil)
	_, br := s.dial(t, requestLine("GET /chat HTTP/1.0", wstest.Request("Connection: Upgrade, keep-alive"))+nextRequest)
	resp, body := readRefusal(t, br)
	if resp.StatusCode != 426 || resp.Header.Get("Upgrade") != "websocket" {
		t.Errorf("status %d, Upgrade %q, want 426, websocket", resp.StatusCode, resp.Header.Get("Upgrade"))
	}
	if want := "WebSocket handshakes need HTTP/1.1; this request came as HTTP/1.0: connect with a WebSocket client, and let proxies forward the handshake as HTTP/1.1"; body != want+"\n" {
		t.Errorf("body %q, want %q", body, want)
	}
	checkRefusal(t, s.result(t), 426, strings.TrimSuffix(body, "\n"))
}

func TestUpgrade_refuses_HTTP_2(t *testing.T) {
	results := make(chan upgradeResult, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r)
		results <- upgradeResult{conn: c, err: err}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()

	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != 2 || resp.StatusCode != 426 {
		t.Fatalf("%s status %d, want HTTP/2.0 426", resp.Proto, resp.StatusCode)
	}
	if want := "WebSocket handshakes need HTTP/1.1; this request came as HTTP/2.0: connect with a WebSocket client, and let proxies forward the handshake as HTTP/1.1"; string(body) != want+"\n" {
		t.Errorf("body %q, want %q", body, want)
	}
	for _, name := range []string{"Upgrade", "Connection"} {
		if got, ok := resp.Header[name]; ok {
			t.Errorf("%s: %q, which HTTP/2 forbids", name, got)
		}
	}
	checkRefusal(t, <-results, 426, strings.TrimSuffix(string(body), "\n"))
}

func TestUpgrade_denies_access(t *testing.T) {
	s := newUpgradeServer(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1") // of another body
			next.ServeHTTP(w, r)
		})
	})
	_, br := s.dial(t, wstest.Request("Origin: https://evil.example")+nextRequest)
	resp, body := readRefusal(t, br)
	want := `Origin "https://evil.example" is not allowed to open a WebSocket on "app.example": ` +
		`connect from a page of the same origin, or let the server allow this one with AllowOrigins; ` +
		`a proxy before the server must not change the Host header`
	wantBody := "<h1>Access denied</h1>\n<p>" + strings.ReplaceAll(want, `"`, "&#34;") + "</p>\n"
	if resp.StatusCode != 403 || body != wantBody {
		t.Errorf("status %d, body %q, want 403, %q", resp.StatusCode, body, wantBody)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q, want HTML", got)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q, want nosniff", got)
	}
	checkRefusal(t, s.result(t), 403, want)
}

func TestUpgrade_escapes_the_denied_origin(t *testing.T) {
	s := newUpgradeServer(t, nil)
	_, br := s.dial(t, wstest.Request("Origin: </p><script>alert('x')</script>"))
	_, body := readResponse(t, br)
	if strings.Contains(body, "<script") || !strings.Contains(body, "&lt;script&gt;") {
		t.Errorf("body %q, want the Origin escaped", body)
	}
	s.result(t)
}

func TestUpgrade_denies_by_a_policy_and_a_handler_of_the_user(t *testing.T) {
	s := newUpgradeServer(t, nil,
		AcceptConnection(func(r *http.Request) bool { return r.URL.Query().Has("token") }),
		AccessDenied(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "log in first", http.StatusUnauthorized)
		})))
	_, br := s.dial(t, wstest.Request()+nextRequest)
	resp, body := readRefusal(t, br)
	if resp.StatusCode != 401 || body != "log in first\n" || resp.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("got %d %q, want the answer of AccessDenied's handler", resp.StatusCode, body)
	}
	checkRefusal(t, s.result(t), 403,
		`this request is not allowed to open a WebSocket on "app.example": the server's own rules do not allow it`)
}

func TestAcceptKey(t *testing.T) {
	if got := AcceptKey(wstest.Key); got != wstest.Accept {
		t.Errorf("AcceptKey(%q) = %q, want %q", wstest.Key, got, wstest.Accept)
	}
	for _, key := range []string{"", "x", strings.Repeat("long", 100)} {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		if got, want := AcceptKey(key), base64.StdEncoding.EncodeToString(sum[:]); got != want {
			t.Errorf("AcceptKey(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestIsToken(t *testing.T) {
	for _, s := range []string{"chat", "v1.json", "!#$%&'*+-.^_`|~09azAZ"} {
		if !isToken(s) {
			t.Errorf("isToken(%q) = false, want true", s)
		}
	}
	for _, s := range []string{"", " ", "a b", "a,b", "a;b", "a/b", "a:b", `"a"`, "(a)", "a\r\n", "a\x00", "a\x7f", "é", "\u212a", "a=b", "@", "[", "{", "\\", "<", "?"} {
		if isToken(s) {
			t.Errorf("isToken(%q) = true, want false", s)
		}
	}
}

func BenchmarkAcceptKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		AcceptKey(wstest.Key)
	}
}

// A discardConn drops all writes, and its reads return io.EOF. It does not allocate.
type discardConn struct{ *wstest.Socket }

func (discardConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (discardConn) Write(p []byte) (int, error) { return len(p), nil }
func (discardConn) Close() error                { return nil }

// BenchmarkUpgrade measures the part of this package in a handshake, and the end of the
// Conn, without the network and net/http's parser.
func BenchmarkUpgrade(b *testing.B) {
	r := wstest.ReadRequest(wstest.Request())
	o := newOptions([]Option{PingInterval(0), ConnectionTimeout(0), CloseTimeout(0)})
	w := &wstest.Hijacker{Conn: discardConn{wstest.Repeat([]byte{0})}}
	b.ReportAllocs()
	for b.Loop() {
		c, err := upgrade(w, r, o, nil)
		if err != nil {
			b.Fatal(err)
		}
		c.Close(StatusNormalClosure, "")
	}
}

// RFC 6455 section 9.1: a quoted value must be a token after its quoted-pairs (RFC 2616
// section 2.2) were replaced.
func TestHandshake_quoted_extension_parameters(t *testing.T) {
	srv := startServer(t, noop)
	for value, want := range map[string]int{
		`"b"`:       101,
		`"b\c"`:     101,
		`"\b\c"`:    101,
		`"\b" ; d`:  101,
		`"b\\c"`:    400, // a backslash cannot be in a token
		`"\\"`:      400,
		`"b\\"`:     400,
		`"b\\\c"`:   400,
		`"b\"c"`:    400, // a quote cannot be in a token
		`"b\"`:      400, // a quote after a backslash does not end the string
		`"\"`:       400,
		`"b\ c"`:    400,
		`"b\;c"`:    400,
		`b\c`:       400, // there are no quoted-pairs outside of quotes
		`"b\c" "d"`: 400,
		`"b"\c`:     400,
	} {
		t.Run(value, func(t *testing.T) {
			p := dialTCP(t, srv)
			p.Write([]byte(wstest.Request("Sec-WebSocket-Extensions: foo; a=" + value)))
			resp, _ := readResponse(t, p.Buffer)
			if resp.StatusCode != want {
				t.Errorf("got status %d, want %d", resp.StatusCode, want)
			}
			p.Conn.Close()
		})
	}
}
