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
	l := &limit{most: 10_000}
	echo := websocket.Handle(func(c *websocket.Conn) error {
		if err := l.enter(); err != nil {
			return err
		}
		return serve(c)
	}, websocket.OnClose(l.leave))
	server := &http.Server{
		Addr:              ":8080",
		Handler:           l.refuse(echo),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// A limit counts the open connections.
type limit struct {
	most int64
	open atomic.Int64
}

// refuse answers requests with 503 while h has as many connections as it may have.
func (l *limit) refuse(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.open.Load() < l.most {
			h.ServeHTTP(w, r)
			return
		}
		if r.ProtoMajor == 1 { // over HTTP/2, it would end the streams of other requests too
			w.Header().Set("Connection", "close") // a proxy may forward raw bytes already, see below
		}
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
	})
}

// enter counts a connection, at the beginning of its function. It returns an error for one too
// many, whose handshake was in progress when another one took the last place.
func (l *limit) enter() error {
	if l.open.Add(1) > l.most {
		return &websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: "too many connections"}
	}
	return nil
}

// leave is for OnClose, which is called for each connection whose function has begun.
func (l *limit) leave(*websocket.Conn, error) { l.open.Add(-1) }

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
