package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	_ "github.com/f44ffc3b/websocket/extendedconnect"
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
	}{
		{"a page of the site, with a session", []websockettest.DialOption{same, cookie}, http.StatusSwitchingProtocols},
		{"a page of the site, without a session", []websockettest.DialOption{same}, http.StatusUnauthorized},
		{"a page of the site, with a session that does not exist", []websockettest.DialOption{same, websockettest.Header("Cookie", "session=0")}, http.StatusUnauthorized},
		{"a page of another site, whose browser has sent the cookie", []websockettest.DialOption{other, cookie}, http.StatusForbidden},
		{"a program with the cookie", []websockettest.DialOption{cookie}, http.StatusSwitchingProtocols},
	}
	begin(&session{id: "4f2c8a", user: "Ada"})
	defer sessions.Clear()
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

// The end of a session closes its connections, and also one whose handshake is in progress.
// Later ones are refused.
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
		if got := websockettest.Dial(t, authenticate(handler), cookie).Response().StatusCode; got != http.StatusUnauthorized {
			t.Errorf("got status %d for the cookie of a session that has ended, want 401", got)
		}
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

// Over HTTP/2, a refusal ends its own stream. Connection: close would end those of other users
// too, who may share the connection of a proxy.
func TestAuthenticate_over_HTTP2(t *testing.T) {
	begin(&session{id: "4f2c8a", user: "Ada"})
	defer sessions.Clear()
	h := websocket.Handle(serve)
	c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, authenticate(h)).Listener.Addr().String(), 0)
	for range 2 {
		s, err := c.Connect()
		if err != nil || s.Status != http.StatusUnauthorized {
			t.Fatalf("got status %d and error %v, want 401", s.Status, err)
		}
	}
	p := c.ConnectClient(t, "cookie: session=4f2c8a")
	if f := p.Read(); string(f.Payload) != "hello Ada" {
		t.Errorf("got %q, want a greeting of Ada", f.Payload)
	}
	p.Conn.Close()
}
