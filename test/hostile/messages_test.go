package hostile

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/events"
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
	l.Run(h, inLoop, nil, func() {
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

// Idle connections have neither a goroutine nor a buffer, and nothing of their requests.
func TestHostile_20000_idle_connections_of_HandleMessages(t *testing.T) {
	if testing.Short() || wstest.RaceEnabled() {
		t.Skip("it takes seconds, and the race detector needs memory of its own")
	}
	if !events.Supported {
		t.Skip("each connection has a goroutine on this system, as in TestHostile_10000_idle_connections")
	}
	l := wstest.NewLoad(t)
	var echoed, ended atomic.Int64
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		return func(op websocket.Opcode, data []byte) error {
			defer echoed.Add(1)
			return c.SendMessage(op, data)
		}, nil
	}, websocket.OnClose(func(*websocket.Conn, error) { ended.Add(1) }))
	l.Run(h, inLoop, nil, func() {
		n := min(20_000, wstest.MaxFiles()-l.Before.Files-100)
		before, resident := wstest.Measure(), residentMemory(t)
		stop := startIdleClients(l, n, idleEcho+"=yes")
		connected := false
		for last := int64(-1); !connected && echoed.Load() > last; { // a busy machine takes its time
			last = echoed.Load()
			connected = wstest.Eventually(func() bool { return int(echoed.Load()) == n })
		}
		wstest.Eventually(func() bool { return runtime.NumGoroutine() < before.Goroutines+20 })
		now, residentNow := wstest.Measure(), residentMemory(t)
		live, all := now.Growth(before)/uint64(n), (residentNow-resident)/int64(n)
		t.Logf("%d idle connections: %v, %d bytes each, %d of the process", n, now, live, all)
		switch {
		case !connected:
			t.Errorf("%d of %d connections have echoed", echoed.Load(), n)
		case now.Goroutines > before.Goroutines+20:
			t.Errorf("%d idle connections have %d goroutines", n, now.Goroutines-before.Goroutines)
		case live > 2<<10 || all > 5<<9:
			t.Errorf("an idle connection takes %d bytes of live memory and %d of the process, want at most 2048 and 2560", live, all)
		}
		stop()
		if !wstest.Eventually(func() bool { return int(ended.Load()) == n }) {
			t.Errorf("%d of %d connections have ended", ended.Load(), n)
		}
	})
}

// residentMemory returns how much memory of the machine the process uses, 0 if the system does
// not tell. It gives back to the system what the process does not use.
func residentMemory(t *testing.T) int64 {
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
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
	l.Run(h, inLoop, nil, func() {
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
