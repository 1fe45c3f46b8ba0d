package servers

import (
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

var own = Contestant{
	Name:           "websocket",
	Kind:           Own,
	Modes:          []Mode{InHandler, Detached},
	ChecksUTF8:     true,
	JoinsFragments: true,
	Handler:        ownHandler,
}

func ownHandler(m Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	echo := ownEcho
	if !KeepMessages {
		echo = ownPlainEcho
	}
	return routes(ownServe(m, echo), ownServe(m, func(c *websocket.Conn) error { return ownChat(room, c) }))
}

// ownServe returns a handler that runs fn in mode m.
func ownServe(m Mode, fn websocket.HandlerFunc) http.HandlerFunc {
	opts := []websocket.Option{
		websocket.MaxFrameSize(messageLimit),
		websocket.MaxMessageSize(messageLimit),
		// The keepalive is on, but its first ping must come after the run, because a
		// ping would come between the bytes that the load generator counts.
		websocket.PingInterval(50 * time.Second),
		websocket.Detached(m == Detached),
	}
	return websocket.Handle(fn, opts...).ServeHTTP
}

func ownEcho(c *websocket.Conn) error {
	var buf []byte
	for {
		op, data, err := c.AppendMessage(buf[:0])
		if err != nil {
			return err
		}
		buf = data
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

func ownPlainEcho(c *websocket.Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

func ownChat(room *hub[*websocket.Conn], c *websocket.Conn) error {
	room.join(c)
	defer room.leave(c)
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		room.each(func(c *websocket.Conn) { c.SendMessage(op, data) })
	}
}
