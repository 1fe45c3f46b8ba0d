package main

import (
	"context"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
)

// users are found by their tokens. A real server verifies the signature of a token, or looks
// it up in its database.
var users = map[string]string{"eyJ1IjoiQWRhIn0.x7Jq-Zw": "Ada"}

type userKey struct{}

// chat is the subprotocol that the server agrees to.
var chat = websocket.Subprotocols("chat.v1")

// loginFirst tells clients to get another token. It accepts their handshakes, because a page sees
// the code of a close frame, but not the status of a refused handshake.
var loginFirst = websocket.Handle(func(*websocket.Conn) error {
	return &websocket.CloseError{Code: 4401, Reason: "the subprotocol bearer.<token> has no valid token"}
}, chat)

// authenticate adds the user to the context of the request, and passes requests without a valid
// token to loginFirst.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := users[offeredToken(r)]
		if !ok {
			loginFirst.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

// offeredToken returns the token that the client offers as a subprotocol, "" for none.
func offeredToken(r *http.Request) string {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(name), "bearer."); ok {
				return token
			}
		}
	}
	return ""
}

func main() {
	http.Handle("/ws", authenticate(websocket.Handle(serve, chat)))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// serve greets the user, and answers nothing else.
func serve(c *websocket.Conn) error {
	user := c.Context().Value(userKey{}).(string)
	if err := c.SendMessage(websocket.Text, []byte("hello "+user)); err != nil {
		return err
	}
	return c.Discard()
}
