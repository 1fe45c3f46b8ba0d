package websockettest

import (
	"net/http"
	"testing"
)

// The path of a source file may have spaces.
func TestFormatStack(t *testing.T) {
	const record = "2 @ 0x47e7c1 0x6b1f21\n" +
		"# labels: {\"websockettest\":\"1\"}\n" +
		"#\t0x47e7c0\ttime.Sleep+0x140\t\t\tC:/Program Files/Go/src/runtime/time.go:363\n" +
		"#\t0x6b1f20\texample.com/chat.handler[...].func1+0x20\tC:/Users/Ada Lovelace/My Projects/chat.go:10"
	const want = "2 goroutine(s):\n" +
		"time.Sleep\n\tC:/Program Files/Go/src/runtime/time.go:363\n" +
		"example.com/chat.handler[...].func1\n\tC:/Users/Ada Lovelace/My Projects/chat.go:10"
	if got := formatStack(record); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDial_keeps_no_test_in_memory(t *testing.T) {
	knows := func(t *testing.T) bool {
		sets.mu.Lock()
		defer sets.mu.Unlock()
		return sets.byTest[t] != nil
	}
	var ended *testing.T
	t.Run("two clients", func(t *testing.T) {
		Dial(t, http.NotFoundHandler())
		Dial(t, http.NotFoundHandler())
		if ended = t; !knows(t) {
			t.Error("the clients of the test are not known")
		}
	})
	if knows(ended) {
		t.Error("the clients of a test that has ended are still known")
	}
}
