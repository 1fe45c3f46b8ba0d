package websocket

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pingBurst returns n pings in one segment, and their pongs. Each has another payload.
func pingBurst(n int) (pings []byte, pongs []sentFrame) {
	for i := range n {
		pings = append(pings, clientFrame(true, Ping, fmt.Sprint(i))...)
		pongs = append(pongs, sentFrame{true, Pong, fmt.Sprint(i)})
	}
	return pings, pongs
}

func TestPong_to_pings_that_come_together(t *testing.T) {
	computes(t)
	three, threePongs := pingBurst(3)
	many, manyPongs := pingBurst(5000)
	fragment := clientFrame(false, Text, "a")
	tests := []struct {
		name   string
		pieces [][]byte
		opts   []Option
		pongs  []sentFrame
		writes int // at most
	}{
		{"one ping", segments(clientFrame(true, Ping, "0")), nil, threePongs[:1], 1},
		{"pings that come one by one", segments(clientFrame(true, Ping, "0"), clientFrame(true, Ping, "1"), clientFrame(true, Ping, "2")), nil, threePongs, 3},
		{"three pings", segments(three), nil, threePongs, 1},
		{"a ping and the beginning of another one", segments(three[:len(three)-2], three[len(three)-2:]), nil, threePongs, 2},
		{"pings between fragments", segments(slices.Concat(fragment, three)), nil, threePongs, 1},
		{"5,000 pings", segments(many), nil, manyPongs, 20},
		{"pings without WriteCoalescing", segments(three), []Option{WriteCoalescing(false)}, threePongs, 3},
		{"pings that are dropped", segments(three), []Option{DropIncomingPings(true)}, nil, 0},
	}
	for _, tt := range tests {
		for _, deadline := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, write deadline %t", tt.name, deadline), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, s := newScriptConn(t, tt.pieces, tt.opts...)
					if deadline {
						c.SetWriteDeadline(time.Now().Add(time.Hour))
					}
					receiveAll(c)
					if got := len(s.Writes()); got > tt.writes {
						t.Errorf("got %d writes, want at most %d", got, tt.writes)
					}
					s.wantSent(t, tt.pongs...)
				})
			})
		}
	}
}

// The pongs must not wait for a handler that is busy with the message behind the pings.
func TestPong_does_not_wait_for_a_busy_handler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			c.ReceiveMessage()
			time.Sleep(time.Hour)
			return nil
		})
		pings, pongs := pingBurst(3)
		go p.Write(append(pings, clientFrame(true, Text, "question")...))
		start := time.Now()
		for _, pong := range pongs {
			p.expect(Pong, pong.payload)
		}
		wantDuration(t, "the flush of the pongs", start, pendingTime)
		p.Conn.Close()
		<-done
	})
}

// While the flush of the pongs blocks, a reader that has a deadline keeps only the latest
// ping, however many arrive.
func TestPong_of_a_flood_beside_a_read_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0))
		c.SetReadDeadline(time.Now().Add(time.Second))
		go func() {
			for range 1000 {
				time.Sleep(time.Microsecond) // for the flush timer
				p.Conn.Write(bytes.Repeat(clientFrame(true, Ping, strings.Repeat("p", 125)), 20))
			}
			p.Conn.Write(clientFrame(true, Ping, "the latest"))
		}()
		start := time.Now()
		wantError(t, receiveAll(c), errReadDeadline)
		wantDuration(t, "receiving", start, time.Second)
		if held := cap(c.out.pendingFrames()); held > pendingSize {
			t.Errorf("got %d bytes of pending pongs, want at most %d", held, pendingSize)
		}
		for n := 1; string(p.read().Payload) != "the latest"; n++ {
			if n > pendingSize/127+1 {
				t.Fatalf("got %d pongs, and not the latest", n)
			}
		}
		endConn(c, p)
	})
}

// BenchmarkPings measures pings that arrive many at a time.
func BenchmarkPings(b *testing.B) {
	for _, size := range []int{0, 125} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			const pings = 1000
			wire := append(bytes.Repeat(clientFrame(true, Ping, strings.Repeat("p", size)), pings), clientFrame(true, Binary, "")...)
			c := newRepeatConn(b, wire)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%pings == 0 {
					if _, _, err := c.ReceiveMessage(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
