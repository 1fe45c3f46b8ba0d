package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// The sockets of a test with a peer that does not read.
var queueSockets = map[string]func(t testing.TB, opts ...Option) (*Conn, *peer){
	"TCP":           newTCPConn,
	"a Unix socket": newUnixConn,
	"TLS": func(t testing.TB, opts ...Option) (*Conn, *peer) {
		conns := make(chan *Conn, 1)
		p := dialTLS(t, func(c *Conn) error { conns <- c; return waitForEnd(c) }, opts...)
		c := <-conns
		t.Cleanup(func() { c.CloseNow() }) // a poll would find the end of the peer within a second
		return c, p
	},
	"memnet": func(t testing.TB, opts ...Option) (*Conn, *peer) {
		c, client, p := newMemoryConn(t, opts...)
		t.Cleanup(func() {
			client.Close()
			c.Close(StatusNormalClosure, "")
		})
		return c, p
	},
	"a net.Conn of unknown type": func(t testing.TB, opts ...Option) (*Conn, *peer) {
		client, server := tcpPair(t)
		c := newTestConn(wrapped{server}, nil, opts...)
		t.Cleanup(func() { client.Close(); c.Close(1000, "") })
		return c, newPeer(t, client)
	},
}

// Queues share the bytes of a message.
func TestBroadcast_shares_the_bytes(t *testing.T) {
	var conns []*Conn
	for range 3 {
		c, p := newTCPConn(t, PingInterval(0))
		stalled(t, c, p, 3000)
		conns = append(conns, c)
	}
	Broadcast(slices.Values(conns), Text, []byte("shared"))
	last := func(c *Conn) *byte {
		q := c.out.queueOf()
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.last == nil {
			t.Skip("the kernel has taken it")
		}
		return &q.last.bytes[0]
	}
	for _, c := range conns[1:] {
		if last(c) != last(conns[0]) {
			t.Error("two queues have copies")
		}
	}
}

// A member that reads nothing is closed with 1013, and the others get everything.
func TestBroadcast_closes_slow_connections(t *testing.T) {
	t.Parallel()
	for name, connect := range queueSockets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g Group
			fast, reader := connect(t, PingInterval(0))
			slow, silent := connect(t, PingInterval(0), SendQueue(50_000), CloseTimeout(50*time.Millisecond))
			if !g.Join(fast) || !g.Join(slow) {
				t.Fatal("Join failed")
			}
			sent := 0
			for ; endOf(slow) == nil; sent++ {
				g.Broadcast(Text, numbered(sent, 3000))
				expectNumbers(t, reader, sent, sent+1)
			}
			g.Broadcast(Text, numbered(sent, 3000))
			expectNumbers(t, reader, sent, sent+1)
			wantError(t, endOf(slow), ErrSendQueueFull)
			wantError(t, slow.TrySend(Text, nil), net.ErrClosed)
			if got := CloseStatus(endOf(slow)); got != StatusTryAgainLater {
				t.Errorf("got close status %v, want 1013", got)
			}
			if err := endOf(fast); err != nil {
				t.Errorf("the other member has ended: %v", err)
			}
			if got := g.Len(); got != 1 {
				t.Errorf("the group has %d members, want 1", got)
			}
			slow.Close(1000, "") // waits until the socket is closed
			silent.Conn.Close()
		})
	}
}

// A slow peer that reads on gets its queue, and then the close frame.
func TestBroadcast_closes_behind_the_queue(t *testing.T) {
	computes(t)
	c, p := newTCPConn(t, PingInterval(0), SendQueue(50_000))
	var g Group
	g.Join(c)
	sent := 0
	for endOf(c) == nil {
		g.Broadcast(Text, numbered(sent, 3000))
		sent++
	}
	expectNumbers(t, p, 0, sent-1)
	wantMention(t, p.expectClose(StatusTryAgainLater), "send queue full")
}

func TestGroup_members(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g, h Group
		c, p := newPipeConn(t)
		w := record(p, true)
		for range 2 {
			if !g.Join(c) || !h.Join(c) {
				t.Fatal("Join failed")
			}
		}
		if got := slices.Collect(g.All()); !slices.Equal(got, []*Conn{c}) || g.Len() != 1 {
			t.Errorf("the group has the members %v", got)
		}
		h.Leave(c)
		h.Leave(c)
		if h.Len() != 0 || g.Len() != 1 {
			t.Errorf("the groups have %d and %d members, want 0 and 1", h.Len(), g.Len())
		}
		h.Join(c)
		w.hangUp()
		c.Close(1000, "")
		if h.Len() != 0 || g.Len() != 0 {
			t.Errorf("the groups have %d and %d members after the end, want none", h.Len(), g.Len())
		}
		if g.Join(c) || g.Len() != 0 {
			t.Error("an ended connection has joined")
		}
		for range g.All() {
			t.Error("the empty group yields a member")
		}
		if err := g.Broadcast(Text, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestGroup_Close(t *testing.T) {
	computes(t)
	tests := []struct {
		name   string
		answer bool
		limit  time.Duration // of ctx, 0 for none
		want   time.Duration
		err    error
	}{
		{"with peers that answer", true, 0, 0, nil},
		{"with peers that do not answer", false, 0, 5 * time.Second, nil}, // CloseTimeout
		{"until ctx is done", false, 2 * time.Second, 2 * time.Second, context.DeadlineExceeded},
		{"with a ctx that is done", false, time.Nanosecond, time.Nanosecond, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Group
				var handlers sync.WaitGroup
				for range 100 {
					c, p := newPipeConn(t, PingInterval(0))
					g.Join(c)
					handlers.Go(func() { <-runHandler(c, waitForEnd) })
					go func() {
						p.Conn.SetDeadline(time.Time{})
						p.expectClose(4001)
						if tt.answer {
							p.Write(clientFrame(true, Close, closeBody(4001, "")))
						}
						io.Copy(io.Discard, p.Conn)
						p.Conn.Close()
					}()
				}
				if err := g.Close(t.Context(), 999, ""); !errors.Is(err, ErrProtocol) || g.Len() != 100 {
					t.Errorf("got error %v for an invalid code and %d members, want ErrProtocol and 100", err, g.Len())
				}
				ctx := context.Background()
				if tt.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				err := timedCall(t, "Close", tt.want, func() error { return g.Close(ctx, 4001, "bye") })
				if !errors.Is(err, tt.err) {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
				if g.Len() != 0 {
					t.Errorf("the group has %d members", g.Len())
				}
				handlers.Wait()
				c, p := newPipeConn(t)
				if g.Join(c) {
					t.Error("a connection has joined a closed group")
				}
				p.Conn.Close()
				c.CloseNow()
			})
		})
	}
}

// Members join, leave and end while messages are broadcast.
func TestGroup_survives_races(t *testing.T) {
	computes(t)
	var g Group
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, p := newTCPConn(t, PingInterval(0), SendQueue(2000))
				go io.Copy(io.Discard, p.Conn)
				g.Join(c)
				switch n % 4 {
				case 0:
					g.Leave(c)
				case 1:
					c.CloseNow()
				case 2:
					p.Conn.(*net.TCPConn).SetLinger(0)
					p.Conn.Close()
				case 3:
					c.SendMessage(Text, []byte("own"))
					c.StartClose(1000, "")
				}
				if i == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 300 {
				g.Broadcast(Text, numbered(i, 100))
				for c := range g.All() {
					c.TrySend(Ping, nil)
				}
			}
		})
	}
	time.AfterFunc(100*time.Millisecond, func() { close(stop) })
	wg.Wait()
	g.Close(t.Context(), 1000, "")
}

func TestBroadcast_to_many(t *testing.T) {
	computes(t)
	const members = 3 * broadcastShare
	var g Group
	var peers []*peer
	for range members {
		c, p := newTCPConn(t, PingInterval(0))
		g.Join(c)
		peers = append(peers, p)
	}
	for i := range 5 {
		if err := g.Broadcast(Text, numbered(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range peers {
		expectNumbers(t, p, 0, 5)
	}
}

// A delivery must not allocate, because there are thousands for one Broadcast.
func TestBroadcast_delivery_without_allocation(t *testing.T) {
	client, server := tcpPair(t)
	c := newTestConn(server, nil)
	defer c.expire(net.ErrClosed)
	go io.Copy(io.Discard, client)
	p, err := PrepareMessage(Text, []byte("to all"))
	if err != nil {
		t.Fatal(err)
	}
	entries := 0.0 // of the queue
	if !sock.Supported {
		entries = 1 // because only a goroutine may write there
	}
	checkAllocs(t, "a delivery", entries, func() { deliver([]*Conn{c}, p) })
}

// A ctx that is done is no error if nothing was left to close.
func TestGroup_Close_of_closed_connections_with_a_ctx_that_is_done(t *testing.T) {
	c, _ := newTCPConn(t, PingInterval(0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // select takes either case
		c.CloseNow()
		if err := closeAll(ctx, []*Conn{c}); err != nil {
			t.Fatalf("got error %v, want none", err)
		}
	}
}

// The end of a connection makes its Context done before it leaves its groups.
func TestGroup_Close_leaves_no_member_that_is_about_to_leave(t *testing.T) {
	c, p := newPipeConn(t)
	var g Group
	g.Join(c)
	c.timer.enter(phaseClosed, errCause, 0) // as Conn.end, before leaveGroups
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Close(ctx, StatusGoingAway, "")
	if n := g.Len(); n != 0 {
		t.Errorf("the group has %d members after Close, want none", n)
	}
	c.leaveGroups()
	c.timer.stop()
	p.Conn.Close()
}

func TestGroup_lists_members_in_the_order_in_which_they_came(t *testing.T) {
	var s connSet
	conns := make([]*Conn, 6)
	for i := range conns {
		conns[i] = new(Conn)
		s.add(conns[i])
		s.add(conns[i])
	}
	for _, step := range []struct {
		remove int
		left   []int
	}{
		{1, []int{0, 5, 2, 3, 4}}, // the last one takes its place
		{1, []int{0, 5, 2, 3, 4}}, // it is not a member any more
		{4, []int{0, 5, 2, 3}},
		{0, []int{3, 5, 2}},
		{5, []int{3, 2}},
		{2, []int{3}},
		{3, []int{}},
	} {
		s.remove(conns[step.remove])
		got := []int{}
		for i, c := range s.list {
			got = append(got, slices.Index(conns, c))
			if s.at[c] != i {
				t.Errorf("after the removal of %d: connection %d is at %d, want %d", step.remove, got[i], s.at[c], i)
			}
		}
		if !slices.Equal(got, step.left) || len(s.at) != len(got) {
			t.Errorf("after the removal of %d: got %v and %d indexes, want %v", step.remove, got, len(s.at), step.left)
		}
	}
	for _, c := range s.list[:cap(s.list)] {
		if c != nil {
			t.Error("the list keeps a connection that was removed")
		}
	}
}
