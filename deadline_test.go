package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestSetReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			start := time.Now()
			c.SetReadDeadline(start.Add(3 * time.Second))
			_, _, err := c.ReceiveMessage()
			wantError(t, err, os.ErrDeadlineExceeded)
			if got := time.Since(start); got != 3*time.Second {
				t.Errorf("the deadline passed after %v, want 3s", got)
			}
			_, _, err = c.ReceiveMessage()
			wantError(t, err, os.ErrDeadlineExceeded)
			if CloseStatus(err) != 0 || errors.Is(err, net.ErrClosed) {
				t.Errorf("got error %v, which is that of an ended connection", err)
			}
			c.SetReadDeadline(time.Time{})
			return echoAll(c)
		})
		time.Sleep(4 * time.Second)
		p.send(Text, "alive")
		p.expect(Text, "alive")
		p.finish(done)
	})
}

// The peer sends a fragment of one byte before each ConnectionTimeout, for an hour. Only a
// deadline that was set at the beginning of the message ends this. A message that is in
// time, and a silence of an hour between two messages, are allowed.
func TestSetReadDeadline_limits_a_slow_message(t *testing.T) {
	tests := []struct {
		name  string
		begin func(*Conn, time.Time) error
		ends  bool
	}{
		{"without a deadline", func(*Conn, time.Time) error { return nil }, false},
		{"with a deadline for each message", (*Conn).SetReadDeadline, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				r := record(p, true)
				done := runHandler(c, func(c *Conn) error {
					for {
						c.SetReadDeadline(time.Time{})
						op, m, err := c.MessageReader()
						if err != nil {
							return err
						}
						tt.begin(c, time.Now().Add(time.Minute))
						data, err := io.ReadAll(m)
						if errors.Is(err, os.ErrDeadlineExceeded) {
							return &CloseError{Code: StatusPolicyViolation, Reason: "late"}
						}
						if err != nil {
							return err
						}
						c.SendMessage(op, data)
					}
				})
				r.Send(clientFrame(true, Text, "in time"))
				time.Sleep(time.Hour)
				r.Send(clientFrame(true, Text, "in time, too"))
				start := time.Now()
				r.Send(clientFrame(false, Binary, "x"))
				for time.Since(start) < time.Hour && c.Context().Err() == nil {
					r.Send(clientFrame(false, Continuation, "x"))
					time.Sleep(54 * time.Second)
				}
				if ended := c.Context().Err() != nil; ended != tt.ends {
					t.Errorf("after %v the connection has ended: %v, want %v", time.Since(start), ended, tt.ends)
				}
				if took := time.Since(start); tt.ends && took > 2*time.Minute {
					t.Errorf("the connection ended within %v, want two minutes at most", took)
				}
				r.hangUp()
				<-done
			})
		})
	}
}

func TestSetDeadlines_after_the_end(t *testing.T) {
	c, p := newPipeConn(t)
	p.Conn.Close()
	_, _, err := c.ReceiveMessage()
	for name, set := range map[string]func(time.Time) error{"SetReadDeadline": c.SetReadDeadline, "SetWriteDeadline": c.SetWriteDeadline} {
		if got := set(time.Now()); got != err || got == nil {
			t.Errorf("%s: got error %v, want the sticky error: %v", name, got, err)
		}
	}
	c.Close(StatusNormalClosure, "")
}

func TestSetWriteDeadline(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
	}{
		{"with WriteTimeout", nil},
		{"without WriteTimeout", []Option{WriteTimeout(0)}},
		{"with a WriteTimeout of 10s", []Option{WriteTimeout(10 * time.Second)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opts...)
				done := runHandler(c, func(c *Conn) error {
					start := time.Now()
					c.SetWriteDeadline(start.Add(3 * time.Second))
					err := c.SendMessage(Text, []byte("never read"))
					wantError(t, err, os.ErrDeadlineExceeded)
					if got := time.Since(start); got != 3*time.Second {
						t.Errorf("the deadline passed after %v, want 3s", got)
					}
					if endOf(c) != nil {
						t.Errorf("the deadline ended the connection, although no byte was sent: %v", endOf(c))
					}
					c.SetWriteDeadline(time.Time{})
					return echoAll(c)
				})
				time.Sleep(4 * time.Second)
				p.send(Text, "alive")
				p.expect(Text, "alive")
				p.finish(done)
			})
		})
	}
}

// sendPartly sends a message of which the peer reads only the first byte.
func sendPartly(t *testing.T, c *Conn, p *peer) error {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- c.SendMessage(Binary, make([]byte, 100)) }()
	if _, err := p.Conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return <-sent
}

func TestSetWriteDeadline_that_cuts_a_frame_off_ends_the_connection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		err := sendPartly(t, c, p)
		wantError(t, err, os.ErrDeadlineExceeded)
		if got := c.SendMessage(Text, nil); got != err || CloseStatus(got) != StatusAbnormalClosure {
			t.Errorf("got error %v, want the sticky %v with 1006", got, err)
		}
		c.Close(StatusNormalClosure, "")
	})
}

func TestWriteTimeout(t *testing.T) {
	tests := []struct {
		name string
		send func(t *testing.T, c *Conn, p *peer) error
	}{
		{"a peer that reads nothing", func(t *testing.T, c *Conn, p *peer) error { return c.SendMessage(Text, []byte("x")) }},
		{"a peer that stops reading", sendPartly},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, WriteTimeout(7*time.Second), PingInterval(0))
				time.Sleep(time.Second)
				start := time.Now()
				c.SetWriteDeadline(start.Add(time.Hour))
				err := tt.send(t, c, p)
				wantError(t, err, os.ErrDeadlineExceeded)
				if got := time.Since(start); got != 7*time.Second+pingPoll {
					t.Errorf("SendMessage returned after %v, want WriteTimeout and pingPoll", got)
				}
				if CloseStatus(endOf(c)) != StatusAbnormalClosure {
					t.Errorf("got end %v, want the error of a failed write", endOf(c))
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// The user's write deadline applies only to the user's messages. The library sends pongs
// and close frames after that deadline too.
func TestSetWriteDeadline_does_not_apply_to_frames_of_the_library(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		end  func(c *Conn) error
		peer func(p *peer)
	}{
		{"Close", nil, func(c *Conn) error { return c.Close(4000, "") }, func(p *peer) { p.expectClose(4000); p.send(Close, closeBody(4000, "")) }},
		{"Close without WriteTimeout", []Option{WriteTimeout(0)}, func(c *Conn) error { return c.Close(4000, "") }, func(p *peer) { p.expectClose(4000); p.send(Close, closeBody(4000, "")) }},
		{"the answer to a close", nil, receiveAll, func(p *peer) { p.send(Close, closeBody(4000, "")); p.expectClose(4000) }},
		{"failing", nil, receiveAll, func(p *peer) {
			p.Write([]byte{0xf1, 0x80})
			p.Write(make([]byte, 4))
			p.expectClose(StatusProtocolError)
		}},
		{"pong", nil, receiveAll, func(p *peer) { p.ExpectNothing(); p.send(Close, ""); p.expectClose(StatusNoStatusReceived) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t, tt.opts...)
			c.SetWriteDeadline(time.Now().Add(-time.Second))
			wantError(t, c.SendMessage(Text, []byte("late")), os.ErrDeadlineExceeded)
			ended := make(chan error, 1)
			go func() { ended <- tt.end(c) }()
			tt.peer(p)
			hangUp(p)
			p.ExpectEOF()
			await(t, ended)
			c.Close(StatusNormalClosure, "")
		})
	}
}

// While the library writes a pong, the user's deadline is not set on the socket. A
// deadline that the user sets meanwhile applies after the pong.
func TestSetWriteDeadline_during_a_pong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0))
		done := runHandler(c, receiveAll)
		p.send(Ping, "1")
		synctest.Wait()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		time.Sleep(2 * time.Second)
		p.expect(Pong, "1")
		synctest.Wait()
		start := time.Now()
		wantError(t, c.SendMessage(Text, []byte("late")), os.ErrDeadlineExceeded)
		wantDuration(t, "the deadline", start, 0)
		p.finish(done)
	})
}

// The peer does not read the ping, so the goroutine of the keepalive holds the sending side.
func TestSetWriteDeadline_while_a_ping_blocks(t *testing.T) {
	// Each function prepares a call, which is made while the ping is being written.
	calls := map[string]func(t *testing.T, c *Conn) func() error{
		"Write of a MessageWriter": func(t *testing.T, c *Conn) func() error {
			w := openWriter(t, c, Binary)
			return func() error { _, err := w.Write(make([]byte, 2*fragmentSize)); return err }
		},
	}
	for _, name := range sendingMethods {
		calls[name] = func(t *testing.T, c *Conn) func() error {
			return func() error { return allMethods[name](c) }
		}
	}
	for name, prepare := range calls {
		for _, timeout := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprintf("%s with WriteTimeout %v", name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, WriteTimeout(timeout), ConnectionTimeout(0))
					call := prepare(t, c)
					time.Sleep(16 * time.Second)
					c.SetWriteDeadline(time.Now().Add(time.Second))
					wantError(t, timedCall(t, name, time.Second, call), os.ErrDeadlineExceeded)
					if endOf(c) != nil {
						t.Errorf("the connection has ended: %v", endOf(c))
					} else {
						c.SetWriteDeadline(time.Time{})
						p.expect(Ping, "")
						go c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Text}, "usable"))
						p.expect(Text, "usable")
					}
					p.Conn.Close()
					c.Close(StatusNormalClosure, "")
				})
			})
		}
	}
}

// An endingDeadlines ends the connection while one of its deadlines is set.
type endingDeadlines struct {
	net.Conn
	end func()
}

func (c *endingDeadlines) SetReadDeadline(t time.Time) error { return c.set(c.Conn.SetReadDeadline(t)) }
func (c *endingDeadlines) SetWriteDeadline(t time.Time) error {
	return c.set(c.Conn.SetWriteDeadline(t))
}

func (c *endingDeadlines) set(err error) error {
	if c.end == nil {
		return err
	}
	c.end()
	return errors.New("use of closed network connection")
}

// If the connection ends while a deadline is set, the error says how it ended, as that of every
// other method.
func TestSetDeadline_while_the_connection_ends(t *testing.T) {
	setters := map[string]func(*Conn, time.Time) error{
		"SetReadDeadline":  (*Conn).SetReadDeadline,
		"SetWriteDeadline": (*Conn).SetWriteDeadline,
	}
	for name, set := range setters {
		t.Run(name, func(t *testing.T) {
			var socket *endingDeadlines
			c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
				socket = &endingDeadlines{Conn: conn}
				return socket
			})
			socket.end = func() { c.life.enter(phaseClosed, &CloseError{Code: 4001}, never) }
			err := set(c, time.Now().Add(time.Hour))
			wantCloseError(t, err, 4001)
			socket.end = nil
			p.Conn.Close()
			c.socket.cut(false)
		})
	}
}
