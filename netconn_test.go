package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// receiveModes are the ways in which a Conn receives.
var receiveModes = map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead}

func TestStream_reads_across_messages(t *testing.T) {
	computes(t)
	tests := []struct {
		name string
		op   Opcode
		sent []byte
		want string
	}{
		{"nothing", Binary, nil, ""},
		{"messages", Binary, slices.Concat(clientFrame(true, Binary, "a"), clientFrame(true, Binary, "bc")), "abc"},
		{"empty messages", Binary, slices.Concat(clientFrame(true, Binary, ""), clientFrame(true, Binary, "a"), clientFrame(true, Binary, "")), "a"},
		{"fragments and control frames", Binary, slices.Concat(clientFrame(false, Binary, "a"), clientFrame(true, Ping, "p"),
			clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "b"), clientFrame(true, Pong, ""), clientFrame(true, Binary, "c")), "abc"},
		{"text with characters that are cut", Text, slices.Concat(clientFrame(false, Text, "κ\xcf"), clientFrame(true, Continuation, "\x83"), clientFrame(true, Text, "σ")), "κ\xcf\x83σ"},
		{"binary that is not UTF-8", Binary, clientFrame(true, Binary, "\xff\xfe"), "\xff\xfe"},
		{"large messages", Binary, bytes.Repeat(clientFrame(true, Binary, strings.Repeat("x", 100_000)), 3), strings.Repeat("x", 300_000)},
	}
	for name, begin := range receiveModes {
		for _, tt := range tests {
			for _, size := range []int{1, 7, 512, 1 << 20} {
				t.Run(tt.name+" with "+name, func(t *testing.T) {
					wire := slices.Concat(tt.sent, clientFrame(true, Close, closeBody(1000, "")))
					c := newTestConn(wstest.NewSocket(wire), nil)
					begin(c)
					got, err := readPieces(c.Stream(tt.op), size)
					if string(got) != tt.want || err != io.EOF {
						t.Errorf("read %d bytes %.40q at a time: got %d bytes %.40q and error %v, want %d bytes %.40q and io.EOF itself",
							size, size, len(got), got, err, len(tt.want), tt.want)
					}
					c.CloseNow()
					c.Close(StatusNormalClosure, "")
				})
			}
		}
	}
}

// readPieces reads pieces of size bytes at most until an error.
func readPieces(r io.Reader, size int) (all []byte, err error) {
	p := make([]byte, size)
	for {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err != nil {
			return all, err
		}
	}
}

func TestStream_end(t *testing.T) {
	tests := []struct {
		name string
		sent []byte
		want []error
		code StatusCode
		eof  bool // io.EOF itself
	}{
		{"1000", clientFrame(true, Close, closeBody(1000, "bye")), nil, 1000, true},
		{"1001", clientFrame(true, Close, closeBody(1001, "")), nil, 1001, true},
		{"no code", clientFrame(true, Close, ""), nil, 1005, true},
		{"4000", clientFrame(true, Close, closeBody(4000, "")), nil, 4000, false},
		{"1011", clientFrame(true, Close, closeBody(1011, "")), nil, 1011, false},
		{"no close frame", nil, []error{io.ErrUnexpectedEOF}, 1006, false},
		{"a message of the other type", clientFrame(true, Text, "x"), []error{net.ErrClosed}, StatusUnsupportedData, false},
		{"an empty message of the other type", clientFrame(true, Text, ""), []error{net.ErrClosed}, StatusUnsupportedData, false},
		{"a fragment of the other type", clientFrame(false, Text, "x"), []error{net.ErrClosed}, StatusUnsupportedData, false},
		{"a broken rule", clientFrame(true, 3, "x"), []error{ErrProtocol}, 1002, false},
		{"a message inside a message", slices.Concat(clientFrame(false, Binary, "x"), clientFrame(true, Binary, "x")), []error{ErrProtocol}, 1002, false},
		{"a frame over MaxFrameSize", clientHeader(true, Binary, 1001), []error{ErrMessageTooLarge}, 1009, false},
	}
	for name, begin := range receiveModes {
		for _, tt := range tests {
			if name == "HandleConcurrent" && tt.name == "a fragment of the other type" {
				continue // which receives whole messages
			}
			t.Run(tt.name+" with "+name, func(t *testing.T) {
				socket := wstest.NewSocket(slices.Concat(clientFrame(true, Binary, "data"), tt.sent))
				c := newTestConn(socket, nil, MaxFrameSize(1000))
				begin(c)
				s := c.Stream(Binary)
				got, err := io.ReadAll(struct{ io.Reader }{s})
				if err == nil {
					err = io.EOF
				}
				if !strings.HasPrefix(string(got), "data") {
					t.Errorf("got data %q, want that before the end", got)
				}
				if (err == io.EOF) != tt.eof {
					t.Errorf("got error %v, want io.EOF itself = %t", err, tt.eof)
				}
				wantError(t, err, tt.want...)
				if got := CloseStatus(endOf(c)); got != tt.code {
					t.Errorf("got close status %v, want %v", got, tt.code)
				}
				for range 2 { // it is sticky
					if _, again := s.Read(make([]byte, 1)); again != err {
						t.Errorf("got error %v, want %v again", again, err)
					}
				}
				if _, err := s.Write([]byte("x")); err == nil {
					t.Error("Write returned no error")
				}
				if err := s.SetDeadline(time.Now()); errors.Is(endOf(c), net.ErrClosed) != (err != nil) {
					t.Errorf("SetDeadline returned error %v", err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("the first Close returned error %v, want none", err)
				}
				wantClosedStream(t, s)
				if tt.code == StatusUnsupportedData && !bytes.Contains(socket.Written(), []byte("binary")) {
					t.Errorf("got frames %s, want a close frame that names the types", wstest.Hex(socket.Written()))
				}
				c.Close(StatusNormalClosure, "")
			})
		}
	}
}

// wantClosedStream checks that every method says that the stream is closed here.
func wantClosedStream(t *testing.T, s net.Conn) {
	t.Helper()
	for what, call := range map[string]func() error{
		"Read":             func() error { _, err := s.Read(make([]byte, 1)); return err },
		"Write":            func() error { _, err := s.Write([]byte("x")); return err },
		"Close":            s.Close,
		"SetDeadline":      func() error { return s.SetDeadline(time.Time{}) },
		"SetReadDeadline":  func() error { return s.SetReadDeadline(time.Time{}) },
		"SetWriteDeadline": func() error { return s.SetWriteDeadline(time.Time{}) },
	} {
		if err := call(); !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			t.Errorf("%s after Close: got error %v, want one that is net.ErrClosed", what, err)
		}
	}
}

// A stream has no limit for messages, only for frames.
func TestStream_limits(t *testing.T) {
	sent := slices.Concat(clientFrame(false, Binary, strings.Repeat("x", 10)),
		bytes.Repeat(clientFrame(false, Continuation, strings.Repeat("x", 10)), 98), clientFrame(true, Continuation, strings.Repeat("x", 10)),
		clientFrame(true, Close, ""))
	options := []Option{MaxFrameSize(10), MaxMessageSize(10), MaxFragments(2)}
	c := newTestConn(wstest.NewSocket(sent), nil, options...)
	defer c.CloseNow()
	if got, err := readPieces(c.Stream(Binary), 64); len(got) != 1000 || err != io.EOF {
		t.Errorf("got %d bytes and error %v, want 1000 and io.EOF", len(got), err)
	}
	c = newTestConn(wstest.NewSocket(sent), nil, options...)
	beginReadAhead(c)
	_, err := readPieces(c.Stream(Binary), 64)
	wantError(t, err, ErrMessageTooLarge)
	c.Close(StatusNormalClosure, "")
}

// The stream and other receiving methods can take turns.
func TestStream_and_other_methods(t *testing.T) {
	for method, receive := range receiveOnce {
		for _, concurrent := range []bool{false, true} {
			if concurrent && (method == "ReceiveFragments" || method == "ReadFrame") {
				continue
			}
			t.Run(fmt.Sprintf("%s, HandleConcurrent %t", method, concurrent), func(t *testing.T) {
				socket := wstest.NewSocket(slices.Concat(clientFrame(false, Binary, "begun"), clientFrame(true, Continuation, strings.Repeat("x", 20)),
					clientFrame(true, Binary, "next"), clientFrame(true, Binary, "stream"), clientFrame(true, Text, "text")))
				limit := 30
				if !concurrent {
					limit = 20 // it does not apply
				}
				c := newTestConn(socket, nil, MaxFrameSize(40), MaxMessageSize(int64(limit)))
				if concurrent {
					beginReadAhead(c)
				}
				defer c.CloseNow()
				p := make([]byte, 3)
				read := func(s net.Conn, want string) {
					t.Helper()
					if n, err := s.Read(p[:len(want)]); string(p[:n]) != want || err != nil {
						t.Errorf("got %q and error %v, want %s", p[:n], err, want)
					}
				}
				s := c.Stream(Binary)
				read(s, "beg")
				read(c.Stream(Binary), "un") // another stream continues
				if got, err := receive(c); got != "next" || err != nil {
					t.Errorf("got %q and error %v, want the next message", got, err)
				}
				read(s, "str")
				read(s, "ea")
				if _, err := c.Stream(Text).Read(p); CloseStatus(err) != StatusUnsupportedData {
					t.Errorf("got error %v from a stream of the other type, want 1003", err)
				}
			})
		}
	}
}

// A Stream has begun a message even if no byte of it has arrived. Another method drops the rest.
func TestStream_begins_a_message_with_an_empty_fragment(t *testing.T) {
	for method, receive := range receiveOnce {
		t.Run(method, func(t *testing.T) {
			c, _ := newScriptConn(t, [][]byte{clientFrame(false, Binary, ""), nil,
				slices.Concat(clientFrame(true, Continuation, "abc"), clientFrame(true, Binary, "next"))})
			if _, err := c.Stream(Binary).Read(make([]byte, 3)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got error %v, want a deadline", err)
			}
			if got, err := receive(c); got != "next" || err != nil {
				t.Errorf("got %q and error %v, want the next message", got, err)
			}
		})
	}
}

// A message that a Stream has begun ends with the connection.
func TestStream_reads_nothing_after_Close(t *testing.T) {
	for name, begin := range map[string]func(c *Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			c := newTestConn(wstest.NewSocket(clientFrame(true, Binary, "begun")), nil)
			begin(c)
			s, p := c.Stream(Binary), make([]byte, 3)
			if n, err := s.Read(p); string(p[:n]) != "beg" || err != nil {
				t.Fatalf("got %q and error %v, want beg", p[:n], err)
			}
			c.CloseNow()
			if n, err := s.Read(p); n > 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %q and error %v, want the end", p[:n], err)
			}
		})
	}
}

func TestStream_writes_messages(t *testing.T) {
	large := strings.Repeat("0123456789", 30_000)
	tests := []struct {
		name   string
		op     Opcode
		writes []string
		want   []string // messages
	}{
		{"one message for each Write", Binary, []string{"a", "bc"}, []string{"a", "bc"}},
		{"nothing", Binary, []string{"", "a", ""}, []string{"a"}},
		{"a large message in one frame", Binary, []string{large}, []string{large}},
		{"bytes that are not UTF-8", Binary, []string{"\xff"}, []string{"\xff"}},
		{"text", Text, []string{"a", "κ"}, []string{"a", "κ"}},
		{"a character in two pieces", Text, []string{"a\xce", "\xba"}, []string{"a", "κ"}},
		{"a character of four bytes in four pieces", Text, []string{"\xf0", "\x9f", "\x98", "\x80!"}, []string{"😀!"}},
		{"a character of three bytes, cut after two", Text, []string{"\xe2\x82", "\xac\xe2", "\x82\xac"}, []string{"€", "€"}},
		{"large text that is cut inside a character", Text, []string{large + "\xe2\x82", "\xac" + large}, []string{large, "€" + large}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := wstest.NewSocket()
			c := newTestConn(socket, nil)
			defer c.CloseNow()
			s := c.Stream(tt.op)
			for _, w := range tt.writes {
				if n, err := s.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("Write of %d bytes: got %d and error %v", len(w), n, err)
				}
			}
			var want []byte
			for _, m := range tt.want {
				want = AppendFrame(want, Frame{Header{Fin: true, Opcode: tt.op}, []byte(m)})
			}
			if got := socket.Written(); !bytes.Equal(got, want) {
				t.Errorf("got frames %.200s, want %.200s", wstest.Hex(got), wstest.Hex(want))
			}
		})
	}
}

func TestStream_refuses_text_that_is_not_UTF8(t *testing.T) {
	tests := []struct{ name, before, invalid, after, want string }{
		{"an invalid byte", "", "a\xff", "b", "b"},
		{"a surrogate", "", "\xed\xa0\x80", "b", "b"},
		{"the rest of a character is missing", "\xce", "x", "\xba", "κ"},
		{"an invalid byte behind a kept one", "\xe2\x82", "\xac\xff", "\xac", "€"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := wstest.NewSocket()
			c := newTestConn(socket, nil)
			defer c.CloseNow()
			s := c.Stream(Text)
			s.Write([]byte(tt.before))
			n, err := s.Write([]byte(tt.invalid))
			wantError(t, err, ErrInvalidUTF8)
			if n != 0 || len(socket.Written()) != 0 {
				t.Errorf("got %d written bytes and frames %s, want none", n, wstest.Hex(socket.Written()))
			}
			if _, err := s.Write([]byte(tt.after)); err != nil {
				t.Error(err)
			}
			if want := AppendFrame(nil, Frame{Header{Fin: true, Opcode: Text}, []byte(tt.want)}); !bytes.Equal(socket.Written(), want) {
				t.Errorf("got frames %s, want %s", wstest.Hex(socket.Written()), wstest.Hex(want))
			}
		})
	}
}

func TestStream_Close(t *testing.T) {
	for name, begin := range receiveModes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				begin(c)
				s := c.Stream(Binary)
				reads := make(chan error, 2)
				for range cap(reads) {
					go func() { _, err := s.Read(make([]byte, 1)); reads <- err }()
				}
				synctest.Wait()
				start := time.Now()
				if err := s.Close(); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				for range cap(reads) {
					wantError(t, <-reads, net.ErrClosed)
				}
				wantClosedStream(t, s)
				wantDuration(t, "Close", start, 0)
				p.expectClose(StatusNormalClosure)
				p.send(Close, closeBody(1000, ""))
				c.life.closed.Wait()
				wantClosedStream(t, s)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	t.Run("inside a character", func(t *testing.T) {
		c, p := newTCPConn(t)
		s := c.Stream(Text)
		s.Write([]byte("a\xce"))
		wantError(t, s.Close(), ErrInvalidUTF8)
		p.expect(Text, "a")
		p.expectClose(StatusInternalError)
		p.Conn.Close()
	})
	t.Run("while a Write is blocked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := newPipeConn(t)
			s := c.Stream(Binary)
			written := make(chan error)
			go func() { _, err := s.Write([]byte("x")); written <- err }()
			synctest.Wait()
			start := time.Now()
			s.Close()
			wantError(t, <-written, net.ErrClosed)
			wantDuration(t, "Close and Write", start, 0)
			c.Close(StatusNormalClosure, "")
		})
	})
	t.Run("in the middle of a frame", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t)
			s := c.Stream(Binary)
			written := make(chan error)
			go func() { _, err := s.Write([]byte("0123456789")); written <- err }()
			io.ReadFull(p.Conn, make([]byte, 5))
			start := time.Now()
			s.Close()
			wantError(t, <-written, net.ErrClosed)
			wantDuration(t, "Close and Write", start, 0)
			p.ExpectBytes([]byte("3456789")) // the rest, and then the close frame
			p.expectClose(StatusNormalClosure)
			p.send(Close, closeBody(1000, ""))
			c.Close(StatusNormalClosure, "")
		})
	})
}

// A socket of an unknown type does not report how much it has written, so its write is not
// interrupted while the peer may still read.
func TestStream_Close_while_a_Write_is_blocked_on_a_wrapped_socket(t *testing.T) {
	const closeTimeout = 3 * time.Second
	tests := []struct {
		name string
		then func(c *Conn, p *peer) // after Close
		err  error                  // of Write
		want time.Duration          // in which Write returns
	}{
		{"the peer reads", func(_ *Conn, p *peer) {
			p.expect(Binary, "whole")
			p.expectClose(StatusNormalClosure)
		}, nil, 0},
		{"the peer does not read", func(*Conn, *peer) {}, net.ErrClosed, closeTimeout},
		{"the peer does not read, and CloseNow is called", func(c *Conn, _ *peer) { c.CloseNow() }, net.ErrClosed, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newWrappedConn(t, wrapConn, CloseTimeout(closeTimeout))
				s := c.Stream(Binary)
				written := make(chan error, 1)
				go func() { _, err := s.Write([]byte("whole")); written <- err }()
				synctest.Wait()
				start := time.Now()
				s.Close()
				tt.then(c, p)
				if err := <-written; !errors.Is(err, tt.err) {
					t.Errorf("Write returned %v, want %v", err, tt.err)
				}
				wantDuration(t, "Close and Write", start, tt.want)
				endConn(c, p)
			})
		})
	}
}

func TestStream_refuses_other_opcodes(t *testing.T) {
	for _, op := range []Opcode{Continuation, 3, Close, Ping, Pong} {
		c, _ := newTCPConn(t)
		s := c.Stream(op)
		_, err := s.Read(make([]byte, 1))
		wantError(t, err, ErrInvalidOpcode)
		_, err = s.Write([]byte("x"))
		wantError(t, err, ErrInvalidOpcode)
		if err := s.Close(); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		c.CloseNow()
	}
}

func TestStream_of_many_goroutines(t *testing.T) {
	c, p := newTCPConn(t)
	s := c.Stream(Binary)
	const goroutines, each = 4, 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range goroutines {
		wg.Go(func() {
			for range each {
				s.Write([]byte("x"))
			}
		})
		wg.Go(func() {
			for b := make([]byte, 3); ; {
				n, err := s.Read(b)
				mu.Lock()
				got += n
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	for range goroutines * each {
		p.expect(Binary, "x")
		p.send(Binary, "xyz")
	}
	p.send(Close, closeBody(1000, ""))
	hangUp(p)
	wg.Wait()
	if got != 3*goroutines*each {
		t.Errorf("the goroutines read %d bytes, want %d", got, 3*goroutines*each)
	}
}

func TestStream_addresses(t *testing.T) {
	c, p := newTCPConn(t)
	s := c.Stream(Binary)
	if s.LocalAddr().String() != p.Conn.RemoteAddr().String() || s.RemoteAddr().String() != p.Conn.LocalAddr().String() {
		t.Errorf("got addresses %v and %v, want those of the socket", s.LocalAddr(), s.RemoteAddr())
	}
}

func TestStream_allocates_nothing(t *testing.T) {
	c := newRepeatConn(t, slices.Concat(clientFrame(false, Binary, strings.Repeat("x", 1000)), clientFrame(true, Continuation, "y")))
	s := c.Stream(Binary)
	b := make([]byte, 512)
	checkAllocs(t, "Read", 0, func() { s.Read(b) })
	checkAllocs(t, "Write", 0, func() { s.Write(b) })
}

// A method drops the rest of a text message that a Stream has begun, and a read deadline interrupts it.
// What is left of the text begins in the middle, so polls must not check it.
func TestStream_text_that_another_method_drops(t *testing.T) {
	const busy = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c, _, p := newMemoryConn(t)
		done := runHandler(c, func(c *Conn) error {
			c.Stream(Text).Read(make([]byte, 3))
			c.SetReadDeadline(time.Now().Add(time.Second))
			_, _, err := c.ReceiveMessage()
			wantError(t, err, os.ErrDeadlineExceeded)
			c.SetReadDeadline(time.Time{})
			time.Sleep(busy)
			if err := endOf(c); err != nil {
				t.Errorf("the connection has ended: %v", err)
			}
			if _, data, err := c.ReceiveMessage(); string(data) != "next" || err != nil {
				t.Errorf("got %q and error %v, want the next message", data, err)
			}
			return nil
		})
		go answerPings(p, time.Millisecond)
		frame := clientFrame(true, Text, strings.Repeat("é", 500))
		p.Conn.Write(frame[:len(frame)-100])
		time.Sleep(3 * time.Second)
		p.Conn.Write(frame[len(frame)-100:])
		p.Conn.Write(clientFrame(true, Text, "next"))
		<-done
		p.Conn.Close()
	})
}
