package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// The wait begins within a PingInterval, whether the peer answers pings or not.
func TestQuiet_begins_with_a_ping(t *testing.T) {
	t.Parallel()
	if !sock.Supported {
		t.Skip("this platform waits with a buffer")
	}
	const interval = 4 * time.Millisecond
	opts := []Option{PingInterval(interval), ConnectionTimeout(0)}
	conns := make(chan *Conn, 1)
	noted := func(fn HandlerFunc) HandlerFunc {
		return func(c *Conn) error { conns <- c; return fn(c) }
	}
	handlers := map[string]*Handler{
		"Handle":           Handle(noted(echoAll), opts...),
		"Detached":         Handle(noted(echoAll), append(opts, Detached(true))...),
		"HandleConcurrent": HandleConcurrent(noted(echoAll), opts...),
		"HandleMessages": HandleMessages(func(c *Conn) (MessageFunc, error) {
			conns <- c
			return c.SendMessage, nil
		}, opts...),
		"Discard": Handle(noted(func(c *Conn) error { return c.Discard() }), opts...),
	}
	for name, h := range handlers {
		for _, answers := range []bool{false, true} {
			t.Run(name+map[bool]string{true: "/the peer answers pings", false: "/the peer does not answer pings"}[answers], func(t *testing.T) {
				srv := wstest.ServeTLS(t, h)
				p := &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
				p.Handshake()
				c := await(t, conns)
				for range 2 {
					p.send(Binary, strings.Repeat("x", 1024))
					for pings := 0; pings < 2; { // two, so that one comes after the message
						switch f := p.read(); {
						case f.Opcode == Ping && answers:
							p.send(Pong, string(f.Payload))
							fallthrough
						case f.Opcode == Ping:
							pings++
						}
					}
					if !answers {
						awaitRest(t, c)
						continue
					}
					for deadline := time.Now().Add(wstest.Patience); c.Stats().RTT == 0; time.Sleep(time.Millisecond) {
						if time.Now().After(deadline) {
							t.Fatal("the pong has not arrived")
						}
					}
				}
				c.CloseNow()
			})
		}
	}
}

// After the pong to a ping of the keepalive, the next read waits below TLS at once. Data that
// crypto/tls holds behind the pong is not left there.
func TestQuiet_after_a_pong(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		peer func(p *peer)
		want string // the message behind the pong
	}{
		{"alone", func(p *peer) { p.send(Pong, "") }, ""},
		{"in front of a message, in a record of its own", func(p *peer) { p.send(Pong, ""); p.send(Text, "hello") }, "hello"},
		{"in front of a message, in the same record", func(p *peer) {
			p.Write(slices.Concat(clientFrame(true, Pong, ""), clientFrame(true, Text, "hello")))
		}, "hello"},
		{"twice", func(p *peer) { p.send(Pong, ""); p.send(Pong, "") }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p, pair := newQuietConn(t)
			done := runHandler(c, echoAll)
			c.timer.mu.Lock()
			c.timer.pingSent = clock()
			c.timer.mu.Unlock()
			pair.below.Write(pair.below.collect(func() { tt.peer(p) }))
			if tt.want != "" {
				p.expect(Text, tt.want)
			}
			awaitRest(t, c)
			checkEcho(p)
			p.finish(done)
		})
	}
}

// A peer that sends pongs all the time must not make each read cost more.
func TestQuiet_only_after_the_answer_to_a_ping(t *testing.T) {
	for name, tt := range map[string]struct {
		awaited bool
		payload string
		want    bool
	}{
		"an answer":        {true, "", true},
		"an unasked pong":  {false, "", false},
		"another's answer": {true, "of a Ping", false},
	} {
		c, _, _ := newQuietConn(t)
		if tt.awaited {
			c.timer.pingSent = clock()
		}
		c.in.pong([]byte(tt.payload))
		if got := c.socket.overTLS().quiet; got != tt.want {
			t.Errorf("%s: the next read begins below TLS: %t, want %t", name, got, tt.want)
		}
	}
}

// Polls and the end of a connection have the read deadline for themselves.
func TestQuiet_not_while_the_deadline_is_taken(t *testing.T) {
	computes(t)
	tests := map[string]func(s *socket){
		"by a poll":                func(s *socket) { s.beginPoll(time.Now().Add(time.Hour)) },
		"by Ping":                  func(s *socket) { s.beginWait() },
		"after a write has failed": func(s *socket) { s.limitReads(time.Now().Add(time.Hour)) },
		"by the end":               func(s *socket) { s.endReads(time.Now().Add(time.Hour)) },
	}
	for name, take := range tests {
		t.Run(name, func(t *testing.T) {
			c, p, _ := newQuietConn(t)
			take(&c.socket)
			c.socket.interruptRead(c.socket.overTLS())
			p.send(Text, "hello")
			if err := c.in.fillInPoll(time.Time{}); err != nil || c.socket.overTLS().interrupted {
				t.Errorf("the read was interrupted: %v", err)
			}
		})
	}
}

// A connection with messages reads as if there were no such wait.
func TestQuiet_ends_with_a_message(t *testing.T) {
	c, p, _ := newQuietConn(t)
	done := runHandler(c, echoAll)
	rest(t, c)
	for range 3 {
		checkEcho(p)
		c.socket.mu.Lock()
		interrupted := c.socket.overTLS().interrupted
		c.socket.mu.Unlock()
		if interrupted || c.socket.overTLS().waits.Load() {
			t.Error("after a message, the connection is still quiet")
		}
	}
	p.finish(done)
}

func TestQuiet_Shutdown(t *testing.T) {
	if !sock.Supported {
		t.Skip("this platform waits with a buffer")
	}
	conns := make(chan *Conn, 1)
	h := Handle(func(c *Conn) error { conns <- c; return echoAll(c) }, PingInterval(time.Hour))
	srv := wstest.ServeTLS(t, h)
	p := &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
	p.Handshake()
	c := await(t, conns)
	rest(t, c)
	done := make(chan error, 1)
	go func() { done <- h.Shutdown(t.Context()) }()
	p.expectClose(StatusGoingAway)
	p.send(Close, closeBody(StatusGoingAway, ""))
	p.ExpectEOF()
	p.Conn.Close()
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

// A socket below TLS that is not a socket of the operating system may hold bytes of its own, so
// nothing changes.
func TestQuiet_not_below_other_types(t *testing.T) {
	computes(t)
	wraps := map[string]func(net.Conn) net.Conn{
		"a wrapper":                       func(c net.Conn) net.Conn { return struct{ net.Conn }{c} },
		"a wrapper with a NetConn method": func(c net.Conn) net.Conn { return wstest.Wrap(c) },
		"TLS":                             func(c net.Conn) net.Conn { return struct{ *net.TCPConn }{c.(*net.TCPConn)} },
	}
	for name, wrap := range wraps {
		t.Run(name, func(t *testing.T) {
			pair := newTLSPair(t, tls.VersionTLS13, wrap)
			c, p := newTestConn(pair.server, nil, PingInterval(time.Millisecond), ConnectionTimeout(0)), newPeer(t, pair.client)
			if c.socket.overTLS() != nil {
				t.Error("the connection waits below TLS")
			}
			done := runHandler(c, echoAll)
			for range 3 {
				for p.read().Opcode != Ping {
				}
				p.send(Pong, "")
			}
			p.Write(clientFrame(true, Close, closeBody(4000, "")))
			for p.read().Opcode != Close {
			}
			p.Conn.Close()
			await(t, done)
		})
	}
}

// Without pings, a connection that can wait below TLS looks each 15 s whether it is quiet. Other
// connections have nothing to do then.
func TestQuiet_ticks(t *testing.T) {
	type rawConn struct{ syscall.RawConn }
	quiet := &tlsTransport{raw: rawConn{}}
	tests := []struct {
		name      string
		transport transport
		interval  time.Duration
		want      []due
	}{
		{"pings", quiet, 10 * time.Second, []due{{ping: true, rest: true}, {ping: true, rest: true}, {ping: true, rest: true}}},
		{"no pings", quiet, 0, []due{{rest: true}, {rest: true}}},
		{"no pings, and a socket that cannot be waited for", &tlsTransport{}, 0, nil},
		{"no pings, without TLS", &netTransport{}, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &tickRecorder{start: time.Now()}
				r.socket.transport = tt.transport
				r.run(&timeouts{pingInterval: tt.interval})
				r.timer.pollAt = never
				r.timer.schedule()
				time.Sleep(35 * time.Second)
				r.timer.stop()
				r.mu.Lock()
				defer r.mu.Unlock()
				if !slices.Equal(r.dues, tt.want) {
					t.Errorf("got %+v, want %+v", r.dues, tt.want)
				}
			})
		})
	}
}

// A handler that does not receive is polled, and an interruption that finds no read changes
// nothing.
func TestQuiet_without_a_receiving_method(t *testing.T) {
	t.Parallel()
	c, p, _ := newQuietConn(t)
	c.socket.interruptRead(c.socket.overTLS())
	p.send(Text, "first")
	p.send(Ping, "here?")
	pollOnce(c)
	p.expect(Pong, "here?")
	c.socket.interruptRead(c.socket.overTLS())
	go p.send(Ping, "answer") // Ping waits for a pong, and answers this meanwhile
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v of Ping, want that of its context", err)
	}
	for seen := false; !seen; {
		seen = p.read().Opcode == Pong
	}
	c.socket.interruptRead(c.socket.overTLS())
	if _, data, err := c.ReceiveMessage(); string(data) != "first" || err != nil {
		t.Errorf("got %q and error %v", data, err)
	}
}

func TestQuiet_Ping(t *testing.T) {
	c, p, _ := newQuietConn(t)
	done := runHandler(c, echoAll)
	rest(t, c)
	go func() {
		f := p.read()
		p.send(Pong, string(f.Payload))
	}()
	if _, err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	checkEcho(p)
	p.finish(done)
}
