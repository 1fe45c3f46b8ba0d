package websocket

import (
	"io"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// newEndingConn returns a Conn whose reads fail when end is set: with that error, after the bytes
// that the peer has sent before. Writes go on, as after a half-close.
func newEndingConn(t *testing.T) (c *Conn, p *peer, end *atomic.Pointer[error]) {
	end = new(atomic.Pointer[error])
	c, p = newHookedConn(t, func(s *wstest.Socket) {
		s.Hook = func(op *wstest.Op) (int, error) {
			if err := end.Load(); err != nil && !op.Write {
				return 0, *err
			}
			return op.Do(op.P)
		}
	})
	return c, p, end
}

// The peer's close frame was read, and waits for a handler that is busy. Then the connection is
// reset, as a kernel does if the client closes its socket without having read everything. The close
// frame came first, so it is why the connection ends.
func TestPoll_close_frame_before_a_reset(t *testing.T) {
	tests := []struct {
		name     string
		run      func(*Conn, HandlerFunc, ...Option) <-chan error
		messages int
	}{
		{"Handle", runHandler, 2},
		{"HandleConcurrent that has read 16 messages ahead", runConcurrent, 30},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, end := newEndingConn(t)
				received := 0
				done := tt.run(c, func(c *Conn) error {
					for {
						if _, _, err := c.ReceiveMessage(); err != nil {
							return err
						}
						received++
						time.Sleep(700 * time.Millisecond)
					}
				})
				p.Write(slices.Concat(messageBurst(tt.messages, "hello"), clientFrame(true, Close, closeBody(4321, ""))))
				synctest.Wait()
				reset := error(syscall.ECONNRESET)
				end.Store(&reset)
				go io.Copy(io.Discard, p.Conn)
				if got := CloseStatus(<-done); got != 4321 || received != tt.messages {
					t.Errorf("got %d messages and close status %v, want %d and 4321", received, got, tt.messages)
				}
				p.Conn.Close()
			})
		})
	}
}

// The peer sends a message and ends its side of the stream. The handler needs less than a second
// for the message, so its answer is sent.
func TestPoll_end_of_the_stream_waits_for_an_answer(t *testing.T) {
	large := stars(60 << 10)
	readSlowly := func(c *Conn) error {
		_, r, err := c.MessageReader()
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, 57<<10); err != nil {
			return err
		}
		time.Sleep(700 * time.Millisecond)
		_, err = io.Copy(io.Discard, r)
		return err
	}
	tests := []struct {
		name    string
		wire    []byte
		receive func(c *Conn) error
	}{
		{"the message is received", clientFrame(true, Text, "hello"), func(c *Conn) error {
			_, _, err := c.ReceiveMessage()
			time.Sleep(700 * time.Millisecond)
			return err
		}},
		{"the handler reads the message slowly", clientFrame(true, Binary, large), readSlowly},
		{"the handler reads a compressed message slowly", withBits(0x40, clientFrame(true, Binary, deflated(large))), readSlowly},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, end := newEndingConn(t)
				c.seldomUsed().compression = newCompression(agreement{windowBits: 12}, -1)
				c.in.incoming.mayCompress = true
				done := runHandler(c, func(c *Conn) error {
					if err := tt.receive(c); err != nil {
						t.Errorf("the message was not received: %v", err)
					}
					return c.SendMessage(Text, []byte("answer"))
				})
				p.Write(tt.wire)
				eof := io.EOF
				end.Store(&eof)
				go func() {
					p.expect(Text, "answer")
					io.Copy(io.Discard, p.Conn)
				}()
				if err := <-done; err != nil {
					t.Errorf("the answer: got error %v", err)
				}
				p.Conn.Close()
			})
		})
	}
}

// A handler that is busy for longer than a second does not keep a connection whose stream has ended.
func TestPoll_end_of_the_stream_is_noticed_within_a_second(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, end := newEndingConn(t)
		go io.Copy(io.Discard, p.Conn)
		p.Write(clientFrame(true, Text, "hello"))
		if _, _, err := c.ReceiveMessage(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		eof := io.EOF
		end.Store(&eof)
		<-c.Context().Done()
		wantDuration(t, "the end", start, time.Second)
		p.Conn.Close()
		c.Close(StatusNormalClosure, "")
	})
}
