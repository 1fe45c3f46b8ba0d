package websocket

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeSizes is how many frames each write since the last look had.
func (s *tape) framesPerWrite(t testing.TB) (counts []int) {
	t.Helper()
	for _, b := range s.writes {
		n := 0
		for r := bytes.NewReader(b); r.Len() > 0; n++ {
			if _, err := ReadFrame(r, 1<<30); err != nil {
				t.Fatalf("write of %s is not whole frames: %v", abbreviate(b), err)
			}
		}
		counts = append(counts, n)
	}
	return counts
}

// burst is n messages in one segment.
func burst(n int, payload string) []byte {
	return bytes.Repeat(clientFrame(true, Binary, payload), n)
}

func TestWriteCoalescing_of_an_echo(t *testing.T) {
	small := clientFrame(true, Text, "small")
	tests := []struct {
		name   string
		pieces [][]byte
		opts   []Option
		want   []int // frames in each write
	}{
		{"one message is written at once", pieces(small), nil, []int{1}},
		{"messages that come one by one are written one by one", pieces(small, small, small), nil, []int{1, 1, 1}},
		{"messages that come together are written together", pieces(burst(32, "small")), nil, []int{32}},
		{"what comes together is written before more is read", pieces(burst(3, "a"), burst(4, "b")), nil, []int{3, 4}},
		{"a pong goes along", pieces(join(small, clientFrame(true, Ping, "ping"), small)), nil, []int{3}},
		{"half a frame is not waited for", pieces(join(small, small[:5]), small[5:]), nil, []int{1, 1}},
		{"half a header is not waited for", pieces(join(small, small[:1]), small[1:]), nil, []int{1, 1}},
		{"lengths of 16 bits", pieces(burst(3, strings.Repeat("x", 200))), nil, []int{3}},
		{"not more than 16 KiB together", pieces(burst(3, strings.Repeat("x", 1000)), burst(30, strings.Repeat("x", 1000))), nil, []int{3, 16, 14}},
		{"a message of 20,000 bytes behind small ones", pieces(join(small, small, clientFrame(true, Binary, strings.Repeat("x", 20000)))), nil, []int{2, 1}},
		{"not at all if that is what the user wants", pieces(burst(5, "small")), []Option{WriteCoalescing(false)}, []int{1, 1, 1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := play(t, tt.pieces, tt.opts...)
				conn := &wholeWrites{tape: s}
				c.conn = conn
				err := echo(c)
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
	*tape
	part []byte
}

func (w *wholeWrites) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	if r := bytes.NewReader(w.part); !endsInFrame(r) {
		return len(p), nil
	}
	whole := w.part
	w.part = nil
	w.tape.Write(whole)
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
func wantBounded(t *testing.T, s *tape, n int) {
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
		c, p := pipe(t)
		done := serveConn(c, func(c *Conn) error {
			c.ReceiveMessage()
			c.SendMessage(Text, []byte("first"))
			time.Sleep(time.Hour)
			return nil
		})
		go p.write(burst(2, "question"))
		start := time.Now()
		p.expect(Text, "first")
		took(t, "a frame that was left to wait", start, coalesceTime)
		p.conn.Close()
		<-done
	})
}

func TestWriteCoalescing_keeps_what_was_sent_before(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *Conn)
		want []sent
	}{
		{"a close", func(c *Conn) { c.Close(StatusNormalClosure, "") },
			[]sent{{true, Text, "waits"}, {true, Close, "\x03\xe8"}}},
		{"a close that is a message", func(c *Conn) { c.SendMessage(Close, nil) },
			[]sent{{true, Text, "waits"}, {true, Close, ""}}},
		{"a large message", func(c *Conn) { c.SendMessage(Binary, make([]byte, 1<<16)) },
			[]sent{{true, Text, "waits"}, {true, Binary, string(make([]byte, 1<<16))}}},
		{"a message under a deadline", func(c *Conn) {
			c.SetWriteDeadline(time.Now().Add(time.Hour))
			c.SendMessage(Text, []byte("at once"))
		}, []sent{{true, Text, "waits"}, {true, Text, "at once"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := play(t, pieces(burst(2, "question")))
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
				c, s := play(t, pieces(burst(2, "question"), burst(1, "more")))
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
	srv := serve(t, echo)
	p := dial(t, srv)
	const n = 2000
	go p.conn.Write(burst(n, strings.Repeat("x", 100)))
	for range n {
		p.expect(Binary, strings.Repeat("x", 100))
	}
	p.close()
}

func TestReadBuffer(t *testing.T) {
	t.Run("an idle connection has none", func(t *testing.T) {
		c, p := dialConn(t)
		if !c.in.ready.waits() {
			t.Skip("this platform waits with a buffer")
		}
		for _, size := range []int{10, 5000, 100_000} {
			p.send(Binary, strings.Repeat("x", size))
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != size {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Time{})
			if c.in.buf != nil {
				t.Errorf("got a buffer of %d bytes after a message of %d, want none", len(c.in.buf), size)
			}
		}
	})
	t.Run("the beginning of a frame is waited for with the smaller", func(t *testing.T) {
		c, p := dialConn(t)
		if !c.in.ready.waits() {
			t.Skip("this platform waits with a buffer")
		}
		frame := clientFrame(true, Binary, strings.Repeat("x", 6000))
		p.write(append(frame, frame[:7]...))
		if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 6000 {
			t.Fatalf("got %d bytes and error %v", len(data), err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
			t.Fatal(err)
		}
		if got := len(c.in.buf); got != readBufferSize {
			t.Errorf("got a buffer of %d bytes, want %d", got, readBufferSize)
		}
		c.SetReadDeadline(time.Time{})
		p.write(frame[7:])
		if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 6000 {
			t.Fatalf("got %d bytes and error %v", len(data), err)
		}
	})
	t.Run("grows with what is there to read", func(t *testing.T) {
		c, _ := play(t, pieces(burst(60, strings.Repeat("x", 1000))))
		largest := 0
		for range 60 {
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 1000 {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			largest = max(largest, len(c.in.buf))
		}
		if largest != largeReadBufferSize {
			t.Errorf("got a buffer of %d bytes, want %d", largest, largeReadBufferSize)
		}
	})
	t.Run("what came with the handshake fits any size", func(t *testing.T) {
		wire := burst(9, strings.Repeat("x", 1000))
		server, client := net.Pipe()
		defer client.Close()
		c := newConn(server, httptest.NewRequest("GET", "/", nil), "", newOptions(nil), wire)
		for range 9 {
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 1000 {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
		}
		client.Close()
		c.ReceiveMessage()
		c.Close(StatusNormalClosure, "")
	})
}

func TestWholeFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1000, 65535} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			frame := clientFrame(true, Binary, strings.Repeat("x", size))
			for n := range len(frame) {
				if _, end := wholeFrame(frame[:n]); end > 0 {
					t.Fatalf("%d of %d bytes are a whole frame", n, len(frame))
				}
			}
			if _, end := wholeFrame(append(frame, 0)); end != len(frame) {
				t.Error("a whole frame is none")
			}
		})
	}
	none := map[string]string{
		"unmasked":                     "\x82\x00\x00\x00\x00\x00\x00",
		"5 bytes, in 16 bits":          "\x82\xFE\x00\x05abcdhello",
		"5 bytes, in 64 bits":          "\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x05abcdhello",
		"more than there is":           "\x82\x86abcdhello",
		"more than there is by a byte": "\x82\xFE\x01\x00abcd" + strings.Repeat("x", 255),
	}
	for name, b := range none {
		t.Run(name, func(t *testing.T) {
			if start, end := wholeFrame([]byte(b)); start != 0 || end != 0 {
				t.Errorf("got a payload from %d to %d, want none", start, end)
			}
		})
	}
}

// BenchmarkWriteCoalescing is what the waiting buys, with 32 messages of 16 bytes at
// a time.
func BenchmarkWriteCoalescing(b *testing.B) {
	for _, on := range []bool{true, false} {
		b.Run(fmt.Sprint(on), func(b *testing.B) {
			benchmarkBursts(b, 16, serve(b, appendEcho, WriteCoalescing(on)))
		})
	}
}

// BenchmarkReadBuffer is what the larger one buys, with 32 messages of 1 KiB at a time.
func BenchmarkReadBuffer(b *testing.B) {
	for _, large := range []bool{true, false} {
		b.Run(fmt.Sprint(large), func(b *testing.B) {
			benchmarkBursts(b, 1024, serve(b, func(c *Conn) error {
				var buf []byte
				for {
					c.in.bulk = c.in.bulk && large
					op, data, err := c.AppendMessage(buf[:0])
					if err != nil {
						return err
					}
					buf = data
					if err := c.SendMessage(op, data); err != nil {
						return err
					}
				}
			}))
		})
	}
}

// benchmarkBursts has an echo answer 32 messages that come over loopback at once.
func benchmarkBursts(b *testing.B, size int, srv *httptest.Server) {
	const n = 32
	p := dial(b, srv)
	wire := burst(n, strings.Repeat("x", size))
	answer := make([]byte, len(wire)-n*len(peerKey))
	b.ReportAllocs()
	for range b.N {
		p.write(wire)
		if _, err := io.ReadFull(p.br, answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
}
