// Package beat has the part of docs/shutdown.md that lets pages notice a lost connection.
package beat

import (
	"context"
	"time"

	"github.com/f44ffc3b/websocket"
)

// beat sends an empty message to each connection of h every 20 s, until ctx is done. It waits
// for no client.
func beat(ctx context.Context, h *websocket.Handler) {
	for ctx.Err() == nil {
		for c := range h.Conns() {
			c.TrySend(websocket.Text, nil)
		}
		time.Sleep(20 * time.Second)
	}
}
