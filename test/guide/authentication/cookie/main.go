package main

import (
	"context"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

// statusLogin is the close code that tells the client to log in again.
const statusLogin websocket.StatusCode = 4401

// A session begins when a user logs in.
type session struct {
	id, user string          // id is the value of the cookie
	conns    websocket.Group // the connections of the session
}

// sessions has each *session under its id. A real server keeps them in its database.
var sessions sync.Map

func begin(s *session) { sessions.Store(s.id, s) }

// end ends the session: its cookie is not valid any more, and its connections are closed.
func (s *session) end() {
	sessions.Delete(s.id)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.conns.Close(ctx, statusLogin, "log in again")
}

type sessionKey struct{}

// loginFirst tells clients to log in. It accepts their handshakes, because a page sees the code of
// a close frame, but not the status of a refused handshake.
var loginFirst = websocket.Handle(func(*websocket.Conn) error {
	return &websocket.CloseError{Code: statusLogin, Reason: "log in"}
})

// authenticate adds the session to the context of the request, and passes requests without one
// to loginFirst.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var s any
		cookie, err := r.Cookie("session")
		if err == nil {
			s, _ = sessions.Load(cookie.Value)
		}
		if s == nil {
			loginFirst.ServeHTTP(w, r)
			return
		}
		ctx := context.WithValue(r.Context(), sessionKey{}, s)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func main() {
	begin(&session{id: "4f2c8a", user: "Ada"})
	http.Handle("/ws", authenticate(websocket.Handle(serve, websocket.MaxLifetime(time.Hour))))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// serve greets the user, and answers nothing else.
func serve(c *websocket.Conn) error {
	s := c.Context().Value(sessionKey{}).(*session)
	if !s.conns.Join(c) { // the session has ended since the handshake
		return &websocket.CloseError{Code: statusLogin, Reason: "log in again"}
	}
	if err := c.SendMessage(websocket.Text, []byte("hello "+s.user)); err != nil {
		return err
	}
	return c.Discard()
}
