package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A foreignConn reports its deadlines as some userspace networks and multiplexers do: with a net.Error
// that is not os.ErrDeadlineExceeded.
type foreignConn struct{ net.Conn }

func (c foreignConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, foreignError(err)
}

func (c foreignConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, foreignError(err)
}

func foreignError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &net.OpError{Op: "read", Net: "tcp", Err: foreignTimeout{}}
	}
	return err
}

type foreignTimeout struct{}

func (foreignTimeout) Error() string   { return "i/o timeout" }
func (foreignTimeout) Timeout() bool   { return true }
func (foreignTimeout) Temporary() bool { return true }

// Deadlines mean the same whatever a net.Conn returns for them.
func TestForeign_deadlines_leave_the_connection_usable(t *testing.T) {
	uses := map[string]func(t *testing.T, c *Conn, p *peer){
		"polls": func(t *testing.T, c *Conn, p *peer) { time.Sleep(3 * time.Second) },
		"SetReadDeadline": func(t *testing.T, c *Conn, p *peer) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			_, _, err := c.ReceiveMessage()
			wantError(t, err, os.ErrDeadlineExceeded)
			c.SetReadDeadline(time.Time{})
		},
		"Ping": func(t *testing.T, c *Conn, p *peer) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go p.readPing()
			_, err := c.Ping(ctx)
			wantError(t, err, context.DeadlineExceeded)
		},
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newWrappedConn(t, func(conn net.Conn) net.Conn { return foreignConn{conn} }, PingInterval(0))
				use(t, c, p)
				go p.send(Text, "hello")
				_, data, err := c.ReceiveMessage()
				if string(data) != "hello" || err != nil {
					t.Errorf("got message %q, error %v", data, err)
				}
				go hangUp(p)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestForeign_deadlines_are_os_ErrDeadlineExceeded(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"of package net", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{"a net.Error", foreignTimeout{}, true},
		{"a net.Error in a net.OpError", &net.OpError{Op: "read", Err: foreignTimeout{}}, true},
		{"the timeout of TCP", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, false},
		{"the timeout of TCP alone", syscall.ETIMEDOUT, false},
		{"another error", net.ErrClosed, false},
		{"nil", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := asDeadline(tt.err)
			if errors.Is(got, os.ErrDeadlineExceeded) != tt.want || !errors.Is(got, tt.err) || got == os.ErrDeadlineExceeded {
				t.Errorf("got %#v, want os.ErrDeadlineExceeded: %v", got, tt.want)
			}
		})
	}
}

// A deafConn ignores its deadlines, but says that it has set them.
type deafConn struct{ net.Conn }

func (deafConn) SetReadDeadline(time.Time) error { return nil }

// A poll that cannot be ended by a deadline gives way as soon as something arrives.
func TestForeign_deadlines_that_are_ignored(t *testing.T) {
	uses := map[string]func(c *Conn){
		"a poll": func(*Conn) { time.Sleep(2 * time.Second) },
		"Ping":   func(c *Conn) { go c.Ping(context.Background()); synctest.Wait() },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newWrappedConn(t, func(conn net.Conn) net.Conn { return deafConn{conn} }, PingInterval(0))
				w := record(p, false)
				w.Send(clientFrame(true, Text, "one"))
				c.ReceiveMessage()
				use(c)
				time.AfterFunc(time.Second, func() { w.Send(clientFrame(true, Text, "two")) })
				timedCall(t, "ReceiveMessage", time.Second, func() error {
					_, data, err := c.ReceiveMessage()
					if string(data) != "two" {
						t.Errorf("got message %q, error %v", data, err)
					}
					return err
				})
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// HandleMessages has no read deadlines, so one that somebody has set on the net.Conn is removed. To wait
// for the next event would make the connection deaf, and to read again would take a processor.
func TestHandleMessages_removes_a_deadline_of_the_socket(t *testing.T) {
	t.Parallel()
	for name, start := range messagesServers {
		for _, size := range []int{1, 100_000} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				s := start(t, openWith(func(c *Conn, op Opcode, data []byte) error {
					return errors.Join(c.NetConn().SetReadDeadline(pastTime), c.SendMessage(op, data))
				}))
				p := s.dial(t)
				for range 3 {
					message := string(make([]byte, size))
					p.send(Text, message)
					p.expect(Text, message)
				}
			})
		}
	}
}

// The Close of a tls.Conn waits up to five seconds for a peer that does not read, also if it is in a
// wrapper. The wrapper has to be closed nevertheless.
func TestWrapper_of_TLS_is_closed_without_a_wait(t *testing.T) {
	computes(t)
	certificates := testCertificates()
	synctest.Test(t, func(t *testing.T) {
		encrypted, _ := newPipeTLS(t, certificates)
		wrapper := &closeCounter{Conn: encrypted}
		c := newTestConn(wrapper, nil, PingInterval(0))
		c.SetWriteDeadline(time.Now().Add(time.Second))
		start := time.Now()
		wantError(t, c.SendMessage(Text, []byte("not read")), os.ErrDeadlineExceeded)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("SendMessage took %v, want a second", took)
		}
		c.CloseNow()
		if wrapper.closed != 1 {
			t.Errorf("the wrapper was closed %d times, want once", wrapper.closed)
		}
	})
}

type closeCounter struct {
	*tls.Conn
	closed int
}

func (c *closeCounter) NetConn() net.Conn { return c.Conn }
func (c *closeCounter) Close() error      { c.closed++; return c.Conn.Close() }
