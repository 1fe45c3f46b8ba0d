package websocket

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Frames of WebSocket may begin and end anywhere in DATA frames, which may be empty or padded.
func TestHTTP2_frames_in_any_DATA_frames(t *testing.T) {
	c := dialHTTP2(t, Handle(echoAll))
	frame := clientFrame(true, Text, "in pieces")
	writes := map[string]func(s *wstest.Stream){
		"a byte in each": func(s *wstest.Stream) {
			for i := range frame {
				s.Write(frame[i : i+1])
			}
		},
		"padded":                func(s *wstest.Stream) { s.WritePadded(frame, 200) },
		"padded a byte in each": func(s *wstest.Stream) { each(frame, func(b []byte) { s.WritePadded(b, 3) }) },
		"empty ones between":    func(s *wstest.Stream) { each(frame, func(b []byte) { s.WritePadded(nil, 0); s.Write(b) }) },
		"padding alone between": func(s *wstest.Stream) { each(frame, func(b []byte) { s.WritePadded(nil, 9); s.Write(b) }) },
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			p := connectHTTP2(t, c)
			write(streamOf(p))
			p.expect(Text, "in pieces")
			checkEcho(p)
			p.Close()
		})
	}
}

// each calls f with each byte of b.
func each(b []byte, f func(b []byte)) {
	for i := range b {
		f(b[i : i+1])
	}
}

// The timeouts of the http.Server are for requests, and do not end a WebSocket.
func TestHTTP2_timeouts_of_the_server(t *testing.T) {
	const timeout = 50 * time.Millisecond // so it must not run beside other tests
	srv := wstest.ServeHTTP2(t, Handle(echoAll), func(s *http.Server) {
		s.ReadTimeout, s.ReadHeaderTimeout, s.WriteTimeout, s.IdleTimeout = timeout, timeout, timeout, timeout
	})
	p := connectHTTP2(t, wstest.DialHTTP2(t, srv.Listener.Addr().String(), 0))
	for range 2 {
		time.Sleep(timeout * 3 / 2)
		checkEcho(p)
	}
	p.Close()
}

// A deadline that passes in the middle of a write resets the stream, because it is not known how
// much was sent. The stream of another WebSocket goes on.
func TestHTTP2_write_deadline_in_a_write(t *testing.T) {
	computes(t)
	results, writing := make(chan error, 3), make(chan struct{})
	h := Handle(func(c *Conn) error {
		if c.Request().URL.Path == "/echo" {
			return echoAll(c)
		}
		go func() {
			<-writing
			c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		}()
		results <- c.SendMessage(Binary, make([]byte, 1<<20))
		c.SetWriteDeadline(time.Time{})
		results <- c.SendMessage(Binary, nil)
		_, _, err := c.ReceiveMessage()
		results <- err
		return err
	})
	c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, h).Listener.Addr().String(), 4096)
	other := connectHTTP2(t, c, ":path: /echo")
	c.HoldWindow(true)
	stalled := connectHTTP2(t, c)
	stalled.Conn.Read(make([]byte, 1))
	close(writing)
	if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("SendMessage returned %v, want an expired deadline", err)
	}
	for _, what := range []string{"SendMessage", "ReceiveMessage"} {
		if err := <-results; CloseStatus(err) != StatusAbnormalClosure {
			t.Errorf("%s returned %v afterwards, want the code 1006", what, err)
		}
	}
	if _, err := io.ReadAll(stalled.Conn); err == nil || streamOf(stalled).ResetCode == nil {
		t.Errorf("the peer got %v, want a reset", err)
	}
	checkEcho(other)
}

// A write that waits for a window ends when the peer goes.
func TestHTTP2_end_during_a_write(t *testing.T) {
	ends := map[string]func(c *wstest.HTTP2, s *wstest.Stream){
		"reset":                    func(_ *wstest.HTTP2, s *wstest.Stream) { s.Reset(wstest.H2Cancel) },
		"TCP connection lost":      func(c *wstest.HTTP2, _ *wstest.Stream) { c.Close() },
		"END_STREAM, then a reset": func(_ *wstest.HTTP2, s *wstest.Stream) { s.CloseWrite(); s.Reset(wstest.H2NoError) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			writing, sent := make(chan struct{}), make(chan error, 1)
			h := Handle(func(c *Conn) error {
				close(writing)
				err := c.SendMessage(Binary, make([]byte, 1<<20))
				sent <- err
				return err
			})
			c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, h).Listener.Addr().String(), 4096)
			c.HoldWindow(true)
			p := connectHTTP2(t, c)
			<-writing
			end(c, streamOf(p))
			if err := <-sent; CloseStatus(err) != StatusAbnormalClosure {
				t.Errorf("SendMessage returned %v, want the code 1006", err)
			}
		})
	}
}

// A group may have members of both versions of HTTP. A stream without a window has a queue, and
// holds up no other member.
func TestHTTP2_broadcast(t *testing.T) {
	var group Group
	joined := make(chan struct{}, 3)
	srv := wstest.ServeHTTP2(t, Handle(func(c *Conn) error {
		group.Join(c)
		joined <- struct{}{}
		return c.Discard()
	}, SendQueue(64<<10)))
	addr := srv.Listener.Addr().String()
	c, held := wstest.DialHTTP2(t, addr, 0), wstest.DialHTTP2(t, addr, 4096)
	held.HoldWindow(true)
	overHTTP1 := dialServer(t, srv)
	overHTTP2, stalled := connectHTTP2(t, c), connectHTTP2(t, held)
	for range 3 {
		<-joined
	}
	message := stars(16 << 10)
	for range 20 {
		if err := group.Broadcast(Text, []byte(message)); err != nil {
			t.Fatal(err)
		}
		overHTTP1.expect(Text, message)
		overHTTP2.expect(Text, message)
	}
	if !wstest.Eventually(func() bool { return group.Len() == 2 }) {
		t.Errorf("the group has %d members, want 2 without the one whose queue was full", group.Len())
	}
	streamOf(stalled).Reset(wstest.H2Cancel) // the server waits for it to take the close frame
}

func TestHTTP2_compressed_echo(t *testing.T) {
	c := dialHTTP2(t, Handle(echoAll, Compression(0)))
	p := connectHTTP2(t, c, "sec-websocket-extensions: permessage-deflate")
	in := &inflater{bits: 12}
	for _, size := range []int{1, 1000, 100 << 10} {
		p.Write(compressedMessage(Text, stars(size)))
		f, err := ReadFrame(p.Buffer, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := in.message(f); err != nil || got != stars(size) || f.RSV1 != (size > 1) {
			t.Errorf("got a message of %d bytes in a frame with RSV1 %t, and error %v; want %d bytes", len(got), f.RSV1, err, size)
		}
	}
	p.Close()
}

// The ways to receive and to send that are not in other tests.
func TestHTTP2_methods(t *testing.T) {
	tests := map[string]HandlerFunc{
		"ReceiveFunc": func(c *Conn) error {
			for {
				if err := c.ReceiveFunc(c.SendMessage); err != nil {
					return err
				}
			}
		},
		"TrySend": func(c *Conn) error {
			for m, err := range c.Messages() {
				if err != nil {
					return err
				}
				if err := c.TrySend(m.Opcode, m.Data); err != nil {
					return err
				}
			}
			return nil
		},
		"MessageReader and MessageWriter": func(c *Conn) error {
			for {
				op, r, err := c.MessageReader()
				if err != nil {
					return err
				}
				w, err := c.MessageWriter(op)
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, r); err != nil {
					return err
				}
				if err := w.Close(); err != nil {
					return err
				}
			}
		},
		"ReadFrame and WriteFrame": func(c *Conn) error {
			for {
				f, err := c.ReadFrame()
				if err != nil {
					return err
				}
				if f.Opcode == Close {
					return nil
				}
				if err := c.WriteFrame(f); err != nil {
					return err
				}
			}
		},
	}
	for name, fn := range tests {
		t.Run(name, func(t *testing.T) {
			c := dialHTTP2(t, Handle(fn))
			p := connectHTTP2(t, c)
			for _, size := range []int{0, 10, 5000, 70000} {
				p.send(Binary, stars(size))
				got, more := "", true
				for more {
					f := p.read()
					got, more = got+string(f.Payload), !f.Fin
				}
				if got != stars(size) {
					t.Errorf("got %d bytes, want the %d that were sent", len(got), size)
				}
			}
			p.Close()
		})
	}
}

// The keepalive pings over HTTP/2, and ends a stream whose peer is silent.
func TestHTTP2_keepalive(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c := dialHTTP2(t, Handle(func(c *Conn) error {
		_, _, err := c.ReceiveMessage()
		ended <- err
		return err
	}, PingInterval(20*time.Millisecond), ConnectionTimeout(200*time.Millisecond)))
	p := connectHTTP2(t, c)
	p.expect(Ping, "")
	if err := <-ended; !errors.Is(err, ErrConnectionTimeout) {
		t.Errorf("got %v, want ErrConnectionTimeout", err)
	}
}

func TestHTTP2_MaxLifetime(t *testing.T) {
	t.Parallel()
	c := dialHTTP2(t, Handle(echoAll, MaxLifetime(50*time.Millisecond)))
	p := connectHTTP2(t, c)
	p.expectClose(StatusGoingAway)
	p.send(Close, closeBody(StatusGoingAway, ""))
	p.ExpectEOF()
}

// Requests that net/http passes on, but that open no WebSocket, end their stream only.
func TestHTTP2_other_requests(t *testing.T) {
	c := dialHTTP2(t, Handle(echoAll))
	open := connectHTTP2(t, c)
	common := [][2]string{{":scheme", "http"}, {":authority", wstest.Host}, {"sec-websocket-version", "13"}}
	tests := []struct {
		name   string
		fields [][2]string
		status int // 0 if net/http resets the stream
	}{
		{"GET", [][2]string{{":method", "GET"}, {":path", "/"}}, 426},
		{"CONNECT without :protocol", [][2]string{{":method", "CONNECT"}}, 0},
		{"GET with :protocol", [][2]string{{":method", "GET"}, {":path", "/"}, {":protocol", "websocket"}}, 0},
		{"without :path", [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}}, 0},
		{"two :protocol", [][2]string{{":method", "CONNECT"}, {":path", "/"}, {":protocol", "websocket"}, {":protocol", "websocket"}}, 0},
		{"another case of the protocol", [][2]string{{":method", "CONNECT"}, {":path", "/"}, {":protocol", "WebSocket"}}, 501},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := c.Request(false, append(tt.fields, common...)...)
			if err == nil {
				err = s.AwaitResponse()
			}
			if tt.status == 0 && s.ResetCode == nil && s.Status < 400 || tt.status != 0 && (err != nil || s.Status != tt.status) {
				t.Errorf("got the status %d and error %v, want %s", s.Status, err, wantedStatus(tt.status))
			}
			s.Close()
			checkEcho(open)
		})
	}
}

func wantedStatus(status int) string {
	if status == 0 {
		return "a reset or a refusal"
	}
	return fmt.Sprint(status)
}
