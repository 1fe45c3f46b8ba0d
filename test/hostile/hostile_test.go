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

// A handleFunc is websocket.Handle, websocket.HandleConcurrent or a result of passTo.
type handleFunc = func(websocket.HandlerFunc, ...websocket.Option) *websocket.Handler

// attack runs clients against a server whose handler is Handle(fn, opts...). A
// healthy client is served meanwhile, and everything that the attack used must be
// released after it.
func attack(t *testing.T, fn websocket.HandlerFunc, clients func(l *wstest.Load), opts ...websocket.Option) {
	t.Helper()
	attackServer(t, websocket.Handle, nil, fn, clients, opts...)
}

// attackServer is attack with handle in place of Handle. configure, unless nil, changes the
// server before it starts.
func attackServer(t *testing.T, handle handleFunc, configure func(*http.Server), fn websocket.HandlerFunc, clients func(l *wstest.Load), opts ...websocket.Option) {
	t.Helper()
	l := wstest.NewLoad(t)
	l.Run(handle(wstest.Track(l, fn), opts...), websocket.Handle(echo), configure, func() { clients(l) })
}

// passTo serves connections with HandleMessages and passes their messages to fn. The HandlerFunc
// gets no messages: it runs beside fn and tells the load of the end, see waitForEnd.
func passTo(fn func(c *websocket.Conn, op websocket.Opcode, data []byte) error) handleFunc {
	return func(beside websocket.HandlerFunc, opts ...websocket.Option) *websocket.Handler {
		return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
			go beside(c)
			return func(op websocket.Opcode, data []byte) error { return fn(c, op, data) }, nil
		}, opts...)
	}
}

// passToEcho, passToNothing and passToSendOrClose are echo, receiveAll and sendOrClose with
// HandleMessages.
var (
	passToEcho        = passTo((*websocket.Conn).SendMessage)
	passToNothing     = passTo(func(*websocket.Conn, websocket.Opcode, []byte) error { return nil })
	passToSendOrClose = passTo(func(c *websocket.Conn, _ websocket.Opcode, data []byte) error {
		switch string(data) {
		case "send":
			return c.SendMessage(websocket.Binary, large)
		case "close":
			return c.StartClose(websocket.StatusNormalClosure, "")
		}
		return nil
	})
)

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
		if conn, ok := c.NetConn().(*net.TCPConn); ok {
			conn.SetWriteBuffer(4096)
		}
		return fn(c)
	}
}

// sendWhenAsked returns a handler that answers every message with data.
func sendWhenAsked(data []byte) websocket.HandlerFunc {
	return limitWriteBuffer(func(c *websocket.Conn) error {
		for {
			if _, _, err := c.ReceiveMessage(); err != nil {
				return err
			}
			if err := c.SendMessage(websocket.Binary, data); err != nil {
				return err
			}
		}
	})
}

// sendOrClose sends much after the message "send", and closes the connection after the
// message "close".
func sendOrClose(c *websocket.Conn) error {
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
}

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
