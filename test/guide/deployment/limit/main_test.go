package main

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket"
	_ "github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// forEachKind runs a subtest for each kind of handler. l allows two connections, and left gets a
// value when one of them has left.
func forEachKind(t *testing.T, run func(t *testing.T, l *limit, h http.Handler, left chan struct{})) {
	entered := func(l *limit) websocket.HandlerFunc {
		return func(c *websocket.Conn) error {
			if err := l.enter(); err != nil {
				return err
			}
			return serve(c)
		}
	}
	kinds := map[string]func(*limit, websocket.Option) http.Handler{
		"Handle": func(l *limit, leave websocket.Option) http.Handler {
			return websocket.Handle(entered(l), leave)
		},
		"HandleConcurrent": func(l *limit, leave websocket.Option) http.Handler {
			return websocket.HandleConcurrent(entered(l), leave)
		},
		"Detached": func(l *limit, leave websocket.Option) http.Handler {
			return websocket.Handle(entered(l), leave, websocket.Detached(true))
		},
		"HandleMessages": func(l *limit, leave websocket.Option) http.Handler {
			return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
				return c.SendMessage, l.enter()
			}, leave)
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			l, left := &limit{most: 2}, make(chan struct{}, 10)
			run(t, l, kind(l, websocket.OnClose(func(c *websocket.Conn, err error) {
				l.leave(c, err)
				left <- struct{}{}
			})), left)
		})
	}
}

func TestLimit(t *testing.T) {
	forEachKind(t, func(t *testing.T, l *limit, h http.Handler, _ chan struct{}) {
		synctest.Test(t, func(t *testing.T) {
			h := l.refuse(h)
			settled := func(n int64) {
				t.Helper()
				if synctest.Wait(); l.open.Load() != n {
					t.Fatalf("there are %d open connections, want %d", l.open.Load(), n)
				}
			}
			first := websockettest.Dial(t, h)
			settled(1)
			second := websockettest.Dial(t, h)
			settled(2)
			third := websockettest.Dial(t, h).Response()
			if third.StatusCode != http.StatusServiceUnavailable || !third.Close {
				t.Errorf("the third client gets %s, Close is %t, want 503 and the end of the connection", third.Status, third.Close)
			}
			settled(2)
			first.Close(websocket.StatusNormalClosure, "")
			settled(1)
			if got := websockettest.Dial(t, h).Response().StatusCode; got != http.StatusSwitchingProtocols {
				t.Errorf("after one has left, a client gets %d, want 101", got)
			}
			second.Send(websocket.Text, []byte("hello"))
			if _, data := second.Receive(); string(data) != "hello" {
				t.Errorf("got %q, want the echo", data)
			}
		})
	})
}

// ServeHTTP returns only at the end of the connection over HTTP/2, whatever the kind of handler. A
// refusal does not end the streams of other clients.
func TestLimit_over_HTTP2(t *testing.T) {
	forEachKind(t, func(t *testing.T, l *limit, h http.Handler, left chan struct{}) {
		c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, l.refuse(h)).Listener.Addr().String(), 0)
		connect := func() *wstest.Client {
			t.Helper()
			client := c.ConnectClient(t)
			if err := client.RoundTrip("hello"); err != nil { // so its function has begun
				t.Fatal(err)
			}
			return client
		}
		first, second := connect(), connect()
		if s, err := c.Connect(); err != nil || s.Status != http.StatusServiceUnavailable {
			t.Fatalf("the third client gets status %d and error %v, want 503", s.Status, err)
		}
		if err := second.RoundTrip("after the refusal"); err != nil {
			t.Error(err)
		}
		first.Send(8, "\x03\xe8")
		first.ExpectClose(1000)
		<-left
		connect()
	})
}

// The third handshake is in progress while the first two connections begin.
func TestLimit_of_simultaneous_handshakes(t *testing.T) {
	forEachKind(t, func(t *testing.T, l *limit, h http.Handler, _ chan struct{}) {
		synctest.Test(t, func(t *testing.T) {
			third := l.refuse(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				websockettest.Dial(t, l.refuse(h))
				websockettest.Dial(t, l.refuse(h))
				synctest.Wait()
				h.ServeHTTP(w, r)
			}))
			websockettest.Dial(t, third).WantClose(websocket.StatusTryAgainLater)
			if synctest.Wait(); l.open.Load() != 2 {
				t.Errorf("there are %d open connections, want 2", l.open.Load())
			}
		})
	})
}
