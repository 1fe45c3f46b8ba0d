package websocket

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A mix of everything that the client must be able to inflate with one window: messages that
// refer to others, those that were compressed for many connections, large ones, uncompressed
// ones and those of the user.
func TestSend_compressed_mix(t *testing.T) {
	t.Parallel()
	for name, offer := range testOffers {
		t.Run(name, func(t *testing.T) {
			computes(t)
			synctest.Test(t, func(t *testing.T) { checkMix(t, offer) }) // so that it takes less than a second
		})
	}
}

func checkMix(t *testing.T, offer string) {
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

// While a peer does not read, TrySend puts messages into the queue, and they are compressed when
// they are written, with those that other methods have sent.
func TestTrySend_compressed_in_the_queue(t *testing.T) {
	computes(t)
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
	computes(t)
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

// An orderTest is a connection on which one message was sent, and its client.
type orderTest struct {
	*testing.T
	c  *Conn
	s  scriptSocket
	in *inflater
}

func newOrderTest(t *testing.T) *orderTest {
	c, s := offering(t, "permessage-deflate")
	o := &orderTest{t, c, s, newInflater(c)}
	if err := c.SendMessage(Binary, []byte(tick(1))); err != nil {
		t.Fatal(err)
	}
	o.expect(tick(1))
	return o
}

// expect checks the messages that were sent since the last call.
func (o *orderTest) expect(want ...string) {
	o.Helper()
	waitFlushed(o.T, o.c)
	frames := o.s.frames(o.T)
	if len(frames) != len(want) {
		o.Fatalf("got %d frames, want %d", len(frames), len(want))
	}
	for i, f := range frames {
		if got, err := o.in.message(f); err != nil || got != want[i] {
			o.Fatalf("frame %d: got %q and error %v, want %q", i, got, err, want[i])
		}
	}
}

// enqueueAlone puts a message into the queue that was compressed alone. out.lock is held, as by
// a goroutine that is sending.
func (o *orderTest) enqueueAlone(data string) {
	o.Helper()
	p, err := PrepareMessage(Binary, []byte(data))
	if err != nil {
		o.Fatal(err)
	}
	f := p.frameFor(o.c.compression())
	if err := o.c.out.enqueue(&o.c.seldomUsed().queue, f); err != nil {
		o.Fatal(err)
	}
}

// Messages in the queue come before a message that is compressed later.
func TestSend_compressed_behind_the_queue(t *testing.T) {
	o := newOrderTest(t)
	alone := strings.Repeat(tick(3), 3)
	o.c.out.lock.Lock()
	o.enqueueAlone(alone)
	err := o.c.out.sendData(&Header{Fin: true, Opcode: Binary}, []byte(tick(2)))
	o.c.out.release(byLibrary)
	if err != nil {
		t.Fatal(err)
	}
	o.expect(alone, tick(2))
}

// Messages that come to the queue after a message was compressed are sent after it.
func TestSend_compressed_keeps_the_order_of_the_encoder(t *testing.T) {
	o := newOrderTest(t)
	alone := strings.Repeat(tick(3), 3)
	w := &o.c.out
	w.lock.Lock()
	payload, _ := w.encode(nil, []byte(tick(2)))
	o.enqueueAlone(alone)
	w.compression().ordered = true
	err := w.send(&Header{Fin: true, RSV1: true, Opcode: Binary}, payload)
	w.compression().ordered = false
	w.release(byLibrary)
	if err != nil {
		t.Fatal(err)
	}
	o.expect(tick(2), alone)
	if err := o.c.SendMessage(Binary, []byte(tick(4))); err != nil {
		t.Fatal(err)
	}
	o.expect(tick(4))
}

// A message refers to what was compressed for many connections before it, whether that was
// written at once or from the queue, and also to messages of this connection before that.
func TestSend_compressed_refers_to_broadcasts(t *testing.T) {
	unlike := func(seed uint64) string {
		random := rand.New(rand.NewPCG(seed, seed))
		b := make([]byte, 150)
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[random.IntN(36)]
		}
		return string(b)
	}
	before, shared := unlike(1), unlike(2)
	for _, queued := range []bool{false, true} {
		for _, method := range []string{"Broadcast", "SendPrepared", "TrySendPrepared"} {
			if queued && method == "SendPrepared" {
				continue // it does not use the queue
			}
			for name, first := range map[string]string{"small": "", "larger than the window": strings.Repeat("0123456789", 500)} {
				t.Run(fmt.Sprintf("%s/queued %v/%s", method, queued, name), func(t *testing.T) {
					o := newOrderTest(t)
					o.c.SendMessage(Text, []byte(before+before))
					o.expect(before + before)
					if queued {
						o.enqueueAlone(first + shared + shared)
						o.c.out.flushSoon()
					} else if err := messageSenders[method](o.c, Binary, []byte(first+shared+shared)); err != nil {
						t.Fatal(err)
					}
					o.expect(first + shared + shared)
					o.c.SendMessage(Text, []byte(shared+before))
					waitFlushed(t, o.c)
					f := o.s.frames(t)[0]
					if got, err := o.in.message(f); err != nil || got != shared+before {
						t.Fatalf("got %q and error %v, want %q", got, err, shared+before)
					}
					most := 30
					if first != "" {
						most += 150 // the window does not have before any more
					}
					if len(f.Payload) > most {
						t.Errorf("the message has %d bytes, want at most %d", len(f.Payload), most)
					}
				})
			}
		}
	}
}

// Broadcasts that are written at once, between messages that refer to others.
func TestBroadcast_compressed_between_messages(t *testing.T) {
	c, p := newTCPConn(t, Compression(0))
	p.Frames.AnyFrame = true
	in := newInflater(c)
	for i := range 10 {
		text, method := tick(i), "SendMessage"
		if i%3 == 1 {
			text, method = strings.Repeat(tick(i), 3), "Broadcast"
		}
		if err := messageSenders[method](c, Binary, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := in.message(p.read()); err != nil || got != text {
			t.Fatalf("message %d: got %q and error %v, want %q", i, got, err, text)
		}
	}
	hangUp(p)
}
