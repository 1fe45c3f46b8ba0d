package hostile

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// attack runs clients against a server that serves them with Handle, and then against one that
// serves them with HandleMessages. A healthy client is served meanwhile, and everything that the
// attack used must be released after it.
func attack(t *testing.T, with service, clients func(l *wstest.Load), opts ...websocket.Option) {
	t.Run("Handle", func(t *testing.T) {
		attackServer(t, handle, nil, with.fn, clients, opts...)
	})
	t.Run("HandleMessages", func(t *testing.T) {
		attackServer(t, passTo(with.message), nil, waitForEnd, clients, opts...)
	})
}

// A service is what a server does with the messages of its clients. With HandleMessages, message
// gets them.
type service struct {
	fn      websocket.HandlerFunc
	message messageFunc
}

type messageFunc = func(c *websocket.Conn, op websocket.Opcode, data []byte) error

var (
	echoes  = service{echo, (*websocket.Conn).SendMessage}
	ignores = service{receiveAll, ignore}
)

// attackServer is attack with one kind of handler. configure, unless nil, changes the server
// before it starts.
func attackServer(t *testing.T, k kind, configure func(*http.Server), fn websocket.HandlerFunc, clients func(l *wstest.Load), opts ...websocket.Option) {
	t.Helper()
	l := wstest.NewLoad(t)
	l.Run(k.handler(wstest.Track(l, fn), opts...), k.healthy, configure, func() { clients(l) })
}

// A kind is a kind of handler.
type kind struct {
	handler func(websocket.HandlerFunc, ...websocket.Option) *websocket.Handler
	healthy http.Handler // an echo of this kind, for the healthy client
}

var (
	handle           = kind{websocket.Handle, websocket.Handle(echo)}
	handleConcurrent = kind{websocket.HandleConcurrent, websocket.HandleConcurrent(echo)}
)

// passTo is the kind that passes messages to fn, with HandleMessages. The HandlerFunc gets no
// messages: it runs beside fn and tells the load of the end, see waitForEnd.
func passTo(fn messageFunc) kind {
	handler := func(beside websocket.HandlerFunc, opts ...websocket.Option) *websocket.Handler {
		return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
			go beside(c)
			return func(op websocket.Opcode, data []byte) error { return fn(c, op, data) }, nil
		}, opts...)
	}
	return kind{handler, inLoop}
}

// inLoop is an echo in the event loop.
var inLoop = websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
	return c.SendMessage, nil
})

// ignore is receiveAll for HandleMessages.
func ignore(*websocket.Conn, websocket.Opcode, []byte) error { return nil }

// echo is the echo handler of the package's documentation.
func echo(c *websocket.Conn) error {
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

// receiveAll receives messages until the connection ends.
func receiveAll(c *websocket.Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
	}
}

// limitWriteBuffer returns fn with a small write buffer in the socket of the server.
func limitWriteBuffer(fn websocket.HandlerFunc) websocket.HandlerFunc {
	return func(c *websocket.Conn) error {
		setWriteBuffer(c)
		return fn(c)
	}
}

func setWriteBuffer(c *websocket.Conn) {
	if conn, ok := c.NetConn().(*net.TCPConn); ok {
		conn.SetWriteBuffer(4096)
	}
}

// sendWhenAsked answers every message with data.
func sendWhenAsked(data []byte) service {
	answer := func(c *websocket.Conn, _ websocket.Opcode, _ []byte) error {
		setWriteBuffer(c)
		return c.SendMessage(websocket.Binary, data)
	}
	return service{func(c *websocket.Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err
			}
			if err := answer(c, op, data); err != nil {
				return err
			}
		}
	}, answer}
}

// sendOrClose sends much after the message "send", and closes the connection after the
// message "close".
var sendOrClose = service{func(c *websocket.Conn) error {
	for {
		_, data, err := c.ReceiveMessage()
		switch {
		case err != nil:
			return err
		case string(data) == "send":
			err = c.SendMessage(websocket.Binary, large)
		case string(data) == "close":
			err = c.Close(websocket.StatusNormalClosure, "")
		}
		if err != nil {
			return err
		}
	}
}, func(c *websocket.Conn, _ websocket.Opcode, data []byte) error {
	switch string(data) {
	case "send":
		return c.SendMessage(websocket.Binary, large)
	case "close":
		return c.StartClose(websocket.StatusNormalClosure, "")
	}
	return nil
}}

// large is more than the buffers between a server and a client hold.
var large = make([]byte, 16<<20)

// oneByteConn reads a byte at a time.
type oneByteConn struct{ net.Conn }

func (c oneByteConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(len(p), 1)]) }

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func anyError(err error) bool { return err != nil }

func isWriteTimeout(err error) bool { return strings.Contains(err.Error(), "WriteTimeout") }
