package hostile

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

var (
	pingFlood    = bytes.Repeat(wstest.Message(wstest.Ping, strings.Repeat("p", 125)), 100)
	messageFlood = bytes.Repeat(wstest.Message(wstest.Binary, strings.Repeat("m", 4096)), 4)
)

// waitForEnd neither receives nor sends. It returns when the socket is closed.
func waitForEnd(c *websocket.Conn) error {
	<-c.Context().Done()
	return c.Close(websocket.StatusNormalClosure, "") // the error that the connection ended with
}

// floods are the frames that clients send without end, after one text message. These
// clients never read. perConn limits the memory of a connection, on both sides together.
var floods = []struct {
	name    string
	kind    kind
	fn      websocket.HandlerFunc
	flood   []byte
	perConn uint64
}{
	{"pings", handle, receiveAll, pingFlood, 256 << 10},
	{"pings beside a busy handler", handleConcurrent, waitForEnd, pingFlood, 256 << 10},
	{"pings while a sender is stuck", handleConcurrent, sendWhenAsked(large).fn, pingFlood, 256 << 10},
	{"messages to an echo", handle, echo, messageFlood, 256 << 10},
	{"pings to a MessageFunc", passTo(ignore), waitForEnd, pingFlood, 256 << 10},
	{"messages to a MessageFunc that echoes", passTo(echoes.message), waitForEnd, messageFlood, 256 << 10},
	{"messages to a concurrent echo", handleConcurrent, echo, messageFlood, 384 << 10},
}

func TestHostile_50_clients_that_send_for_ever_and_never_read(t *testing.T) {
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			attackServer(t, tt.kind, nil, limitWriteBuffer(tt.fn), func(l *wstest.Load) {
				clients := l.ConnectAll(wstest.Scale(t, 50, 50))
				var sent atomic.Int64
				peak := l.Peak(func() {
					l.UntilCut(clients, func(c *wstest.Client) {
						c.LimitReadBuffer()
						c.Conn.Write(wstest.Message(wstest.Text, "go"))
						sent.Add(c.Flood(tt.flood))
					}, isWriteTimeout)
				})
				t.Logf("%d KiB were sent", sent.Load()>>10)
				l.WantAtMost(peak, wstest.MemorySlack+uint64(len(clients))*tt.perConn, "peak memory of both sides")
			}, websocket.WriteTimeout(200*time.Millisecond))
		})
	}
}

func TestHostile_slow_readers(t *testing.T) {
	t.Run("50 that read a byte at a time get everything", func(t *testing.T) {
		message := bytes.Repeat([]byte("slow"), 2<<10)
		attack(t, sendWhenAsked(message), func(l *wstest.Load) {
			clients := l.ConnectAll(wstest.Scale(t, 50, 20))
			l.Together(clients, func(c *wstest.Client) error {
				c.LimitReadBuffer()
				c.Conn.Write(wstest.Message(wstest.Text, "go"))
				f, err := wstest.NewClient(nil, oneByteConn{c.Conn}).ReadFrame()
				if err != nil || !bytes.Equal(f.Payload, message) {
					return fmt.Errorf("got %d bytes and error %v, want the %d bytes that were sent", len(f.Payload), err, len(message))
				}
				return nil
			})
		})
	})
	t.Run("50 that take too long are cut off by WriteTimeout", func(t *testing.T) {
		attack(t, sendWhenAsked(large), func(l *wstest.Load) {
			clients := l.ConnectAll(wstest.Scale(t, 50, 50))
			peak := l.Peak(func() {
				l.UntilCut(clients, func(c *wstest.Client) {
					c.LimitReadBuffer()
					c.Conn.Write(wstest.Message(wstest.Text, "go"))
					readSlowly(c)
				}, isWriteTimeout)
			})
			l.WantAtMost(peak, wstest.MemorySlack+uint64(len(clients))*64<<10, "peak memory of both sides")
		}, websocket.WriteTimeout(200*time.Millisecond))
	})
}

// readSlowly reads a byte now and then, until the server cuts the connection.
func readSlowly(c *wstest.Client) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for range pace.C {
		if _, err := c.Conn.Read(make([]byte, 1)); err != nil {
			return
		}
	}
}
