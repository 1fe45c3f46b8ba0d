package servers

import (
	"bytes"
	"context"
	"net/http"

	"github.com/coder/websocket"
)

var coder = Contestant{
	Name:           "coder",
	Kind:           Peer,
	Modes:          []Mode{InHandler, Detached},
	JoinsFragments: true,
	Handler:        coderHandler,
}

func coderHandler(m Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	return routes(
		coderServe(m, coderEcho),
		coderServe(m, func(c *websocket.Conn) { coderChat(room, c) }))
}

func coderServe(m Mode, fn func(*websocket.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(messageLimit)
		run(m, func() {
			defer c.CloseNow()
			fn(c)
		})
	}
}

// coderEcho reads with Reader, because Read allocates a slice for every message.
func coderEcho(c *websocket.Conn) {
	ctx := context.Background()
	var buf bytes.Buffer
	for {
		kind, r, err := c.Reader(ctx)
		if err != nil {
			return
		}
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			return
		}
		if c.Write(ctx, kind, buf.Bytes()) != nil {
			return
		}
		if !KeepMessages {
			buf = bytes.Buffer{}
		}
	}
}

func coderChat(room *hub[*websocket.Conn], c *websocket.Conn) {
	ctx := context.Background()
	room.join(c)
	defer room.leave(c)
	for {
		kind, data, err := c.Read(ctx)
		if err != nil {
			return
		}
		room.each(func(c *websocket.Conn) { c.Write(ctx, kind, data) })
	}
}
