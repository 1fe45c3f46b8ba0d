package websocket

import (
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A close frame that has arrived is the cause of the end, even if a write failed before it
// was read (RFC 6455 section 7.1.5). Here the peer sends all frames in one segment and
// closes TCP, so that each answer fails.

var lastWords = slices.Concat(
	clientFrame(true, Ping, "1"), clientFrame(true, Ping, "2"), clientFrame(true, Ping, "3"),
	clientFrame(true, Text, "message"),
	clientFrame(true, Close, closeBody(1000, "bye")),
)

// wantBye checks the error of a connection that the peer closed.
func wantBye(t testing.TB, err error) {
	t.Helper()
	var peer *CloseError
	if !errors.As(err, &peer) || peer.Code != 1000 || peer.Reason != "bye" || !errors.Is(err, io.EOF) {
		t.Errorf(`got error %v, want the peer's close with 1000 and "bye"`, err)
	}
}

// receiveLastWords receives the message and then the close.
func receiveLastWords(t testing.TB, c *Conn) {
	t.Helper()
	if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "message" {
		t.Errorf("got %q and error %v, want the message", data, err)
	}
	_, _, err := c.ReceiveMessage()
	wantBye(t, err)
}

func TestLost_returns_the_close_frame_that_arrived(t *testing.T) {
	t.Parallel()
	uses := map[string]func(t *testing.T, c *Conn){
		"receiving": func(t *testing.T, c *Conn) { receiveLastWords(t, c) },
		"reading ahead": func(t *testing.T, c *Conn) {
			beginReadAhead(c)
			receiveLastWords(t, c)
		},
		"polled before it receives": func(t *testing.T, c *Conn) {
			pollOnce(c)
			receiveLastWords(t, c)
		},
		"polled several times": func(t *testing.T, c *Conn) {
			for range 3 {
				c.tick()
				pollOnce(c)
			}
			// A handler that has never received does not keep the connection open.
			wantBye(t, receiveAll(c))
		},
		"with a sender beside it": func(t *testing.T, c *Conn) {
			sent := make(chan error)
			go func() {
				for {
					if err := c.SendMessage(Binary, make([]byte, 1000)); err != nil {
						sent <- err
						return
					}
				}
			}()
			_, _, err := c.ReceiveMessage()
			if err == nil {
				_, _, err = c.ReceiveMessage()
			}
			wantBye(t, err)
			wantBye(t, <-sent)
		},
		"only sending": func(t *testing.T, c *Conn) {
			for {
				if err := c.SendMessage(Binary, make([]byte, 1000)); err != nil {
					wantBye(t, err)
					return
				}
			}
		},
		"writing a message as a stream": func(t *testing.T, c *Conn) {
			w, err := c.MessageWriter(Binary)
			for err == nil {
				_, err = w.Write(make([]byte, 5000))
			}
			wantBye(t, err)
		},
		"writing frames": func(t *testing.T, c *Conn) {
			var err error
			for err == nil {
				err = c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Ping}})
			}
			wantBye(t, err)
		},
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			computes(t)
			for range 20 {
				c, p := newTCPConn(t, PingInterval(0))
				p.Write(lastWords)
				p.Conn.Close()
				use(t, c)
				wantBye(t, endOf(c))
				c.Close(StatusNormalClosure, "")
			}
		})
	}
}

// newLostConn returns a Conn whose writes fail and whose peer has sent wire.
func newLostConn(t testing.TB, wire []byte, opts ...Option) (*Conn, *wstest.Socket) {
	s := wstest.NewSocket(wire)
	s.FailWrites(syscall.EPIPE)
	return newTestConn(s, nil, opts...), s
}

func TestLost_returns_the_error_of_the_write_without_a_close_frame(t *testing.T) {
	for name, fail := range map[string]func(c *Conn) error{
		"a message":          func(c *Conn) error { return c.SendMessage(Text, []byte("x")) },
		"a pong":             func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
		"the keepalive":      func(c *Conn) error { c.out.ping(); <-c.Context().Done(); return endOf(c) },
		"a message, twice":   func(c *Conn) error { c.SendMessage(Text, nil); return c.SendMessage(Text, nil) },
		"Close":              func(c *Conn) error { c.out.ping(); return c.Close(4000, "") },
		"returned from fn":   func(c *Conn) error { c.out.ping(); serveConn(c, noop); return endOf(c) },
		"a deadline, reset":  func(c *Conn) error { c.out.ping(); c.SetReadDeadline(time.Time{}); return receiveAll(c) },
		"the second message": func(c *Conn) error { c.SendMessage(Text, nil); return receiveAll(c) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newLostConn(t, clientFrame(true, Ping, "ping"), PingInterval(0))
				start := time.Now()
				err := fail(c)
				wantError(t, err, syscall.EPIPE)
				if got := CloseStatus(err); got != StatusAbnormalClosure {
					t.Errorf("got close status %v, want %v", got, StatusAbnormalClosure)
				}
				if took := time.Since(start); took > 2*pingPoll {
					t.Errorf("the end took %v", took)
				}
				wantSticky(t, c, endOf(c))
				wantSocketClosed(t, c)
			})
		})
	}
}

// A slow handler still receives a message that has arrived.
func TestLost_waits_for_a_slow_handler_with_a_message_to_receive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := slices.Concat(clientFrame(true, Text, "first"), clientFrame(true, Ping, ""), clientFrame(true, Text, "message"), clientFrame(true, Close, closeBody(1000, "bye")))
		c, _ := newLostConn(t, wire)
		if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "first" {
			t.Fatalf("got %q and error %v", data, err)
		}
		time.Sleep(19 * time.Second) // the ping of the keepalive fails at 15 s
		receiveLastWords(t, c)
		c.Close(StatusNormalClosure, "")
	})
}

// The connection waits for the handler at most for CloseTimeout.
func TestLost_ends_after_CloseTimeout(t *testing.T) {
	for name, wire := range map[string][]byte{
		"without a close frame": nil,
		"with a close frame":    clientFrame(true, Close, closeBody(1000, "bye")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newLostConn(t, slices.Concat(clientFrame(true, Text, "first"), clientFrame(true, Text, "never received"), wire),
					PingInterval(5*time.Second), ConnectionTimeout(0), CloseTimeout(7*time.Second))
				c.ReceiveMessage()
				start := time.Now()
				<-c.Context().Done()
				if took := time.Since(start); took > 12*time.Second+4*pingPoll {
					t.Errorf("the end took %v, want PingInterval and CloseTimeout", took)
				}
				if wire == nil {
					wantError(t, endOf(c), syscall.EPIPE)
				} else {
					wantBye(t, endOf(c))
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// A write that failed may have cut off a frame. Nothing is sent after it.
func TestLost_sends_nothing_more(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wstest.NewSocket(clientFrame(true, Close, closeBody(1000, "bye")))
		s.Hook = func(op *wstest.Op) (int, error) {
			if op.Write {
				op.Do(op.P[:1])
				return 1, syscall.EPIPE
			}
			return op.Do(op.P)
		}
		c := newTestConn(s, nil)
		wantBye(t, c.SendMessage(Text, []byte("cut off")))
		c.Close(StatusNormalClosure, "")
		if got := s.Written(); len(got) != 1 {
			t.Errorf("wrote %x, want the one byte of the frame that was cut off", got)
		}
	})
}

// Methods that never wait return the error of a failed write before it is known why the connection
// ends. If the function returns that error, it says only that the client is gone, so OnError does
// not get it.
func TestLost_error_of_TrySend_is_not_reported(t *testing.T) {
	prepared, err := PrepareMessage(Text, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	senders := map[string]func(c *Conn) error{
		"TrySend":         func(c *Conn) error { return c.TrySend(Text, []byte("x")) },
		"TrySendPrepared": func(c *Conn) error { return c.TrySendPrepared(prepared) },
		"StartClose": func(c *Conn) error {
			if c.TrySend(Text, []byte("x")) == nil {
				return nil
			}
			return c.StartClose(StatusNormalClosure, "")
		},
	}
	ends := map[string]struct {
		sent []byte
		code StatusCode
	}{
		"without a close frame":          {nil, StatusAbnormalClosure},
		"after a close frame":            {clientFrame(true, Close, closeBody(4001, "")), 4001},
		"after a message that is unread": {clientFrame(true, Text, "unread"), StatusAbnormalClosure},
	}
	for name, send := range senders {
		for end, tt := range ends {
			t.Run(name+"/"+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p, broken := newBrokenConn(t, false)
					var closed error
					done := runHandler(c, func(c *Conn) error {
						for {
							if err := send(c); err != nil {
								return err
							}
							time.Sleep(time.Millisecond)
						}
					}, OnError(func(_ *Conn, err error) { t.Errorf("OnError got %v", err) }),
						OnClose(func(_ *Conn, err error) { closed = err }))
					p.expect(Text, "x")
					broken.Store(true)
					go p.Write(tt.sent)
					go io.Copy(io.Discard, p.Conn)
					<-done
					synctest.Wait()
					if got := CloseStatus(closed); got != tt.code {
						t.Errorf("OnClose got code %v (%v), want %v", got, closed, tt.code)
					}
					p.Conn.Close()
				})
			})
		}
	}
}
