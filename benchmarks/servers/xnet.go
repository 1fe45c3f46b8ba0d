package servers

import (
	"net/http"

	"golang.org/x/net/websocket"
)

var xnet = Contestant{
	Name:    "x/net",
	Kind:    Peer,
	Modes:   []Mode{InHandler},
	Handler: xnetHandler,
}

func xnetHandler(Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	// With a nil Handshake the server accepts a handshake without Origin. The load
	// generator sends none.
	echo := websocket.Server{Handler: xnetEcho}
	chat := websocket.Server{Handler: func(c *websocket.Conn) { xnetChat(room, c) }}
	return services{EchoPath: echo.ServeHTTP, BroadcastPath: chat.ServeHTTP}
}

type xnetMessage struct {
	kind byte
	data []byte
}

// xnetCodec keeps the type of a message. websocket.Message would derive it from the type of
// the Go value.
var xnetCodec = websocket.Codec{
	Marshal: func(v any) ([]byte, byte, error) {
		m := v.(*xnetMessage)
		return m.data, m.kind, nil
	},
	Unmarshal: func(data []byte, kind byte, v any) error {
		*v.(*xnetMessage) = xnetMessage{kind, data}
		return nil
	},
}

func xnetEcho(c *websocket.Conn) {
	var m xnetMessage
	for xnetCodec.Receive(c, &m) == nil && xnetCodec.Send(c, &m) == nil {
		m = xnetMessage{}
	}
}

func xnetChat(room *hub[*websocket.Conn], c *websocket.Conn) {
	room.join(c)
	defer room.leave(c)
	var m xnetMessage
	for xnetCodec.Receive(c, &m) == nil {
		room.each(func(c *websocket.Conn) { xnetCodec.Send(c, &m) })
	}
}
