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

// authenticate adds the user to the context of the request, and refuses requests without a
// valid token.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := users[offeredToken(r)]
		if !ok {
			if r.ProtoMajor == 1 { // over HTTP/2, it would end the streams of other requests too
				w.Header().Set("Connection", "close") // as after each refused handshake
			}
			http.Error(w, "the subprotocol bearer.<token> has no valid token", http.StatusUnauthorized)
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
	http.Handle("/ws", authenticate(websocket.Handle(serve, websocket.Subprotocols("chat.v1"))))
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
