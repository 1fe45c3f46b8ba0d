package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

// A fakeBus is a bus with one process, in memory.
type fakeBus struct {
	room *room

	mu   sync.Mutex
	last uint64
	err  error // of publish
}

func (b *fakeBus) publish(_ context.Context, _ string, data []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	b.last++
	b.room.deliver(b.last, time.Now(), data)
	return b.last, nil
}

func (b *fakeBus) newest(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.err
}

// fail makes publish fail from now on.
func (b *fakeBus) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// testRoom returns a room whose stream "s1" has the messages first to last.
func testRoom(first, last uint64, l limits) (*room, *fakeBus) {
	r := newRoom("test", l)
	b := &fakeBus{room: r, last: last}
	r.bus = b
	r.begin(streamState{id: "s1", first: first, last: last, newest: last})
	r.setConnected(true)
	for seq := first; seq <= last; seq++ {
		deliverText(r, seq)
	}
	return r, b
}

// deliverText delivers the message "message n" with the number n.
func deliverText(r *room, seq uint64) { deliverAt(r, seq, time.Now()) }

func deliverAt(r *room, seq uint64, at time.Time) {
	r.deliver(seq, at, fmt.Appendf(nil, `{"id":"id%d","name":"Bob","text":"message %d"}`, seq, seq))
}

// A user is a client of a room, in memory.
type user struct {
	*websockettest.Client
	t    testing.TB
	time time.Time // of the last event that expect has received
}

func dialRoom(t testing.TB, r *room, opts ...websockettest.DialOption) *user {
	t.Helper()
	opts = append([]websockettest.DialOption{websockettest.URL("/chat"), websockettest.Header("Origin", "http://example.com")}, opts...)
	return &user{Client: websockettest.Dial(t, routes(r), opts...), t: t}
}

// joinRoom connects a user that has seen the messages up to last of the stream.
func joinRoom(t testing.TB, r *room, stream string, last uint64) *user {
	t.Helper()
	return joinRoomAt(t, r, stream, last, time.Time{})
}

// joinRoomAt is joinRoom with the time of the last message.
func joinRoomAt(t testing.TB, r *room, stream string, last uint64, at time.Time) *user {
	t.Helper()
	u := dialRoom(t, r)
	u.SendJSON(hello{Name: "Ada", Stream: stream, Last: last, Time: at})
	return u
}

// expect receives an event for each line, and compares them. See line.
func (u *user) expect(lines ...string) {
	u.t.Helper()
	for i, want := range lines {
		var e event
		u.ReceiveJSON(&e)
		if got := line(e); got != want {
			u.t.Fatalf("event %d is %q, want %q", i, got, want)
		}
		u.time = e.Time
	}
}

// line returns an event in a short form.
func line(e event) string {
	switch e.Type {
	case "welcome":
		if e.Reset {
			return "welcome reset"
		}
		return "welcome"
	case "said":
		return fmt.Sprintf("%d %s", e.Seq, e.Text)
	case "missed":
		return fmt.Sprintf("missed %d up to %d", e.Count, e.Seq)
	case "live", "bus":
		return fmt.Sprintf("%s %v", e.Type, *e.Connected)
	case "failed":
		return "failed " + e.ID
	case "alive":
		return "alive"
	}
	return fmt.Sprintf("%s %s", e.Type, e.ID)
}

// messages returns the lines of the messages first to last.
func messages(first, last uint64) (lines []string) {
	for seq := first; seq <= last; seq++ {
		lines = append(lines, fmt.Sprintf("%d message %d", seq, seq))
	}
	return lines
}

func concat(parts ...[]string) (all []string) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestRoom_catches_up(t *testing.T) {
	small := defaultLimits()
	small.historyEntries = 5
	tests := []struct {
		name        string
		first, last uint64 // in the stream
		limits      limits
		stream      string // that the client knows
		seen        uint64
		want        []string // between the welcome and live
	}{
		{"a new client gets an empty room", 1, 0, defaultLimits(), "", 0, nil},
		{"a new client gets all of a short history", 1, 3, defaultLimits(), "", 0, messages(1, 3)},
		{"a new client gets the newest 50", 1, 80, defaultLimits(), "", 0, messages(31, 80)},
		{"nothing is missing", 1, 3, defaultLimits(), "s1", 3, nil},
		{"one is missing", 1, 3, defaultLimits(), "s1", 2, messages(3, 3)},
		{"more than 50 are missing", 1, 80, defaultLimits(), "s1", 10, messages(11, 80)},
		{"the client has seen none", 1, 3, defaultLimits(), "s1", 0, messages(1, 3)},
		{"the oldest are gone from the stream", 10, 12, defaultLimits(), "s1", 7, concat([]string{"missed 2 up to 9"}, messages(10, 12))},
		{"the oldest are gone from this process", 1, 12, small, "s1", 3, concat([]string{"missed 4 up to 7"}, messages(8, 12))},
		{"the client has the newest before the gap", 10, 12, defaultLimits(), "s1", 9, messages(10, 12)},
		{"all are gone from the stream", 13, 12, defaultLimits(), "s1", 7, []string{"missed 5 up to 12"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := testRoom(tt.first, tt.last, tt.limits)
			u := joinRoom(t, r, tt.stream, tt.seen)
			u.expect("welcome")
			u.expect(tt.want...)
			u.expect("live true")
			deliverText(r, tt.last+1)
			u.expect(messages(tt.last+1, tt.last+1)...)
		})
	}
}

// A new client gets its position with the welcome. If the connection ends before the first
// message, the client reconnects with this position and gets the same messages.
func TestRoom_tells_a_client_its_position(t *testing.T) {
	start := time.Now()
	r, _ := testRoom(1, 0, defaultLimits())
	for seq := range uint64(80) {
		deliverAt(r, seq+1, start.Add(time.Duration(seq+1)*time.Second))
	}
	u := joinRoom(t, r, "", 0)
	var welcome event
	u.ReceiveJSON(&welcome)
	if want := start.Add(30 * time.Second); welcome.Seq != 30 || !welcome.Time.Equal(want) {
		t.Errorf("the position is %d at %v, want 30 at %v", welcome.Seq, welcome.Time, want)
	}
	u = joinRoomAt(t, r, welcome.Stream, welcome.Seq, welcome.Time)
	u.expect(concat([]string{"welcome"}, messages(31, 80), []string{"live true"})...)
}

// A client that knows another stream gets the messages of a new client, and is told so.
func TestRoom_tells_of_another_stream(t *testing.T) {
	r, _ := testRoom(1, 3, defaultLimits())
	u := joinRoom(t, r, "s0", 500)
	u.expect(concat([]string{"welcome reset"}, messages(1, 3), []string{"live true"})...)
}

// The client has seen a message in another process, which this process does not have yet.
func TestRoom_waits_until_it_has_what_the_client_has_seen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := testRoom(1, 3, defaultLimits())
		u := joinRoom(t, r, "s1", 5)
		synctest.Wait()
		deliverText(r, 4)
		synctest.Wait()
		deliverText(r, 5)
		deliverText(r, 6)
		u.expect("welcome", "6 message 6", "live true")
	})
}

func TestRoom_does_not_wait_without_end(t *testing.T) {
	t.Run("a process that stays behind sends the client away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, b := testRoom(1, 3, defaultLimits())
			b.last = 5
			start := time.Now()
			joinRoom(t, r, "s1", 5).WantClose(websocket.StatusTryAgainLater)
			if took := time.Since(start); took != r.limits.behind {
				t.Errorf("the client was sent away after %v, want %v", took, r.limits.behind)
			}
		})
	})
	t.Run("so does a process that cannot ask", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, b := testRoom(1, 3, defaultLimits())
			b.err = errors.New("away")
			joinRoom(t, r, "s1", 5).WantClose(websocket.StatusTryAgainLater)
		})
	})
	t.Run("a client with numbers that the stream has lost begins again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := testRoom(1, 3, defaultLimits())
			u := joinRoom(t, r, "s1", 5)
			u.expect(concat([]string{"welcome reset"}, messages(1, 3), []string{"live true"})...)
		})
	})
	t.Run("a process that has not read the history sends new clients away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom("test", defaultLimits())
			r.bus = &fakeBus{room: r, last: 3}
			r.begin(streamState{id: "s1", first: 1, last: 3, newest: 3})
			deliverText(r, 1)
			joinRoom(t, r, "", 0).WantClose(websocket.StatusTryAgainLater)
		})
	})
	t.Run("a client that catches up too slowly is sent away with progress", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := defaultLimits()
			l.catchUp = time.Second
			r, _ := testRoom(1, 5000, l)
			u := dialRoom(t, r)
			u.StopReading()
			u.SendJSON(hello{Name: "Ada", Stream: "s1"})
			time.Sleep(2 * time.Second)
			u.StartReading()
			u.expect(concat([]string{"welcome"}, messages(1, 100))...)
			u.WantClose(websocket.StatusTryAgainLater)
		})
	})
}

// Messages come all the time while clients join. Each client gets each message once.
func TestRoom_has_no_gap_between_history_and_live(t *testing.T) {
	const before, during = 1000, 3000
	r, _ := testRoom(1, before, defaultLimits())
	go func() {
		for seq := uint64(before + 1); seq <= before+during; seq++ {
			deliverText(r, seq)
		}
	}()
	for client := range uint64(8) {
		seen := client * 100
		u := joinRoom(t, r, "s1", seen)
		u.expect("welcome")
		for next := seen + 1; next <= before+during; {
			var e event
			u.ReceiveJSON(&e)
			if e.Type == "live" {
				continue
			}
			if e.Type != "said" || e.Seq != next {
				t.Fatalf("client %d got %q, want message %d", client, line(e), next)
			}
			next++
		}
	}
}

// A client that does not read is closed with 1013. It reconnects and gets the rest.
func TestRoom_closes_slow_clients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := testRoom(1, 0, defaultLimits())
		slow, fast := joinRoom(t, r, "", 0), joinRoom(t, r, "", 0)
		slow.expect("welcome", "live true")
		fast.expect("welcome", "live true")
		slow.StopReading()
		const all = 1500
		for seq := uint64(1); seq <= all; seq++ {
			text := strings.Repeat("x", 900)
			r.deliver(seq, time.Now(), fmt.Appendf(nil, `{"id":"i","name":"Bob","text":"%d %s"}`, seq, text))
			var e event
			fast.ReceiveJSON(&e)
			if e.Seq != seq {
				t.Fatalf("the fast client got message %d, want %d", e.Seq, seq)
			}
		}
		if n := r.live.Len(); n != 1 {
			t.Errorf("%d clients are live, want the fast one", n)
		}
		slow.StartReading()
		var last uint64
		for {
			frame := slow.ReceiveFrame()
			if frame.Opcode == websocket.Close {
				end, err := websocket.ParseClose(frame.Payload)
				if err != nil || end.Code != websocket.StatusTryAgainLater {
					t.Fatalf("the slow client was closed with %v (error %v), want 1013", end, err)
				}
				break
			}
			if frame.Opcode != websocket.Text {
				continue
			}
			var e event
			if err := json.Unmarshal(frame.Payload, &e); err != nil || e.Seq != last+1 {
				t.Fatalf("the slow client got message %d (error %v) behind %d", e.Seq, err, last)
			}
			last = e.Seq
		}
		if last == 0 || last == all {
			t.Fatalf("the slow client got %d of %d messages before it was closed, want a part", last, all)
		}
		again := joinRoom(t, r, "s1", last)
		again.expect("welcome")
		for next := last + 1; next <= all; next++ {
			var e event
			again.ReceiveJSON(&e)
			if e.Seq != next {
				t.Fatalf("after the reconnect, the client got %q, want message %d", line(e), next)
			}
		}
		again.expect("live true")
	})
}

func TestRoom_when_the_stream_is_made_again(t *testing.T) {
	for name, state := range map[string]streamState{
		"with another id":                {id: "s2", first: 1, last: 4, newest: 4},
		"or has lost its newest part":    {id: "s1", first: 1, last: 1, newest: 1},
		"or has used its numbers again":  {id: "s1", first: 1, last: 3, newest: 3, lastAt: time.Now().Add(time.Hour)},
		"or has used them and continued": {id: "s1", first: 1, last: 4, newest: 4, lastAt: time.Now().Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := testRoom(1, 3, defaultLimits())
			u := joinRoom(t, r, "s1", 3)
			u.expect("welcome", "live true")
			if next := r.begin(state); next != 1 {
				t.Errorf("the room wants the messages from %d, want 1", next)
			}
			u.WantClose(websocket.StatusServiceRestart)
			for seq := uint64(1); seq <= state.last; seq++ {
				deliverText(r, seq)
			}
			again := joinRoom(t, r, "s0", 3)
			again.expect(concat([]string{"welcome reset"}, messages(1, state.last), []string{"live true"})...)
		})
	}
}

// The stream has lost the messages 2 and 3, and other messages have these numbers now.
func TestRoom_when_numbers_are_used_again(t *testing.T) {
	old := time.Now()
	again := old.Add(time.Hour)
	tests := []struct {
		name    string
		entries int64 // in the history
		seen    uint64
		at      time.Time
		want    []string
	}{
		{"the client has a message that is lost", 10, 3, old, concat([]string{"welcome reset"}, messages(1, 4))},
		{"the client has the message that followed", 10, 3, again, concat([]string{"welcome"}, messages(4, 4))},
		{"the client has none that is lost", 10, 1, old, concat([]string{"welcome"}, messages(2, 4))},
		{"the client has none", 10, 0, time.Time{}, concat([]string{"welcome"}, messages(1, 4))},
		{"the client does not know the time", 10, 3, time.Time{}, concat([]string{"welcome"}, messages(4, 4))},
		{"the process does not know the time", 1, 3, old, concat([]string{"welcome"}, messages(4, 4))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := defaultLimits()
			l.historyEntries = tt.entries
			r, _ := testRoom(1, 0, l)
			for seq := uint64(1); seq <= 3; seq++ {
				deliverAt(r, seq, old)
			}
			if next := r.begin(streamState{id: "s1", first: 1, last: 1, newest: 1}); next != 1 {
				t.Errorf("the room wants the messages from %d, want 1", next)
			}
			deliverAt(r, 1, old)
			for seq := uint64(2); seq <= 4; seq++ {
				deliverAt(r, seq, again)
			}
			u := joinRoomAt(t, r, "s1", tt.seen, tt.at)
			u.expect(append(tt.want, "live true")...)
		})
	}
}

// A client that catches up when the numbers become invalid is closed, and gets no message with
// a new number.
func TestRoom_when_the_stream_is_made_again_while_a_client_catches_up(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := testRoom(1, 5000, defaultLimits())
		u := dialRoom(t, r)
		u.StopReading()
		u.SendJSON(hello{Name: "Ada", Stream: "s1"})
		time.Sleep(time.Second)
		r.begin(streamState{id: "s1", first: 1, last: 1, newest: 1})
		deliverText(r, 1)
		u.StartReading()
		u.expect("welcome")
		for next := uint64(1); ; next++ {
			frame := u.ReceiveFrame()
			if frame.Opcode == websocket.Close {
				end, err := websocket.ParseClose(frame.Payload)
				if err != nil || end.Code != websocket.StatusServiceRestart {
					t.Errorf("the client was closed with %v (error %v), want 1012", end, err)
				}
				return
			}
			var e event
			if err := json.Unmarshal(frame.Payload, &e); err != nil || e.Type != "said" || e.Seq != next {
				t.Fatalf("got %q (error %v), want message %d", frame.Payload, err, next)
			}
		}
	})
}

// The newest messages of the stream were deleted, so that no message comes with their numbers.
func TestRoom_when_the_newest_messages_were_deleted(t *testing.T) {
	r := newRoom("test", defaultLimits())
	r.bus = &fakeBus{room: r, last: 5}
	r.begin(streamState{id: "s1", first: 1, last: 5, newest: 3})
	r.setConnected(true)
	for seq := uint64(1); seq <= 3; seq++ {
		deliverText(r, seq)
	}
	if r.ready() != nil {
		t.Error("the room is not ready, want that it does not wait for deleted messages")
	}
	newcomer := joinRoom(t, r, "", 0)
	newcomer.expect(concat([]string{"welcome"}, messages(1, 3), []string{"missed 2 up to 5", "live true"})...)
	again := joinRoom(t, r, "s1", 5)
	again.expect("welcome", "live true")
	deliverText(r, 6)
	newcomer.expect(messages(6, 6)...)
	again.expect(messages(6, 6)...)
}

// NATS was away, and comes back with messages that this process has missed.
func TestRoom_when_the_stream_continues(t *testing.T) {
	tests := []struct {
		name     string
		state    streamState
		next     uint64
		deliver  []uint64
		expected []string
	}{
		{"with all messages", streamState{id: "s1", first: 1, last: 5, newest: 5}, 4, []uint64{4, 5}, messages(4, 5)},
		{"with messages that were delivered before", streamState{id: "s1", first: 1, last: 4, newest: 4}, 4, []uint64{2, 3, 4}, messages(4, 4)},
		{"without some messages", streamState{id: "s1", first: 6, last: 6, newest: 6}, 4, []uint64{6}, concat([]string{"missed 2 up to 5"}, messages(6, 6))},
		{"without any message", streamState{id: "s1", first: 6, last: 5}, 6, []uint64{6}, concat([]string{"missed 2 up to 5"}, messages(6, 6))},
		{"without the newest message", streamState{id: "s1", first: 1, last: 5, newest: 4}, 4, []uint64{4, 6},
			concat(messages(4, 4), []string{"missed 1 up to 5"}, messages(6, 6))},
		{"without the newest messages", streamState{id: "s1", first: 1, last: 5, newest: 2}, 6, []uint64{6}, concat([]string{"missed 2 up to 5"}, messages(6, 6))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := testRoom(1, 3, defaultLimits())
			u := joinRoom(t, r, "s1", 3)
			u.expect("welcome", "live true")
			r.setConnected(false)
			u.expect("bus false")
			late := joinRoom(t, r, "s1", 2)
			late.expect("welcome", "3 message 3", "live false")
			if next := r.begin(tt.state); next != tt.next {
				t.Errorf("the room wants the messages from %d, want %d", next, tt.next)
			}
			for _, seq := range tt.deliver {
				deliverText(r, seq)
			}
			r.setConnected(true)
			u.expect(append(tt.expected, "bus true")...)
			late.expect(append(tt.expected, "bus true")...)
		})
	}
}

// A stream continues the messages of a process if its message with the number of the newest one
// is the same message.
func TestRoom_follows(t *testing.T) {
	r, _ := testRoom(1, 3, defaultLimits())
	_, at := r.last()
	tests := []struct {
		name  string
		state streamState
		want  bool
	}{
		{"the same messages", streamState{id: "s1", last: 3, lastAt: at}, true},
		{"more messages", streamState{id: "s1", last: 4, lastAt: at}, true},
		{"the newest was deleted", streamState{id: "s1", last: 4}, true},
		{"fewer messages", streamState{id: "s1", last: 2}, false},
		{"another message with this number", streamState{id: "s1", last: 4, lastAt: at.Add(time.Nanosecond)}, false},
		{"another stream", streamState{id: "s2", last: 3, lastAt: at}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.follows(tt.state); got != tt.want {
				t.Errorf("follows returned %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRoom_says_what_became_of_a_message(t *testing.T) {
	r, b := testRoom(1, 0, defaultLimits())
	u := joinRoom(t, r, "", 0)
	u.expect("welcome", "live true")
	u.SendJSON(remark{ID: "a", Text: " Hello "})
	u.expect("1 Hello", "stored a")
	b.fail(&publishError{"not sent: no NATS", errors.New("disconnected")})
	u.SendJSON(remark{ID: "b", Text: "Are you there?"})
	var e event
	u.ReceiveJSON(&e)
	if e.Type != "failed" || e.ID != "b" || e.Reason != "not sent: no NATS" {
		t.Errorf("got %+v, want that b has failed, with the reason", e)
	}
	b.fail(nil)
	u.SendJSON(remark{ID: "b", Text: "Are you there?"})
	u.expect("2 Are you there?", "stored b")
}

func TestRoom_skips_messages_of_others(t *testing.T) {
	r, _ := testRoom(1, 1, defaultLimits())
	u := joinRoom(t, r, "s1", 1)
	u.expect("welcome", "live true")
	r.deliver(2, time.Now(), []byte("not JSON"))
	deliverText(r, 3)
	u.expect("3 message 3")
	joinRoom(t, r, "s1", 1).expect("welcome", "3 message 3", "live true")
}

// A page notices a failure of the network because an event comes every 20 seconds otherwise.
func TestServe_says_that_it_is_alive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := testRoom(1, 0, defaultLimits())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		start := time.Now()
		go func() { ended <- serve(ctx, make(wstest.IdleListener), r) }()
		u := joinRoom(t, r, "", 0)
		u.expect("welcome", "live true")
		for n := range 3 {
			u.expect("alive")
			if got, want := time.Since(start), time.Duration(n+1)*20*time.Second; got != want {
				t.Errorf("event %d came after %v, want %v", n+1, got, want)
			}
		}
		stop()
		u.WantClose(websocket.StatusGoingAway)
		if err := <-ended; err != nil {
			t.Errorf("the server stopped with %v, want no error", err)
		}
	})
}

func TestHistory_limits(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name string
		h    history
		want []uint64
	}{
		{"none is reached", history{maxEntries: 10, maxBytes: 1000}, []uint64{1, 2, 3, 4, 5}},
		{"entries", history{maxEntries: 2, maxBytes: 1000}, []uint64{4, 5}},
		{"bytes", history{maxEntries: 10, maxBytes: 399}, []uint64{3, 4, 5}},
		{"age", history{maxEntries: 10, maxBytes: 1000, maxAge: 2 * time.Minute}, []uint64{3, 4, 5}},
		{"all are too old", history{maxEntries: 10, maxBytes: 0}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seq := uint64(1); seq <= 5; seq++ {
				tt.h.add(entry{seq: seq, size: 100, at: now.Add(time.Duration(seq) * time.Minute)})
			}
			var got []uint64
			entries, complete := tt.h.after(0, 1<<20)
			for _, e := range entries {
				got = append(got, e.seq)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) || !complete || tt.h.last != 5 || tt.h.bytes != int64(100*len(got)) {
				t.Errorf("got %v with %d bytes, last %d, complete %v; want %v", got, tt.h.bytes, tt.h.last, complete, tt.want)
			}
		})
	}
}
