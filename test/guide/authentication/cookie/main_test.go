package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func TestAuthenticate(t *testing.T) {
	same, other := websockettest.Header("Origin", "https://example.com"), websockettest.Header("Origin", "https://evil.example")
	session := websockettest.Header("Cookie", "session=4f2c8a")
	tests := []struct {
		name   string
		header []websockettest.DialOption
		status int
	}{
		{"a page of the site, with a session", []websockettest.DialOption{same, session}, http.StatusSwitchingProtocols},
		{"a page of the site, without a session", []websockettest.DialOption{same}, http.StatusUnauthorized},
		{"a page of the site, with a session that does not exist", []websockettest.DialOption{same, websockettest.Header("Cookie", "session=0")}, http.StatusUnauthorized},
		{"a page of another site, whose browser has sent the cookie", []websockettest.DialOption{other, session}, http.StatusForbidden},
		{"a program with the cookie", []websockettest.DialOption{session}, http.StatusSwitchingProtocols},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, authenticate(websocket.Handle(serve)), tt.header...)
			res := c.Response()
			if res.StatusCode != tt.status {
				t.Fatalf("got %s, want %d", res.Status, tt.status)
			}
			if tt.status != http.StatusSwitchingProtocols {
				if !res.Close {
					t.Error("the connection stays open after a refusal")
				}
				return
			}
			if _, data := c.Receive(); string(data) != "hello Ada" {
				t.Errorf("got %q, want a greeting of Ada", data)
			}
		})
	}
}

// The end of a session closes its connections, and also one whose handshake came before.
func TestSession_end(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func(old *session) { sessions["4f2c8a"] = old }(sessions["4f2c8a"])
		sessions["4f2c8a"] = &session{user: "Ada"}
		h := authenticate(websocket.Handle(serve))
		cookie := websockettest.Header("Cookie", "session=4f2c8a")
		open := websockettest.Dial(t, h, cookie)
		open.Receive()
		go sessions["4f2c8a"].end()
		open.WantClose(statusLogin)
		synctest.Wait()
		websockettest.Dial(t, h, cookie).WantClose(statusLogin)
	})
}

// MaxLifetime closes with 1001, so that clients reconnect and are authenticated again.
func TestMaxLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := authenticate(websocket.Handle(serve, websocket.MaxLifetime(time.Hour)))
		begin := time.Now()
		c := websockettest.Dial(t, h, websockettest.Header("Cookie", "session=4f2c8a"))
		c.WantClose(websocket.StatusGoingAway)
		if took := time.Since(begin); took < 54*time.Minute || took > time.Hour {
			t.Errorf("the connection lived for %v, want 54 to 60 minutes", took)
		}
	})
}
