package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialConn is a Conn on a real TCP connection that no handler runs, and its peer.
func dialConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(server, httptest.NewRequest("GET", "/", nil), "", newOptions(opts), nil)
	p := newPeer(t, client)
	t.Cleanup(func() {
		client.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c, p
}

// dialTLS runs fn behind a TLS server and connects to it.
func dialTLS(t testing.TB, fn HandlerFunc, opts ...Option) *peer {
	t.Helper()
	srv := httptest.NewUnstartedServer(Handle(fn, opts...))
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	t.Cleanup(srv.Close)
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, conn)
	p.handshake()
	return p
}

// finish does the client's part of a normal close handshake and waits until the
// handler and all that is behind it is over.
func (p *peer) finish(done <-chan error) {
	p.t.Helper()
	p.close()
	<-done
}

// serveConcurrent is serveConn for a HandleConcurrent.
func serveConcurrent(c *Conn, fn HandlerFunc) <-chan error {
	c.readAhead()
	return serveConn(c, fn)
}

// idle is a handler that neither receives nor sends.
func idle(c *Conn) error {
	<-c.Context().Done()
	return context.Cause(c.Context())
}

// feed is a handler that only sends, every second.
func feed(c *Conn) error {
	for {
		select {
		case <-c.Context().Done():
			return context.Cause(c.Context())
		case <-time.After(time.Second):
		}
		if err := c.SendMessage(Binary, []byte("tick")); err != nil {
			return err
		}
	}
}

// A witness is a peer that reads everything all the time, notes what came when,
// and sends without waiting: on a connection in memory a write takes as long as
// the other side takes to read it.
type witness struct {
	p       *peer
	start   time.Time
	queue   chan []byte
	pongs   bool // answers pings
	ended   chan struct{}
	mu      sync.Mutex
	journal []string
}

// witnessed makes a witness of p, which is not to be used any more.
func witnessed(p *peer, pongs bool) *witness {
	p.conn.SetDeadline(time.Time{})
	w := &witness{p: p, start: time.Now(), queue: make(chan []byte, 1000), pongs: pongs, ended: make(chan struct{})}
	go w.read()
	go w.write()
	return w
}

func (w *witness) read() {
	defer close(w.ended)
	for {
		f, err := ReadFrame(w.p.br, 1<<30)
		if err != nil {
			w.note("end")
			return
		}
		switch f.Opcode {
		case Ping:
			w.note("ping")
			if w.pongs {
				w.send(clientFrame(true, Pong, string(f.Payload)))
			}
		case Close:
			got, err := parseClosePayload(f.Payload)
			if err != nil {
				w.note(err.Error())
				continue
			}
			w.note(fmt.Sprintf("close %d", got.Code))
		case Pong:
			w.note("pong " + string(f.Payload))
		case Text:
			w.note("text " + string(f.Payload))
		}
	}
}

func (w *witness) write() {
	for {
		select {
		case b := <-w.queue:
			if _, err := w.p.conn.Write(b); err != nil {
				return
			}
		case <-w.ended:
			return
		}
	}
}

func (w *witness) send(b []byte) { w.queue <- b }

func (w *witness) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, fmt.Sprintf("%v %s", time.Since(w.start), what))
}

// expect compares what came so far. Binary messages are left out.
func (w *witness) expect(want ...string) {
	w.p.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.journal, want) {
		w.p.t.Errorf("the peer saw\n %q, want\n %q", w.journal, want)
	}
}

// took checks how long something took, to the nanosecond: time is fake.
func took(t testing.TB, what string, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// everyMethod is every method that an ended connection has an error for.
var everyMethod = map[string]func(c *Conn) error{
	"ReceiveMessage":    func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
	"AppendMessage":     func(c *Conn) error { _, _, err := c.AppendMessage(nil); return err },
	"MessageReader":     func(c *Conn) error { _, _, err := c.MessageReader(); return err },
	"Messages":          messagesErr,
	"ReceiveJSON":       func(c *Conn) error { return c.ReceiveJSON(new(any)) },
	"ReadFrame":         func(c *Conn) error { _, err := c.ReadFrame(); return err },
	"ReceiveFragments":  func(c *Conn) error { _, err := c.ReceiveFragments(); return err },
	"SendMessage/Text":  func(c *Conn) error { return c.SendMessage(Text, nil) },
	"SendMessage/Ping":  func(c *Conn) error { return c.SendMessage(Ping, nil) },
	"SendMessage/Close": func(c *Conn) error { return c.SendMessage(Close, nil) },
	"SendJSON":          func(c *Conn) error { return c.SendJSON(1) },
	"MessageWriter":     func(c *Conn) error { _, err := c.MessageWriter(Text); return err },
	"WriteFrame":        func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}}) },
	"SetReadDeadline":   func(c *Conn) error { return c.SetReadDeadline(time.Time{}) },
	"SetWriteDeadline":  func(c *Conn) error { return c.SetWriteDeadline(time.Time{}) },
	"Close":             func(c *Conn) error { return c.Close(StatusNormalClosure, "") },
	"Context":           func(c *Conn) error { return context.Cause(c.Context()) },
}

// receiving are the methods of everyMethod that wait for the peer.
var receiving = []string{"ReceiveMessage", "AppendMessage", "MessageReader", "Messages", "ReceiveJSON", "ReadFrame", "ReceiveFragments"}

// framing are those that a HandleConcurrent has not.
var framing = []string{"ReadFrame", "ReceiveFragments"}

func messagesErr(c *Conn) error {
	for _, err := range c.Messages() {
		if err != nil {
			return err
		}
	}
	return errors.New("Messages ended without an error")
}

// wantSticky checks that every method returns the one error, again and again.
func wantSticky(t testing.TB, c *Conn, want error) {
	t.Helper()
	for range 2 {
		for name, call := range everyMethod {
			if c.inbox != nil && slices.Contains(framing, name) {
				continue
			}
			got := call(c)
			if sending, ok := got.(cutOffError); ok {
				got = sending.error // only senders are told of a deadline
			}
			if got != want || got == nil {
				t.Errorf("%s: got error %v, want the sticky one: %v", name, got, want)
			}
		}
	}
}

// reading are the ways to receive one message, or frame.
var reading = map[string]func(c *Conn) (string, error){
	"ReceiveMessage": func(c *Conn) (string, error) { _, b, err := c.ReceiveMessage(); return string(b), err },
	"AppendMessage":  func(c *Conn) (string, error) { _, b, err := c.AppendMessage(nil); return string(b), err },
	"AppendMessage behind something": func(c *Conn) (string, error) {
		_, b, err := c.AppendMessage([]byte("x"))
		return strings.TrimPrefix(string(b), "x"), err
	},
	"MessageReader": func(c *Conn) (string, error) {
		_, r, err := c.MessageReader()
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(r)
		return string(b), err
	},
	"Messages": func(c *Conn) (string, error) {
		for m, err := range c.Messages() {
			return string(m.Data), err
		}
		return "", errors.New("Messages yielded nothing")
	},
	"ReceiveFragments": func(c *Conn) (string, error) {
		frames, err := c.ReceiveFragments()
		if err != nil {
			return "", err
		}
		_, b, err := ProcessFragments(frames)
		return string(b), err
	},
	"ReadFrame": func(c *Conn) (string, error) { f, err := c.ReadFrame(); return string(f.Payload), err },
}
