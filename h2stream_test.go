package websocket

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A peer may end its stream at any moment. Its handler returns at once, nothing of the stream is
// left in the server, and other streams go on.
func TestHTTP2_ends_of_streams(t *testing.T) {
	ends := map[string]func(s *wstest.Stream){
		"reset":      func(s *wstest.Stream) { s.Reset(wstest.H2Cancel) },
		"END_STREAM": func(s *wstest.Stream) { s.CloseWrite() },
		"trailer":    func(s *wstest.Stream) { s.Trailer("x-end", "1") },
	}
	moments := []struct {
		name  string
		begin func(p *peer)
		ended bool // the server may have ended the stream
	}{
		{"open", func(*peer) {}, false},
		{"in a header", func(p *peer) { p.Write(clientFrame(true, Text, "hello")[:1]) }, false},
		{"in a payload", func(p *peer) { p.Write(clientFrame(true, Text, "hello")[:8]) }, false},
		{"in a large message", func(p *peer) { p.Write(clientFrame(true, Binary, stars(60000))[:50000]) }, false},
		{"between fragments", func(p *peer) { p.Write(clientFrame(false, Text, "hello")) }, false},
		{"behind a ping", func(p *peer) { p.send(Ping, "?") }, false},
		{"behind a close frame", func(p *peer) { p.send(Close, closeBody(1000, "")) }, true},
		{"after the answer to a close frame", func(p *peer) { p.send(Close, closeBody(1000, "")); p.expectClose(1000) }, true},
		{"while the server closes", func(p *peer) { p.send(Text, "close"); p.expectClose(1000) }, false},
		{"while the server fails", func(p *peer) { p.Write([]byte{0x81, 1, 'a'}); p.expectClose(1002) }, false},
	}
	fn := func(c *Conn) error {
		for m, err := range c.Messages() {
			if err != nil || string(m.Data) == "close" {
				return err
			}
			if err := c.SendMessage(m.Opcode, m.Data); err != nil {
				return err
			}
		}
		return nil
	}
	for kind, h := range map[string]*Handler{"Handle": Handle(fn), "HandleConcurrent": HandleConcurrent(fn)} {
		c := dialHTTP2(t, h)
		other := connectHTTP2(t, c)
		for name, end := range ends {
			for _, m := range moments {
				if name == "trailer" && m.ended {
					continue // net/http ends the TCP connection if its stream has ended before
				}
				t.Run(kind+", "+name+" "+m.name, func(t *testing.T) {
					start := time.Now()
					p := connectHTTP2(t, c)
					m.begin(p)
					end(streamOf(p))
					if !wstest.Eventually(func() bool { return len(h.conns.all()) == 1 }) {
						t.Fatal("the handler has not returned")
					}
					if took := time.Since(start); took > 900*time.Millisecond {
						t.Errorf("the handler returned after %v, want at once", took)
					}
					checkEcho(other)
				})
			}
		}
		wantAllStreams(t, c, c.Streams())
	}
}

// wantAllStreams checks that as many streams can be opened as net/http allows, of which open ones
// are known to the client.
func wantAllStreams(t *testing.T, c *wstest.HTTP2, open int) {
	t.Helper()
	const most = 250
	var streams []*wstest.Stream
	for range most - open {
		s, err := c.Connect()
		if err != nil || s.Status != 200 {
			t.Fatalf("with %d streams that were open, got the status %d and error %v for stream %d, want 200", open, s.Status, err, open+len(streams)+1)
		}
		streams = append(streams, s)
	}
	for _, s := range streams {
		s.Reset(wstest.H2Cancel)
	}
}

// A stream that is reset before the response leaves nothing.
func TestHTTP2_reset_before_the_response(t *testing.T) {
	computes(t)
	h := Handle(echoAll)
	c := dialHTTP2(t, h)
	other := connectHTTP2(t, c)
	for range 100 {
		s, err := c.Request(false, [2]string{":method", "CONNECT"}, [2]string{":protocol", "websocket"}, [2]string{":scheme", "http"},
			[2]string{":path", "/"}, [2]string{":authority", wstest.Host}, [2]string{"sec-websocket-version", "13"})
		if err != nil {
			t.Fatal(err)
		}
		s.Reset(wstest.H2Cancel)
	}
	checkEcho(other)
	if !wstest.Eventually(func() bool { return len(h.conns.all()) == 1 }) {
		t.Errorf("%d connections are left, want 1", len(h.conns.all()))
	}
	wantAllStreams(t, c, c.Streams())
}

// After GOAWAY, the streams that are open go on, and the TCP connection ends with the last one.
func TestHTTP2_GOAWAY(t *testing.T) {
	t.Parallel() // net/http waits for a second before it closes the TCP connection
	c := dialHTTP2(t, Handle(echoAll))
	a, b := connectHTTP2(t, c), connectHTTP2(t, c)
	if err := c.GoAway(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		checkEcho(a)
		checkEcho(b)
	}
	a.Close()
	checkEcho(b)
	b.Close()
	if !wstest.Eventually(func() bool { return c.Err() != nil }) {
		t.Error("the TCP connection is still open after the last stream")
	}
}

// A close handshake that has no window for its close frame ends after CloseTimeout, also if a
// sender is blocked.
func TestHTTP2_close_without_window(t *testing.T) {
	tests := map[string]func(c *Conn){
		"nothing was sent": func(*Conn) {},
		"a sender waits": func(c *Conn) {
			c.TrySend(Binary, make([]byte, 1000)) // in the background, so that a write waits already
			go c.SendMessage(Binary, make([]byte, 1<<20))
		},
	}
	for name, before := range tests {
		t.Run(name, func(t *testing.T) {
			closed := make(chan error, 1)
			c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, Handle(func(c *Conn) error {
				before(c)
				closed <- c.Close(StatusNormalClosure, "")
				return nil
			}, CloseTimeout(50*time.Millisecond))).Listener.Addr().String(), 1)
			c.HoldWindow(true)
			start := time.Now()
			p := connectHTTP2(t, c)
			if err := <-closed; err == nil {
				t.Error("Close returned nil, want an error")
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("Close took %v, want CloseTimeout", took)
			}
			if _, err := io.ReadAll(p.Conn); err == nil || streamOf(p).ResetCode == nil {
				t.Errorf("the peer got %v, want a reset", err)
			}
		})
	}
}

// A read deadline that passes inside a message can be lifted, and nothing of the message is lost.
func TestHTTP2_read_deadline_inside_a_message(t *testing.T) {
	t.Parallel()
	expired := make(chan struct{}, 1)
	expire := func(c *Conn, receive func() error) error {
		c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		err := receive()
		if !isTimeout(err) {
			return fmt.Errorf("got %w, want an expired deadline", err)
		}
		c.SetReadDeadline(time.Time{})
		expired <- struct{}{}
		return nil
	}
	tests := map[string]HandlerFunc{
		"ReceiveMessage": func(c *Conn) error {
			err := expire(c, func() error { _, _, err := c.ReceiveMessage(); return err })
			if err != nil {
				return err
			}
			return echoAll(c)
		},
		"MessageReader": func(c *Conn) error {
			_, r, err := c.MessageReader()
			if err != nil {
				return err
			}
			var all []byte
			err = expire(c, func() error { part, err := io.ReadAll(r); all = part; return err })
			if err != nil {
				return err
			}
			rest, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			return c.SendMessage(Text, append(all, rest...))
		},
		"Stream": func(c *Conn) error {
			s := c.Stream(Text)
			var all []byte
			err := expire(c, func() error { part, err := io.ReadAll(s); all = part; return err })
			if err != nil {
				return err
			}
			rest := make([]byte, 13-len(all))
			if _, err := io.ReadFull(s, rest); err != nil {
				return err
			}
			return c.SendMessage(Text, append(all, rest...))
		},
	}
	pieces := map[string][2][]byte{
		"in a payload":      {clientFrame(true, Text, "in two pieces")[:11], clientFrame(true, Text, "in two pieces")[11:]},
		"in a header":       {clientFrame(true, Text, "in two pieces")[:3], clientFrame(true, Text, "in two pieces")[3:]},
		"between fragments": {clientFrame(false, Text, "in two"), clientFrame(true, Continuation, " pieces")},
	}
	for name, fn := range tests {
		c := dialHTTP2(t, Handle(func(c *Conn) error {
			err := fn(c)
			if err != nil && CloseStatus(err) == 0 {
				t.Error(err)
			}
			return err
		}))
		for where, piece := range pieces {
			if name == "MessageReader" && where == "in a header" {
				continue // which MessageReader itself waits for
			}
			t.Run(name+" "+where, func(t *testing.T) {
				p := connectHTTP2(t, c)
				p.Write(piece[0])
				<-expired
				p.Write(piece[1])
				p.expect(Text, "in two pieces")
				p.Close()
			})
		}
	}
}

// With extendedconnect.Configure, handlers that do not receive fill the buffers of their own
// streams only. The pings and messages of other streams are answered.
func TestHTTP2_streams_that_are_not_received(t *testing.T) {
	h := Handle(func(c *Conn) error {
		if c.Request().URL.Path == "/echo" {
			return echoAll(c)
		}
		return waitForEnd(c)
	})
	srv := wstest.ServeHTTP2(t, h, extendedconnect.Configure)
	c := wstest.DialHTTP2(t, srv.Listener.Addr().String(), 0)
	other := connectHTTP2(t, c, ":path: /echo")
	var full []*peer
	for range 8 {
		p := connectHTTP2(t, c)
		p.Conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := p.Conn.Write(clientFrame(true, Binary, stars(1<<20))); !isTimeout(err) {
			t.Errorf("a stream took %d bytes that are not received, with error %v", n, err)
		}
		full = append(full, p)
		start := time.Now()
		other.send(Ping, "?")
		other.expect(Pong, "?")
		checkEcho(other)
		if took := time.Since(start); took > 700*time.Millisecond { // polls make room after a second
			t.Errorf("a ping and an echo took %v beside %d streams that are not received", took, len(full))
		}
	}
	for _, p := range full {
		streamOf(p).Reset(wstest.H2Cancel)
	}
	checkEcho(other)
}

// However a function ends, its stream ends, OnClose is called, and other streams go on.
func TestHTTP2_ends_of_functions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		h    func(opts ...Option) *Handler
		code StatusCode // of the close frame
	}{
		{"Handle panics", handles(Handle, func(*Conn) error { panic("oops") }), 1011},
		{"Handle exits its goroutine", handles(Handle, func(*Conn) error { runtime.Goexit(); return nil }), 1011},
		{"HandleConcurrent panics", handles(HandleConcurrent, func(*Conn) error { panic("oops") }), 1011},
		{"Handle returns an error", handles(Handle, func(*Conn) error { return errors.New("oops") }), 1011},
		{"HandleMessages: open panics", messageHandler(func() (MessageFunc, error) { panic("oops") }), 1011},
		{"HandleMessages: open fails", messageHandler(func() (MessageFunc, error) { return nil, &CloseError{4000, ""} }), 4000},
		{"HandleMessages: the function panics", messageHandler(func() (MessageFunc, error) {
			return func(Opcode, []byte) error { panic("oops") }, nil
		}), 1011},
		{"HandleMessages: the function fails", messageHandler(func() (MessageFunc, error) {
			return func(Opcode, []byte) error { return &CloseError{4001, ""} }, nil
		}), 4001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			closes := make(chan error, 2)
			h, echo := tt.h(OnClose(func(_ *Conn, err error) { closes <- err }), OnError(func(*Conn, error) {})), Handle(echoAll)
			mux := http.NewServeMux()
			mux.Handle("/", h)
			mux.Handle("/echo", echo)
			c := dialHTTP2(t, mux)
			other := connectHTTP2(t, c, ":path: /echo")
			p := connectHTTP2(t, c)
			p.Conn.Write(clientFrame(true, Text, "hello")) // HandleMessages needs one; the stream may be closed already
			p.expectClose(tt.code)
			p.Conn.Write(clientFrame(true, Close, closeBody(tt.code, "")))
			if err := await(t, closes); err == nil {
				t.Error("OnClose got nil, want the reason of the end")
			}
			if !wstest.Eventually(func() bool { return c.Streams() == 1 }) {
				t.Error("the stream is still open")
			}
			if len(closes) > 0 || len(h.conns.all()) > 0 {
				t.Errorf("OnClose was called %d times more, and %d connections are left", len(closes), len(h.conns.all()))
			}
			checkEcho(other)
		})
	}
}

func handles(handle func(HandlerFunc, ...Option) *Handler, fn HandlerFunc) func(opts ...Option) *Handler {
	return func(opts ...Option) *Handler { return handle(fn, opts...) }
}

func messageHandler(open func() (MessageFunc, error)) func(opts ...Option) *Handler {
	return func(opts ...Option) *Handler {
		return HandleMessages(func(*Conn) (MessageFunc, error) { return open() }, opts...)
	}
}

// A connection keeps its header, and over HTTP/2 a large one can be very short on the wire.
func TestHTTP2_refuses_a_large_header_before_it_is_kept(t *testing.T) {
	var names strings.Builder
	for i := range 25_000 {
		fmt.Fprintf(&names, "%d,", i)
	}
	tests := []struct {
		name, field string
		status      int
	}{
		{"half of the limit", "cookie: " + stars(maxConnectHeader/2), 200},
		{"the limit in one field", "cookie: " + stars(maxConnectHeader), 431},
		{"a Cookie", "cookie: " + stars(100<<10), 431},
		{"a path", ":path: /" + stars(100<<10), 431},
		{"an authority", ":authority: " + strings.Repeat("a", 100<<10), 431},
		{"the name of a trailer", "trailer: a", 400},
		{"names of trailers", "trailer: " + names.String(), 400},
	}
	c := dialHTTP2(t, Handle(echoAll))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := c.Connect(tt.field)
			if err != nil || s.Status != tt.status {
				t.Errorf("got the status %d and error %v, want %d", s.Status, err, tt.status)
			}
			s.Close()
		})
	}
}

// A request with very many header lines ends its stream only, and so does one with more bytes
// than MaxHeaderBytes.
func TestHTTP2_large_header(t *testing.T) {
	computes(t)
	srv := wstest.ServeHTTP2(t, Handle(echoAll), func(s *http.Server) { s.MaxHeaderBytes = 16 << 10 })
	c := wstest.DialHTTP2(t, srv.Listener.Addr().String(), 0)
	other := connectHTTP2(t, c)
	lines := func(n int, more ...string) []string {
		for i := range n {
			more = append(more, fmt.Sprintf("x-%d: ", i))
		}
		return more
	}
	connectHTTP2(t, c, lines(390)...).Close()
	for name, header := range map[string][]string{"lines": lines(410), "bytes": lines(200, "x: "+stars(13<<10))} {
		t.Run(name, func(t *testing.T) {
			s, err := c.Connect(header...)
			if err != nil || s.Status != 431 {
				t.Errorf("got the status %d and error %v, want 431", s.Status, err)
			}
			checkEcho(other)
		})
	}
}

// If the wall clock is set back during a write, the alarm of its deadline comes too early.
func TestStream_write_deadline_after_the_clock_was_set_back(t *testing.T) {
	s := &h2stream{writing: true, writeDeadline: time.Now().Add(time.Hour).Round(0)}
	s.cutWrite()
	if s.cutOff || !isMade(&s.writeAlarm, "timer") {
		t.Error("the alarm of the deadline is not set again")
	}
	s.writeAlarm.Stop()
}
