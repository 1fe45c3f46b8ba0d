package main

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// enter returns a client that has entered a room.
func enter(t *testing.T, h http.Handler, room, user string) *websockettest.Client {
	t.Helper()
	c := websockettest.Dial(t, h, websockettest.URL("/rooms/"+room+"?user="+user))
	synctest.Wait() // until its function has begun
	return c
}

func want(t *testing.T, c *websockettest.Client, text string) {
	t.Helper()
	if _, data := c.Receive(); string(data) != text {
		t.Fatalf("got %q, want %q", data, text)
	}
}

// wantNothing checks that nothing is on its way to c: the pong comes first.
func wantNothing(t *testing.T, c *websockettest.Client) {
	t.Helper()
	c.Send(websocket.Ping, nil)
	if f := c.ReceiveFrame(); f.Opcode != websocket.Pong {
		t.Fatalf("got %v %q, want nothing", f.Opcode, f.Payload)
	}
}

func TestRooms(t *testing.T) {
	tests := []struct {
		name   string
		leave  func(bob *websockettest.Client)
		passes time.Duration // until the others know
	}{
		{"a client that closes", func(bob *websockettest.Client) { bob.Close(websocket.StatusNormalClosure, "") }, 0},
		{"a client that is cut off", func(bob *websockettest.Client) { bob.Abort() }, 0},
		{"a client that sends what is not text", func(bob *websockettest.Client) {
			bob.Send(websocket.Binary, []byte{0xff})
			if f := bob.ReceiveFrame(); f.Opcode != websocket.Close {
				t.Errorf("Bob gets %v %q, want nothing before the close frame", f.Opcode, f.Payload)
			}
		}, 0},
		{"a client that vanishes", func(bob *websockettest.Client) { bob.StopReading() }, 91 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rs := rooms{byName: make(map[string]*room)}
				mux := http.NewServeMux()
				mux.Handle("/rooms/{room}", websocket.Handle(rs.serve))
				ada, eve := enter(t, mux, "tea", "Ada"), enter(t, mux, "coffee", "Eve")
				bob := enter(t, mux, "tea", "Bob")
				want(t, ada, "Bob has come")
				bob.Send(websocket.Text, []byte("hello"))
				want(t, ada, "Bob: hello")
				want(t, bob, "Bob: hello")
				wantNothing(t, eve)
				wantNothing(t, bob)

				begin := time.Now()
				tt.leave(bob)
				want(t, ada, "Bob has left")
				if passed := time.Since(begin); passed > tt.passes {
					t.Errorf("Ada learns after %v that Bob has left, want at most %v", passed, tt.passes)
				}
				ada.Close(websocket.StatusNormalClosure, "")
				synctest.Wait()
				rs.mu.Lock()
				defer rs.mu.Unlock()
				if rs.byName["tea"] != nil {
					t.Error("the empty room is still there")
				}
			})
		})
	}
}

// A client whose name is refused does not enter the room, and nobody is told.
func TestRooms_refuses_names(t *testing.T) {
	for name, user := range map[string]string{
		"bytes that are not UTF-8": "%ff",
		"a long name":              strings.Repeat("x", maxName+1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rs := rooms{byName: make(map[string]*room)}
				mux := http.NewServeMux()
				mux.Handle("/rooms/{room}", websocket.Handle(rs.serve))
				ada := enter(t, mux, "tea", strings.Repeat("x", maxName))
				enter(t, mux, "tea", user).WantClose(websocket.StatusPolicyViolation)
				wantNothing(t, ada)
				ada.Close(websocket.StatusNormalClosure, "")
			})
		})
	}
}
