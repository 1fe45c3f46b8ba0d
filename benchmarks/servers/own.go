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
	HTTP2:          true,
	ChecksUTF8:     true,
	JoinsFragments: true,
	More:           []string{QueuePath, GroupPath, DeflatePath, TakeoverPath, QuietPath},
	Handler:        ownHandler,
}

// ownLend is this library with ReceiveFunc in the echo, and ownMessages with HandleMessages.
var (
	ownLend     = ownVariant("websocket-lend", ownLendHandler)
	ownMessages = ownVariant("websocket-messages", ownMessagesHandler)
)

func ownVariant(name string, handler func(Mode) http.Handler) Contestant {
	c := own
	c.Name, c.Handler = name, handler
	c.Modes, c.More = []Mode{InHandler}, []string{QueuePath}
	return c
}

func ownLendHandler(m Mode) http.Handler {
	s := ownHandler(m).(services)
	s[EchoPath] = ownServe(m, ownLendEcho)
	s[PingPath] = ownServe(m, ownLendEcho, ownIdlePings()...)
	return s
}

func ownLendEcho(c *websocket.Conn) error {
	for {
		if err := c.ReceiveFunc(c.SendMessage); err != nil {
			return err
		}
	}
}

// ownIdlePings returns the options of PingPath.
func ownIdlePings() []websocket.Option {
	return []websocket.Option{websocket.PingInterval(IdlePing), websocket.ConnectionTimeout(0)}
}

func ownMessagesHandler(m Mode) http.Handler {
	room := new(websocket.Group)
	chat := ownPass(m, func(c *websocket.Conn) websocket.MessageFunc {
		room.Join(c)
		return room.Broadcast
	}, websocket.SendQueue(ownSendQueue))
	return services{
		EchoPath:      ownPass(m, func(c *websocket.Conn) websocket.MessageFunc { return c.SendMessage }),
		BroadcastPath: chat, QueuePath: chat,
		PingPath: ownPass(m, func(c *websocket.Conn) websocket.MessageFunc { return c.SendMessage }, ownIdlePings()...),
	}
}

// ownPass is ownServe for HandleMessages.
func ownPass(m Mode, open func(*websocket.Conn) websocket.MessageFunc, more ...websocket.Option) http.HandlerFunc {
	return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		return open(c), nil
	}, ownOptions(m, more)...).ServeHTTP
}

func ownHandler(m Mode) http.Handler {
	broadcast, idle := new(websocket.Group), new(websocket.Group)
	echo := ownEcho
	if !KeepMessages {
		echo = ownPlainEcho
	}
	// Group.Broadcast never waits for a peer, so it is the broadcast with a queue too.
	chat := ownServe(m, func(c *websocket.Conn) error { return ownChat(broadcast, c) }, websocket.SendQueue(ownSendQueue))
	// The client says whether messages may refer to earlier ones.
	deflated := ownServe(m, echo, websocket.Compression(minDeflated))
	return services{
		EchoPath: ownServe(m, echo), BroadcastPath: chat, QueuePath: chat,
		DeflatePath: deflated, TakeoverPath: deflated,
		QuietPath: ownServe(m, echo, websocket.Compression(minDeflated), websocket.PingInterval(QuietPing)),
		PingPath:  ownServe(m, echo, ownIdlePings()...),
		GroupPath: ownServe(m, func(c *websocket.Conn) error { return ownIdle(idle, c) }),
	}
}

// ownSendQueue is less than the default, so that a run of some seconds contains both times
// of a connection that is not read: its queue fills, and it is closed.
const ownSendQueue = 128 << 10

// ownServe returns a handler that runs fn in mode m.
func ownServe(m Mode, fn websocket.HandlerFunc, more ...websocket.Option) http.HandlerFunc {
	return websocket.Handle(fn, ownOptions(m, more)...).ServeHTTP
}

func ownOptions(m Mode, more []websocket.Option) []websocket.Option {
	return append([]websocket.Option{
		websocket.MaxFrameSize(messageLimit),
		websocket.MaxMessageSize(messageLimit),
		// The keepalive is on, but its first ping must come after the run, because a
		// ping would come between the bytes that the load generator counts.
		websocket.PingInterval(50 * time.Second),
		websocket.Detached(m == Detached),
	}, more...)
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

func ownChat(room *websocket.Group, c *websocket.Conn) error {
	room.Join(c)
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if err := room.Broadcast(op, data); err != nil {
			return err
		}
	}
}

// ownIdle is ownPlainEcho for a member of a group, who can also send text to all members.
func ownIdle(room *websocket.Group, c *websocket.Conn) error {
	room.Join(c)
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if op == websocket.Text {
			err = room.Broadcast(op, data)
		} else {
			err = c.SendMessage(op, data)
		}
		if err != nil {
			return err
		}
	}
}
