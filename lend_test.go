package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// lent receives one message with ReceiveFunc and returns a copy of it.
func lent(c *Conn) (op Opcode, data []byte, err error) {
	err = c.ReceiveFunc(func(o Opcode, d []byte) error {
		op, data = o, bytes.Clone(d)
		return nil
	})
	return op, data, err
}

// Messages of every shape arrive as they were sent, in one piece and byte by byte.
func TestReceiveFunc_shapes(t *testing.T) {
	t.Parallel()
	for name, lengths := range splitMessages {
		wire, payload := framesOf(lengths)
		wire = slices.Concat(wire, clientFrame(true, Text, "next"), wire)
		for _, segment := range []int{1 << 20, 1000, 4096, 70_000} {
			t.Run(fmt.Sprintf("%s/%d", name, segment), func(t *testing.T) {
				computes(t)
				c, p := newTCPConn(t)
				go func() {
					for part := range slices.Chunk(wire, segment) {
						p.Conn.Write(part)
					}
				}()
				for _, want := range []string{payload, "next", payload} {
					_, data, err := lent(c)
					if err != nil || string(data) != want {
						t.Fatalf("got %d bytes and error %v, want the %d bytes that were sent", len(data), err, len(want))
					}
				}
			})
		}
	}
}

// Invalid text fails the connection when its first bad byte arrives, also if the bytes have filled the
// buffer, or came with the handshake, so that more might wait in the socket.
func TestReceiveFunc_checks_text_before_it_waits(t *testing.T) {
	t.Parallel()
	handlers := map[string]http.Handler{
		"Handle":         Handle(func(c *Conn) error { return c.ReceiveFunc(func(Opcode, []byte) error { return nil }) }),
		"HandleMessages": HandleMessages(openEcho),
	}
	for name, h := range handlers {
		for _, missing := range []int{100, 2000, 100_000} {
			full := clientFrame(true, Text, "\xff"+strings.Repeat("x", readBufferSize+missing))[:readBufferSize]
			early := clientFrame(true, Text, "\xff"+strings.Repeat("x", 50+missing))[:50]
			t.Run(fmt.Sprintf("%s/%d bytes are missing", name, missing), func(t *testing.T) {
				t.Parallel()
				srv := wstest.Serve(t, h)
				p := dialServer(t, srv)
				p.Conn.Write(full)
				p.expectClose(1007)
				p = dialTCP(t, srv)
				p.Conn.Write(append([]byte(wstest.Handshake()), early...))
				if err := p.ReadUpgrade(); err != nil {
					t.Fatal(err)
				}
				p.expectClose(1007)
			})
		}
	}
}

// Sizes around those of the buffers, several in one segment: each message is what was sent,
// also after the function has changed it.
func TestReceiveFunc_sizes(t *testing.T) {
	computes(t)
	sizes := []int{0, 1, 125, 126, 4081, 4082, 4083, 4096, 5000, 8192, 16384, 65535, 65536,
		largeReadBufferSize - 14, largeReadBufferSize - 13, largeReadBufferSize, 200_000, 1 << 20}
	var wire []byte
	for i, size := range sizes {
		wire = append(wire, clientFrame(true, Binary, strings.Repeat(string(rune('a'+i)), size))...)
	}
	for name, run := range runners {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t)
			done := run(c, func(c *Conn) error {
				for i, size := range sizes {
					err := c.ReceiveFunc(func(op Opcode, data []byte) error {
						if want := bytes.Repeat([]byte{byte('a' + i)}, size); op != Binary || !bytes.Equal(data, want) || data == nil {
							return fmt.Errorf("message %d: got a %v message of %d bytes, want %d times %c", i, op, len(data), size, 'a'+i)
						}
						clear(data)
						_ = append(data, "behind it"...)
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
			go func() {
				p.Conn.Write(append(wire, clientFrame(true, Close, closeBody(1000, ""))...))
				p.ShutWrite()
			}()
			if err := await(t, done); err != nil {
				t.Error(err)
			}
		})
	}
}

// A message is lent where it lies in the read buffer, unless at least as many bytes follow it.
func TestReceiveFunc_copies_little(t *testing.T) {
	tests := []struct {
		name       string
		size, next int // of the message, and of the one behind it, 0 for none
		copied     bool
	}{
		{"alone", 2000, 0, false},
		{"in front of a smaller message", 2000, 1000, false},
		{"in front of a larger message", 1000, 2000, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			message, next := strings.Repeat("m", tt.size), strings.Repeat("n", tt.next)
			wire := clientFrame(true, Binary, message)
			header := len(wire) - tt.size
			if tt.next > 0 {
				wire = append(wire, clientFrame(true, Binary, next)...)
			}
			p.Write(wire)
			if !wstest.Eventually(func() bool { pollOnce(c); return len(unused(c)) == len(wire) }) {
				t.Fatalf("%d of %d bytes are in the read buffer", len(unused(c)), len(wire))
			}
			buffer := unused(c)
			err := c.ReceiveFunc(func(_ Opcode, data []byte) error {
				if inPlace := &data[0] == &buffer[header]; inPlace == tt.copied || string(data) != message {
					t.Errorf("the message of %d bytes is lent in the read buffer: %t, want %t", len(data), inPlace, !tt.copied)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if tt.next > 0 {
				if _, data, err := lent(c); err != nil || string(data) != next {
					t.Errorf("got %d bytes and error %v, want the next message", len(data), err)
				}
			}
		})
	}
}

// ReceiveFunc returns the error of the function unchanged, and the connection stays open.
func TestReceiveFunc_returns_the_error_of_the_function(t *testing.T) {
	c, p := newTCPConn(t)
	p.send(Text, "one")
	p.send(Text, "two")
	for _, want := range []error{errors.New("not today"), &CloseError{Code: 4000}, nil} {
		if want == nil {
			p.send(Text, "three")
		}
		if got := c.ReceiveFunc(func(Opcode, []byte) error { return want }); got != want {
			t.Errorf("got error %v, want %v itself", got, want)
		}
	}
	if err := c.ReceiveFunc(nil); err != errNilFunc {
		t.Errorf("got error %v for a nil function, want %v", err, errNilFunc)
	}
	if err := c.life.err(); err != nil {
		t.Errorf("the connection has ended: %v", err)
	}
}

// While a function runs, the connection can be used and closed, and the message stays as it is.
func TestReceiveFunc_while_the_function_runs(t *testing.T) {
	computes(t)
	bye := clientFrame(true, Close, closeBody(4001, ""))
	tests := []struct {
		name string
		call func(c *Conn, p *peer) error
	}{
		{"SendMessage", func(c *Conn, p *peer) error { return c.SendMessage(Text, []byte("answer")) }},
		{"Close inside", func(c *Conn, p *peer) error { p.Write(bye); hangUp(p); return c.Close(4001, "") }},
		{"Close outside", func(c *Conn, p *peer) error {
			closed := make(chan error)
			go func() { closed <- c.Close(4001, "") }()
			p.Write(bye)
			hangUp(p)
			return <-closed
		}},
		{"CloseNow", func(c *Conn, p *peer) error { return c.CloseNow() }},
		{"ReceiveMessage", func(c *Conn, p *peer) error {
			for range 3 {
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != strings.Repeat("y", 3000) {
					return fmt.Errorf("got %q, %w", data, err)
				}
			}
			return nil
		}},
		{"ReceiveFunc", func(c *Conn, p *peer) error {
			for range 3 {
				if _, data, err := lent(c); err != nil || string(data) != strings.Repeat("y", 3000) {
					return fmt.Errorf("got %q, %w", data, err)
				}
			}
			return nil
		}},
		{"a poll", func(c *Conn, p *peer) error { pollOnce(c); return nil }},
	}
	for _, tt := range tests {
		for _, size := range []int{5, 3000, 4000, 20_000, 100_000} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				c, p := newTCPConn(t)
				p.Write(slices.Concat(clientFrame(true, Binary, strings.Repeat("x", size)), messageBurst(3, strings.Repeat("y", 3000))))
				err := c.ReceiveFunc(func(op Opcode, data []byte) error {
					if err := tt.call(c, p); err != nil {
						t.Errorf("got error %v", err)
					}
					if want := strings.Repeat("x", size); string(data) != want {
						t.Errorf("the message of %d bytes has changed while the function ran", size)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A function that panics loses its message, and the connection works.
func TestReceiveFunc_after_a_panic(t *testing.T) {
	c, p := newTCPConn(t)
	p.send(Text, "one")
	p.send(Text, "two")
	func() {
		defer func() { recover() }()
		c.ReceiveFunc(func(Opcode, []byte) error { panic("on purpose") })
	}()
	if _, data, err := lent(c); err != nil || string(data) != "two" {
		t.Errorf("got %q and error %v, want the next message", data, err)
	}
}

// A deadline in the middle of a message leaves it to the next call. Another method must not
// continue it if a part of it was received already.
func TestReceiveFunc_in_the_middle_of_a_message(t *testing.T) {
	computes(t)
	c, p := newTCPConn(t)
	p.Write(clientFrame(false, Text, "be"))
	arrived := wstest.Eventually(func() bool { // on a busy machine, a deadline may expire before the read
		c.SetReadDeadline(time.Now().Add(pingPoll))
		if _, _, err := lent(c); !isTimeout(err) {
			t.Fatalf("got error %v, want an expired deadline", err)
		}
		return unfinishedSize(c) > 0
	})
	if !arrived {
		t.Fatal("the first fragment has not arrived")
	}
	c.SetReadDeadline(time.Time{})
	_, _, err := c.ReceiveMessage()
	if err == nil || c.life.err() != nil {
		t.Errorf("ReceiveMessage in the middle of the message: got error %v, want one that leaves the connection open", err)
	}
	wantMention(t, fmt.Sprint(err), "ReceiveFunc")
	p.Write(clientFrame(true, Continuation, "gin"))
	if op, data, err := lent(c); err != nil || op != Text || string(data) != "begin" {
		t.Errorf("got %v %q and error %v, want the message", op, data, err)
	}
}

// A connection whose peer declares a large frame holds little more than what has arrived.
func TestReceiveFunc_memory_follows_what_arrives(t *testing.T) {
	t.Parallel()
	for _, declared := range []int{70_000, 1 << 20} {
		for _, arrived := range []int{10, readBufferSize - 14, 5000, 10_000, 17_000, 50_000} {
			t.Run(fmt.Sprintf("%d of %d", arrived, declared), func(t *testing.T) {
				c, p := newTCPConn(t)
				skipIfBuffered(t, c)
				p.Write(append(clientHeader(true, Binary, uint64(declared)), make([]byte, arrived)...))
				waitForBytes(t, c, arrived)
				c.SetReadDeadline(time.Now().Add(pingPoll))
				if _, _, err := lent(c); !isTimeout(err) {
					t.Fatalf("got error %v, want an expired deadline", err)
				}
				held := bufferSize(c) + unfinishedSize(c)
				if most := max(4*arrived, 2*minPiece); held > most {
					t.Errorf("the connection holds %d bytes, want at most %d", held, most)
				}
			})
		}
	}
}

// A function may take long, so what it holds follows the size of its message.
func TestReceiveFunc_lends_a_buffer_of_the_size_of_the_message(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, readBufferSize, 5000, 9000, 40_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c, p := newTCPConn(t)
			frame := clientFrame(true, Binary, strings.Repeat("x", size))
			p.Write(append(frame, 0x82)) // a header begins behind it
			waitForBytes(t, c, len(frame)+1)
			var m lentMessage
			c.in.lock.Lock()
			err := c.in.lend(&m)
			c.in.lock.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			defer releaseInput(m.buf)
			if len(m.data) != size {
				t.Errorf("got %d bytes, want %d", len(m.data), size)
			}
			if most := max(8*len(frame), readBufferSize); len(m.buf) > most || bufferSize(c) > readBufferSize {
				t.Errorf("the function holds %d bytes and the connection %d, want at most %d and %d", len(m.buf), bufferSize(c), most, readBufferSize)
			}
		})
	}
}

// waitForBytes waits until n bytes of the peer have arrived in the kernel.
func waitForBytes(t testing.TB, c *Conn, n int) {
	t.Helper()
	arrived := wstest.Eventually(func() bool {
		unread, _, ok := c.socket.behind()
		return !ok || int(unread) >= n
	})
	if !arrived {
		t.Fatalf("%d bytes of the peer have not arrived", n)
	}
}

// ReceiveFunc allocates nothing for a message that fits into a read buffer.
func TestReceiveFunc_allocs(t *testing.T) {
	for _, size := range []int{16, 1 << 10, 64 << 10} {
		c := newRepeatConn(t, clientFrame(true, Binary, strings.Repeat("x", size)))
		receive := func() {
			if err := c.ReceiveFunc(func(_ Opcode, data []byte) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		checkAllocs(t, fmt.Sprintf("ReceiveFunc of %d bytes", size), 0, receive)
	}
}

// The pools return buffers of the size that was asked for, and take only those.
func TestTakeInput(t *testing.T) {
	for _, n := range []int{0, 1, 4096, 4097, 8192, 8193, 1 << 20, 1<<20 + 1, 16<<20 + 1} {
		b := takeInput(n)
		if len(b) < n || len(b) > max(2*n, readBufferSize) || len(b) != cap(b) {
			t.Errorf("takeInput(%d): got a buffer of %d bytes with capacity %d", n, len(b), cap(b))
		}
		releaseInput(b)
	}
	for _, n := range []int{0, 1, 4095, 5000, 12288} {
		releaseInput(make([]byte, n))
	}
	if b := takeInput(5000); len(b) != 8192 {
		t.Errorf("takeInput(5000): got a buffer of %d bytes, want 8192", len(b))
	}
}

// Messages that come faster than they are received are read with the large buffer.
func TestReceiveFunc_reads_many_messages_at_once(t *testing.T) {
	c, p := newTCPConn(t)
	skipIfBuffered(t, c)
	p.Write(bytes.Repeat(clientFrame(true, Binary, stars(1000)), 60))
	largest := 0
	for range 60 {
		if err := c.ReceiveFunc(func(Opcode, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, bufferSize(c))
	}
	if largest != largeReadBufferSize {
		t.Errorf("the largest read buffer had %d bytes, want %d", largest, largeReadBufferSize)
	}
}
