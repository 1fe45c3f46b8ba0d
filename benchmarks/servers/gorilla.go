package servers

import (
	"bytes"
	"net/http"

	"github.com/gorilla/websocket"
)

var gorilla = Contestant{
	Name:           "gorilla",
	Kind:           Peer,
	Modes:          []Mode{InHandler, Detached},
	JoinsFragments: true,
	Handler:        gorillaHandler,
}

func gorillaHandler(m Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	return routes(
		gorillaServe(m, gorillaEcho),
		gorillaServe(m, func(c *websocket.Conn) { gorillaChat(room, c) }))
}

func gorillaServe(m Mode, fn func(*websocket.Conn)) http.HandlerFunc {
	upgrader := new(websocket.Upgrader)
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(messageLimit)
		run(m, func() {
			defer c.Close()
			fn(c)
		})
	}
}

// gorillaEcho reads with NextReader, because ReadMessage allocates a slice for every
// message.
func gorillaEcho(c *websocket.Conn) {
	var buf bytes.Buffer
	for {
		kind, r, err := c.NextReader()
		if err != nil {
			return
		}
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			return
		}
		if c.WriteMessage(kind, buf.Bytes()) != nil {
			return
		}
		if !KeepMessages {
			buf = bytes.Buffer{}
		}
	}
}

func gorillaChat(room *hub[*websocket.Conn], c *websocket.Conn) {
	room.join(c)
	defer room.leave(c)
	for {
		kind, data, err := c.ReadMessage()
		if err != nil {
			return
		}
		prepared, err := websocket.NewPreparedMessage(kind, data)
		if err != nil {
			return
		}
		room.each(func(c *websocket.Conn) { c.WritePreparedMessage(prepared) })
	}
}
