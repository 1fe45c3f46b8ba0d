package websocket

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

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
				c, p := newHookedConn(t, func(s *wstest.Socket) {
					s.Hook = func(op *wstest.Op) (int, error) {
						if !op.Write && op.Number == 0 {
							panic("fault of the net.Conn")
						}
						return op.Do(op.P)
					}
				})
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
