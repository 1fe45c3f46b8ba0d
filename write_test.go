package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// wireForms are the headers of a server's frames, with each form of the length.
var wireForms = []struct {
	op     Opcode
	length int
	header string
}{
	{Text, 0, "81 00"},
	{Text, 1, "81 01"},
	{Text, 125, "81 7d"},
	{Text, 126, "81 7e 007e"},
	{Binary, 0, "82 00"},
	{Binary, 125, "82 7d"},
	{Binary, 126, "82 7e 007e"},
	{Binary, maxCopied, "82 7e 2000"},
	{Binary, maxCopied + 1, "82 7e 2001"},
	{Text, 65535, "81 7e ffff"},
	{Binary, 65536, "82 7f 0000000000010000"},
	{Binary, 1 << 20, "82 7f 0000000000100000"},
	{Ping, 0, "89 00"},
	{Ping, 125, "89 7d"},
	{Pong, 0, "8a 00"},
	{Pong, 125, "8a 7d"},
	{Close, 2, "88 02"},
	{Close, 125, "88 7d"},
}

// samplePayload returns a payload that op may have. Neighbouring bytes differ.
func samplePayload(op Opcode, length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte('!' + i%83)
	}
	if op == Close {
		copy(b, closeBody(StatusGoingAway, ""))
	}
	return b
}

func TestSendMessage(t *testing.T) {
	computes(t)
	for _, tt := range wireForms {
		name := fmt.Sprintf("%v of %d bytes", tt.op, tt.length)
		want := append(wstest.Unhex(tt.header), samplePayload(tt.op, tt.length)...)
		send := func(c *Conn) error {
			data := samplePayload(tt.op, tt.length)
			err := c.SendMessage(tt.op, data)
			if !bytes.Equal(data, samplePayload(tt.op, tt.length)) {
				t.Errorf("%s: SendMessage changed the data", name)
			}
			return err
		}
		t.Run("sends "+name, func(t *testing.T) {
			fn, results := captureError(send)
			p := dialServer(t, startServer(t, fn))
			got := make([]byte, len(want))
			if _, err := io.ReadFull(p.Buffer, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %s and error %v, want %s", wstest.Hex(got), err, wstest.Hex(want))
			}
			if tt.op != Close {
				p.expectClose(StatusNormalClosure)
			}
			p.Conn.Close()
			if err := await(t, results); err != nil {
				t.Error(err)
			}
		})
		t.Run("writes in as few writes as possible "+name, func(t *testing.T) {
			c, s := newScriptConn(t, nil)
			if err := send(c); err != nil {
				t.Fatal(err)
			}
			if got := s.Written(); !bytes.Equal(got, want) {
				t.Errorf("got %s, want %s", wstest.Hex(got), wstest.Hex(want))
			}
			// A large payload is not copied. Without writev, its first piece then takes two writes.
			writes := 1
			if tt.length > maxCopied {
				writes = 1 + (tt.length+progressSize-1)/progressSize
			}
			if len(s.Writes()) != writes || len(s.Writes()[0]) < min(len(want), maxCopied) {
				t.Errorf("got %d writes, the first of %d bytes; want %d", len(s.Writes()), len(s.Writes()[0]), writes)
			}
		})
	}
}

func TestSendMessage_refusals(t *testing.T) {
	long := strings.Repeat("x", 126)
	tests := []struct {
		name    string
		op      Opcode
		data    string
		want    error
		section string
	}{
		{"text that is not UTF-8", Text, "a\xffb", ErrInvalidUTF8, "8.1"},
		{"text that ends inside a character", Text, strings.Repeat("x", 9999) + "\xe2\x82", ErrInvalidUTF8, "8.1"},
		{"continuation", Continuation, "", ErrInvalidOpcode, "5.2"},
		{"opcode 3", 3, "x", ErrInvalidOpcode, "5.2"},
		{"opcode 7", 7, "x", ErrInvalidOpcode, "5.2"},
		{"opcode b", 0xb, "x", ErrInvalidOpcode, "5.2"},
		{"opcode f", 0xf, long, ErrInvalidOpcode, "5.2"},
		{"opcode of more than four bits", 0x81, "x", ErrInvalidOpcode, "5.2"},
		{"ping over 125 bytes", Ping, long, ErrProtocol, "5.5"},
		{"pong over 125 bytes", Pong, long, ErrProtocol, "5.5"},
		{"close over 125 bytes", Close, closeBody(1000, long[:124]), ErrProtocol, "5.5"},
		{"close of one byte", Close, "\x03", ErrProtocol, "5.5.1"},
		{"close code 1005", Close, closeBody(1005, ""), ErrProtocol, "7.4"},
		{"close code 999", Close, closeBody(999, ""), ErrProtocol, "7.4"},
		{"close reason that is not UTF-8", Close, closeBody(1000, "\xff"), ErrInvalidUTF8, "5.5.1"},
	}
	errs := make(chan error)
	p := dialServer(t, startServer(t, func(c *Conn) error {
		for _, tt := range tests {
			errs <- c.SendMessage(tt.op, []byte(tt.data))
		}
		return receiveAll(c)
	}))
	for _, tt := range tests {
		err := await(t, errs)
		t.Run("refuses "+tt.name, func(t *testing.T) {
			if err == nil {
				t.Fatal("got no error")
			}
			wantError(t, err, tt.want)
			wantMention(t, err.Error(), "RFC 6455 section "+tt.section)
		})
	}
	p.ExpectNothing()
	p.Close()
}

func TestSendMessage_returns_the_error_of_a_failed_write(t *testing.T) {
	for name, send := range map[string]func(c *Conn) error{
		"small":       func(c *Conn) error { return c.SendMessage(Text, []byte("small")) },
		"large":       func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 1<<17)) },
		"ping":        func(c *Conn) error { return c.SendMessage(Ping, nil) },
		"close":       func(c *Conn) error { return c.SendMessage(Close, nil) },
		"frame":       func(c *Conn) error { return c.WriteFrame(Frame{}) },
		"close frame": func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Opcode: Close}}) },
		"stream":      func(c *Conn) error { w, err := c.MessageWriter(Text); return errors.Join(err, closeIf(w)) },
		"long stream": func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err == nil {
				_, err = w.Write(make([]byte, 1<<17))
			}
			return err
		},
	} {
		c, s := newScriptConn(t, nil)
		s.FailWrites(syscall.EPIPE)
		err := send(c)
		wantError(t, err, syscall.EPIPE)
		if CloseStatus(err) != StatusAbnormalClosure || !s.Closed() {
			t.Errorf("%s: got error %v with status %v, want %v and the socket closed", name, err, CloseStatus(err), StatusAbnormalClosure)
		}
		_, _, err = c.ReceiveMessage()
		wantError(t, err, syscall.EPIPE)
	}
}

// blockedPeer runs fn for a peer over TCP that reads nothing. The socket buffers are small.
// The error of fn comes on the channel.
func blockedPeer(t *testing.T, fn HandlerFunc, opts ...Option) <-chan error {
	fn, results := captureError(fn)
	p := dialTCP(t, startServer(t, func(c *Conn) error {
		c.NetConn().(*net.TCPConn).SetWriteBuffer(4096)
		return fn(c)
	}, opts...))
	p.Conn.(*net.TCPConn).SetReadBuffer(4096)
	p.Handshake()
	return results
}

func TestSendMessage_write_timeout(t *testing.T) {
	t.Parallel()
	large := make([]byte, 32<<20)
	t.Run("frees a sender from a peer that reads nothing", func(t *testing.T) {
		results := blockedPeer(t, func(c *Conn) error { return c.SendMessage(Binary, large) }, WriteTimeout(50*time.Millisecond))
		err := await(t, results)
		wantError(t, err, os.ErrDeadlineExceeded)
		wantMention(t, fmt.Sprint(err), "WriteTimeout 50ms")
		if got := CloseStatus(err); got != StatusAbnormalClosure {
			t.Errorf("got close status %v, want %v", got, StatusAbnormalClosure)
		}
	})
	t.Run("frees a stream and the senders that wait for it", func(t *testing.T) {
		results := blockedPeer(t, func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err != nil {
				return err
			}
			waited := make(chan error)
			go func() { waited <- c.SendMessage(Text, nil) }()
			_, err = w.Write(large)
			wantError(t, <-waited, os.ErrDeadlineExceeded)
			return err
		}, WriteTimeout(50*time.Millisecond))
		wantError(t, await(t, results), os.ErrDeadlineExceeded)
	})
	t.Run("is a minute by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
			began := time.Now()
			err := c.SendMessage(Text, []byte("unread"))
			wantError(t, err, os.ErrDeadlineExceeded)
			if waited := time.Since(began).Round(time.Millisecond); waited != time.Minute+pingPoll {
				t.Errorf("waited for %v, want a minute and pingPoll", waited)
			}
			if again := c.SendMessage(Text, nil); again != err {
				t.Errorf("got error %v, want %v again, because a part of the frame may be written", again, err)
			}
		})
	})
	t.Run("0 waits for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0))
			defer c.NetConn().Close()
			go func() {
				time.Sleep(10 * time.Hour)
				p.expect(Text, "after 10 hours")
			}()
			if err := c.SendMessage(Text, []byte("after 10 hours")); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("ends a connection that cannot send its pongs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
			defer c.NetConn().Close()
			// The user's write deadline has passed, but does not apply to pongs.
			c.SetWriteDeadline(pastTime)
			c.SetReadDeadline(time.Now().Add(time.Hour))
			go p.send(Ping, "")
			began := time.Now()
			_, _, err := c.ReceiveMessage()
			if waited := time.Since(began).Round(time.Millisecond); waited != time.Minute+pingPoll || CloseStatus(err) != StatusAbnormalClosure {
				t.Errorf("got error %v after %v, want the error of a failed write after 1m", err, waited)
			}
		})
	})
}

func TestSendMessage_write_deadline(t *testing.T) {
	computes(t)
	t.Run("ends the connection if it cuts off a frame", func(t *testing.T) {
		results := blockedPeer(t, func(c *Conn) error {
			data := make([]byte, 32<<20)
			var err error
			// On a busy machine the deadline may pass before anything is written.
			for c.Context().Err() == nil {
				c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				err = c.SendMessage(Binary, data)
				wantError(t, err, os.ErrDeadlineExceeded)
			}
			if again := c.SendMessage(Binary, nil); again != err {
				t.Errorf("got error %v, want %v again", again, err)
			}
			return err
		})
		err := await(t, results)
		wantError(t, err, os.ErrDeadlineExceeded)
		if got := CloseStatus(err); got != StatusAbnormalClosure {
			t.Errorf("got close status %v, want %v", got, StatusAbnormalClosure)
		}
	})
	t.Run("in the past sends nothing and leaves the connection usable", func(t *testing.T) {
		fn, results := captureError(func(c *Conn) error {
			c.SetWriteDeadline(time.Now().Add(-time.Second))
			for _, send := range []error{
				c.SendMessage(Text, []byte("never")), c.SendMessage(Binary, make([]byte, 1<<17)),
				c.SendMessage(Ping, nil), c.WriteFrame(Frame{}), c.SendJSON(1),
			} {
				wantError(t, send, os.ErrDeadlineExceeded)
			}
			c.SetWriteDeadline(time.Time{})
			return c.SendMessage(Text, []byte("now"))
		})
		p := dialServer(t, startServer(t, fn))
		p.expect(Text, "now")
		p.expectClose(StatusNormalClosure)
		p.Conn.Close()
		if err := await(t, results); err != nil {
			t.Error(err)
		}
	})
	for _, timeout := range []time.Duration{0, time.Minute} {
		t.Run(fmt.Sprintf("ends the call exactly in time with WriteTimeout %v", timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(timeout))
				defer c.NetConn().Close()
				began := time.Now()
				c.SetWriteDeadline(began.Add(time.Second))
				wantError(t, c.SendMessage(Text, []byte("unread")), os.ErrDeadlineExceeded)
				if waited := time.Since(began); waited != time.Second {
					t.Errorf("waited for %v, want 1s", waited)
				}
				wantStillSends(t, c, p)
			})
		})
	}
	t.Run("wakes a sender, and can be removed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
			defer c.NetConn().Close()
			sent := make(chan error)
			go func() { sent <- c.SendMessage(Text, []byte("unread")) }()
			synctest.Wait()
			c.SetWriteDeadline(pastTime)
			c.SetWriteDeadline(time.Time{})
			wantError(t, <-sent, os.ErrDeadlineExceeded)
			wantStillSends(t, c, p)
		})
	})
}

// wantStillSends checks that c can send, with no deadline.
func wantStillSends(t *testing.T, c *Conn, p *peer) {
	t.Helper()
	c.SetWriteDeadline(time.Time{})
	go c.SendMessage(Text, []byte("usable"))
	p.expect(Text, "usable")
}

// The peer floods the server with pings and does not read yet, so a sender holds the sending
// side. The server answers only the latest ping.
func TestPong_while_a_sender_is_blocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
		sent := make(chan error)
		go func() { sent <- c.SendMessage(Binary, []byte("blocked")) }()
		synctest.Wait()
		go func() {
			for i := range 100 {
				p.send(Ping, fmt.Sprint("ping ", i))
			}
			p.send(Text, "after the pings")
		}()
		if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "after the pings" {
			t.Fatalf("got %q and error %v, want a reader that is not blocked", data, err)
		}
		p.expect(Binary, "blocked")
		p.expect(Pong, "ping 99")
		if err := <-sent; err != nil {
			t.Error(err)
		}
		go receiveAll(c)
		p.ExpectNothing()
		p.Conn.Close()
	})
}

func TestPong_is_sent_whole(t *testing.T) {
	c, s := newScriptConn(t, segments(clientFrame(true, Ping, strings.Repeat("p", 125)), clientFrame(true, Ping, ""), clientFrame(true, Text, "x")))
	if _, _, err := c.ReceiveMessage(); err != nil {
		t.Fatal(err)
	}
	want := [][]byte{append(wstest.Unhex("8a 7d"), strings.Repeat("p", 125)...), wstest.Unhex("8a 00")}
	if len(s.Writes()) != 2 || !bytes.Equal(s.Writes()[0], want[0]) || !bytes.Equal(s.Writes()[1], want[1]) {
		t.Errorf("got writes %x, want %x", s.Writes(), want)
	}
}

func TestPong_goes_out_before_a_close(t *testing.T) {
	c, s := newScriptConn(t, nil)
	c.out.lock.Lock()
	c.out.pong(byReceiver, []byte("waits for the lock"))
	if err := c.out.close(byLibrary, nil); err != nil {
		t.Error(err)
	}
	c.out.release(byLibrary)
	s.wantSent(t, sentFrame{true, Pong, "waits for the lock"}, sentFrame{true, Close, ""})
}

// An invalid close reason in a call is ErrProtocol, because ErrInvalidUTF8 can also mean
// that the peer has sent invalid text.
func TestSendMessage_close_reason_that_is_not_UTF8_is_ErrProtocol(t *testing.T) {
	c, s := newScriptConn(t, nil)
	err := c.SendMessage(Close, []byte(closeBody(StatusNormalClosure, "\xff")))
	wantError(t, err, ErrProtocol)
	wantMention(t, err.Error(), `"\xff"`, "RFC 6455 section 5.5.1")
	s.wantSent(t)
	if endOf(c) != nil {
		t.Errorf("the connection has ended: %v", endOf(c))
	}
}

// The peer would read a close frame as payload of the frame that was cut off.
func TestClose_sends_nothing_after_a_frame_that_was_cut_off(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		go c.SendMessage(Binary, make([]byte, 100)) // 102 bytes, of which the peer reads 50
		p.Conn.Read(make([]byte, 50))
		go c.Close(4000, "")
		time.Sleep(2 * time.Second) // the deadline has passed
		got := make([]byte, 100)
		p.Conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := io.ReadFull(p.Conn, got)
		if n > 0 {
			t.Errorf("got % x and error %v after the first half of a frame, want nothing", got[:n], err)
		}
		p.Conn.Close()
		c.Close(1000, "")
		time.Sleep(time.Minute)
	})
}
