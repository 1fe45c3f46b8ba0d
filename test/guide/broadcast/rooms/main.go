// Rooms sends each message of a client to all clients in the same room, and tells them when a
// client comes or leaves.
package main

import (
	"log"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket"
)

func main() {
	rs := rooms{byName: make(map[string]*room)}
	http.Handle("/rooms/{room}", websocket.Handle(rs.serve, websocket.SendQueue(256<<10), websocket.MaxMessageSize(16<<10)))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// rooms has the rooms that are in use, by their names.
type rooms struct {
	mu     sync.Mutex
	byName map[string]*room
}

const maxName = 64 // bytes: the name is sent with each message

// A room counts the functions that use it. Len of the group is not enough to know when the room
// can go, because a connection leaves its groups before its function returns.
type room struct {
	members websocket.Group
	users   int // rooms.mu guards it
}

// serve serves a client in the room that the path names.
func (rs *rooms) serve(c *websocket.Conn) error {
	name, user := c.Request().PathValue("room"), c.Request().URL.Query().Get("user")
	if len(user) > maxName || !utf8.ValidString(user) { // a URL can have any bytes
		return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "want a short name in UTF-8"}
	}
	r := rs.enter(c, name, user)
	defer rs.leave(c, r, name, user)
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if msg.Opcode != websocket.Text {
			return &websocket.CloseError{Code: websocket.StatusUnsupportedData, Reason: "want text"}
		}
		text := append([]byte(user+": "), msg.Data...)
		if err := r.members.Broadcast(websocket.Text, text); err != nil {
			return err
		}
	}
	return nil
}

// enter lets c join a room, after it has told the others.
func (rs *rooms) enter(c *websocket.Conn, name, user string) *room {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byName[name]
	if r == nil {
		r = new(room)
		rs.byName[name] = r
	}
	r.users++
	r.members.Broadcast(websocket.Text, []byte(user+" has come"))
	r.members.Join(c)
	return r
}

// leave tells the others that c has left, however its connection has ended.
func (rs *rooms) leave(c *websocket.Conn, r *room, name, user string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.members.Leave(c) // after an error of serve itself, c is still open
	r.members.Broadcast(websocket.Text, []byte(user+" has left"))
	if r.users--; r.users == 0 {
		delete(rs.byName, name)
	}
}
