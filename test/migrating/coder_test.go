package migrating

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/f44ffc3b/websocket/test/migrating/coder/after"
	"github.com/f44ffc3b/websocket/test/migrating/coder/before"
)

// prices returns three prices for one symbol.
func prices(symbol string) <-chan int {
	if symbol != "ACME" {
		return nil
	}
	updates := make(chan int, 3)
	for _, cents := range []int{100, 101, 99} {
		updates <- cents
	}
	close(updates)
	return updates
}

// The prices with coder and those with this library are the same for a client.
func TestCoder(t *testing.T) {
	const page = "https://app.example.com"
	tests := []struct {
		name   string
		origin string
		kind   websocket.MessageType
		first  string
		want   []string
	}{
		{"a subscription", page, websocket.MessageText, `{"symbol":"ACME"}`, []string{
			"prices.v1", `{"symbol":"ACME","cents":100}`, `{"symbol":"ACME","cents":101}`, `{"symbol":"ACME","cents":99}`, "closed with 1000",
		}},
		{"a symbol that does not exist", page, websocket.MessageText, `{"symbol":"NONE"}`, []string{"prices.v1", "closed with 1008 unknown symbol NONE"}},
		{"a message that is not JSON", page, websocket.MessageText, `ACME`, []string{"prices.v1", "closed with 1007"}},
		{"a large message", page, websocket.MessageText, string(make([]byte, 2000)), []string{"prices.v1", "closed with 1009"}},
		{"a page of another site", "https://evil.example", 0, "", []string{"refused with 403"}},
	}
	versions := map[string]func(func(string) <-chan int) http.Handler{"before": before.New, "after": after.New}
	for _, tt := range tests {
		for version, newHandler := range versions {
			t.Run(tt.name+"/"+version, func(t *testing.T) {
				server := httptest.NewServer(newHandler(prices))
				defer server.Close()
				if got := subscribe(t, server.URL, tt.origin, tt.kind, tt.first); !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// subscribe sends the first message and describes what a client of coder gets.
func subscribe(t *testing.T, url, origin string, kind websocket.MessageType, first string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPHeader:   http.Header{"Origin": {origin}},
		Subprotocols: []string{"prices.v1"},
	})
	if err != nil {
		if res == nil {
			t.Fatal(err)
		}
		return []string{fmt.Sprint("refused with ", res.StatusCode)}
	}
	defer c.CloseNow()
	got := []string{c.Subprotocol()}
	if err := c.Write(ctx, kind, []byte(first)); err != nil {
		t.Fatal(err)
	}
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			return append(got, closedWith(err))
		}
		// coder's JSON ends with a line end.
		got = append(got, strings.TrimSuffix(string(data), "\n"))
	}
}

// closedWith describes the end. The reason counts only if it is that of the program, because
// the libraries have their own texts.
func closedWith(err error) string {
	code := websocket.CloseStatus(err)
	var closed websocket.CloseError
	if code == websocket.StatusPolicyViolation && errors.As(err, &closed) {
		return fmt.Sprintf("closed with %d %s", closed.Code, closed.Reason)
	}
	return fmt.Sprintf("closed with %d", code)
}
