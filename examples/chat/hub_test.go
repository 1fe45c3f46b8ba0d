package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
)

func TestRoom(t *testing.T) {
	addr, _ := start(t, newHub())
	ada, welcome := join(t, addr, " Ada  Lovelace ")
	if welcome.Name != "Ada Lovelace" || !slices.Equal(welcome.People, []string{"Ada Lovelace"}) || welcome.History != nil {
		t.Errorf("Ada was welcomed with %+v", welcome)
	}

	bob, welcome := join(t, addr, "Bob")
	if !slices.Equal(welcome.People, []string{"Ada Lovelace", "Bob"}) {
		t.Errorf("Bob was told that %q are here", welcome.People)
	}
	if e := ada.expect("joined"); e.Name != "Bob" {
		t.Errorf("Ada was told that %q joined", e.Name)
	}

	ada.say("1", " <b>Hello</b>\n")
	for _, b := range []*browser{ada, bob} {
		said := b.expect("said").Message
		if said.ID != "1" || said.Name != "Ada Lovelace" || said.Text != "<b>Hello</b>" || time.Since(said.Time) > patience {
			t.Errorf("got %+v", said)
		}
	}

	bob.leave()
	if e := ada.expect("left"); e.Name != "Bob" {
		t.Errorf("Ada was told that %q left", e.Name)
	}
}

func TestHistory(t *testing.T) {
	h := newHub()
	h.pace = 0
	addr, _ := start(t, h)
	ada, _ := join(t, addr, "Ada")
	for i := range maxHistory + 3 {
		ada.say(fmt.Sprint(i), "text")
		ada.expect("said")
	}
	ada.say(fmt.Sprint(maxHistory), "sent again")
	ada.say("last", "text")
	if said := ada.expect("said").Message; said.ID != "last" {
		t.Errorf("a remark that was sent twice came back twice: %+v", said)
	}

	_, welcome := join(t, addr, "Bob")
	if got := len(welcome.History); got != maxHistory {
		t.Fatalf("the history has %d messages, want %d", got, maxHistory)
	}
	if first, last := welcome.History[0].ID, welcome.History[maxHistory-1].ID; first != "4" || last != "last" {
		t.Errorf("the history goes from %q to %q, want from 4 to last", first, last)
	}
}

func TestNames(t *testing.T) {
	addr, _ := start(t, newHub())
	ada, _ := join(t, addr, "Ada")

	t.Run("are taken once", func(t *testing.T) {
		b := dial(t, addr)
		b.send(hello{Name: "ADA", Key: "another"})
		if reason := b.expectClose(websocket.StatusPolicyViolation); reason != "the name ADA is taken" {
			t.Errorf("a second Ada was refused because %q", reason)
		}
	})

	t.Run("are kept for who comes back", func(t *testing.T) {
		again, welcome := join(t, addr, "Ada")
		if !slices.Equal(welcome.People, []string{"Ada"}) {
			t.Errorf("Ada was told that %q are here", welcome.People)
		}
		ada.expectClose(websocket.StatusPolicyViolation)
		again.say("1", "Here again")
		again.expect("said") // and nothing of having left
	})
}

func TestRefusals(t *testing.T) {
	h := newHub()
	h.pace = 0
	addr, _ := start(t, h)
	long := strings.Repeat("ä", maxText)
	for _, test := range []struct {
		what, hello, remark, reason string
	}{
		{"hello of no JSON", "hello", "", "want JSON of this chat"},
		{"hello of other JSON", `["Ada"]`, "", "want JSON of this chat"},
		{"no name", `{"name":" \t","key":"k"}`, "", "want a name of 1 to 24 printable characters"},
		{"long name", `{"name":"` + strings.Repeat("ä", 25) + `","key":"k"}`, "", "want a name of 1 to 24 printable characters"},
		{"name with an override of the direction", `{"name":"Ada\u202e","key":"k"}`, "", "want a name of 1 to 24 printable characters"},
		{"no key", `{"name":"Ada"}`, "", "want a key of 1 to 64 bytes"},
		{"remark of no JSON", `{"name":"Ada","key":"k"}`, "[", "want JSON of this chat"},
		{"no id", `{"name":"Ada","key":"k"}`, `{"text":"Hello"}`, "want an id of 1 to 64 bytes"},
		{"no text", `{"name":"Ada","key":"k"}`, `{"id":"1","text":"\n "}`, "want a text of 1 to 1000 characters"},
		{"long text", `{"name":"Ada","key":"k"}`, `{"id":"1","text":"` + long + `ä"}`, "want a text of 1 to 1000 characters"},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := dial(t, addr)
			b.write(websocket.Text, []byte(test.hello))
			if test.remark != "" {
				b.expect("welcome")
				b.write(websocket.Text, []byte(test.remark))
			}
			if reason := b.expectClose(websocket.StatusPolicyViolation); reason != test.reason {
				t.Errorf("refused because %q, want %q", reason, test.reason)
			}
		})
	}

	t.Run("but not what just fits", func(t *testing.T) {
		ada, _ := join(t, addr, strings.Repeat("é", maxName))
		ada.say("1", long)
		if said := ada.expect("said").Message; said.Text != long {
			t.Errorf("a text of %d characters came back as %q", maxText, said.Text)
		}
	})

	t.Run("a message over 8 KiB", func(t *testing.T) {
		ada, _ := join(t, addr, "Ada")
		ada.write(websocket.Text, make([]byte, 8<<10+1))
		ada.expectClose(websocket.StatusMessageTooBig)
	})
}

// A browser that stops reading loses its place, and nobody else waits for it.
func TestSlowBrowser(t *testing.T) {
	h := newHub()
	h.pace = 0
	addr, _ := start(t, h)
	ada, _ := join(t, addr, "Ada")
	bob, _ := join(t, addr, "Bob")
	ada.expect("joined")
	slow, _ := join(t, addr, "Slow")
	h.narrow("Slow")
	slow.conn.SetReadBuffer(4 << 10)
	ada.expect("joined")
	bob.expect("joined")

	// More than two sockets and a queue can hold: the slow one is dismissed on the
	// way, and leaves then or when it reads again, while Ada and Bob are told
	// everything in order.
	text := strings.Repeat("🐌", maxText)
	gone := map[*browser]bool{}
	for i := range 2 * maxQueue {
		id := fmt.Sprint(i)
		ada.say(id, text)
		for _, b := range []*browser{ada, bob} {
			e := b.receive()
			if e.Type == "left" && e.Name == "Slow" {
				gone[b] = true
				e = b.receive()
			}
			if e.Type != "said" || e.Message.ID != id {
				t.Fatalf("got event %+v, want message %s", e, id)
			}
		}
	}

	slow.conn.SetReadBuffer(1 << 20)
	slow.expectClose(websocket.StatusTryAgainLater)
	for _, b := range []*browser{ada, bob} {
		if gone[b] {
			continue
		}
		if e := b.expect("left"); e.Name != "Slow" {
			t.Errorf("%q left, want Slow", e.Name)
		}
	}
	_, welcome := join(t, addr, "Slow")
	if got, want := welcome.History[maxHistory-1].ID, fmt.Sprint(2*maxQueue-1); got != want {
		t.Errorf("the slow browser came back to a history that ends with %s, want %s", got, want)
	}
}

// narrow makes little fit between the server and the browser of that name, so that
// one that does not read is noticed after kilobytes and not megabytes.
func (h *hub) narrow(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.find(name).conn.NetConn().(*net.TCPConn).SetWriteBuffer(4 << 10)
}

func TestFullRoom(t *testing.T) {
	h := newHub()
	for range maxPeople {
		h.members[&member{}] = true
	}
	var refusal *websocket.CloseError
	if _, err := h.enter(nil); !errors.As(err, &refusal) || refusal.Code != websocket.StatusTryAgainLater {
		t.Errorf("a full room was entered with %v, want 1013", err)
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := throttle{pace: time.Second}
		begin := time.Now()
		for i, want := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3} {
			limit.wait(t.Context())
			if got := time.Since(begin); got != want*time.Second {
				t.Errorf("remark %d was let through after %v, want %vs", i+1, got, int(want))
			}
		}
		time.Sleep(time.Minute) // in the bubble's time
		begin = time.Now()
		for range 10 {
			limit.wait(t.Context())
		}
		if got := time.Since(begin); got != 0 {
			t.Errorf("ten remarks after a silence took %v", got)
		}
	})
}
