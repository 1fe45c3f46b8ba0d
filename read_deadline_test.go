package websocket

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// receivedStream returns frames of every kind, and the messages in them. The lengths have
// 7 and 16 bits, and 64 bits if big is long enough.
func receivedStream(big string) (wire []byte, messages []Message) {
	wire = slices.Concat(
		clientFrame(true, Ping, "first"),
		clientFrame(false, Text, "κό\xcf"), clientFrame(true, Ping, "in between"), clientFrame(false, Continuation, ""),
		clientFrame(true, Pong, ""), clientFrame(true, Continuation, "\x83με"),
		clientFrame(true, Binary, ""),
		clientFrame(true, Binary, strings.Repeat("\xfe", 200)),
		clientFrame(true, Text, big),
		clientFrame(true, Ping, "last"))
	return wire, []Message{{Text, []byte("κόσμε")}, {Binary, nil}, {Binary, bytes.Repeat([]byte{0xfe}, 200)}, {Text, []byte(big)}}
}

func TestReadDeadline(t *testing.T) {
	computes(t)
	small, smallMessages := receivedStream("small")
	large, largeMessages := receivedStream(strings.Repeat("0123456789", 7000))
	for _, r := range append(slices.Clone(receivers), rawReceiver) {
		t.Run(r.name+" continues after a deadline at any byte", func(t *testing.T) {
			for i := 1; i < len(small); i++ {
				checkExpiries(t, r.receive, segments(small[:i], nil, small[i:]), smallMessages)
			}
			checkExpiries(t, r.receive, segments(nil, small), smallMessages)
			checkExpiries(t, r.receive, segments(small, nil), smallMessages)
		})
		t.Run(r.name+" continues after a deadline at every byte", func(t *testing.T) {
			checkExpiries(t, r.receive, slices.Collect(expiring(small, 1)), smallMessages)
			checkExpiries(t, r.receive, slices.Collect(expiring(large, 4999)), largeMessages)
		})
	}
}

// expiring yields b in segments of n bytes with an expiring deadline after each.
func expiring(b []byte, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for piece := range slices.Chunk(b, n) {
			if !yield(piece) || !yield(nil) {
				return
			}
		}
	}
}

// checkExpiries checks that receive returns the complete messages, and returns each deadline
// in the segments once.
func checkExpiries(t *testing.T, receive receiveFunc, pieces [][]byte, messages []Message) {
	t.Helper()
	c, _ := newScriptConn(t, pieces)
	got, want := 0, 0
	for _, piece := range pieces {
		if piece == nil {
			want++
		}
	}
	for i, m := range messages {
		op, data, err := receive(c, &got)
		if err != nil || op != m.Opcode || !bytes.Equal(data, m.Data) {
			t.Fatalf("message %d: got %v %s and error %v, want %v %s", i+1, op, wstest.Hex(data), err, m.Opcode, wstest.Hex(m.Data))
		}
	}
	_, _, err := receive(c, &got)
	wantError(t, err, io.ErrUnexpectedEOF)
	if got != want {
		t.Fatalf("%d deadlines expired, want %d", got, want)
	}
}

func TestReadDeadline_another_method(t *testing.T) {
	half := clientFrame(true, Binary, "0123456789")
	call := map[string]func(c *Conn) error{
		"ReceiveMessage":   func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
		"MessageReader":    func(c *Conn) error { _, _, err := c.MessageReader(); return err },
		"ReceiveFragments": func(c *Conn) error { _, err := c.ReceiveFragments(); return err },
		"ReadFrame":        func(c *Conn) error { _, err := c.ReadFrame(); return err },
	}
	for _, first := range []string{"ReceiveMessage", "ReceiveFragments", "ReadFrame"} {
		for second := range call {
			if second == first {
				continue
			}
			t.Run(second+" in the middle of "+first, func(t *testing.T) {
				c, _ := newScriptConn(t, segments(half[:8], nil, half[8:]))
				wantError(t, call[first](c), os.ErrDeadlineExceeded)
				err := call[second](c)
				if err == nil || isTimeout(err) {
					t.Fatalf("got error %v, want one that names the message that %s began", err, first)
				}
				wantMention(t, err.Error(), first, second)
				if err := call[first](c); err != nil {
					t.Errorf("continuing with %s: %v", first, err)
				}
			})
		}
	}
	t.Run("ReadFrame in the middle of MessageReader", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(half[:8], half[8:]))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		if err := call["ReadFrame"](c); err == nil {
			t.Error("ReadFrame returned the frame of a MessageReader")
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != "0123456789" {
			t.Errorf("got %q and error %v, want the whole message", data, err)
		}
	})
	t.Run("any method before the first byte of a message", func(t *testing.T) {
		for first := range call {
			for second := range call {
				// After an incomplete header, any method may continue.
				c, _ := newScriptConn(t, segments(half[:3], nil, half[3:]))
				wantError(t, call[first](c), os.ErrDeadlineExceeded)
				if err := call[second](c); err != nil {
					t.Errorf("%s after %s: %v", second, first, err)
				}
			}
		}
	})
}

func TestReadDeadline_on_the_clock(t *testing.T) {
	frame := clientFrame(true, Text, "0123456789")
	for name, sent := range map[string]int{"before anything": 0, "in a header": 3, "in a payload": 9} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
				defer c.NetConn().Close()
				go func() {
					p.Write(frame[:sent])
					time.Sleep(time.Minute)
					p.Write(frame[sent:])
				}()
				begin := time.Now()
				c.SetReadDeadline(begin.Add(time.Second))
				for range 2 {
					_, _, err := c.ReceiveMessage()
					wantError(t, err, os.ErrDeadlineExceeded)
				}
				if waited := time.Since(begin); waited != time.Second {
					t.Errorf("waited for %v, want 1s", waited)
				}
				c.SetReadDeadline(time.Time{})
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "0123456789" {
					t.Errorf("got %q and error %v, want the whole message", data, err)
				}
			})
		})
	}
	t.Run("wakes waiting receivers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
			defer c.NetConn().Close()
			errs := make(chan error)
			for range 3 {
				go func() {
					_, _, err := c.ReceiveMessage()
					errs <- err
				}()
			}
			synctest.Wait()
			c.SetReadDeadline(time.Now())
			for range 3 {
				wantError(t, <-errs, os.ErrDeadlineExceeded)
			}
			c.SetReadDeadline(time.Now().Add(time.Hour))
			go p.send(Text, "late")
			if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "late" {
				t.Errorf("got %q and error %v, want late", data, err)
			}
		})
	})
}

func TestReadDeadline_on_the_network(t *testing.T) {
	waiting := make(chan struct{})
	fn, results := captureError(func(c *Conn) error {
		c.SetReadDeadline(time.Now().Add(-time.Hour))
		for range 2 {
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				return fmt.Errorf("with a deadline in the past: %w", err)
			}
		}
		c.SetReadDeadline(time.Time{})
		go func() {
			<-waiting
			c.SetReadDeadline(time.Now())
		}()
		op, r, err := c.MessageReader()
		if err != nil {
			return err
		}
		close(waiting)
		data, err := io.ReadAll(r)
		if !isTimeout(err) {
			return fmt.Errorf("woken: %w", err)
		}
		c.SetReadDeadline(time.Time{})
		if err := c.SendMessage(Ping, nil); err != nil {
			return err
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return c.SendMessage(op, append(data, rest...))
	})
	p := dialServer(t, startServer(t, fn))
	frame := clientFrame(true, Text, "before and after")
	p.Write(frame[:10])
	p.expect(Ping, "")
	p.Write(frame[10:])
	p.expect(Text, "before and after")
	if err := await(t, results); err != nil {
		t.Error(err)
	}
	p.expectClose(StatusNormalClosure)
}

func TestSetReadDeadline_survives_the_keepalive(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration // since the beginning
		comes    time.Duration // when the reader begins to wait
		want     time.Duration // when the reader returns
	}{
		{"expired before", time.Second, 40 * time.Second, 40 * time.Second},
		{"expiring during a poll", 15005 * time.Millisecond, 15001 * time.Millisecond, 15005 * time.Millisecond},
		{"expiring after a poll", 20 * time.Second, 16 * time.Second, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, true)
				c.SetReadDeadline(w.Start.Add(tt.deadline))
				time.Sleep(tt.comes)
				_, _, err := c.ReceiveMessage()
				wantError(t, err, os.ErrDeadlineExceeded)
				wantDuration(t, "the deadline", w.Start, tt.want)
				if err := c.SetReadDeadline(time.Time{}); err != nil {
					t.Errorf("the connection has ended: %v", err)
				}
				w.Send(clientFrame(true, Text, "hello"))
				if _, got, err := c.ReceiveMessage(); string(got) != "hello" || err != nil {
					t.Errorf("got message %q, error %v", got, err)
				}
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestSetReadDeadline_during_a_poll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		time.Sleep(15*time.Second + time.Millisecond)
		c.SetReadDeadline(time.Now().Add(time.Second))
		synctest.Wait()
		_, _, err := c.ReceiveMessage()
		wantError(t, err, os.ErrDeadlineExceeded)
		wantDuration(t, "the deadline", w.Start, 16*time.Second+time.Millisecond)
		w.hangUp()
		c.Close(StatusNormalClosure, "")
	})
}
