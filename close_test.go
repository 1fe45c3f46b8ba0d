package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPeerCloses(t *testing.T) {
	tests := []struct {
		name    string
		payload string
		want    CloseError
		eof     bool
	}{
		{"without a code", "", CloseError{Code: 1005}, true},
		{"1000", "\x03\xe8", CloseError{Code: 1000}, true},
		{"1000 with a reason", "\x03\xe8good bye", CloseError{1000, "good bye"}, true},
		{"1001", "\x03\xe9", CloseError{Code: 1001}, true},
		{"1002", "\x03\xea", CloseError{Code: 1002}, false},
		{"1003", "\x03\xeb", CloseError{Code: 1003}, false},
		{"1007", "\x03\xef", CloseError{Code: 1007}, false},
		{"1008", "\x03\xf0", CloseError{Code: 1008}, false},
		{"1009", "\x03\xf1", CloseError{Code: 1009}, false},
		{"1010", "\x03\xf2", CloseError{Code: 1010}, false},
		{"1011", "\x03\xf3", CloseError{Code: 1011}, false},
		{"1012", "\x03\xf4", CloseError{Code: 1012}, false},
		{"1013", "\x03\xf5", CloseError{Code: 1013}, false},
		{"1014", "\x03\xf6", CloseError{Code: 1014}, false},
		{"3000", "\x0b\xb8", CloseError{Code: 3000}, false},
		{"3999", "\x0f\x9f", CloseError{Code: 3999}, false},
		{"4000", "\x0f\xa0", CloseError{Code: 4000}, false},
		{"4999 with the longest reason", "\x13\x87" + strings.Repeat("é", 61) + "x", CloseError{4999, strings.Repeat("é", 61) + "x"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t)
			p.send(Close, tt.payload)
			hangUp(p)
			_, _, err := c.ReceiveMessage()
			var got *CloseError
			if !errors.As(err, &got) || *got != tt.want {
				t.Errorf("got error %v, want %v", err, &tt.want)
			}
			if errors.Is(err, io.EOF) != tt.eof || errors.Is(err, net.ErrClosed) {
				t.Errorf("%v: is io.EOF = %t and net.ErrClosed = %t, want %t and false", err, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), tt.eof)
			}
			p.expect(Close, tt.payload[:min(len(tt.payload), 2)])
			p.expectEOF()
			wantSticky(t, c, err)
		})
	}
}

func TestPeerCloses_every_receiving_method_says_so(t *testing.T) {
	for _, name := range receiving {
		t.Run(name, func(t *testing.T) {
			c, p := dialConn(t)
			if name == "ReadFrame" {
				t.Skip("returns the frame")
			}
			p.send(Close, closeBody(4001, "bye"))
			hangUp(p)
			err := everyMethod[name](c)
			var got *CloseError
			if !errors.As(err, &got) || *got != (CloseError{4001, "bye"}) {
				t.Errorf("got error %v, want the peer's close", err)
			}
		})
	}
}

func TestPeerCloses_in_the_middle_of_messages(t *testing.T) {
	c, p := dialConn(t)
	p.write(join(clientFrame(false, Text, "half"), clientFrame(true, Close, closeBody(4001, ""))))
	hangUp(p)
	_, r, err := c.MessageReader()
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.MessageWriter(Text)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	if CloseStatus(err) != 4001 {
		t.Errorf("reading on: got error %v, want the peer's close", err)
	}
	if _, got := w.Write([]byte("x")); got != err {
		t.Errorf("writing on: got error %v, want %v", got, err)
	}
	if got := w.Close(); got != err {
		t.Errorf("closing the message: got error %v, want %v", got, err)
	}
	p.expectClose(4001)
	p.expectEOF()
}

func TestPeerCloses_with_an_invalid_payload(t *testing.T) {
	type test struct {
		name    string
		payload string
		code    StatusCode
		err     error
	}
	tests := []test{
		{"1 byte", "\x03", 1002, ErrProtocol},
		{"reason not UTF-8", "\x03\xe8\xff", 1007, ErrInvalidUTF8},
		{"reason cut inside a character", "\x03\xe8caf\xc3", 1007, ErrInvalidUTF8},
		{"reason with a surrogate", "\x03\xe8\xed\xa0\x80", 1007, ErrInvalidUTF8},
	}
	for _, code := range []StatusCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		tests = append(tests, test{fmt.Sprintf("code %d", code), closeBody(code, ""), 1002, ErrProtocol})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t)
			p.send(Close, tt.payload)
			hangUp(p)
			_, _, err := c.ReceiveMessage()
			wantError(t, err, tt.err)
			if !strings.Contains(err.Error(), "RFC 6455 section") {
				t.Errorf("error %q does not name what it breaks", err)
			}
			if reason := p.expectClose(tt.code); reason == "" {
				t.Error("got no reason in the close frame")
			}
			p.expectEOF()
			wantSticky(t, c, err)
		})
	}
}

// A reset because of unread data would destroy our close frame on its way.
func TestPeerCloses_and_what_it_sends_behind_is_ignored(t *testing.T) {
	junk := bytes.Repeat(clientFrame(true, Ping, "ignore me"), 20_000)
	tests := []struct {
		name string
		fn   HandlerFunc
		peer func(p *peer)
	}{
		{"received", receiveAll, func(p *peer) { p.expectClose(4001) }},
		{"read as a frame", func(c *Conn) error {
			if f, err := c.ReadFrame(); err != nil || f.Opcode != Close {
				return fmt.Errorf("got frame %v, error %v, want the close frame", f, err)
			}
			return c.Close(4001, "")
		}, func(p *peer) { p.expectClose(4001) }},
		{"crossing ours", func(c *Conn) error { return c.Close(4001, "") }, func(p *peer) { p.expectClose(4001) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t)
			done := serveConn(c, tt.fn)
			written := make(chan struct{})
			go func() {
				defer close(written)
				p.write(append(clientFrame(true, Close, closeBody(4001, "")), junk...))
				hangUp(p)
			}()
			tt.peer(p)
			p.expectEOF()
			<-written
			await(t, done)
		})
	}
}

// closeTests are codes and reasons that may be sent.
var closeTests = []CloseError{
	{1000, ""}, {1001, "going home"}, {1002, ""}, {1003, ""}, {1007, ""}, {1008, ""}, {1009, ""}, {1010, ""},
	{1011, ""}, {1012, ""}, {1013, ""}, {1014, ""}, {3000, ""}, {4999, strings.Repeat("x", 123)}, {1005, ""},
}

func TestClose_sends_and_waits_for_the_answer(t *testing.T) {
	for _, tt := range closeTests {
		t.Run(tt.Code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				start := time.Now()
				go func() {
					want := closeBody(tt.Code, tt.Reason)
					if tt.Code == StatusNoStatusReceived {
						want = ""
					}
					p.expect(Close, want)
					time.Sleep(2 * time.Second)
					p.send(Close, closeBody(4002, "whatever"))
				}()
				if err := c.Close(tt.Code, tt.Reason); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				took(t, "Close", start, 2*time.Second)
				p.expectEOF()
				wantError(t, c.err(), net.ErrClosed)
				if got := CloseStatus(c.err()); got != tt.Code {
					t.Errorf("got close status %v, want %v", got, tt.Code)
				}
				wantSticky(t, c, c.err())
			})
		})
	}
}

func TestClose_refuses_what_must_not_be_sent(t *testing.T) {
	tests := []struct {
		name   string
		code   StatusCode
		reason string
		want   error
	}{
		{"code 0", 0, "", ErrProtocol},
		{"code 999", 999, "", ErrProtocol},
		{"code 1004", 1004, "", ErrProtocol},
		{"code 1005 with a reason", 1005, "x", ErrProtocol},
		{"code 1006", 1006, "", ErrProtocol},
		{"code 1015", 1015, "", ErrProtocol},
		{"code 2000", 2000, "", ErrProtocol},
		{"code 5000", 5000, "", ErrProtocol},
		{"reason of 124 bytes", 1000, strings.Repeat("x", 124), ErrProtocol},
		{"reason not UTF-8", 1000, "\xff", ErrInvalidUTF8},
	}
	c, p := dialConn(t)
	done := serveConn(c, echo)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, c.Close(tt.code, tt.reason), tt.want)
			p.expectNothing()
			p.send(Text, "open")
			p.expect(Text, "open")
		})
	}
	p.finish(done)
}

func TestClose_drops_what_comes_before_the_answer(t *testing.T) {
	tests := map[string][]byte{
		"a message":              clientFrame(true, Text, "late"),
		"a ping":                 clientFrame(true, Ping, "late"),
		"half a message":         clientFrame(false, Binary, "late"),
		"a message over limits":  clientFrame(true, Binary, string(make([]byte, 2<<20))),
		"text that is none":      clientFrame(true, Text, "\xff"),
		"an unmasked frame":      AppendFrame(nil, Frame{Header{Fin: true, Opcode: Text}, []byte("late")}),
		"a reserved opcode":      clientFrame(true, 5, "late"),
		"a long control frame":   clientFrame(true, Pong, strings.Repeat("x", 200)),
		"many messages":          bytes.Repeat(clientFrame(true, Text, "late"), 5000),
		"messages with pings in": join(clientFrame(false, Text, "a"), clientFrame(true, Ping, ""), clientFrame(true, Continuation, "b")),
	}
	for name, late := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				go func() {
					p.expectClose(4000)
					p.write(late)
					p.send(Close, closeBody(4000, ""))
					p.expectEOF()
				}()
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				synctest.Wait()
			})
		})
	}
}

func TestClose_in_the_middle_of_what_is_received(t *testing.T) {
	big := string(make([]byte, 20_000))
	tests := []struct {
		name string
		sent []byte // before the close
		rest []byte // after it
		read func(c *Conn)
	}{
		{"a frame read halfway", clientFrame(true, Binary, big)[:10_000], clientFrame(true, Binary, big)[10_000:], func(c *Conn) {
			_, r, _ := c.MessageReader()
			io.ReadFull(r, make([]byte, 5000))
		}},
		{"a header cut in two", clientFrame(true, Binary, big)[:3], clientFrame(true, Binary, big)[3:], func(c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.ReceiveMessage()
		}},
		{"a message between its frames", clientFrame(false, Text, "half"), clientFrame(true, Continuation, "rest"), func(c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.ReceiveMessage()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				w := witnessed(p, false)
				w.send(tt.sent)
				tt.read(c)
				w.send(tt.rest)
				w.send(clientFrame(true, Close, ""))
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			})
		})
	}
}

// unanswered are peers that never answer a close frame.
var unanswered = []struct {
	name string
	peer func(c *Conn, p *peer)
}{
	{"a silent peer", func(c *Conn, p *peer) { witnessed(p, false) }},
	{"a peer that reads nothing", func(c *Conn, p *peer) {}},
	{"a peer that holds up a sender", func(c *Conn, p *peer) { go c.SendMessage(Text, []byte("x")); synctest.Wait() }},
	{"a peer that stops in a frame", func(c *Conn, p *peer) { witnessed(p, false).send([]byte{0x81, 0x90, 0}) }},
	{"a peer that sends for ever", func(c *Conn, p *peer) { go flood(witnessed(p, false)) }},
}

// flood sends one message after the other until the connection is gone.
func flood(w *witness) {
	for {
		select {
		case <-time.After(time.Millisecond):
			w.send(clientFrame(true, Binary, "more"))
		case <-w.ended:
			return
		}
	}
}

func TestClose_waits_no_longer_than_CloseTimeout(t *testing.T) {
	for _, tt := range unanswered {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, CloseTimeout(7*time.Second), PingInterval(0))
				tt.peer(c, p)
				start := time.Now()
				err := c.Close(4000, "")
				took(t, "Close", start, 7*time.Second)
				wantError(t, err, ErrCloseTimeout)
				if !strings.Contains(err.Error(), "CloseTimeout 7s") {
					t.Errorf("error %q does not name the option and its value", err)
				}
				wantError(t, c.err(), net.ErrClosed)
			})
		})
	}
}

// Who closes a connection that has been silent for long still gives the peer the
// time to answer.
func TestClose_is_not_cut_short_by_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, ConnectionTimeout(10*time.Second), PingInterval(0))
		w := witnessed(p, false)
		time.Sleep(9 * time.Second)
		time.AfterFunc(3*time.Second, func() { w.send(clientFrame(true, Close, "")) })
		if err := c.Close(4000, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		took(t, "Close", w.start, 12*time.Second)
	})
}

func TestClose_without_CloseTimeout(t *testing.T) {
	forEver := []Option{CloseTimeout(0), PingInterval(0), ConnectionTimeout(time.Minute)}
	t.Run("waits for a late answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t, forEver...)
			w := witnessed(p, false)
			start := time.Now()
			for i := range 10 {
				time.AfterFunc(time.Duration(i)*50*time.Second, func() { w.send(clientFrame(true, Pong, "")) })
			}
			time.AfterFunc(500*time.Second, func() { w.send(clientFrame(true, Close, "")) })
			if err := c.Close(4000, ""); err != nil {
				t.Errorf("got error %v, want none", err)
			}
			took(t, "Close", start, 500*time.Second)
		})
	})
	t.Run("gives up a silent peer after ConnectionTimeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t, forEver...)
			witnessed(p, false)
			start := time.Now()
			if err := c.Close(4000, ""); err == nil {
				t.Error("got no error, and the peer has not answered")
			}
			took(t, "Close", start, time.Minute)
		})
	})
}

func TestClose_of_a_peer_that_hangs_up(t *testing.T) {
	last := map[string][]byte{
		"at once":                nil,
		"within a header":        {0x81},
		"within a payload":       clientFrame(true, Text, "hello")[:8],
		"within a control frame": clientFrame(true, Close, closeBody(4000, ""))[:7],
	}
	for name, b := range last {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				go func() {
					p.expectClose(4000)
					p.write(b)
					p.conn.Close()
				}()
				start := time.Now()
				err := c.Close(4000, "")
				took(t, "Close", start, 0)
				if err == nil || errors.Is(err, io.EOF) || CloseStatus(err) != StatusAbnormalClosure {
					t.Errorf("got error %v, want one that is 1006 and not io.EOF", err)
				}
			})
		})
	}
}

func TestClose_a_second_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t)
		w := witnessed(p, false)
		time.AfterFunc(3*time.Second, func() { w.send(clientFrame(true, Close, "")) })
		const closers = 5
		results := make(chan error, closers)
		start := time.Now()
		for range closers {
			go func() {
				err := c.Close(4000, "")
				took(t, "Close", start, 3*time.Second)
				results <- err
			}()
		}
		closed := 0
		for range closers {
			if err := <-results; err == nil {
				closed++
			} else {
				wantError(t, err, net.ErrClosed)
			}
		}
		if closed != 1 {
			t.Errorf("%d of %d calls closed the connection, want one", closed, closers)
		}
		wantError(t, c.Close(4000, ""), net.ErrClosed)
		synctest.Wait()
		w.expect("0s close 4000", "3s end")
	})
}

func TestClose_wakes_receivers_at_once(t *testing.T) {
	peers := map[string]func(p *peer){
		"of a peer that reads":         func(p *peer) { witnessed(p, false) },
		"of a peer that reads nothing": func(p *peer) {},
	}
	for peerName, peer := range peers {
		for _, name := range receiving {
			t.Run(name+" "+peerName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := pipe(t)
					peer(p)
					start := time.Now()
					received := make(chan error)
					go func() {
						err := everyMethod[name](c)
						took(t, name, start, time.Second)
						received <- err
					}()
					time.AfterFunc(time.Second, func() { c.Close(4000, "") })
					wantError(t, <-received, net.ErrClosed)
				})
			})
		}
	}
}

func TestClose_wakes_who_waits_for_a_MessageWriter(t *testing.T) {
	closes := map[string]func(c *Conn) error{
		"Close":              func(c *Conn) error { return c.Close(4000, "") },
		"SendMessage(Close)": func(c *Conn) error { return c.SendMessage(Close, nil) },
		"WriteFrame(Close)":  func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Close}}) },
	}
	for name, end := range closes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				witnessed(p, false)
				writer, _ := c.MessageWriter(Text)
				start := time.Now()
				waited := make(chan error)
				go func() {
					err := c.SendMessage(Text, nil)
					took(t, "SendMessage", start, time.Second)
					waited <- err
				}()
				time.AfterFunc(time.Second, func() { end(c) })
				wantError(t, <-waited, net.ErrClosed)
				wantError(t, writer.Close(), net.ErrClosed)
				c.Close(4000, "")
			})
		})
	}
}

func TestClose_in_the_middle_of_a_MessageWriter(t *testing.T) {
	c, p := dialConn(t)
	w, err := c.MessageWriter(Binary)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 10_000)
	if _, err := w.Write(part); err != nil {
		t.Fatal(err)
	}
	p.send(Close, "")
	hangUp(p)
	if err := c.Close(4000, ""); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	_, err = w.Write(part)
	wantError(t, err, net.ErrClosed)
	wantError(t, w.Close(), net.ErrClosed)
	if f := p.read(); f.Fin || f.Opcode != Binary || len(f.Payload) != len(part) {
		t.Errorf("got %+v, want the fragment", f.Header)
	}
	p.expectClose(4000)
	p.expectEOF()
}

// Whatever SendMessage has returned nil for is on the wire before the close frame.
func TestClose_among_senders(t *testing.T) {
	const senders = 8
	c, p := dialConn(t)
	var wg sync.WaitGroup
	var sent [senders]int
	for i := range senders {
		wg.Go(func() {
			message := bytes.Repeat([]byte{byte(i)}, 1+i*1000)
			for {
				if err := c.SendMessage(Binary, message); err != nil {
					wantError(t, err, net.ErrClosed)
					return
				}
				sent[i]++
			}
		})
	}
	var got [senders]int
	for n := 0; ; n++ {
		if n == 500 {
			wg.Go(func() {
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("Close: got error %v, want none", err)
				}
			})
		}
		f := p.read()
		if f.Opcode == Close {
			break
		}
		if i := int(f.Payload[0]); len(f.Payload) == 1+i*1000 {
			got[i]++
		}
	}
	p.send(Close, "")
	hangUp(p)
	p.expectEOF()
	wg.Wait()
	if got != sent {
		t.Errorf("before the close frame came %v messages, want those that were sent: %v", got, sent)
	}
}

// closeSends are the ways to send a close frame and to go on receiving.
var closeSends = map[string]func(c *Conn) error{
	"SendMessage": func(c *Conn) error { return c.SendMessage(Close, []byte(closeBody(4000, "my"))) },
	"WriteFrame": func(c *Conn) error {
		return c.WriteFrame(Frame{Header{Fin: true, Opcode: Close}, []byte(closeBody(4000, "my"))})
	},
}

func TestSendMessage_Close(t *testing.T) {
	for name, send := range closeSends {
		t.Run(name, func(t *testing.T) {
			c, p := dialConn(t)
			if err := send(c); err != nil {
				t.Fatal(err)
			}
			if got := p.expectClose(4000); got != "my" {
				t.Errorf("got reason %q, want my", got)
			}
			for _, name := range []string{"SendMessage/Text", "SendMessage/Ping", "SendMessage/Close", "SendJSON", "MessageWriter"} {
				wantError(t, everyMethod[name](c), net.ErrClosed)
			}
			if err := c.Context().Err(); err != nil {
				t.Errorf("the connection has ended before the answer: %v", err)
			}
			p.write(join(clientFrame(true, Text, "on my way"), clientFrame(true, Ping, "unanswered"), clientFrame(true, Close, closeBody(4001, "your"))))
			hangUp(p)
			if _, got, err := c.ReceiveMessage(); string(got) != "on my way" || err != nil {
				t.Errorf("got message %q, error %v, want what came before the answer", got, err)
			}
			_, _, err := c.ReceiveMessage()
			wantAnswer(t, err, 4000, CloseError{4001, "your"})
			wantSticky(t, c, err)
			p.expectEOF()
		})
	}
}

// wantAnswer checks the end of a connection that was closed here with code and
// answered with peer.
func wantAnswer(t testing.TB, err error, code StatusCode, peer CloseError) {
	t.Helper()
	wantError(t, err, net.ErrClosed)
	var got *CloseError
	if !errors.As(err, &got) || *got != peer {
		t.Errorf("got error %v, want one that carries the peer's %v", err, &peer)
	}
	if got := CloseStatus(err); got != code {
		t.Errorf("got close status %v of %v, want what was sent: %v", got, err, code)
	}
}

func TestSendMessage_Close_is_bounded_by_CloseTimeout(t *testing.T) {
	waits := map[string]HandlerFunc{"receiving": receiveAll, "idle": idle, "waiting for the context": idle}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, CloseTimeout(40*time.Second))
				w := witnessed(p, true)
				done := serveConn(c, func(c *Conn) error {
					c.SendMessage(Close, []byte(closeBody(4000, "")))
					return wait(c)
				})
				err := <-done
				took(t, "the end", w.start, 40*time.Second)
				wantError(t, err, ErrCloseTimeout)
				wantSticky(t, c, c.err())
				synctest.Wait()
				w.expect("0s close 4000", "40s end")
			})
		})
	}
}

// A lateConn takes its time to return from a write that has arrived.
type lateConn struct{ net.Conn }

func (l lateConn) Write(b []byte) (int, error) {
	defer time.Sleep(time.Second)
	return l.Conn.Write(b)
}

func TestSendMessage_Close_is_first_even_if_the_answer_overtakes_the_write(t *testing.T) {
	for name, send := range closeSends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t)
				c.conn = lateConn{c.conn}
				received := make(chan error)
				go func() { received <- receiveAll(c) }()
				go func() {
					p.expectClose(4000)
					p.send(Close, closeBody(4001, "your"))
				}()
				if err := send(c); err != nil {
					t.Errorf("sending: got error %v, want none", err)
				}
				wantAnswer(t, <-received, 4000, CloseError{4001, "your"})
				c.Close(4000, "")
			})
		})
	}
}

// The watchdog looks for the answer before it gives the peer up.
func TestSendMessage_Close_sees_the_answer_without_a_reader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t)
		w := witnessed(p, false)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		time.AfterFunc(time.Second, func() { w.send(clientFrame(true, Close, closeBody(4001, "your"))) })
		<-c.Context().Done()
		wantAnswer(t, c.err(), 4000, CloseError{4001, "your"})
		c.Close(4000, "")
	})
}

func TestSendMessage_Close_then_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t)
		w := witnessed(p, false)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		time.AfterFunc(2*time.Second, func() { w.send(clientFrame(true, Close, "")) })
		if err := c.Close(4001, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		synctest.Wait()
		w.expect("0s close 4000", "2s end")
	})
}

// halfPipe adds to a connection in memory what a TCP connection can.
type halfPipe struct {
	net.Conn
	err  error
	shut bool
}

func (h *halfPipe) CloseWrite() error {
	h.shut = true
	return h.err
}

func TestFail_drains_for_a_second(t *testing.T) {
	broken := []byte{0x81, 0x00}
	closing := clientFrame(true, Close, closeBody(4001, ""))
	tests := []struct {
		name string
		send []byte
		half *halfPipe
		peer func(w *witness)
		want []string
		opts []Option
	}{
		{"a peer that stays, and CloseTimeout is short", broken, &halfPipe{}, func(*witness) {}, []string{"0s close 1002", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that closed and sends for ever, and CloseTimeout is short", closing, &halfPipe{}, func(w *witness) { go flood(w) }, []string{"0s close 4001", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that stays", broken, &halfPipe{}, func(*witness) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that sends for ever", broken, &halfPipe{}, func(w *witness) { go flood(w) }, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that hangs up", broken, &halfPipe{}, func(w *witness) { time.AfterFunc(200*time.Millisecond, func() { w.p.conn.Close() }) }, []string{"0s close 1002", "200ms end"}, nil},
		{"a write side that cannot be shut", broken, &halfPipe{err: net.ErrClosed}, func(*witness) {}, []string{"0s close 1002", "0s end"}, nil},
		{"a connection without a write side to shut", broken, nil, func(*witness) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that closed and stays", closing, &halfPipe{}, func(*witness) {}, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed and sends for ever", closing, &halfPipe{}, func(w *witness) { go flood(w) }, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed, without a write side to shut", closing, nil, func(*witness) {}, []string{"0s close 4001", "0s end"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, tt.opts...)
				if tt.half != nil {
					tt.half.Conn = c.conn
					c.conn = tt.half
				}
				w := witnessed(p, false)
				w.send(tt.send)
				tt.peer(w)
				_, _, err := c.ReceiveMessage()
				<-w.ended
				w.expect(tt.want...)
				if tt.half != nil && !tt.half.shut {
					t.Error("the write side was not shut")
				}
				if err != c.err() {
					t.Errorf("got error %v, want %v", err, c.err())
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestFail_closes_behind_what_was_sent(t *testing.T) {
	c, p := dialConn(t)
	const messages = 100
	big := make([]byte, 100_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range messages {
			if err := c.SendMessage(Binary, big); err != nil {
				t.Errorf("sending before the failure: %v", err)
			}
		}
		p.write([]byte{0x81, 0x00})
	})
	wg.Go(func() {
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrProtocol)
	})
	for range messages {
		p.expect(Binary, string(big))
	}
	p.expectClose(StatusProtocolError)
	p.expectEOF()
	p.conn.Close()
	wg.Wait()
}

// The frame that a sender has begun comes whole, and then the close frame.
func TestFail_waits_for_the_frame_that_is_being_sent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t)
		big := string(make([]byte, 100_000))
		go c.SendMessage(Binary, []byte(big))
		synctest.Wait()
		go receiveAll(c)
		p.write([]byte{0x81, 0x00})
		time.Sleep(time.Second)
		p.expect(Binary, big)
		p.expectClose(StatusProtocolError)
		c.Close(StatusNormalClosure, "")
	})
}

func TestFail_is_bounded_where_the_peer_reads_nothing(t *testing.T) {
	tests := []struct {
		name string
		opt  Option
		want time.Duration
	}{
		{"by CloseTimeout", CloseTimeout(2 * time.Second), 2 * time.Second},
		{"also without CloseTimeout", CloseTimeout(0), failTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, tt.opt)
				go p.write([]byte{0x81, 0x00})
				start := time.Now()
				_, _, err := c.ReceiveMessage()
				wantError(t, err, ErrProtocol)
				took(t, "failing", start, tt.want)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestAbort_of_what_has_ended_does_nothing(t *testing.T) {
	c, p := dialConn(t)
	hangUp(p)
	_, _, err := c.ReceiveMessage()
	c.abort(ErrProtocol, nil)
	wantSticky(t, c, err)
}

// What is left to do has bounds of its own.
func TestAbort_is_not_cut_short_by_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pipe(t, ConnectionTimeout(10*time.Second), PingInterval(0), CloseTimeout(4*time.Second))
		start := time.Now()
		time.Sleep(9 * time.Second)
		c.abort(ErrProtocol, nil) // the peer reads nothing
		took(t, "abort", start, 13*time.Second)
		c.Close(StatusNormalClosure, "")
	})
}

// brokenRule is an ErrProtocol with a text to choose.
type brokenRule string

func (e brokenRule) Error() string        { return string(e) }
func (e brokenRule) Is(target error) bool { return target == ErrProtocol }

func TestFail_tells_the_peer_why(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string
	}{
		{"without the name of the package", "websocket: no", "no"},
		{"as much as there is room for", strings.Repeat("x", 200), strings.Repeat("x", 123)},
		{"cut between characters", strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{"cut between long characters", strings.Repeat("x", 120) + "\U0001F44B", strings.Repeat("x", 120)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t)
			hangUp(p)
			c.in.lock.Lock()
			c.fail(brokenRule(tt.text))
			c.in.lock.Unlock()
			if got := p.expectClose(StatusProtocolError); got != tt.want {
				t.Errorf("got reason %q, want %q", got, tt.want)
			}
		})
	}
}
