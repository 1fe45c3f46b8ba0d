package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An inflater inflates the messages of a server as a client with context takeover does: with
// compress/flate, and with a window of exactly the agreed size.
type inflater struct {
	bits       int
	noTakeover bool
	window     []byte
}

func newInflater(c *Conn) *inflater {
	a := c.compression().agreed
	return &inflater{bits: int(a.windowBits), noTakeover: a.noTakeover}
}

// message returns the payload of a whole message.
func (in *inflater) message(f Frame) (string, error) {
	switch {
	case !f.Fin || f.RSV2 || f.RSV3:
		return "", fmt.Errorf("got the frame %+v, want one whole message", f.Header)
	case !f.RSV1:
		return string(f.Payload), nil
	}
	const end = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	r := flate.NewReaderDict(io.MultiReader(bytes.NewReader(f.Payload), strings.NewReader(end)), in.window)
	data, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("a message of %d bytes cannot be inflated: %w", len(f.Payload), err)
	}
	if len(f.Payload) >= len(data) {
		return "", fmt.Errorf("a message of %d bytes was sent as %d", len(data), len(f.Payload))
	}
	if !in.noTakeover {
		in.window = append(in.window, data...)
		in.window = slices.Clone(in.window[max(0, len(in.window)-1<<in.bits):])
	}
	return string(data), nil
}

// offering returns a Conn on a script, which has agreed to the answer for offer.
func offering(t testing.TB, offer string, opts ...Option) (*Conn, scriptSocket) {
	s := scriptSocket{wstest.NewSocket()}
	return offeringOn(t, s.Socket, offer, opts...), s
}

func offeringOn(t testing.TB, s *wstest.Socket, offer string, opts ...Option) *Conn {
	r := wstest.ReadRequest(wstest.Handshake("Sec-WebSocket-Extensions: " + offer + "\r\n"))
	opts = append([]Option{PingInterval(0), ConnectionTimeout(0), Compression(0)}, opts...)
	c := newRequestConn(r, s, nil, opts...)
	t.Cleanup(func() {
		s.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c
}

// messageSenders are the ways to send one whole message.
var messageSenders = map[string]func(c *Conn, op Opcode, data []byte) error{
	"SendMessage": (*Conn).SendMessage,
	"TrySend":     (*Conn).TrySend,
	"SendPrepared": func(c *Conn, op Opcode, data []byte) error {
		p, err := PrepareMessage(op, data)
		return errors.Join(err, c.SendPrepared(p))
	},
	"TrySendPrepared": func(c *Conn, op Opcode, data []byte) error {
		p, err := PrepareMessage(op, data)
		return errors.Join(err, c.TrySendPrepared(p))
	},
	"Broadcast": func(c *Conn, op Opcode, data []byte) error {
		return Broadcast(slices.Values([]*Conn{c}), op, data)
	},
	"MessageWriter": func(c *Conn, op Opcode, data []byte) error {
		w, err := c.MessageWriter(op)
		if err != nil {
			return err
		}
		w.Write(data[:len(data)/2])
		w.Write(data[len(data)/2:])
		return w.Close()
	},
	"Stream": func(c *Conn, op Opcode, data []byte) error {
		_, err := c.Stream(op).Write(data)
		return err
	},
}

// withHistory are those that can refer to earlier messages.
var withHistory = []string{"SendMessage", "TrySend", "MessageWriter", "Stream"}

// testOffers are the agreements that matter to an encoder.
var testOffers = map[string]string{
	"takeover":                 "permessage-deflate",
	"no takeover":              "permessage-deflate; server_no_context_takeover",
	"smallest window":          "permessage-deflate; server_max_window_bits=8",
	"no takeover, 9 bits":      "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
	"largest window of client": "permessage-deflate; server_max_window_bits=15",
}

func tick(i int) string {
	return fmt.Sprintf(`{"type":"tick","symbol":"ACME","seq":%d,"bid":%d.25,"ask":%d.75,"venue":"XETRA","currency":"EUR"}`, i, 100+i%7, 101+i%7)
}

// Each method sends a message as one compressed frame, and the next one refers to it if that
// was agreed on.
func TestSend_compressed(t *testing.T) {
	for method, send := range messageSenders {
		for name, offer := range testOffers {
			t.Run(method+" "+name, func(t *testing.T) {
				c, s := offering(t, offer)
				var sizes []int
				in := newInflater(c)
				for i, text := range []string{tick(1), tick(2), tick(3), strings.Repeat(tick(4), 20)} {
					op := []Opcode{Text, Binary}[i%2]
					if err := send(c, op, []byte(text)); err != nil {
						t.Fatal(err)
					}
					waitFlushed(t, c)
					frames := s.frames(t)
					if len(frames) != 1 || frames[0].Opcode != op {
						t.Fatalf("message %d: got the frames %v, want one", i, frames)
					}
					if got, err := in.message(frames[0]); err != nil || got != text {
						t.Fatalf("message %d: got %q and error %v, want %q", i, got, err, text)
					}
					sizes = append(sizes, len(frames[0].Payload))
				}
				refers := slices.Contains(withHistory, method) && !in.noTakeover
				if small := sizes[1] < len(tick(2))/2; small != refers {
					t.Errorf("got messages of %d bytes; want the second one to refer to the first: %t", sizes, refers)
				}
				if sizes[3] > 20*len(tick(4))/4 {
					t.Errorf("got messages of %d bytes; want the last one to shrink to a quarter of %d", sizes, 20*len(tick(4)))
				}
			})
		}
	}
}

// waitFlushed waits until nothing is left to write.
func waitFlushed(t testing.TB, c *Conn) {
	t.Helper()
	if !wstest.Eventually(func() bool {
		c.out.flushByTimer()
		c.out.lock.Lock()
		defer c.out.release(byLibrary)
		return !c.out.hasPending.Load()
	}) {
		t.Fatal("frames are pending for ever")
	}
}

// Some messages are not compressed.
func TestSend_not_compressed(t *testing.T) {
	random := make([]byte, 30_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	tests := []struct {
		name string
		op   Opcode
		data string
		min  int // SetCompression
		want bool
	}{
		{"at the minimum", Binary, stars(100), 100, true},
		{"below the minimum", Binary, stars(99), 100, false},
		{"off", Binary, stars(1000), -1, false},
		{"an empty message", Text, "", 0, false},
		{"one byte", Text, "a", 0, false},
		{"random bytes", Binary, string(random[:100]), 0, false},
		{"many random bytes", Binary, string(random), 0, false},
		{"a ping", Ping, stars(100), 0, false},
		{"a pong", Pong, stars(100), 0, false},
	}
	for _, tt := range tests {
		for method, send := range messageSenders {
			if tt.op.IsControl() && (method == "MessageWriter" || method == "Stream") || tt.data == "" && method == "Stream" {
				continue
			}
			t.Run(method+" "+tt.name, func(t *testing.T) {
				c, s := offering(t, "permessage-deflate")
				c.SetCompression(tt.min)
				if err := send(c, tt.op, []byte(tt.data)); err != nil {
					t.Fatal(err)
				}
				waitFlushed(t, c)
				var got string
				for i, f := range s.frames(t) {
					if f.RSV1 != tt.want || f.RSV1 && i > 0 || i == 0 && f.Opcode != tt.op {
						t.Errorf("got the header %+v, want RSV1 %t", f.Header, tt.want)
					}
					got += string(f.Payload)
				}
				if !tt.want && got != tt.data {
					t.Errorf("got %d bytes, want the %d of the message", len(got), len(tt.data))
				}
			})
		}
	}
}

// SetCompression has no effect without an agreement, and Compression(0) none on its own.
func TestSetCompression_without_an_agreement(t *testing.T) {
	c, s := newScriptConn(t, nil)
	c.SetCompression(0)
	if err := c.SendMessage(Text, []byte(stars(100))); err != nil {
		t.Fatal(err)
	}
	if f := s.frames(t)[0]; f.RSV1 || c.Extensions() != "" {
		t.Errorf("got the header %+v with the extensions %q, want none", f.Header, c.Extensions())
	}
}

// A mix of everything that the client must be able to inflate with one window: messages that
// refer to others, those that were compressed for many connections, large ones, uncompressed
// ones and those of the user.
func TestSend_compressed_mix(t *testing.T) {
	for name, offer := range testOffers {
		t.Run(name, func(t *testing.T) {
			c, s := offering(t, offer)
			in := newInflater(c)
			random := rand.New(rand.NewPCG(1, 2))
			noise := make([]byte, 5000)
			rand.NewChaCha8([32]byte{}).Read(noise)
			names := slices.Sorted(func(yield func(string) bool) {
				for name := range messageSenders {
					if !yield(name) {
						return
					}
				}
			})
			for i := range 300 {
				text := tick(i)
				switch random.IntN(10) {
				case 0:
					text = strings.Repeat(text, 1+random.IntN(400)) // some are larger than aloneSize
				case 1:
					text = string(noise[:1+random.IntN(len(noise)-1)])
				case 2:
					text = text[:random.IntN(20)+1]
				}
				method := names[random.IntN(len(names))]
				switch random.IntN(8) {
				case 0:
					c.SetCompression(-1)
				case 1:
					c.SetCompression(80)
				default:
					c.SetCompression(0)
				}
				err := messageSenders[method](c, Binary, []byte(text))
				if random.IntN(20) == 0 && err == nil { // compressed by the user
					err = c.WriteFrame(Frame{Header{Fin: true, RSV1: true, Opcode: Binary}, []byte(deflated(tick(7)))})
				}
				if err != nil {
					t.Fatal(err)
				}
				waitFlushed(t, c)
				frames := joinFragments(s.frames(t))
				if got, err := in.message(frames[0]); err != nil || got != text {
					t.Fatalf("message %d, %s: got %d bytes and error %v, want %d", i, method, len(got), err, len(text))
				}
				for _, f := range frames[1:] {
					if got, err := in.message(f); err != nil || got != tick(7) {
						t.Fatalf("message %d: got %q and error %v, want that of the user", i, got, err)
					}
				}
			}
		})
	}
}

// joinFragments joins the frames of messages that are not compressed.
func joinFragments(frames []Frame) (joined []Frame) {
	for _, f := range frames {
		if f.Opcode != Continuation {
			joined = append(joined, f)
			continue
		}
		last := &joined[len(joined)-1]
		last.Fin, last.Payload = f.Fin, append(last.Payload, f.Payload...)
	}
	return joined
}

// A MessageWriter gathers up to gatherSize for one compressed frame.
func TestMessageWriter_compressed(t *testing.T) {
	tests := []struct {
		name   string
		writes []int
		frames int
		rsv1   bool
	}{
		{"small writes", []int{1, 2, 3, 4}, 1, true},
		{"more than a fragment", []int{3000, 3000, 3000}, 1, true},
		{"the bound", []int{gatherSize - 1, 1}, 1, true},
		{"over the bound", []int{gatherSize - 1, 2}, 2, false},
		{"over the bound with many writes", slices.Repeat([]int{5000}, 15), 4, false},
		{"a large write", []int{gatherSize}, 2, false},
		{"a large write behind a small one", []int{10, gatherSize}, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := offering(t, "permessage-deflate")
			in := newInflater(c)
			for round := range 2 {
				w, err := c.MessageWriter(Text)
				if err != nil {
					t.Fatal(err)
				}
				total := 0
				for _, n := range tt.writes {
					if _, err := io.WriteString(w, stars(n)); err != nil {
						t.Fatal(err)
					}
					total += n
				}
				if early := len(s.Writes()); tt.rsv1 && early > 0 {
					t.Errorf("%d writes before Close", early)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				frames := s.frames(t)
				if len(frames) != tt.frames || frames[0].RSV1 != tt.rsv1 {
					t.Errorf("round %d: got %d frames with RSV1 %t, want %d with %t", round, len(frames), frames[0].RSV1, tt.frames, tt.rsv1)
				}
				if got, err := in.message(joinFragments(frames)[0]); err != nil || len(got) != total {
					t.Errorf("got %d bytes and error %v, want %d", len(got), err, total)
				}
			}
		})
	}
}

// SetCompression(-1) during a message of a MessageWriter keeps it from being compressed.
func TestMessageWriter_compression_ends(t *testing.T) {
	steps := map[string]func(c *Conn, w io.WriteCloser) error{
		"before a Write": func(c *Conn, w io.WriteCloser) error {
			c.SetCompression(-1)
			_, err := io.WriteString(w, stars(5000))
			c.SetCompression(0)
			return errors.Join(err, w.Close())
		},
		"before Close": func(c *Conn, w io.WriteCloser) error {
			c.SetCompression(-1)
			return w.Close()
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			c, s := offering(t, "permessage-deflate")
			w, err := c.MessageWriter(Text)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, stars(10_000))
			if err := step(c, w); err != nil {
				t.Fatal(err)
			}
			for _, f := range s.frames(t) {
				if f.RSV1 || strings.Trim(string(f.Payload), "*") != "" {
					t.Errorf("got the frame %+v with %d bytes, want it uncompressed", f.Header, len(f.Payload))
				}
			}
		})
	}
}

// While a peer does not read, TrySend puts messages into the queue, and they are compressed when
// they are written, with those that other methods have sent.
func TestTrySend_compressed_in_the_queue(t *testing.T) {
	server, client := tcpPair(t)
	tcpOf(server).SetWriteBuffer(64 << 10)
	tcpOf(client).SetReadBuffer(64 << 10)
	c := newTestConn(server, nil, Compression(0), SendQueue(16<<20))
	defer c.CloseNow()
	in := newInflater(c)
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	want := []string{}
	try := func(send func(Opcode, []byte) error, text string) {
		t.Helper()
		if err := send(Binary, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want = append(want, text)
	}
	try(c.TrySend, tick(0))
	try(c.TrySend, string(noise)) // the kernel does not take all of it
	for i := range 300 {
		try(c.TrySend, tick(i))
		switch i % 60 {
		case 20:
			try(messageSendersTo(c, "Broadcast"), strings.Repeat(tick(i), 3))
		case 30:
			try(c.TrySend, strings.Repeat(tick(i), 500))
		case 40:
			try(c.TrySend, "x")
		}
	}
	if queued := c.Stats().Queued; queued < 300*len(tick(0)) {
		t.Skipf("the kernel has taken all but %d bytes", queued)
	}
	sent := make(chan error, 1)
	go func() { sent <- c.SendMessage(Binary, []byte(tick(1))) }()
	want = append(want, tick(1))
	p := newPeer(t, client)
	p.Frames.AnyFrame = true
	var small int
	for i, text := range want {
		f := p.read()
		if got, err := in.message(f); err != nil || got != text {
			t.Fatalf("message %d: got %d bytes and error %v, want %d", i, len(got), err, len(text))
		}
		if len(f.Payload) < len(text)/2 && len(text) == len(tick(100)) {
			small++
		}
	}
	if err := await(t, sent); err != nil {
		t.Error(err)
	}
	if small < 100 {
		t.Errorf("%d messages in the queue refer to others, want most of 300", small)
	}
	if got := c.Stats(); got.MessagesSent != uint64(len(want)) || got.Queued != 0 {
		t.Errorf("got %d messages sent and %d bytes queued, want %d and 0", got.MessagesSent, got.Queued, len(want))
	}
}

func messageSendersTo(c *Conn, method string) func(Opcode, []byte) error {
	return func(op Opcode, data []byte) error { return messageSenders[method](c, op, data) }
}

// Many goroutines send at the same time, in all ways, to a client with context takeover.
func TestSend_compressed_at_the_same_time(t *testing.T) {
	const senders, each = 8, 40
	names := []string{"SendMessage", "TrySend", "SendPrepared", "Broadcast", "MessageWriter", "Stream"}
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; server_no_context_takeover"} {
		t.Run(offer, func(t *testing.T) {
			srv := startServer(t, func(c *Conn) error {
				var running sync.WaitGroup
				var failed atomic.Pointer[error]
				for i := range senders {
					running.Go(func() {
						send := messageSenders[names[i%len(names)]]
						for j := range each {
							text := fmt.Sprintf("%d %d %s", i, j, tick(j))
							if j%13 == 12 {
								text += strings.Repeat(tick(j), 200)
							}
							if j%7 == 6 {
								c.SetCompression(i - 3)
							}
							if err := send(c, Binary, []byte(text)); err != nil {
								failed.Store(&err)
							}
						}
					})
				}
				running.Wait()
				if err := failed.Load(); err != nil {
					return *err
				}
				_, _, err := c.ReceiveMessage()
				return err
			}, Compression(0))
			p := dialServer(t, srv, "Sec-WebSocket-Extensions: "+offer+"\r\n")
			p.Frames.AnyFrame = true
			in := &inflater{bits: 12, noTakeover: strings.Contains(offer, "no_context")}
			next := make([]int, senders)
			var fragments []Frame
			for n := 0; n < senders*each; {
				f := p.read()
				if f.Opcode == Close {
					t.Fatalf("got a close frame %q after %d messages", f.Payload, n)
				}
				if fragments = append(fragments, f); !f.Fin {
					continue
				}
				got, err := in.message(joinFragments(fragments)[0])
				fragments = nil
				var i, j int
				if _, scanErr := fmt.Sscanf(got, "%d %d ", &i, &j); err != nil || scanErr != nil || next[i] != j || !strings.Contains(got, tick(j)) {
					t.Fatalf("message %d: got %.60q and error %v, want the next of a goroutine %v", n, got, err, next)
				}
				next[i]++
				n++
			}
			p.Close()
		})
	}
}

// After a message that could not be sent, the next one refers to nothing that the client has
// not got.
func TestSend_compressed_after_a_write_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, Compression(0))
		defer c.CloseNow()
		p.Frames.AnyFrame = true
		in := newInflater(c)
		receive := func(want string) {
			t.Helper()
			if got, err := in.message(p.read()); err != nil || got != want {
				t.Fatalf("got %q and error %v, want %q", got, err, want)
			}
		}
		go c.SendMessage(Text, []byte(tick(1)))
		receive(tick(1))
		for _, method := range []string{"SendMessage", "MessageWriter", "Stream", "SendPrepared"} {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			if err := messageSenders[method](c, Text, []byte(strings.Repeat("lost ", 50))); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%s: got error %v, want that of the deadline", method, err)
			}
			c.SetWriteDeadline(time.Time{})
			for range 2 {
				go c.SendMessage(Text, []byte(strings.Repeat("lost ", 50)))
				receive(strings.Repeat("lost ", 50))
			}
		}
	})
}

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
		{"without pings", PingInterval(0), 2 * quietTime, true, "permessage-deflate"},
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
	first := p.frameFor(c.compression())
	if again := p.frameFor(d.compression()); &again[0] != &first[0] {
		t.Error("two connections with the same window have two frames")
	}
	if other := p.frameFor(small.compression()); &other[0] == &first[0] || len(other) > 400 {
		t.Errorf("a connection with a smaller window has a frame of %d bytes, want one of its own", len(other))
	}
	if f := p.frameFor(plain.compression()); &f[0] != &p.frame[0] {
		t.Error("a connection without compression has another frame")
	}
	if c.SetCompression(5000); &p.frameFor(c.compression())[0] != &p.frame[0] {
		t.Error("a message below the minimum is compressed")
	}
}

// The order of the wire is that of the encoder, also for frames that come to the queue while a
// message is compressed.
func TestSend_compressed_keeps_the_order_of_the_encoder(t *testing.T) {
	alone := func(t *testing.T, c *Conn) []byte {
		p, err := PrepareMessage(Binary, []byte(strings.Repeat(tick(3), 3)))
		if err != nil {
			t.Fatal(err)
		}
		return p.frameFor(c.compression())
	}
	start := func(t *testing.T) (*Conn, scriptSocket, func(want ...string)) {
		c, s := offering(t, "permessage-deflate")
		in := newInflater(c)
		check := func(want ...string) {
			t.Helper()
			waitFlushed(t, c)
			frames := s.frames(t)
			if len(frames) != len(want) {
				t.Fatalf("got %d frames, want %d", len(frames), len(want))
			}
			for i, f := range frames {
				if got, err := in.message(f); err != nil || got != want[i] {
					t.Fatalf("frame %d: got %q and error %v, want %q", i, got, err, want[i])
				}
			}
		}
		if err := c.SendMessage(Binary, []byte(tick(1))); err != nil {
			t.Fatal(err)
		}
		check(tick(1))
		return c, s, check
	}
	t.Run("the queue comes first", func(t *testing.T) {
		c, _, check := start(t)
		c.out.lock.Lock() // so that the frame waits in the queue
		q := &c.seldomUsed().queue
		c.out.enqueue(q, queuedFrame{bytes: alone(t, c), shared: true})
		err := c.out.sendData(&Header{Fin: true, Opcode: Binary}, []byte(tick(2)))
		c.out.release(byLibrary)
		if err != nil {
			t.Fatal(err)
		}
		check(strings.Repeat(tick(3), 3), tick(2))
	})
	t.Run("a frame that comes to the queue meanwhile is behind", func(t *testing.T) {
		c, _, check := start(t)
		c.out.lock.Lock()
		w := &c.out
		payload, _ := w.encode(nil, []byte(tick(2)))
		w.enqueue(&c.seldomUsed().queue, queuedFrame{bytes: alone(t, c), shared: true})
		w.compression().ordered = true
		err := w.send(&Header{Fin: true, RSV1: true, Opcode: Binary}, payload)
		w.compression().ordered = false
		w.release(byLibrary)
		if err != nil {
			t.Fatal(err)
		}
		check(tick(2), strings.Repeat(tick(3), 3))
		c.SendMessage(Binary, []byte(tick(4)))
		check(tick(4))
	})
	t.Run("a frame that is written at once", func(t *testing.T) {
		c, p := newTCPConn(t, Compression(0))
		p.Frames.AnyFrame = true
		in := newInflater(c)
		for i := range 10 {
			text := tick(i)
			send := c.SendMessage
			if i%3 == 1 {
				text, send = strings.Repeat(tick(i), 3), messageSendersTo(c, "Broadcast")
			}
			if err := send(Binary, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if got, err := in.message(p.read()); err != nil || got != text {
				t.Fatalf("message %d: got %q and error %v, want %q", i, got, err, text)
			}
		}
		hangUp(p)
	})
}
