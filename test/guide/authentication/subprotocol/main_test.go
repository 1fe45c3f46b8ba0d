package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func TestAuthenticate(t *testing.T) {
	const token = "bearer.eyJ1IjoiQWRhIn0.x7Jq-Zw"
	offer := func(names ...string) []websockettest.DialOption {
		return []websockettest.DialOption{websockettest.Subprotocols(names...)}
	}
	tests := []struct {
		name    string
		offered []websockettest.DialOption
		status  int
		agreed  string
		code    websocket.StatusCode // with which the connection is closed at once, 0 if it is not
	}{
		{"a token behind the protocol", offer("chat.v1", token), http.StatusSwitchingProtocols, "chat.v1", 0},
		{"a token before the protocol", offer(token, "chat.v1"), http.StatusSwitchingProtocols, "chat.v1", 0},
		{"a token that is not valid", offer("chat.v1", token+"x"), http.StatusSwitchingProtocols, "chat.v1", 4401},
		{"an empty token", offer("chat.v1", "bearer."), http.StatusSwitchingProtocols, "chat.v1", 4401},
		{"no token", offer("chat.v1"), http.StatusSwitchingProtocols, "chat.v1", 4401},
		{"no subprotocol", nil, http.StatusSwitchingProtocols, "", 4401},
		{"a page of another site, with a token", append(offer("chat.v1", token), websockettest.Header("Origin", "https://other.example")), http.StatusForbidden, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, authenticate(websocket.Handle(serve, chat)), tt.offered...)
			res := c.Response()
			if res.StatusCode != tt.status {
				t.Fatalf("got %s, want %d", res.Status, tt.status)
			}
			for name, values := range res.Header {
				if strings.Contains(strings.Join(values, ""), "eyJ1") {
					t.Errorf("the response repeats the token in %s: %q", name, values)
				}
			}
			if got := res.Header.Get("Sec-WebSocket-Protocol"); got != tt.agreed {
				t.Errorf("the subprotocol is %q, want %q, because browsers want one of those that they have offered", got, tt.agreed)
			}
			switch {
			case tt.status != http.StatusSwitchingProtocols:
				return
			case tt.code != 0:
				c.WantClose(tt.code)
				return
			}
			if _, data := c.Receive(); string(data) != "hello Ada" {
				t.Errorf("got %q, want a greeting of Ada", data)
			}
		})
	}
}
