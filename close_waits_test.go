package websocket

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A peer sends nothing after its close frame. If that frame waits for a function that receives the
// messages in front of it, the silence does not count, and the answers are sent.
func TestConnectionTimeout_while_the_close_frame_waits(t *testing.T) {
	const messages, received, timeout, step = 20, 3, 2 * time.Second, 310 * time.Millisecond
	tests := []struct {
		name    string
		fn      HandlerFunc
		answers int
		within  time.Duration // the connection ends
	}{
		{"for a function that receives all the time", func(c *Conn) error {
			for msg, err := range c.Messages() {
				if err != nil {
					return err
				}
				time.Sleep(step)
				c.SendMessage(msg.Opcode, msg.Data)
			}
			return nil
		}, messages, messages * step},
		{"for a function that stops receiving", func(c *Conn) error {
			for range received {
				op, data, _ := c.ReceiveMessage()
				time.Sleep(step)
				c.SendMessage(op, data)
			}
			return waitForEnd(c)
		}, received, received*step + 2*pollInterval},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, p := newMemoryConn(t, PingInterval(timeout/2), ConnectionTimeout(timeout))
				start := time.Now()
				done := runHandler(c, tt.fn)
				p.Conn.Write(append(messageBurst(messages, "hi"), clientFrame(true, Close, closeBody(4000, ""))...))
				for answers := 0; ; {
					f := p.read()
					if f.Opcode == Close {
						if answers != tt.answers || string(f.Payload) != closeBody(4000, "") {
							t.Errorf("got %d answers and then close %q, want %d and 4000", answers, f.Payload, tt.answers)
						}
						break
					}
					if f.Opcode != Ping {
						answers++
					}
				}
				if took := time.Since(start); took > tt.within {
					t.Errorf("the close frame came after %v, want it within %v", took, tt.within)
				}
				p.Conn.Close()
				if err := <-done; CloseStatus(err) != 4000 {
					t.Errorf("got error %v, want the peer's close frame", err)
				}
			})
		})
	}
}

// CloseTimeout ends the wait for a function that receives the messages in front of the peer's close
// frame. That frame is the cause of the end, and the function can still receive the messages.
func TestCloseTimeout_while_the_close_frame_waits(t *testing.T) {
	const messages, timeout, step = 20, 2 * time.Second, 310 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		c, _, p := newMemoryConn(t, CloseTimeout(timeout))
		got := 0
		done := runHandler(c, func(c *Conn) error {
			c.SendMessage(Close, []byte(closeBody(StatusGoingAway, "")))
			for _, err := range c.Messages() {
				if err != nil {
					return err
				}
				got++
				time.Sleep(step)
			}
			return nil
		})
		p.Conn.Write(append(messageBurst(messages, "hi"), clientFrame(true, Close, closeBody(4000, ""))...))
		p.expectClose(StatusGoingAway)
		p.ExpectEOF()
		p.Conn.Close()
		err := <-done
		var peer *CloseError
		if !errors.As(errors.Unwrap(err), &peer) || peer.Code != 4000 || got != messages {
			t.Errorf("got %d messages and error %v (%v), want %d and the peer's close frame", got, err, errors.Unwrap(err), messages)
		}
	})
}

// With HandleConcurrent, the function has a second for its answers after the peer's close frame, even if
// ConnectionTimeout is shorter.
func TestConnectionTimeout_of_a_function_that_reads_ahead(t *testing.T) {
	const messages, step = 12, 70 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		c, _, p := newMemoryConn(t, PingInterval(100*time.Millisecond), ConnectionTimeout(300*time.Millisecond))
		done := runConcurrent(c, func(c *Conn) error {
			for msg, err := range c.Messages() {
				if err != nil {
					return err
				}
				time.Sleep(step)
				c.SendMessage(msg.Opcode, msg.Data)
			}
			return nil
		})
		p.Conn.Write(append(messageBurst(messages, "hi"), clientFrame(true, Close, closeBody(4000, ""))...))
		answers := 0
		for f := p.read(); f.Opcode != Close; f = p.read() {
			if f.Opcode != Ping {
				answers++
			}
		}
		p.Conn.Close()
		if err := <-done; CloseStatus(err) != 4000 || answers != messages {
			t.Errorf("got %d answers and the error %v, want %d and the peer's close frame", answers, err, messages)
		}
	})
}
