package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func dial(t *testing.T) *websockettest.Client {
	return websockettest.Dial(t, websocket.Handle(serve, websocket.MaxMessageSize(loginSize)))
}

// wantClose checks that the connection is closed with this code after d.
func wantClose(t *testing.T, c *websockettest.Client, code websocket.StatusCode, d time.Duration) {
	t.Helper()
	begin := time.Now()
	c.WantClose(code)
	if took := time.Since(begin); took != d {
		t.Errorf("closed after %v, want %v", took, d)
	}
}

func TestLogin_refuses(t *testing.T) {
	long := `{"token":"` + strings.Repeat("x", loginSize) + `"}`
	tests := []struct {
		name  string
		first func(*websockettest.Client)
		code  websocket.StatusCode
		after time.Duration
	}{
		{"a client that sends nothing", func(*websockettest.Client) {}, statusLogin, loginTime},
		{"a client that sends a part of a message", func(c *websockettest.Client) {
			c.SendFrame(websocket.Frame{Header: websocket.Header{Opcode: websocket.Text}, Payload: []byte(`{"token":`)})
		}, statusLogin, loginTime},
		{"a token that is not valid", func(c *websockettest.Client) { c.SendJSON(message{Token: "x"}) }, statusLogin, 0},
		{"another message", func(c *websockettest.Client) { c.SendJSON(message{Text: "hello"}) }, statusLogin, 0},
		{"a message that is not JSON", func(c *websockettest.Client) { c.Send(websocket.Text, []byte("hello")) }, websocket.StatusInvalidPayload, 0},
		{"a large message", func(c *websockettest.Client) { c.Send(websocket.Text, []byte(long)) }, websocket.StatusMessageTooBig, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dial(t)
				tt.first(c)
				wantClose(t, c, tt.code, tt.after)
			})
		})
	}
}

// After the login, a client may be silent and send large messages, until its token expires.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dial(t)
		login := message{Token: "x7Jq-Zw"}
		c.SendJSON(login)
		echo := func(text string) {
			t.Helper()
			c.SendJSON(message{Text: text})
			var got message
			if c.ReceiveJSON(&got); got.Text != "Ada: "+text {
				t.Errorf("got %.40q, want the text with the name", got.Text)
			}
		}
		echo(strings.Repeat("x", 10*loginSize))
		for range 20 {
			time.Sleep(30 * time.Second)
			echo("still here")
		}
		c.SendJSON(login) // a new token, after ten of fifteen minutes
		for range 28 {
			time.Sleep(30 * time.Second)
			echo("still here")
		}
		wantClose(t, c, statusLogin, time.Minute)
	})
}

func TestServe_refuses_the_token_of_another_user(t *testing.T) {
	defer func(f func(string) (account, bool)) { verify = f }(verify)
	verify = func(token string) (account, bool) {
		return account{token, time.Now().Add(time.Minute)}, true
	}
	c := dial(t)
	c.SendJSON(message{Token: "Ada"})
	c.SendJSON(message{Token: "Bob"})
	c.WantClose(statusLogin)
}
