package websocket

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A message that waited in the queue counts once, when it is written.
func TestStats_of_messages_that_wait_in_the_queue(t *testing.T) {
	t.Parallel()
	for name, connect := range queueSockets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := connect(t, PingInterval(0), SendQueue(1<<20))
			sent := stalled(t, c, p, 3000)
			if got, want := c.Stats().Queued, c.out.queued(); got != want {
				t.Errorf("got %d bytes queued, want %d", got, want)
			}
			prepared, err := PrepareMessage(Text, numbered(sent+1, 3000))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				c.TrySend(Text, numbered(sent, 3000))
				c.TrySend(Ping, nil)
				c.TrySendPrepared(prepared)
				Broadcast(slices.Values([]*Conn{c}), Text, numbered(sent+2, 3000))
				done <- c.SendMessage(Text, numbered(sent+3, 3000))
			}()
			last := sent + 4
			var messages, bytes uint64
			for messages < uint64(last) {
				f := p.read()
				bytes += size(len(f.Payload))
				if f.Opcode == Text {
					messages++
				}
			}
			if err := await(t, done); err != nil {
				t.Fatal(err)
			}
			want := [4]uint64{0, messages, 0, bytes}
			if got := statCounts(c.Stats()); got != want {
				t.Errorf("got counts %v, want %v", got, want)
			}
			if got := c.Stats().Queued; got != 0 {
				t.Errorf("got %d bytes queued, want 0", got)
			}
			if err := c.TrySend(Text, []byte("at once")); err != nil {
				t.Fatal(err)
			}
			p.expect(Text, "at once")
			if got := statCounts(c.Stats()); got[1] != want[1]+1 || got[3] != want[3]+size(7) {
				t.Errorf("after one message more: got counts %v before it %v", got, want)
			}
		})
	}
}

// A deadline cuts a write off after each number of bytes. The counts are those of the bytes and
// messages that the peer gets.
func TestStats_after_a_deadline_that_cuts_a_write_off(t *testing.T) {
	const waiting = 3
	frames := [2]int{waiting * 3, 8} // bytes of those that wait, and of the frame of the call
	ways := map[string]struct {
		send func(c *Conn) error
		rest bool // of its frame is sent later
	}{
		"SendMessage": {func(c *Conn) error { return c.SendMessage(Text, []byte("own...")) }, false},
		"Stream":      {func(c *Conn) error { _, err := c.Stream(Text).Write([]byte("own...")); return err }, true},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			for n := range frames[0] + frames[1] {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0))
					c.out.noteBuffered(true)
					for range waiting {
						c.SendMessage(Text, []byte("a"))
					}
					c.out.noteBuffered(false)
					c.SetWriteDeadline(time.Now().Add(pendingTime / 2))
					result := make(chan error, 1)
					go func() { result <- way.send(c) }()
					io.ReadFull(p.Conn, make([]byte, n))
					if err := <-result; err == nil {
						t.Fatalf("after %d bytes: the deadline had no effect", n)
					}
					rest := make(chan int)
					go func() { b, _ := io.ReadAll(p.Conn); rest <- len(b) }()
					time.Sleep(time.Second)
					got := statCounts(c.Stats())
					c.CloseNow()
					c.waitGoroutines()
					bytes := n + <-rest
					messages := waiting
					switch {
					case bytes == frames[0]+frames[1]:
						messages++
					case bytes > frames[0]:
						messages = 0 // the connection has failed in the middle of this write
					}
					if want := [4]uint64{0, uint64(messages), 0, uint64(bytes)}; got != want {
						t.Errorf("after %d bytes: got counts %v, want %v", n, got, want)
					}
					if whole := bytes == frames[0]+frames[1]; whole != (way.rest && n > frames[0]) {
						t.Errorf("after %d bytes: %d bytes have arrived", n, bytes)
					}
				})
			}
		})
	}
}

func TestStats_counts_what_is_dropped_or_streamed(t *testing.T) {
	tests := map[string]func(c *Conn) error{
		"Discard": (*Conn).Discard,
		"Stream":  func(c *Conn) error { _, err := io.Copy(io.Discard, c.Stream(Binary)); return err },
	}
	for name, receive := range tests {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t)
			done := runHandler(c, receive)
			sent := slices.Concat(messageBurst(3, "hello"), clientFrame(false, Binary, "a"), clientFrame(true, Continuation, "b"))
			p.Write(sent)
			p.send(Ping, "all is read")
			p.expect(Pong, "all is read")
			want := [4]uint64{4, 0, uint64(len(sent) + len(clientFrame(true, Ping, "all is read"))), size(11)}
			if got := statCounts(c.Stats()); got != want {
				t.Errorf("got counts %v, want %v", got, want)
			}
			p.finish(done)
		})
	}
}

// The round trip of a ping of Ping counts too, unless the call does not wait any more.
func TestStats_RTT_of_Ping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0))
		result := startPing(context.Background(), c)
		payload := p.readPing()
		time.Sleep(30 * time.Millisecond)
		p.send(Pong, payload)
		wantRTT(t, <-result, 30*time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		late := startPing(ctx, c)
		payload = p.readPing()
		time.Sleep(2 * time.Second)
		<-late
		p.send(Pong, payload)
		if got := c.Stats().RTT; got != 30*time.Millisecond {
			t.Errorf("got %v, want 30ms", got)
		}
		c.CloseNow()
		c.Close(StatusNormalClosure, "")
	})
}

// Bytes that a tick sees in the kernel, while a goroutine is receiving, are a sign of life,
// whatever is known of earlier reads.
func TestKeepalive_notes_unread_bytes_between_reads(t *testing.T) {
	for reads := range 3 {
		synctest.Test(t, func(t *testing.T) {
			r := newTickRecorder(timeouts{connectionTimeout: time.Minute}, false)
			for range reads {
				r.timer.noteRead()
			}
			time.Sleep(3 * time.Second) // no tick looks at the reads so early
			r.timer.noteBehind(100, false, true)
			if r.timer.quietFor(time.Second) {
				t.Errorf("after %d reads: the bytes are not a sign of life", reads)
			}
			r.timer.stop()
			r.timer.waitTicks()
		})
	}
}

// A request during Shutdown is a refused one.
func TestShutdown_tells_OnRefused(t *testing.T) {
	var status atomic.Int64
	h := Handle(echoAll, OnRefused(func(_ *http.Request, err *HandshakeError) { status.Store(int64(err.Status)) }))
	if _, err := shutDown(h, wstest.Patience); err != nil {
		t.Fatal(err)
	}
	wantShutResponse(t, askFor(h))
	if got := status.Load(); got != http.StatusServiceUnavailable {
		t.Errorf("OnRefused got the status %d, want 503", got)
	}
	if got := h.Stats().Refused; got != 1 {
		t.Errorf("got %d refused requests, want 1", got)
	}
}

// The queue of a connection that has ended is empty, although its function still runs, or nobody
// calls Close.
func TestStats_Queued_after_the_end(t *testing.T) {
	ends := map[string]func(c *Conn, p *peer){
		"CloseNow":   func(c *Conn, p *peer) { c.CloseNow() },
		"StartClose": func(c *Conn, p *peer) { c.StartClose(StatusNormalClosure, "") },
		"a reset":    func(c *Conn, p *peer) { p.Reset() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := newTCPConn(t, PingInterval(0), SendQueue(1<<20), CloseTimeout(100*time.Millisecond))
			stalled(t, c, p, 3000)
			end(c, p)
			if !wstest.Eventually(func() bool { return c.Stats().Queued == 0 }) {
				t.Errorf("%d bytes are queued after the end", c.Stats().Queued)
			}
		})
	}
}

// What was being written counts as sent. If that write fails, the sums of the handler stay.
func TestHandlerStats_do_not_decrease_if_a_write_fails(t *testing.T) {
	h := Handle(func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 16<<20)) })
	p := dialServer(t, wstest.Serve(t, h))
	p.LimitReadBuffer()
	if !wstest.Eventually(func() bool { return h.Stats().BytesSent > 0 }) {
		t.Fatal("nothing is sent")
	}
	before := h.Stats()
	p.Reset()
	if !wstest.Eventually(func() bool { return h.Stats().Open == 0 }) {
		t.Fatal("the connection has not ended")
	}
	if after := h.Stats(); after.BytesSent < before.BytesSent || after.MessagesSent < before.MessagesSent {
		t.Errorf("got %d bytes and %d messages, before the reset %d and %d", after.BytesSent, after.MessagesSent, before.BytesSent, before.MessagesSent)
	}
}

// The peer has sent a message and a broken rule together, and its close frame waits behind a write.
func TestStats_of_a_connection_that_waits_for_its_close_frame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, receiveAll)
		go c.SendMessage(Binary, make([]byte, 1000)) // the peer reads nothing
		synctest.Wait()
		p.Conn.Write(slices.Concat(clientFrame(true, Text, "hello"), clientFrame(true, 3, "")))
		synctest.Wait()
		if s := c.Stats(); s.MessagesReceived != 1 || s.BytesReceived == 0 {
			t.Errorf("got %d messages and %d bytes received, want those of one message", s.MessagesReceived, s.BytesReceived)
		}
		p.Conn.Close()
		<-done
	})
}

// Another goroutine closes the connection, and reads what the peer has sent before its close frame.
func TestStats_are_complete_in_OnClose(t *testing.T) {
	type ended struct {
		c     *Conn
		stats Stats
	}
	all := make(chan ended, 1)
	h := Handle(func(c *Conn) error {
		go c.Close(StatusNormalClosure, "")
		return waitForEnd(c)
	}, OnClose(func(c *Conn, _ error) { all <- ended{c, c.Stats()} }))
	srv := wstest.Serve(t, h)
	sum := uint64(0)
	for range 200 {
		p := dialServer(t, srv)
		p.expectClose(StatusNormalClosure)
		p.Write(slices.Concat(clientFrame(true, Text, "hello"), clientFrame(true, Close, closeBody(StatusNormalClosure, ""))))
		p.ExpectEOF()
		p.Conn.Close()
		end := await(t, all)
		end.c.Close(StatusNormalClosure, "")
		last := end.c.Stats()
		if sum += last.BytesReceived; statCounts(end.stats) != statCounts(last) {
			t.Fatalf("OnClose got %v, want %v", statCounts(end.stats), statCounts(last))
		}
	}
	if !wstest.Eventually(func() bool { return h.Stats().Open == 0 }) {
		t.Fatal("not all connections have ended")
	}
	if got := h.Stats().BytesReceived; got != sum {
		t.Errorf("the handler has received %d bytes, its connections %d", got, sum)
	}
}
