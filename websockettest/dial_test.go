package websockettest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// wrap returns a handler that calls returned when h has returned.
func wrap(h http.Handler, returned func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer returned()
		h.ServeHTTP(w, r)
	})
}

func TestDial_request(t *testing.T) {
	tests := []struct {
		name string
		opts []websockettest.DialOption
		want map[string]string // headers; "" for none
		url  string
		host string
	}{
		{"default", nil, map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Version": "13",
			"Origin": "", "Sec-Websocket-Protocol": "", "Sec-Websocket-Extensions": "", "Accept-Encoding": "",
		}, "/", "example.com"},
		{"path and query", []websockettest.DialOption{websockettest.URL("/a/b%20c?x=1&y=%2F#part")}, nil, "/a/b%20c?x=1&y=%2F", "example.com"},
		{"path with two slashes", []websockettest.DialOption{websockettest.URL("//a")}, nil, "//a", "example.com"},
		{"address", []websockettest.DialOption{websockettest.URL("ws://app.example:8080/chat?x")}, nil, "/chat?x", "app.example:8080"},
		{"address without a path", []websockettest.DialOption{websockettest.URL("http://app.example")}, nil, "/", "app.example"},
		{"headers", []websockettest.DialOption{
			websockettest.Header("origin", "https://app.example"), websockettest.Header("X-A", "1"), websockettest.Header("x-a", "2"),
			websockettest.Header("Host", "app.example"), websockettest.Header("Sec-WebSocket-Version", "13"), websockettest.Header("User-Agent", "me"),
		}, map[string]string{"Origin": "https://app.example", "X-A": "1|2", "Sec-Websocket-Version": "13", "User-Agent": "me"}, "/", "app.example"},
		{"subprotocols", []websockettest.DialOption{websockettest.Subprotocols("a", "b")}, map[string]string{"Sec-Websocket-Protocol": "a, b"}, "/", "example.com"},
		{"compression", []websockettest.DialOption{websockettest.Compression()},
			map[string]string{"Sec-Websocket-Extensions": "permessage-deflate; client_max_window_bits"}, "/", "example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for name, want := range tt.want {
					if got := strings.Join(r.Header[name], "|"); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				if r.RequestURI != tt.url || r.Host != tt.host {
					t.Errorf("the request is for %s of %s, want %s of %s", r.RequestURI, r.Host, tt.url, tt.host)
				}
				websocket.Handle(echo).ServeHTTP(w, r)
			}), tt.opts...)
			if res := c.Response(); res.StatusCode != 101 || res.Request.Host != tt.host {
				t.Errorf("the response is %s for the host %q, want 101", res.Status, res.Request.Host)
			}
			c.Close(websocket.StatusNormalClosure, "")
		})
	}
}

func TestDial_refusal(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(echo), websockettest.Header("Origin", "https://elsewhere.example"))
	body, err := io.ReadAll(c.Response().Body)
	if c.Response().StatusCode != http.StatusForbidden || err != nil || !strings.HasPrefix(string(body), "<h1>Access denied</h1>") {
		t.Errorf("got %s, the body %q and the error %v, want 403 and the denial", c.Response().Status, body, err)
	}
}

func TestDial_skips_early_hints(t *testing.T) {
	c := websockettest.Dial(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		http.NotFound(w, r)
	}))
	if got := c.Response().StatusCode; got != http.StatusNotFound {
		t.Errorf("got the status %d, want 404", got)
	}
}

func TestDial_failures(t *testing.T) {
	ok := websocket.Handle(echo)
	respond := func(response string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			accept := websocket.AcceptKey(r.Header.Get("Sec-WebSocket-Key"))
			fmt.Fprint(conn, strings.ReplaceAll(strings.ReplaceAll(response, "ACCEPT", accept), "\n", "\r\n"))
			io.Copy(io.Discard, conn)
		})
	}
	const good = "HTTP/1.1 101 Switching Protocols\nUpgrade: WebSocket\nConnection: keep-alive, upgrade\nSec-WebSocket-Accept: ACCEPT\n"
	tests := []struct {
		name    string
		handler http.Handler
		opts    []websockettest.DialOption
		want    string
	}{
		{"a good response", respond(good + "\n"), nil, ""},
		{"nil handler", nil, nil, "the handler is nil"},
		{"nil option", ok, []websockettest.DialOption{nil}, "option 1 is nil: leave it out"},
		{"path without a slash", ok, []websockettest.DialOption{websockettest.URL("chat")}, `URL("chat"): want a path that begins with /, or ws://host/path`},
		{"https", ok, []websockettest.DialOption{websockettest.URL("https://a/")}, `URL("https://a/"): want a path that begins with /, or ws://host/path`},
		{"path that is not a URL", ok, []websockettest.DialOption{websockettest.URL("/%")}, `URL("/%"): parse "ws://example.com/%": invalid URL escape "%"`},
		{"header of two lines", ok, []websockettest.DialOption{websockettest.Header("A", "b\r\nC: d")},
			`Header("A"): net/http would send the values ["b  C: d"], not ["b\r\nC: d"]`},
		{"header with spaces around its value", ok, []websockettest.DialOption{websockettest.Header("A", "b"), websockettest.Header("A", " c\t")},
			`Header("A"): net/http would send the values ["b" "c"], not ["b" " c\t"]`},
		{"header without a name", ok, []websockettest.DialOption{websockettest.Header("", "c")}, notSent("", "c")},
		{"header with a name of two words", ok, []websockettest.DialOption{websockettest.Header("a b", "c")}, notSent("a b", "c")},
		{"header with a name that is not a token", ok, []websockettest.DialOption{websockettest.Header("a@b", "c")}, notSent("a@b", "c")},
		{"Content-Length", ok, []websockettest.DialOption{websockettest.Header("content-length", "5")}, notSent("Content-Length", "5")},
		{"Transfer-Encoding", ok, []websockettest.DialOption{websockettest.Header("Transfer-Encoding", "chunked")}, notSent("Transfer-Encoding", "chunked")},
		{"Trailer", ok, []websockettest.DialOption{websockettest.Header("Trailer", "A")}, notSent("Trailer", "A")},
		{"User-Agent twice", ok, []websockettest.DialOption{websockettest.Header("User-Agent", "a"), websockettest.Header("User-Agent", "b")},
			`Header("User-Agent"): net/http would send the values ["a"], not ["a" "b"]`},
		{"Host twice", ok, []websockettest.DialOption{websockettest.Header("Host", "a"), websockettest.Header("Host", "b")},
			`Header("Host"): net/http would send the values ["b"], not ["a" "b"]`},
		{"Host that is not valid", ok, []websockettest.DialOption{websockettest.Header("Host", "a b")},
			`Header("Host"): net/http would send the values [""], not ["a b"]`},

		{"no response", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), nil,
			"want a response to the handshake: unexpected EOF"},
		{"a response that never comes", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { waitForTheClient(r) }), nil,
			"the handler has sent no whole response in 48h0m0s\n…"},
		{"no HTTP", respond("hello\n\n"), nil, `want a response to the handshake: malformed HTTP response "hello"`},
		{"a body that is cut", respond("HTTP/1.1 400 Bad Request\nContent-Length: 10\n\nshort"), nil, "the handler has sent no whole response in 48h0m0s\n…"},
		{"no Upgrade", respond(strings.Replace(good, "WebSocket\n", "h2c\n", 1) + "\n"), nil,
			`the handler accepted the handshake with a wrong response: the header Upgrade is "h2c", want websocket`},
		{"no Connection", respond(strings.Replace(good, ", upgrade", "", 1) + "\n"), nil,
			`the handler accepted the handshake with a wrong response: the header Connection is "keep-alive", want Upgrade`},
		{"wrong Accept", respond(strings.Replace(good, "ACCEPT", "x", 1) + "\n"), nil,
			`the handler accepted the handshake with a wrong response: Sec-WebSocket-Accept is "x", want "…`},
		{"a subprotocol that was not offered", respond(good + "Sec-WebSocket-Protocol: a\n\n"), []websockettest.DialOption{websockettest.Subprotocols("b", "A")},
			`the handler accepted the handshake with a wrong response: Sec-WebSocket-Protocol is "a", want one of the offered ["b, A"]`},
		{"two subprotocols", respond(good + "Sec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: b\n\n"), []websockettest.DialOption{websockettest.Subprotocols("b", "a")},
			`the handler accepted the handshake with a wrong response: Sec-WebSocket-Protocol is sent 2 times`},
		{"an offered subprotocol", respond(good + "Sec-WebSocket-Protocol: a\n\n"), []websockettest.DialOption{websockettest.Subprotocols("b", "a")}, ""},
		{"an extension that was not offered", respond(good + "Sec-WebSocket-Extensions: permessage-deflate\n\n"), nil,
			`the handler accepted the handshake with a wrong response: Sec-WebSocket-Extensions is "permessage-deflate", but no extension was offered`},
		{"an extension of the test", respond(good + "Sec-WebSocket-Extensions: x-mine; a=1\n\n"),
			[]websockettest.DialOption{websockettest.Header("Sec-WebSocket-Extensions", "x-mine")}, ""},
		{"a wrong answer to Compression", respond(good + "Sec-WebSocket-Extensions: x-mine\n\n"), []websockettest.DialOption{websockettest.Compression()},
			`the handler accepted the handshake with a wrong response: Sec-WebSocket-Extensions is "x-mine": want the offered permessage-deflate alone`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := runFake(t, func(t testing.TB) { websockettest.Dial(t, tt.handler, tt.opts...) })
				if tt.want != "" {
					tt.want = "websockettest: Dial: " + tt.want
				}
				fake.wantFailure(t, tt.want)
			})
		})
	}
}

// notSent is what Dial says about a header that net/http leaves out.
func notSent(name, value string) string {
	return fmt.Sprintf("Header(%q): net/http would send the values [], not [%q]", name, value)
}

// waitForTheClient waits until the client has closed the connection of r.
func waitForTheClient(r *http.Request) { <-r.Context().Done() }

// Middleware, cookies and addresses are those of a real server.
func TestDial_serves_as_production_does(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		addrs := map[string]bool{}
		handler := http.NewServeMux()
		handler.Handle("GET /room/{id}", websocket.Handle(func(c *websocket.Conn) error {
			host, _, err := net.SplitHostPort(c.RemoteAddr().String())
			if _, ok := c.Request().Context().Value(http.ServerContextKey).(*http.Server); !ok || err != nil || host != "192.0.2.1" {
				t.Errorf("the server is in the context: %t; the host is %q, error %v", ok, host, err)
			}
			addrs[c.RemoteAddr().String()] = true
			return c.SendJSON(c.Request().PathValue("id"))
		}, websocket.Subprotocols("v2", "v1")))
		type plainWriter struct{ http.ResponseWriter }
		middleware := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
			if r.URL.Path == "/plain" {
				w = plainWriter{w} // without an Unwrap method
				r.URL.Path = "/room/1"
			}
			handler.ServeHTTP(w, r)
		})
		for range 3 {
			c := websockettest.Dial(t, middleware, websockettest.URL("/room/7"), websockettest.Subprotocols("v1"))
			var id string
			if c.ReceiveJSON(&id); id != "7" {
				t.Errorf("got the path value %q, want 7", id)
			}
			c.WantClose(websocket.StatusNormalClosure)
			if cookies := c.Response().Cookies(); len(cookies) != 1 || cookies[0].Name != "seen" {
				t.Errorf("got the cookies %v, want the one of the middleware", cookies)
			}
			if got := c.Response().Header.Get("Sec-WebSocket-Protocol"); got != "v1" {
				t.Errorf("got the subprotocol %q, want v1", got)
			}
		}
		if len(addrs) != 3 {
			t.Errorf("3 clients have %d addresses, want each its own", len(addrs))
		}
		if got := websockettest.Dial(t, middleware, websockettest.URL("/plain")).Response().StatusCode; got != 500 {
			t.Errorf("behind a ResponseWriter that cannot be hijacked, the status is %d, want 500", got)
		}
	})
}

// The log of the server is that of the test.
func TestDial_logs(t *testing.T) {
	tests := []struct {
		name string
		fn   websocket.HandlerFunc
		opts []websocket.Option
		want []string
	}{
		{"an unexpected error", func(*websocket.Conn) error { return fmt.Errorf("disk full") }, nil, []string{"websocket: handler of ", "disk full"}},
		{"a panic", func(*websocket.Conn) error { panic("disk full") }, nil, []string{"http: panic serving 192.0.2.1:", "disk full", "dial_test.go"}},
		{"a panic of a detached function", func(*websocket.Conn) error { panic("disk full") }, []websocket.Option{websocket.Detached(true)},
			[]string{"http: panic serving 192.0.2.1:", "disk full", "dial_test.go"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := runFake(t, func(t testing.TB) {
				websockettest.Dial(t, websocket.Handle(tt.fn, tt.opts...)).WantClose(websocket.StatusInternalError)
			})
			fake.wantFailure(t, "")
			for _, want := range tt.want {
				if !strings.Contains(fake.logged(), want) {
					t.Errorf("the log of the test is %q, want it to contain %q", fake.logged(), want)
				}
			}
		})
	}
}

// The cleanup of a test waits for the handler.
func TestDial_waits_for_the_handler(t *testing.T) {
	slow := func(ended *atomic.Bool) websocket.HandlerFunc {
		return func(c *websocket.Conn) error {
			err := receiveAll(c)
			for range 100 {
				runtime.Gosched()
			}
			time.Sleep(20 * time.Millisecond) // in real time, so that a cleanup that does not wait is noticed
			ended.Store(true)
			return err
		}
	}
	tests := []struct {
		name    string
		handler func(ended *atomic.Bool) http.Handler
	}{
		{"Handle", func(ended *atomic.Bool) http.Handler { return websocket.Handle(slow(ended)) }},
		{"HandleConcurrent", func(ended *atomic.Bool) http.Handler { return websocket.HandleConcurrent(slow(ended)) }},
		{"Detached", func(ended *atomic.Bool) http.Handler {
			return websocket.Handle(slow(ended), websocket.Detached(true))
		}},
		{"a refusal", func(ended *atomic.Bool) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "3")
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, "no\n")
				http.NewResponseController(w).Flush()
				waitForTheClient(r)
				time.Sleep(20 * time.Millisecond)
				ended.Store(true)
			})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inAndOut(t, func(t *testing.T) {
				var ended atomic.Bool
				runFake(t, func(t testing.TB) {
					c := websockettest.Dial(t, tt.handler(&ended))
					if c.Response().StatusCode == 101 {
						c.Send(websocket.Text, nil)
					}
				}).wantFailure(t, "")
				if !ended.Load() {
					t.Error("the cleanup has not waited for the handler")
				}
			})
		})
	}
}

func handlerThatSleeps(*websocket.Conn) error {
	time.Sleep(100 * time.Hour)
	return nil
}

// A handler that does not end fails the test with its stack.
func TestDial_reports_a_handler_that_does_not_end(t *testing.T) {
	tests := []struct {
		name    string
		handler http.Handler
		want    string
		stack   string // of the goroutine that is left
	}{
		{"Handle", websocket.Handle(handlerThatSleeps),
			"websockettest: the handler has not returned 48h0m0s after the client has closed the connection\n…", "websockettest_test.handlerThatSleeps\n"},
		{"Detached", websocket.Handle(handlerThatSleeps, websocket.Detached(true)),
			"websockettest: the handler has returned, but a goroutine that it has started in package websocket has not ended 48h0m0s after the client has closed the connection; with Detached, it runs the function of the connection\n…", "websockettest_test.handlerThatSleeps\n"},
		{"a goroutine of the handler in package websocket", websocket.Handle(func(*websocket.Conn) error {
			begun := make(chan struct{})
			go websocket.Broadcast(func(func(*websocket.Conn) bool) {
				close(begun)
				handlerThatSleeps(nil)
			}, websocket.Text, nil)
			<-begun
			return nil
		}), "websockettest: the handler has returned, but a goroutine that it has started in package websocket has not ended 48h0m0s after the client has closed the connection; with Detached, it runs the function of the connection\n…", "websockettest_test.handlerThatSleeps\n"},
		{"a hijacked connection that nothing closes", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
				websocket.AcceptKey(r.Header.Get("Sec-WebSocket-Key")))
		}), "websockettest: the handler has returned, but it has not closed the connection 48h0m0s after the client: call Conn.Close after Upgrade\n…", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := runFake(t, func(t testing.TB) { websockettest.Dial(t, tt.handler) })
				fake.wantFailure(t, tt.want)
				time.Sleep(100 * time.Hour) // for the handler
				if len(fake.failures) == 1 && !strings.Contains(fake.failures[0], tt.stack) {
					t.Errorf("got\n%s\nwant a stack with %s", fake.failures[0], tt.stack)
				}
			})
		})
	}
}

// Bytes that a server sends together with its response are not lost.
func TestDial_keeps_frames_behind_the_response(t *testing.T) {
	c := websockettest.Dial(t, rawHandshake("", func(conn net.Conn, in *bufio.Reader) { io.WriteString(conn, frame(0x81, "early")) }))
	wantMessage(t, c, websocket.Text, "early")
}
