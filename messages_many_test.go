package websocket

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/events"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// If the user closes the socket, against the documentation, the number of its descriptor may be
// used for another connection. Neither connection gets messages of the other.
func TestHandleMessages_socket_closed_by_the_user(t *testing.T) {
	conns := make(chan *Conn, 10)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		select {
		case conns <- c:
		default:
		}
		return c.SendMessage(op, data)
	}))
	for range 5 {
		p := srv.dial(t)
		checkEcho(p)
		c := await(t, conns)
		c.NetConn().Close()
		next := srv.dial(t)
		checkEcho(next)
		c.CloseNow()
		checkEcho(next)
		next.Close()
		<-conns
	}
}

// The methods for many connections work as with Handle.
func TestHandleMessages_groups_queues_and_pings(t *testing.T) {
	var g Group
	srv := startMessages(t, func(c *Conn) (MessageFunc, error) {
		g.Join(c)
		return func(op Opcode, data []byte) error { return c.TrySend(op, data) }, nil
	})
	const n = 20
	peers := make([]*peer, n)
	for i := range peers {
		peers[i] = srv.dial(t)
		checkEcho(peers[i])
	}
	if err := g.Broadcast(Text, []byte("to all")); err != nil || g.Len() != n {
		t.Errorf("Broadcast to %d members: got error %v", g.Len(), err)
	}
	for _, p := range peers {
		p.expect(Text, "to all")
	}
	pinged := make(chan error, n)
	for c := range srv.h.Conns() {
		go func() { _, err := c.Ping(t.Context()); pinged <- err }()
	}
	for _, p := range peers {
		f := p.Read()
		p.send(Pong, string(f.Payload))
	}
	for range peers {
		if err := await(t, pinged); err != nil {
			t.Errorf("Ping: got error %v", err)
		}
	}
	if s := srv.h.Stats(); s.Open != n || s.MessagesReceived != n || s.MessagesSent != 2*n {
		t.Errorf("got the statistics %+v, want %d connections, %d messages received and %d sent", s, n, n, 2*n)
	}
	for _, p := range peers {
		p.Close()
	}
}

// Idle connections have no goroutine, and many functions that block at once hold up no other
// connection, on any number of processors.
func TestHandleMessages_functions_that_block(t *testing.T) {
	for procs, n := range map[int]int{1: 200, 2: 1000, 8: 200} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			n := wstest.Scale(t, n, min(n, 300))
			if testing.Short() {
				n = 100
			}
			goOn := make(chan bool)
			var blocked atomic.Int32
			srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
				if string(data) == "block" {
					blocked.Add(1)
					<-goOn
				}
				return c.SendMessage(op, data)
			}))
			before := runtime.NumGoroutine()
			peers := make([]*peer, n)
			for i := range peers {
				peers[i] = srv.dial(t)
			}
			other := srv.dial(t)
			checkEcho(other)
			if events.Supported && !wstest.Eventually(func() bool { return runtime.NumGoroutine() < before+4*procs+10 }) {
				t.Errorf("%d idle connections have %d goroutines", n, runtime.NumGoroutine()-before)
			}
			for _, p := range peers {
				p.send(Text, "block")
			}
			if !wstest.Eventually(func() bool { return int(blocked.Load()) == n }) {
				t.Fatalf("%d of %d functions run", blocked.Load(), n)
			}
			checkEcho(other)
			close(goOn)
			for _, p := range peers {
				p.expect(Text, "block")
				p.Conn.Close()
			}
			other.Close()
			if _, err := shutDown(srv.h, wstest.Patience); err != nil {
				t.Errorf("Shutdown: got error %v", err)
			}
		})
	}
}

// Shutdown waits for the functions that run.
func TestHandleMessages_shutdown_waits_for_functions(t *testing.T) {
	computes(t)
	running, goOn := make(chan bool), make(chan bool)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error { running <- true; <-goOn; return nil }))
	p := srv.dial(t)
	p.send(Text, "hello")
	await(t, running)
	done := make(chan error)
	go func() { _, err := shutDown(srv.h, wstest.Patience); done <- err }()
	p.expectClose(1001)
	p.Conn.Close()
	select {
	case <-done:
		t.Error("Shutdown has returned while a function runs")
	case <-time.After(10 * time.Millisecond):
	}
	goOn <- true
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

// Connections whose peers do not answer the close frame have one goroutine each until they end.
func TestHandleMessages_shutdown_has_one_goroutine_per_connection(t *testing.T) {
	if !events.Supported {
		t.Skip("this system has no event loop")
	}
	const conns = 100
	var ended atomic.Int32
	srv := startMessages(t, openEcho, OnClose(func(_ *Conn, err error) {
		if CloseStatus(err) != StatusGoingAway {
			t.Errorf("got the end %v, want 1001", err)
		}
		ended.Add(1)
	}))
	peers := make([]*peer, conns)
	for i := range peers {
		peers[i] = srv.dial(t)
		checkEcho(peers[i])
	}
	before, left := runtime.NumGoroutine(), srv.h.conns.all()
	for _, c := range left {
		c.StartClose(StatusGoingAway, "")
	}
	wstest.Eventually(func() bool { return !slices.ContainsFunc(left, inLoop) })
	if got := runtime.NumGoroutine() - before; got > conns+10 {
		t.Errorf("%d connections that are closed have %d goroutines more, want one each", conns, got)
	}
	for _, p := range peers {
		p.Conn.Close()
	}
	if !wstest.Eventually(func() bool { return ended.Load() == conns && srv.h.Stats().Open == 0 }) {
		t.Errorf("OnClose was called %d times, want %d; %+v", ended.Load(), conns, srv.h.Stats())
	}
}

// Connections that are closing hold no worker of the event loop while they wait for their peers.
func TestHandleMessages_closing_connections_hold_no_worker(t *testing.T) {
	const conns, most = 100, 50
	ends := map[string]MessageFunc{
		"the function returns an error": func(Opcode, []byte) error { return &CloseError{Code: 4008} },
		"the function panics":           func(Opcode, []byte) error { panic(http.ErrAbortHandler) },
	}
	for name, fn := range ends {
		t.Run(name, func(t *testing.T) {
			srv := startMessages(t, func(*Conn) (MessageFunc, error) { return fn, nil }, CloseTimeout(time.Minute))
			peers := make([]*peer, conns)
			for i := range peers {
				peers[i] = srv.dial(t)
				peers[i].send(Text, "close")
				if f := peers[i].Read(); f.Opcode() != byte(Close) {
					t.Fatalf("got %v, want a close frame", f)
				}
			}
			if !wstest.Eventually(func() bool { return workers() <= most }) {
				t.Errorf("%d connections that are closing have %d workers, want at most %d", conns, workers(), most)
			}
			for _, p := range peers {
				p.Conn.Close()
			}
		})
	}
}

// workers returns how many goroutines are workers of the event loop.
func workers() int {
	stacks := make([]byte, 4<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("events.(*loop).work("))
}

// Two connections that always have more messages take turns. Both the number of the messages and
// their bytes count.
func TestHandleMessages_busy_connections_take_turns(t *testing.T) {
	if !events.Supported {
		t.Skip("this system has no event loop")
	}
	tests := []struct {
		name     string
		wire     []byte // of a connection, few bytes, so that they arrive before the connection is served
		messages int
	}{
		{"many small messages", bytes.Repeat(clientFrame(true, Binary, ""), 12_000), 12_000},
		{"64 large messages", bytes.Repeat(compressedMessage(Binary, stars(64<<10)), 64), 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			opened, begin, done := make(chan bool, 2), make(chan bool), make(chan bool)
			var mu sync.Mutex
			var latest *Conn
			turns, left := 0, 2*tt.messages
			open := openWith(func(c *Conn, _ Opcode, _ []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if latest != c {
					latest = c
					turns++
				}
				if left--; left == 0 {
					close(done)
				}
				return nil
			})
			srv := startMessages(t, func(c *Conn) (MessageFunc, error) {
				opened <- true
				<-begin
				return open(c)
			}, Compression(0))
			for range 2 {
				p := srv.dial(t, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
				p.Write(tt.wire)
				await(t, opened)
			}
			close(begin)
			await(t, done)
			if turns < 4 {
				t.Errorf("the connections have taken %d turns, want at least 4", turns)
			}
		})
	}
}
