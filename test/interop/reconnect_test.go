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

// The program of docs/shutdown.md for clients reconnects after each end of a connection, and when
// there are no messages. It stops if it must log in first.
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
		case 4: // is silent after its messages
			for _, text := range []string{"hello", "", "goodbye"} {
				if err := c.SendMessage(websocket.Text, []byte(text)); err != nil {
					return err
				}
			}
			return c.Discard()
		}
		return &websocket.CloseError{Code: 4401, Reason: "log in"} // as the programs of docs/authentication.md
	}))
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	script := program + `
		const delays = [], silences = new Map(), set = setTimeout, clear = clearTimeout;
		const running = () => "[" + [...silences.keys()] + "]"; // the timers of the silence
		let timers = 0, open = 0, stopped = false;
		globalThis.setTimeout = (f, delay, ...args) => {
			if (delay === 50_000) {
				silences.set(++timers, () => f(...args));
				return timers;
			}
			delays.push(delay);
			return set(f, 1, ...args);
		};
		globalThis.clearTimeout = (timer) => silences.delete(timer) || clear(timer);
		Math.random = () => 0.5;
		const dial = () => {
			console.log("dial", running());
			const socket = new WebSocket(process.argv[1]);
			open++;
			socket.addEventListener("close", () => { open--; set(finish); });
			return socket;
		};
		const receive = (data) => {
			console.log("received", data, running());
			if (data === "goodbye") [...silences.values()].forEach((expire) => expire());
		};
		const finish = () => {
			if (stopped && open === 0) {
				console.log("delays", delays.filter((d) => d >= 2500).join(), running());
				process.exit();
			}
		};
		connect(dial, receive, (event) => {
			console.log("stopped", event.code, event.reason);
			stopped = true;
		});
		console.log("wait", running());`
	cmd := exec.CommandContext(ctx, "node", "--experimental-websocket", "--no-warnings", "-e", script, "--", "ws"+strings.TrimPrefix(server.URL, "http"))
	out, err := cmd.CombinedOutput()
	want := "dial []\nwait [1]\ndial []\ndial []\ndial []\nreceived hello [5]\nreceived goodbye [7]\n" +
		"dial []\nstopped 4401 log in\ndelays 2500,5000,10000,20000 []\n"
	if err != nil || string(out) != want {
		t.Errorf("got error %v and %q, want %q", err, out, want)
	}
}
