package hostile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// resets are the moments at which a client resets its connection.
var resets = []struct {
	name   string
	served bool // a handler runs at that moment
	send   string
	wait   bool // the client waits for a byte of the server
}{
	{name: "before the handshake"},
	{name: "in the middle of the handshake", send: wstest.Handshake()[:40]},
	{name: "after the handshake", served: true},
	{name: "in the middle of a header", served: true, send: string(wstest.Message(wstest.Text, "hello")[:1])},
	{name: "in the middle of a length", served: true, send: string(wstest.ClientHeader(0x82, 1<<20)[:5])},
	{name: "in the middle of a frame", served: true, send: string(wstest.Message(wstest.Text, "hello")[:8])},
	{name: "between fragments", served: true, send: string(wstest.ClientFrame(0x01, "hello"))},
	{name: "after a ping", served: true, send: string(wstest.Message(wstest.Ping, "hello"))},
	{name: "while the server sends much to it", served: true, send: string(wstest.Message(wstest.Text, "send")), wait: true},
	{name: "instead of answering a close", served: true, send: string(wstest.Message(wstest.Text, "close")), wait: true},
	{name: "after its own close", served: true, send: string(wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))},
	{name: "after a broken rule", served: true, send: "\x81\x00"},
}

func TestHostile_100_resets_at_every_moment(t *testing.T) {
	for _, tt := range resets {
		t.Run(tt.name, func(t *testing.T) {
			attack(t, sendOrClose, func(l *wstest.Load) {
				n := wstest.Scale(t, 100, 50)
				l.Each(n, 16, func(int) error {
					c, err := l.Connect()
					if err == nil && tt.served {
						err = c.Upgrade()
					}
					if err != nil {
						return err
					}
					io.WriteString(c.Conn, tt.send)
					if tt.wait {
						_, err = c.Conn.Read(make([]byte, 1))
					}
					c.Reset()
					return err
				})
				if !tt.served {
					n = 0
				}
				l.WantEnds(n, anyError)
			})
		})
	}
}

// closedHere reports whether a connection was closed with 1000: the error of Close, if its peer does not
// answer, or that with which StartClose ends it.
func closedHere(err error) bool {
	return errors.Is(err, websocket.ErrCloseTimeout) || websocket.CloseStatus(err) == websocket.StatusNormalClosure
}

func TestHostile_200_peers_that_never_answer_a_close(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, flood := range map[string][]byte{
		"and are silent":            nil,
		"and keep sending messages": bytes.Repeat(wstest.Message(wstest.Binary, strings.Repeat("m", 1000)), 10),
		"and keep sending pings":    bytes.Repeat(wstest.Message(wstest.Ping, "p"), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, sendOrClose, func(l *wstest.Load) {
				clients := l.ConnectAll(wstest.Scale(t, 200, 50))
				peak := l.Peak(func() {
					l.UntilCut(clients, func(c *wstest.Client) {
						c.Conn.Write(wstest.Message(wstest.Text, "close"))
						if flood != nil {
							c.Flood(flood)
						}
					}, closedHere)
				})
				l.WantAtMost(peak, wstest.MemorySlack+uint64(len(clients))*128<<10, "peak memory of both sides")
			}, websocket.CloseTimeout(limit))
		})
	}
}
