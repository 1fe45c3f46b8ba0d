package servers

import (
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

// nbioServer runs on nbio's event engine, which needs no goroutine for a connection. The
// engine polls sockets, so in memory the contestant runs on net/http.
var nbioServer = Contestant{
	Name:           "nbio",
	Kind:           Peer,
	Modes:          []Mode{Detached},
	ChecksUTF8:     true,
	JoinsFragments: true,
	More:           []string{QueuePath, DeflatePath, QuietPath},
	Handler:        func(Mode) http.Handler { return nbioHandler(nbhttp.NewEngine(nbioConfig())) },
	Listen:         nbioListen,
}

func nbioConfig() nbhttp.Config {
	logging.SetLevel(logging.LevelNone)
	return nbhttp.Config{
		MaxLoad:                      1 << 20,
		ReleaseWebsocketPayload:      true,
		MaxWebsocketFramePayloadSize: messageLimit,
	}
}

func nbioListen(ln net.Listener) error {
	config := nbioConfig()
	config.Network, config.Addrs = "tcp", []string{ln.Addr().String()}
	config.Listen = func(string, string) (net.Listener, error) { return ln, nil }
	engine := nbhttp.NewEngine(config)
	engine.Handler = nbioHandler(engine)
	if err := engine.Start(); err != nil {
		return err
	}
	select {} // the engine's goroutines serve until the process ends
}

func nbioHandler(engine *nbhttp.Engine) http.Handler {
	room := new(hub[*websocket.Conn])
	echo, chat, deflate := nbioUpgrader(engine), nbioUpgrader(engine), nbioUpgrader(engine)
	deflate.EnableCompression(true)
	for _, u := range []*websocket.Upgrader{echo, deflate} {
		u.OnOpen(func(c *websocket.Conn) { c.EnableWriteCompression(u == deflate) })
		u.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, data []byte) {
			c.WriteMessage(kind, data)
		})
	}
	chat.OnOpen(room.join)
	chat.OnClose(func(c *websocket.Conn, _ error) { room.leave(c) })
	chat.OnMessage(func(_ *websocket.Conn, kind websocket.MessageType, data []byte) {
		room.each(func(c *websocket.Conn) { c.WriteMessage(kind, data) })
	})
	// The engine queues what a socket does not take, so this is the broadcast with a queue too.
	return services{
		EchoPath: nbioServe(echo), BroadcastPath: nbioServe(chat), QueuePath: nbioServe(chat),
		DeflatePath: nbioServe(deflate), QuietPath: nbioServe(deflate),
	}
}

func nbioUpgrader(engine *nbhttp.Engine) *websocket.Upgrader {
	u := websocket.NewUpgrader()
	u.Engine = engine
	u.BlockingModAsyncWrite = false // it only helps broadcasts to slow clients through net/http
	return u
}

func nbioServe(u *websocket.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { u.Upgrade(w, r, nil) }
}
