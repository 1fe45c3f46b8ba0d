package hostile

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// shutdownLimit is the CloseTimeout of TestHostile_2000_clients_of_a_server_that_shuts_down.
const shutdownLimit = time.Second

// sendAll sends until the connection ends.
func sendAll(c *websocket.Conn) error {
	data := bytes.Repeat([]byte("x"), 16<<10)
	for {
		if err := c.SendMessage(websocket.Binary, data); err != nil {
			return err
		}
	}
}

// answerClose reads the server's close frame with 1001, answers it, and reads to the end.
func answerClose(c *wstest.Client) error {
	f, err := c.ReadFrame()
	if err != nil {
		return err
	}
	if code, _, err := f.CloseCode(); err != nil || code != 1001 {
		return errors.Join(err, errors.New("got "+f.String()+", want a close frame with 1001"))
	}
	if _, err := c.Conn.Write(wstest.Message(wstest.Close, string(f.Payload))); err != nil {
		return err
	}
	if _, err := c.Frames.ReadFrame(); err == nil {
		return errors.New("got a frame after the close frame")
	}
	return c.Conn.Close()
}

// readOn reads to the end, and answers nothing.
func readOn(c *wstest.Client) error {
	for {
		if _, err := c.ReadFrame(); err != nil {
			return nil
		}
	}
}

// Connections are closed together. If they were closed one after the other, those whose peers do
// not answer would take CloseTimeout each.
func TestHostile_2000_clients_of_a_server_that_shuts_down(t *testing.T) {
	tests := []struct {
		name   string
		fn     websocket.HandlerFunc
		client func(c *wstest.Client) error
		limit  time.Duration // of ctx
		most   time.Duration // that Shutdown may take
		err    error
	}{
		{"and answer", receiveAll, answerClose, wstest.Patience, 4 * time.Second, nil},
		{"and do not answer", receiveAll, readOn, wstest.Patience, shutdownLimit + 2*time.Second, nil},
		{"and do not read", limitWriteBuffer(sendAll), func(*wstest.Client) error { return nil }, wstest.Patience, shutdownLimit + 2*time.Second, nil},
		{"of HandleMessages, and answer", nil, answerClose, wstest.Patience, 4 * time.Second, nil},
		{"of HandleMessages, and do not answer", nil, readOn, wstest.Patience, shutdownLimit + 2*time.Second, nil},
		{"and do not answer before ctx is done", receiveAll, readOn, shutdownLimit / 8, shutdownLimit, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := wstest.NewLoad(t)
			k, fn := handle, tt.fn
			if fn == nil {
				k, fn = passTo(ignore), waitForEnd
			}
			h := k.handler(wstest.Track(l, fn), websocket.CloseTimeout(shutdownLimit))
			l.Run(h, k.healthy, nil, func() {
				n := min(wstest.Scale(t, 2000, 200), wstest.MaxFiles()/3)
				clients := l.ConnectAll(n)
				ended := make(chan bool)
				go func() { defer close(ended); l.Together(clients, tt.client) }()

				ctx, cancel := context.WithTimeout(context.Background(), tt.limit)
				defer cancel()
				start := time.Now()
				err := h.Shutdown(ctx)
				took := time.Since(start)
				t.Logf("%d connections: %v", n, took.Round(time.Millisecond))
				if err != tt.err || took > tt.most {
					t.Errorf("Shutdown returned %v after %v, want %v within %v", err, took, tt.err, tt.most)
				}
				if err == nil && tt.fn != nil && l.Running() > 0 {
					t.Errorf("%d functions run after Shutdown", l.Running())
				}
				<-ended
				l.WantEnds(n, func(err error) bool {
					return errors.Is(err, net.ErrClosed) && websocket.CloseStatus(err) == 1001
				})
				wstest.Eventually(func() bool { return h.Stats().Open == 0 }) // functions that ctx has cut return later
				if s := h.Stats(); s.Accepted != uint64(n) || s.Open != 0 || s.Closed[1001] != uint64(n) {
					t.Errorf("got %+v, want %d connections that ended with 1001", s, n)
				}
			})
		})
	}
}
