package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/f44ffc3b/websocket/internal/events"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An openFunc is the function of HandleMessages.
type openFunc = func(c *Conn) (MessageFunc, error)

func openEcho(c *Conn) (MessageFunc, error) { return c.SendMessage, nil }

// openWith returns an openFunc with which fn gets each message of a connection.
func openWith(fn func(c *Conn, op Opcode, data []byte) error) openFunc {
	return func(c *Conn) (MessageFunc, error) {
		return func(op Opcode, data []byte) error { return fn(c, op, data) }, nil
	}
}

// A messagesServer is a server of HandleMessages.
type messagesServer struct {
	*httptest.Server
	h    *Handler
	dial func(t testing.TB, headers ...string) *peer
}

// messagesServers have the event loop, and the goroutine for each connection that replaces it.
var messagesServers = map[string]func(testing.TB, openFunc, ...Option) *messagesServer{
	"TCP":  startMessages,
	"Unix": startMessagesUnix,
	"TLS":  startMessagesTLS,
}

func startMessages(t testing.TB, open openFunc, opts ...Option) *messagesServer {
	return startMessagesOn(t, wstest.Serve, open, opts)
}

func startMessagesUnix(t testing.TB, open openFunc, opts ...Option) *messagesServer {
	return startMessagesOn(t, wstest.ServeUnix, open, opts)
}

func startMessagesOn(t testing.TB, serve func(testing.TB, http.Handler) *httptest.Server, open openFunc, opts []Option) *messagesServer {
	h := HandleMessages(open, opts...)
	srv := serve(t, h)
	return &messagesServer{srv, h, func(t testing.TB, headers ...string) *peer {
		t.Helper()
		return dialServer(t, srv, headers...)
	}}
}

func startMessagesTLS(t testing.TB, open openFunc, opts ...Option) *messagesServer {
	h := HandleMessages(open, opts...)
	srv := wstest.ServeTLS(t, h)
	return &messagesServer{srv, h, func(t testing.TB, headers ...string) *peer {
		t.Helper()
		p := &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
		p.Handshake(headers...)
		return p
	}}
}

// inLoop reports whether the event loop serves the connection.
func inLoop(c *Conn) bool { return c.inbox.messages.source.Watched() }

// A messagesEnd is a way in which a connection of HandleMessages ends.
type messagesEnd struct {
	name   string
	open   openFunc
	peer   func(p *peer) // after "go"
	code   StatusCode
	logged string // in the log of the server
}

// The result of the functions decides how the connection closes, and OnClose is called once.
func TestHandleMessages_how_it_ends(t *testing.T) {
	t.Parallel()
	closes := func(err error) openFunc {
		return openWith(func(*Conn, Opcode, []byte) error { return err })
	}
	tests := []messagesEnd{
		{"open returns nothing", func(*Conn) (MessageFunc, error) { return nil, nil }, nil, 1000, ""},
		{"open returns a CloseError", func(*Conn) (MessageFunc, error) { return nil, &CloseError{Code: 4321} }, nil, 4321, ""},
		{"open returns an error and a function", func(c *Conn) (MessageFunc, error) { return c.SendMessage, errSecret }, nil, 1011, "handler of "},
		{"open panics", func(*Conn) (MessageFunc, error) { panic("on purpose") }, nil, 1011, "panic serving"},
		{"open closes", func(c *Conn) (MessageFunc, error) { return c.SendMessage, c.StartClose(4000, "") }, nil, 4000, ""},
		{"the function returns a CloseError", closes(&CloseError{Code: 4001}), nil, 4001, ""},
		{"the function returns an error", closes(errSecret), nil, 1011, `handler of "/" for`},
		{"the function returns ErrInvalidJSON", closes(ErrInvalidJSON), nil, 1007, ""},
		{"the function returns ErrSendQueueFull", closes(ErrSendQueueFull), nil, 1013, ""},
		{"the function panics", openWith(func(*Conn, Opcode, []byte) error { panic("on purpose") }), nil, 1011, "panic serving"},
		{"the function panics with ErrAbortHandler", openWith(func(*Conn, Opcode, []byte) error { panic(http.ErrAbortHandler) }), nil, 1011, ""},
		{"the function calls runtime.Goexit", openWith(func(*Conn, Opcode, []byte) error { runtime.Goexit(); return nil }), nil, 1011, ""},
		{"the function starts to close", openWith(func(c *Conn, _ Opcode, _ []byte) error { return c.StartClose(4002, "") }), nil, 4002, ""},
		{"the function sends a close frame", openWith(func(c *Conn, _ Opcode, _ []byte) error { return c.SendMessage(Close, []byte{0x0f, 0xa3}) }), nil, 4003, ""},
		{"the peer closes", openEcho, func(p *peer) { p.expect(Text, "go"); p.send(Close, closeBody(1001, "")) }, 1001, ""},
		{"the peer breaks a rule", openEcho, func(p *peer) { p.expect(Text, "go"); p.Write(wstest.ServerFrame(0x81, "x")) }, 1002, ""},
		{"the peer sends invalid text", openEcho, func(p *peer) { p.expect(Text, "go"); p.send(Text, "\xff") }, 1007, ""},
		{"the peer sends too much", openEcho, func(p *peer) { p.expect(Text, "go"); p.Write(clientHeader(true, Binary, 1<<30)) }, 1009, ""},
	}
	for server, start := range messagesServers {
		for _, tt := range tests {
			t.Run(server+"/"+tt.name, func(t *testing.T) {
				computes(t)
				checkMessagesEnd(t, start, tt)
			})
		}
	}
}

func checkMessagesEnd(t *testing.T, start func(testing.TB, openFunc, ...Option) *messagesServer, tt messagesEnd) {
	calls := make(chan closeCall, 9)
	logged := new(lockedLog)
	srv := start(t, tt.open, OnClose(func(c *Conn, err error) { calls <- closeCall{c, err} }))
	srv.Config.ErrorLog = log.New(logged, "", 0)
	p := srv.dial(t)
	p.Conn.Write(clientFrame(true, Text, "go"))
	if tt.peer != nil {
		tt.peer(p)
	}
	p.expectClose(tt.code)
	p.Conn.Write(clientFrame(true, Close, closeBody(tt.code, "")))
	p.ShutWrite()
	call := await(t, calls)
	if got := CloseStatus(call.err); got != tt.code || call.err != call.c.life.err() {
		t.Errorf("OnClose got %v, want an error with %d", call.err, tt.code)
	}
	if _, err := shutDown(srv.h, wstest.Patience); err != nil {
		t.Errorf("Shutdown: got error %v", err)
	}
	if len(calls) > 0 {
		t.Error("OnClose was called again")
	}
	wstest.Eventually(func() bool { return strings.Contains(logged.String(), tt.logged) })
	text := logged.String()
	if tt.logged == "" && text != "" || !strings.Contains(text, tt.logged) || strings.Count(text, "panic serving") > 1 {
		t.Errorf("got the log %q, want it to mention %q", text, tt.logged)
	}
	if strings.Contains(tt.logged, "panic") && !strings.Contains(text, "messages_test.go") {
		t.Errorf("the log does not say where the panic was: %q", text)
	}
}

// A lockedLog is a log that a server and a test use at the same time.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Nothing of the request is left after open, but the connection keeps what it needs.
func TestHandleMessages_releases_the_request(t *testing.T) {
	for server, start := range messagesServers {
		t.Run(server, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			var early context.Context
			var request weak.Pointer[http.Request]
			open := func(c *Conn) (MessageFunc, error) {
				early, request = c.Context(), weak.Make(c.Request())
				if c.Request().Header.Get("X-Test") != "yes" || early.Value(http.ServerContextKey) == nil {
					return nil, errors.New("open has no request")
				}
				return func(op Opcode, data []byte) error { conns <- c; return c.SendMessage(op, data) }, nil
			}
			srv := start(t, open, Subprotocols("chat"))
			p := srv.dial(t, "X-Test: yes\r\n", "Sec-WebSocket-Protocol: chat\r\n")
			p.send(Text, "hello")
			p.expect(Text, "hello")
			c := await(t, conns)
			if c.Request() != nil {
				t.Error("Request is not nil after open")
			}
			for _, ctx := range []context.Context{early, c.Context()} {
				if got := ctx.Value(http.ServerContextKey); got != nil {
					t.Errorf("the context has the value %v of the request", got)
				}
				if got, ok := FromContext(context.WithValue(ctx, contextKey{}, 1)); got != c || !ok {
					t.Errorf("FromContext = %p, %t, want the connection", got, ok)
				}
			}
			if early != c.Context() || early.Err() != nil {
				t.Errorf("got another context or error %v", early.Err())
			}
			if !wstest.Eventually(func() bool { runtime.GC(); return request.Value() == nil }) {
				t.Error("the request is still reachable")
			}
			if c.Subprotocol() != "chat" || serverOf(c) == nil || pathOf(c) != "/" {
				t.Errorf("got the subprotocol %q, the server %p and the path %q", c.Subprotocol(), serverOf(c), pathOf(c))
			}
			if got := inLoop(c); got != (server != "TLS" && events.Supported) {
				t.Errorf("served by the event loop: %t", got)
			}
			p.Close()
			<-early.Done()
			wantError(t, context.Cause(early), io.EOF)
		})
	}
}

func TestHandleMessages_refuses_to_receive(t *testing.T) {
	for server, start := range messagesServers {
		t.Run(server, func(t *testing.T) {
			check := func(c *Conn) {
				for _, name := range append(receivingMethods, "SetReadDeadline") {
					if err := allMethods[name](c); err != errPassed {
						t.Errorf("%s: got error %v, want %v", name, err, errPassed)
					}
				}
				if _, err := c.Stream(Binary).Read(make([]byte, 1)); err != errPassed {
					t.Errorf("Read of a Stream: got error %v, want %v", err, errPassed)
				}
			}
			srv := start(t, func(c *Conn) (MessageFunc, error) {
				check(c)
				return func(op Opcode, data []byte) error { check(c); return c.SendMessage(op, data) }, nil
			})
			p := srv.dial(t)
			checkEcho(p)
			for c := range srv.h.Conns() {
				check(c)
			}
			checkEcho(p)
			p.Close()
		})
	}
}

// Messages of all shapes come in order and one at a time, also those that were sent with the
// handshake, and the end comes behind them.
func TestHandleMessages_order(t *testing.T) {
	t.Parallel()
	wire, want := manyMessages()
	tests := []struct {
		name    string
		early   int // bytes that come with the handshake
		segment int
	}{
		{"all with the handshake", len(wire), 1},
		{"a little with the handshake", 6000, 100_000},
		{"a piece of a header with the handshake", 3, 1 << 20},
		{"small segments", 0, 3000},
		{"one segment", 0, len(wire)},
	}
	for server, start := range messagesServers {
		for _, tt := range tests {
			t.Run(server+"/"+tt.name, func(t *testing.T) {
				var got []string
				var running atomic.Int32
				ended := make(chan error, 1)
				srv := start(t, openWith(func(_ *Conn, _ Opcode, data []byte) error {
					if running.Add(1) != 1 {
						return errors.New("two calls at once")
					}
					got = append(got, string(data))
					clear(data)
					running.Add(-1)
					return nil
				}), OnClose(func(_ *Conn, err error) { ended <- err }), OnError(func(_ *Conn, err error) { t.Error(err) }))
				p := dialMessages(t, srv, server)
				go func() {
					p.Conn.Write(append([]byte(wstest.Handshake()), wire[:tt.early]...))
					for part := range slices.Chunk(wire[tt.early:], tt.segment) {
						p.Conn.Write(part)
					}
				}()
				if err := p.ReadUpgrade(); err != nil {
					t.Fatal(err)
				}
				for p.Read().Opcode() != byte(Close) { // pongs
				}
				hangUp(p)
				if err := await(t, ended); CloseStatus(err) != 4004 {
					t.Errorf("got the end %v, want the close frame of the peer", err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %d messages, which differ from the %d that were sent", len(got), len(want))
				}
			})
		}
	}
}

// manyMessages returns messages of all shapes, and a close frame with 4004 behind them.
func manyMessages() (wire []byte, payloads []string) {
	for name, lengths := range splitMessages {
		frames, payload := framesOf(lengths)
		wire = append(append(wire, frames...), clientFrame(true, Text, name)...)
		payloads = append(payloads, payload, name)
	}
	for i := range 3000 {
		wire = append(wire, clientFrame(true, Text, fmt.Sprint(i))...)
		payloads = append(payloads, fmt.Sprint(i))
	}
	return append(wire, clientFrame(true, Close, closeBody(4004, ""))...), payloads
}

// dialMessages connects without a handshake.
func dialMessages(t testing.TB, srv *messagesServer, server string) *peer {
	if server == "TLS" {
		return &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
	}
	return dialTCP(t, srv.Server)
}

// While a function blocks, the peer's pings are answered within a second. Its close frame is
// answered, too, and the context is done. The message stays as it is.
func TestHandleMessages_while_the_function_blocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in memory, on a goroutine
		got := make(chan string, 2)
		c, p := newMessagesConn(t, openWith(func(c *Conn, _ Opcode, data []byte) error {
			<-c.Context().Done()
			got <- string(data)
			return nil
		}), PingInterval(0))
		p.Write(clientFrame(true, Text, "hello"))
		p.Write(clientFrame(true, Ping, "there?"))
		timedCallWithin(t, "the pong", time.Second, func() { p.expect(Pong, "there?") })
		p.Write(clientFrame(true, Text, "unread"))
		p.Write(clientFrame(true, Close, closeBody(4006, "")))
		timedCallWithin(t, "the answer to the close frame", 2*time.Second, func() { p.expectClose(4006) })
		p.Conn.Close()
		c.life.closed.Wait()
		time.Sleep(time.Second)
		for _, want := range []string{"hello", "unread"} {
			if data := <-got; data != want {
				t.Errorf("the message %q has become %q", want, data)
			}
		}
	})
	if testing.Short() {
		return
	}
	t.Parallel() // because it waits for a poll
	goOn := make(chan bool)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error { // in the event loop
		<-goOn
		return c.SendMessage(op, data)
	}))
	p := srv.dial(t)
	p.send(Text, "hello")
	p.send(Text, "hello again")
	p.send(Ping, "there?")
	timedCallWithin(t, "the pong", 5*time.Second, func() { p.expect(Pong, "there?") }) // a second is promised
	goOn <- true
	p.expect(Text, "hello")
	p.send(Close, closeBody(4006, "")) // while the function blocks with the second message
	timedCallWithin(t, "the answer to the close frame", 5*time.Second, func() { p.expectClose(4006) })
	close(goOn)
	p.ExpectEOF()
}

// newMessagesConn serves a connection in memory with HandleMessages.
func newMessagesConn(t testing.TB, open openFunc, opts ...Option) (*Conn, *peer) {
	h := HandleMessages(open, opts...)
	p := connectTo(t, h)
	<-p.served
	for c := range h.Conns() {
		return c, p.peer
	}
	t.Fatal("the handler has no connection")
	return nil, nil
}

// open may block. Messages that arrive meanwhile wait for its function, control frames do not.
func TestHandleMessages_open_blocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := HandleMessages(func(c *Conn) (MessageFunc, error) {
			time.Sleep(time.Minute)
			return c.SendMessage, nil
		}, PingInterval(0))
		p := connectTo(t, h)
		p.Write(slices.Concat(clientFrame(true, Text, "early"), clientFrame(true, Ping, "there?")))
		timedCallWithin(t, "the pong", 1001*time.Millisecond, func() { p.expect(Pong, "there?") })
		p.Conn.SetDeadline(time.Time{})
		f, err := p.ReadFrame()
		if err != nil || string(f.Payload) != "early" {
			t.Errorf("got %v and error %v, want the echo", f, err)
		}
		p.Conn.Close()
	})
}

func TestHandleMessages_panics_for_invalid_arguments(t *testing.T) {
	for name, call := range map[string]func(){
		"HandleMessages(nil)": func() { HandleMessages(nil) },
		"PingInterval(-1ns)":  func() { HandleMessages(openEcho, PingInterval(-1)) },
	} {
		func() {
			defer func() { wantMention(t, fmt.Sprint(recover()), name) }()
			call()
		}()
	}
}
