package websockettest_test

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// A write deadline that expires leaves the connection as it does over TCP. The client does not
// read, so that a megabyte cannot be written.
func TestStopReading_and_a_write_deadline(t *testing.T) {
	const second = time.Second
	message := func(c *websocket.Conn) error {
		return c.SendMessage(websocket.Binary, make([]byte, 1<<20))
	}
	stream := func(c *websocket.Conn) error {
		_, err := c.Stream(websocket.Binary).Write(make([]byte, 1<<20))
		return err
	}
	tests := []struct {
		name   string
		by     time.Duration
		write  func(c *websocket.Conn) error
		usable bool
	}{
		{"a deadline that passes before the first byte of a message", -second, message, true},
		{"a deadline that passes inside a message", second, message, false},
		{"a deadline that passes before the first byte of a Stream's Write", -second, stream, true},
		{"a deadline that passes inside a Stream's Write", second, stream, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler, result := capture(func(c *websocket.Conn) error {
					if _, _, err := c.ReceiveMessage(); err != nil {
						return err
					}
					c.SetWriteDeadline(time.Now().Add(tt.by))
					if err := tt.write(c); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("the write returned %v, want that the deadline has passed", err)
					}
					c.SetWriteDeadline(time.Time{})
					return c.SendMessage(websocket.Text, []byte("later"))
				})
				c := websockettest.Dial(t, handler)
				c.StopReading()
				c.Send(websocket.Text, []byte("stalled"))
				time.Sleep(2 * second)
				c.StartReading()
				if err := <-result; (err == nil) != tt.usable {
					t.Errorf("after the deadline, SendMessage returned %v; want usable: %t", err, tt.usable)
				}
			})
		})
	}
}
