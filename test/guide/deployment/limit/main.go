// Limit serves at most 10,000 WebSockets at the same time.
package main

import (
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket"
)

func main() {
	echo := websocket.Handle(serve)
	server := &http.Server{
		Addr:              ":8080",
		Handler:           limit(10_000, new(atomic.Int64), echo),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// limit answers requests with 503 while h serves n of them. open counts those that it serves.
func limit(n int64, open *atomic.Int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer open.Add(-1)
		if open.Add(1) <= n {
			h.ServeHTTP(w, r)
			return
		}
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // a proxy may forward raw bytes already, see below
		}
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
	})
}

// serve sends every message back.
func serve(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}
