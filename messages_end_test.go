package websocket

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/events"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// closeCalls are the ways in which the server ends a connection, with the code that OnClose gets.
var closeCalls = map[string]struct {
	call func(c *Conn)
	code StatusCode
}{
	"Close":             {func(c *Conn) { c.Close(4005, "") }, 4005},
	"StartClose":        {func(c *Conn) { c.StartClose(4005, "") }, 4005},
	"CloseNow":          {func(c *Conn) { c.CloseNow() }, 1006},
	"SendMessage Close": {func(c *Conn) { c.SendMessage(Close, []byte{0x0f, 0xa5}) }, 4005},
}

// The server can end a connection in its function, from outside while the function runs, and
// while the connection waits.
func TestHandleMessages_closed_by_the_server(t *testing.T) {
	t.Parallel()
	for server, start := range messagesServers {
		for name, tt := range closeCalls {
			t.Run(server+"/in the function/"+name, func(t *testing.T) {
				ended := make(chan error, 1)
				srv := start(t, openWith(func(c *Conn, _ Opcode, data []byte) error {
					tt.call(c)
					if string(data) != "hello" {
						t.Errorf("the message has become %q", data)
					}
					return nil
				}), OnClose(func(_ *Conn, err error) { ended <- err }))
				go answerTheClose(srv.dial(t))
				if err := await(t, ended); CloseStatus(err) != tt.code {
					t.Errorf("got the end %v, want the code %d", err, tt.code)
				}
			})
			for _, waits := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/waits %t/%s", server, waits, name), func(t *testing.T) {
					closeFromOutside(t, start, waits, func(_ *Handler, c *Conn) { tt.call(c) }, tt.code)
				})
			}
		}
		for _, waits := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/waits %t/Shutdown", server, waits), func(t *testing.T) {
				closeFromOutside(t, start, waits, func(h *Handler, _ *Conn) { shutDown(h, wstest.Patience) }, 1001)
			})
		}
	}
}

// answerTheClose is a client that sends a message, answers the close frame of the server, and
// closes the connection.
func answerTheClose(p *peer) {
	p.Conn.Write(clientFrame(true, Text, "hello"))
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.Conn.Close()
			return
		}
		if f.Opcode() == byte(Close) {
			p.Conn.Write(clientFrame(true, Close, string(f.Payload)))
			p.ShutWrite()
		}
	}
}

// closeFromOutside calls end while the connection waits, or while its function runs.
func closeFromOutside(t *testing.T, start func(testing.TB, openFunc, ...Option) *messagesServer, waits bool, end func(*Handler, *Conn), code StatusCode) {
	conns, goOn, ended := make(chan *Conn, 1), make(chan bool), make(chan error, 1)
	srv := start(t, openWith(func(c *Conn, _ Opcode, data []byte) error {
		conns <- c
		if !waits {
			<-goOn
		}
		if string(data) != "hello" {
			t.Errorf("the message has become %q", data)
		}
		return nil
	}), OnClose(func(_ *Conn, err error) { ended <- err }))
	go answerTheClose(srv.dial(t))
	c := await(t, conns)
	if waits && !wstest.Eventually(func() bool { return isReceiving(c) }) {
		t.Error("the connection does not wait")
	}
	closed := make(chan bool, 1)
	go func() { end(srv.h, c); closed <- true }()
	if !waits {
		wstest.Eventually(func() bool { _, sent := c.life.closeSent(); return sent || c.life.err() != nil })
		if len(ended) > 0 {
			t.Error("OnClose was called while the function ran")
		}
		goOn <- true
	}
	await(t, closed)
	if err := await(t, ended); CloseStatus(err) != code {
		t.Errorf("got the end %v, want the code %d", err, code)
	}
}

// A connection that is closed leaves the event loop at once, also if its peer does not answer and
// makes no event.
func TestHandleMessages_leaves_the_loop_before_the_peer_answers(t *testing.T) {
	if !events.Supported {
		t.Skip("this system has no event loop")
	}
	srv := startMessages(t, openEcho)
	p := srv.dial(t)
	checkEcho(p)
	for c := range srv.h.Conns() {
		start := time.Now()
		c.StartClose(4007, "")
		if !wstest.Eventually(func() bool { return !inLoop(c) }) || time.Since(start) > 4*time.Second {
			t.Errorf("the connection has left the event loop after %v, want at once", time.Since(start))
		}
	}
	p.expectClose(4007)
	p.Conn.Close()
}

// Silence and pings: a connection that waits in the event loop has the same timeouts as any.
func TestHandleMessages_timeouts(t *testing.T) {
	for server, start := range messagesServers {
		t.Run(server, func(t *testing.T) {
			t.Parallel() // with the other servers, and with no other test
			ended := make(chan error, 1)
			srv := start(t, openEcho, PingInterval(20*time.Millisecond), ConnectionTimeout(100*time.Millisecond),
				OnClose(func(_ *Conn, err error) { ended <- err }))
			p := srv.dial(t)
			for range 7 { // a peer that answers, for longer than ConnectionTimeout
				if f := p.Read(); f.Opcode() != byte(Ping) {
					t.Fatalf("got %v, want a ping", f)
				}
				p.send(Pong, "")
			}
			checkClose := func(f wstest.Frame) {
				for f.Opcode() == byte(Ping) {
					f = p.Read()
				}
				if f.Opcode() != byte(Close) {
					t.Errorf("got %v, want a close frame", f)
				}
				hangUp(p)
			}
			checkClose(p.Read()) // from now on, it is silent
			if err := await(t, ended); !errors.Is(err, ErrConnectionTimeout) {
				t.Errorf("got the end %v, want %v", err, ErrConnectionTimeout)
			}
		})
	}
}

// A peer that does not read is cut off after WriteTimeout, and the others are served meanwhile.
func TestHandleMessages_write_timeout(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 2)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		if string(data) == "much" {
			data = make([]byte, 16<<20)
		}
		return c.SendMessage(op, data)
	}), WriteTimeout(500*time.Millisecond), OnClose(func(_ *Conn, err error) { ended <- err }))
	stuck, other := srv.dial(t), srv.dial(t)
	stuck.send(Binary, "much")
	for range 10 {
		checkEcho(other)
	}
	if err := await(t, ended); err == nil || !strings.Contains(err.Error(), "WriteTimeout") {
		t.Errorf("got the end %v, want one that mentions WriteTimeout", err)
	}
	other.Close()
}

// A FIN ends the connection with 1006, after the messages that came before it.
func TestHandleMessages_half_close(t *testing.T) {
	for _, together := range []bool{true, false} {
		for _, size := range []int{10, 4096, 70_000, 200_000} {
			t.Run(fmt.Sprintf("%t/%d", together, size), func(t *testing.T) {
				ended := make(chan error, 1)
				srv := startMessages(t, openEcho, OnClose(func(_ *Conn, err error) { ended <- err }))
				p := srv.dial(t)
				payload := stars(size)
				go func() {
					p.Conn.Write(clientFrame(true, Text, payload))
					if together {
						hangUp(p)
					}
				}()
				p.expect(Text, payload)
				if !together {
					hangUp(p)
				}
				if err := await(t, ended); CloseStatus(err) != 1006 {
					t.Errorf("got the end %v, want 1006", err)
				}
				p.ExpectEOF()
			})
		}
	}
}

// A reset ends the connection, also while nothing runs for it.
func TestHandleMessages_reset(t *testing.T) {
	ended := make(chan error, 1)
	srv := startMessages(t, openEcho, OnClose(func(_ *Conn, err error) { ended <- err }))
	p := srv.dial(t)
	checkEcho(p)
	p.Reset()
	if err := await(t, ended); CloseStatus(err) != 1006 {
		t.Errorf("got the end %v, want 1006", err)
	}
}

// Wherever the peer ends the stream, the messages before arrive, and the connection ends once.
func TestHandleMessages_peer_ends_after_each_byte(t *testing.T) {
	t.Parallel()
	frames := [][]byte{clientFrame(true, Text, "hello"), clientFrame(false, Text, "frag"), clientFrame(true, Ping, "?"),
		clientFrame(true, Continuation, "ment"), clientFrame(true, Close, closeBody(4010, ""))}
	script := slices.Concat(frames...)
	whole := map[string]int{"hello": len(frames[0]), "fragment": len(script) - len(frames[4])} // where each message ends
	for server, start := range messagesServers {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reset %t", server, reset), func(t *testing.T) {
				computes(t)
				var got []string
				ended := make(chan error, 2)
				srv := start(t, openWith(func(c *Conn, op Opcode, data []byte) error {
					got = append(got, string(data))
					return nil
				}), OnClose(func(_ *Conn, err error) { ended <- err }))
				for n := range len(script) + 1 {
					p := srv.dial(t)
					p.Write(script[:n])
					if reset {
						p.Reset()
					} else {
						hangUp(p)
					}
					err, code := await(t, ended), StatusAbnormalClosure
					if n == len(script) {
						code = 4010
					}
					if got := CloseStatus(err); got != code && !reset {
						t.Errorf("after %d bytes: got the end %v, want the code %d", n, err, code)
					}
					for message, end := range whole {
						if arrived := slices.Contains(got, message); arrived != (n >= end) && (arrived || !reset) {
							t.Errorf("after %d bytes: got the messages %q", n, got)
						}
					}
					got = nil
				}
				if len(ended) > 0 {
					t.Error("OnClose was called twice for a connection")
				}
			})
		}
	}
}

// A function that panics ends its own connection, and holds up no other.
func TestHandleMessages_panics_beside_other_connections(t *testing.T) {
	var ended atomic.Int32
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		if string(data) == "panic" {
			panic(http.ErrAbortHandler) // which is not logged
		}
		return c.SendMessage(op, data)
	}), OnClose(func(*Conn, error) { ended.Add(1) }))
	other := srv.dial(t)
	checkEcho(other)
	const conns = 10
	for range conns {
		p := srv.dial(t)
		p.send(Text, "panic")
		p.expectClose(StatusInternalError)
		p.Conn.Close()
	}
	if !wstest.Eventually(func() bool { return srv.h.Stats().Open == 1 }) || ended.Load() != conns {
		t.Errorf("OnClose was called %d times, want %d; %+v", ended.Load(), conns, srv.h.Stats())
	}
	checkEcho(other)
	other.Close()
}

// A connection that the event loop cannot watch gets a goroutine, which ends it.
func TestHandleMessages_that_cannot_be_watched(t *testing.T) {
	ended := make(chan error, 1)
	srv := startMessages(t, func(c *Conn) (MessageFunc, error) {
		c.NetConn().Close()
		return c.SendMessage, nil
	}, PingInterval(0), OnClose(func(_ *Conn, err error) { ended <- err }))
	srv.dial(t)
	if err := await(t, ended); CloseStatus(err) != 1006 {
		t.Errorf("got the end %v, want 1006", err)
	}
}

// OnError gets the value of a panic, also if the event loop has logged it.
func TestHandleMessages_reports_a_panic(t *testing.T) {
	for server, start := range messagesServers {
		t.Run(server, func(t *testing.T) {
			reported := make(chan error, 1)
			srv := start(t, openWith(func(*Conn, Opcode, []byte) error { panic("on purpose") }),
				OnError(func(_ *Conn, err error) { reported <- err }))
			p := srv.dial(t)
			p.send(Text, "go")
			answerClose(StatusInternalError, "")(p)
			if got, want := await(t, reported).Error(), "websocket: handler panicked: on purpose"; got != want {
				t.Errorf("got the error %q, want %q", got, want)
			}
		})
	}
}
