package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// dialHTTP2 serves h over HTTP/2 and connects to it.
func dialHTTP2(t testing.TB, h http.Handler) *wstest.HTTP2 {
	t.Helper()
	return wstest.DialHTTP2(t, wstest.ServeHTTP2(t, h).Listener.Addr().String(), 0)
}

// connectHTTP2 opens a stream for a WebSocket.
func connectHTTP2(t testing.TB, c *wstest.HTTP2, changes ...string) *peer {
	t.Helper()
	return &peer{c.ConnectClient(t, changes...), t}
}

func streamOf(p *peer) *wstest.Stream { return p.Conn.(*wstest.Stream) }

func TestHTTP2_echo(t *testing.T) {
	computes(t)
	messages := HandleMessages(func(c *Conn) (MessageFunc, error) {
		return func(op Opcode, data []byte) error { return c.SendMessage(op, data) }, nil
	})
	for name, h := range map[string]http.Handler{
		"Handle":           Handle(echoAll),
		"Detached":         Handle(echoAll, Detached(true)),
		"HandleConcurrent": HandleConcurrent(echoAll),
		"HandleMessages":   messages,
	} {
		t.Run(name, func(t *testing.T) {
			c := dialHTTP2(t, h)
			if !c.ExtendedConnect() {
				t.Fatal("the server does not offer extended CONNECT")
			}
			for _, size := range []int{0, 1, 125, 4090, 4096, 8192, 8193, 65536, 300 << 10} {
				p := connectHTTP2(t, c)
				p.send(Binary, stars(size))
				p.expect(Binary, stars(size))
				p.Write(append(clientFrame(false, Text, "frag"), clientFrame(true, Continuation, "ment")...))
				p.expect(Text, "fragment")
				p.send(Ping, "?")
				p.expect(Pong, "?")
				p.Close()
			}
		})
	}
}

// Header and payload are in one DATA frame, if that is large enough.
func TestHTTP2_sends_a_message_in_one_DATA_frame(t *testing.T) {
	c := dialHTTP2(t, Handle(echoAll))
	for _, size := range []int{1, 4090, 4096, 5000, 9000, 16000} {
		p := connectHTTP2(t, c)
		p.send(Binary, stars(size))
		p.expect(Binary, stars(size))
		if got := streamOf(p).Frames; got != 1 {
			t.Errorf("a message of %d bytes came in %d DATA frames, want 1", size, got)
		}
		p.Close()
	}
}

func TestHTTP2_refusals_end_their_stream_only(t *testing.T) {
	var refused []int
	srv := dialHTTP2(t, Handle(echoAll, Subprotocols("chat"),
		OnRefused(func(_ *http.Request, err *HandshakeError) { refused = append(refused, err.Status) })))
	open := connectHTTP2(t, srv, "sec-websocket-protocol: mqtt, chat")
	if got := streamOf(open).HeaderValue("sec-websocket-protocol"); got != "chat" {
		t.Errorf("got the subprotocol %q, want chat", got)
	}
	tests := []struct {
		name, change string
		status       int
	}{
		{"another protocol", ":protocol: connect-udp", 501},
		{"another version", "sec-websocket-version: 12", 426},
		{"no version", "sec-websocket-version", 426},
		{"another origin", "origin: https://evil.example", 403},
		{"subprotocols that are not a list of tokens", "sec-websocket-protocol: a b", 400},
		{"extensions that are not a list", "sec-websocket-extensions: =", 400},
		{"a length", "content-length: 5", 400},
		{"a length of 0", "content-length: 0", 400},
		{"an empty :authority", ":authority: ", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := srv.Connect(tt.change)
			if err != nil || s.Status != tt.status {
				t.Fatalf("got the status %d and error %v, want %d", s.Status, err, tt.status)
			}
			body, err := io.ReadAll(s)
			if err != nil || len(body) == 0 {
				t.Errorf("got the body %q and error %v, want a reason", body, err)
			}
			if last := refused[len(refused)-1]; last != tt.status {
				t.Errorf("OnRefused got the status %d, want %d", last, tt.status)
			}
			checkEcho(open)
		})
	}
	accepted := connectHTTP2(t, srv, "origin: https://"+wstest.Host)
	checkEcho(accepted)
	checkEcho(open)
}

func TestHTTP2_middleware(t *testing.T) {
	t.Parallel()
	h := Handle(echoAll)
	t.Run("its headers arrive, and frames bypass a wrapper with Unwrap", func(t *testing.T) {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", "7")
			w.Header().Set("Content-Length", "3")
			w.Header().Set("Connection", "close")
			h.ServeHTTP(unwrapping{refusingWriter{w}}, r)
		}))
		p := connectHTTP2(t, c)
		if got := streamOf(p).HeaderValue("x-request-id"); got != "7" {
			t.Errorf("got the header %q, want 7", got)
		}
		checkEcho(p)
		checkEcho(connectHTTP2(t, c))
	})
	t.Run("a wrapper without Unwrap is refused", func(t *testing.T) {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(struct{ http.ResponseWriter }{w}, r) }))
		s, err := c.Connect()
		if err != nil || s.Status != 500 {
			t.Fatalf("got the status %d and error %v, want 500", s.Status, err)
		}
		if body, _ := io.ReadAll(s); !strings.Contains(string(body), "Unwrap") {
			t.Errorf("got the body %q, want one that says that Unwrap is missing", body)
		}
	})
	t.Run("a wrapped body", func(t *testing.T) {
		c := dialHTTP2(t, http.MaxBytesHandler(h, 1<<20))
		p := connectHTTP2(t, c)
		checkEcho(p)
		p.Close()
	})
	t.Run("a time limit of the context", func(t *testing.T) {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			h.ServeHTTP(w, r.WithContext(ctx))
		}))
		p := connectHTTP2(t, c)
		time.Sleep(150 * time.Millisecond) // longer than Conn.streamLost looks for the end
		checkEcho(p)
		p.Close()
	})
}

// A refusingWriter fails the test that writes to it.
type refusingWriter struct{ http.ResponseWriter }

func (refusingWriter) Write([]byte) (int, error) { panic("a frame was written to the wrapper") }

type unwrapping struct{ refusingWriter }

func (w unwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestHTTP2_close(t *testing.T) {
	tests := []struct {
		name string
		fn   HandlerFunc
		do   func(p *peer)
	}{
		{"by the function", func(*Conn) error { return nil }, func(p *peer) {
			p.expectClose(1000)
			p.send(Close, closeBody(1000, ""))
		}},
		{"with a code", func(*Conn) error { return &CloseError{4001, "bye"} }, func(p *peer) {
			if got := p.expectClose(4001); got != "bye" {
				p.t.Errorf("got the reason %q, want bye", got)
			}
			p.send(Close, closeBody(4001, ""))
		}},
		{"by the peer", echoAll, func(p *peer) {
			p.send(Close, closeBody(4000, "going"))
			p.expectClose(4000)
		}},
		{"after a broken rule", echoAll, func(p *peer) {
			p.Write([]byte{0xFF, 0x80, 0, 0, 0, 0})
			p.expectClose(1002)
			hangUp(p)
		}},
		{"by a panic", func(*Conn) error { panic(http.ErrAbortHandler) }, func(p *peer) {
			p.expectClose(1011)
			p.send(Close, closeBody(1011, ""))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dialHTTP2(t, Handle(tt.fn))
			p := connectHTTP2(t, c)
			tt.do(p)
			if tt.name != "by a panic" { // net/http resets the stream then
				p.ExpectEOF()
			}
		})
	}
}

// A reset, and the end of the TCP connection, are noticed although no method is receiving.
func TestHTTP2_peer_disconnects(t *testing.T) {
	tests := []struct {
		name string
		cut  func(c *wstest.HTTP2, s *wstest.Stream)
		code StatusCode
	}{
		{"reset", func(_ *wstest.HTTP2, s *wstest.Stream) { s.Reset(wstest.H2Cancel) }, 1006},
		{"TCP connection lost", func(c *wstest.HTTP2, _ *wstest.Stream) { c.Close() }, 1006},
		{"close frame and reset", func(_ *wstest.HTTP2, s *wstest.Stream) {
			s.Write(clientFrame(true, Close, closeBody(4002, "")))
			s.Reset(wstest.H2Cancel)
		}, 4002},
		{"message and reset", func(_ *wstest.HTTP2, s *wstest.Stream) {
			s.Write(clientFrame(true, Text, "last words"))
			s.Reset(wstest.H2Cancel)
		}, 1006},
	}
	for _, receiving := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, receiving %v", tt.name, receiving), func(t *testing.T) {
				serving, ended := make(chan struct{}), make(chan error, 1)
				c := dialHTTP2(t, Handle(func(c *Conn) error {
					close(serving)
					if receiving {
						for {
							if _, _, err := c.ReceiveMessage(); err != nil {
								ended <- context.Cause(c.Context())
								return err
							}
						}
					}
					<-c.Context().Done()
					ended <- context.Cause(c.Context())
					return nil
				}))
				p := connectHTTP2(t, c)
				<-serving // a reset before that can make the response fail, so that the function does not run
				start := time.Now()
				tt.cut(c, streamOf(p))
				if err := <-ended; CloseStatus(err) != tt.code {
					t.Errorf("the connection has ended with %v, want the code %d", err, tt.code)
				}
				if took := time.Since(start); took > 800*time.Millisecond {
					t.Errorf("the end was noticed after %v, want at once", took)
				}
			})
		}
	}
}

func TestHTTP2_message_before_a_reset_can_be_received(t *testing.T) {
	serving, got := make(chan struct{}), make(chan string, 1)
	c := dialHTTP2(t, Handle(func(c *Conn) error {
		close(serving)
		<-c.Context().Done()
		_, data, _ := c.ReceiveMessage()
		got <- string(data)
		return nil
	}))
	s := streamOf(connectHTTP2(t, c))
	<-serving
	s.Write(clientFrame(true, Text, "last words"))
	s.Reset(wstest.H2Cancel)
	if data := <-got; data != "last words" {
		t.Errorf("got %q, want the message before the reset", data)
	}
}

// More messages are in front of the close frame than the connection keeps.
func TestHTTP2_close_frame_behind_many_messages(t *testing.T) {
	t.Parallel()
	serving, ended := make(chan struct{}), make(chan error, 1)
	c := dialHTTP2(t, Handle(func(c *Conn) error {
		close(serving)
		err := waitForEnd(c)
		ended <- err
		return err
	}))
	p := connectHTTP2(t, c)
	<-serving
	p.Write(slices.Concat(messageBurst(100, stars(1000)), clientFrame(true, Close, closeBody(4002, ""))))
	streamOf(p).Reset(wstest.H2Cancel)
	if err := await(t, ended); CloseStatus(err) != 4002 {
		t.Errorf("the connection has ended with %v, want the code 4002", err)
	}
}

// A write waits for window when the TCP connection ends, and fails at that moment. The messages that
// have arrived are still received, also one that is larger than the usual read buffer.
func TestHTTP2_messages_before_a_failed_write_can_be_received(t *testing.T) {
	computes(t)
	for _, size := range []int{10, 2 * readBufferSize} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			for range 20 {
				serving, got := make(chan error, 1), make(chan int, 1)
				srv := wstest.ServeHTTP2(t, Handle(func(c *Conn) error {
					serving <- c.TrySend(Binary, make([]byte, 10_000)) // in the background
					<-c.Context().Done()
					_, data, err := c.ReceiveMessage()
					if err != nil {
						t.Error(err)
					}
					got <- len(data)
					return err
				}))
				c := wstest.DialHTTP2(t, srv.Listener.Addr().String(), 1)
				c.HoldWindow(true)
				p := connectHTTP2(t, c)
				if err := <-serving; err != nil {
					t.Fatal(err)
				}
				p.send(Text, stars(size))
				c.Conn.(*net.TCPConn).CloseWrite()
				if n := <-got; n != size {
					t.Fatalf("got a message of %d bytes, want %d", n, size)
				}
			}
		})
	}
}

func TestHTTP2_deadlines_can_be_removed(t *testing.T) {
	computes(t)
	expired := make(chan struct{})
	c := dialHTTP2(t, Handle(func(c *Conn) error {
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want an expired deadline", err)
		}
		c.SetReadDeadline(time.Time{})
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		if err := c.SendMessage(Text, []byte("late")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want an expired deadline", err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Hour))
		close(expired)
		return echoAll(c)
	}))
	p := connectHTTP2(t, c)
	frame := clientFrame(true, Text, "in two pieces")
	p.Write(frame[:8])
	<-expired
	p.Write(frame[8:])
	p.expect(Text, "in two pieces")
	checkEcho(p)
	p.Close()
}

// A peer that gives no window holds neither a sender nor a closing connection for ever, and
// other streams go on.
func TestHTTP2_no_window(t *testing.T) {
	t.Parallel()
	sent := make(chan error, 1)
	h := Handle(func(c *Conn) error {
		if c.Request().URL.Path == "/echo" {
			return echoAll(c)
		}
		err := c.SendMessage(Binary, make([]byte, 1<<20))
		sent <- err
		return err
	}, WriteTimeout(time.Second), CloseTimeout(100*time.Millisecond))
	srv := wstest.ServeHTTP2(t, h)
	c := wstest.DialHTTP2(t, srv.Listener.Addr().String(), 4096)
	other := connectHTTP2(t, c, ":path: /echo")
	stalled := connectHTTP2(t, c, ":path: /stalled")
	checkEcho(other)
	if err := <-sent; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("SendMessage returned %v, want a timeout", err)
	}
	checkEcho(other)
	if _, err := io.ReadAll(stalled.Conn); err == nil || streamOf(stalled).ResetCode == nil {
		t.Errorf("got the error %v, want a reset", err)
	}
}

func TestHTTP2_many_streams_end(t *testing.T) {
	computes(t)
	h := Handle(echoAll, PingInterval(0))
	c := dialHTTP2(t, h)
	var peers []*peer
	for range 250 {
		peers = append(peers, connectHTTP2(t, c))
	}
	for i, p := range peers {
		checkEcho(p)
		switch i % 3 {
		case 0:
			p.Close()
		case 1:
			streamOf(p).Reset(wstest.H2Cancel)
		}
	}
	over := make(chan error, 1)
	go func() { over <- h.Shutdown(t.Context()) }()
	for i, p := range peers {
		if i%3 == 2 {
			p.expectClose(1001)
			p.send(Close, closeBody(1001, ""))
			p.ExpectEOF()
		}
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
	if n := len(h.conns.all()); n != 0 {
		t.Errorf("%d connections are left, want 0", n)
	}
	if s, err := c.Connect(); err != nil || s.Status != 503 {
		t.Errorf("got the status %d and error %v after Shutdown, want 503", s.Status, err)
	}
}

func TestHTTP2_Upgrade(t *testing.T) {
	for name, closes := range map[string]bool{"closed": true, "not closed": false} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := Upgrade(w, r, OnClose(func(_ *Conn, err error) { ended <- err }))
				if err != nil {
					t.Error(err)
					return
				}
				if c.NetConn().RemoteAddr().String() != r.RemoteAddr {
					t.Errorf("got the address %v, want %s", c.RemoteAddr(), r.RemoteAddr)
				}
				if closes {
					c.Close(StatusNormalClosure, "")
				}
			}))
			p := connectHTTP2(t, c)
			if closes {
				p.expectClose(1000)
				p.send(Close, closeBody(1000, ""))
			}
			p.ExpectEOF()
			if err := <-ended; err == nil {
				t.Error("OnClose got nil, want the reason of the end")
			}
		})
	}
}

func TestHTTP2_CloseNow_resets(t *testing.T) {
	c := dialHTTP2(t, Handle(func(c *Conn) error {
		c.ReceiveMessage() // the client has the response then
		c.CloseNow()
		_, _, err := c.ReceiveMessage()
		return err
	}))
	p := connectHTTP2(t, c)
	p.send(Text, "now")
	if _, err := io.ReadAll(p.Conn); err == nil || streamOf(p).ResetCode == nil {
		t.Errorf("got the error %v, want a reset", err)
	}
}

func TestHTTP2_compression(t *testing.T) {
	c := dialHTTP2(t, Handle(func(c *Conn) error { return c.SendMessage(Text, []byte(stars(1000))) }, Compression(0)))
	p := connectHTTP2(t, c, "sec-websocket-extensions: permessage-deflate")
	if got := streamOf(p).HeaderValue("sec-websocket-extensions"); !strings.HasPrefix(got, "permessage-deflate") {
		t.Errorf("got the extensions %q, want permessage-deflate", got)
	}
	if b, err := p.Buffer.Peek(2); err != nil || b[0] != 0xC1 || b[1] > 100 {
		t.Errorf("got the header % x and error %v, want that of a compressed message", b, err)
	}
}

// A server on which a client can block handlers for ever is logged once.
func TestHTTP2_server_without_timeouts(t *testing.T) {
	var configured http.Server
	extendedconnect.Configure(&configured)
	tests := []struct {
		name   string
		config *http.HTTP2Config
		want   int
	}{
		{"extendedconnect.Configure", configured.HTTP2, 0},
		{"no configuration", nil, 1},
		{"zero configuration", &http.HTTP2Config{MaxConcurrentStreams: 1}, 1},
		{"WriteByteTimeout", &http.HTTP2Config{WriteByteTimeout: 1}, 0},
		{"SendPingTimeout", &http.HTTP2Config{SendPingTimeout: 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			warnOnce = sync.Once{}
			var lines strings.Builder
			srv := &http.Server{HTTP2: tt.config, ErrorLog: log.New(&lines, "", 0)}
			r := new(http.Request).WithContext(context.WithValue(t.Context(), http.ServerContextKey, srv))
			for range 3 {
				warnUnbounded(r)
			}
			if got := strings.Count(lines.String(), "extendedconnect.Configure"); got != tt.want {
				t.Errorf("got %d lines, want %d:\n%s", got, tt.want, lines.String())
			}
		})
	}
}

// A body of net/http shows that there is input without a buffer.
func TestHTTP2_knows_the_body_of_net_http(t *testing.T) {
	known := make(chan bool, 1)
	c := dialHTTP2(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { known <- isStreamBody(r.Body) }))
	c.Connect()
	if !<-known {
		t.Error("this version of Go has another type of body: see isStreamBody")
	}
}

// The stream ends with the answer to the close frame of a connection that has failed, because
// the server cannot end its side before.
func TestHTTP2_a_failed_connection_ends_with_the_peer_s_close_frame(t *testing.T) {
	tests := []struct {
		name string
		sent []byte
		code StatusCode
	}{
		{"too large", clientFrame(true, Binary, stars(2000)), 1009},
		{"not UTF-8", append(clientFrame(true, Text, "\xff"+stars(100)), clientFrame(true, Text, "more")...), 1007},
		{"reserved bit", withBits(0x40, clientFrame(true, Text, "a")), 1002},
		{"not masked", []byte{0x81, 1, 'a'}, 1002},
	}
	c := dialHTTP2(t, Handle(echoAll, MaxMessageSize(1000)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := connectHTTP2(t, c)
			start := time.Now()
			p.Write(tt.sent)
			p.expectClose(tt.code)
			p.send(Close, closeBody(tt.code, ""))
			p.ExpectEOF()
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("the stream ended after %v, want at once", took)
			}
		})
	}
}
