package main

import (
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/f44ffc3b/websocket"
)

// statusLogin is the close code that tells the client to send another token.
const statusLogin websocket.StatusCode = 4401

const (
	loginTime   = 10 * time.Second // in which the first message must be complete
	loginSize   = 4 << 10          // of the messages before the login
	messageSize = 1 << 20          // of those after it
)

// An account is what a token stands for.
type account struct {
	user    string
	expires time.Time
}

// verify returns the account of a token. A real server verifies the signature of the token,
// or looks it up in its database.
var verify = func(token string) (account, bool) {
	return account{"Ada", time.Now().Add(15 * time.Minute)}, token == "x7Jq-Zw"
}

// A message of a client has a token, or a text.
type message struct {
	Token string `json:"token,omitempty"`
	Text  string `json:"text,omitempty"`
}

func main() {
	http.Handle("/ws", websocket.Handle(serve, websocket.MaxMessageSize(loginSize)))
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// serve sends each text back, with the name of the user.
func serve(c *websocket.Conn) error {
	a, err := login(c)
	if err != nil {
		return err
	}
	expiry := time.AfterFunc(time.Until(a.expires), func() {
		c.StartClose(statusLogin, "the token has expired")
	})
	defer expiry.Stop()
	for {
		var m message
		if err := c.ReceiveJSON(&m); err != nil {
			return err
		}
		if m.Token != "" { // the client renews its login
			next, ok := verify(m.Token)
			if !ok || next.user != a.user {
				return &websocket.CloseError{Code: statusLogin, Reason: "the token is not valid"}
			}
			expiry.Reset(time.Until(next.expires))
			continue
		}
		if err := c.SendJSON(message{Text: a.user + ": " + m.Text}); err != nil {
			return err
		}
	}
}

// login receives the first message, which must have a token.
func login(c *websocket.Conn) (account, error) {
	c.SetReadDeadline(time.Now().Add(loginTime))
	var m message
	err := c.ReceiveJSON(&m)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &websocket.CloseError{Code: statusLogin, Reason: "there was no token in time"}
	}
	if err != nil {
		return account{}, err
	}
	a, ok := verify(m.Token)
	if !ok {
		return account{}, &websocket.CloseError{Code: statusLogin, Reason: "the token is not valid"}
	}
	c.SetReadDeadline(time.Time{})
	return a, c.SetMaxMessageSize(messageSize)
}
