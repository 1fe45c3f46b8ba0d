// Echo sends every message back to where it came from, on ws://localhost:8080/echo.
package main

import (
	"log"
	"net/http"

	"github.com/f44ffc3b/websocket"
)

func main() {
	http.Handle("/echo", websocket.Handle(func(c *websocket.Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err // a normal close is no error to anybody: Handle sorts it out
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}))
	log.Fatal(http.ListenAndServe(":8080", nil))
}
