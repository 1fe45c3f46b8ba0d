package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// closeSends are the ways to send a close frame and to continue to receive.
var closeSends = map[string]func(c *Conn) error{
	"SendMessage": func(c *Conn) error { return c.SendMessage(Close, []byte(closeBody(4000, "my"))) },
	"WriteFrame": func(c *Conn) error {
		return c.WriteFrame(Frame{Header{Fin: true, Opcode: Close}, []byte(closeBody(4000, "my"))})
	},
}

func TestSendMessage_Close(t *testing.T) {
	for name, send := range closeSends {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t)
			if err := send(c); err != nil {
				t.Fatal(err)
			}
			if got := p.expectClose(4000); got != "my" {
				t.Errorf("got reason %q, want my", got)
			}
			for _, name := range []string{"SendMessage/Text", "SendMessage/Ping", "SendMessage/Close", "SendJSON", "MessageWriter"} {
				wantError(t, allMethods[name](c), net.ErrClosed)
			}
			if err := c.Context().Err(); err != nil {
				t.Errorf("the connection has ended before the answer: %v", err)
			}
			p.Write(slices.Concat(clientFrame(true, Text, "on my way"), clientFrame(true, Ping, "unanswered"), clientFrame(true, Close, closeBody(4001, "your"))))
			hangUp(p)
			if _, got, err := c.ReceiveMessage(); string(got) != "on my way" || err != nil {
				t.Errorf("got message %q, error %v, want the message before the answer", got, err)
			}
			_, _, err := c.ReceiveMessage()
			wantAnswer(t, err, 4000, CloseError{4001, "your"})
			wantSticky(t, c, err)
			p.ExpectEOF()
		})
	}
}

// wantAnswer checks the error of a connection that this side closed with code and whose
// peer answered with the close frame peer.
func wantAnswer(t testing.TB, err error, code StatusCode, peer CloseError) {
	t.Helper()
	wantError(t, err, net.ErrClosed)
	var got *CloseError
	if !errors.As(err, &got) || *got != peer {
		t.Errorf("got error %v, want one that contains the peer's %v", err, &peer)
	}
	if got := CloseStatus(err); got != code {
		t.Errorf("got close status %v of %v, want the code that was sent: %v", got, err, code)
	}
}

func TestSendMessage_Close_is_bounded_by_CloseTimeout(t *testing.T) {
	waits := map[string]HandlerFunc{"receiving": receiveAll, "idle": waitForEnd, "waiting for the context": waitForEnd}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, CloseTimeout(40*time.Second))
				w := record(p, true)
				done := runHandler(c, func(c *Conn) error {
					c.SendMessage(Close, []byte(closeBody(4000, "")))
					return wait(c)
				})
				err := <-done
				wantDuration(t, "the end", w.Start, 40*time.Second+pingPoll)
				wantError(t, err, ErrCloseTimeout)
				wantSticky(t, c, endOf(c))
				synctest.Wait()
				w.expect("0s close 4000", "40.01s end")
			})
		})
	}
}

func TestSendMessage_Close_returns_its_own_code_if_the_answer_comes_before_the_write_returns(t *testing.T) {
	for name, send := range closeSends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newSlowConn(t)
				received := make(chan error)
				go func() { received <- receiveAll(c) }()
				go func() {
					p.expectClose(4000)
					p.send(Close, closeBody(4001, "your"))
				}()
				if err := send(c); err != nil {
					t.Errorf("sending: got error %v, want none", err)
				}
				wantAnswer(t, <-received, 4000, CloseError{4001, "your"})
				c.Close(4000, "")
			})
		})
	}
}

// The watchdog polls for the answer before it ends the connection.
func TestSendMessage_Close_reads_the_answer_without_a_reader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		time.AfterFunc(time.Second, func() { w.Send(clientFrame(true, Close, closeBody(4001, "your"))) })
		<-c.Context().Done()
		wantAnswer(t, endOf(c), 4000, CloseError{4001, "your"})
		c.Close(4000, "")
	})
}

func TestSendMessage_Close_then_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		time.AfterFunc(2*time.Second, func() { w.Send(clientFrame(true, Close, "")) })
		if err := c.Close(4001, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		synctest.Wait()
		w.expect("0s close 4000", "2s end")
	})
}

func TestCloseStatus_is_the_code_that_was_sent(t *testing.T) {
	ends := map[string]HandlerFunc{
		"Close with another code":     func(c *Conn) error { return c.Close(StatusNormalClosure, "") },
		"an end of fn":                noop,
		"a CloseError of fn":          func(*Conn) error { return &CloseError{Code: 4002} },
		"another error of fn":         func(*Conn) error { return errSecret },
		"a panic of fn":               func(*Conn) error { panic(http.ErrAbortHandler) },
		"the peer's answer, received": receiveAll,
	}
	for how, send := range closeSends {
		for name, fn := range ends {
			t.Run(how+" and then "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					w := record(p, false)
					time.AfterFunc(time.Second, func() { w.Send(clientFrame(true, Close, closeBody(4001, ""))) })
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { recover() }()
						serveConn(c, func(c *Conn) error {
							if err := send(c); err != nil {
								t.Error(err)
							}
							return fn(c)
						}, OnError(func(*Conn, error) {}))
					}()
					<-done
					if got := CloseStatus(endOf(c)); got != 4000 {
						t.Errorf("got end %v with status %v, want 4000, the code that was sent", endOf(c), got)
					}
					wantError(t, endOf(c), net.ErrClosed)
					synctest.Wait()
					w.expect("0s close 4000", "1s end")
				})
			})
		}
	}
}

// Run with -race. The first close frame is the one that counts.
func TestWriteFrame_first_close_frame_counts(t *testing.T) {
	computes(t)
	for range 200 {
		c, p := newPipeConn(t, PingInterval(0))
		var wg sync.WaitGroup
		wg.Go(func() {
			for code := StatusCode(4000); c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Close}, closeBody(code, ""))) == nil; code++ {
			}
		})
		wg.Go(func() { io.Copy(io.Discard, p.Conn) })
		wg.Go(func() { p.Conn.Write(clientFrame(true, Close, closeBody(3000, ""))) })
		err := receiveAll(c)
		if got := CloseStatus(err); got != 4000 && (got != 3000 || errors.Is(err, net.ErrClosed)) {
			t.Errorf("got error %v with status %v, want that of the first close frame", err, got)
		}
		c.Close(StatusNormalClosure, "")
		p.Conn.Close()
		wg.Wait()
	}
}

// A header has four bits for an opcode, so more opcodes than one are sent as a close.
func TestWriteFrame_treats_every_frame_with_the_close_opcode_as_a_close(t *testing.T) {
	body := closeBody(4000, "bye")
	masked := unmaskedFrame(Header{Fin: true, Opcode: Close, Masked: true, MaskKey: testMaskKey}, body)
	Mask(masked.Payload, testMaskKey, 0)
	for name, f := range map[string]Frame{
		"close":                       unmaskedFrame(Header{Fin: true, Opcode: Close}, body),
		"opcode 0x18":                 unmaskedFrame(Header{Fin: true, Opcode: 0x18}, body),
		"opcode 0xf8, reserved bits":  unmaskedFrame(Header{Fin: true, RSV1: true, Opcode: 0xf8}, body),
		"unfinished close":            unmaskedFrame(Header{Opcode: Close}, body),
		"close that is masked itself": masked,
	} {
		t.Run(name, func(t *testing.T) {
			c, s := newScriptConn(t, nil)
			w := openWriter(t, c, Text)
			if err := c.WriteFrame(f); err != nil {
				t.Fatal(err)
			}
			wire := s.Written()
			if wire[0]&0x0f != byte(Close) {
				t.Fatalf("got %x, want a close frame", wire)
			}
			_, writeErr := w.Write(nil)
			for _, err := range []error{c.SendMessage(Text, nil), c.SendMessage(Close, nil), writeErr} {
				wantError(t, err, net.ErrClosed)
				if got := CloseStatus(err); got != 4000 {
					t.Errorf("got error %v with status %v, want 4000", err, got)
				}
			}
			c.Close(StatusNormalClosure, "")
			if got := s.Written(); !bytes.Equal(got, wire) {
				t.Errorf("got %x on the wire, want nothing after %x", got, wire)
			}
		})
	}
}

func TestSendMessage_nothing_follows_a_close(t *testing.T) {
	c, s := newScriptConn(t, segments(clientFrame(true, Ping, "p"), clientFrame(true, Text, "still"), clientFrame(true, Close, closeBody(StatusGoingAway, ""))))
	w := openWriter(t, c, Text)
	body := closeBody(4000, "bye")
	if err := c.SendMessage(Close, []byte(body)); err != nil {
		t.Fatal(err)
	}
	_, openErr := c.MessageWriter(Text)
	_, writeErr := w.Write(nil)
	for _, err := range []error{c.SendMessage(Text, nil), c.SendMessage(Ping, nil), c.SendMessage(Close, nil), openErr, writeErr, w.Close()} {
		wantError(t, err, net.ErrClosed)
		if got := CloseStatus(err); got != 4000 {
			t.Errorf("got close status %v, want 4000", got)
		}
	}
	if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "still" {
		t.Errorf("got %q and error %v, want the message before the peer's close", data, err)
	}
	_, _, err := c.ReceiveMessage()
	wantError(t, err, net.ErrClosed)
	s.wantSent(t, sentFrame{true, Close, body})
}

// Close after a close frame does not give the peer more time. It returns ErrCloseTimeout if
// the peer has not answered.
func TestSendMessage_Close_and_then_Close_is_ErrCloseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		record(p, false)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		time.Sleep(2 * time.Second)
		err := timedCall(t, "Close", 3*time.Second, func() error { return c.Close(1000, "") })
		wantError(t, err, ErrCloseTimeout)
		c.Close(1000, "")
	})
}

// newSlowConn is newPipeConn, but each write of the server returns a second after its bytes
// have arrived.
func newSlowConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	return newHookedConn(t, func(s *wstest.Socket) {
		s.Hook = func(op *wstest.Op) (int, error) {
			n, err := op.Do(op.P)
			if op.Write {
				time.Sleep(time.Second)
			}
			return n, err
		}
	}, opts...)
}
