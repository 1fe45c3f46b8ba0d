package finish

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

func TestServeJobs(t *testing.T) {
	tests := []struct {
		name    string
		jobs    int
		job     time.Duration
		answers int           // that arrive
		took    time.Duration // to shut down
	}{
		{"no job is in progress", 0, 0, 0, 0},
		{"the jobs in progress are answered", 3, 4 * time.Second, 3, 4 * time.Second},
		{"a job takes too long", 1, time.Minute, 0, time.Minute}, // the function waits for it
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop, cancel := context.WithCancel(context.Background())
				h := websocket.Handle(func(c *websocket.Conn) error {
					return serveJobs(stop, c, func(data []byte) []byte { time.Sleep(tt.job); return data })
				})
				c := websockettest.Dial(t, h)
				for range tt.jobs {
					c.Send(websocket.Text, []byte("job"))
				}
				synctest.Wait()
				begin := time.Now()
				took := make(chan time.Duration)
				go func() {
					cancel()
					grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					defer cancel()
					awaitEnd(grace, h)
					h.Shutdown(context.Background())
					took <- time.Since(begin)
				}()
				for range tt.answers {
					if _, data := c.Receive(); string(data) != "job" {
						t.Errorf("got %q, want the answer", data)
					}
				}
				c.WantClose(websocket.StatusGoingAway)
				if got := <-took; got != tt.took {
					t.Errorf("it took %v to shut down, want %v", got, tt.took)
				}
			})
		})
	}
}

// docs/shutdown.md says that drain, which calls StartClose, must not be called before awaitEnd.
func TestServeJobs_loses_answers_after_StartClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := websocket.Handle(func(c *websocket.Conn) error {
			return serveJobs(t.Context(), c, func(data []byte) []byte { time.Sleep(4 * time.Second); return data })
		})
		c := websockettest.Dial(t, h)
		c.Send(websocket.Text, []byte("job"))
		synctest.Wait()
		for c := range h.Conns() {
			c.StartClose(websocket.StatusGoingAway, "")
		}
		time.Sleep(5 * time.Second) // longer than the job
		if f := c.ReceiveFrame(); f.Opcode != websocket.Close {
			t.Errorf("got a frame with opcode %v, want a close frame and no answer", f.Opcode)
		}
	})
}
