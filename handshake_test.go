package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The key and its answer are those of RFC 6455 section 1.3.
const (
	rfcKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	rfcAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// rawHandshake is a valid request, byte for byte, with lines replaced by those
// of the same name in changes: "Upgrade" alone takes the line out, and a change
// of an already changed name adds another line.
func rawHandshake(changes ...string) string {
	lines := []string{
		"GET /chat HTTP/1.1",
		"Host: app.example",
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Key: " + rfcKey,
		"Sec-WebSocket-Version: 13",
	}
	changed := map[string]bool{}
	for _, change := range changes {
		name, _, hasValue := strings.Cut(change, ": ")
		if !changed[name] {
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+": ") })
			changed[name] = true
		}
		if hasValue {
			lines = append(lines, change)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// requestLine replaces the first line of a raw request.
func requestLine(line, raw string) string {
	_, rest, _ := strings.Cut(raw, "\r\n")
	return line + "\r\n" + rest
}

// upgradeServer is a real server on TCP whose handler is Upgrade. It takes down
// what Upgrade returned, and closes the connections that it made.
type upgradeServer struct {
	*httptest.Server
	results chan upgradeResult
}

type upgradeResult struct {
	conn *Conn
	err  error
	msg  []byte // the first message, where one was asked for
}

// newUpgradeServer serves Upgrade with opts on every path but /alive, behind
// middleware where that is not nil.
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
	mux.HandleFunc("/alive", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "alive") })
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

// result waits for what Upgrade returned.
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
	nc, br := s.dial(t, rawHandshake())
	want := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + rfcAccept + "\r\n" +
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
	}
	s := newUpgradeServer(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc, br := s.dial(t, rawHandshake(test.changes...))
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

// A refused request leaves the connection to net/http: the next request on it
// is served, and the policy that runs code of the user has not been asked.
func TestUpgrade_refuses(t *testing.T) {
	upgradeRequired := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
	versionRequired := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}}
	tests := []struct {
		name   string
		raw    string
		status int
		header http.Header
		body   []string
	}{
		{"POST", requestLine("POST /chat HTTP/1.1", rawHandshake()), 405, http.Header{"Allow": {"GET"}}, []string{"GET", `"POST"`}},
		{"POST with a body", requestLine("POST /chat HTTP/1.1", rawHandshake("Content-Length: 3")) + "abc", 405, http.Header{"Allow": {"GET"}}, []string{`"POST"`}},
		{"get", requestLine("get /chat HTTP/1.1", rawHandshake()), 405, http.Header{"Allow": {"GET"}}, []string{`"get"`}},
		{"empty Host", rawHandshake("Host: "), 400, nil, []string{"Host"}},

		{"a browser's page load", rawHandshake("Upgrade", "Connection: keep-alive"), 426, upgradeRequired, []string{"WebSocket client", "no Upgrade", `Connection "keep-alive"`}},
		{"no Upgrade", rawHandshake("Upgrade"), 426, upgradeRequired, []string{"no Upgrade"}},
		{"no Connection", rawHandshake("Connection"), 426, upgradeRequired, []string{"no Connection"}},
		{"another upgrade", rawHandshake("Upgrade: h2c"), 426, upgradeRequired, []string{`Upgrade "h2c"`}},
		{"part of a token in Upgrade", rawHandshake("Upgrade: websockets, xwebsocket, web socket"), 426, upgradeRequired, nil},
		{"part of a token in Connection", rawHandshake("Connection: Upgraded, no-upgrade"), 426, upgradeRequired, nil},
		{"websocket with a version", rawHandshake("Upgrade: websocket/13"), 426, upgradeRequired, nil},
		{"Kelvin sign for k", rawHandshake("Upgrade: websoc\u212aet"), 426, upgradeRequired, nil},
		{"long s for s", rawHandshake("Upgrade: web\u017focket"), 426, upgradeRequired, nil},

		{"no version", rawHandshake("Sec-WebSocket-Version"), 426, versionRequired, []string{"Sec-WebSocket-Version: 13", "no Sec-WebSocket-Version"}},
		{"empty version", rawHandshake("Sec-WebSocket-Version: "), 426, versionRequired, nil},
		{"version 8", rawHandshake("Sec-WebSocket-Version: 8"), 426, versionRequired, []string{`"8"`}},
		{"version 14", rawHandshake("Sec-WebSocket-Version: 14"), 426, versionRequired, nil},
		{"version 013", rawHandshake("Sec-WebSocket-Version: 013"), 426, versionRequired, nil},
		{"version +13", rawHandshake("Sec-WebSocket-Version: +13"), 426, versionRequired, nil},
		{"version list", rawHandshake("Sec-WebSocket-Version: 13, 8"), 426, versionRequired, []string{`"13, 8"`}},
		{"version twice", rawHandshake("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 426, versionRequired, []string{`"13, 13"`}},

		{"no key", rawHandshake("Sec-WebSocket-Key"), 400, nil, []string{"no Sec-WebSocket-Key", "16 random bytes in base64"}},
		{"empty key", rawHandshake("Sec-WebSocket-Key: "), 400, nil, nil},
		{"key twice", rawHandshake("Sec-WebSocket-Key: "+rfcKey, "Sec-WebSocket-Key: "+rfcKey), 400, nil, []string{rfcKey + ", " + rfcKey}},
		{"key of 15 bytes", rawHandshake("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, nil, []string{`"AAAAAAAAAAAAAAAAAAAA"`}},
		{"key of 17 bytes", rawHandshake("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, nil, nil},
		{"key of 18 bytes", rawHandshake("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key of 24 bytes", rawHandshake("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key without padding", rawHandshake("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA"), 400, nil, nil},
		{"key in base64url", rawHandshake("Sec-WebSocket-Key: -_AAAAAAAAAAAAAAAAAAAA=="), 400, nil, nil},
		{"key with text behind", rawHandshake("Sec-WebSocket-Key: " + rfcKey + "x"), 400, nil, nil},
		{"key that is not base64", rawHandshake("Sec-WebSocket-Key: <script>alert(1)</script"), 400, nil, []string{`"<script>`}},

		{"body with Content-Length", rawHandshake("Content-Length: 3") + "abc", 400, nil, []string{"no body"}},
		{"chunked body", rawHandshake("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", 400, nil, []string{"no body"}},
		{"empty chunked body", rawHandshake("Transfer-Encoding: chunked") + "0\r\n\r\n", 400, nil, []string{"no body"}},
	}
	s := newUpgradeServer(t, nil, AcceptConnection(func(*http.Request) bool {
		t.Error("the policy was asked about an invalid handshake")
		return true
	}))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc, br := s.dial(t, test.raw)
			resp, body := readResponse(t, br)
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
			checkAlive(t, nc, br)
		})
	}
}

// checkRefusal checks what Upgrade returned for a request that it refused.
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

// checkAlive sends another request on the connection of a refused one.
func checkAlive(t *testing.T, nc net.Conn, br *bufio.Reader) {
	t.Helper()
	if _, err := io.WriteString(nc, "GET /alive HTTP/1.1\r\nHost: app.example\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, body := readResponse(t, br); body != "alive" {
		t.Errorf("the next request got %q, want alive", body)
	}
}

func TestUpgrade_refuses_HTTP_1_0(t *testing.T) {
	s := newUpgradeServer(t, nil)
	_, br := s.dial(t, requestLine("GET /chat HTTP/1.0", rawHandshake()))
	resp, body := readResponse(t, br)
	if resp.StatusCode != 426 || resp.Header.Get("Upgrade") != "websocket" {
		t.Errorf("status %d, Upgrade %q, want 426, websocket", resp.StatusCode, resp.Header.Get("Upgrade"))
	}
	if want := "WebSocket handshakes need HTTP/1.1; this request came as HTTP/1.0"; body != want+"\n" {
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
	if want := "WebSocket handshakes need HTTP/1.1; this request came as HTTP/2.0"; string(body) != want+"\n" {
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
			w.Header().Set("Content-Length", "1") // of a body that is not this one
			next.ServeHTTP(w, r)
		})
	})
	nc, br := s.dial(t, rawHandshake("Origin: https://evil.example"))
	resp, body := readResponse(t, br)
	want := `Origin "https://evil.example" is not allowed to open a WebSocket on "app.example": ` +
		`connect from a page of the same origin, or have this one allowed there`
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
	checkAlive(t, nc, br)
}

func TestUpgrade_escapes_the_denied_origin(t *testing.T) {
	s := newUpgradeServer(t, nil)
	_, br := s.dial(t, rawHandshake("Origin: </p><script>alert('x')</script>"))
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
			http.Error(w, "who are you?", http.StatusUnauthorized)
		})))
	nc, br := s.dial(t, rawHandshake())
	resp, body := readResponse(t, br)
	if resp.StatusCode != 401 || body != "who are you?\n" || resp.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("got %d %q, want the answer of AccessDenied's handler", resp.StatusCode, body)
	}
	checkRefusal(t, s.result(t), 403,
		`this request is not allowed to open a WebSocket on "app.example": the server's own rules refuse it`)
	checkAlive(t, nc, br)
}

func TestUpgrade_subprotocol(t *testing.T) {
	tests := []struct {
		name  string
		ours  []string
		lines []string
		want  string
	}{
		{"none spoken", nil, []string{"chat"}, ""},
		{"none offered", []string{"chat"}, nil, ""},
		{"one", []string{"chat"}, []string{"chat"}, "chat"},
		{"the server's first", []string{"v2", "v1"}, []string{"v1, v2"}, "v2"},
		{"the first in common", []string{"v3", "v2", "v1"}, []string{"v1,v2"}, "v2"},
		{"over several lines", []string{"v2", "v1"}, []string{"v0, v1", "v2"}, "v2"},
		{"whitespace and empty elements", []string{"v1"}, []string{" ,\tv1\t, "}, "v1"},
		{"other case", []string{"chat"}, []string{"Chat, CHAT"}, ""},
		{"part of a name", []string{"chat"}, []string{"chat2, superchat"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, nil, Subprotocols(test.ours...))
			var changes []string
			for _, line := range test.lines {
				changes = append(changes, "Sec-WebSocket-Protocol: "+line)
			}
			nc, br := s.dial(t, rawHandshake(changes...))
			resp, _ := readResponse(t, br)
			nc.Close()
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if got := resp.Header["Sec-Websocket-Protocol"]; !slices.Equal(got, want) {
				t.Errorf("Sec-WebSocket-Protocol: %q, want %q", got, want)
			}
			if res := s.result(t); res.conn == nil || res.conn.Subprotocol() != test.want {
				t.Errorf("Upgrade returned %v, %v, want a Conn of subprotocol %q", res.conn, res.err, test.want)
			}
		})
	}
}

// withHeader is middleware that sets headers, in whatever way.
func withHeader(set func(http.Header)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set(w.Header())
			next.ServeHTTP(w, r)
		})
	}
}

func TestUpgrade_keeps_headers_of_middleware(t *testing.T) {
	s := newUpgradeServer(t, withHeader(func(h http.Header) {
		h.Add("Set-Cookie", "a=1; HttpOnly")
		h.Add("Set-Cookie", "b=2")
		h.Set("X-Request-Id", "4711")
		h["x-lower"] = []string{"kept"}
		h["X-None"] = nil
		h.Set("Content-Security-Policy", "default-src 'self'")
	}), Subprotocols("chat"))
	nc, br := s.dial(t, rawHandshake("Sec-WebSocket-Protocol: chat"))
	resp, _ := readResponse(t, br)
	nc.Close()
	want := http.Header{
		"Upgrade":                 {"websocket"},
		"Connection":              {"Upgrade"},
		"Sec-Websocket-Accept":    {rfcAccept},
		"Sec-Websocket-Protocol":  {"chat"},
		"Set-Cookie":              {"a=1; HttpOnly", "b=2"},
		"X-Request-Id":            {"4711"},
		"X-Lower":                 {"kept"},
		"Content-Security-Policy": {"default-src 'self'"},
	}
	if !reflect.DeepEqual(resp.Header, want) {
		t.Errorf("header %q, want %q", resp.Header, want)
	}
	s.result(t)
}

// Neither middleware that means well nor text that it copies from the request
// can change the handshake, give a 101 a body, or end a header.
func TestUpgrade_lets_nothing_be_injected(t *testing.T) {
	tests := []struct {
		name string
		set  func(http.Header)
		want http.Header // beside those of the handshake
	}{
		{"the handshake's own headers", func(h http.Header) {
			for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Version"} {
				h.Set(name, "evil")
				h[strings.ToLower(name)] = []string{"evil"}
				h[strings.ToUpper(name)] = []string{"evil"}
				h[name] = []string{"evil"}
			}
		}, nil},
		{"a body", func(h http.Header) {
			for _, name := range []string{"Content-Length", "Transfer-Encoding", "Trailer", "TE", "Content-Type", "Content-Encoding", "Content-Range"} {
				h.Set(name, "5")
				h[strings.ToLower(name)] = []string{"5"}
				h[strings.ToUpper(name)] = []string{"5"}
			}
			h.Set(http.TrailerPrefix+"X", "5")
		}, nil},
		{"the life of the connection", func(h http.Header) {
			h.Set("Keep-Alive", "timeout=5")
			h.Set("Proxy-Connection", "close")
		}, nil},
		{"newlines in a value", func(h http.Header) {
			h.Set("X-Request-Id", "a\r\nSet-Cookie: evil=1\r\n\r\n\x81\x00")
		}, http.Header{"X-Request-Id": {"a  Set-Cookie: evil=1    \x81\x00"}}},
		{"a newline in a name", func(h http.Header) {
			h["X-A: 1\r\nSet-Cookie"] = []string{"evil=1"}
		}, nil},
		{"names that are none", func(h http.Header) {
			h[""] = []string{"evil"}
			h["X A"] = []string{"evil"}
			h["X:A"] = []string{"evil"}
			h["\u212aeep"] = []string{"evil"}
		}, nil},
		{"a name in other letters", func(h http.Header) {
			h["sec-websoc\u212aet-accept"] = []string{"evil"}
			h["Sec-WebſSocket-Accept"] = []string{"evil"}
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			extra := http.Header{}
			test.set(extra)
			raw := appendResponse(nil, rfcKey, "chat", extra)
			if n := bytes.Count(raw, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
				t.Fatalf("%d ends of the header in %q", n, raw)
			}
			for line := range bytes.SplitSeq(raw, []byte("\n")) {
				if bytes.Contains(bytes.TrimSuffix(line, []byte("\r")), []byte("\r")) {
					t.Errorf("a bare CR in %q", line)
				}
			}
			want := http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
				"Sec-Websocket-Accept": {rfcAccept}, "Sec-Websocket-Protocol": {"chat"},
			}
			for name, values := range test.want {
				want[name] = values
			}
			// Not http.ReadResponse: that refuses some of what must not be there.
			got := http.Header{}
			lines := strings.Split(strings.TrimSuffix(string(raw), "\r\n\r\n"), "\r\n")
			for _, line := range lines[1:] {
				name, value, _ := strings.Cut(line, ": ")
				got.Add(name, value)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("header %q, want %q", got, want)
			}
		})
	}
}

// maskedText is a frame as a client sends it.
func maskedText(text string) string {
	f := Frame{Header: Header{Fin: true, Opcode: Text, Masked: true, MaskKey: [4]byte{1, 2, 3, 4}}, Payload: []byte(text)}
	Mask(f.Payload, f.MaskKey, 0)
	return string(AppendFrame(nil, f))
}

func TestUpgrade_loses_nothing_behind_the_handshake(t *testing.T) {
	tests := []struct {
		name          string
		behind, later string
		want          string
	}{
		{"a frame", maskedText("hello"), "", "hello"},
		{"the first byte of one", maskedText("hello")[:1], maskedText("hello")[1:], "hello"},
		{"all but its last byte", maskedText("hello")[:10], maskedText("hello")[10:], "hello"},
		{"more than net/http reads at once", maskedText(strings.Repeat("x", 10_000)), "", strings.Repeat("x", 10_000)},
		{"nothing", "", maskedText("hello"), "hello"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, nil)
			nc, br := s.dial(t, rawHandshake()+test.behind)
			resp, _ := readResponse(t, br)
			if resp.StatusCode != 101 {
				t.Fatalf("status %d, want 101", resp.StatusCode)
			}
			io.WriteString(nc, test.later)
			closeFrame, err := ReadFrame(br, 125) // the handler has the message and closes
			if err != nil || closeFrame.Opcode != Close {
				t.Errorf("got frame %+v, %v, want a close", closeFrame, err)
			}
			nc.Close()
			if res := s.result(t); string(res.msg) != test.want {
				t.Errorf("received %d bytes, %v, want %d", len(res.msg), res.err, len(test.want))
			}
		})
	}
}

// A request behind the handshake is not one any more: its bytes are a frame, and
// a bad one.
func TestUpgrade_serves_no_request_behind_the_handshake(t *testing.T) {
	s := newUpgradeServer(t, nil)
	_, br := s.dial(t, rawHandshake()+"GET /alive HTTP/1.1\r\nHost: app.example\r\n\r\n")
	if resp, _ := readResponse(t, br); resp.StatusCode != 101 {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	f, err := ReadFrame(br, 125)
	if err != nil || f.Opcode != Close || !bytes.HasPrefix(f.Payload, []byte{1002 >> 8, 1002 & 0xff}) {
		t.Errorf("got frame %+v, %v, want a close with 1002", f, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Errorf("got %q behind the close frame, want nothing", rest)
	}
	if res := s.result(t); !errors.Is(res.err, ErrProtocol) {
		t.Errorf("ReceiveMessage returned %v, want ErrProtocol", res.err)
	}
}

// plainWrapper is middleware's ResponseWriter that knows nothing of hijacking.
type plainWrapper struct{ http.ResponseWriter }

// unwrapper can at least be looked through.
type unwrapper struct{ http.ResponseWriter }

func (w unwrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hijackWrapper has a Hijack method of its own.
type hijackWrapper struct {
	http.ResponseWriter
	hijack func() (net.Conn, *bufio.ReadWriter, error)
}

func (w hijackWrapper) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

// wrapped is middleware that replaces the ResponseWriter.
func wrapped(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

func TestUpgrade_through_wrapped_ResponseWriters(t *testing.T) {
	s := newUpgradeServer(t, wrapped(func(w http.ResponseWriter) http.ResponseWriter {
		return unwrapper{unwrapper{w}}
	}))
	nc, br := s.dial(t, rawHandshake())
	resp, _ := readResponse(t, br)
	nc.Close()
	if resp.StatusCode != 101 {
		t.Errorf("status %d, want 101", resp.StatusCode)
	}
	if res := s.result(t); res.conn == nil {
		t.Errorf("Upgrade returned %v", res.err)
	}
}

func TestUpgrade_names_what_cannot_be_hijacked(t *testing.T) {
	noConn := func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }
	failing := func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("not today") }
	tests := []struct {
		name       string
		middleware func(http.Handler) http.Handler
		want       string
	}{
		{
			"http.TimeoutHandler",
			func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") },
			"*http.timeoutWriter cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"a wrapper",
			wrapped(func(w http.ResponseWriter) http.ResponseWriter { return &plainWrapper{w} }),
			"*websocket.plainWrapper cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"a wrapper in one that can be looked through",
			wrapped(func(w http.ResponseWriter) http.ResponseWriter { return unwrapper{plainWrapper{w}} }),
			"websocket.unwrapper around websocket.plainWrapper cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"an error",
			wrapped(func(w http.ResponseWriter) http.ResponseWriter { return hijackWrapper{w, failing} }),
			"hijacking the connection from websocket.hijackWrapper: not today",
		},
		{
			"no connection and no error",
			wrapped(func(w http.ResponseWriter) http.ResponseWriter { return hijackWrapper{w, noConn} }),
			"hijacking the connection from websocket.hijackWrapper: its Hijack method returned no connection",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, test.middleware)
			nc, br := s.dial(t, rawHandshake())
			resp, body := readResponse(t, br)
			if resp.StatusCode != 500 || body != test.want+"\n" {
				t.Errorf("got %d %q, want 500 %q", resp.StatusCode, body, test.want)
			}
			checkRefusal(t, s.result(t), 500, test.want)
			checkAlive(t, nc, br)
		})
	}
}

// memoryConn is a connection without a network: it takes what is written and
// has nothing to read.
type memoryConn struct {
	written   bytes.Buffer
	writes    int
	writeErr  error
	deadlines []deadlineCall
	closed    bool
}

// deadlineCall is one of SetDeadline, SetReadDeadline and SetWriteDeadline, and
// whether it set a deadline or took it away.
type deadlineCall struct {
	which string
	set   bool
}

func (c *memoryConn) Read([]byte) (int, error) { return 0, io.EOF }

func (c *memoryConn) Write(p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	c.writes++
	return c.written.Write(p)
}

func (c *memoryConn) Close() error {
	c.closed = true
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(t time.Time) error      { return c.note("both", t) }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { return c.note("read", t) }
func (c *memoryConn) SetWriteDeadline(t time.Time) error { return c.note("write", t) }

func (c *memoryConn) note(which string, t time.Time) error {
	c.deadlines = append(c.deadlines, deadlineCall{which, !t.IsZero()})
	return nil
}

// memoryHijacker is a ResponseWriter that hands out a memoryConn.
type memoryHijacker struct {
	httptest.ResponseRecorder
	conn *memoryConn
	brw  *bufio.ReadWriter
}

func (h *memoryHijacker) Header() http.Header { return nil }

func (h *memoryHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.brw, nil }

// upgradeRequest is the request of RFC 6455 section 1.2.
func upgradeRequest(t testing.TB) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(rawHandshake())))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTakeOver_copies_then_releases_the_buffers(t *testing.T) {
	nc := &memoryConn{}
	br := bufio.NewReader(strings.NewReader("first frame"))
	bw := bufio.NewWriter(io.Discard)
	if _, err := br.Peek(1); err != nil {
		t.Fatal(err)
	}
	inside, _ := br.Peek(br.Buffered())
	buffered, err := takeOver(nc, bufio.NewReadWriter(br, bw), []byte("response"), time.Minute)
	if err != nil || string(buffered) != "first frame" || nc.written.String() != "response" {
		t.Fatalf("takeOver = %q, %v and wrote %q", buffered, err, nc.written.String())
	}
	clear(inside)
	if string(buffered) != "first frame" {
		t.Error("what takeOver returned is a view into the buffer of net/http")
	}
	if br.Size() != 0 || bw.Size() != 0 {
		t.Errorf("buffers of %d and %d bytes are still held, want 0", br.Size(), bw.Size())
	}
	// As a wrapper that keeps them in a pool would use them again.
	br.Reset(strings.NewReader("next"))
	if got, err := io.ReadAll(br); string(got) != "next" || err != nil {
		t.Errorf("after Reset the Reader gave %q, %v", got, err)
	}
}

func TestTakeOver_deadlines(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		want    []deadlineCall
	}{
		{"with a timeout", time.Minute, []deadlineCall{{"both", false}, {"write", true}, {"write", false}}},
		{"without", 0, []deadlineCall{{"both", false}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc := &memoryConn{}
			if _, err := takeOver(nc, &bufio.ReadWriter{}, []byte("response"), test.timeout); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(nc.deadlines, test.want) {
				t.Errorf("deadlines: %v, want %v", nc.deadlines, test.want)
			}
			if nc.writes != 1 {
				t.Errorf("%d writes, want 1", nc.writes)
			}
		})
	}
}

func TestTakeOver_sends_first_what_a_wrapper_has_buffered(t *testing.T) {
	nc := &memoryConn{}
	brw := &bufio.ReadWriter{Writer: bufio.NewWriter(nc)}
	brw.WriteString("HTTP/1.1 103 Early Hints\r\n\r\n")
	if _, err := takeOver(nc, brw, []byte("response"), 0); err != nil {
		t.Fatal(err)
	}
	if got := nc.written.String(); got != "HTTP/1.1 103 Early Hints\r\n\r\nresponse" {
		t.Errorf("wrote %q", got)
	}
}

// Bare Hijack methods return no buffers, or not both.
func TestUpgrade_without_buffers(t *testing.T) {
	for _, brw := range []*bufio.ReadWriter{nil, {}, {Reader: &bufio.Reader{}}, {Writer: &bufio.Writer{}}} {
		w := &memoryHijacker{conn: &memoryConn{}, brw: brw}
		c, err := Upgrade(w, upgradeRequest(t))
		if err != nil {
			t.Errorf("Upgrade returned %v", err)
			continue
		}
		c.Close(StatusNormalClosure, "")
	}
}

func TestUpgrade_when_the_response_cannot_be_sent(t *testing.T) {
	pending := func(nc net.Conn) *bufio.ReadWriter {
		brw := &bufio.ReadWriter{Writer: bufio.NewWriter(nc)}
		brw.WriteByte('x')
		return brw
	}
	for _, buffers := range []func(net.Conn) *bufio.ReadWriter{
		func(net.Conn) *bufio.ReadWriter { return nil },
		pending,
	} {
		nc := &memoryConn{writeErr: os.ErrDeadlineExceeded}
		c, err := Upgrade(&memoryHijacker{conn: nc, brw: buffers(nc)}, upgradeRequest(t))
		if c != nil {
			t.Error("Upgrade returned a Conn and an error")
		}
		if !nc.closed {
			t.Error("the connection was left open")
		}
		var refused *HandshakeError
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &refused) {
			t.Errorf("Upgrade returned %v, want os.ErrDeadlineExceeded, and no HandshakeError", err)
		}
		if got := CloseStatus(err); got != StatusAbnormalClosure {
			t.Errorf("CloseStatus = %v, want 1006", got)
		}
	}
}

// The deadlines of the http.Server end with the handshake.
func TestUpgrade_outlives_the_timeouts_of_the_server(t *testing.T) {
	readable := make(chan error, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What a server with a ReadTimeout does, or middleware.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Minute))
		past := hijackWrapper{w, func() (net.Conn, *bufio.ReadWriter, error) {
			nc, brw, err := http.NewResponseController(w).Hijack()
			if err == nil {
				nc.SetDeadline(time.Unix(1, 0))
			}
			return nc, brw, err
		}}
		c, err := Upgrade(past, r)
		if err != nil {
			readable <- err
			return
		}
		_, _, err = c.ReceiveMessage()
		c.Close(StatusNormalClosure, "")
		readable <- err
	}))
	s.Start()
	defer s.Close()
	server := &upgradeServer{Server: s}
	nc, br := server.dial(t, rawHandshake())
	if resp, _ := readResponse(t, br); resp.StatusCode != 101 {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	io.WriteString(nc, maskedText("hello"))
	if f, err := ReadFrame(br, 125); err != nil || f.Opcode != Close {
		t.Errorf("got frame %+v, %v, want a close", f, err)
	}
	nc.Close()
	if err := <-readable; err != nil {
		t.Errorf("ReceiveMessage returned %v", err)
	}
}

func TestUpgrade_panics_on_options_out_of_range(t *testing.T) {
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, "option 1 is nil") {
			t.Errorf("panic %q, want one that names the option", text)
		}
	}()
	Upgrade(httptest.NewRecorder(), upgradeRequest(t), nil)
}

func TestAcceptKey(t *testing.T) {
	if got := AcceptKey(rfcKey); got != rfcAccept {
		t.Errorf("AcceptKey(%q) = %q, want %q", rfcKey, got, rfcAccept)
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

// FuzzHandshake reads a request as net/http does, and holds the check against a
// second one that follows the text of RFC 6455 without regard for speed.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(rawHandshake()))
	f.Add([]byte(rawHandshake("Upgrade: a, WEBSOCKET", "Connection: a", "Connection: b,\tupgrade ", "Origin: null")))
	f.Add([]byte(rawHandshake("Content-Length: 1") + "x"))
	f.Add([]byte(rawHandshake("Sec-WebSocket-Protocol: a, chat", "Sec-WebSocket-Extensions: x; y=\"z\"")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		refused := checkRequest(r)
		if broken := naiveRefusal(r); (refused == nil) != (broken == "") {
			t.Fatalf("checkRequest = %v, the rule that is broken: %q", refused, broken)
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
		got := string(appendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), subprotocol, nil))
		if got != want+"\r\n" {
			t.Fatalf("response %q, want %q", got, want)
		}
	})
}

// checkAnswer checks that a refusal is one line of text.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, refused *HandshakeError) {
	body := w.Body.String()
	if w.Code != refused.Status || body != refused.Reason+"\n" || strings.Count(body, "\n") != 1 || strings.Contains(body, "\r") {
		t.Fatalf("%v was answered with %d %q", refused, w.Code, body)
	}
}

// naiveRefusal names what is wrong with r as a WebSocket handshake.
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

// The grammar of RFC 9110 section 5.6.2 and RFC 6455 section 9.1. A quoted string
// is to be a token once its quotes and backslashes are gone.
const (
	tokenCharacter   = "[!#$%&'*+.^_`|~0-9A-Za-z-]"
	tokenPattern     = tokenCharacter + "+"
	parameterPattern = tokenPattern + `(?:[ \t]*=[ \t]*(?:` + tokenPattern + `|"(?:\\?` + tokenCharacter + `)+"))?`
	extensionPattern = tokenPattern + `(?:[ \t]*;[ \t]*` + parameterPattern + `)*`
)

// isList reports whether lines are a list of at least one element, or there are
// none.
func isList(lines []string, element string) bool {
	list := regexp.MustCompile(`^[ \t,]*` + element + `(?:[ \t]*,[ \t,]*` + element + `)*[ \t,]*$`)
	return len(lines) == 0 || list.MatchString(strings.Join(lines, ","))
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

func BenchmarkAcceptKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		AcceptKey(rfcKey)
	}
}

// BenchmarkUpgrade is the handshake without the network and without the parser
// of net/http: what this package adds to them, the end of the Conn included.
func BenchmarkUpgrade(b *testing.B) {
	r := upgradeRequest(b)
	o := newOptions([]Option{PingInterval(0), ConnectionTimeout(0), CloseTimeout(0)})
	w := &memoryHijacker{conn: &memoryConn{}}
	b.ReportAllocs()
	for b.Loop() {
		w.conn.written.Reset()
		w.conn.deadlines = w.conn.deadlines[:0]
		c, err := upgrade(w, r, o)
		if err != nil {
			b.Fatal(err)
		}
		c.Close(StatusNormalClosure, "")
	}
}
