package websocket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// queued is a frame as TrySend passes it to writer.try.
func queued(text string) queuedFrame {
	return queuedFrame{bytes: AppendFrame(nil, Frame{Header{Fin: true, Opcode: Text}, []byte(text)})}
}

// A message of TrySend waits for the end of an open MessageWriter. If that fails, nothing may come
// between its fragments and the close frame.
func TestTrySend_is_dropped_with_a_broken_MessageWriter(t *testing.T) {
	t.Parallel() // it waits for the peer for a second
	c, p := newTCPConn(t, PingInterval(0))
	w, err := c.MessageWriter(Text)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(strings.Repeat("x", 5000) + "\xc3"))
	if err := c.TrySend(Text, []byte("queued")); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.Close(), ErrInvalidUTF8)
	if f := p.read(); f.Fin || f.Opcode != Text {
		t.Errorf("got the frame %+v, want the first fragment", f.Header)
	}
	p.expectClose(StatusInternalError)
}

// TrySend first looks whether the connection is open. If the close frame is written in that moment, it
// is nevertheless the last frame.
func TestTrySend_sends_nothing_behind_the_close_frame(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	c.out.lock.Lock() // as the goroutine that closes
	c.out.close(byLibrary, AppendClose(nil, StatusGoingAway, ""))
	err := c.out.try(queued("late"))
	c.out.release(byLibrary)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v, want net.ErrClosed", err)
	}
	p.expectClose(StatusGoingAway)
	c.CloseNow()
	if f, err := p.ReadFrame(); err == nil {
		t.Errorf("got the frame %#x behind the close frame", f.First)
	}
}

// The queue counts the bytes of a frame. A frame that is compressed for all connections does not
// keep its message too.
func TestTrySend_queue_of_compressed_messages_takes_no_more_than_it_counts(t *testing.T) {
	c, _ := newTCPConn(t, PingInterval(0), Compression(0), SendQueue(256<<10))
	noise := make([]byte, 100<<10)
	rand.Read(noise)
	for c.Stats().Queued == 0 {
		if err := c.TrySend(Binary, noise); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	for sent := 0; ; sent++ {
		m, err := PrepareMessage(Binary, bytes.Repeat([]byte{'a'}, 4096)) // as Broadcast does
		if err != nil {
			t.Fatal(err)
		}
		if err := c.TrySendPrepared(m); errors.Is(err, ErrSendQueueFull) && sent > 10 {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("the queue holds %d KiB, want about SendQueue", grown>>10)
	}
	runtime.KeepAlive(c)
	c.CloseNow()
}

// A pong can be left to the flush timer. A sender that writes what is pending must not stop the
// timer then.
func TestPong_that_is_left_to_the_flush_timer_is_sent(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	c.out.lock.Lock()
	c.out.urgent.keepPong([]byte("pong"))
	c.out.enqueue(&c.out.seldomUsed().queue, queued("A"))
	c.out.flushSoon()
	c.out.writeQueue(bySender, allWrites)
	c.out.release(bySender)
	p.expect(Text, "A")
	p.expect(Pong, "pong")
}

// A pong that is left to the flush timer is sent before the close frame, and not after a later pong.
func TestPong_that_is_left_to_the_flush_timer_keeps_its_place(t *testing.T) {
	keep := func(c *Conn) {
		c.out.lock.Lock()
		defer c.out.lock.Unlock()
		c.out.urgent.keepPong([]byte("one"))
	}
	t.Run("before a close frame", func(t *testing.T) {
		c, p := newTCPConn(t, PingInterval(0))
		keep(c)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		p.expect(Pong, "one")
		p.expectClose(4000)
	})
	t.Run("before a later pong", func(t *testing.T) {
		c, p := newTCPConn(t, PingInterval(0))
		keep(c)
		c.out.pong(byReceiver, []byte("two"))
		c.out.requestFlush(byLibrary)
		c.SendMessage(Text, []byte("end"))
		p.expect(Pong, "two") // RFC 6455 section 5.5.3: the latest is enough
		p.expect(Text, "end")
	})
}

// A Broadcast that is larger than SendQueue reaches the members that keep up.
func TestBroadcast_larger_than_SendQueue(t *testing.T) {
	var g Group
	const size = 100_000
	var peers []*peer
	for range 3 {
		c, p := newTCPConn(t, PingInterval(0), SendQueue(size/2))
		g.Join(c)
		peers = append(peers, p)
	}
	for range 3 {
		if err := g.Broadcast(Binary, []byte(stars(size))); err != nil {
			t.Fatal(err)
		}
		for i, p := range peers {
			if f, err := p.ReadFrame(); err != nil || len(f.Payload) != size {
				t.Fatalf("member %d: got a frame %#x of %d bytes and error %v", i, f.First, len(f.Payload), err)
			}
		}
	}
}

// The peer ends its side without a close frame, and goes on reading, while goroutines send. What TrySend
// has accepted is sent.
func TestTrySend_is_written_at_the_end_of_the_stream(t *testing.T) {
	const senders = 6
	for _, overTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", overTLS), func(t *testing.T) {
			t.Parallel()
			accepted := make(chan int, senders)
			send := func(c *Conn) {
				n := 0
				for {
					switch err := c.TrySend(Binary, make([]byte, 100)); {
					case err == nil:
						n++
					case !errors.Is(err, ErrSendQueueFull):
						accepted <- n
						return
					}
					runtime.Gosched()
				}
			}
			h := Handle(func(c *Conn) error {
				for range senders {
					go send(c)
				}
				return c.Discard()
			}, SendQueue(4<<20))
			serve, dial := wstest.Serve, wstest.Dial
			if overTLS {
				serve, dial = wstest.ServeTLS, wstest.DialTLS
			}
			srv := serve(t, h)
			for range 20 {
				p := dial(t, srv.Listener.Addr().String())
				p.Handshake()
				got := 0
				for {
					if _, err := p.ReadFrame(); err != nil {
						break
					}
					if got++; got == 1 {
						p.ShutWrite()
					}
				}
				p.Conn.Close()
				want := 0
				for range senders {
					want += await(t, accepted)
				}
				if got != want {
					t.Fatalf("%d messages were accepted, and %d have arrived", want, got)
				}
			}
		})
	}
}
