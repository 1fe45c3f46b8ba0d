package websocket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// awaitEnd waits until h has ended all its connections. It has logged and reported everything then.
func awaitEnd(t testing.TB, h http.Handler) {
	t.Helper()
	handler, ok := h.(*Handler)
	if !ok {
		return // of Upgrade, which reports nothing
	}
	for deadline := time.Now().Add(wstest.Patience); handler.Stats().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections still run", handler.Stats().Open)
		}
	}
}

// A servedRequest is a request that a detached Handler has served.
type servedRequest struct {
	ctx  context.Context
	over chan struct{} // closed when ServeHTTP has returned
}

// serveDetached runs h in a server that logs to logged. Middleware around h sends each
// request to requests.
func serveDetached(t *testing.T, h http.Handler) (srv *httptest.Server, logged logLines, requests <-chan servedRequest) {
	logged = make(logLines, 16)
	served := make(chan servedRequest, 16)
	mux := http.NewServeMux()
	mux.HandleFunc("/{name}/", func(w http.ResponseWriter, r *http.Request) {
		seen := servedRequest{r.Context(), make(chan struct{})}
		served <- seen
		defer close(seen.over)
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, "of middleware")))
	})
	mux.Handle("/", h)
	srv = httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = log.New(logged, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, logged, served
}

// dialPath connects to srv with a handshake for path.
func dialPath(t *testing.T, srv *httptest.Server, path string) *peer {
	t.Helper()
	p := dialTCP(t, srv)
	p.Write([]byte(requestLine("GET "+path+" HTTP/1.1", wstest.Request())))
	if err := p.ReadUpgrade(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDetached_lets_the_request_end_while_fn_runs(t *testing.T) {
	for name, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			h := handle(func(c *Conn) error { conns <- c; return echoAll(c) }, Detached(true))
			srv, logged, requests := serveDetached(t, h)
			p := dialPath(t, srv, "/alice/")
			r := await(t, requests)
			await(t, r.over)
			await(t, r.ctx.Done())

			p.send(Text, "still here?")
			p.expect(Text, "still here?")
			c := await(t, conns)
			if err := c.Context().Err(); err != nil {
				t.Errorf("the Context ended when the request did: %v", err)
			}
			if got := c.Context().Value(contextKey{}); got != "of middleware" {
				t.Errorf("Context has the value %v, want that of the request", got)
			}
			if got := c.Request().PathValue("name"); got != "alice" {
				t.Errorf("the request has the path value %q, want alice", got)
			}
			p.Close()
			awaitEnd(t, h)
			wantError(t, context.Cause(c.Context()), io.EOF)
			if len(logged) > 0 {
				t.Errorf("logged %q, want nothing", <-logged)
			}
		})
	}
}

func TestDetached_off_holds_the_request(t *testing.T) {
	srv, _, requests := serveDetached(t, Handle(echoAll, Detached(true), Detached(false)))
	p := dialPath(t, srv, "/alice/")
	p.send(Text, "here?")
	p.expect(Text, "here?")
	r := await(t, requests)
	select {
	case <-r.over:
		t.Error("ServeHTTP has returned, but fn still runs")
	default:
	}
	p.Close()
	await(t, r.over)
}

func TestDetached_closes_according_to_the_result_of_fn(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		for _, tt := range handlerEnds {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				reported := make(chan error, 16)
				h := handle(tt.fn, Detached(true), OnError(func(_ *Conn, err error) { reported <- err }))
				srv, _, _ := serveDetached(t, h)
				tt.peer(dialServer(t, srv))
				awaitEnd(t, h)
				var got []error
				for len(reported) > 0 {
					got = append(got, <-reported)
				}
				wantReport(t, got, tt.reported)
			})
		}
	}
}

func TestDetached_survives_a_panic(t *testing.T) {
	computes(t)
	brokenReporter := OnError(func(*Conn, error) { panic("of the reporter") })
	tests := []struct {
		name string
		fn   HandlerFunc
		opts []Option
		want []string // parts of the one line that is logged; no line if empty
	}{
		{"in fn", panickingHandler, nil, []string{": of all things\ngoroutine ", "websocket.panickingHandler"}},
		{"in OnError, of an error", func(*Conn) error { return errSecret }, []Option{brokenReporter}, []string{": of the reporter\ngoroutine "}},
		{"in OnError, of a panic", panickingHandler, []Option{brokenReporter}, []string{": of the reporter\ngoroutine ", "websocket.panickingHandler"}},
		{"with nil", func(*Conn) error { panic(nil) }, nil, []string{"panic called with nil argument"}},
		{"with http.ErrAbortHandler", func(*Conn) error { panic(http.ErrAbortHandler) }, nil, nil},
		{"and runtime.Goexit", func(*Conn) error { runtime.Goexit(); return nil }, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			h := Handle(func(c *Conn) error {
				if calls.Add(1) == 1 {
					return tt.fn(c)
				}
				return echoAll(c)
			}, append(tt.opts, Detached(true))...)
			srv, logged, _ := serveDetached(t, h)
			p := dialServer(t, srv)
			answerClose(StatusInternalError, "")(p)
			awaitEnd(t, h)
			wantLogged(t, logged, "http: panic serving "+p.Conn.LocalAddr().String(), tt.want)

			p = dialServer(t, srv)
			p.send(Text, "and the server?")
			p.expect(Text, "and the server?")
			p.Close()
			awaitEnd(t, h)
		})
	}
}

// The value of a panic may repeat what the peer has sent.
func TestPanics_with_text_of_the_peer(t *testing.T) {
	const forged = "2026/11/26 12:00:00 all is well"
	text := strings.Repeat("k", 200) + "\n" + forged + "\n" + strings.Repeat("\x00", 3000)
	values := map[string]func(text string) any{
		"string":   func(text string) any { return "unknown command " + text },
		"error":    func(text string) any { return fmt.Errorf("unknown command %s", text) },
		"bytes":    func(text string) any { return struct{ command []byte }{[]byte(text)} },
		"Stringer": func(text string) any { return bytes.NewBufferString(text) },
	}
	for name, value := range values {
		fn := func(c *Conn) error {
			_, text, _ := c.ReceiveMessage()
			panic(value(string(text)))
		}
		t.Run(name+"/Detached", func(t *testing.T) {
			h := Handle(fn, Detached(true))
			srv, logged, _ := serveDetached(t, h)
			p := dialServer(t, srv)
			p.send(Text, text)
			answerClose(StatusInternalError, "")(p)
			awaitEnd(t, h)
			got := await(t, logged)
			if line, stack, _ := strings.Cut(got, "\n"); len(line) > maxLogLine || !strings.HasPrefix(stack, "goroutine ") {
				t.Errorf("logged a line of %d bytes, and then %.100q; want at most %d, and then the stack", len(line), stack, maxLogLine)
			}
			if strings.Contains(got, "\n"+forged) {
				t.Errorf("logged %q, with a forged line", got)
			}
		})
		t.Run(name+"/OnError", func(t *testing.T) {
			reported := make(chan error, 1)
			h := Handle(fn, Detached(true), OnError(func(_ *Conn, err error) { reported <- err }))
			srv, logged, _ := serveDetached(t, h)
			p := dialServer(t, srv)
			p.send(Text, text)
			answerClose(StatusInternalError, "")(p)
			got := await(t, reported).Error()
			if !strings.HasPrefix(got, "websocket: handler panicked: ") || strings.Contains(got, "\n") || len(got) > maxLogLine {
				t.Errorf("reported %q of %d bytes, want one short line", got, len(got))
			}
			awaitEnd(t, h)
			await(t, logged)
		})
	}
}

// wantLogged checks that one line was logged which begins with prefix and contains every
// string of want, or nothing if want is empty.
func wantLogged(t *testing.T, logged logLines, prefix string, want []string) {
	t.Helper()
	if len(want) == 0 {
		if len(logged) > 0 {
			t.Errorf("logged %q, want nothing", <-logged)
		}
		return
	}
	got := await(t, logged)
	if !strings.HasPrefix(got, prefix) {
		t.Errorf("logged %q, want it to begin with %q", got, prefix)
	}
	for _, want := range want {
		if !strings.Contains(got, want) {
			t.Errorf("logged %q, want it to contain %q", got, want)
		}
	}
	if len(logged) > 0 {
		t.Errorf("logged %q too, want one line", <-logged)
	}
}

func TestDetached_logs_a_panic_without_a_server_log(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	c, p := newPipeConn(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveConn(c, panickingHandler, Detached(true))
	}()
	p.expectClose(StatusInternalError)
	p.send(Close, "")
	await(t, done)
	if want := "http: panic serving pipe: of all things"; !strings.Contains(out.String(), want) {
		t.Errorf("logged %q, want it to contain %q", out.String(), want)
	}
}

// A hijacked connection does not belong to the http.Server, with Detached or without.
func TestDetached_outlives_the_server(t *testing.T) {
	h := Handle(echoAll, Detached(true))
	srv, _, requests := serveDetached(t, h)
	p := dialPath(t, srv, "/alice/")
	await(t, await(t, requests).over)
	srv.Close()
	p.send(Text, "still there?")
	p.expect(Text, "still there?")
	p.Close()
	awaitEnd(t, h)
}

func TestDetached_has_no_effect_on_Upgrade(t *testing.T) {
	upgraded := make(chan error, 1)
	srv, _, _ := serveDetached(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, Detached(true))
		if err == nil {
			err = echoAll(c)
		}
		upgraded <- err
	}))
	p := dialServer(t, srv)
	p.send(Text, "hello")
	p.expect(Text, "hello")
	p.Close()
	wantError(t, await(t, upgraded), io.EOF)
}

func TestDetached_over_TLS(t *testing.T) {
	p := dialTLS(t, echoAll, Detached(true))
	p.send(Text, "secret")
	p.expect(Text, "secret")
	p.Write(clientFrame(true, Close, closeBody(4000, "")))
	p.expectClose(4000)
	p.ExpectEOF()
	p.Conn.Close()
}

// A heldWriter is the ResponseWriter of middleware. While it is referenced, everything
// that net/http holds for the request stays in memory.
type heldWriter struct{ http.ResponseWriter }

func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestDetached_releases_the_ResponseWriter(t *testing.T) {
	h := Handle(echoAll, Detached(true))
	collected := make(chan struct{})
	srv, _, _ := serveDetached(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wrapped := &heldWriter{w}
		runtime.AddCleanup(wrapped, func(collected chan struct{}) { close(collected) }, collected)
		h.ServeHTTP(wrapped, r)
	}))
	p := dialServer(t, srv)
	for deadline := time.Now().Add(wstest.Patience); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if isClosed(collected) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection holds the ResponseWriter")
		}
	}
	p.send(Text, "hello")
	p.expect(Text, "hello")
	p.Close()
	awaitEnd(t, h)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
