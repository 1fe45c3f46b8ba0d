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
var messagesServers = map[string]func(testing.TB, openFunc, ...Option) *messagesServer{"TCP": startMessages, "TLS": startMessagesTLS}

func startMessages(t testing.TB, open openFunc, opts ...Option) *messagesServer {
	h := HandleMessages(open, opts...)
	srv := wstest.Serve(t, h)
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

// How the functions end is how the connection closes, and OnClose is told once.
func TestHandleMessages_how_it_ends(t *testing.T) {
	closes := func(err error) openFunc {
		return openWith(func(*Conn, Opcode, []byte) error { return err })
	}
	tests := []struct {
		name   string
		open   openFunc
		peer   func(p *peer) // after "go"
		code   StatusCode
		logged string // in the log of the server
	}{
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
				hangUp(p)
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
			})
		}
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
			if c.Subprotocol() != "chat" || c.server() == nil || c.path() != "/" {
				t.Errorf("got the subprotocol %q, the server %p and the path %q", c.Subprotocol(), c.server(), c.path())
			}
			if got := inLoop(c); got != (server == "TCP" && events.Supported) {
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
	var wire []byte
	var want []string
	for name, lengths := range splitMessages {
		frames, payload := framesOf(lengths)
		wire = append(append(wire, frames...), clientFrame(true, Text, name)...)
		want = append(want, payload, name)
	}
	for i := range 3000 {
		wire = append(wire, clientFrame(true, Text, fmt.Sprint(i))...)
		want = append(want, fmt.Sprint(i))
	}
	wire = append(wire, clientFrame(true, Close, closeBody(4004, ""))...)
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

// dialMessages connects without a handshake.
func dialMessages(t testing.TB, srv *messagesServer, server string) *peer {
	if server == "TLS" {
		return &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
	}
	return dialTCP(t, srv.Server)
}

// Close from anywhere ends the connection, whether its function runs or it waits.
func TestHandleMessages_closed_from_outside(t *testing.T) {
	closes := map[string]struct {
		call func(c *Conn)
		code StatusCode
	}{
		"Close":             {func(c *Conn) { c.Close(4005, "") }, 4005},
		"StartClose":        {func(c *Conn) { c.StartClose(4005, "") }, 4005},
		"CloseNow":          {func(c *Conn) { c.CloseNow() }, 1006},
		"SendMessage Close": {func(c *Conn) { c.SendMessage(Close, []byte{0x0f, 0xa5}) }, 4005},
		"Shutdown":          {nil, 1001},
	}
	for server, start := range messagesServers {
		for name, tt := range closes {
			for _, running := range []string{"while it waits", "while the function runs", "in the function"} {
				if running == "in the function" && name == "Shutdown" {
					continue // it would wait for itself
				}
				t.Run(strings.Join([]string{server, name, running}, "/"), func(t *testing.T) {
					conns, goOn, ended := make(chan *Conn, 1), make(chan bool), make(chan error, 1)
					srv := start(t, openWith(func(c *Conn, op Opcode, data []byte) error {
						switch running {
						case "in the function":
							tt.call(c)
						case "while the function runs":
							conns <- c
							<-goOn
						default:
							conns <- c
						}
						if string(data) != "hello" {
							t.Errorf("the message has become %q", data)
						}
						return nil
					}), OnClose(func(_ *Conn, err error) { ended <- err }))
					p := srv.dial(t)
					go func() { // a correct client
						p.send(Text, "hello")
						for {
							f, err := p.ReadFrame()
							if err != nil {
								p.Conn.Close()
								return
							}
							if f.Opcode() == byte(Close) {
								p.Conn.Write(wstest.ClientFrame(0x88, string(f.Payload)))
								hangUp(p)
							}
						}
					}()
					closed := make(chan bool, 1)
					if running != "in the function" {
						c := await(t, conns)
						if running == "while it waits" && inLoop(c) {
							wstest.Eventually(func() bool { return isReceiving(c) })
						}
						go func() {
							if tt.call == nil {
								shutDown(srv.h, wstest.Patience)
							} else {
								tt.call(c)
							}
							closed <- true
						}()
						if name != "SendMessage Close" { // whose answer the connection has to read
							<-c.Context().Done()
						}
						if running == "while the function runs" {
							if len(ended) > 0 {
								t.Error("OnClose was called while the function ran")
							}
							goOn <- true
						}
						await(t, closed)
					}
					if err := await(t, ended); CloseStatus(err) != tt.code {
						t.Errorf("got the end %v, want the code %d", err, tt.code)
					}
				})
			}
		}
	}
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
	goOn := make(chan bool)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error { // in the event loop
		<-goOn
		return c.SendMessage(op, data)
	}))
	p := srv.dial(t)
	p.send(Text, "hello")
	p.send(Text, "hello again")
	p.send(Ping, "there?")
	p.expect(Pong, "there?")
	goOn <- true
	p.expect(Text, "hello")
	goOn <- true
	p.expect(Text, "hello again")
	p.Close()
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

// Silence and pings: a connection that waits in the event loop has the same timeouts as any.
func TestHandleMessages_timeouts(t *testing.T) {
	for server, start := range messagesServers {
		t.Run(server, func(t *testing.T) {
			ended := make(chan error, 1)
			srv := start(t, openEcho, PingInterval(20*time.Millisecond), ConnectionTimeout(100*time.Millisecond),
				OnClose(func(_ *Conn, err error) { ended <- err }))
			p := srv.dial(t)
			for range 10 { // a peer that answers
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
	ended := make(chan error, 2)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		if string(data) == "much" {
			data = make([]byte, 16<<20)
		}
		return c.SendMessage(op, data)
	}), WriteTimeout(100*time.Millisecond), OnClose(func(_ *Conn, err error) { ended <- err }))
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

// A FIN ends the connection behind what came before it, with 1006.
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

// If the user closes the socket, against the documentation, the number of its descriptor may be
// used for another connection. Neither gets what belongs to the other.
func TestHandleMessages_socket_closed_by_the_user(t *testing.T) {
	conns := make(chan *Conn, 10)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		select {
		case conns <- c:
		default:
		}
		return c.SendMessage(op, data)
	}))
	for range 5 {
		p := srv.dial(t)
		checkEcho(p)
		c := await(t, conns)
		c.NetConn().Close()
		next := srv.dial(t)
		checkEcho(next)
		c.CloseNow()
		checkEcho(next)
		next.Close()
		<-conns
	}
}

// The methods for many connections work as with Handle.
func TestHandleMessages_groups_queues_and_pings(t *testing.T) {
	var g Group
	srv := startMessages(t, func(c *Conn) (MessageFunc, error) {
		g.Join(c)
		return func(op Opcode, data []byte) error { return c.TrySend(op, data) }, nil
	})
	const n = 20
	peers := make([]*peer, n)
	for i := range peers {
		peers[i] = srv.dial(t)
		checkEcho(peers[i])
	}
	if err := g.Broadcast(Text, []byte("to all")); err != nil || g.Len() != n {
		t.Errorf("Broadcast to %d members: got error %v", g.Len(), err)
	}
	for _, p := range peers {
		p.expect(Text, "to all")
	}
	pinged := make(chan error, n)
	for c := range srv.h.Conns() {
		go func() { _, err := c.Ping(t.Context()); pinged <- err }()
	}
	for _, p := range peers {
		f := p.Read()
		p.send(Pong, string(f.Payload))
	}
	for range peers {
		if err := await(t, pinged); err != nil {
			t.Errorf("Ping: got error %v", err)
		}
	}
	if s := srv.h.Stats(); s.Open != n || s.MessagesReceived != n || s.MessagesSent != 2*n {
		t.Errorf("got the statistics %+v, want %d connections, %d messages received and %d sent", s, n, n, 2*n)
	}
	for _, p := range peers {
		p.Close()
	}
}

// Idle connections have no goroutine, and a thousand functions that block at once hold up no
// other connection, on any number of processors.
func TestHandleMessages_functions_that_block(t *testing.T) {
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			n := wstest.Scale(t, 1000, 300)
			if testing.Short() {
				n = 100
			}
			goOn := make(chan bool)
			var blocked atomic.Int32
			srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error {
				if string(data) == "block" {
					blocked.Add(1)
					<-goOn
				}
				return c.SendMessage(op, data)
			}))
			before := runtime.NumGoroutine()
			peers := make([]*peer, n)
			for i := range peers {
				peers[i] = srv.dial(t)
			}
			other := srv.dial(t)
			checkEcho(other)
			if !wstest.Eventually(func() bool { return runtime.NumGoroutine() < before+4*procs+10 }) && events.Supported {
				t.Errorf("%d idle connections have %d goroutines", n, runtime.NumGoroutine()-before)
			}
			for _, p := range peers {
				p.send(Text, "block")
			}
			if !wstest.Eventually(func() bool { return int(blocked.Load()) == n }) {
				t.Fatalf("%d of %d functions run", blocked.Load(), n)
			}
			checkEcho(other)
			close(goOn)
			for _, p := range peers {
				p.expect(Text, "block")
				p.Conn.Close()
			}
			other.Close()
			if _, err := shutDown(srv.h, wstest.Patience); err != nil {
				t.Errorf("Shutdown: got error %v", err)
			}
		})
	}
}

// Shutdown waits for the functions that run.
func TestHandleMessages_shutdown_waits_for_functions(t *testing.T) {
	running, goOn := make(chan bool), make(chan bool)
	srv := startMessages(t, openWith(func(c *Conn, op Opcode, data []byte) error { running <- true; <-goOn; return nil }))
	p := srv.dial(t)
	p.send(Text, "hello")
	await(t, running)
	done := make(chan error)
	go func() { _, err := shutDown(srv.h, wstest.Patience); done <- err }()
	p.expectClose(1001)
	p.Conn.Close()
	select {
	case <-done:
		t.Error("Shutdown has returned while a function runs")
	case <-time.After(10 * time.Millisecond):
	}
	goOn <- true
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

// open may block; what arrives meanwhile waits for its function, and control frames do not.
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
