package hostile

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

const offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

// connectDeflate connects n clients that have agreed on compression.
func connectDeflate(l *wstest.Load, n int) []*wstest.Client {
	clients := make([]*wstest.Client, n)
	l.Each(n, 16, func(i int) (err error) {
		if clients[i], err = l.Connect(); err != nil {
			return err
		}
		return clients[i].Upgrade(offer)
	})
	return clients
}

// bomb returns a compressed message of so many MiB, which is a thousandth of its size.
func bomb(mib int) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write(make([]byte, 1<<20))
	w.Flush() // ends with a whole block, so that it can be repeated
	return strings.Repeat(b.String(), mib)
}

func TestHostile_50_decompression_bombs(t *testing.T) {
	const limit = 1 << 20
	payload := bomb(500)
	wires := map[string][]byte{
		"in one frame":    wstest.ClientFrame(0xC2, payload),
		"never-ending":    wstest.ClientFrame(0x42, payload),
		"in small frames": append(wstest.ClientFrame(0x42, ""), bytes.Repeat(wstest.ClientFrame(0x00, payload[:len(payload)/500]), 500)...),
	}
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			attack(t, ignores, func(l *wstest.Load) {
				clients := connectDeflate(l, wstest.Scale(t, 50, 20))
				l.Before = wstest.Measure()
				peak := l.Peak(func() {
					l.Together(clients, func(c *wstest.Client) error {
						c.Conn.Write(wire) // the server may end the connection before
						return nil
					})
					l.WantClosed(clients, 1009)
				})
				l.WantAtMost(peak, uint64(len(clients))*4*limit, "peak memory of both sides")
				l.WantEnds(len(clients), is(websocket.ErrMessageTooLarge))
			}, websocket.Compression(0), websocket.MaxMessageSize(limit))
		})
	}
}

// A client that stops in the middle of a compressed message holds a small decoder and what has
// arrived.
func TestHostile_1000_unfinished_compressed_messages(t *testing.T) {
	attack(t, ignores, func(l *wstest.Load) {
		clients := connectDeflate(l, wstest.Scale(t, 1000, 300))
		frame := wstest.ClientFrame(0xC2, bomb(1)[:20])
		wire := append(wstest.Message(wstest.Ping, ""), frame[:len(frame)-10]...)
		l.Before = wstest.Measure()
		l.Together(clients, func(c *wstest.Client) error {
			if _, err := c.Conn.Write(wire); err != nil {
				return err
			}
			f, err := c.ReadFrame()
			if err == nil && f.Opcode() != wstest.Pong {
				err = fmt.Errorf("got %v, want a pong", f)
			}
			return err
		})
		l.WantAtMost(wstest.Measure().Growth(l.Before), uint64(len(clients))*24<<10+wstest.MemorySlack, "memory for the messages")
	}, websocket.Compression(0))
}
