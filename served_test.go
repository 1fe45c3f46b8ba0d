package websocket_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// The tests in this file use only what users have: the public API, a real http.Server and
// the client of websockettest. The other tests in the root use the internals of a Conn.

func echoMessages(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}

func TestDropIncomingPings(t *testing.T) {
	tests := []struct {
		name string
		opt  websocket.Option
		want []string
	}{
		{"default", websocket.DropIncomingPings(false), []string{`pong "there?"`, `text "after it"`}},
		{"dropped", websocket.DropIncomingPings(true), []string{`text "after it"`}},
		{"EggDefaults", websocket.EggDefaults(), []string{`text "after it"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, websocket.Handle(echoMessages, tt.opt))
			c.Send(websocket.Ping, []byte("there?"))
			c.Send(websocket.Text, []byte("after it"))
			var got []string
			for range tt.want {
				f := c.ReceiveFrame()
				got = append(got, fmt.Sprintf("%v %q", f.Opcode, f.Payload))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got the frames %q, want %q", got, tt.want)
			}
			c.Close(websocket.StatusNormalClosure, "")
		})
	}
}

func TestEggDefaults_accept_every_origin(t *testing.T) {
	foreign := websockettest.Header("Origin", "https://evil.example")
	websockettest.Dial(t, websocket.Handle(echoMessages, websocket.EggDefaults()), foreign).Close(websocket.StatusNormalClosure, "")
	if res := websockettest.Dial(t, websocket.Handle(echoMessages), foreign).Response(); res.StatusCode != http.StatusForbidden {
		t.Errorf("without EggDefaults: got %s, want 403", res.Status)
	}
}

// With all defaults, a client that answers no pings is disconnected after a minute, and one
// that answers them stays.
func TestKeepalive_with_all_defaults(t *testing.T) {
	handlers := map[string]http.Handler{
		"Handle":           websocket.Handle(echoMessages),
		"HandleConcurrent": websocket.HandleConcurrent(echoMessages),
		"Detached":         websocket.Handle(echoMessages, websocket.Detached(true)),
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				silent, healthy := websockettest.Dial(t, handler), websockettest.Dial(t, handler)
				start := time.Now()
				var pings []time.Duration
				f := silent.ReceiveFrame()
				for ; f.Opcode == websocket.Ping; f = silent.ReceiveFrame() {
					pings = append(pings, time.Since(start))
					healthy.Send(websocket.Pong, healthy.ReceiveFrame().Payload)
				}
				want := []time.Duration{15 * time.Second, 30 * time.Second, 45 * time.Second}
				if len(pings) < 3 || !slices.Equal(pings[:3], want) { // another comes at the limit
					t.Errorf("got pings after %v, want %v", pings, want)
				}
				ended := time.Since(start).Round(time.Second)
				if f.Opcode != websocket.Close || string(f.Payload[:2]) != "\x03\xe9" || ended != time.Minute {
					t.Errorf("after %v, got the %v frame %q, want a close frame with 1001 after 1m0s", ended, f.Opcode, f.Payload)
				}
				healthy.Send(websocket.Text, []byte("still here"))
				healthy.Receive()
				healthy.Close(websocket.StatusNormalClosure, "")
			})
		})
	}
}
