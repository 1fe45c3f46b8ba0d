package hostile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/events"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestHostile_2000_connections_that_declare_1_MiB_and_send_10_bytes(t *testing.T) {
	attack(t, ignores, func(l *wstest.Load) {
		clients := l.ConnectAll(wstest.Scale(t, 2000, 1000))
		connected := wstest.Measure()
		// The pong shows that the server has read the frame after the ping, because
		// both come in one segment.
		wire := slices.Concat(wstest.Message(wstest.Ping, ""), wstest.ClientHeader(0x82, 1<<20), []byte("ten bytes."))
		l.Together(clients, func(c *wstest.Client) error {
			if _, err := c.Conn.Write(wire); err != nil {
				return err
			}
			f, err := c.ReadFrame()
			if err == nil && f.Opcode() != wstest.Pong {
				err = fmt.Errorf("got %v, want a pong", f)
			}
			return err
		})
		now := wstest.Measure()
		most := 1<<20 + uint64(len(clients))<<11
		if !events.Supported {
			most += uint64(len(clients)) << 12 // a goroutine of HandleMessages has a larger stack after its first ping
		}
		l.WantAtMost(now.Growth(connected), most, "memory for the frames")
		l.WantAtMost(now.Growth(l.Before), 64<<20, "memory for both sides of the connections, and for the frames")
	})
}

// net/http needs about 15 MiB for each such header, so no connection is made.
func TestHostile_4_handshakes_with_128000_headers(t *testing.T) {
	var headers strings.Builder
	for i := range 128_000 {
		fmt.Fprintf(&headers, "%05x:\r\n", i)
	}
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("Detached(%t)", detached), func(t *testing.T) {
			attackServer(t, handle, nil, receiveAll, func(l *wstest.Load) {
				n := wstest.Scale(t, 4, 2)
				l.Each(n, 2, func(int) error {
					c, err := l.Connect()
					if err != nil {
						return err
					}
					if err := c.Upgrade(headers.String()); err == nil || !strings.Contains(err.Error(), "431") {
						return fmt.Errorf("Upgrade returned %v, want the status 431", err)
					}
					return nil
				})
				l.WantAtMost(wstest.Measure().Growth(l.Before), wstest.MemorySlack, "memory after the refusals")
			}, websocket.Detached(detached))
		})
	}
}

// A connection keeps its headers, in as many lines as are accepted.
func TestHostile_4_handshakes_with_1_MiB_of_headers(t *testing.T) {
	headers := strings.Repeat("a: "+strings.Repeat("x", 2660)+"\r\n", 390)
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("Detached(%t)", detached), func(t *testing.T) {
			attackServer(t, handle, nil, receiveAll, func(l *wstest.Load) {
				n := wstest.Scale(t, 4, 2)
				clients := make([]*wstest.Client, n)
				l.Each(n, 2, func(i int) (err error) {
					if clients[i], err = l.Connect(); err != nil {
						return err
					}
					return clients[i].Upgrade(headers)
				})
				l.Together(clients, sendAndExpectPong)
				now := wstest.Measure()
				l.WantAtMost(now.Growth(l.Before), uint64(n*2*len(headers))+wstest.MemorySlack, "memory for the headers")
			}, websocket.Detached(detached))
		})
	}
}

// sendAndExpectPong waits until the server has answered a ping.
func sendAndExpectPong(c *wstest.Client) error {
	if _, err := c.Conn.Write(wstest.Message(wstest.Ping, "")); err != nil {
		return err
	}
	f, err := c.ReadFrame()
	if err == nil && f.Opcode() != wstest.Pong {
		err = fmt.Errorf("got %v, want a pong", f)
	}
	return err
}

func TestHostile_lengths_of_64_bits(t *testing.T) {
	for _, tt := range []struct {
		length string
		code   uint16
		is     error
	}{
		{"\x80\x00\x00\x00\x00\x00\x00\x00", 1002, websocket.ErrProtocol},
		{"\x80\x00\x00\x00\x00\x00\x00\x05", 1002, websocket.ErrProtocol},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", 1002, websocket.ErrProtocol},
		{"\x7f\xff\xff\xff\xff\xff\xff\xff", 1009, websocket.ErrMessageTooLarge},
		{"\x00\x00\x00\x01\x00\x00\x00\x00", 1009, websocket.ErrMessageTooLarge},
		{"\x00\x00\x00\x00\x80\x00\x00\x00", 1009, websocket.ErrMessageTooLarge},
	} {
		t.Run(fmt.Sprintf("%x", tt.length), func(t *testing.T) {
			attack(t, ignores, func(l *wstest.Load) {
				clients := l.ConnectAll(wstest.Scale(t, 100, 100))
				l.Together(clients, func(c *wstest.Client) error {
					_, err := c.Conn.Write([]byte("\x82\xff" + tt.length + "keyspayload"))
					return err
				})
				l.WantClosed(clients, tt.code)
				l.WantEnds(len(clients), is(tt.is))
			})
		})
	}
}

// splitMessage returns a message of n frames with the same payload: the last frame
// separately, because only it ends the message.
func splitMessage(n int, payload string) (most, last []byte) {
	first := wstest.ClientFrame(0x02, payload)
	more := bytes.Repeat(wstest.ClientFrame(0x00, payload), n-2)
	return append(first, more...), wstest.ClientFrame(0x80, payload)
}

func TestHostile_100000_empty_fragments(t *testing.T) {
	most, last := splitMessage(100_000, "")
	t.Run("and the end", func(t *testing.T) {
		attack(t, echoes, func(l *wstest.Load) {
			clients := l.ConnectAll(wstest.Scale(t, 20, 5))
			peak := l.Peak(func() {
				l.Together(clients, func(c *wstest.Client) error {
					if _, err := c.Conn.Write(slices.Concat(most, last)); err != nil {
						return err
					}
					f, err := c.ReadFrame()
					if err != nil || f.First != 0x82 || len(f.Payload) > 0 {
						return fmt.Errorf("got %v and error %v, want an empty message", f, err)
					}
					return nil
				})
			})
			l.WantAtMost(peak, 32<<20, "peak memory of both sides")
		})
	})
	t.Run("and more than MaxFragments", func(t *testing.T) {
		attack(t, ignores, func(l *wstest.Load) {
			clients := l.ConnectAll(wstest.Scale(t, 20, 5))
			l.Together(clients, func(c *wstest.Client) error {
				_, err := c.Conn.Write(most)
				return err
			})
			l.WantClosed(clients, 1009)
			l.WantEnds(len(clients), is(websocket.ErrMessageTooLarge))
		}, websocket.MaxFragments(99_000))
	})
}

// oneByteFragments returns a message of n bytes in fragments of one, cut into
// pieces of 64 KiB.
func oneByteFragments(n int) [][]byte {
	most, last := splitMessage(n, "x")
	return slices.Collect(slices.Chunk(slices.Concat(most, last), 64<<10))
}

// defaultMaxFragments is the default of MaxFragments, as it is documented.
const defaultMaxFragments = 131072

func TestHostile_1_MiB_in_fragments_of_one_byte(t *testing.T) {
	size := 1 << 20
	if wstest.RaceEnabled() || testing.Short() {
		size >>= 3
		t.Logf("scaled down from 1 MiB to %d KiB", size>>10)
	}
	t.Run("takes linear time and memory", func(t *testing.T) {
		quarter, _ := receiveFragments(t, size/4)
		whole, memory := receiveFragments(t, size)
		t.Logf("a quarter takes %v, the whole %v and allocates %d KiB", quarter, whole, memory>>10)
		if memory > 8*uint64(size) {
			t.Errorf("a message of %d KiB allocates %d KiB", size>>10, memory>>10)
		}
		if whole > 10*quarter {
			t.Errorf("a message takes %v and a quarter of it %v: that is not linear", whole, quarter)
		}
	})
	t.Run("comes back whole", func(t *testing.T) {
		attack(t, echoes, func(l *wstest.Load) {
			clients := l.ConnectAll(wstest.Scale(t, 4, 2))
			wire := oneByteFragments(size)
			l.Before = wstest.Measure() // the attackers share what they send
			peak := l.Peak(func() {
				l.Together(clients, func(c *wstest.Client) error { return exchangeFragments(c, wire, size) })
			})
			l.WantAtMost(peak, wstest.MemorySlack+8*uint64(size*len(clients)), "peak memory of both sides")
		}, websocket.MaxFragments(size))
	})
	t.Run("is over the default MaxFragments", func(t *testing.T) {
		attack(t, ignores, func(l *wstest.Load) {
			clients := l.ConnectAll(4)
			l.Together(clients, func(c *wstest.Client) error {
				_, err := c.Conn.Write(slices.Concat(oneByteFragments(defaultMaxFragments + 2)...))
				return err
			})
			l.WantClosed(clients, 1009)
			l.WantEnds(len(clients), is(websocket.ErrMessageTooLarge))
		})
	})
}

// receiveFragments receives a message of n fragments from memory, three times. It returns
// the shortest time and the bytes that were allocated.
func receiveFragments(t *testing.T, n int) (best time.Duration, memory uint64) {
	wire := oneByteFragments(n)
	best = time.Hour
	for range 3 {
		socket := wstest.NewSocket(wire...)
		c, err := websocket.Upgrade(&wstest.Hijacker{Conn: socket}, wstest.ReadRequest(wstest.Request()),
			websocket.MaxFragments(n), websocket.PingInterval(0), websocket.ConnectionTimeout(0))
		if err != nil {
			t.Fatal(err)
		}
		memory = wstest.Allocated(func() {
			start := time.Now()
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != n {
				t.Fatalf("got %d bytes and error %v, want %d", len(data), err, n)
			}
			best = min(best, time.Since(start))
		})
		c.Close(websocket.StatusNormalClosure, "")
	}
	return best, memory
}

// exchangeFragments sends a message of size bytes and checks its echo.
func exchangeFragments(c *wstest.Client, wire [][]byte, size int) error {
	for _, b := range wire {
		if _, err := c.Conn.Write(b); err != nil {
			return err
		}
	}
	f, err := c.ReadFrame()
	if err != nil || string(f.Payload) != strings.Repeat("x", size) {
		return fmt.Errorf("got %d bytes and error %v, want the %d bytes that were sent", len(f.Payload), err, size)
	}
	return nil
}
