package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// newStalledConn returns a connection whose socket takes nothing.
func newStalledConn(t *testing.T, limit int) *Conn {
	c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0), CloseTimeout(time.Millisecond), SendQueue(limit))
	t.Cleanup(func() { endConn(c, p) })
	return c
}

// A connection whose peer does not read holds SendQueue at most, and the 64 KiB of the write that
// waits. The measurement adds some KiB.
func TestSendQueue_limits_the_memory(t *testing.T) {
	const limit = 4 << 20
	ways := map[string]func(c *Conn, data []byte) error{
		"TrySend": func(c *Conn, data []byte) error { return c.TrySend(Binary, data) },
		"TrySendPrepared": func(c *Conn, data []byte) error {
			m, err := PrepareMessage(Binary, data)
			if err != nil {
				return err
			}
			return c.TrySendPrepared(m)
		},
	}
	for name, send := range ways {
		for _, size := range []int{0, 1, 16, 300, 3000, 5000, 33_000} {
			t.Run(fmt.Sprintf("%s of %d bytes", name, size), func(t *testing.T) {
				c := newStalledConn(t, limit)
				data := bytes.Repeat([]byte("x"), size)
				before := heap()
				var err error
				for err == nil {
					err = send(c, data)
				}
				wantError(t, err, ErrSendQueueFull)
				grown, counted := int(heap()-before), c.out.queued()
				least := counted * 3 / 4
				if strconv.IntSize < 64 {
					least = 0 // because pointers and lengths count as on 64-bit systems
				}
				if most := limit + pendingSize + 128<<10; grown > most || grown < least {
					t.Errorf("a connection holds %d KiB, want at most %d KiB, and not much less than the %d KiB that it counts",
						grown>>10, most>>10, counted>>10)
				}
			})
		}
	}
}

// The connections share the bytes of a broadcast, but each has its own entries.
func TestBroadcast_memory_of_the_queues(t *testing.T) {
	const limit, members = 1 << 20, 8
	for _, size := range []int{1, 300, 3000, 33_000} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			var conns []*Conn
			for range members {
				conns = append(conns, newStalledConn(t, limit))
			}
			data := bytes.Repeat([]byte("x"), size)
			before := heap()
			for longestQueue(conns) < limit*3/4 {
				if err := Broadcast(slices.Values(conns), Binary, data); err != nil {
					t.Fatal(err)
				}
			}
			grown := int(heap() - before)
			entries := 0
			for _, c := range conns {
				if errors.Is(endOf(c), ErrSendQueueFull) {
					t.Fatal("a queue is full, want that all are almost full")
				}
				entries += c.out.queueOf().len()
			}
			if most := limit + entries*queueOverhead + members*(pendingSize+32<<10); grown > most {
				t.Errorf("%d queues with %d entries hold %d KiB, want at most %d KiB", members, entries, grown>>10, most>>10)
			}
			runtime.KeepAlive(conns)
		})
	}
}

// longestQueue returns how many bytes wait in the queue that holds most. The queues differ, because
// the goroutine that writes the first frames of each has begun at a time of its own.
func longestQueue(conns []*Conn) int {
	longest := 0
	for _, c := range conns {
		longest = max(longest, c.out.queued())
	}
	return longest
}

func TestSendQueue_counts_the_size_of_an_entry(t *testing.T) {
	if got := unsafe.Sizeof(queueEntry{}); got > queueOverhead {
		t.Errorf("an entry has %d bytes, and counts %d", got, queueOverhead)
	}
	if got := unsafe.Sizeof(aloneFrame{}); got > queueOverhead {
		t.Errorf("an aloneFrame has %d bytes, and counts %d", got, queueOverhead)
	}
}

// docs/broadcast.md has this formula for the bytes that a message counts in the queue.
func TestSendQueue_formula_of_the_documentation(t *testing.T) {
	const messages = 20
	send := map[string]func(c *Conn, data []byte) error{
		"Broadcast": func(c *Conn, data []byte) error { return Broadcast(slices.Values([]*Conn{c}), Text, data) },
		"TrySend":   func(c *Conn, data []byte) error { return c.TrySend(Text, data) },
	}
	for name, send := range send {
		for _, size := range []int{1, 30, 300, 1000, 4096, 5000, 33_000} {
			for _, compressed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d bytes, Compression %t", name, size, compressed), func(t *testing.T) {
					counts := 1.25*float64(size) + 80
					var opts []Option
					if compressed {
						counts = 1.25*float64(size+min(size, 4096)) + 130
						opts = append(opts, Compression(0))
					}
					c := newTestConn(wstest.NewSocket(), nil, append(opts, SendQueue(16<<20))...)
					defer c.CloseNow()
					c.out.lock.Lock() // as during a write to a peer that does not read
					defer c.out.lock.Unlock()
					// Numbers are not compressed to a few bytes.
					data := bytes.Repeat([]byte(fmt.Sprint(rand.New(rand.NewPCG(1, 2)).Perm(2000))), 4)[:size]
					for range messages {
						if err := send(c, data); err != nil {
							t.Fatal(err)
						}
					}
					if got, most := c.out.queued(), messages*int(counts); got > most || got < messages*size/4 {
						t.Errorf("%d messages count %d bytes, want at most %d", messages, got, most)
					}
				})
			}
		}
	}
}
