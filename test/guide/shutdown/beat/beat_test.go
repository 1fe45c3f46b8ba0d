package beat

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// Each client gets a message within 20 s, and then every 20 s, also beside one that does not read.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := websocket.Handle((*websocket.Conn).Discard)
		done := make(chan struct{})
		go func() { beat(ctx, h); close(done) }()
		time.Sleep(15 * time.Second)
		slow, c := websockettest.Dial(t, h), websockettest.Dial(t, h)
		slow.StopReading()
		connected := time.Now()
		for i := range 3 {
			op, data := c.Receive()
			if op != websocket.Text || len(data) != 0 {
				t.Errorf("got %v %q, want an empty text", op, data)
			}
			if got, want := time.Since(connected), time.Duration(5+20*i)*time.Second; got != want {
				t.Errorf("message %d came after %v, want %v", i, got, want)
			}
		}
		cancel()
		<-done
	})
}
