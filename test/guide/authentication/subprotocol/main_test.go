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
	tests := []struct {
		name    string
		offered []websockettest.DialOption
		status  int
	}{
		{"a token behind the protocol", []websockettest.DialOption{websockettest.Subprotocols("chat.v1", token)}, http.StatusSwitchingProtocols},
		{"a token before the protocol", []websockettest.DialOption{websockettest.Subprotocols(token, "chat.v1")}, http.StatusSwitchingProtocols},
		{"a token that is not valid", []websockettest.DialOption{websockettest.Subprotocols("chat.v1", token+"x")}, http.StatusUnauthorized},
		{"an empty token", []websockettest.DialOption{websockettest.Header("Sec-WebSocket-Protocol", "chat.v1, bearer.")}, http.StatusUnauthorized},
		{"no token", []websockettest.DialOption{websockettest.Subprotocols("chat.v1")}, http.StatusUnauthorized},
		{"no subprotocol", nil, http.StatusUnauthorized},
		{"a page of another site, with a token", []websockettest.DialOption{websockettest.Subprotocols("chat.v1", token), websockettest.Header("Origin", "https://other.example")}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, authenticate(websocket.Handle(serve, websocket.Subprotocols("chat.v1"))), tt.offered...)
			res := c.Response()
			if res.StatusCode != tt.status {
				t.Fatalf("got %s, want %d", res.Status, tt.status)
			}
			for name, values := range res.Header {
				if strings.Contains(strings.Join(values, ""), "eyJ1") {
					t.Errorf("the response repeats the token in %s: %q", name, values)
				}
			}
			if tt.status != http.StatusSwitchingProtocols {
				return
			}
			if got := res.Header.Get("Sec-WebSocket-Protocol"); got != "chat.v1" {
				t.Errorf("the subprotocol is %q, want chat.v1, because browsers want one of those that they have offered", got)
			}
			if _, data := c.Receive(); string(data) != "hello Ada" {
				t.Errorf("got %q, want a greeting of Ada", data)
			}
		})
	}
}
