// Package finish has the second program of docs/shutdown.md: a server of jobs, whose
// answers are still sent when the server stops.
package finish

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

// serveJobs answers each message when its job is done. When stop is done, it receives nothing
// more, and returns when the jobs in progress are answered.
func serveJobs(stop context.Context, c *websocket.Conn, job func([]byte) []byte) error {
	defer context.AfterFunc(stop, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	var jobs sync.WaitGroup
	for msg, err := range c.Messages() {
		if errors.Is(err, os.ErrDeadlineExceeded) && stop.Err() != nil {
			jobs.Wait()
			return &websocket.CloseError{Code: websocket.StatusGoingAway}
		}
		if err != nil {
			return err
		}
		jobs.Go(func() { c.SendMessage(msg.Opcode, job(msg.Data)) })
	}
	return nil
}

// awaitEnd waits until the connections of h have ended, or ctx is done.
func awaitEnd(ctx context.Context, h *websocket.Handler) {
	for c := range h.Conns() {
		select {
		case <-c.Context().Done():
		case <-ctx.Done():
		}
	}
}
