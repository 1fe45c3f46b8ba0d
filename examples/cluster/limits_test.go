package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestRoom_refuses(t *testing.T) {
	greet := `{"name":"Ada"}`
	say := func(id, text string) string {
		data, _ := json.Marshal(remark{ID: id, Text: text})
		return string(data)
	}
	tests := []struct {
		name string
		sent []string
		code websocket.StatusCode
	}{
		{"a hello that is not JSON", []string{"hello"}, websocket.StatusPolicyViolation},
		{"a name of spaces", []string{`{"name":"  "}`}, websocket.StatusPolicyViolation},
		{"a name of 25 characters", []string{`{"name":"` + strings.Repeat("ä", 25) + `"}`}, websocket.StatusPolicyViolation},
		{"a name with a control character", []string{`{"name":"A\u0007da"}`}, websocket.StatusPolicyViolation},
		{"a name that turns the text around", []string{`{"name":"A\u202eda"}`}, websocket.StatusPolicyViolation},
		{"a name without a letter", []string{`{"name":"..."}`}, websocket.StatusPolicyViolation},
		{"a negative number", []string{`{"name":"Ada","last":-1}`}, websocket.StatusPolicyViolation},
		{"a text of spaces", []string{greet, say("a", " \n ")}, websocket.StatusPolicyViolation},
		{"a text of 1001 characters", []string{greet, say("a", strings.Repeat("€", 1001))}, websocket.StatusPolicyViolation},
		{"no id", []string{greet, say("", "Hello")}, websocket.StatusPolicyViolation},
		{"an id of 65 bytes", []string{greet, say(strings.Repeat("a", 65), "Hello")}, websocket.StatusPolicyViolation},
		{"an id with a line break", []string{greet, say("a\r\nNats-Rollup: all", "Hello")}, websocket.StatusPolicyViolation},
		{"a message of 9 KiB", []string{greet, say("a", strings.Repeat("x", 9<<10))}, websocket.StatusMessageTooBig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, b := testRoom(1, 0, defaultLimits())
			u := dialRoom(t, r)
			for _, message := range tt.sent {
				u.Send(websocket.Text, []byte(message))
			}
			u.WantClose(tt.code)
			if newest, _ := b.newest(t.Context()); newest != 0 {
				t.Errorf("%d messages were published, want none", newest)
			}
		})
	}
}

func TestRoom_accepts(t *testing.T) {
	for _, name := range []string{"Ada", "Å", "李小龍", "Renée", strings.Repeat("ä", 24)} {
		r, _ := testRoom(1, 0, defaultLimits())
		u := dialRoom(t, r)
		u.SendJSON(hello{Name: " " + name + " "})
		var e event
		u.ReceiveJSON(&e)
		if e.Type != "welcome" || e.Name != name || e.Server != "test" || e.Stream != "s1" {
			t.Errorf("got %+v, want the welcome of %s", e, name)
		}
		u.expect("live true")
		text := strings.Repeat("\U0001F600", 1000) // the largest text
		u.SendJSON(remark{ID: strings.Repeat("Z", 64), Text: text})
		u.expect("1 " + text)
	}
}

func TestRoom_limits(t *testing.T) {
	t.Run("the hello must come in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := testRoom(1, 0, defaultLimits())
			start := time.Now()
			dialRoom(t, r).WantClose(websocket.StatusPolicyViolation)
			if took := time.Since(start); took != r.limits.hello {
				t.Errorf("the client was closed after %v, want %v", took, r.limits.hello)
			}
		})
	})
	t.Run("messages of one connection wait for their turn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := testRoom(1, 0, defaultLimits())
			u := joinRoom(t, r, "", 0)
			u.expect("welcome", "live true")
			start := time.Now()
			const n = 20
			for i := range n {
				u.SendJSON(remark{ID: fmt.Sprint(i), Text: "flood"})
			}
			for i := range n {
				u.expect(fmt.Sprintf("%d flood", i+1), fmt.Sprintf("stored %d", i))
			}
			own := r.limits.perConnection
			if took, want := time.Since(start), time.Duration(n-own.burst)*own.pace; took != want {
				t.Errorf("%d messages took %v, want %v", n, took, want)
			}
		})
	})
	t.Run("connections of one address, and all connections", func(t *testing.T) {
		l := defaultLimits()
		l.open, l.perAddress, l.forwarders = 3, 2, true
		r, _ := testRoom(1, 0, l)
		from := func(address string) websockettest.DialOption {
			return websockettest.Header("X-Forwarded-For", "192.0.2.9, "+address)
		}
		first := dialRoom(t, r, from("192.0.2.1"))
		dialRoom(t, r, from("192.0.2.1"))
		wantStatus(t, dialRoom(t, r, from("192.0.2.1")), http.StatusServiceUnavailable)
		dialRoom(t, r, from("2001:db8::1"))
		wantStatus(t, dialRoom(t, r, from("192.0.2.3")), http.StatusServiceUnavailable)
		first.SendJSON(hello{})
		first.WantClose(websocket.StatusPolicyViolation)
		for range 1000 { // the connection is taken back when its function has returned
			u := dialRoom(t, r, from("192.0.2.1"))
			if u.Response().StatusCode == http.StatusSwitchingProtocols {
				return
			}
		}
		t.Error("the connection was not taken back")
	})
}

func wantStatus(t *testing.T, u *user, want int) {
	t.Helper()
	if got := u.Response().StatusCode; got != want {
		t.Errorf("got status %d, want %d", got, want)
	}
}

func TestRoom_origin(t *testing.T) {
	r, _ := testRoom(1, 0, defaultLimits())
	c := websockettest.Dial(t, routes(r), websockettest.URL("/chat"), websockettest.Header("Origin", "http://elsewhere.example"))
	if got := c.Response().StatusCode; got != http.StatusForbidden {
		t.Errorf("a page of another origin gets %d, want 403", got)
	}
}

func TestRoom_shutdown(t *testing.T) {
	r, _ := testRoom(1, 0, defaultLimits())
	silent, u := dialRoom(t, r), joinRoom(t, r, "", 0)
	u.expect("welcome", "live true")
	result := make(chan error, 1)
	go func() { result <- r.handler.Shutdown(t.Context()) }()
	silent.WantClose(websocket.StatusGoingAway)
	u.WantClose(websocket.StatusGoingAway)
	if err := <-result; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	wantStatus(t, dialRoom(t, r), http.StatusServiceUnavailable)
}
