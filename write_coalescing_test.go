package websocket

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWriteCoalescing_of_an_echo(t *testing.T) {
	small := clientFrame(true, Text, "small")
	tests := []struct {
		name   string
		pieces [][]byte
		opts   []Option
		want   []int // frames in each write
	}{
		{"one message is written at once", segments(small), nil, []int{1}},
		{"messages that come one by one are written one by one", segments(small, small, small), nil, []int{1, 1, 1}},
		{"messages that come together are written together", segments(messageBurst(32, "small")), nil, []int{32}},
		{"what comes together is written before more is read", segments(messageBurst(3, "a"), messageBurst(4, "b")), nil, []int{3, 4}},
		{"a pong goes along", segments(join(small, clientFrame(true, Ping, "ping"), small)), nil, []int{3}},
		{"half a frame is not waited for", segments(join(small, small[:5]), small[5:]), nil, []int{1, 1}},
		{"half a header is not waited for", segments(join(small, small[:1]), small[1:]), nil, []int{1, 1}},
		{"lengths of 16 bits", segments(messageBurst(3, strings.Repeat("x", 200))), nil, []int{3}},
		{"not more than 16 KiB together", segments(messageBurst(3, strings.Repeat("x", 1000)), messageBurst(30, strings.Repeat("x", 1000))), nil, []int{3, 16, 14}},
		{"a message of 20,000 bytes behind small ones", segments(join(small, small, clientFrame(true, Binary, strings.Repeat("x", 20000)))), nil, []int{2, 1}},
		{"not at all if that is what the user wants", segments(messageBurst(5, "small")), []Option{WriteCoalescing(false)}, []int{1, 1, 1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newScriptConn(t, tt.pieces, tt.opts...)
				conn := &wholeWrites{scriptSocket: s}
				c.conn = conn
				err := echoAll(c)
				wantError(t, err, io.ErrUnexpectedEOF)
				got := s.framesPerWrite(t)
				// Reads of up to 4 KiB or 32 KiB decide where the larger bursts are cut.
				if tt.name == "not more than 16 KiB together" {
					wantBounded(t, s, 33)
					return
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got writes of %v frames, want %v", got, tt.want)
				}
			})
		})
	}
}

// wholeWrites joins the two writes of a large frame, which are not what these
// tests count.
type wholeWrites struct {
	*scriptSocket
	part []byte
}

func (w *wholeWrites) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	if r := bytes.NewReader(w.part); !endsInFrame(r) {
		return len(p), nil
	}
	whole := w.part
	w.part = nil
	w.scriptSocket.Write(whole)
	return len(p), nil
}

func endsInFrame(r *bytes.Reader) bool {
	for r.Len() > 0 {
		if _, err := ReadFrame(r, 1<<30); err != nil {
			return false
		}
	}
	return true
}

// wantBounded checks that n frames were written in pieces of at most 16 KiB, and
// in fewer writes than frames.
func wantBounded(t *testing.T, s *scriptSocket, n int) {
	t.Helper()
	for _, b := range s.writes {
		if len(b) > coalesceSize {
			t.Errorf("got a write of %d bytes, want at most %d", len(b), coalesceSize)
		}
	}
	if len(s.writes) > n/2 {
		t.Errorf("got %d writes for %d frames", len(s.writes), n)
	}
	if got := len(s.frames(t)); got != n {
		t.Errorf("got %d frames, want %d", got, n)
	}
}

func TestWriteCoalescing_does_not_wait_for_a_handler_that_stalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			c.ReceiveMessage()
			c.SendMessage(Text, []byte("first"))
			time.Sleep(time.Hour)
			return nil
		})
		go p.write(messageBurst(2, "question"))
		start := time.Now()
		p.expect(Text, "first")
		wantDuration(t, "a frame that was left to wait", start, coalesceTime)
		p.conn.Close()
		<-done
	})
}

func TestWriteCoalescing_keeps_what_was_sent_before(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *Conn)
		want []sentFrame
	}{
		{"a close", func(c *Conn) { c.Close(StatusNormalClosure, "") },
			[]sentFrame{{true, Text, "waits"}, {true, Close, "\x03\xe8"}}},
		{"a close that is a message", func(c *Conn) { c.SendMessage(Close, nil) },
			[]sentFrame{{true, Text, "waits"}, {true, Close, ""}}},
		{"a large message", func(c *Conn) { c.SendMessage(Binary, make([]byte, 1<<16)) },
			[]sentFrame{{true, Text, "waits"}, {true, Binary, string(make([]byte, 1<<16))}}},
		{"a message under a deadline", func(c *Conn) {
			c.SetWriteDeadline(time.Now().Add(time.Hour))
			c.SendMessage(Text, []byte("at once"))
		}, []sentFrame{{true, Text, "waits"}, {true, Text, "at once"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newScriptConn(t, segments(messageBurst(2, "question")))
				c.ReceiveMessage()
				if err := c.SendMessage(Text, []byte("waits")); err != nil {
					t.Fatal(err)
				}
				s.wantSent(t)
				tt.end(c)
				s.wantSent(t, tt.want...)
			})
		})
	}
}

func TestWriteCoalescing_write_that_fails_is_the_end(t *testing.T) {
	tests := []struct {
		name string
		then func(c *Conn) error
	}{
		{"when the next message is waited for", func(c *Conn) error {
			c.ReceiveMessage()
			_, _, err := c.ReceiveMessage()
			return err
		}},
		{"when there is no room", func(c *Conn) error { return c.SendMessage(Binary, make([]byte, coalesceSize-40)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newScriptConn(t, segments(messageBurst(2, "question"), messageBurst(1, "more")))
				c.ReceiveMessage()
				c.SendMessage(Text, bytes.Repeat([]byte("waits"), 10))
				s.writeErr = os.ErrClosed
				err := tt.then(c)
				wantError(t, err, os.ErrClosed)
				wantSticky(t, c, err)
				if got := CloseStatus(err); got != StatusAbnormalClosure {
					t.Errorf("got status %v, want %v", got, StatusAbnormalClosure)
				}
			})
		})
	}
}

func TestWriteCoalescing_over_TCP(t *testing.T) {
	srv := startServer(t, echoAll)
	p := dialServer(t, srv)
	const n = 2000
	go p.conn.Write(messageBurst(n, strings.Repeat("x", 100)))
	for range n {
		p.expect(Binary, strings.Repeat("x", 100))
	}
	p.close()
}

// A write deadline is for what is sent under it: it does not end the connection over
// a frame that was accepted before.
func TestWriteCoalescing_and_a_write_deadline_that_has_passed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newScriptConn(t, segments(messageBurst(2, "question")))
		c.ReceiveMessage()
		if err := c.SendMessage(Text, []byte("waits")); err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		if err := c.SendMessage(Ping, nil); err != nil && !isTimeout(err) || c.err() != nil {
			t.Errorf("got error %v on a connection that ended with %v", err, c.err())
		}
		c.SetWriteDeadline(time.Time{})
		if err := c.SendMessage(Text, []byte("in time")); err != nil {
			t.Error(err)
		}
		time.Sleep(coalesceTime)
		synctest.Wait()
		var texts []string
		for _, f := range s.frames(t) {
			if f.Opcode == Text {
				texts = append(texts, string(f.Payload))
			}
		}
		if !slices.Equal(texts, []string{"waits", "in time"}) {
			t.Errorf("got %q", texts)
		}
	})
}
