package websocket

import (
	"cmp"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A peer sends nothing after its close frame. If a function receives the messages in front of that frame
// for longer than a limit, the frame is the cause of the end, and the function still gets the messages.
func TestLimits_while_the_close_frame_waits(t *testing.T) {
	const messages, limit, step = 20, 2 * time.Second, 310 * time.Millisecond
	tests := []struct {
		name string
		opts []Option
		sent StatusCode // by the function with SendMessage, 0 for none
	}{
		{"ConnectionTimeout", []Option{PingInterval(limit / 2), ConnectionTimeout(limit)}, 0},
		{"CloseTimeout", []Option{CloseTimeout(limit)}, StatusGoingAway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, p := newMemoryConn(t, tt.opts...)
				start, got := time.Now(), 0
				done := runHandler(c, func(c *Conn) error {
					if tt.sent != 0 {
						c.SendMessage(Close, []byte(closeBody(tt.sent, "")))
					}
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
				f := p.readPastPings()
				want := closeBody(cmp.Or(tt.sent, 4000), "")
				if f.Opcode != Close || string(f.Payload) != want {
					t.Errorf("got %v %q, want close %q", f.Opcode, f.Payload, want)
				}
				p.ExpectEOF()
				if took := time.Since(start); took < limit || took > limit+maxPoll {
					t.Errorf("the connection has ended after %v, want %v", took, limit)
				}
				p.Conn.Close()
				err := <-done
				var peer *CloseError
				if tt.sent != 0 {
					err = errors.Unwrap(err) // what the peer has sent, behind what was sent here
				}
				if !errors.As(err, &peer) || peer.Code != 4000 || got != messages {
					t.Errorf("got %d messages and error %v, want %d and the peer's close frame", got, err, messages)
				}
			})
		})
	}
}
