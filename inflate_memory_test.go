package websocket

import (
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A bomb costs no more memory than the limit, whatever receives it.
func TestReceive_bomb(t *testing.T) {
	const limit = 64 << 10
	// Each of these MiB of zeros refers to no other.
	payload := strings.Repeat(deflated(string(make([]byte, 1<<20)))+"\x00\x00\xff\xff", 100)
	if len(payload) > 110<<10 {
		t.Fatalf("the bomb has %d bytes, want 1000 : 1", len(payload))
	}
	wires := map[string][]byte{
		"one frame": withBits(rsv1Bit, clientFrame(true, Binary, payload)),
		"fragments": compressedFragments(Binary, payload, 1000),
	}
	for name, wire := range wires {
		for _, r := range inflatingReceivers {
			t.Run(r.name+" "+name, func(t *testing.T) {
				c, s := newScriptConn(t, segments(wire), Compression(0), MaxMessageSize(limit), MaxFrameSize(1<<20))
				expired := 0
				var err error
				got := wstest.Allocated(func() { _, _, err = r.receive(c, &expired) })
				wantError(t, err, ErrMessageTooLarge)
				wantFailed(t, s, StatusMessageTooBig)
				if most := uint64(8 * limit); got > most {
					t.Errorf("allocated %d bytes, want at most %d", got, most)
				}
			})
		}
		t.Run("Discard "+name, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(wire, nil), Compression(0))
			if got := wstest.Allocated(func() { c.Discard() }); got > 160<<10 {
				t.Errorf("allocated %d bytes, want the read buffers at most", got)
			}
		})
		t.Run("Stream "+name, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(wire), Compression(0))
			p := make([]byte, 4<<10)
			var err error
			got := wstest.Allocated(func() {
				for range 1000 {
					_, err = c.Stream(Binary).Read(p)
				}
			})
			if err != nil || got > 300<<10 {
				t.Errorf("allocated %d bytes, and got error %v", got, err)
			}
		})
	}
}

// Memory grows with what arrives, not with the limit.
func TestReceive_compressed_memory_of_a_part(t *testing.T) {
	wire := compressedMessage(Binary, stars(2000))
	c, _ := newScriptConn(t, segments(wire[:len(wire)-1], nil), Compression(0), MaxMessageSize(MaxSize))
	got := wstest.Allocated(func() { c.ReceiveMessage() })
	if got > 96<<10 { // with a new decoder; the race detector makes pools drop buffers
		t.Errorf("allocated %d bytes for a message of 2000", got)
	}
	if held := unfinishedSize(c); held == 0 || held > 4000 {
		t.Errorf("a deadline keeps %d bytes of a message of 2000", held)
	}
}

func TestReceive_compressed_allocations(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector makes sync.Pool drop items")
	}
	text := strings.Repeat(`{"id":17,"name":"Ada","price":12.50}`, 8)
	dst := make([]byte, 0, 1000)
	repeat := func() *Conn {
		return newSocketConn(t, wstest.Repeat(compressedMessage(Text, text)), Compression(0))
	}
	c := repeat()
	checkAllocs(t, "AppendMessage", 0, func() {
		if _, data, err := c.AppendMessage(dst); err != nil || string(data) != text {
			t.Fatalf("got %q and error %v", data, err)
		}
	})
	c = repeat()
	checkAllocs(t, "ReceiveMessage", 1, func() {
		if _, data, err := c.ReceiveMessage(); err != nil || cap(data) > len(text)+16 {
			t.Fatalf("got a capacity of %d and error %v, want %d", cap(data), err, len(text))
		}
	})
}
