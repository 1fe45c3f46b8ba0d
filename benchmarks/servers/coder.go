package servers

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

var coder = Contestant{
	Name:           "coder",
	Kind:           Peer,
	Modes:          []Mode{InHandler, Detached},
	JoinsFragments: true,
	More:           []string{QueuePath, DeflatePath, TakeoverPath, QuietPath},
	Handler:        coderHandler,
}

func coderHandler(m Mode) http.Handler {
	room := new(hub[*websocket.Conn])
	queues := new(hub[*writer[coderMessage]])
	return services{
		EchoPath:      coderServe(m, nil, coderEcho),
		BroadcastPath: coderServe(m, nil, func(c *websocket.Conn) { coderChat(room, c) }),
		QueuePath:     coderServe(m, nil, func(c *websocket.Conn) { coderQueue(queues, c) }),
		DeflatePath:   coderServe(m, coderDeflate(websocket.CompressionNoContextTakeover), coderEcho),
		TakeoverPath:  coderServe(m, coderDeflate(websocket.CompressionContextTakeover), coderEcho),
		QuietPath:     coderServe(m, coderDeflate(websocket.CompressionContextTakeover), coderEcho),
	}
}

func coderDeflate(mode websocket.CompressionMode) *websocket.AcceptOptions {
	return &websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: minDeflated}
}

func coderServe(m Mode, options *websocket.AcceptOptions, fn func(*websocket.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, options)
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

type coderMessage struct {
	kind websocket.MessageType
	data []byte
}

// The queue and the time of a write in coder's chat example.
const (
	coderQueueLength = 16
	coderWriteWait   = 5 * time.Second
)

// coderQueue does as coder's chat example: it has no prepared messages.
func coderQueue(room *hub[*writer[coderMessage]], c *websocket.Conn) {
	w := newWriter(coderQueueLength, func(m coderMessage) error {
		ctx, cancel := context.WithTimeout(context.Background(), coderWriteWait)
		defer cancel()
		return c.Write(ctx, m.kind, m.data)
	}, func() { c.Close(websocket.StatusPolicyViolation, "connection too slow to keep up with messages") })
	w.member(room, func() {
		for {
			kind, data, err := c.Read(context.Background())
			if err != nil {
				return
			}
			room.each(func(w *writer[coderMessage]) { w.send(coderMessage{kind, data}) })
		}
	})
}
