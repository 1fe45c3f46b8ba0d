package hostile

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Peers that never answer a close hold up no other connection, and no goroutine longer than
// CloseTimeout.
func TestHostile_5000_clients_of_HandleMessages_that_never_answer_a_close(t *testing.T) {
	const limit = 1500 * time.Millisecond
	n := min(wstest.Scale(t, 5000, 500), wstest.MaxFiles()/3)
	if testing.Short() {
		n = 200
	}
	var ended atomic.Int64
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		return func(op websocket.Opcode, data []byte) error {
			if string(data) == "close" {
				return &websocket.CloseError{Code: 4000}
			}
			return c.SendMessage(op, data)
		}, nil
	}, websocket.CloseTimeout(limit), websocket.OnClose(func(*websocket.Conn, error) { ended.Add(1) }))
	l := wstest.NewLoad(t)
	l.Run(h, websocket.Handle(echo), nil, func() {
		other := connectOne(l)
		clients := make([]*wstest.Client, n)
		l.Each(n, 64, func(i int) (err error) {
			if clients[i], err = l.Connect(); err == nil {
				err = clients[i].Upgrade()
			}
			return err
		})
		if t.Failed() {
			return
		}
		idle := runtime.NumGoroutine()
		l.Each(n, 64, func(i int) error {
			if _, err := clients[i].Conn.Write(wstest.Message(wstest.Text, "close")); err != nil {
				return err
			}
			f, err := clients[i].ReadFrame()
			if err == nil && f.Opcode() != wstest.Close {
				err = fmt.Errorf("got %v, want a close frame", f)
			}
			return err
		})
		if err := other.RoundTrip("still here"); err != nil {
			t.Errorf("while %d connections are closing: %v", n, err)
		}
		if got := runtime.NumGoroutine() - idle; got > n+50 {
			t.Errorf("%d closing connections have %d goroutines", n, got)
		}
		if !wstest.Eventually(func() bool { return int(ended.Load()) == n }) {
			t.Errorf("%d of %d connections have ended", ended.Load(), n)
		}
		if !wstest.Eventually(func() bool { return runtime.NumGoroutine() <= idle+10 }) {
			t.Errorf("%d goroutines are left of the closing connections", runtime.NumGoroutine()-idle)
		}
	})
}

// connectOne connects a client with a handshake.
func connectOne(l *wstest.Load) *wstest.Client {
	c, err := l.Connect()
	if err == nil {
		err = c.Upgrade()
	}
	if err != nil {
		l.Fatal(err)
	}
	return c
}

// Functions that block for good hold their goroutines, and nothing else of the others.
func TestHostile_functions_that_never_return(t *testing.T) {
	release := make(chan bool)
	n := wstest.Scale(t, 300, 100)
	l := wstest.NewLoad(t)
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		return func(op websocket.Opcode, data []byte) error {
			if string(data) == "block" {
				<-release
			}
			return c.SendMessage(op, data)
		}, nil
	}, websocket.OnError(func(*websocket.Conn, error) {}))
	l.Run(h, websocket.Handle(echo), nil, func() {
		l.Each(n, 32, func(int) error {
			c, err := l.Connect()
			if err == nil {
				err = c.Upgrade()
			}
			if err == nil {
				_, err = c.Conn.Write(wstest.Message(wstest.Text, "block"))
			}
			return err
		})
		l.Each(100, 8, func(int) error { // new connections are served as well
			c, err := l.Connect()
			if err == nil {
				err = c.Upgrade()
			}
			if err != nil {
				return err
			}
			return c.RoundTrip("still here")
		})
		close(release)
	})
}
