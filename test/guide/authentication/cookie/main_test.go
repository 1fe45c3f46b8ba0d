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
	cookie := websockettest.Header("Cookie", "session=4f2c8a")
	tests := []struct {
		name   string
		header []websockettest.DialOption
		status int
		code   websocket.StatusCode // with which the connection is closed at once, 0 if it is not
	}{
		{"a page of the site, with a session", []websockettest.DialOption{same, cookie}, http.StatusSwitchingProtocols, 0},
		{"a page of the site, without a session", []websockettest.DialOption{same}, http.StatusSwitchingProtocols, statusLogin},
		{"a page of the site, with a session that does not exist", []websockettest.DialOption{same, websockettest.Header("Cookie", "session=0")}, http.StatusSwitchingProtocols, statusLogin},
		{"a page of another site, whose browser has sent the cookie", []websockettest.DialOption{other, cookie}, http.StatusForbidden, 0},
		{"a page of another site, without a session", []websockettest.DialOption{other}, http.StatusForbidden, 0},
		{"a program with the cookie", []websockettest.DialOption{cookie}, http.StatusSwitchingProtocols, 0},
	}
	begin(&session{id: "4f2c8a", user: "Ada"})
	defer sessions.Clear()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, authenticate(websocket.Handle(serve)), tt.header...)
			res := c.Response()
			switch {
			case res.StatusCode != tt.status:
				t.Fatalf("got %s, want %d", res.Status, tt.status)
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

// The end of a session closes its connections, and also one whose handshake is in progress, and
// later ones.
func TestSession_end(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{id: "4f2c8a", user: "Ada"}
		begin(s)
		handler := websocket.Handle(serve)
		cookie := websockettest.Header("Cookie", "session=4f2c8a")
		open := websockettest.Dial(t, authenticate(handler), cookie)
		open.Receive()
		inProgress := authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			go s.end()
			synctest.Wait()
			handler.ServeHTTP(w, r)
		}))
		websockettest.Dial(t, inProgress, cookie).WantClose(statusLogin)
		open.WantClose(statusLogin)
		websockettest.Dial(t, authenticate(handler), cookie).WantClose(statusLogin) // its cookie is not valid any more
	})
}

// MaxLifetime closes with 1001, so that clients reconnect and are authenticated again.
func TestMaxLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin(&session{id: "4f2c8a", user: "Ada"})
		defer sessions.Clear()
		h := authenticate(websocket.Handle(serve, websocket.MaxLifetime(time.Hour)))
		start := time.Now()
		c := websockettest.Dial(t, h, websockettest.Header("Cookie", "session=4f2c8a"))
		c.WantClose(websocket.StatusGoingAway)
		if took := time.Since(start); took < 54*time.Minute || took > time.Hour {
			t.Errorf("the connection lived for %v, want 54 to 60 minutes", took)
		}
	})
}
