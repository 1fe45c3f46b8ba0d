package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// newBrokenConn is newPipeConn, but writes of the server fail after broken is set.
func newBrokenConn(t testing.TB, noDeadlines bool, opts ...Option) (*Conn, *peer, *atomic.Bool) {
	broken := new(atomic.Bool)
	c, p := newHookedConn(t, func(s *wstest.Socket) {
		s.NoDeadlines = noDeadlines
		s.Hook = func(op *wstest.Op) (int, error) {
			if op.Write && broken.Load() {
				return 0, syscall.EPIPE
			}
			return op.Do(op.P)
		}
	}, opts...)
	return c, p, broken
}

// within calls f and returns its error. If the call takes longer than d, within fails the
// test and closes the peer's socket.
func within(t *testing.T, what string, d time.Duration, p *peer, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- f() }()
	select {
	case err := <-done:
		t.Logf("%s returned after %v: %v", what, time.Since(start), err)
		return err
	case <-time.After(d):
		t.Errorf("%s still waits after %v", what, d)
		p.Conn.Close()
		return <-done
	}
}

// Without deadlines, the library cannot wake a goroutine that reads from the socket.
func TestLost_on_a_socket_without_deadlines(t *testing.T) {
	t.Run("SendMessage", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p, broken := newBrokenConn(t, true, ConnectionTimeout(0))
			broken.Store(true)
			within(t, "SendMessage", time.Hour, p, func() error { return c.SendMessage(Text, nil) })
			p.Conn.Close()
			c.Close(1000, "")
		})
	})
	t.Run("SendMessage, defaults", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p, broken := newBrokenConn(t, true)
			broken.Store(true)
			within(t, "SendMessage", 10*time.Second, p, func() error { return c.SendMessage(Text, nil) })
			p.Conn.Close()
			c.Close(1000, "")
		})
	})
	t.Run("a failed ping beside a receiver", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p, broken := newBrokenConn(t, true, ConnectionTimeout(0))
			broken.Store(true)
			within(t, "ReceiveMessage", time.Hour, p, func() error { _, _, err := c.ReceiveMessage(); return err })
			p.Conn.Close()
			c.Close(1000, "")
		})
	})
	t.Run("a failed ping and no receiver", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p, broken := newBrokenConn(t, true, ConnectionTimeout(0))
			broken.Store(true)
			within(t, "Context", time.Hour, p, func() error { <-c.Context().Done(); return nil })
			p.Conn.Close()
			c.Close(1000, "")
		})
	})
}

// A peer that sends all the time must not delay the end of a connection whose frame was
// cut off.
func TestLost_is_limited_in_total(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []byte
	}{
		{"pongs", clientFrame(true, Pong, "")},
		{"byte by byte", nil},
	} {
		for _, call := range []string{"SendMessage", "Close"} {
			t.Run(tt.name+"/"+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					go func() {
						p.Conn.Read(make([]byte, 1))
						wire := tt.send
						if wire == nil {
							wire = clientHeader(true, Binary, 100000)
						}
						for {
							if _, err := p.Conn.Write(wire); err != nil {
								return
							}
							if tt.send == nil {
								wire = []byte{'x'}
							}
							time.Sleep(5 * time.Millisecond)
						}
					}()
					c.SetWriteDeadline(time.Now().Add(time.Second))
					start := time.Now()
					if call == "SendMessage" {
						within(t, "SendMessage", time.Minute, p, func() error { return c.SendMessage(Binary, make([]byte, 100)) })
					} else {
						go c.SendMessage(Binary, make([]byte, 100))
						time.Sleep(1001 * time.Millisecond)
						within(t, "Close", time.Minute, p, func() error { return c.Close(1000, "") })
					}
					if took := time.Since(start); took > 1200*time.Millisecond {
						t.Errorf("it took %v with a write deadline of 1s", took)
					}
					p.Conn.Close()
					c.Close(1000, "")
					time.Sleep(time.Second)
				})
			})
		}
	}
}

// A handler that has not received yet still gets the messages that have arrived.
func TestLost_keeps_a_message_for_the_first_receiving_call(t *testing.T) {
	t.Parallel()
	for _, frames := range []bool{false, true} {
		c, p := newTCPConn(t, PingInterval(20*time.Millisecond))
		p.Write(slices.Concat(clientFrame(true, Ping, ""), clientFrame(true, Ping, ""), clientFrame(true, Ping, ""),
			clientFrame(true, Text, "hello"), clientFrame(true, Close, closeBody(1000, "bye"))))
		p.Conn.Close()
		if !eventually(func() bool { return c.life.current() >= phaseLost && beginsWith(c, Text) }) {
			t.Fatal("no ping has failed, or the pings are still in front of the message")
		}
		if frames {
			f, err := c.ReadFrame()
			if string(f.Payload) != "hello" {
				t.Errorf("ReadFrame: got %+v and error %v, want hello", f, err)
			}
			continue
		}
		_, data, err := c.ReceiveMessage()
		if string(data) != "hello" {
			t.Errorf("got %q and error %v, want hello", data, err)
		}
		if _, _, err := c.ReceiveMessage(); CloseStatus(err) != 1000 {
			t.Errorf("got error %v, want 1000", err)
		}
	}
}

// beginsWith reports whether the read buffer begins with a frame that has this opcode.
func beginsWith(c *Conn, op Opcode) bool {
	defer lockInput(c)()
	b := c.in.buf.bytes()
	return len(b) > 0 && Opcode(b[0]&opcodeBits) == op
}

// A handler that is busy while a ping fails gets the messages that are still in the socket.
func TestLost_keeps_messages_that_are_in_the_socket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, broken := newBrokenConn(t, false)
		go p.Conn.Write(clientFrame(true, Text, "first"))
		if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "first" {
			t.Fatal(string(data), err)
		}
		broken.Store(true)
		go p.Conn.Write(slices.Concat(clientFrame(true, Text, "second"), clientFrame(true, Close, closeBody(1000, "bye"))))
		time.Sleep(16 * time.Second) // the ping has failed at 15 s
		_, data, err := c.ReceiveMessage()
		if string(data) != "second" {
			t.Errorf("got %q and error %v, want second", data, err)
		}
		p.Conn.Close()
		c.Close(1000, "")
	})
}

// A handler leaves input unread and waits for the end. The end is the peer's close frame.
func TestLost_finds_a_close_frame_after_an_unread_message(t *testing.T) {
	for _, opts := range [][]Option{nil, {ConnectionTimeout(0)}} {
		t.Run(fmt.Sprint(len(opts)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, broken := newBrokenConn(t, false, opts...)
				done := runHandler(c, func(c *Conn) error {
					c.ReceiveMessage()
					return waitForEnd(c)
				})
				start := time.Now()
				p.send(Text, "first")
				go io.Copy(io.Discard, p.Conn)
				go p.Conn.Write(slices.Concat(clientFrame(true, Text, "second"), clientFrame(true, Close, closeBody(4000, "bye"))))
				time.Sleep(20 * time.Second) // the poll at 15 s has read both frames
				broken.Store(true)           // the ping at 30 s fails
				select {
				case err := <-done:
					if CloseStatus(err) != 4000 {
						t.Errorf("%d options: got error %v, want 4000", len(opts), err)
					}
				case <-time.After(24 * time.Hour):
					t.Errorf("%d options: no end after %v", len(opts), time.Since(start))
					c.Close(1000, "")
					<-done
				}
			})
		})
	}
}

// A close frame ends the connection at once if there is nothing before it that the handler can
// receive. Before the first receiving call, the handler also gets an invalid close frame, because it
// may want frames.
func TestLost_leaves_what_the_handler_can_receive(t *testing.T) {
	bye := clientFrame(true, Close, closeBody(4000, "bye"))
	tests := []struct {
		name   string
		frames []byte
		found  bool
	}{
		{"close", bye, true},
		{"ping, close", slices.Concat(clientFrame(true, Ping, ""), bye), true},
		{"message, close", slices.Concat(clientFrame(true, Text, "last"), bye), false},
		{"invalid close", clientFrame(true, Close, "x"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, _ := newBrokenConn(t, false, PingInterval(0))
				go p.Conn.Write(tt.frames)
				unlock := lockInput(c)
				_, found := c.in.lastLook(false).(*peerClose)
				left := c.in.holdsInput()
				unlock()
				if found != tt.found || left == found {
					t.Errorf("close frame found: %v, input left: %v; want %v and %v", found, left, tt.found, !tt.found)
				}
				p.Conn.Close()
				c.Close(1000, "")
			})
		})
	}
}

// A receiving call may hold the reader at the moment when the end is due, and may return a message
// only later, because the process gets no processor. The messages and the close frame that have
// arrived are not lost.
func TestLost_waits_for_a_receiving_call_that_is_about_to_return(t *testing.T) {
	fails := map[string]func(c *Conn) error{
		"a ping has failed":    func(c *Conn) error { c.out.ping(); return waitForEnd(c) },
		"a message has failed": func(c *Conn) error { return c.SendMessage(Text, nil) },
	}
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, broken := newBrokenConn(t, false, PingInterval(0))
				go p.send(Text, "first")
				c.ReceiveMessage()
				go p.Conn.Write(slices.Concat(clientFrame(true, Text, "hello"), clientFrame(true, Close, closeBody(4000, "bye"))))
				time.Sleep(800 * time.Millisecond) // the first poll has read both frames
				broken.Store(true)
				unlock := lockInput(c)
				failed := make(chan error, 1)
				go func() { failed <- fail(c) }()
				time.Sleep(drainTime / 2)
				unlock()
				if name == "a ping has failed" { // else the sender waits for the end, and may be the handler
					if _, data, err := c.ReceiveMessage(); string(data) != "hello" {
						t.Errorf("got %q and error %v, want hello", data, err)
					}
				}
				if err := receiveAll(c); CloseStatus(err) != 4000 {
					t.Errorf("receiving: got error %v, want 4000", err)
				}
				if err := <-failed; name == "a message has failed" && CloseStatus(err) != 4000 {
					t.Errorf("SendMessage: got error %v, want 4000", err)
				}
				p.Conn.Close()
			})
		})
	}
}

// In the middle of a frame, the buffer begins with payload, not with a header.
func TestLost_in_the_middle_of_a_message(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, broken := newBrokenConn(t, false)
		go p.Write(slices.Concat(clientFrame(true, Binary, string(make([]byte, 100))), clientFrame(true, Close, closeBody(4000, "bye"))))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		broken.Store(true)
		time.Sleep(16 * time.Second) // the ping has failed
		n, err := r.Read(make([]byte, 100))
		if n != 90 || err != nil {
			t.Errorf("got %d bytes and error %v, want the 90 that are buffered", n, err)
		}
		c.Close(1000, "")
	})
}

// ReadFrame gets the frames that are in the buffer, and the close frame as one of them.
func TestLost_keeps_frames_for_ReadFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, broken := newBrokenConn(t, false)
		go p.Write(slices.Concat(clientFrame(true, Text, "first"), clientFrame(true, Text, "second"), clientFrame(true, Close, closeBody(4000, "bye"))))
		if _, err := c.ReadFrame(); err != nil {
			t.Fatal(err)
		}
		broken.Store(true)
		time.Sleep(16 * time.Second)
		f, err := c.ReadFrame()
		if string(f.Payload) != "second" {
			t.Errorf("got frame %+v and error %v, want the second frame", f, err)
		}
		if err := endOf(c); err != nil && CloseStatus(err) != 4000 {
			t.Errorf("the connection ended with %v, want the peer's close frame", err)
		}
		c.Close(1000, "")
	})
}

// The user's read deadline still applies after a write has failed, also while bytes arrive.
func TestLost_respects_the_read_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, broken := newBrokenConn(t, false)
		broken.Store(true)
		go func() {
			p.Conn.Write(clientFrame(true, Ping, ""))
			wire := clientHeader(true, Binary, 100_000)
			for {
				if _, err := p.Conn.Write(wire); err != nil {
					return
				}
				wire = []byte("x")
				time.Sleep(5 * time.Millisecond)
			}
		}()
		c.SetReadDeadline(time.Now().Add(time.Second))
		within(t, "ReceiveMessage", time.Minute, p, func() error { _, _, err := c.ReceiveMessage(); return err })
		p.Conn.Close()
		c.Close(1000, "")
		time.Sleep(time.Second)
	})
}

// A close frame that could not be sent is not the cause of the end.
func TestLost_close_frame_is_not_why_the_connection_ended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, broken := newBrokenConn(t, false)
		broken.Store(true)
		go p.Conn.Write(clientFrame(true, Close, closeBody(1000, "bye")))
		err := c.SendMessage(Close, []byte(closeBody(4001, "")))
		var peer *CloseError
		if CloseStatus(err) != 1000 || errors.Is(err, net.ErrClosed) || !errors.As(err, &peer) {
			t.Errorf("got error %v with %v, want the peer's 1000: 4001 was never sent", err, CloseStatus(err))
		}
		p.Conn.Close()
		c.Close(1000, "")
	})
}

// More than a read buffer of messages is before the close frame.
func TestLost_finds_a_close_frame_after_many_messages(t *testing.T) {
	wire := slices.Concat(clientFrame(true, Ping, ""), messageBurst(20, string(make([]byte, 1000))), clientFrame(true, Ping, ""), clientFrame(true, Close, closeBody(1000, "bye")))
	for name, send := range map[string]func(c *Conn) error{
		"SendMessage": func(c *Conn) error { return c.SendMessage(Binary, nil) },
		"WriteFrame": func(c *Conn) error {
			if _, err := c.ReadFrame(); err != nil {
				return err
			}
			return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Pong}})
		},
		"Close":         func(c *Conn) error { c.out.ping(); return c.Close(4000, "") },
		"MessageWriter": func(c *Conn) error { w, _ := c.MessageWriter(Text); return w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := wstest.NewSocket(slices.Collect(slices.Chunk(wire, 1500))...)
				s.FailWrites(syscall.EPIPE)
				c := newTestConn(s, nil)
				wantBye(t, send(c))
				wantBye(t, endOf(c))
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// A peer that has closed and does not read is not taken for one that is only slow.
func TestWriteTimeout_does_not_hide_a_close_frame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, WriteTimeout(7*time.Second))
		go func() {
			time.Sleep(time.Second)
			p.send(Close, closeBody(1000, "bye"))
		}()
		wantBye(t, c.SendMessage(Text, []byte("the peer does not read")))
		c.Close(StatusNormalClosure, "")
	})
}

// After a frame was cut off, no close frame can be sent, so there is nothing to wait for.
func TestLost_does_not_drain_after_a_frame_that_was_cut_off(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		go func() {
			p.Conn.Read(make([]byte, 1))
			time.Sleep(time.Second)
			p.send(Close, closeBody(1000, "bye"))
		}()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		start := time.Now()
		wantBye(t, c.SendMessage(Binary, make([]byte, 100)))
		if took := time.Since(start); took > time.Second+3*pingPoll {
			t.Errorf("SendMessage took %v with a write deadline of 1s", took)
		}
		p.Conn.Close()
		c.Close(StatusNormalClosure, "")
	})
}

// ReadFrame has returned the close frame, so its bytes are not in the buffer any more.
func TestLost_after_ReadFrame_has_returned_the_close_frame(t *testing.T) {
	computes(t)
	c, p := newTCPConn(t, PingInterval(0))
	p.send(Close, closeBody(4000, "bye"))
	if f, err := c.ReadFrame(); err != nil || f.Opcode != Close {
		t.Fatal(f, err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.ReadFrame(); !isTimeout(err) {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Time{})
	p.Reset()
	var err error
	for range 1000 {
		if err = c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}, Payload: make([]byte, 1000)}); err != nil {
			break
		}
	}
	if got := CloseStatus(err); got != StatusAbnormalClosure {
		t.Errorf("got error %v, want that of the network", err)
	}
}

// The close frame is found although a read deadline of the user has passed.
func TestLost_looks_in_spite_of_a_read_deadline_that_has_passed(t *testing.T) {
	computes(t)
	c, p := newTCPConn(t, PingInterval(0))
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
		t.Fatal(err)
	}
	p.send(Close, closeBody(4000, "bye"))
	p.Conn.Close()
	time.Sleep(10 * time.Millisecond)
	var err error
	for err == nil {
		err = c.SendMessage(Text, []byte("x"))
	}
	if CloseStatus(err) != 4000 {
		t.Errorf("got error %v, want the peer's close", err)
	}
}

// A receiving method whose deadline has passed before it reads ends the connection only if there is
// nothing to receive, and then with the close frame that has arrived.
func TestLost_receiving_after_a_read_deadline_that_has_passed(t *testing.T) {
	reads := map[string]func(c *Conn) (string, error){
		"ReceiveMessage": receiveOnce["ReceiveMessage"],
		"Discard":        func(c *Conn) (string, error) { return "", c.Discard() },
		"Stream": func(c *Conn) (string, error) {
			b := make([]byte, 100)
			n, err := c.Stream(Binary).Read(b)
			return string(b[:n]), err
		},
	}
	for name, read := range reads {
		for _, want := range []string{"", "hello"} {
			t.Run(fmt.Sprintf("%s, unread %q", name, want), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, client, p := newMemoryConn(t, PingInterval(0))
					if want != "" {
						p.send(Binary, want)
					}
					p.send(Close, closeBody(4000, "bye"))
					client.Close()
					c.TrySend(Text, nil)
					synctest.Wait() // its write has failed
					c.SetReadDeadline(time.Now())
					got, err := read(c)
					if want != "" && isTimeout(err) {
						c.SetReadDeadline(time.Time{})
						got, err = read(c)
					}
					if name == "Discard" {
						got = want
					}
					if got != want {
						t.Errorf("got %q and error %v, want %q", got, err, want)
					}
					if err == nil {
						_, err = read(c)
					}
					if CloseStatus(err) != 4000 {
						t.Errorf("got error %v, want the peer's close", err)
					}
				})
			})
		}
	}
}

// A peer that sends all the time does not keep a receiving goroutine for ever.
func TestLost_ends_for_a_goroutine_that_receives(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		t.Run(fmt.Sprint("concurrent=", concurrent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, broken := newBrokenConn(t, false)
				broken.Store(true)
				go func() {
					for {
						if _, err := p.Conn.Write(clientFrame(true, Ping, "")); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
				run := runHandler
				if concurrent {
					run = runConcurrent
				}
				done := run(c, receiveAll)
				select {
				case err := <-done:
					t.Log(err)
				case <-time.After(time.Minute):
					t.Errorf("a minute after the failed write, the connection has not ended")
					c.expire(errCause)
					<-done
				}
				p.Conn.Close()
				time.Sleep(time.Second)
			})
		})
	}
}

// A socket without deadlines is not read for a close frame when WriteTimeout passes.
func TestWriteTimeout_on_a_socket_without_deadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
			s := wstest.Wrap(conn)
			s.NoDeadlines = true
			return s
		}, WriteTimeout(7*time.Second), ConnectionTimeout(0))
		err := within(t, "SendMessage", 8*time.Second, p, func() error { return c.SendMessage(Text, []byte("unread")) })
		wantError(t, err, errTimedOut)
		c.Close(StatusNormalClosure, "")
	})
}
