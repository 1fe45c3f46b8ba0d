// Package guide has the code of docs/many-machines.md, so that it is compiled and run.
package guide

import (
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/f44ffc3b/websocket"
)

// A users holds the connections of each user to this machine. A user may have several, for
// example a phone and two tabs.
type users struct {
	mu      sync.Mutex
	byToken map[string]map[*websocket.Conn]bool // the token of a user is part of a subject
}

// add adds a connection, and returns the function that removes it.
func (u *users) add(token string, c *websocket.Conn) (remove func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byToken == nil {
		u.byToken = make(map[string]map[*websocket.Conn]bool)
	}
	if u.byToken[token] == nil {
		u.byToken[token] = make(map[*websocket.Conn]bool)
	}
	u.byToken[token][c] = true
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.byToken[token], c)
		if len(u.byToken[token]) == 0 {
			delete(u.byToken, token)
		}
	}
}

// deliver sends a message to the connections of a user to this machine. It waits for none.
func (u *users) deliver(token string, data []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.byToken[token] {
		if c.TrySend(websocket.Text, data) != nil {
			c.StartClose(websocket.StatusTryAgainLater, "this connection is too slow")
		}
	}
}

// subscribe delivers the messages for all users that come from the bus.
func (u *users) subscribe(nc *nats.Conn) (*nats.Subscription, error) {
	return nc.Subscribe("user.*", func(m *nats.Msg) {
		u.deliver(strings.TrimPrefix(m.Subject, "user."), m.Data)
	})
}

// handler serves the connections. tokenOf authenticates a request. It returns "" if the user has
// to log in.
func (u *users) handler(tokenOf func(*websocket.Conn) (token string, err error)) *websocket.Handler {
	return websocket.Handle(func(c *websocket.Conn) error {
		token, err := tokenOf(c)
		if err != nil {
			return err
		}
		if token == "" {
			return &websocket.CloseError{Code: 4401, Reason: "log in"} // the client does not reconnect by itself
		}
		defer u.add(token, c)()
		return c.Discard() // until the connection ends
	})
}

// sendTo sends a message to a user, whatever machine the user is connected to.
func sendTo(nc *nats.Conn, token string, data []byte) error {
	return nc.Publish("user."+token, data)
}
