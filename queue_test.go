package websocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// stalled fills the socket of c and half of its queue, and returns how many messages it has sent.
// Their payloads are numbers. One message in the queue would not be enough, because the kernel may
// make room later, when it has moved what it has taken to the other side.
func stalled(t *testing.T, c *Conn, p *peer, size int) (sent int) {
	t.Helper()
	for _, conn := range []any{c.NetConn(), p.Conn} {
		if tcp := tcpOf(conn); tcp != nil {
			tcp.SetWriteBuffer(64 << 10)
			tcp.SetReadBuffer(64 << 10)
		}
	}
	for c.out.queued() < c.timer.timeouts.sendQueue/2 {
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
	tests := []struct {
		op   Opcode
		data string
	}{{Text, "hello"}, {Binary, ""}, {Binary, strings.Repeat("x", 20_000)}, {Ping, "ping"}, {Pong, ""}}
	for _, name := range []string{"TCP", "a Unix socket", "memnet"} {
		t.Run(name, func(t *testing.T) {
			c, p := queueSockets[name](t, PingInterval(0))
			for _, tt := range tests {
				prepared, err := PrepareMessage(tt.op, []byte(tt.data))
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(c.TrySend(tt.op, []byte(tt.data)), c.TrySendPrepared(prepared)); err != nil {
					t.Fatal(err)
				}
				atOnce := sock.Supported || name == "memnet" // else the flush timer writes it
				if atOnce && (c.out.queued() != 0 || c.out.hasPending.Load()) {
					t.Errorf("something of the %v message of %d bytes is left to be sent", tt.op, len(tt.data))
				}
				if err := c.SendPrepared(prepared); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					p.expect(tt.op, tt.data)
				}
			}
		})
	}
}

// If the user has closed the socket, TrySend accepts a message, because a write has not failed yet.
func TestTrySend_on_a_socket_that_is_closed(t *testing.T) {
	for name, connect := range queueSockets {
		t.Run(name, func(t *testing.T) {
			c, _ := connect(t, PingInterval(0))
			c.NetConn().Close()
			if err := c.TrySend(Text, []byte("lost")); err != nil {
				t.Errorf("got error %v, want nil", err)
			}
		})
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
			if errors.Is(err, net.ErrClosed) {
				t.Errorf("the error %v says that the connection has ended", err)
			}
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

// A write deadline of the user that has passed does not make messages wait that the socket takes at
// once.
func TestTrySend_after_a_write_deadline_has_passed(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0))
	if !sock.Supported {
		t.Skip("this system cannot write without waiting")
	}
	c.SetWriteDeadline(pastTime)
	c.out.lock.Lock()
	c.out.stopped = true // the flush timer, so that the queue stays as it is
	c.out.lock.Unlock()
	if err := c.TrySend(Text, []byte("now")); err != nil || c.Stats().Queued > 0 {
		t.Errorf("got error %v and %d bytes in the queue, want none", err, c.Stats().Queued)
	}
	p.expect(Text, "now")
	wantError(t, c.SendMessage(Text, []byte("late")), os.ErrDeadlineExceeded)
}

// The peer does not read what was sent without waiting for it. A receiving method of the same
// goroutine still gets its messages.
func TestReceive_does_not_wait_for_the_rest_of_a_write(t *testing.T) {
	late := func(t *testing.T, err error) {
		t.Helper()
		wantError(t, err, os.ErrDeadlineExceeded)
	}
	for name, send := range map[string]func(t *testing.T, c *Conn){
		"TrySend": func(t *testing.T, c *Conn) {
			if err := c.TrySend(Text, []byte(stars(2000))); err != nil {
				t.Fatal(err)
			}
		},
		"TrySend, and a SendMessage that was cut off": func(t *testing.T, c *Conn) {
			c.TrySend(Text, []byte(stars(2000)))
			c.SetWriteDeadline(pastTime)
			late(t, c.SendMessage(Text, []byte("late")))
		},
		"Write of a Stream that was cut off": func(t *testing.T, c *Conn) {
			s := c.Stream(Text)
			s.SetWriteDeadline(time.Now().Add(time.Millisecond))
			_, err := s.Write([]byte("x"))
			late(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, Compression(0), PingInterval(0)) // with compression, the message does not go into the queue
				send(t, c)
				start := time.Now()
				time.AfterFunc(time.Second, func() { p.Conn.Write(clientFrame(true, Text, "hello")) })
				_, data, err := c.ReceiveMessage()
				if took := time.Since(start); err != nil || string(data) != "hello" || took != time.Second {
					t.Errorf("got %q and error %v after %v, want hello after 1s", data, err, took)
				}
				c.CloseNow()
			})
		})
	}
}

// A close frame comes behind the queue, from every method that closes.
func TestTrySend_is_in_front_of_the_close_frame(t *testing.T) {
	t.Parallel()
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
			c, p := newTCPConn(t, PingInterval(0), CloseTimeout(wstest.Patience))
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

	// No message is sent after one that a close frame has cut off.
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
	t.Parallel()
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
			p.send(Ping, "alive")
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
// frames that other goroutines want to be sent.
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
