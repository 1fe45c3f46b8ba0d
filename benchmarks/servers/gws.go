package servers

import (
	"net/http"

	"github.com/lxzan/gws"
)

var gwsOptions = gws.ServerOption{
	ReadMaxPayloadSize:  messageLimit,
	WriteMaxPayloadSize: messageLimit,
	CheckUtf8Enabled:    true,
}

var gwsServer = Contestant{
	Name:           "gws",
	Kind:           Peer,
	Modes:          []Mode{Detached, InHandler},
	ChecksUTF8:     true,
	JoinsFragments: true,
	More:           []string{QueuePath, DeflatePath, TakeoverPath, QuietPath},
	Handler: func(m Mode) http.Handler {
		// A Broadcaster only adds to queues, so it is the broadcast with a queue too.
		chat := gwsServe(m, &gwsChat{}, gws.PermessageDeflate{})
		takeover := gwsServe(m, gwsEcho{}, gwsDeflate(true))
		return services{
			EchoPath: gwsServe(m, gwsEcho{}, gws.PermessageDeflate{}), BroadcastPath: chat, QueuePath: chat,
			DeflatePath: gwsServe(m, gwsEcho{}, gwsDeflate(false)), TakeoverPath: takeover, QuietPath: takeover,
		}
	},
}

func gwsDeflate(takeover bool) gws.PermessageDeflate {
	return gws.PermessageDeflate{Enabled: true, ServerContextTakeover: takeover, Threshold: minDeflated}
}

func gwsServe(m Mode, events gws.Event, deflate gws.PermessageDeflate) http.HandlerFunc {
	options := gwsOptions
	options.PermessageDeflate = deflate
	upgrader := gws.NewUpgrader(events, &options)
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		run(m, c.ReadLoop)
	}
}

type gwsEcho struct{ gws.BuiltinEventHandler }

func (gwsEcho) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.WriteMessage(m.Opcode, m.Bytes())
}

type gwsChat struct {
	gws.BuiltinEventHandler
	room hub[*gws.Conn]
}

func (e *gwsChat) OnOpen(c *gws.Conn)             { e.room.join(c) }
func (e *gwsChat) OnClose(c *gws.Conn, err error) { e.room.leave(c) }

func (e *gwsChat) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	b := gws.NewBroadcaster(m.Opcode, m.Bytes())
	defer b.Close()
	e.room.each(func(c *gws.Conn) { b.Broadcast(c) })
}
