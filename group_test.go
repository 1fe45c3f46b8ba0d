package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// stalled fills the socket of c, until messages wait in the queue, and returns how many it
// has sent. Their payloads are numbers.
func stalled(t *testing.T, c *Conn, p *peer, size int) (sent int) {
	t.Helper()
	for _, conn := range []any{c.NetConn(), p.Conn} {
		if wrapper, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
			conn = wrapper.NetConn()
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetWriteBuffer(64 << 10)
			tcp.SetReadBuffer(64 << 10)
		}
	}
	for c.out.queued() == 0 {
		if err := c.TrySend(Text, numbered(sent, size)); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	return sent
}

func numbered(i, size int) []byte { return fmt.Appendf(nil, "%-*d", size, i) }

// expectNumbers reads messages and checks that their numbers are those from first to last-1.
func expectNumbers(t *testing.T, p *peer, first, last int) {
	t.Helper()
	for i := first; i < last; i++ {
		f := p.read()
		for f.Opcode.IsControl() {
			f = p.read()
		}
		if number(string(f.Payload)) != i {
			t.Fatalf("got message %.20q, want number %d", f.Payload, i)
		}
	}
}

func TestTrySend_sends_at_once(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	tests := []struct {
		op   Opcode
		data string
	}{{Text, "hello"}, {Binary, ""}, {Binary, strings.Repeat("x", 20_000)}, {Ping, "ping"}, {Pong, ""}}
	for _, tt := range tests {
		if err := c.TrySend(tt.op, []byte(tt.data)); err != nil {
			t.Fatal(err)
		}
		prepared, err := PrepareMessage(tt.op, []byte(tt.data))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.TrySendPrepared(prepared), c.SendPrepared(prepared)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p.expect(tt.op, tt.data)
		}
	}
	if c.out.queued() != 0 || c.out.hasPending.Load() {
		t.Error("something is left to be sent")
	}
}

func TestTrySend_refuses(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	for name, tt := range map[string]struct {
		op   Opcode
		data string
		want error
	}{
		"a close frame":          {Close, "", ErrInvalidOpcode},
		"a continuation":         {Continuation, "", ErrInvalidOpcode},
		"text that is not UTF-8": {Text, "\xff", ErrInvalidUTF8},
		"a long ping":            {Ping, strings.Repeat("x", 126), ErrProtocol},
	} {
		wantError(t, c.TrySend(tt.op, []byte(tt.data)), tt.want)
		_, err := PrepareMessage(tt.op, []byte(tt.data))
		wantError(t, err, tt.want)
		wantError(t, Broadcast(slices.Values([]*Conn{c}), tt.op, []byte(tt.data)), tt.want)
		wantError(t, new(Group).Broadcast(tt.op, []byte(tt.data)), tt.want)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	c.TrySend(Text, []byte("still here"))
	p.expect(Text, "still here")
}

// The sockets of a test with a peer that does not read.
var queueSockets = map[string]func(t testing.TB, opts ...Option) (*Conn, *peer){
	"TCP": newTCPConn,
	"TLS": func(t testing.TB, opts ...Option) (*Conn, *peer) {
		conns := make(chan *Conn, 1)
		p := dialTLS(t, func(c *Conn) error { conns <- c; return waitForEnd(c) }, opts...)
		return <-conns, p
	},
	"a net.Conn of unknown type": func(t testing.TB, opts ...Option) (*Conn, *peer) {
		client, server := tcpPair(t)
		c := newTestConn(wrapped{server}, nil, opts...)
		t.Cleanup(func() { client.Close(); c.Close(1000, "") })
		return c, newPeer(t, client)
	},
}

// Messages of all sending methods arrive in order, also if some of them had to wait.
func TestTrySend_keeps_the_order_with_other_methods(t *testing.T) {
	t.Parallel()
	for name, connect := range queueSockets {
		for _, size := range []int{10, 3000, frameBufferSize - 4, pendingSize - 10, 100_000} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				c, p := connect(t, PingInterval(0), SendQueue(1<<20))
				sent := stalled(t, c, p, size)
				prepared := func() *PreparedMessage {
					m, err := PrepareMessage(Text, numbered(sent, size))
					if err != nil {
						t.Error(err)
					}
					return m
				}
				done := make(chan error, 1)
				go func() {
					ways := []func() error{
						func() error { return c.SendMessage(Text, numbered(sent, size)) },
						func() error { return c.TrySend(Text, numbered(sent, size)) },
						func() error { return c.TrySendPrepared(prepared()) },
						func() error { return c.SendPrepared(prepared()) },
						func() error { return Broadcast(slices.Values([]*Conn{c}), Text, numbered(sent, size)) },
						func() error {
							w, err := c.MessageWriter(Text)
							if err != nil {
								return err
							}
							w.Write(numbered(sent, size))
							return w.Close()
						},
					}
					for i := range 60 {
						if err := ways[i%len(ways)](); errors.Is(err, ErrSendQueueFull) {
							continue
						} else if err != nil {
							done <- err
							return
						}
						sent++
					}
					done <- c.SendMessage(Text, []byte("end"))
				}()
				for next := 0; ; next++ {
					if text := readMessage(p); text == "end" {
						break
					} else if got := number(text); got != next {
						t.Fatalf("got message %.20q, want number %d", text, next)
					}
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// readMessage reads a message, also one in fragments.
func readMessage(p *peer) string {
	f := p.read()
	text := string(f.Payload)
	for !f.Fin {
		f = p.read()
		text += string(f.Payload)
	}
	return text
}

// number returns the number that a message begins with.
func number(text string) int {
	n := -1
	fmt.Sscan(text, &n)
	return n
}

// The bound holds, a message over it is not sent, and the connection stays usable.
func TestTrySend_returns_ErrSendQueueFull(t *testing.T) {
	t.Parallel()
	for name, connect := range queueSockets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 100_000
			c, p := connect(t, PingInterval(0), SendQueue(limit))
			if err := c.TrySend(Text, make([]byte, limit)); !errors.Is(err, ErrSendQueueFull) {
				t.Errorf("got error %v for a message that never fits", err)
			}
			sent := stalled(t, c, p, 3000)
			var err error
			for err == nil {
				if err = c.TrySend(Text, numbered(sent, 3000)); err == nil {
					sent++
				}
				if queued := c.out.queued(); queued > limit {
					t.Fatalf("%d bytes are queued, want at most %d", queued, limit)
				}
			}
			wantError(t, err, ErrSendQueueFull)
			wantMention(t, err.Error(), "3004", "SendQueue is 100000")
			if got := CloseStatus(err); got != StatusTryAgainLater {
				t.Errorf("got close status %v", got)
			}
			if err := endOf(c); err != nil {
				t.Errorf("the connection has ended: %v", err)
			}
			expectNumbers(t, p, 0, sent)
			for c.out.queued() > 0 {
				runtime.Gosched()
			}
			if err := c.TrySend(Text, numbered(sent, 3000)); err != nil {
				t.Error(err)
			}
			expectNumbers(t, p, sent, sent+1)
		})
	}
}

// A close frame comes behind the queue, from every method that closes.
func TestTrySend_is_in_front_of_the_close_frame(t *testing.T) {
	for name, end := range map[string]func(c *Conn){
		"StartClose":  func(c *Conn) { c.StartClose(4001, "") },
		"Close":       func(c *Conn) { go c.Close(4001, "") },
		"SendMessage": func(c *Conn) { go c.SendMessage(Close, []byte(closeBody(4001, ""))) },
		"SendMessage with a deadline": func(c *Conn) {
			c.SetWriteDeadline(time.Now().Add(time.Hour))
			go c.SendMessage(Close, []byte(closeBody(4001, "")))
		},
		"Group.Close": func(c *Conn) {
			var g Group
			g.Join(c)
			go g.Close(context.Background(), 4001, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			sent := stalled(t, c, p, 3000)
			end(c)
			expectNumbers(t, p, 0, sent)
			p.expectClose(4001)
			p.Conn.Close()
		})
	}
}

func TestTrySend_waits_for_an_open_MessageWriter(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	w, err := c.MessageWriter(Binary)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 5000))
	for i := range 3 {
		if err := c.TrySend(Text, numbered(i, 10)); err != nil {
			t.Fatal(err)
		}
	}
	w.Write(make([]byte, 5000))
	w.Close()
	f := p.read()
	for !f.Fin {
		f = p.read()
	}
	expectNumbers(t, p, 0, 3)

	// A message that a close frame cuts off has none behind it.
	w, _ = c.MessageWriter(Binary)
	w.Write(make([]byte, 5000))
	c.TrySend(Text, []byte("dropped"))
	c.StartClose(4001, "")
	if f = p.read(); f.Fin || f.Opcode != Binary {
		t.Errorf("got %v, want the first fragment", f.Header)
	}
	p.expectClose(4001)
}

// A deadline of SendMessage holds although the queue is in front, and nothing is lost.
func TestSendMessage_deadline_behind_the_queue(t *testing.T) {
	for _, size := range []int{3000, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			sent := stalled(t, c, p, size)
			for range 3 {
				c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
				start := time.Now()
				if err := c.SendMessage(Text, []byte("late")); !isTimeout(err) {
					t.Fatalf("got error %v, want an expired deadline", err)
				}
				if took := time.Since(start); took > wstest.Patience/2 {
					t.Errorf("the call took %v", took)
				}
			}
			c.SetWriteDeadline(time.Time{})
			go p.send(Ping, "alive")
			received := make(chan error, 1)
			go func() { _, _, err := c.ReceiveMessage(); received <- err }()
			expectNumbers(t, p, 0, sent)
			if err := c.SendMessage(Text, numbered(sent, 10)); err != nil {
				t.Error(err)
			}
			expectNumbers(t, p, sent, sent+1)
			p.Conn.Close()
			<-received
		})
	}
}

// TrySend never waits: not for the peer, not for a sender that waits for the peer, and not for
// what others want to be sent.
func TestTrySend_never_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0))
		p.Conn.SetDeadline(time.Time{})
		go c.SendMessage(Text, []byte("blocked"))
		synctest.Wait()
		c.out.ping()
		c.out.pong(byPoll, []byte("pong"))
		for i := range 100 {
			timedCall(t, "TrySend", 0, func() error { return c.TrySend(Text, numbered(i, 10)) })
		}
		w := record(p, false)
		synctest.Wait()
		if got := len(w.Events()); got != 103 {
			t.Errorf("the client has received %d frames, want 103", got)
		}
		w.hangUp()
		c.Close(1000, "")
	})
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
		if len(q.frames) == 0 {
			t.Skip("the kernel has taken it")
		}
		return &q.frames[len(q.frames)-1][0]
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
	checkAllocs(t, "a delivery", 0, func() { deliver([]*Conn{c}, p) })
}
