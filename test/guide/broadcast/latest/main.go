// Latest sends a price to each client: always the latest one, and as often as the client can
// read it.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

var price = newCell()

func main() {
	go func() {
		for {
			price.set(fmt.Appendf(nil, "%.2f", 100+rand.Float64()))
			time.Sleep(100 * time.Millisecond)
		}
	}()
	http.Handle("/price", websocket.Handle(serve))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// serve sends the price when it has changed. SendMessage waits for the client, so a slow
// client misses the prices between two calls.
func serve(c *websocket.Conn) error {
	go c.Discard() // unread messages could keep the client's pongs from arriving
	for {
		value, changed := price.get()
		if err := c.SendMessage(websocket.Text, value); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-c.Context().Done():
			return context.Cause(c.Context())
		}
	}
}

// A cell holds a value that changes.
type cell struct {
	mu      sync.Mutex
	value   []byte
	changed chan struct{} // closed when there is another value
}

func newCell() *cell {
	return &cell{changed: make(chan struct{})}
}

func (c *cell) set(value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cell) get() (value []byte, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.changed
}
