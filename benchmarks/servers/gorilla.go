package servers

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var gorilla = Contestant{
	Name:           "gorilla",
	Kind:           Peer,
	Modes:          []Mode{InHandler, Detached},
	JoinsFragments: true,
	More:           []string{QueuePath, DeflatePath, QuietPath},
	Handler:        gorillaHandler,
}

func gorillaHandler(m Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	queues := new(hub[*writer[*websocket.PreparedMessage]])
	return services{
		EchoPath:      gorillaServe(m, false, gorillaEcho),
		BroadcastPath: gorillaServe(m, false, func(c *websocket.Conn) { gorillaChat(room, c) }),
		QueuePath:     gorillaServe(m, false, func(c *websocket.Conn) { gorillaQueue(queues, c) }),
		DeflatePath:   gorillaServe(m, true, gorillaEcho),
		QuietPath:     gorillaServe(m, true, gorillaEcho),
	}
}

func gorillaServe(m Mode, deflate bool, fn func(*websocket.Conn)) http.HandlerFunc {
	upgrader := &websocket.Upgrader{EnableCompression: deflate}
	if !KeepMessages && m == Detached {
		// The documentation advises this for many connections that seldom write. In the handler,
		// the buffers of net/http are there anyway, and gorilla uses them.
		upgrader.ReadBufferSize, upgrader.WriteBufferSize = 1024, 4096
		upgrader.WriteBufferPool = new(sync.Pool)
	}
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
	gorillaPrepare(c, func(p *websocket.PreparedMessage) {
		room.each(func(c *websocket.Conn) { c.WritePreparedMessage(p) })
	})
}

// gorillaWriteWait is the deadline of a write in gorilla's chat example.
const gorillaWriteWait = 10 * time.Second

// gorillaQueue does as gorilla's chat example, but with a prepared message.
func gorillaQueue(room *hub[*writer[*websocket.PreparedMessage]], c *websocket.Conn) {
	w := newWriter(queueLength, func(p *websocket.PreparedMessage) error {
		c.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
		return c.WritePreparedMessage(p)
	}, func() { c.Close() })
	w.member(room, func() {
		gorillaPrepare(c, func(p *websocket.PreparedMessage) {
			room.each(func(w *writer[*websocket.PreparedMessage]) { w.send(p) })
		})
	})
}

// gorillaPrepare reads messages and calls send with each as a prepared message.
func gorillaPrepare(c *websocket.Conn, send func(*websocket.PreparedMessage)) {
	for {
		kind, data, err := c.ReadMessage()
		if err != nil {
			return
		}
		prepared, err := websocket.NewPreparedMessage(kind, data)
		if err != nil {
			return
		}
		send(prepared)
	}
}
