package websocket

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Deadlines can be set, expire and be removed, and nothing is lost.
func TestStream_read_deadline(t *testing.T) {
	for name, begin := range receiveModes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				begin(c)
				s := c.Stream(Binary)
				b := make([]byte, 3)
				for range 3 {
					s.SetReadDeadline(time.Now().Add(time.Second))
					start := time.Now()
					if _, err := s.Read(b); !isTimeout(err) {
						t.Errorf("got error %v, want an expired deadline", err)
					}
					wantDuration(t, "Read", start, time.Second)
				}
				s.SetReadDeadline(time.Time{})
				go p.send(Binary, "abcdef")
				if n, err := s.Read(b); string(b[:n]) != "abc" || err != nil {
					t.Errorf("got %q and error %v, want abc", b[:n], err)
				}
				s.SetReadDeadline(time.Now()) // hides the bytes that are there
				if n, err := s.Read(b); n != 0 || !isTimeout(err) {
					t.Errorf("got %d bytes and error %v, want an expired deadline", n, err)
				}
				s.SetDeadline(time.Time{})
				if n, err := s.Read(b); string(b[:n]) != "def" || err != nil {
					t.Errorf("got %q and error %v, want def", b[:n], err)
				}
				c.CloseNow()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// A deadline in the middle of a message leaves the stream where it was.
func TestStream_after_a_deadline_at_any_byte(t *testing.T) {
	wire := slices.Concat(clientFrame(false, Text, "κό"), clientFrame(true, Ping, "p"), clientFrame(true, Continuation, "σμε"), clientFrame(true, Text, "!"))
	for i := 1; i < len(wire); i++ {
		c, _ := newScriptConn(t, segments(wire[:i], nil, wire[i:]))
		s := c.Stream(Text)
		first, err := readPieces(s, 2)
		if !isTimeout(err) {
			t.Fatalf("cut at byte %d: got error %v, want an expired deadline", i, err)
		}
		rest, err := readPieces(s, 2)
		wantError(t, err, io.ErrUnexpectedEOF)
		if got := string(first) + string(rest); got != "κόσμε!" {
			t.Errorf("cut at byte %d: got %q, want all of the text", i, got)
		}
	}
}

func TestStream_write_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		s := c.Stream(Binary)
		s.SetWriteDeadline(time.Now().Add(time.Second))
		start := time.Now()
		if n, err := s.Write([]byte("x")); n != 0 || !isTimeout(err) {
			t.Errorf("got %d bytes and error %v, want an expired deadline", n, err)
		}
		wantDuration(t, "Write", start, time.Second)
		s.SetWriteDeadline(time.Time{})
		go s.Write([]byte("usable"))
		p.expect(Binary, "usable")
		c.CloseNow()
	})
}

// A deadline at any byte of a frame leaves the stream usable: the rest of the frame is sent
// before anything else.
func TestStream_write_deadline_at_any_byte(t *testing.T) {
	small, large := "0123456789", strings.Repeat("0123456789", 1000)
	tests := []struct {
		name    string
		op      Opcode
		message string
		cuts    []int
	}{
		{"small", Binary, small, []int{0, 1, 2, 3, 11}},
		{"large", Binary, large, []int{0, 1, 3, 4, 5, 4096, 10_003}},
		{"text", Text, "κόσμε" + "\xe2", []int{0, 1, 2, 3, 10}},
	}
	for _, tt := range tests {
		for _, cut := range tt.cuts {
			for next, send := range map[string]func(c *Conn, s net.Conn) error{
				"Write":       func(c *Conn, s net.Conn) error { _, err := s.Write([]byte("\x82\xac")); return err },
				"SendMessage": func(c *Conn, s net.Conn) error { return c.SendMessage(Ping, nil) },
				"Close":       func(c *Conn, s net.Conn) error { s.Close(); return nil },
				"nothing":     func(c *Conn, s net.Conn) error { return nil },
			} {
				if next == "Write" && tt.op == Text && cut == 0 {
					continue // the beginning of the character was not written
				}
				t.Run(tt.name+" and "+next, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, p := newPipeConn(t)
						s := c.Stream(tt.op)
						whole := strings.TrimSuffix(tt.message, "\xe2")
						want := AppendFrame(nil, Frame{Header{Fin: true, Opcode: tt.op}, []byte(whole)})
						got := make([]byte, cut)
						go io.ReadFull(p.Conn, got)
						s.SetWriteDeadline(time.Now().Add(time.Second))
						n, err := s.Write([]byte(tt.message))
						if !isTimeout(err) {
							t.Errorf("got error %v, want an expired deadline", err)
						}
						if want := min(cut, 1) * len(tt.message); n != want {
							t.Errorf("cut at byte %d: Write returned %d, want %d", cut, n, want)
						}
						s.SetWriteDeadline(time.Time{})
						sent := make(chan error, 1)
						go func() { sent <- send(c, s) }()
						if cut > 0 {
							rest := make([]byte, len(want)-cut)
							io.ReadFull(p.Conn, rest)
							if got := append(got, rest...); !bytes.Equal(got, want) {
								t.Errorf("cut at byte %d: got frame %.100s, want %.100s", cut, wstest.Hex(got), wstest.Hex(want))
							}
						}
						switch {
						case next == "SendMessage":
							p.expect(Ping, "")
						case next == "Write" && tt.op == Text:
							p.expect(Text, "€")
						case next == "Write":
							p.expect(Binary, "\x82\xac")
						case next == "Close" && tt.op == Text && cut > 0:
							p.expectClose(StatusInternalError)
						case next == "Close":
							p.expectClose(StatusNormalClosure)
						}
						if err := <-sent; err != nil {
							t.Errorf("%s: %v", next, err)
						}
						c.CloseNow()
						c.Close(StatusNormalClosure, "")
					})
				})
			}
		}
	}
}

// The frame is larger than the buffers of TCP, so the deadline cuts it off.
func TestStream_write_deadline_over_TCP(t *testing.T) {
	t.Parallel()
	c, p := newTCPConn(t)
	s := c.Stream(Binary)
	message := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var n int
	var err error
	for limit := 20 * time.Millisecond; n == 0 && limit < time.Minute; limit *= 2 { // on a slow machine, it may pass before the write
		s.SetWriteDeadline(time.Now().Add(limit))
		n, err = s.Write(message)
	}
	if n != len(message) || !isTimeout(err) {
		t.Fatalf("got %d bytes and error %v, want %d bytes and an expired deadline", n, err, len(message))
	}
	if n, err := s.Write([]byte("x")); n != 0 || !isTimeout(err) {
		t.Errorf("got %d bytes and error %v, want 0 bytes and an expired deadline", n, err)
	}
	s.SetWriteDeadline(time.Time{})
	go s.Write([]byte("next"))
	p.expect(Binary, string(message))
	p.expect(Binary, "next")
	c.CloseNow()
}

// Over TLS, it is not known how much was sent.
func TestStream_write_deadline_over_TLS_ends_the_connection(t *testing.T) {
	t.Parallel()
	handler, ends := captureError(func(c *Conn) error {
		s := c.Stream(Binary)
		s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := s.Write(make([]byte, 16<<20))
		if n != 0 || !isTimeout(err) {
			t.Errorf("got %d bytes and error %v, want an expired deadline", n, err)
		}
		s.SetWriteDeadline(time.Time{})
		_, err = s.Write([]byte("x"))
		return err
	})
	dialTLS(t, handler)
	if err := await(t, ends); CloseStatus(err) != StatusAbnormalClosure {
		t.Errorf("got error %v, want that of a connection that has ended with 1006", err)
	}
}

// A deadline cuts off a method that drops the rest of a message. The Stream that has begun the message
// does not continue in the middle of it.
func TestStream_after_a_deadline_of_another_method(t *testing.T) {
	computes(t)
	text := strings.Repeat("é", 2000)
	numbers := fmt.Sprint(rand.New(rand.NewPCG(1, 2)).Perm(1000)) // they are not compressed to a few bytes
	for kind, tt := range map[string]struct {
		op    Opcode
		frame []byte
		cut   int
	}{
		"binary":                              {Binary, clientFrame(true, Binary, "begun by the stream"), 12},
		"text that is cut inside a character": {Text, clientFrame(true, Text, text), 1 + len(clientFrame(true, Text, text)) - len(text)/2},
		"compressed":                          {Text, compressedMessage(Text, numbers), 1000},
		"compressed fragments":                {Text, compressedFragments(Text, deflated(numbers), 400), 1000},
	} {
		for method, receive := range receiveOnce {
			t.Run(kind+", "+method, func(t *testing.T) {
				c, _ := newScriptConn(t, segments(tt.frame[:tt.cut], nil, slices.Concat(tt.frame[tt.cut:], clientFrame(true, tt.op, "next"))), Compression(0))
				s, p := c.Stream(tt.op), make([]byte, 4)
				if _, err := io.ReadFull(s, p); err != nil {
					t.Fatal(err)
				}
				if _, err := receive(c); !isTimeout(err) {
					t.Fatalf("got error %v, want an expired deadline", err)
				}
				if n, err := s.Read(p); string(p[:n]) != "next" || err != nil {
					t.Errorf("got %q and error %v, want the next message", p[:n], err)
				}
				wantNoDecoder(t, c)
			})
		}
	}
}
