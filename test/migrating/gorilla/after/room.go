package after

import (
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	maxMessage = 4096
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = 45 * time.Second
)

type room struct {
	members websocket.Group
}

// New returns a room: what one client sends, all get.
func New() http.Handler {
	r := new(room)
	return websocket.Handle(r.serve,
		websocket.AcceptConnection(websocket.AllowOrigins("https://app.example.com")),
		websocket.MaxMessageSize(maxMessage),
		websocket.PingInterval(pingPeriod),
		websocket.ConnectionTimeout(pongWait),
		websocket.WriteTimeout(writeWait),
		websocket.SendQueue(64*maxMessage))
}

func (r *room) serve(c *websocket.Conn) error {
	r.members.Join(c)
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err // Handle reports unexpected errors only
		}
		if op != websocket.Text {
			return &websocket.CloseError{Code: websocket.StatusUnsupportedData, Reason: "text only"}
		}
		if err := r.members.Broadcast(op, data); err != nil {
			return err
		}
	}
}
