package websocket

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wantTight checks that a slice which the caller may keep is at most half empty.
func wantTight(t testing.TB, what string, b []byte) {
	t.Helper()
	if cap(b) > 2*len(b) {
		t.Errorf("%s: got a capacity of %d for %d bytes, want at most twice the length", what, cap(b), len(b))
	}
}

// splitMessages are the payload lengths of the frames of messages.
var splitMessages = map[string][]int{
	"empty":                         {0},
	"a byte":                        {1},
	"9 bytes":                       {9},
	"33 bytes":                      {33},
	"2048 bytes":                    {2048},
	"5000 bytes":                    {5000},
	"2048 bytes and none":           {2048, 0},
	"a byte and none":               {1, 0},
	"none and a byte":               {0, 1},
	"two bytes":                     {1, 1},
	"600 bytes and one":             {600, 1},
	"1000 empty fragments, a byte":  append(make([]int, 1000), 1),
	"300 fragments of a byte":       slices.Repeat([]int{1}, 300),
	"16 KiB in 125 bytes":           slices.Repeat([]int{125}, 131),
	"64 KiB in 1 KiB":               slices.Repeat([]int{1 << 10}, 64),
	"4096 and 1":                    {4096, 1},
	"64 KiB and 1":                  {64 << 10, 1},
	"100 KiB and 1":                 {100 << 10, 1},
	"80 KB in growing fragments":    {1, 10, 100, 1000, 10000, 70000},
	"80 KB in shrinking fragments":  {70000, 10000, 1000, 100, 10, 1},
	"300 KB in 70 KB, and a byte":   {70000, 70000, 70000, 70000, 20000, 1},
	"one fragment and then nothing": {40000, 0, 0, 0},
}

// framesOf returns the frames of a message, with a ping before the last, and its payload.
func framesOf(lengths []int) (wire []byte, payload string) {
	op := Binary
	for i, n := range lengths {
		part := strings.Repeat(string(rune('a'+i%26)), n)
		last := i == len(lengths)-1
		if last && i > 0 {
			wire = append(wire, clientFrame(true, Ping, "in between")...)
		}
		wire = append(wire, clientFrame(last, op, part)...)
		payload += part
		op = Continuation
	}
	return wire, payload
}

// keptBy has the ways to receive a message whose slices the caller may keep. Each checks
// them.
var keptBy = map[string]func(t testing.TB, c *Conn) ([]byte, error){
	"ReceiveMessage": func(t testing.TB, c *Conn) ([]byte, error) {
		_, data, err := c.ReceiveMessage()
		wantTight(t, "the message", data)
		return data, err
	},
	"AppendMessage to nil": func(t testing.TB, c *Conn) ([]byte, error) {
		_, data, err := c.AppendMessage(nil)
		wantTight(t, "the message", data)
		return data, err
	},
	"AppendMessage to a full dst": func(t testing.TB, c *Conn) ([]byte, error) {
		_, data, err := c.AppendMessage([]byte("dst")[:3:3])
		if err == nil && cap(data) > 2*len(data)+8 { // the allocator has no size class between 8 and 16
			t.Errorf("got a capacity of %d for %d bytes", cap(data), len(data))
		}
		return bytes.TrimPrefix(data, []byte("dst")), err
	},
	"Messages": func(t testing.TB, c *Conn) ([]byte, error) {
		for m, err := range c.Messages() {
			wantTight(t, "the message", m.Data)
			return m.Data, err
		}
		return nil, nil
	},
	"ReceiveFragments": func(t testing.TB, c *Conn) ([]byte, error) {
		frames, err := c.ReceiveFragments()
		for _, f := range frames {
			wantTight(t, "a payload", f.Payload)
		}
		if err != nil {
			return nil, err
		}
		_, data, err := ProcessFragments(frames)
		wantTight(t, "the message", data)
		return data, err
	},
	"ReadFrame": func(t testing.TB, c *Conn) ([]byte, error) {
		var data []byte
		for {
			f, err := c.ReadFrame()
			wantTight(t, "a payload", f.Payload)
			if err != nil || f.Opcode == Binary && f.Fin || f.Opcode == Continuation && f.Fin {
				return append(data, f.Payload...), err
			}
			if !f.Opcode.IsControl() {
				data = append(data, f.Payload...)
			}
		}
	},
	"HandleConcurrent": func(t testing.TB, c *Conn) ([]byte, error) {
		beginReadAhead(c)
		_, data, err := c.ReceiveMessage()
		wantTight(t, "the message", data)
		return data, err
	},
}

func TestMessages_hold_at_most_twice_their_length(t *testing.T) {
	t.Parallel()
	arrivals := map[string]func(wire []byte) [][]byte{
		"at once":        func(wire []byte) [][]byte { return segments(wire) },
		"1400 at a time": func(wire []byte) [][]byte { return slices.Collect(slices.Chunk(wire, 1400)) },
		"7 at a time":    func(wire []byte) [][]byte { return slices.Collect(slices.Chunk(wire[:min(len(wire), 3000)], 7)) },
		"with the next": func(wire []byte) [][]byte {
			return segments(append(wire, bytes.Repeat(clientFrame(true, Binary, "next"), 1000)...))
		},
		"with fragments of the next": func(wire []byte) [][]byte {
			return segments(slices.Concat(wire, clientFrame(false, Binary, "next"), bytes.Repeat(clientFrame(false, Continuation, stars(100)), 50)))
		},
	}
	for arrival, arrive := range arrivals {
		for way, receive := range keptBy {
			for name, lengths := range splitMessages {
				wire, want := framesOf(lengths)
				if arrival == "7 at a time" && len(wire) > 3000 || strings.HasPrefix(arrival, "with") && len(wire) > 50000 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", arrival, way, name), func(t *testing.T) {
					computes(t)
					c, _ := newScriptConn(t, arrive(wire))
					if got, err := receive(t, c); err != nil || string(got) != want {
						t.Errorf("got %d bytes %.20q and error %v, want %d bytes", len(got), got, err, len(want))
					}
				})
			}
		}
	}
}

// A read deadline expires between any two segments.
func TestMessages_hold_at_most_twice_their_length_after_deadlines(t *testing.T) {
	t.Parallel()
	for way, receive := range keptBy {
		if way == "HandleConcurrent" || way == "ReadFrame" {
			continue // deadlines are not those of the socket, or ReadFrame returns between them
		}
		for name, lengths := range splitMessages {
			t.Run(way+"/"+name, func(t *testing.T) {
				computes(t)
				wire, want := framesOf(lengths)
				var script [][]byte
				for piece := range slices.Chunk(wire, max(1, len(wire)/20)) {
					script = append(script, piece, nil)
				}
				c, _ := newScriptConn(t, script)
				got, err := receive(t, c)
				for isTimeout(err) {
					got, err = receive(t, c)
				}
				if err != nil || string(got) != want {
					t.Errorf("got %d bytes and error %v, want %d bytes", len(got), err, len(want))
				}
			})
		}
	}
}

// AppendMessage keeps the array of dst, also if the message fills only a small part of it.
func TestAppendMessage_keeps_a_large_dst(t *testing.T) {
	for name, lengths := range map[string][]int{"one frame": {5}, "two frames": {2, 3}} {
		wire, _ := framesOf(lengths)
		c, _ := newScriptConn(t, segments(wire))
		dst := make([]byte, 3, 5000)
		_, got, err := c.AppendMessage(dst)
		if err != nil || len(got) != 8 || cap(got) != cap(dst) || &got[0] != &dst[0] {
			t.Errorf("%s: got length %d, capacity %d and error %v; want 8 bytes in dst's array", name, len(got), cap(got), err)
		}
	}
}

// The capacity of an incomplete message depends on what has arrived, also if a fragment
// says that more follows.
func TestReceiveMessage_fragment_allocates_no_more_than_has_arrived(t *testing.T) {
	for name, tt := range map[string]struct {
		sent []byte
		want int
	}{
		"a byte of a large fragment":       {clientFrame(false, Binary, stars(100<<10))[:15], 512},
		"a fragment of a byte":             {clientFrame(false, Binary, "x"), 512},
		"a fragment of 2048 bytes":         {clientFrame(false, Binary, stars(2048)), 2048},
		"2048 bytes of a larger fragment":  {clientFrame(false, Binary, stars(100<<10))[:2048+14], 64 << 10},
		"2048 bytes in two fragments":      {append(clientFrame(false, Binary, stars(2000)), clientFrame(false, Continuation, stars(48))...), 4048},
		"a whole message of two fragments": {slices.Concat(clientFrame(false, Binary, stars(2000)), clientFrame(true, Ping, "!"), clientFrame(true, Continuation, stars(48))), 2048},
		"a whole message and the next":     {slices.Concat(clientFrame(false, Binary, stars(999)), clientFrame(true, Continuation, "x"), messageBurst(9, stars(99))), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(tt.sent, nil))
			if got := roomForFirstFrame(t, c); got > tt.want {
				t.Errorf("got room for %d bytes, want at most %d", got, tt.want)
			}
		})
	}
}

func TestReceiveMessage_in_fragments_allocates_rarely(t *testing.T) {
	for name, tt := range map[string]struct {
		size, fragment int
		want           float64
	}{
		"2048 bytes":          {2048, 2048, 1},
		"16 KiB in 125 bytes": {16 << 10, 125, 3},
		"64 KiB in 1 KiB":     {64 << 10, 1 << 10, 4},
	} {
		c := newRepeatConn(t, fragmentedMessage(tt.size, tt.fragment))
		checkAllocs(t, name, tt.want, func() { c.ReceiveMessage() })
	}
}
