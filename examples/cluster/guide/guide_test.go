package guide

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// Each Go block of the page must be in this package.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/many-machines.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("guide.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) < 3 {
		t.Errorf("the page has %d blocks of Go, want those of this package", len(blocks))
	}
	for _, rest := range blocks {
		block, _, _ := strings.Cut(rest, "```")
		if !strings.Contains(string(code), block) {
			t.Errorf("guide.go does not have this block of the page:\n%s", block)
		}
	}
}

// A message reaches all connections of a user, on every machine, and no other user.
func TestSendTo(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS has not started")
	}
	tokenOf := func(c *websocket.Conn) (string, error) { return c.Request().URL.Query().Get("user"), nil }
	var machines []*users
	var connections []*nats.Conn
	for range 2 {
		nc, err := nats.Connect(ns.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		u := &users{}
		if _, err := u.subscribe(nc); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil { // NATS has the subscription
			t.Fatal(err)
		}
		machines, connections = append(machines, u), append(connections, nc)
	}
	dial := func(machine int, token string) *websockettest.Client {
		c := websockettest.Dial(t, machines[machine].handler(tokenOf), websockettest.URL("/?user="+token))
		for end := time.Now().Add(30 * time.Second); !machines[machine].has(token); {
			if time.Now().After(end) {
				t.Fatalf("%s is not connected", token)
			}
			time.Sleep(time.Millisecond)
		}
		return c
	}
	phone, tab, other := dial(0, "ada"), dial(1, "ada"), dial(1, "bob")
	for i, token := range []string{"ada", "bob"} {
		if err := sendTo(connections[i], token, []byte("for "+token)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*websockettest.Client{phone, tab} {
		if _, data := c.Receive(); string(data) != "for ada" {
			t.Errorf("a client of ada got %q", data)
		}
	}
	if _, data := other.Receive(); string(data) != "for bob" {
		t.Errorf("the client of bob got %q, want only its own message", data)
	}
}

// A client that is not logged in must not reconnect, and is not an error of the server.
func TestHandler_without_a_login(t *testing.T) {
	tests := []struct {
		name string
		err  error // of tokenOf
		code websocket.StatusCode
	}{
		{"not logged in", nil, 4401},
		{"the database has failed", errors.New("no database"), websocket.StatusInternalError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tokenOf := func(*websocket.Conn) (string, error) { return "", tt.err }
			websockettest.Dial(t, new(users).handler(tokenOf)).WantClose(tt.code)
		})
	}
}

// A connection that has ended is removed.
func TestAdd_remove(t *testing.T) {
	u := &users{}
	remove, again := u.add("ada", nil), u.add("bob", nil)
	remove()
	if u.has("ada") || !u.has("bob") {
		t.Errorf("the users are %v, want bob", u.byToken)
	}
	again()
	if len(u.byToken) != 0 {
		t.Errorf("the users are %v, want none", u.byToken)
	}
}

func (u *users) has(token string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.byToken[token]) > 0
}
