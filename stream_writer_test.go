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

func TestMessageWriter(t *testing.T) {
	full, big := strings.Repeat("f", fragmentSize), strings.Repeat("x", 100000)
	tests := []struct {
		name   string
		op     Opcode
		writes []string
		want   []sentFrame
	}{
		{"sends an empty message", Text, nil, []sentFrame{{true, Text, ""}}},
		{"sends an empty write", Binary, []string{""}, []sentFrame{{true, Binary, ""}}},
		{"sends one small write as one frame", Text, []string{"hello"}, []sentFrame{{true, Text, "hello"}}},
		{"gathers small writes", Binary, []string{"a", "", "bc", "d"}, []sentFrame{{true, Binary, "abcd"}}},
		{"gathers up to fragmentSize bytes", Text, slices.Collect(splitString(full, 1000)), []sentFrame{{true, Text, full}}},
		{"begins a frame with the bytes that do not fit", Text, append(slices.Collect(splitString(full, 1000)), "over"), []sentFrame{{false, Text, full}, {true, Continuation, "over"}}},
		{"writes large pieces as they are", Binary, []string{big, big}, []sentFrame{{false, Binary, big}, {false, Continuation, big}, {true, Continuation, ""}}},
		{"keeps the order of small and large", Binary, []string{"abc", big, "def"}, []sentFrame{
			{false, Binary, "abc" + big[:fragmentSize-3]}, {false, Continuation, big[fragmentSize-3:]}, {true, Continuation, "def"}}},
		{"accepts characters that are split between writes", Text, slices.Collect(splitString(unicodeText, 1)), []sentFrame{{true, Text, unicodeText}}},
		{"splits characters between frames", Text, []string{"abc", strings.Repeat("κ", fragmentSize)}, []sentFrame{
			{false, Text, "abc" + strings.Repeat("κ", fragmentSize)[:fragmentSize-3]},
			{false, Continuation, strings.Repeat("κ", fragmentSize)[fragmentSize-3:]}, {true, Continuation, ""}}},
		{"does not check binary", Binary, []string{"\xff", "\xc3"}, []sentFrame{{true, Binary, "\xff\xc3"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := newScriptConn(t, nil)
			for range 2 {
				w := openWriter(t, c, tt.op)
				for _, text := range tt.writes {
					mustWrite(t, w, text)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				s.wantSent(t, tt.want...)
			}
		})
	}
}

func TestMessageWriter_refusals(t *testing.T) {
	long := strings.Repeat("κ", 10000)

	t.Run("opcodes that are not those of a message", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		for op := range Opcode(16) {
			if op == Text || op == Binary {
				continue
			}
			_, err := c.MessageWriter(op)
			wantError(t, err, ErrInvalidOpcode)
		}
		s.wantSent(t)
	})
	t.Run("text that is not UTF-8", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		for _, step := range []struct {
			text string
			ok   bool
		}{{"ok", true}, {"\xff", false}, {long + "\xed\xa0\x80", false}, {"\xce", true}, {"x", false}, {"\xba", true}, {"\xba", false}, {"", true}} {
			n, err := w.Write([]byte(step.text))
			if step.ok && (err != nil || n != len(step.text)) {
				t.Errorf("%x: got %d and error %v", step.text, n, err)
			}
			if !step.ok && (!errors.Is(err, ErrInvalidUTF8) || n != 0) {
				t.Errorf("%x: got %d and error %v, want %v", step.text, n, err, ErrInvalidUTF8)
			}
		}
		s.wantSent(t)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sentFrame{true, Text, "okκ"})
	})
	t.Run("a close inside a character before anything was sent", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, "begun\xe2\x82")
		wantError(t, w.Close(), ErrInvalidUTF8)
		s.wantSent(t)
		wantError(t, w.Close(), io.ErrClosedPipe)
		if err := c.SendMessage(Text, []byte("alive")); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sentFrame{true, Text, "alive"})
	})
	t.Run("a close inside a character after something was sent", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, long+"\xe2\x82")
		err := w.Close()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInternalError)
		for _, again := range []error{c.SendMessage(Text, nil), w.Close(), c.Close(StatusNormalClosure, "")} {
			if status := CloseStatus(again); status != StatusInternalError {
				t.Errorf("got close status %v, want %v, which was sent", status, StatusInternalError)
			}
		}
	})
	t.Run("everything after Close", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		// The refusal does not depend on another message that is open.
		other := openWriter(t, c, Text)
		n, err := w.Write([]byte("late"))
		if n != 0 {
			t.Errorf("wrote %d bytes to a closed message", n)
		}
		wantError(t, err, io.ErrClosedPipe)
		wantError(t, w.Close(), io.ErrClosedPipe)
		mustWrite(t, other, "other")
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sentFrame{true, Text, ""}, sentFrame{true, Text, "other"})
	})
	t.Run("everything on a connection that has ended", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Binary)
		mustWrite(t, w, "gathered")
		c.Close(StatusGoingAway, "")
		_, writeErr := w.Write([]byte("more"))
		_, openErr := c.MessageWriter(Text)
		for _, err := range []error{writeErr, openErr, w.Close(), c.SendMessage(Binary, nil), c.SendMessage(Ping, nil), c.WriteFrame(Frame{})} {
			wantError(t, err, net.ErrClosed)
		}
		s.wantSent(t, sentFrame{true, Close, closeBody(StatusGoingAway, "")})
	})
}

func TestMessageWriter_continues_after_a_deadline(t *testing.T) {
	for _, size := range []int{1, 100, fragmentSize - 1, fragmentSize, fragmentSize + 1, 3*fragmentSize + 7, 100000} {
		for _, op := range []Opcode{Text, Binary} {
			t.Run(fmt.Sprintf("%d bytes of %v", size, op), func(t *testing.T) {
				c, s := newScriptConn(t, nil)
				c.socket.interruptPoll() // for good, because a poll would find the end of the script
				want := strings.Repeat("€", 10000)
				w := openWriter(t, c, op)
				for rest := []byte(want); len(rest) > 0; {
					p := rest[:min(size, len(rest))]
					c.SetWriteDeadline(pastTime)
					n, err := w.Write(p)
					rest = rest[n:]
					c.SetWriteDeadline(time.Time{})
					if n == len(p) && err == nil {
						continue
					}
					wantError(t, err, os.ErrDeadlineExceeded)
					mustWrite(t, w, string(p[n:]))
					rest = rest[len(p)-n:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				frames := s.frames(t)
				gotOp, got, err := ProcessFragments(frames)
				if err != nil || gotOp != op || string(got) != want {
					t.Errorf("got %v %s and error %v in %d frames, want the whole message", gotOp, wstest.Hex(got), err, len(frames))
				}
			})
		}
	}
}

func TestMessageWriter_allows_control_frames_between_its_fragments(t *testing.T) {
	pings := make(chan struct{})
	fn, results := captureError(func(c *Conn) error {
		w, err := c.MessageWriter(Text)
		if err != nil {
			return err
		}
		part := strings.Repeat("x", fragmentSize)
		for range 3 {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
			if err := c.SendMessage(Ping, []byte("own")); err != nil {
				return err
			}
			<-pings
		}
		if err := c.SendMessage(Close, []byte(closeBody(StatusGoingAway, ""))); err != nil {
			return err
		}
		_, err = io.WriteString(w, part)
		wantError(t, err, net.ErrClosed)
		wantError(t, w.Close(), net.ErrClosed)
		return receiveAll(c)
	})
	srv := startServer(t, func(c *Conn) error {
		go receiveAll(c)
		return fn(c)
	})
	p := dialServer(t, srv)
	for i := range 3 {
		if f := p.read(); f.Fin || len(f.Payload) != fragmentSize || (f.Opcode == Text) != (i == 0) {
			t.Fatalf("got header %+v, want fragment %d", f.Header, i+1)
		}
		p.expect(Ping, "own")
		p.send(Ping, "yours")
		p.expect(Pong, "yours")
		pings <- struct{}{}
	}
	p.expectClose(StatusGoingAway)
	p.send(Close, closeBody(StatusGoingAway, ""))
	p.ExpectEOF()
	p.Conn.Close()
	wantError(t, await(t, results), net.ErrClosed)
}

func TestMessageWriter_blocks_other_senders(t *testing.T) {
	waiters := map[string]func(c *Conn) error{
		"SendMessage":   func(c *Conn) error { return c.SendMessage(Binary, []byte("waited")) },
		"SendJSON":      func(c *Conn) error { return c.SendJSON("waited") },
		"MessageWriter": func(c *Conn) error { w, err := c.MessageWriter(Binary); return errors.Join(err, closeIf(w)) },
	}
	ends := map[string]struct {
		end  func(c *Conn, p *peer, w io.Closer)
		want error
	}{
		"for its Close": {func(c *Conn, p *peer, w io.Closer) { w.Close() }, nil},
		"until the write deadline": {func(c *Conn, p *peer, w io.Closer) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			time.Sleep(time.Second)
		}, os.ErrDeadlineExceeded},
		"until a write deadline in the past": {func(c *Conn, p *peer, w io.Closer) { c.SetWriteDeadline(pastTime) }, os.ErrDeadlineExceeded},
		"until Close of the connection":      {func(c *Conn, p *peer, w io.Closer) { c.Close(StatusGoingAway, "") }, net.ErrClosed},
		"until the peer's close": {func(c *Conn, p *peer, w io.Closer) {
			go p.send(Close, "")
			receiveAll(c)
		}, io.EOF},
		"until a close frame is sent": {func(c *Conn, p *peer, w io.Closer) { c.SendMessage(Close, nil) }, net.ErrClosed},
		"until a write fails": {func(c *Conn, p *peer, w io.Closer) {
			p.Conn.Close()
			receiveAll(c)
		}, io.ErrUnexpectedEOF},
	}
	for waiting, wait := range waiters {
		for ending, tt := range ends {
			t.Run(waiting+" waits "+ending, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
					go io.Copy(io.Discard, p.Conn)
					w := openWriter(t, c, Text)
					errs := make(chan error)
					for range 2 {
						go func() { errs <- wait(c) }()
					}
					synctest.Wait()
					select {
					case err := <-errs:
						t.Fatalf("the sender did not wait: %v", err)
					default:
					}
					began := time.Now()
					tt.end(c, p, w)
					for range 2 {
						if err := <-errs; !errors.Is(err, tt.want) {
							t.Errorf("got error %v, want %v", err, tt.want)
						}
					}
					if late := time.Since(began); late > 10*time.Second {
						t.Errorf("the sender waited for %v, want at most 10s", late)
					}
					c.NetConn().Close()
					receiveAll(c)
				})
			})
		}
	}
}

func TestMessageWriter_is_closed_even_if_Close_fails(t *testing.T) {
	t.Run("the message is dropped if no part of it was sent", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, "gathered")
		c.SetWriteDeadline(pastTime)
		wantError(t, w.Close(), os.ErrDeadlineExceeded)
		wantError(t, w.Close(), io.ErrClosedPipe)
		_, err := w.Write([]byte("more"))
		wantError(t, err, io.ErrClosedPipe)
		c.SetWriteDeadline(time.Time{})
		if err := c.SendMessage(Text, []byte("next")); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sentFrame{true, Text, "next"})
	})
	t.Run("the connection ends if a part of the message was sent", func(t *testing.T) {
		c, s := newScriptConn(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, strings.Repeat("x", 2*fragmentSize))
		c.SetWriteDeadline(pastTime)
		wantError(t, w.Close(), os.ErrDeadlineExceeded)
		wantFailed(t, s, StatusInternalError)
		for _, err := range []error{c.SendMessage(Text, nil), w.Close(), c.Close(StatusNormalClosure, "")} {
			if got := CloseStatus(err); got != StatusInternalError {
				t.Errorf("got error %v with status %v, want %v", err, got, StatusInternalError)
			}
		}
	})
	t.Run("the next message can be sent if no part of this one was sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, WriteTimeout(0), ConnectionTimeout(0), PingInterval(0))
			w := openWriter(t, c, Binary)
			mustWrite(t, w, "gathered")
			c.SetWriteDeadline(time.Now().Add(time.Second))
			wantError(t, timedCall(t, "Close", time.Second, w.Close), os.ErrDeadlineExceeded)
			wantStillSends(t, c, p)
			p.Conn.Close()
			c.Close(StatusNormalClosure, "")
		})
	})
	t.Run("no sender waits if a part of the message was sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, WriteTimeout(0), ConnectionTimeout(0), PingInterval(0))
			start := time.Now()
			go p.read()
			w := openWriter(t, c, Binary)
			mustWrite(t, w, strings.Repeat("x", fragmentSize))
			c.SetWriteDeadline(time.Now().Add(time.Second))
			closed := make(chan error)
			go func() { closed <- w.Close() }()
			<-c.Context().Done()
			wantDuration(t, "the end", start, time.Second)
			synctest.Wait()
			for _, name := range sendingMethods {
				err := timedCall(t, name, 0, func() error { return allMethods[name](c) })
				if got := CloseStatus(err); got != StatusInternalError {
					t.Errorf("%s: got error %v with status %v, want %v", name, err, got, StatusInternalError)
				}
			}
			p.expectClose(StatusInternalError)
			wantError(t, <-closed, os.ErrDeadlineExceeded)
			synctest.Wait()
			wantSocketClosed(t, c)
		})
	})
}

// splitString yields s in parts of n bytes.
func splitString(s string, n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for b := range slices.Chunk([]byte(s), n) {
			if !yield(string(b)) {
				return
			}
		}
	}
}

func openWriter(t testing.TB, c *Conn, op Opcode) io.WriteCloser {
	t.Helper()
	w, err := c.MessageWriter(op)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// mustWrite writes text and checks that the writer neither changes nor keeps the slice.
func mustWrite(t testing.TB, w io.Writer, text string) {
	t.Helper()
	p := []byte(text)
	if n, err := w.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write: got %d and error %v, want %d", n, err, len(p))
	}
	if string(p) != text {
		t.Fatal("Write changed what it was given")
	}
	clear(p)
}

// closeIf closes w if there is one.
func closeIf(w io.Closer) error {
	if w == nil {
		return nil
	}
	return w.Close()
}

// If a message cannot be finished, the connection ends before another message can begin.
func TestMessageWriter_ends_the_connection_before_another_message_begins(t *testing.T) {
	t.Parallel()
	inside := 0
	for range 300 {
		c, p := newTCPConn(t, PingInterval(0))
		w := openWriter(t, c, Text)
		w.Write(append(bytes.Repeat([]byte("x"), 2*fragmentSize), 0xc3))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { c.SendMessage(Text, []byte("other")) })
		}
		time.Sleep(time.Millisecond)
		wg.Go(func() { w.Close() })
		d := wstest.NewDecoder(p.Conn)
		d.AnyFrame = true
		for {
			f, err := d.ReadFrame()
			if err != nil || f.Opcode() == byte(Close) {
				break
			}
			if string(f.Payload) == "other" {
				inside++
				break
			}
		}
		p.Conn.Close()
		wg.Wait()
	}
	if inside > 0 {
		t.Errorf("%d of 300 peers got a text frame in the middle of a fragmented message", inside)
	}
}
