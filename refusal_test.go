package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// nextRequest is a request behind a handshake, for a path that a proxy would not let
// through. It must not be served if the handshake is refused.
const nextRequest = "GET /admin HTTP/1.1\r\nHost: app.example\r\n\r\n"

// readRefusal reads up to the end of the connection, and returns the only response. Its
// header has the Connection lines, which http.ReadResponse removes.
func readRefusal(t *testing.T, br *bufio.Reader) (*http.Response, string) {
	t.Helper()
	raw, err := io.ReadAll(br)
	if err != nil {
		t.Fatalf("read %q, then %v, want the end of the connection", raw, err)
	}
	rest := bufio.NewReader(bytes.NewReader(raw))
	resp, body := readResponse(t, rest)
	if n, _ := rest.Peek(1); len(n) > 0 {
		t.Errorf("more than one response in %q", raw)
	}
	if !resp.Close {
		t.Errorf("no Connection: close in %q", raw)
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "Connection: "); ok {
			resp.Header.Add("Connection", strings.TrimSpace(value))
		}
	}
	return resp, body
}

// A policy and a handler of the user run before the response is complete. Whatever they do,
// the connection ends.
func TestUpgrade_closes_the_connection_of_a_denied_request(t *testing.T) {
	deny := AcceptConnection(func(*http.Request) bool { return false })
	recoverPanics := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if recover() != nil {
					http.Error(w, "sorry", http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
	tests := []struct {
		name       string
		middleware func(http.Handler) http.Handler
		opts       []Option
		status     int
	}{
		{"by the default handler", nil, []Option{deny}, 403},
		{"by a handler", nil, []Option{deny, denied(func(w http.ResponseWriter) { w.WriteHeader(401) })}, 401},
		{"by a handler that writes nothing", nil, []Option{deny, denied(func(http.ResponseWriter) {})}, 200},
		{"by a handler that clears the header", nil, []Option{deny, denied(func(w http.ResponseWriter) { clear(w.Header()) })}, 200},
		{"by a handler that streams", nil, []Option{deny, denied(func(w http.ResponseWriter) {
			io.WriteString(w, "a")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "b")
		})}, 200},
		{"by http.Redirect", nil, []Option{deny, AccessDenied(http.RedirectHandler("/login", http.StatusSeeOther))}, 303},
		{"by a handler that panics", recoverPanics, []Option{deny, denied(func(http.ResponseWriter) { panic("handler") })}, 500},
		{"by a policy that panics", recoverPanics, []Option{AcceptConnection(func(*http.Request) bool { panic("policy") })}, 500},
		{"with keep-alive of middleware", withHeader(func(h http.Header) { h.Set("Connection", "keep-alive") }), []Option{deny}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newUpgradeServer(t, tt.middleware, tt.opts...)
			_, br := s.dial(t, wstest.Request()+nextRequest)
			resp, _ := readRefusal(t, br)
			if resp.StatusCode != tt.status || !slices.Equal(resp.Header["Connection"], []string{"close"}) {
				t.Errorf("got %s with Connection %q, want %d with close", resp.Status, resp.Header["Connection"], tt.status)
			}
		})
	}
}

// denied is AccessDenied with a function.
func denied(f func(w http.ResponseWriter)) Option {
	return AccessDenied(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { f(w) }))
}

// Over HTTP/2, Connection: close would end the streams of other requests too.
func TestUpgrade_leaves_an_HTTP_2_connection_open(t *testing.T) {
	s := httptest.NewUnstartedServer(Handle(noop, denied(func(w http.ResponseWriter) { w.WriteHeader(401) })))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	var addresses []string
	for range 2 {
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 426 || resp.ProtoMajor != 2 || resp.Close {
			t.Errorf("got %s %s, Close %v, want HTTP/2.0 426 on a connection that stays open", resp.Proto, resp.Status, resp.Close)
		}
	}
	// A Connection header would be removed by net/http, so look at what the library sets.
	for _, answer := range []func(w http.ResponseWriter, r *http.Request){
		func(w http.ResponseWriter, r *http.Request) { refuse(w, r, refusal(503, "x")) },
		func(w http.ResponseWriter, r *http.Request) { denyAccess(w, r, nil) },
		func(w http.ResponseWriter, r *http.Request) { denyAccess(w, r, http.NotFoundHandler()) },
		func(w http.ResponseWriter, r *http.Request) { refuseInvalidOptions(w, r, errors.New("x")) },
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.ProtoMajor, r.ProtoMinor = 2, 0
		answer(w, r)
		addresses = append(addresses, w.Header()["Connection"]...)
	}
	if len(addresses) > 0 {
		t.Errorf("the answers over HTTP/2 have Connection %q, want none", addresses)
	}
}

// The response does not show the configuration of the server.
func TestUpgrade_with_an_invalid_option(t *testing.T) {
	tests := []struct {
		name   string
		opts   []Option
		reason string
	}{
		{"out of range", []Option{MaxMessageSize(MaxSize + 1)}, "MaxMessageSize(1073741825): want 1 to 1073741824"},
		{"the first of two", []Option{WriteTimeout(-1), nil}, "WriteTimeout(-1ns): want 0 or more"},
		{"overridden by a valid one", []Option{Subprotocols("a b"), Subprotocols("a")}, `Subprotocols("a b"): want a token`},
		{"nil", []Option{PingInterval(0), nil}, "option 2 is nil"},
		{"nil value", []Option{AcceptConnection(nil)}, "AcceptConnection(nil): want a function"},
		{"two that cannot work together", []Option{PingInterval(time.Minute), ConnectionTimeout(time.Minute)}, "PingInterval(1m0s) with ConnectionTimeout(1m0s)"},
	}
	for _, tt := range tests {
		for _, request := range []string{wstest.Request(), wstest.Request("Upgrade")} {
			t.Run(tt.name, func(t *testing.T) {
				s := newUpgradeServer(t, nil, tt.opts...)
				_, br := s.dial(t, request+nextRequest)
				resp, body := readRefusal(t, br)
				if want := "the WebSocket options of this server are invalid: its operator must correct them\n"; resp.StatusCode != 500 || body != want {
					t.Errorf("got %s %q, want 500 %q", resp.Status, body, want)
				}
				var refused *HandshakeError
				if err := s.result(t).err; !errors.As(err, &refused) || refused.Status != 500 || !strings.HasPrefix(refused.Reason, tt.reason) {
					t.Errorf("Upgrade returned %v, want 500 with %q", err, tt.reason)
				}
			})
		}
	}
}

func TestOnRefused(t *testing.T) {
	type call struct {
		path   string
		status int
		reason string
	}
	var calls []call
	onRefused := OnRefused(func(r *http.Request, err *HandshakeError) {
		calls = append(calls, call{r.URL.Path, err.Status, err.Reason})
	})
	unauthorized := denied(func(w http.ResponseWriter) { w.WriteHeader(401) })
	upgradeWith := func(opts ...Option) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Upgrade(w, r, opts...) })
	}
	tests := []struct {
		name    string
		handler http.Handler
		changes []string
		sent    int // the status of the response
		want    []call
	}{
		{"accepted", Handle(noop, onRefused), nil, 101, nil},
		{"Handle", Handle(noop, onRefused), []string{"Sec-WebSocket-Version: 8"}, 426, []call{{"/", 426, `"8"`}}},
		{"HandleConcurrent", HandleConcurrent(noop, onRefused), []string{"Sec-WebSocket-Key"}, 400, []call{{"/", 400, "no Sec-WebSocket-Key"}}},
		{"Upgrade", upgradeWith(onRefused), []string{"Upgrade: h2c"}, 426, []call{{"/", 426, `"h2c"`}}},
		{"refused by a policy", Handle(noop, onRefused), []string{"Origin: https://evil.example"}, 403, []call{{"/", 403, "evil.example"}}},
		{"answered by AccessDenied's handler", Handle(noop, onRefused, unauthorized), []string{"Origin: null"}, 401, []call{{"/", 403, `"null"`}}},
		{"invalid option", upgradeWith(WriteTimeout(-1), onRefused), nil, 500, []call{{"/", 500, "WriteTimeout(-1ns)"}}},
		{"the last one wins", Handle(noop, OnRefused(func(*http.Request, *HandshakeError) { t.Error("called") }), onRefused), []string{"Upgrade"}, 426, []call{{"/", 426, "no Upgrade"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls = nil
			nc := wstest.NewSocket()
			w := &wstest.Hijacker{Conn: nc, ResponseRecorder: *httptest.NewRecorder()}
			tt.handler.ServeHTTP(w, wstest.ReadRequest(wstest.Request(tt.changes...)))
			if tt.sent != 101 && w.Code != tt.sent || tt.sent == 101 && !bytes.HasPrefix(nc.Written(), []byte("HTTP/1.1 101 ")) {
				t.Errorf("answered with %d and %q, want %d", w.Code, nc.Written(), tt.sent)
			}
			if len(calls) != len(tt.want) {
				t.Fatalf("OnRefused got %v, want %v", calls, tt.want)
			}
			for i, want := range tt.want {
				if got := calls[i]; got.path != want.path || got.status != want.status || !strings.Contains(got.reason, want.reason) {
					t.Errorf("OnRefused got %v, want %v", got, want)
				}
			}
		})
	}
}

// The response is complete when OnRefused is called.
func TestOnRefused_is_called_after_the_answer(t *testing.T) {
	w := httptest.NewRecorder()
	h := Handle(noop, OnRefused(func(*http.Request, *HandshakeError) {
		if w.Code != 426 || w.Body.Len() == 0 {
			t.Errorf("OnRefused was called when the response was %d %q", w.Code, w.Body)
		}
	}))
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
}

// A failed write of the 101 is not a refusal.
func TestOnRefused_is_not_called_if_the_response_cannot_be_sent(t *testing.T) {
	nc := wstest.NewSocket()
	nc.FailWrites(io.ErrClosedPipe)
	_, err := Upgrade(&wstest.Hijacker{Conn: nc}, wstest.ReadRequest(wstest.Request()),
		OnRefused(func(_ *http.Request, err *HandshakeError) { t.Errorf("OnRefused got %v", err) }))
	wantError(t, err, io.ErrClosedPipe)
}

// Text of the peer does not make the texts longer than a kilobyte.
func TestHandshakeError_is_short(t *testing.T) {
	long := strings.Repeat("\x01\xff\"", 3000)
	for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Version", "Sec-Websocket-Key", "Sec-Websocket-Extensions", "Origin"} {
		r := wstest.ReadRequest(wstest.Request())
		r.Host = long
		for _, other := range []string{"Sec-Fetch-Site", "Upgrade", "Connection"} {
			if strings.HasPrefix(name, "Sec") || name == "Origin" {
				break
			}
			r.Header[other] = []string{long, long}
		}
		r.Header[name] = []string{long, long}
		if name == "Origin" {
			r.Header["Sec-Fetch-Site"] = []string{long}
		}
		_, err := Upgrade(httptest.NewRecorder(), r)
		if text := err.Error(); len(text) > 1024 || !strings.Contains(text, `\xff`) {
			t.Errorf("%s: the text has %d bytes, want at most 1024 with a part of the value: %s", name, len(text), text)
		}
	}
}

// A page can send a token as a subprotocol, and OnRefused may log the reason. So the reason says
// what is wrong with the list, and does not repeat it.
func TestHandshakeError_does_not_repeat_subprotocols(t *testing.T) {
	const secret = "q83vEjRWeJ"
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"base64 with padding", []string{"chat.v1, bearer." + secret + "A="}, "element 2 has the character '='"},
		{"base64 with a slash", []string{"bearer." + secret + "/A, chat.v1"}, "element 1 has the character '/'"},
		{"a space as in Authorization", []string{"chat.v1", ",, Bearer " + secret}, "element 2 has the character ' '"},
		{"a control character", []string{secret + "\x01"}, `element 1 has the character '\x01'`},
		{"a letter beyond ASCII", []string{secret + "é"}, "element 1 has the character 'é'"},
		{"a byte that is not UTF-8", []string{secret + "\xff"}, "element 1 has the character '\ufffd'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := wstest.ReadRequest(wstest.Request())
			r.Header["Sec-Websocket-Protocol"] = tt.lines
			r.Header["Cookie"], r.Header["Authorization"] = []string{"id=" + secret}, []string{"Bearer " + secret}
			r.URL.RawQuery = "token=" + secret
			w := httptest.NewRecorder()
			_, err := Upgrade(w, r)
			for _, text := range []string{err.Error(), w.Body.String()} {
				if !strings.Contains(text, tt.want) || strings.Contains(text, secret) {
					t.Errorf("got %q, want a text with %q and without the token", text, tt.want)
				}
			}
		})
	}
}

// The reasons of other refusals repeat no header that has credentials, and no query.
func TestHandshakeError_has_no_credentials(t *testing.T) {
	const secret = "q83vEjRWeJ"
	deny := AcceptConnection(func(*http.Request) bool { return false })
	for name, change := range map[string]string{
		"a page load":      "Upgrade",
		"another version":  "Sec-WebSocket-Version: 8",
		"no key":           "Sec-WebSocket-Key",
		"a body":           "Content-Length: 3",
		"extensions":       "Sec-WebSocket-Extensions: =",
		"another origin":   "Origin: https://evil.example",
		"an own policy":    "Origin: http://" + wstest.Host,
		"a wrong host":     "Host: ",
		"too many headers": "A: " + strings.Repeat("\r\nA: ", maxHeaderLines),
	} {
		t.Run(name, func(t *testing.T) {
			r := wstest.ReadRequest(wstest.Request(change))
			r.Header["Sec-Websocket-Protocol"] = []string{"chat.v1, bearer." + secret}
			r.Header["Cookie"], r.Header["Authorization"] = []string{"id=" + secret}, []string{"Bearer " + secret}
			r.URL.RawQuery = "token=" + secret
			w := httptest.NewRecorder()
			_, err := Upgrade(w, r, deny)
			if text := fmt.Sprint(err, w.Body); err == nil || strings.Contains(text, secret) {
				t.Errorf("got %q, want a refusal without credentials", text)
			}
		})
	}
}
