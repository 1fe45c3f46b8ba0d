package soak

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// behaviours are the ways in which clients use a connection, each equally often. A healthy
// client must succeed. The results of the other clients are ignored.
var behaviours = []struct {
	name    string
	healthy bool
	run     func(c *wstest.Client) error
}{
	{"echoes", true, exchangeMessages},
	{"echoes fragments", true, exchangeFragments},
	{"is idle across pings", true, answerPings},
	{"leaves at once", true, func(*wstest.Client) error { return nil }},
	{"floods with pings", false, func(c *wstest.Client) error {
		for range 20 {
			if _, err := c.Conn.Write(pingFlood); err != nil {
				return err
			}
		}
		return nil
	}},
	{"floods with messages and never reads", false, func(c *wstest.Client) error {
		c.LimitReadBuffer()
		c.Flood(messageFlood)
		return nil
	}},
	{"reads a byte at a time", false, func(c *wstest.Client) error {
		c.LimitReadBuffer()
		c.Conn.Write(wstest.Message(wstest.Binary, string(make([]byte, 8<<10))))
		_, err := wstest.NewClient(nil, oneByteConn{c.Conn}).ReadFrame()
		return err
	}},
	{"resets", false, func(c *wstest.Client) error {
		c.Conn.Write(wstest.Message(wstest.Text, "hello")[:rand.IntN(11)])
		c.Reset()
		return nil
	}},
	{"breaks a rule", false, func(c *wstest.Client) error {
		c.Conn.Write(brokenRules[rand.IntN(len(brokenRules))])
		_, err := c.ReadClose()
		return err
	}},
	{"declares much", false, func(c *wstest.Client) error {
		c.Conn.Write(wstest.ClientHeader(0x82, 1<<20))
		_, err := c.ReadClose()
		return err
	}},
	{"is silent", false, func(c *wstest.Client) error {
		_, err := c.ReadClose()
		return err
	}},
	{"never answers a close", false, func(c *wstest.Client) error {
		c.Conn.Write(wstest.Message(wstest.Text, "close"))
		_, err := io.Copy(io.Discard, c.Conn)
		return err
	}},
}

var (
	pingFlood    = bytes.Repeat(wstest.Message(wstest.Ping, strings.Repeat("p", 125)), 100)
	messageFlood = bytes.Repeat(wstest.Message(wstest.Binary, strings.Repeat("m", 4096)), 4)
)

// oneByteConn reads a byte at a time.
type oneByteConn struct{ net.Conn }

func (c oneByteConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(len(p), 1)]) }

// brokenRules are frames that end a connection.
var brokenRules = [][]byte{
	{0x81, 0x00},
	{0xc1, 0x80, 0, 0, 0, 0},
	wstest.Message(wstest.Continuation, "of nothing"),
	wstest.Message(wstest.Text, "\xff"),
	wstest.Message(0xb, ""),
	wstest.ClientFrame(wstest.Ping, ""),
	[]byte("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00keys"),
	wstest.ClientHeader(0x82, 1<<40),
}

// exchangeMessages sends messages of all sizes and checks their echoes.
func exchangeMessages(c *wstest.Client) error {
	for range 20 {
		message := make([]byte, rand.IntN(1<<rand.IntN(17)+1))
		for i := range message {
			message[i] = byte(i)
		}
		if err := exchange(c, message, wstest.Message(wstest.Binary, string(message))); err != nil {
			return err
		}
	}
	return nil
}

func exchangeFragments(c *wstest.Client) error {
	for range 10 {
		part := strings.Repeat("piece", rand.IntN(500))
		wire := slices.Concat(wstest.ClientFrame(0x01, part), wstest.Message(wstest.Ping, "between"), wstest.ClientFrame(0x80, part))
		if err := exchange(c, []byte(part+part), wire); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends wire and checks that the next frame that is not a ping or a pong
// is message.
func exchange(c *wstest.Client, message, wire []byte) error {
	if _, err := c.Conn.Write(wire); err != nil {
		return err
	}
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		if f.IsControl() && f.Opcode() != wstest.Close {
			continue
		}
		if !f.Fin() || !bytes.Equal(f.Payload, message) {
			return fmt.Errorf("got %v, want %s", f, wstest.Hex(message))
		}
		return nil
	}
}

// answerPings answers three pings and does nothing else.
func answerPings(c *wstest.Client) error {
	for range 3 {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		if f.Opcode() != wstest.Ping {
			return fmt.Errorf("got %v, want a ping", f)
		}
		if _, err := c.Conn.Write(wstest.Message(wstest.Pong, string(f.Payload))); err != nil {
			return err
		}
	}
	return nil
}
