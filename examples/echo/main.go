// Echo is a WebSocket server at ws://localhost:8080/echo that sends every message back
// to its client.
//
//	go run ./examples/echo
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

func main() {
	http.Handle("/echo", websocket.Handle(echo))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 5 * time.Second, // a client must send its handshake in this time
		// These two are for other requests. A WebSocket has timeouts of its own.
		ReadTimeout:  10 * time.Second, // also the time in which a client must send its next request
		WriteTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// echo sends every message back until the connection ends.
func echo(c *websocket.Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err // Handle does not report the error of a normal close
		}
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}
