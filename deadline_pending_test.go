package websocket

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// These tests are about a call with a deadline that has to write frames which are not its
// own: frames that wait to be written together, pongs, and pings of the keepalive. The peer
// does not read. The frames are not lost.

// wrapConn makes a net.Conn of a type that the library does not know.
func wrapConn(conn net.Conn) net.Conn { return wstest.Wrap(conn) }

func keepConn(conn net.Conn) net.Conn { return conn }

// newPendingConn returns a Conn on which the frame "accepted" waits for the next message,
// which the handler has received already.
func newPendingConn(t *testing.T, wrap func(net.Conn) net.Conn, opts ...Option) (*Conn, *peer) {
	t.Helper()
	c, p := newWrappedConn(t, wrap, append([]Option{PingInterval(0), ConnectionTimeout(0)}, opts...)...)
	go p.Write(messageBurst(2, "question"))
	if _, _, err := c.ReceiveMessage(); err != nil {
		t.Fatal(err)
	}
	if err := c.SendMessage(Text, []byte("accepted")); err != nil {
		t.Fatal(err)
	}
	if !c.out.hasPending.Load() {
		t.Fatal("the frame was written at once")
	}
	c.out.noteBuffered(false) // the next frame is written at once
	return c, p
}

// endConn ends a connection whose peer may not read.
func endConn(c *Conn, p *peer) {
	p.Conn.Close()
	c.Close(StatusNormalClosure, "")
}

// setBy are the times at which a deadline is set.
var setBy = []struct {
	name string
	set  func(set func(time.Time) error)
	want time.Duration // when the call has to return
}{
	{"a deadline in a second", func(set func(time.Time) error) { set(time.Now().Add(time.Second)) }, time.Second},
	{"a deadline that has passed", func(set func(time.Time) error) { set(pastTime) }, 0},
	{"a deadline that another goroutine sets", func(set func(time.Time) error) {
		time.AfterFunc(time.Second, func() { set(pastTime) })
	}, time.Second},
}

// acceptedFrame is the frame that newPendingConn leaves pending.
var acceptedFrame = wstest.ServerFrame(first(true, Text), "accepted")

// writes write a frame behind the pending ones.
var writes = map[string]func(t *testing.T, c *Conn) error{
	"a message":       func(t *testing.T, c *Conn) error { return c.SendMessage(Text, []byte("late")) },
	"a large message": func(t *testing.T, c *Conn) error { return c.SendMessage(Binary, make([]byte, 1<<20)) },
	"a ping":          func(t *testing.T, c *Conn) error { return c.SendMessage(Ping, nil) },
	"a frame":         func(t *testing.T, c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}}) },
	"JSON":            func(t *testing.T, c *Conn) error { return c.SendJSON(1) },
	"a fragment": func(t *testing.T, c *Conn) error {
		_, err := openWriter(t, c, Binary).Write(make([]byte, fragmentSize))
		return err
	},
	"large fragments": func(t *testing.T, c *Conn) error {
		_, err := openWriter(t, c, Binary).Write(make([]byte, 1<<20))
		return err
	},
}

func TestSetWriteDeadline_with_pending_frames(t *testing.T) {
	computes(t)
	for name, write := range writes {
		for _, by := range setBy {
			for _, read := range []int{0, 3, len(acceptedFrame)} { // how much the peer reads before the deadline
				if read > 0 && by.want == 0 {
					continue // then nothing is written
				}
				t.Run(fmt.Sprintf("%s, %s, %d bytes are written", name, by.name, read), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, p := newPendingConn(t, keepConn, WriteTimeout(0))
						got := make([]byte, len(acceptedFrame))
						go p.Conn.Read(got[:read])
						by.set(c.SetWriteDeadline)
						err := timedCall(t, name, by.want, func() error { return write(t, c) })
						wantError(t, err, os.ErrDeadlineExceeded)
						if endOf(c) != nil {
							t.Fatalf("the connection has ended: %v", endOf(c))
						}
						c.SetWriteDeadline(time.Time{})
						io.ReadFull(p.Conn, got[read:])
						if !bytes.Equal(got, acceptedFrame) {
							t.Errorf("got % x, want % x", got, acceptedFrame)
						}
						go c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Text}, "usable"))
						p.expect(Text, "usable")
						endConn(c, p)
					})
				})
			}
		}
	}
}

// If the deadline cuts off the frame of the call itself, the connection ends. The library
// does not know how much an unknown net.Conn has sent, so there it ends in every case.
func TestSetWriteDeadline_ends_the_connection(t *testing.T) {
	tests := []struct {
		name string
		wrap func(net.Conn) net.Conn
		read int
	}{
		{"a byte of the call's own frame is sent", keepConn, len(acceptedFrame) + 1},
		{"a wrapped socket has sent nothing", wrapConn, 0},
		{"a wrapped socket has sent a part of the pending frames", wrapConn, 3},
		{"a wrapped socket has sent the pending frames", wrapConn, len(acceptedFrame)},
	}
	for _, tt := range tests {
		for _, by := range setBy {
			if tt.read > 0 && by.want == 0 {
				continue
			}
			t.Run(tt.name+", "+by.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPendingConn(t, tt.wrap, WriteTimeout(0))
					c.ReceiveMessage() // the second of the burst: no input is left for the handler
					go p.Conn.Read(make([]byte, tt.read))
					by.set(c.SetWriteDeadline)
					start := time.Now()
					err := c.SendMessage(Text, []byte("late"))
					wantError(t, err, os.ErrDeadlineExceeded)
					if took := time.Since(start); took > by.want+maxPoll { // the sender looks for a close frame
						t.Errorf("SendMessage took %v, want %v and at most maxPoll", took, by.want)
					}
					if CloseStatus(endOf(c)) != StatusAbnormalClosure {
						t.Errorf("got end %v, want the error of a failed write", endOf(c))
					}
					endConn(c, p)
				})
			})
		}
	}
}

// Whether a failed write may have sent a part of its bytes depends on the type of the
// net.Conn.
func TestSetWriteDeadline_on_each_net_Conn(t *testing.T) {
	client, tcp := tcpPair(t)
	client.Close()
	pipe, _ := net.Pipe()
	memory, _ := memnet.Pipe(&net.TCPAddr{}, &net.TCPAddr{})
	for name, tt := range map[string]struct {
		conn   net.Conn
		usable bool
	}{
		"TCP":                 {tcp, writesAreExact},
		"a Unix socket":       {new(net.UnixConn), writesAreExact},
		"net.Pipe":            {pipe, true},
		"memnet":              {memory, true},
		"TLS":                 {tls.Server(pipe, nil), false},
		"a wrapper of TCP":    {struct{ net.Conn }{tcp}, false},
		"a wrapper of TLS":    {struct{ net.Conn }{tls.Server(pipe, nil)}, false},
		"a wrapper of memnet": {struct{ net.Conn }{memory}, false},
		"a type of the user":  {wstest.NewSocket(), false},
	} {
		if got := newTransport(tt.conn, new(socket), new(inbuf)).exact(); got != tt.usable {
			t.Errorf("%s: exact is %t, want %t", name, got, tt.usable)
		}
	}
}

func TestSetWriteDeadline_that_expires_on_a_wrapper_of_TLS_ends_the_connection(t *testing.T) {
	computes(t)
	config := wstest.ServeTLS(t, Handle(noop)).TLS
	client, server := tcpPair(t)
	go tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake()
	encrypted := tls.Server(server, config)
	if err := encrypted.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := newTestConn(struct{ net.Conn }{encrypted}, nil)
	defer c.Close(StatusNormalClosure, "")
	c.SetWriteDeadline(pastTime)
	err := c.SendMessage(Text, []byte("late"))
	wantError(t, err, os.ErrDeadlineExceeded)
	c.SetWriteDeadline(time.Time{})
	if again := c.SendMessage(Text, []byte("late")); again != err || endOf(c) == nil {
		t.Errorf("got error %v and end %v, want %v again", again, endOf(c), err)
	}
}

// A receiving method writes what is pending before it waits.
func TestSetReadDeadline_with_pending_frames(t *testing.T) {
	prepare := map[string]func(c *Conn, p *peer) []byte{
		"a reply": func(c *Conn, p *peer) []byte { return acceptedFrame },
		"a pong": func(c *Conn, p *peer) []byte {
			go p.Conn.Write(clientFrame(true, Ping, "ping"))
			return slices.Concat(acceptedFrame, wstest.ServerFrame(first(true, Pong), "ping"))
		},
		"a rest of a reply": func(c *Conn, p *peer) []byte {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			go p.Conn.Read(make([]byte, 3))
			c.SendMessage(Text, []byte("late"))
			return acceptedFrame[3:]
		},
	}
	for name, prepare := range prepare {
		for _, by := range setBy {
			for kind, wrap := range map[string]func(net.Conn) net.Conn{"known": keepConn, "wrapped": wrapConn} {
				if kind == "wrapped" && (by.name == setBy[2].name || name == "a rest of a reply") {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %s", name, by.name, kind), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, p := newPendingConn(t, wrap, WriteTimeout(0))
						c.ReceiveMessage() // the second of the burst, which is in the buffer
						want := prepare(c, p)
						by.set(c.SetReadDeadline)
						err := timedCall(t, "ReceiveMessage", by.want, func() error { _, _, err := c.ReceiveMessage(); return err })
						wantError(t, err, os.ErrDeadlineExceeded)
						if endOf(c) != nil {
							t.Fatalf("the connection has ended: %v", endOf(c))
						}
						if name == "a pong" && by.name != setBy[0].name {
							want = acceptedFrame // the ping was not read
						}
						got := make([]byte, len(want))
						if io.ReadFull(p.Conn, got); !bytes.Equal(got, want) {
							t.Errorf("got % x, want % x", got, want)
						}
						endConn(c, p)
					})
				})
			}
		}
	}
}

// A sender that unlocks the sending side writes what other goroutines have requested
// meanwhile. It must not wait for that.
func TestSetWriteDeadline_while_a_pong_is_requested(t *testing.T) {
	for _, by := range setBy {
		if by.want == 0 {
			continue
		}
		t.Run(by.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0))
				received := runHandler(c, receiveAll)
				by.set(c.SetWriteDeadline)
				sent := make(chan error)
				start := time.Now()
				go func() { sent <- c.SendMessage(Text, []byte("message")) }()
				synctest.Wait()
				go p.send(Ping, "ping")
				synctest.Wait()
				p.expect(Text, "message") // and then the peer does not read
				if err := <-sent; err != nil || time.Since(start) > time.Second {
					t.Errorf("got error %v after %v, want none", err, time.Since(start))
				}
				time.Sleep(time.Minute)
				p.expect(Pong, "ping")
				p.Conn.Close()
				<-received
			})
		})
	}
}

// A poll holds the lock of the receiving side, so a receiving method waits for it.
func TestSetReadDeadline_while_a_poll_answers_a_ping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0))
		go p.send(Ping, "ping")
		pollOnce(c)
		c.SetReadDeadline(time.Now().Add(time.Second))
		err := timedCall(t, "ReceiveMessage", time.Second, func() error { _, _, err := c.ReceiveMessage(); return err })
		wantError(t, err, os.ErrDeadlineExceeded)
		p.expect(Pong, "ping")
		endConn(c, p)
	})
}

// A close frame is not lost if a write deadline is set.
func TestSetWriteDeadline_and_a_close_frame(t *testing.T) {
	closes := map[string]func(c *Conn) error{
		"SendMessage": func(c *Conn) error { return c.SendMessage(Close, []byte(closeBody(4000, ""))) },
		"WriteFrame": func(c *Conn) error {
			return c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Close}, closeBody(4000, "")))
		},
	}
	for name, send := range closes {
		for _, by := range setBy {
			t.Run(name+", "+by.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPendingConn(t, keepConn, WriteTimeout(0), CloseTimeout(0))
					by.set(c.SetWriteDeadline)
					start := time.Now()
					if err := send(c); err != nil {
						wantError(t, err, os.ErrDeadlineExceeded)
					}
					if took := time.Since(start); took > time.Second {
						t.Errorf("%s took %v, want at most 1s", name, took)
					}
					p.expect(Text, "accepted")
					p.expectClose(4000)
					endConn(c, p)
				})
			})
		}
	}
}
