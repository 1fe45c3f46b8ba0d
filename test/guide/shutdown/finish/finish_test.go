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
