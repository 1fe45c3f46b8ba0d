package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
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
			c, p := newTCPConn(t)
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
			p.ExpectEOF()
			wantSticky(t, c, err)
		})
	}
}

func TestPeerCloses_every_receiving_method_returns_the_close(t *testing.T) {
	for _, name := range receivingMethods {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t)
			if name == "ReadFrame" {
				t.Skip("returns the frame")
			}
			p.send(Close, closeBody(4001, "bye"))
			hangUp(p)
			err := allMethods[name](c)
			var got *CloseError
			if !errors.As(err, &got) || *got != (CloseError{4001, "bye"}) {
				t.Errorf("got error %v, want the peer's close", err)
			}
		})
	}
}

func TestPeerCloses_in_the_middle_of_messages(t *testing.T) {
	c, p := newTCPConn(t)
	p.Write(slices.Concat(clientFrame(false, Text, "half"), clientFrame(true, Close, closeBody(4001, ""))))
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
	p.ExpectEOF()
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
		{"reason that is not UTF-8", "\x03\xe8\xff", 1007, ErrInvalidUTF8},
		{"reason cut inside a character", "\x03\xe8caf\xc3", 1007, ErrInvalidUTF8},
		{"reason with a surrogate", "\x03\xe8\xed\xa0\x80", 1007, ErrInvalidUTF8},
	}
	for _, code := range []StatusCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		tests = append(tests, test{fmt.Sprintf("code %d", code), closeBody(code, ""), 1002, ErrProtocol})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			p.send(Close, tt.payload)
			hangUp(p)
			_, _, err := c.ReceiveMessage()
			wantError(t, err, tt.err)
			if !strings.Contains(err.Error(), "RFC 6455 section") {
				t.Errorf("error %q does not name the section of RFC 6455", err)
			}
			if reason := p.expectClose(tt.code); reason == "" {
				t.Error("got no reason in the close frame")
			}
			p.ExpectEOF()
			wantSticky(t, c, err)
		})
	}
}

// The server must read these frames, because a socket that is closed with unread bytes
// sends a reset. The reset could destroy the server's close frame on its way.
func TestPeerCloses_and_later_frames_are_ignored(t *testing.T) {
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
		{"at the same time as Close", func(c *Conn) error { return c.Close(4001, "") }, func(p *peer) { p.expectClose(4001) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			done := runHandler(c, tt.fn)
			written := make(chan struct{})
			go func() {
				defer close(written)
				p.Write(append(clientFrame(true, Close, closeBody(4001, "")), junk...))
				hangUp(p)
			}()
			tt.peer(p)
			p.ExpectEOF()
			<-written
			await(t, done)
		})
	}
}

// A handler that only sends notices by a failed write that the peer has disconnected. At
// that time, the peer's close frame is still unread.
func TestSenders_return_the_close_of_a_peer_that_has_disconnected(t *testing.T) {
	sends := map[string]func(c *Conn) error{
		"SendMessage":       func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 1000)) },
		"SendMessage, long": func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 1<<17)) },
		"ping":              func(c *Conn) error { return c.SendMessage(Ping, nil) },
		"WriteFrame":        func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}}) },
		"MessageWriter": func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err != nil {
				return err
			}
			_, err = w.Write(make([]byte, 2*fragmentSize))
			return errors.Join(err, w.Close())
		},
	}
	goes := map[string]func(c *Conn, p *peer){
		"closes": func(_ *Conn, p *peer) { p.Conn.Close() },
		"closes with an unread message": func(c *Conn, p *peer) {
			c.SendMessage(Text, []byte("unread"))
			p.Buffer.Peek(1) // the message has arrived
			p.Conn.Close()
		},
		"resets": func(_ *Conn, p *peer) { resetPeer(p) },
	}
	for how, send := range sends {
		for way, leave := range goes {
			t.Run(how+" to a peer that "+way, func(t *testing.T) {
				c, p := newTCPConn(t, PingInterval(0))
				p.send(Close, closeBody(4000, "bye"))
				leave(c, p)
				var err error
				for err == nil {
					err = send(c)
				}
				var closed *CloseError
				if !errors.As(err, &closed) || *closed != (CloseError{4000, "bye"}) {
					t.Errorf("got error %v, want the peer's close", err)
				}
				if c.Close(StatusNormalClosure, "") != endOf(c) || CloseStatus(endOf(c)) != 4000 {
					t.Errorf("got end %v, want the peer's close", endOf(c))
				}
			})
		}
	}
}
