package websocket

import (
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An encoder is borrowed with the first compressed message, and returned when none was sent for
// a while.
func TestCompression_returns_the_encoder(t *testing.T) {
	tests := []struct {
		name    string
		opt     Option
		quiet   time.Duration // the longest time in which it is kept
		borrows bool
		offer   string
	}{
		{"with the ping", PingInterval(10 * time.Second), 20 * time.Second, true, "permessage-deflate"},
		{"without pings", PingInterval(0), 2 * restInterval, true, "permessage-deflate"},
		{"no takeover", PingInterval(0), 0, false, "permessage-deflate; server_no_context_takeover"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				r := wstest.ReadRequest(wstest.Handshake("Sec-WebSocket-Extensions: " + tt.offer + "\r\n"))
				c := newRequestConn(r, server, nil, tt.opt, ConnectionTimeout(0), Compression(10))
				defer c.CloseNow()
				go io.Copy(io.Discard, client)
				holds := func() bool {
					c.out.lock.Lock()
					defer c.out.release(byLibrary)
					return c.compression().encoder != nil
				}
				send := func(text string) {
					if err := c.SendMessage(Text, []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				send("short")
				if holds() {
					t.Error("an encoder was borrowed for an uncompressed message")
				}
				for range 3 {
					for range 10 { // it is kept while messages are sent
						send(tick(1))
						if holds() != tt.borrows {
							t.Fatalf("the connection holds an encoder: %t, want %t", !tt.borrows, tt.borrows)
						}
						time.Sleep(tt.quiet / 3)
					}
					time.Sleep(tt.quiet)
					synctest.Wait()
					if holds() {
						t.Fatalf("the connection holds an encoder after %v", tt.quiet)
					}
				}
			})
		})
	}
}

// The encoder goes back when the connection ends.
func TestCompression_returns_the_encoder_at_the_end(t *testing.T) {
	c, p := newTCPConn(t, Compression(0))
	if err := c.SendMessage(Text, []byte(tick(1))); err != nil {
		t.Fatal(err)
	}
	hangUp(p)
	c.Close(StatusNormalClosure, "")
	if c.compression().encoder != nil {
		t.Error("a closed connection holds an encoder")
	}
}

// A connection that has sent compressed messages holds 16 KiB at most, and nothing when it is
// idle.
func TestCompression_memory(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector needs memory of its own")
	}
	const n = 200
	conns := make([]*Conn, n)
	for i := range conns {
		conns[i], _ = offering(t, "permessage-deflate")
	}
	send := func(from int) {
		for _, c := range conns {
			for i := range 10 {
				if err := c.SendMessage(Text, []byte(tick(from+i))); err != nil {
					t.Fatal(err)
				}
			}
			c.socket.conn().(*wstest.Socket).Forget()
		}
	}
	before := heap()
	send(1)
	if busy := (heap() - before) / n; busy > 16<<10 {
		t.Errorf("a busy connection holds %d bytes, want at most 16 KiB", busy)
	}
	for _, c := range conns {
		c.out.returnIdle()
		c.out.returnIdle()
	}
	if idle := (heap() - before) / n; idle > 512 {
		t.Errorf("an idle connection holds %d bytes", idle)
	}
}

// heap returns the bytes of the heap that are in use. The pools are empty.
func heap() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool keeps its items for one more
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestSend_compressed_allocations(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector makes sync.Pool drop items")
	}
	small, large := []byte(strings.Repeat(tick(1), 2)), []byte(strings.Repeat(tick(1), 60))
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; server_no_context_takeover"} {
		t.Run(offer, func(t *testing.T) {
			c := offeringOn(t, wstest.Repeat(clientFrame(true, Pong, "")), offer) // it keeps nothing
			checkAllocs(t, "SendMessage of a small message", 0, func() { c.SendMessage(Text, small) })
			checkAllocs(t, "SendMessage of a larger message", 0, func() { c.SendMessage(Text, large) })
			p, err := PrepareMessage(Text, large)
			if err != nil {
				t.Fatal(err)
			}
			checkAllocs(t, "SendPrepared", 0, func() { c.SendPrepared(p) })
		})
	}
}

// A PreparedMessage is compressed once for all connections with the same window.
func TestPreparedMessage_is_compressed_once(t *testing.T) {
	p, err := PrepareMessage(Text, []byte(strings.Repeat(tick(1), 10)))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := offering(t, "permessage-deflate")
	d, _ := offering(t, "permessage-deflate; server_no_context_takeover")
	small, _ := offering(t, "permessage-deflate; server_max_window_bits=8")
	plain, _ := newScriptConn(t, nil)
	first := p.frameFor(c.compression()).bytes
	if again := p.frameFor(d.compression()).bytes; &again[0] != &first[0] {
		t.Error("two connections with the same window have two frames")
	}
	if other := p.frameFor(small.compression()).bytes; &other[0] == &first[0] || len(other) > 400 {
		t.Errorf("a connection with a smaller window has a frame of %d bytes, want one of its own", len(other))
	}
	if f := p.frameFor(plain.compression()).bytes; &f[0] != &p.frame[0] {
		t.Error("a connection without compression has another frame")
	}
	if c.SetCompression(5000); &p.frameFor(c.compression()).bytes[0] != &p.frame[0] {
		t.Error("a message below the minimum is compressed")
	}
}

// The goroutine of net/http has 4 KiB. The encoder and the decoder must not double that, also for
// a message with codes of its own.
func TestCompression_stack_stays_small(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector needs more stack")
	}
	if os.Getenv("GODEBUG") != stackSettings {
		computes(t)
		runAlone(t, "GODEBUG="+stackSettings)
		return
	}
	const conns = 100
	most := stackLimit()
	srv := startServer(t, appendEcho, Compression(0))
	message := tick(3) + tick(4)
	least := uint64(math.MaxUint64)
	for range 3 { // as in TestConn_stack_stays_small
		before := stackInUse()
		for range conns {
			p := dialServer(t, srv, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
			p.Frames.AnyFrame = true
			p.Write(compressedMessage(Binary, message))
			if f := p.read(); !f.RSV1 {
				t.Fatal("the message is not compressed")
			}
		}
		if least = min(least, (max(stackInUse(), before)-before)/conns); least <= most {
			return
		}
	}
	t.Errorf("got a stack of %d bytes, want at most %d", least, most)
}
