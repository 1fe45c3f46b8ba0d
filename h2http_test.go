package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Middleware may run the handler on a goroutine and return at a time limit. Then net/http ends the
// stream, and the ResponseWriter panics. The connection ends, and the process goes on.
func TestHTTP2_middleware_that_returns_before_the_handler(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("net/http does not synchronize the end of a ResponseWriter with its methods")
	}
	tests := map[string]func(begun chan<- bool, opts ...Option) http.Handler{
		"Handle, receiving": func(begun chan<- bool, opts ...Option) http.Handler {
			return Handle(func(c *Conn) error { begun <- true; return echoAll(c) }, opts...)
		},
		"Handle, waiting": func(begun chan<- bool, opts ...Option) http.Handler {
			return Handle(func(c *Conn) error { begun <- true; return waitForEnd(c) }, opts...)
		},
		"HandleConcurrent": func(begun chan<- bool, opts ...Option) http.Handler {
			return HandleConcurrent(func(c *Conn) error { begun <- true; return echoAll(c) }, opts...)
		},
		"HandleMessages": func(begun chan<- bool, opts ...Option) http.Handler {
			return HandleMessages(func(c *Conn) (MessageFunc, error) { begun <- true; return openEcho(c) }, opts...)
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan bool), make(chan error, 1)
			h := handler(begun, OnClose(func(_ *Conn, err error) { ended <- err }))
			c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				go h.ServeHTTP(w, r)
				<-begun
			}))
			for range 200 { // because the ResponseWriter is asked before it panics in most cases
				connectHTTP2(t, c)
				if err := await(t, ended); err == nil {
					t.Error("OnClose got nil, want the reason of the end")
				}
			}
		})
	}
}

// A returnedWriter is the ResponseWriter of a handler that has returned.
type returnedWriter struct{ http.ResponseWriter }

func (returnedWriter) Write([]byte) (int, error)        { panic("Write called after Handler finished") }
func (returnedWriter) FlushError() error                { panic("Header called after Handler finished") }
func (returnedWriter) SetReadDeadline(time.Time) error  { panic("nil pointer") }
func (returnedWriter) SetWriteDeadline(time.Time) error { panic("nil pointer") }

// A panickingBody is a body with a fault.
type panickingBody struct{}

func (panickingBody) Read([]byte) (int, error) { panic("fault of the body") }
func (panickingBody) Close() error             { panic("fault of the body") }

// A goroutine of the package may use an object of net/http that panics. That does not end the
// process, but the stream.
func TestHTTP2_stream_turns_panics_into_its_end(t *testing.T) {
	isEnd := func(t *testing.T, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one that says %q", err, want)
		}
	}
	isLost := func(t *testing.T, s *h2stream) {
		t.Helper()
		if lost, known := s.isLost(); !lost || !known {
			t.Errorf("lost: %t, known: %t, want true for both", lost, known)
		}
	}
	tests := []struct {
		name string
		body io.ReadCloser
		use  func(t *testing.T, s *h2stream)
	}{
		{"a write after the handler has returned", http.NoBody, func(t *testing.T, s *h2stream) {
			_, err := s.Write([]byte("x"))
			isEnd(t, err, "has returned")
			isLost(t, s)
		}},
		{"a look for the end of the stream after the handler has returned", http.NoBody, func(t *testing.T, s *h2stream) {
			isLost(t, s)
			isLost(t, s)
		}},
		{"a reset after the handler has returned", http.NoBody, func(_ *testing.T, s *h2stream) { s.cut(false) }},
		{"a late reset after the handler has returned", http.NoBody, func(_ *testing.T, s *h2stream) { s.resetLate() }},
		{"a body that panics", panickingBody{}, func(t *testing.T, s *h2stream) {
			_, err := s.Read(make([]byte, 1))
			isEnd(t, err, "fault of the body")
		}},
		{"a body that panics in Close", panickingBody{}, func(_ *testing.T, s *h2stream) { s.cut(true) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("CONNECT", "/", nil)
			r.Body = tt.body
			s := newStream(returnedWriter{}, r, r.Body)
			s.begin()
			tt.use(t, s)
			s.finish(true)
			s.cut(true)
			s.release()
			if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a write at the end returned %v, want %v", err, net.ErrClosed)
			}
		})
	}
}

// Middleware that recovers from a panic often answers with an error page. Over HTTP/1.1 it cannot,
// because the connection is hijacked. Over HTTP/2 the stream is reset after the close frame, so
// that the peer does not get the page as frames.
func TestHTTP2_middleware_that_recovers_sends_nothing(t *testing.T) {
	t.Parallel()
	oops := func(c *Conn) error { c.ReceiveMessage(); panic("oops") }
	limit, silent := CloseTimeout(2*time.Second), OnError(func(*Conn, error) {})
	tests := map[string]*Handler{
		"the function of Handle panics":           Handle(oops, limit),
		"the function of Handle calls Goexit":     Handle(func(*Conn) error { runtime.Goexit(); return nil }, limit),
		"the function of HandleConcurrent panics": HandleConcurrent(oops, limit),
		"open of HandleMessages panics":           HandleMessages(func(*Conn) (MessageFunc, error) { panic("oops") }, limit),
		"the function of OnClose panics": Handle(func(*Conn) error { return errors.New("oops") }, limit, silent,
			OnClose(func(*Conn, error) { panic("oops") })),
	}
	for name, h := range tests {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				recover()
				http.Error(w, stars(10000), http.StatusInternalServerError) // more than net/http buffers
			}()
			h.ServeHTTP(w, r)
		}))
		for answers, rounds := range map[bool]int{true: 10, false: 2} {
			t.Run(fmt.Sprintf("%s, and the peer answers: %t", name, answers), func(t *testing.T) {
				t.Parallel()
				for range rounds {
					p := connectHTTP2(t, c)
					p.Conn.Write(clientFrame(true, Text, "x")) // some functions have ended already
					p.expectClose(1011)
					if answers {
						p.Conn.Write(clientFrame(true, Close, closeBody(1011, "")))
					}
					p.Conn.SetReadDeadline(time.Now().Add(wstest.Patience))
					if rest, err := io.ReadAll(p.Buffer); len(rest) > 0 || err == nil || streamOf(p).ResetCode == nil {
						t.Errorf("the peer got %q and error %v, want only a reset", rest, err)
					}
				}
			})
		}
	}
}

// A stream that is gone gives what the peer has sent before, also if a short deadline of the library has
// passed before the watcher has run. A body that blocks nevertheless does not hold the read up.
func TestH2stream_reads_of_a_stream_that_is_gone(t *testing.T) {
	bye := func() io.ReadCloser { return io.NopCloser(strings.NewReader("bye")) }
	tests := []struct {
		name string
		body func() io.ReadCloser
		gone bool
		want error
		took time.Duration
	}{
		{"open", bye, false, os.ErrDeadlineExceeded, 0},
		{"gone", bye, true, nil, 0},
		{"gone, and the body blocks", func() io.ReadCloser { return blockingBody{make(chan struct{})} }, true, os.ErrDeadlineExceeded, goneLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := httptest.NewRequest("CONNECT", "/", nil)
				r.Body = tt.body()
				s := newStream(returnedWriter{}, r, r.Body)
				s.known, s.gone = true, tt.gone
				s.SetReadDeadline(pastTime)
				start := time.Now()
				n, err := s.Read(make([]byte, 10))
				if err != tt.want || err == nil && n != len("bye") {
					t.Errorf("got %d bytes and error %v, want error %v", n, err, tt.want)
				}
				wantDuration(t, "the read", start, tt.took)
				s.cut(true)
				s.release()
			})
		})
	}
}

// A blockingBody blocks until it is closed.
type blockingBody struct{ closed chan struct{} }

func (b blockingBody) Read([]byte) (int, error) { <-b.closed; return 0, net.ErrClosed }
func (b blockingBody) Close() error             { close(b.closed); return nil }
