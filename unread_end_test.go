package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An arrivedEnd is an end of a connection whose function is busy after something has arrived.
type arrivedEnd struct {
	name   string
	opts   []Option
	begin  func(c *Conn) // of the function
	hangUp bool          // the client closes its socket after it has sent
	want   error         // nil for any
}

// arrivedEnds are limits and failed writes.
var arrivedEnds = []arrivedEnd{
	{"ConnectionTimeout", []Option{ConnectionTimeout(1500 * time.Millisecond)}, noCall, false, ErrConnectionTimeout},
	{"CloseTimeout", []Option{CloseTimeout(time.Second)}, later(func(c *Conn) { c.SendMessage(Close, nil) }), false, ErrCloseTimeout},
	{"WriteTimeout", []Option{WriteTimeout(500 * time.Millisecond)},
		later(func(c *Conn) { c.SendMessage(Binary, make([]byte, 1<<20)) }), false, nil},
	{"a write deadline inside a frame", nil, later(func(c *Conn) {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		c.SendMessage(Binary, make([]byte, 1<<20))
	}), false, nil},
	{"a ping of the keepalive fails", []Option{PingInterval(300 * time.Millisecond), CloseTimeout(time.Second)}, noCall, true, nil},
	{"SendMessage fails", nil, later(func(c *Conn) { c.SendMessage(Text, nil) }), true, nil},
	{"TrySend fails", nil, later(func(c *Conn) { c.TrySend(Text, nil) }), true, nil},
	{"Ping fails", nil, later(func(c *Conn) { c.Ping(context.Background()) }), true, nil},
	{"a close frame fails", nil, later(func(c *Conn) { c.SendMessage(Close, nil) }), true, nil},
}

func noCall(*Conn) {}

// later returns a function that calls f on another goroutine, when something has arrived.
func later(f func(c *Conn)) func(c *Conn) {
	return func(c *Conn) {
		go func() {
			time.Sleep(100 * time.Millisecond)
			f(c)
		}()
	}
}

// run runs fn and sends wire. It returns the error of fn.
func (e *arrivedEnd) run(t *testing.T, run func(*Conn, HandlerFunc, ...Option) <-chan error, wire []byte, fn HandlerFunc) error {
	server, client := memnet.Pipe(&net.TCPAddr{Port: 1}, &net.TCPAddr{Port: 2})
	server.SetReadBuffer(1 << 20)
	c := newTestConn(server, nil, append([]Option{PingInterval(0)}, e.opts...)...)
	done := run(c, func(c *Conn) error {
		e.begin(c)
		return fn(c)
	})
	client.Write(wire)
	if e.hangUp {
		client.Close()
	}
	return <-done
}

// A message arrives, and then a limit or a failed write ends the connection, while the function is
// busy. The next receiving call still returns the message.
func TestReceive_what_arrived_before_the_end(t *testing.T) {
	for _, end := range arrivedEnds {
		for name, run := range runners {
			t.Run(end.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					err := end.run(t, run, clientFrame(true, Text, "hello"), func(c *Conn) error { return receiveHello(t, c) })
					if err == nil || end.want != nil && !errors.Is(err, end.want) {
						t.Errorf("got error %v behind the message, want %v", err, end.want)
					}
				})
			})
		}
	}
}

// The function of HandleMessages gets the messages that arrived while it was busy.
func TestHandleMessages_passes_on_what_arrived_before_each_end(t *testing.T) {
	run := func(c *Conn, fn HandlerFunc, opts ...Option) <-chan error {
		prepareMessages(c)
		return runHandler(c, fn, opts...)
	}
	wire := slices.Concat(clientFrame(true, Text, "one"), clientFrame(true, Text, "two"))
	for _, end := range arrivedEnds {
		t.Run(end.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				err := end.run(t, run, wire, func(c *Conn) error {
					c.inbox.messages.fn = func(_ Opcode, data []byte) error {
						got = append(got, string(data))
						<-c.Context().Done() // busy
						return nil
					}
					return passAll(c)
				})
				if fmt.Sprint(got) != "[one two]" || err == nil {
					t.Errorf("got the messages %q and then the error %v, want both messages", got, err)
				}
			})
		})
	}
}

// The peer's close frame is why the connection ends (RFC 6455 section 7.1.5), also if more messages
// are in front of it than the connection keeps.
func TestReceive_the_close_frame_that_arrived_before_the_end(t *testing.T) {
	wire := slices.Concat(messageBurst(200, stars(1000)), clientFrame(true, Close, closeBody(4000, "bye")))
	for _, end := range arrivedEnds {
		for name, run := range runners {
			t.Run(end.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					err := end.run(t, run, wire, waitForEnd)
					var peer *CloseError
					if !errors.As(err, &peer) || peer.Code != 4000 {
						t.Errorf("got error %v, want the peer's close with 4000", err)
					}
				})
			})
		}
	}
}

// receiveHello is a function that is busy until the connection has ended. It wants the message
// "hello", and returns the error behind it.
func receiveHello(t *testing.T, c *Conn) error {
	<-c.Context().Done()
	if _, data, err := c.ReceiveMessage(); string(data) != "hello" || err != nil {
		t.Errorf("got %q and error %v, want hello", data, err)
	}
	_, _, err := c.ReceiveMessage()
	if n := c.Stats().MessagesReceived; n != 1 {
		t.Errorf("%d messages were counted, want 1", n)
	}
	return err
}

// The kernel keeps the bytes in front of a reset, so this test needs TCP. A ping finds the reset.
func TestReceive_what_arrived_before_a_reset(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	srv := startServer(t, func(c *Conn) error {
		err := receiveHello(t, c)
		result <- err
		return err
	}, PingInterval(300*time.Millisecond), CloseTimeout(time.Second), OnError(func(*Conn, error) {}))
	p := dialServer(t, srv)
	p.send(Text, "hello")
	p.Reset()
	if err := await(t, result); err == nil {
		t.Error("got no error behind the message")
	}
}

// The function of HandleMessages gets each message that arrived while it was running.
func TestHandleMessages_passes_on_what_arrived_before_the_end(t *testing.T) {
	t.Parallel()
	var got []string
	ended := make(chan error, 1)
	srv := wstest.Serve(t, HandleMessages(func(c *Conn) (MessageFunc, error) {
		return func(_ Opcode, data []byte) error {
			got = append(got, string(data))
			<-c.Context().Done() // busy
			return nil
		}, nil
	}, PingInterval(0), ConnectionTimeout(3*time.Second), OnClose(func(_ *Conn, err error) { ended <- err })))
	p := dialServer(t, srv)
	for _, message := range []string{"one", "two", "three"} {
		p.send(Text, message)
	}
	go io.Copy(io.Discard, p.Conn)
	wantError(t, await(t, ended), ErrConnectionTimeout)
	if fmt.Sprint(got) != "[one two three]" {
		t.Errorf("got %q, want all three messages", got)
	}
}
