package hostile

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// attackStreams is attack with clients that are streams of HTTP/2 connections.
func attackStreams(t *testing.T, k kind, streams int, fn websocket.HandlerFunc, clients func(l *wstest.Load), opts ...websocket.Option) {
	t.Helper()
	l := wstest.NewLoad(t)
	l.UseHTTP2(streams)
	l.Run(k.handler(wstest.Track(l, fn), opts...), k.healthy, extendedconnect.Configure, func() { clients(l) })
}

func TestHostile_HTTP2_50_streams_that_send_for_ever_and_never_read(t *testing.T) {
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			attackStreams(t, tt.kind, 10, limitWriteBuffer(tt.fn), func(l *wstest.Load) {
				clients := l.ConnectAll(wstest.Scale(t, 50, 20))
				peak := l.Peak(func() {
					l.UntilCut(clients, func(c *wstest.Client) {
						c.Conn.Write(wstest.Message(wstest.Text, "go"))
						c.Flood(tt.flood)
					}, isWriteTimeout)
				})
				l.WantAtMost(peak, wstest.MemorySlack+uint64(len(clients))*(tt.perConn+96<<10), "peak memory of both sides")
			}, websocket.WriteTimeout(200*time.Millisecond))
		})
	}
}

func TestHostile_HTTP2_slow_readers_get_everything(t *testing.T) {
	message := bytes.Repeat([]byte("slow"), 1500) // more than the window
	attackStreams(t, handle, 10, sendWhenAsked(message).fn, func(l *wstest.Load) {
		clients := l.ConnectAll(10)
		l.Together(clients, func(c *wstest.Client) error {
			c.Conn.Write(wstest.Message(wstest.Text, "go"))
			f, err := wstest.NewClient(nil, oneByteConn{c.Conn}).ReadFrame()
			if err != nil || !bytes.Equal(f.Payload, message) {
				return fmt.Errorf("got %d bytes and error %v, want the %d bytes that were sent", len(f.Payload), err, len(message))
			}
			return nil
		})
	})
}

// Nothing of 1000 streams is left, however they end.
func TestHostile_HTTP2_250_streams_on_each_connection(t *testing.T) {
	attackStreams(t, handle, 250, echo, func(l *wstest.Load) {
		clients := l.ConnectAll(wstest.Scale(t, 1000, 300))
		l.Each(len(clients), 16, func(i int) error {
			c := clients[i]
			if err := c.RoundTrip("hello"); err != nil {
				return err
			}
			switch i % 4 {
			case 0:
				c.Conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))
				return c.WantClose(1000)
			case 1:
				c.Reset()
			case 2:
				c.ShutWrite()
			}
			return nil
		})
		l.CloseClients() // the others lose their TCP connection
		l.WantEnds(len(clients), anyError)
	})
}

// A client resets its stream, ends its side, or loses its TCP connection after each of these
// bytes.
func TestHostile_HTTP2_ends_at_every_moment(t *testing.T) {
	script := slices.Concat(wstest.Message(wstest.Text, "hello"), wstest.ClientFrame(0x02, "frag"), wstest.Message(wstest.Ping, "?"),
		wstest.ClientFrame(0x80, "ment"), wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))
	ends := map[string]func(c *wstest.Client){
		"reset":                   (*wstest.Client).Reset,
		"half-close":              func(c *wstest.Client) { c.ShutWrite() },
		"close frame, then reset": func(c *wstest.Client) { c.Conn.Write(script[len(script)-8:]); c.Reset() },
	}
	for name, end := range ends {
		for _, k := range []kind{handle, handleConcurrent} {
			t.Run(name, func(t *testing.T) {
				attackStreams(t, k, 250, echo, func(l *wstest.Load) {
					l.Each(len(script), 8, func(i int) error {
						c, err := l.Connect()
						if err == nil {
							err = c.RoundTrip("served") // a reset before that can make the response fail
						}
						if err != nil {
							return err
						}
						c.Conn.Write(script[:i])
						end(c)
						return nil
					})
					l.WantEnds(len(script), anyError)
				})
			})
		}
	}
}

// A peer that lets the server send much and then stops reading from the TCP connection is bounded
// by WriteByteTimeout: no deadline of a stream helps, because no reset can be written.
func TestHostile_HTTP2_client_that_stops_reading_TCP(t *testing.T) {
	ended := make(chan error, 1)
	srv := wstest.ServeHTTP2(t, websocket.Handle(func(c *websocket.Conn) error {
		for {
			if err := c.SendMessage(websocket.Binary, large); err != nil {
				ended <- err
				return err
			}
		}
	}, websocket.WriteTimeout(100*time.Millisecond)))
	srv.Config.HTTP2 = &http.HTTP2Config{WriteByteTimeout: 300 * time.Millisecond}
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	stalled := &stalledConn{Conn: conn, stall: make(chan struct{}), closed: make(chan struct{})}
	c, err := wstest.NewHTTP2(stalled, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	close(stalled.stall)
	select {
	case err := <-ended:
		if websocket.CloseStatus(err) != websocket.StatusAbnormalClosure {
			t.Errorf("SendMessage returned %v, want the code 1006", err)
		}
	case <-time.After(wstest.Patience):
		t.Error("the handler has not ended")
	}
}

// A stalledConn reads nothing after stall was closed.
type stalledConn struct {
	net.Conn
	stall, closed chan struct{}
	once          sync.Once
}

func (c *stalledConn) Read(p []byte) (int, error) {
	select {
	case <-c.stall:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Read(p)
	}
}

func (c *stalledConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A client opens streams and resets them at once, some behind frames that the server answers. No
// handler is left, and the streams of another client go on. net/http may end the TCP connection.
func TestHostile_HTTP2_streams_that_are_reset_at_once(t *testing.T) {
	var running atomic.Int64
	srv := wstest.ServeHTTP2(t, websocket.Handle(func(c *websocket.Conn) error {
		running.Add(1)
		defer running.Add(-1)
		return echo(c)
	}), extendedconnect.Configure)
	addr := srv.Listener.Addr().String()
	healthy := wstest.DialHTTP2(t, addr, 0).ConnectClient(t)
	fields := [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"},
		{":authority", wstest.Host}, {"sec-websocket-version", "13"}}
	first := slices.Concat(wstest.Message(wstest.Ping, "?"), wstest.Message(wstest.Text, "hello"), wstest.ClientFrame(0x02, "frag"))
	n := wstest.Scale(t, 20000, 3000)
	for opened := 0; opened < n; {
		c := wstest.DialHTTP2(t, addr, 0)
		for err := error(nil); opened < n && err == nil; opened++ {
			var s *wstest.Stream
			if s, err = c.Request(false, fields...); err != nil {
				break
			}
			s.Write(first[:opened%len(first)])
			err = s.Reset(wstest.H2Cancel)
			if opened%500 == 0 && healthy.RoundTrip("still here") != nil {
				t.Fatal("another client is not served")
			}
		}
		c.Close()
	}
	if !wstest.Eventually(func() bool { return running.Load() == 1 }) {
		t.Errorf("%d handlers run, want 1", running.Load())
	}
	if err := healthy.RoundTrip("still here"); err != nil {
		t.Error(err)
	}
}

// As many streams as net/http allows send nothing but pings. Each gets its last pong.
func TestHostile_HTTP2_250_streams_that_send_pings(t *testing.T) {
	attackStreams(t, handle, 250, echo, func(l *wstest.Load) {
		clients := l.ConnectAll(wstest.Scale(t, 250, 50))
		pings := append(bytes.Repeat(wstest.Message(wstest.Ping, "again"), 300), wstest.Message(wstest.Ping, "last")...)
		l.Together(clients, func(c *wstest.Client) error {
			if _, err := c.Conn.Write(pings); err != nil {
				return err
			}
			for {
				f, err := c.ReadFrame()
				if err != nil || f.Opcode() != wstest.Pong {
					return fmt.Errorf("got %v and error %v, want a pong", f, err)
				}
				if string(f.Payload) == "last" {
					return c.RoundTrip("still here")
				}
			}
		})
	})
}
