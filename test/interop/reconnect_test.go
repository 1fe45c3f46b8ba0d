package interop

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// The program of docs/shutdown.md for clients reconnects after each end of a connection, and
// stops if it must log in first.
func TestReconnect(t *testing.T) {
	page, err := os.ReadFile("../../docs/shutdown.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(page), "```js\n")
	program, _, _ = strings.Cut(program, "```")
	if !found {
		t.Fatal("docs/shutdown.md has no program for clients")
	}
	var connections atomic.Int32
	server := httptest.NewServer(websocket.Handle(func(c *websocket.Conn) error {
		switch connections.Add(1) {
		case 1:
			return &websocket.CloseError{Code: websocket.StatusGoingAway}
		case 2:
			return &websocket.CloseError{Code: websocket.StatusTryAgainLater}
		case 3:
			return c.CloseNow()
		}
		if err := c.SendMessage(websocket.Text, []byte("hello")); err != nil {
			return err
		}
		return &websocket.CloseError{Code: 4401, Reason: "log in"}
	}))
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	script := program + `
		const delays = [], wait = setTimeout;
		globalThis.setTimeout = (f, delay) => { delays.push(delay); return wait(f, 1); };
		Math.random = () => 0.5;
		connect(process.argv[1], (data) => console.log("received", data),
			(event) => { console.log("stopped", event.code, event.reason); console.log("delays", delays.filter((d) => d >= 2500).join()); process.exit(); });`
	cmd := exec.CommandContext(ctx, "node", "--experimental-websocket", "--no-warnings", "-e", script, "--", "ws"+strings.TrimPrefix(server.URL, "http"))
	out, err := cmd.CombinedOutput()
	want := "received hello\nstopped 4401 log in\ndelays 2500,5000,10000\n"
	if err != nil || string(out) != want {
		t.Errorf("got error %v and %q, want %q", err, out, want)
	}
}
