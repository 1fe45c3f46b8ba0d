package websocket

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A panickingConn is a net.Conn with a fault: the first read with panics set panics.
type panickingConn struct {
	net.Conn
	panics bool
}

func (c *panickingConn) Read(p []byte) (int, error) {
	if c.panics {
		c.panics = false
		panic("fault of the net.Conn")
	}
	return c.Conn.Read(p)
}

// If a net.Conn of the user panics in a receiving method, the next method that the handler calls
// finds the lock free.
func TestReceive_unlocks_after_a_panic_of_the_socket(t *testing.T) {
	receivers := map[string]func(*Conn) error{
		"ReceiveMessage":   func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
		"AppendMessage":    func(c *Conn) error { _, _, err := c.AppendMessage(nil); return err },
		"ReceiveFunc":      func(c *Conn) error { return c.ReceiveFunc(func(Opcode, []byte) error { return nil }) },
		"ReceiveFragments": func(c *Conn) error { _, err := c.ReceiveFragments(); return err },
		"ReadFrame":        func(c *Conn) error { _, err := c.ReadFrame(); return err },
		"Discard":          func(c *Conn) error { return c.Discard() },
		"MessageReader":    func(c *Conn) error { _, _, err := c.MessageReader(); return err },
		"Stream": func(c *Conn) error {
			_, err := c.Stream(Binary).Read(make([]byte, 1))
			return err
		},
	}
	for name, receive := range receivers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var socket *panickingConn
				c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
					socket = &panickingConn{Conn: conn}
					return socket
				})
				socket.panics = true
				func() {
					defer func() {
						if recover() == nil {
							t.Error("the method has not passed the panic on")
						}
					}()
					receive(c)
				}()
				go p.send(Text, "next")
				c.SetReadDeadline(time.Now().Add(time.Second))
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "next" {
					t.Errorf("ReceiveMessage after the panic: got %q and error %v, want the next message", data, err)
				}
			})
		})
	}
}
