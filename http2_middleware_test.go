package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A body that middleware has replaced may not end its reads when it is closed. A wrapper of
// the ResponseWriter may return itself.
func TestHTTP2_faulty_middleware(t *testing.T) {
	t.Run("Close of the body does nothing", func(t *testing.T) {
		closed := make(chan error, 1)
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = io.NopCloser(r.Body)
			c, err := Upgrade(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			go c.Discard()
			closed <- c.Close(StatusNormalClosure, "")
		}))
		p := connectHTTP2(t, c)
		p.expectClose(1000)
		p.send(Close, closeBody(1000, ""))
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
	t.Run("and the peer sends behind its close frame", func(t *testing.T) {
		returned := make(chan struct{})
		h := Handle(receiveAll)
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(returned)
			r.Body = io.NopCloser(r.Body)
			h.ServeHTTP(w, r)
		}))
		p := connectHTTP2(t, c)
		p.send(Close, closeBody(1000, ""))
		p.expectClose(1000)
		p.send(Text, "x")
		select {
		case <-returned:
		case <-time.After(wstest.Patience):
			t.Error("the handler has not returned")
		}
	})
	t.Run("Unwrap returns its receiver", func(t *testing.T) {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Handle(echoAll).ServeHTTP(&ownWrapper{w}, r)
		}))
		s, err := c.Connect()
		if err != nil || s.Status != 500 {
			t.Errorf("got the status %d and error %v, want 500", s.Status, err)
		}
		const types = "*websocket.ownWrapper cannot send frames"
		if body, _ := io.ReadAll(s); !strings.HasPrefix(string(body), types) {
			t.Errorf("got the body %q, want one that begins with %q", body, types)
		}
	})
}

// Each middleware may wrap the ResponseWriter.
func TestHTTP2_many_wrappers(t *testing.T) {
	c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 20 {
			w = unwrapping{refusingWriter{w}}
		}
		Handle(echoAll).ServeHTTP(w, r)
	}))
	checkEcho(connectHTTP2(t, c))
}

// The handler of AccessDenied cannot accept a WebSocket, as a status 2xx would do.
func TestHTTP2_AccessDenied_does_not_accept(t *testing.T) {
	flush := func(w http.ResponseWriter) { w.(http.Flusher).Flush() }
	write := func(w http.ResponseWriter) { io.WriteString(w, "a") }
	head := func(status int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(status) }
	}
	control := func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }
	tests := []struct {
		name   string
		steps  []func(http.ResponseWriter)
		status int
		body   string
	}{
		{"nothing", nil, 403, ""},
		{"200", steps(head(200), write), 403, "a"},
		{"204", steps(head(204)), 403, ""},
		{"a body", steps(write, write), 403, "aa"},
		{"a flush", steps(flush), 403, ""},
		{"a flush of a ResponseController", steps(control, write), 403, "a"},
		{"200, flushed before the body", steps(head(200), flush, write), 403, "a"},
		{"early hints", steps(head(103)), 403, ""},
		{"early hints and 200", steps(head(103), head(200), write), 403, "a"},
		{"early hints and 401", steps(head(103), head(401), write), 401, "a"},
		{"303", steps(head(303)), 303, ""},
		{"401 and 200", steps(head(401), head(200), write), 401, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dialHTTP2(t, Handle(noop, AcceptConnection(func(*http.Request) bool { return false }), denied(func(w http.ResponseWriter) {
				for _, step := range tt.steps {
					step(w)
				}
			})))
			s, err := c.Connect()
			if err != nil {
				t.Fatal(err)
			}
			// The status is that of the last response, behind informational ones.
			if body, err := io.ReadAll(s); err != nil || s.Status != tt.status || string(body) != tt.body {
				t.Errorf("got the status %d, the body %q and error %v, want %d %q", s.Status, body, err, tt.status, tt.body)
			}
		})
	}
}

func steps(s ...func(http.ResponseWriter)) []func(http.ResponseWriter) { return s }

// Middleware against cross-site requests lets the GET of HTTP/1.1 pass, but not CONNECT. docs/http2.md
// says how to change that.
func TestHTTP2_CrossOriginProtection(t *testing.T) {
	var strict, bypassed http.CrossOriginProtection
	bypassed.AddInsecureBypassPattern("CONNECT /ws")
	tests := []struct {
		name, origin, site string
		protection         *http.CrossOriginProtection
		status             int
	}{
		{"the own origin", "https://" + wstest.Host, "same-origin", &strict, 200},
		{"an allowed origin", "https://pages.example", "cross-site", &strict, 403},
		{"an allowed origin with a bypass", "https://pages.example", "cross-site", &bypassed, 200},
		{"another origin with a bypass", "https://evil.example", "cross-site", &bypassed, 403},
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", Handle(echoAll, AcceptConnection(AllowOrigins("https://pages.example"))))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dialHTTP2(t, tt.protection.Handler(mux))
			s, err := c.Connect(":path: /ws", "origin: "+tt.origin, "sec-fetch-site: "+tt.site)
			if err != nil || s.Status != tt.status {
				t.Errorf("got the status %d and error %v, want %d", s.Status, err, tt.status)
			}
			s.Close()
		})
	}
}

// An ownWrapper has an Unwrap method with a fault.
type ownWrapper struct{ http.ResponseWriter }

func (w *ownWrapper) Unwrap() http.ResponseWriter { return w }

// The context of the request may be done before the stream has ended. That changes nothing: the
// answers to the messages in front of a close frame are still sent.
func TestHTTP2_end_of_a_context_that_is_not_the_end_of_the_stream(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handle(func(c *Conn) error {
				for msg, err := range c.Messages() {
					if err != nil {
						return err
					}
					time.Sleep(300 * time.Millisecond) // longer than streamLost looks
					if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
						return err
					}
				}
				return nil
			})
			c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
				defer cancel()
				h.ServeHTTP(w, r.WithContext(ctx))
			}))
			p := connectHTTP2(t, c)
			p.send(Text, "a")
			p.send(Close, closeBody(1000, ""))
			p.expect(Text, "a")
			p.expectClose(1000)
		})
	}
}

// A peer that ends its side without a close frame sees soon that its connection has ended, although
// the handler has not returned.
func TestHTTP2_peer_that_ends_its_side_gets_a_reset(t *testing.T) {
	t.Parallel() // a poll finds the end within a second
	ended, stop := make(chan struct{}), make(chan struct{})
	h := Handle(func(c *Conn) error {
		<-c.Context().Done()
		close(ended)
		<-stop
		return nil
	}, OnError(func(*Conn, error) {}))
	c := dialHTTP2(t, h)
	p := connectHTTP2(t, c)
	streamOf(p).CloseWrite()
	<-ended
	streamOf(p).SetReadDeadline(time.Now().Add(wstest.Patience))
	if _, err := streamOf(p).Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer got error %v, want a reset", err)
	}
	close(stop)
}

// A timingWriter is a ResponseWriter whose writes take some time. It records the deadlines.
type timingWriter struct {
	http.ResponseWriter
	takes     time.Duration
	deadlines []time.Time
}

func (w *timingWriter) Write(p []byte) (int, error)     { time.Sleep(w.takes); return len(p), nil }
func (w *timingWriter) FlushError() error               { return nil }
func (w *timingWriter) SetReadDeadline(time.Time) error { return nil }
func (w *timingWriter) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return nil
}

// net/http would reset the stream at a deadline of the future, also after a write that has ended
// in time. So it gets only one that has passed, and the write that it cuts off returns an error.
func TestHTTP2_stream_is_reset_only_by_a_write_that_fails(t *testing.T) {
	for _, tt := range []struct {
		takes, limit time.Duration
		cut          bool
	}{{time.Second, 2 * time.Second, false}, {2 * time.Second, time.Second, true}, {time.Hour, 0, false}} {
		t.Run(fmt.Sprintf("%v of %v", tt.takes, tt.limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &timingWriter{takes: tt.takes}
				s := newStream(w, httptest.NewRequest("CONNECT", "/", nil), http.NoBody)
				for range 3 {
					if s.SetWriteDeadline(time.Time{}); tt.limit > 0 {
						s.SetWriteDeadline(time.Now().Add(tt.limit))
					}
					_, err := s.Write([]byte("x"))
					if cut := errors.Is(err, os.ErrDeadlineExceeded); cut != tt.cut {
						t.Errorf("got error %v", err)
					}
					time.Sleep(time.Hour) // the deadline passes after the write
				}
				if reset := len(w.deadlines) > 0; reset != tt.cut {
					t.Errorf("the stream is reset: %t, want %t", reset, tt.cut)
				}
			})
		})
	}
}

// A body that reads without end does not race with the end of the stream, and no timer is left.
func TestHTTP2_stream_with_another_body_ends(t *testing.T) {
	computes(t)
	for range 50 {
		r := httptest.NewRequest("CONNECT", "/", nil)
		r.Body = io.NopCloser(endless{})
		s := newStream(&timingWriter{}, r, r.Body)
		s.SetReadDeadline(time.Now().Add(time.Hour))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p := make([]byte, 16); ; {
				if _, err := s.Read(p); err != nil {
					return
				}
			}
		}()
		time.Sleep(100 * time.Microsecond)
		s.cut(true)
		s.release()
		<-done
	}
}

// endless is a Reader of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The body of the request is the stream. Functions of the user cannot read from it, although
// r.FormValue reads a body whose client says that it is a form.
func TestHTTP2_forms_do_not_read_the_stream(t *testing.T) {
	form := func(t *testing.T, r *http.Request) {
		t.Helper()
		if got := r.FormValue("user"); got != "Ada" {
			t.Errorf("got the user %q, want Ada", got)
		}
	}
	refuse := AcceptConnection(func(*http.Request) bool { return false })
	tests := []struct {
		name    string
		status  int
		handler func(t *testing.T) http.Handler
	}{
		{"in the function", 200, func(t *testing.T) http.Handler {
			return Handle(func(c *Conn) error { form(t, c.Request()); return echoAll(c) })
		}},
		{"in AcceptConnection", 200, func(t *testing.T) http.Handler {
			return HandleConcurrent(echoAll, AcceptConnection(func(r *http.Request) bool { form(t, r); return true }))
		}},
		{"in open of HandleMessages", 200, func(t *testing.T) http.Handler {
			return HandleMessages(func(c *Conn) (MessageFunc, error) { form(t, c.Request()); return openEcho(c) })
		}},
		{"after Upgrade", 200, func(t *testing.T) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c, err := Upgrade(w, r); err == nil {
					form(t, c.Request())
					echoAll(c)
					c.Close(StatusNormalClosure, "")
				}
			})
		}},
		{"in AccessDenied", 403, func(t *testing.T) http.Handler {
			return Handle(echoAll, refuse, AccessDenied(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				form(t, r)
				w.WriteHeader(http.StatusForbidden)
			})))
		}},
		{"in OnRefused", 403, func(t *testing.T) http.Handler {
			return Handle(echoAll, refuse, OnRefused(func(r *http.Request, _ *HandshakeError) { form(t, r) }))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan struct{})
			h := tt.handler(t)
			c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				h.ServeHTTP(w, r)
			}))
			s, err := c.Connect(":path: /?user=Ada", "content-type: multipart/form-data; boundary=x")
			if err != nil || s.Status != tt.status {
				t.Fatalf("got the status %d and error %v, want %d", s.Status, err, tt.status)
			}
			if p := (&peer{wstest.NewClient(t, s), t}); tt.status == 200 {
				checkEcho(p)
				p.Close()
			}
			await(t, ended)
		})
	}
}
