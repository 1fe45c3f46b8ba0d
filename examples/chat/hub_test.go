package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
)

func TestRoom(t *testing.T) {
	h := newHub(defaultLimits())
	ada, welcome := join(t, h, " Ada  Lovelace ")
	if welcome.Name != "Ada Lovelace" || !slices.Equal(welcome.People, []string{"Ada Lovelace"}) || welcome.History != nil {
		t.Errorf("Ada got the welcome %+v, want her name, herself as the only member and no history", welcome)
	}

	bob, welcome := join(t, h, "Bob")
	if !slices.Equal(welcome.People, []string{"Ada Lovelace", "Bob"}) {
		t.Errorf("Bob got the members %q, want Ada Lovelace and Bob", welcome.People)
	}
	if e := ada.expect("joined"); e.Name != "Bob" {
		t.Errorf("Ada got the event that %q joined, want Bob", e.Name)
	}

	ada.say("1", " <b>Hello</b>\n")
	for _, b := range []*browser{ada, bob} {
		said := b.expect("said").Message
		if said.ID != "1" || said.Name != "Ada Lovelace" || said.Text != "<b>Hello</b>" || time.Since(said.Time) > time.Minute {
			t.Errorf("got message %+v, want ID 1, Ada Lovelace's name, the trimmed text and the current time", said)
		}
	}

	bob.Close(websocket.StatusNormalClosure, "")
	if e := ada.expect("left"); e.Name != "Bob" {
		t.Errorf("Ada got the event that %q left, want Bob", e.Name)
	}
}

func TestHistory(t *testing.T) {
	h := newHub(unpaced())
	ada, _ := join(t, h, "Ada")
	for i := range maxHistory + 3 {
		ada.say(fmt.Sprint(i), "text")
		ada.expect("said")
	}
	ada.say(fmt.Sprint(maxHistory), "sent again")
	ada.say("last", "text")
	if said := ada.expect("said").Message; said.ID != "last" {
		t.Errorf("got message %+v, want the one with the ID last, because the repeated remark is ignored", said)
	}

	_, welcome := join(t, h, "Bob")
	if got := len(welcome.History); got != maxHistory {
		t.Fatalf("the history has %d messages, want %d", got, maxHistory)
	}
	if first, last := welcome.History[0].ID, welcome.History[maxHistory-1].ID; first != "4" || last != "last" {
		t.Errorf("the IDs in the history go from %q to %q, want from 4 to last", first, last)
	}
}

func TestNames(t *testing.T) {
	h := newHub(defaultLimits())
	ada, _ := join(t, h, "Ada")

	t.Run("refuses the name of another member", func(t *testing.T) {
		b := dial(t, h)
		b.SendJSON(hello{Name: "ADA", Key: "another"})
		if reason := b.WantClose(websocket.StatusPolicyViolation); reason != "the name ADA is taken" {
			t.Errorf("the second Ada was closed with the reason %q, want that the name is taken", reason)
		}
	})

	t.Run("refuses a name that looks like that of another member", func(t *testing.T) {
		b := dial(t, h)
		b.SendJSON(hello{Name: "Ａ d a", Key: "another"})
		if reason := b.WantClose(websocket.StatusPolicyViolation); reason != "the name Ａ d a is taken" {
			t.Errorf("the second Ada was closed with the reason %q, want that the name is taken", reason)
		}
	})

	t.Run("replaces the old connection of the same browser", func(t *testing.T) {
		again, welcome := join(t, h, "Ada")
		if !slices.Equal(welcome.People, []string{"Ada"}) {
			t.Errorf("Ada got the members %q, want Ada alone", welcome.People)
		}
		ada.WantClose(websocket.StatusPolicyViolation)
		again.say("1", "Here again")
		again.expect("said") // and no event that Ada left
	})
}

// A browser that joins again with another spelling of its name gets the new name.
func TestNames_spelled_anew(t *testing.T) {
	h := newHub(defaultLimits())
	bob, _ := join(t, h, "Bob")
	join(t, h, "Ada")
	bob.expect("joined")
	again := dial(t, h)
	again.SendJSON(hello{Name: "ADA", Key: "key of Ada"})
	if welcome := again.expect("welcome"); !slices.Equal(welcome.People, []string{"ADA", "Bob"}) {
		t.Errorf("the members are %q, want ADA and Bob", welcome.People)
	}
	if left, joined := bob.expect("left"), bob.expect("joined"); left.Name != "Ada" || joined.Name != "ADA" {
		t.Errorf("%q left and %q joined, want Ada and ADA", left.Name, joined.Name)
	}
}

func TestRefusals(t *testing.T) {
	h := newHub(unpaced())
	long := strings.Repeat("ä", maxText)
	for _, test := range []struct {
		name, hello, remark, reason string
	}{
		{"hello that is not JSON", "hello", "", "want a JSON message of this chat"},
		{"hello that is not an object", `["Ada"]`, "", "want a JSON message of this chat"},
		{"no name", `{"name":" \t","key":"k"}`, "", "want a name of 1 to 24 visible characters"},
		{"long name", `{"name":"` + strings.Repeat("ä", 25) + `","key":"k"}`, "", "want a name of 1 to 24 visible characters"},
		{"name with a direction override", `{"name":"Ada\u202e","key":"k"}`, "", "want a name of 1 to 24 visible characters"},
		{"blank name", `{"name":"\u3164\u2800","key":"k"}`, "", "want a name of 1 to 24 visible characters"},
		{"name of two scripts", `{"name":"Аda","key":"k"}`, "", "want a name in one script, with composed letters"},
		{"huge name", `{"name":"` + strings.Repeat("a", 7000) + `","key":"k"}`, "", "want a name of 1 to 24 visible characters"},
		{"the page's own word", `{"name":"you","key":"k"}`, "", "the name you is taken"},
		{"huge key", `{"name":"Ada","key":"` + strings.Repeat("k", 65) + `"}`, "", "want a key of 1 to 64 bytes"},
		{"no key", `{"name":"Ada"}`, "", "want a key of 1 to 64 bytes"},
		{"remark that is not JSON", `{"name":"Ada","key":"k"}`, "[", "want a JSON message of this chat"},
		{"no id", `{"name":"Ada","key":"k"}`, `{"text":"Hello"}`, "want an id of 1 to 64 bytes"},
		{"no text", `{"name":"Ada","key":"k"}`, `{"id":"1","text":"\n "}`, "want a visible text of 1 to 1000 characters"},
		{"huge id", `{"name":"Ada","key":"k"}`, `{"id":"` + strings.Repeat("1", 65) + `","text":"Hello"}`, "want an id of 1 to 64 bytes"},
		{"blank text", `{"name":"Ada","key":"k"}`, `{"id":"1","text":"\u3164"}`, "want a visible text of 1 to 1000 characters"},
		{"long text", `{"name":"Ada","key":"k"}`, `{"id":"1","text":"` + long + `ä"}`, "want a visible text of 1 to 1000 characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := dial(t, h)
			b.Send(websocket.Text, []byte(test.hello))
			if test.remark != "" {
				b.expect("welcome")
				b.Send(websocket.Text, []byte(test.remark))
			}
			if reason := b.WantClose(websocket.StatusPolicyViolation); reason != test.reason {
				t.Errorf("closed with the reason %q, want %q", reason, test.reason)
			}
		})
	}

	t.Run("accepts the longest name and text", func(t *testing.T) {
		ada, _ := join(t, h, strings.Repeat("é", maxName))
		ada.say("1", long)
		if said := ada.expect("said").Message; said.Text != long {
			t.Errorf("got the text %q, want the %d characters that were sent", said.Text, maxText)
		}
	})

	t.Run("message over 8 KiB", func(t *testing.T) {
		ada, _ := join(t, h, "Ada")
		ada.Send(websocket.Text, make([]byte, 8<<10+1))
		ada.WantClose(websocket.StatusMessageTooBig)
	})
}

// TestSlowBrowser checks that the hub removes a browser that stops reading, and that the
// other browsers get all messages meanwhile.
func TestSlowBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := unpaced()
		l.queue = 256 << 10
		h := newHub(l)
		ada, _ := join(t, h, "Ada")
		bob, _ := join(t, h, "Bob")
		ada.expect("joined")
		slow, _ := join(t, h, "Slow")
		slow.StopReading()
		ada.expect("joined")
		bob.expect("joined")

		// These messages are more than the network and a queue can hold, so the
		// hub removes the slow browser. The event that it left comes during the loop or
		// after it reads again. Ada and Bob get all messages in order.
		const remarks = 128
		text := strings.Repeat("🐌", maxText)
		sawLeft := map[*browser]bool{}
		for i := range remarks {
			id := fmt.Sprint(i)
			ada.say(id, text)
			for _, b := range []*browser{ada, bob} {
				e := b.receive()
				if e.Type == "left" && e.Name == "Slow" {
					sawLeft[b] = true
					e = b.receive()
				}
				if e.Type != "said" || e.Message.ID != id {
					t.Fatalf("got event %+v, want message %s", e, id)
				}
			}
		}

		slow.StartReading()
		slow.WantClose(websocket.StatusTryAgainLater)
		for _, b := range []*browser{ada, bob} {
			if sawLeft[b] {
				continue
			}
			if e := b.expect("left"); e.Name != "Slow" {
				t.Errorf("got the event that %q left, want Slow", e.Name)
			}
		}
		_, welcome := join(t, h, "Slow")
		if got, want := welcome.History[maxHistory-1].ID, fmt.Sprint(remarks-1); got != want {
			t.Errorf("after the slow browser reconnected, the history ends with message %s, want %s", got, want)
		}
	})
}

// TestNoHello checks that a browser which sends no hello does not stay in the room.
func TestNoHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dial(t, newHub(defaultLimits()))
		begin := time.Now()
		b.WantClose(websocket.StatusPolicyViolation)
		if got := time.Since(begin); got != defaultLimits().hello {
			t.Errorf("the browser was disconnected after %v, want %v", got, defaultLimits().hello)
		}
	})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := throttle{rate: rate{time.Second, 10}}
		begin := time.Now()
		for i, want := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3} {
			limit.wait(t.Context())
			if got := time.Since(begin); got != want*time.Second {
				t.Errorf("remark %d was read after %v, want %ds", i+1, got, int(want))
			}
		}
		time.Sleep(time.Minute) // takes no time, because synctest's clock is fake
		begin = time.Now()
		for range 10 {
			limit.wait(t.Context())
		}
		if got := time.Since(begin); got != 0 {
			t.Errorf("ten remarks after a pause took %v, want 0s", got)
		}
	})
}
