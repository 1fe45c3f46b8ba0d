package faults

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// longText is longer than the read buffer, and longer than a frame that is written in one
// piece.
var longText = strings.Repeat("long ", 4000)

// scriptPause is long enough for the keepalive to send its ping.
const scriptPause = 20 * time.Second

// clientScript is what the client of a session sends.
var clientScript = []struct {
	after time.Duration
	bytes []byte
}{
	{0, wstest.Message(wstest.Text, "text")},
	{0, slices.Concat(wstest.ClientFrame(0x02, "frag"), wstest.Message(wstest.Ping, "between"), wstest.ClientFrame(0x80, "mented"))},
	{0, wstest.Message(wstest.Ping, "ping")},
	{scriptPause, wstest.Message(wstest.Text, longText)},
	{0, wstest.Message(wstest.Text, "")},
	{0, wstest.ClientFrame(0x01, longText)},
	{0, wstest.ClientFrame(0x80, "last")},
}

// clientMessages are the messages of the script.
var clientMessages = []websocket.Message{
	{Opcode: websocket.Text, Data: []byte("text")},
	{Opcode: websocket.Binary, Data: []byte("fragmented")},
	{Opcode: websocket.Text, Data: []byte(longText)},
	{Opcode: websocket.Text, Data: []byte{}},
	{Opcode: websocket.Text, Data: []byte(longText + "last")},
}

// A clientEnd is what the client does at the end of its script.
type clientEnd int

const (
	waitForClose    clientEnd = iota // of the server
	closeAtOnce                      // directly after the last message
	closeWhenEchoed                  // when it has received as many messages as it has sent
)

// A sessionClient follows the script, answers pings and closes, and keeps what it
// receives.
type sessionClient struct {
	client   *wstest.Client
	queue    chan []byte
	ended    chan struct{}
	echoed   chan struct{} // closed when there are as many messages as the script has
	messages []websocket.Message
	err      error // why it stopped reading
}

func startClient(conn net.Conn, end clientEnd) *sessionClient {
	c := &sessionClient{
		client: wstest.NewClient(nil, conn),
		queue:  make(chan []byte, 100),
		ended:  make(chan struct{}),
		echoed: make(chan struct{}),
	}
	go c.write()
	go c.read()
	go c.follow(end)
	return c
}

func (c *sessionClient) follow(end clientEnd) {
	for _, step := range clientScript {
		select {
		case <-time.After(step.after):
			c.queue <- step.bytes
		case <-c.ended:
			return
		}
	}
	if end == closeWhenEchoed {
		select {
		case <-c.echoed:
		case <-c.ended:
		}
	}
	if end != waitForClose {
		c.queue <- wstest.Message(wstest.Close, wstest.ClosePayload(1000, ""))
	}
}

func (c *sessionClient) write() {
	for {
		select {
		case b := <-c.queue:
			if _, err := c.client.Conn.Write(b); err != nil {
				return
			}
		case <-c.ended:
			return
		}
	}
}

func (c *sessionClient) read() {
	defer close(c.ended)
	defer c.client.Conn.Close()
	if c.err = c.client.ReadUpgrade(); c.err != nil {
		return
	}
	var message *websocket.Message
	for {
		f, err := c.client.ReadFrame()
		if err != nil {
			c.err = err
			return
		}
		switch f.Opcode() {
		case wstest.Close:
			c.queue <- wstest.Message(wstest.Close, string(f.Payload))
		case wstest.Ping:
			c.queue <- wstest.Message(wstest.Pong, string(f.Payload))
		case wstest.Text, wstest.Binary, wstest.Continuation:
			message = c.take(message, f)
		}
	}
}

// take adds a data frame to the message that is being received. It returns that message,
// or nil if the message is complete.
func (c *sessionClient) take(message *websocket.Message, f wstest.Frame) *websocket.Message {
	if message == nil {
		message = &websocket.Message{Opcode: websocket.Opcode(f.Opcode())}
	}
	message.Data = append(message.Data, f.Payload...)
	if !f.Fin() {
		return message
	}
	c.messages = append(c.messages, *message)
	if len(c.messages) == len(clientMessages) {
		close(c.echoed)
	}
	return nil
}
