// Room sends each message of a client to all clients.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

var room websocket.Group

func main() {
	http.Handle("/room", websocket.Handle(serve, websocket.SendQueue(256<<10), websocket.MaxMessageSize(16<<10)))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// serve sends each message of c to all members, and c is one of them.
func serve(c *websocket.Conn) error {
	if !room.Join(c) { // room.Close was called, or c has ended
		return &websocket.CloseError{Code: websocket.StatusGoingAway}
	}
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := room.Broadcast(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}
