package websockettest_test

import (
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// member returns a handler whose connections are members of g.
func member(g *websocket.Group) *websocket.Handler {
	return websocket.Handle(func(c *websocket.Conn) error {
		g.Join(c)
		return c.Discard()
	})
}

// What was sent before the pong comes before it, so a test can check that nothing was sent.
func TestBroadcast_comes_before_a_later_pong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g websocket.Group
		c := websockettest.Dial(t, member(&g))
		synctest.Wait()
		g.Broadcast(websocket.Text, []byte("x"))
		c.Send(websocket.Ping, nil)
		for _, want := range []websocket.Opcode{websocket.Text, websocket.Pong} {
			if f := c.ReceiveFrame(); f.Opcode != want {
				t.Errorf("got a %v frame, want a %v frame", f.Opcode, want)
			}
		}
	})
}

// A client that reads takes as much as it promises, although the test receives nothing meanwhile.
func TestBroadcast_in_a_burst(t *testing.T) {
	const messages, size = 255, 16 << 10 // less than 4 MiB
	synctest.Test(t, func(t *testing.T) {
		var g websocket.Group
		c := websockettest.Dial(t, member(&g))
		synctest.Wait()
		for range messages {
			g.Broadcast(websocket.Binary, make([]byte, size))
		}
		for range messages {
			wantMessage(t, c, websocket.Binary, string(make([]byte, size)))
		}
		c.Close(websocket.StatusNormalClosure, "")
	})
}
