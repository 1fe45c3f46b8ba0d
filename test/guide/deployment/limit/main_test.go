package main

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// The handlers whose ServeHTTP returns early count a connection themselves, as docs/deployment.md
// says.
func TestLimit(t *testing.T) {
	handlers := map[string]func(open *atomic.Int64) http.Handler{
		"Handle": func(*atomic.Int64) http.Handler { return websocket.Handle(serve) },
		"Detached": func(open *atomic.Int64) http.Handler {
			return websocket.Handle(func(c *websocket.Conn) error {
				open.Add(1)
				return serve(c)
			}, websocket.Detached(true), uncount(open))
		},
		"HandleMessages": func(open *atomic.Int64) http.Handler {
			return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
				open.Add(1)
				return c.SendMessage, nil
			}, uncount(open))
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open atomic.Int64
				h := limit(2, &open, handler(&open))
				settled := func(n int64) {
					t.Helper()
					if synctest.Wait(); open.Load() != n {
						t.Fatalf("there are %d open connections, want %d", open.Load(), n)
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
}

// uncount counts a connection that has ended.
func uncount(open *atomic.Int64) websocket.Option {
	return websocket.OnClose(func(*websocket.Conn, error) { open.Add(-1) })
}
