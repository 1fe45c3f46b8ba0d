package guide

import (
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// greet greets every name that it receives.
func greet(c *websocket.Conn) error {
	for {
		_, name, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if len(name) == 0 {
			return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "want a name"}
		}
		if err := c.SendMessage(websocket.Text, append([]byte("Hello, "), name...)); err != nil {
			return err
		}
	}
}

func TestGreet(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(greet))
	c.Send(websocket.Text, []byte("Ada"))
	if _, data := c.Receive(); string(data) != "Hello, Ada" {
		t.Errorf("got %q, want a greeting", data)
	}
	c.Close(websocket.StatusNormalClosure, "")
}
