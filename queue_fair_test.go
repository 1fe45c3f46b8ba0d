package websocket

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// fedConn returns a connection whose queue a goroutine keeps full, and whose peer reads steadily.
// got counts the frames of the peer by their opcodes. The queue is larger than what the socket
// takes at a time, so that it is never empty. With a smaller read buffer, TCP pauses for seconds in
// all, because it sends no small segments.
func fedConn(t *testing.T, opts ...Option) (c *Conn, client net.Conn, got *[16]atomic.Int64) {
	t.Helper()
	client, server := tcpPair(t)
	tcpOf(server).SetWriteBuffer(16 << 10)
	tcpOf(client).SetReadBuffer(64 << 10)
	c, got = newTestConn(server, nil, append(opts, SendQueue(256<<10))...), new([16]atomic.Int64)
	var running sync.WaitGroup
	running.Go(func() { receiveAll(c) })
	running.Go(func() {
		for c.Context().Err() == nil {
			if c.TrySend(Binary, make([]byte, 1000)) != nil {
				time.Sleep(time.Millisecond) // the message is dropped
			}
		}
	})
	running.Go(func() {
		for i := 0; ; i++ {
			f, err := ReadFrame(client, 1<<20)
			if err != nil {
				return
			}
			got[f.Opcode].Add(1)
			if i%8 == 0 {
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	t.Cleanup(func() {
		c.CloseNow()
		client.Close()
		running.Wait()
	})
	return c, client, got
}

// Other goroutines go on sending while the queue is written, so it may never be empty. Nothing
// may wait until it is empty.
func TestQueue_that_is_never_empty_holds_nothing_up(t *testing.T) {
	t.Parallel()
	tests := map[string]func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool{
		"a pong": func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool {
			client.Write(clientFrame(true, Ping, "ping"))
			return eventually(func() bool { return got[Pong].Load() > 0 })
		},
		"the pings of the keepalive": func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool {
			return eventually(func() bool { return got[Ping].Load() > 2 })
		},
		"SendMessage": func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool {
			return c.SendMessage(Text, []byte("text")) == nil && eventually(func() bool { return got[Text].Load() > 0 })
		},
		"a MessageWriter": func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool {
			w, err := c.MessageWriter(Text)
			return err == nil && w.Close() == nil && eventually(func() bool { return got[Text].Load() > 0 })
		},
		"a close frame": func(c *Conn, client io.Writer, got *[16]atomic.Int64) bool {
			return c.StartClose(StatusGoingAway, "") == nil && eventually(func() bool { return got[Close].Load() > 0 })
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, client, got := fedConn(t, PingInterval(50*time.Millisecond), ConnectionTimeout(time.Minute))
			time.Sleep(100 * time.Millisecond) // until the queue is full
			done := make(chan bool, 1)
			go func() { done <- run(c, client, got) }()
			if !await(t, done) {
				t.Errorf("it did not arrive; the peer has %d messages, and %d bytes are queued", got[Binary].Load(), c.Stats().Queued)
			}
		})
	}
}

func eventually(done func() bool) bool {
	for start := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(start) > wstest.Patience {
			return false
		}
	}
	return true
}

// A message of which the socket has taken a part must not be copied for each connection.
func TestTrySendPrepared_shares_the_rest_of_a_message(t *testing.T) {
	if !sock.Supported {
		t.Skip("this system cannot write without waiting")
	}
	client, server := tcpPair(t)
	tcpOf(server).SetWriteBuffer(16 << 10)
	tcpOf(client).SetReadBuffer(16 << 10)
	c := newTestConn(server, nil)
	defer c.CloseNow()
	p, err := PrepareMessage(Binary, make([]byte, 1<<20-100))
	if err != nil {
		t.Fatal(err)
	}
	c.out.lock.Lock() // so that the flush timer does not take it
	err = c.out.writeNow(&c.out.seldomUsed().queue, queuedFrame{bytes: p.frame, shared: true}, false)
	rest, written := c.out.pending.frames, c.out.pending.written
	c.out.lock.Unlock()
	if err != nil || written == 0 || &rest[0] != &p.frame[0] || cap(rest) != len(p.frame) {
		t.Errorf("got error %v and %d bytes written of a copy; want a part of the frame itself", err, written)
	}
}

func TestPreparedMessage_zero_value_is_refused(t *testing.T) {
	c, _ := newTCPConn(t)
	defer c.CloseNow()
	for _, p := range []*PreparedMessage{{}, nil} {
		wantError(t, c.SendPrepared(p), ErrInvalidOpcode)
		wantError(t, c.TrySendPrepared(p), ErrInvalidOpcode)
	}
	if s := c.Stats(); s.BytesSent > 0 || s.Queued > 0 || endOf(c) != nil {
		t.Errorf("got %+v and end %v, want nothing sent", s, endOf(c))
	}
}

// The panic must be on the goroutine of the caller, because net/http recovers it there. With many
// connections, Broadcast uses other goroutines too.
func TestBroadcast_to_nil_panics_on_the_goroutine_of_the_caller(t *testing.T) {
	c, _ := newTCPConn(t)
	conns := slices.Repeat([]*Conn{c}, 4*broadcastShare)
	conns[len(conns)-1], conns[1] = nil, nil
	defer func() {
		if got := fmt.Sprint(recover()); got != "websocket: Broadcast to a *Conn that is nil" {
			t.Errorf("got panic %s", got)
		}
	}()
	Broadcast(slices.Values(conns), Text, []byte("hello"))
}

func TestHandler_zero_value_panics_with_a_text(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "the zero Handler") {
			t.Errorf("got panic %s", got)
		}
	}()
	new(Handler).ServeHTTP(httptest.NewRecorder(), wstest.ReadRequest(wstest.Request()))
}

func TestGroup_Join_of_nil_panics_and_changes_nothing(t *testing.T) {
	var g Group
	func() {
		defer func() { recover() }()
		g.Join(nil)
		t.Error("Join(nil) did not panic")
	}()
	if g.Len() != 0 {
		t.Errorf("the group has %d members", g.Len())
	}
}

// The membership is noted in the group and in the connection. The two must not differ.
func TestGroup_Join_and_Leave_at_the_same_time(t *testing.T) {
	for range 200 {
		var g Group
		c := newTestConn(wstest.NewSocket(nil), nil)
		g.Join(c)
		var running sync.WaitGroup
		running.Go(func() { g.Leave(c) })
		running.Go(func() { g.Join(c) })
		running.Wait()
		if member, noted := g.Len() == 1, len(c.seldomUsed().groups) == 1; member != noted {
			t.Fatalf("it is a member: %t, and the connection knows the group: %t", member, noted)
		}
		c.CloseNow()
		if g.Len() != 0 {
			t.Fatal("a connection that has ended is a member")
		}
	}
}

func TestGroup_Close_twice_waits_for_the_same_connections(t *testing.T) {
	t.Parallel()
	var g Group
	c, _ := newTCPConn(t, CloseTimeout(50*time.Millisecond))
	g.Join(c)
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if err := g.Close(context.Background(), StatusGoingAway, ""); err != nil {
				t.Error(err)
			}
			if !c.life.closed.IsSet() {
				t.Error("Close has returned, and the socket is open")
			}
		})
	}
	running.Wait()
}

// The ctx of Shutdown may end while a connection is added.
func TestShutdown_cuts_a_connection_that_is_being_added(t *testing.T) {
	for range 200 {
		h := Handle(receiveAll)
		c := newTestConn(wstest.NewSocket(nil), nil)
		h.conns.begin()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		var running sync.WaitGroup
		running.Go(func() { h.conns.add(c) })
		running.Go(func() { h.Shutdown(ctx) })
		running.Wait()
		if err := endOf(c); err == nil {
			t.Fatal("the connection is open")
		}
		c.Close(StatusNormalClosure, "")
	}
}

// Each end has a cause, although a caller may give none.
func TestLife_end_without_a_cause(t *testing.T) {
	c := newTestConn(wstest.NewSocket(nil), nil)
	c.expire(nil)
	if err := endOf(c); CloseStatus(err) != StatusAbnormalClosure {
		t.Errorf("got end %v, want 1006", err)
	}
}
