package main

import (
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestEcho(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(echo))
	for _, want := range []string{"Hello", "", "世界"} {
		c.Send(websocket.Text, []byte(want))
		if op, got := c.Receive(); op != websocket.Text || string(got) != want {
			t.Errorf("got the %v message %q, want the text %q", op, got, want)
		}
	}
	c.Close(websocket.StatusNormalClosure, "")
}
