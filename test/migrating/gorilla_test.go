package migrating

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/f44ffc3b/websocket/test/migrating/gorilla/after"
	"github.com/f44ffc3b/websocket/test/migrating/gorilla/before"
)

const patience = 10 * time.Second

// dial connects a client of gorilla to a room. It returns nil and the status if the room
// refuses.
func dial(t *testing.T, server *httptest.Server, origin string) (*websocket.Conn, string) {
	t.Helper()
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	conn, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), header)
	if err != nil {
		if res == nil {
			t.Fatal(err)
		}
		return nil, fmt.Sprint("refused with ", res.StatusCode)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(patience))
	return conn, "connected"
}

// next describes what a client gets next.
func next(conn *websocket.Conn) string {
	kind, data, err := conn.ReadMessage()
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return fmt.Sprint("closed with ", closed.Code)
	case err != nil:
		return err.Error()
	}
	return fmt.Sprintf("message %d %s", kind, data)
}

// A room with gorilla and a room with this library do the same for a client.
func TestGorilla(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, server *httptest.Server) []string
		want []string
	}{
		{"a message reaches all", func(t *testing.T, server *httptest.Server) []string {
			join := func(origin string) *websocket.Conn {
				c, _ := dial(t, server, origin)
				c.WriteMessage(websocket.TextMessage, []byte("here"))
				next(c) // so it is a member
				return c
			}
			ada := join("")
			bob := join("https://app.example.com")
			next(ada) // that bob is here
			bob.WriteMessage(websocket.TextMessage, []byte("hello"))
			return []string{next(ada), next(bob)}
		}, []string{"message 1 hello", "message 1 hello"}},
		{"a page of another site", func(t *testing.T, server *httptest.Server) []string {
			_, status := dial(t, server, "https://evil.example")
			return []string{status}
		}, []string{"refused with 403"}},
		{"a binary message", func(t *testing.T, server *httptest.Server) []string {
			c, _ := dial(t, server, "")
			c.WriteMessage(websocket.BinaryMessage, []byte("hello"))
			return []string{next(c)}
		}, []string{"closed with 1003"}},
		{"a large message", func(t *testing.T, server *httptest.Server) []string {
			c, _ := dial(t, server, "")
			c.WriteMessage(websocket.TextMessage, make([]byte, 5000))
			return []string{next(c)}
		}, []string{"closed with 1009"}},
		{"a ping", func(t *testing.T, server *httptest.Server) []string {
			c, _ := dial(t, server, "")
			var got []string
			c.SetPongHandler(func(data string) error {
				got = append(got, "pong "+data)
				return c.WriteMessage(websocket.TextMessage, []byte("done"))
			})
			c.WriteControl(websocket.PingMessage, []byte("1"), time.Now().Add(patience))
			message := next(c)
			return append(got, message)
		}, []string{"pong 1", "message 1 done"}},
		{"a close frame", func(t *testing.T, server *httptest.Server) []string {
			c, _ := dial(t, server, "")
			c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""), time.Now().Add(patience))
			return []string{next(c)}
		}, []string{"closed with 1001"}},
	}
	versions := map[string]func() http.Handler{"before": before.New, "after": after.New}
	for _, tt := range tests {
		for version, newRoom := range versions {
			t.Run(tt.name+"/"+version, func(t *testing.T) {
				server := httptest.NewServer(newRoom())
				defer server.Close()
				if got := tt.run(t, server); !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}
