package websocket

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// statCounts returns the four counts of s.
func statCounts(s Stats) [4]uint64 {
	return [4]uint64{s.MessagesReceived, s.MessagesSent, s.BytesReceived, s.BytesSent}
}

// size returns the length of the server's frame with this payload.
func size(payload int) uint64 {
	return uint64(len(AppendHeader(nil, Header{Length: int64(payload)})) + payload)
}

func TestStats_counts_messages_and_bytes(t *testing.T) {
	computes(t)
	times := func(n int, f func(c *Conn) error) HandlerFunc {
		return func(c *Conn) error {
			for range n {
				if err := f(c); err != nil {
					return err
				}
			}
			return nil
		}
	}
	receive := func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err }
	readStream := func(c *Conn) error {
		_, r, err := c.MessageReader()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		return err
	}
	dropStream := func(c *Conn) error { _, _, err := c.MessageReader(); return err }
	readFrame := func(c *Conn) error { _, err := c.ReadFrame(); return err }
	fragments := func(c *Conn) error { _, err := c.ReceiveFragments(); return err }
	send := func(n int) HandlerFunc {
		return func(c *Conn) error { return c.SendMessage(Binary, make([]byte, n)) }
	}
	writeStream := func(c *Conn) error {
		w, err := c.MessageWriter(Text)
		if err != nil {
			return err
		}
		w.Write(bytes.Repeat([]byte("a"), fragmentSize))
		w.Write([]byte("bc"))
		return w.Close()
	}
	message, burst := clientFrame(true, Text, "hello"), messageBurst(3, "hello")
	fragmented := slices.Concat(clientFrame(false, Text, "hel"), clientFrame(true, Ping, ""), clientFrame(true, Continuation, "lo"))
	large := clientFrame(true, Binary, strings.Repeat("x", 200<<10))
	tests := []struct {
		name                string
		sent                []byte
		fn                  HandlerFunc
		messagesIn          uint64
		messagesOut         uint64
		bytesOut            uint64
		whileMoreIsBuffered bool // fn does not receive everything
	}{
		{"nothing", nil, noop, 0, 0, 0, false},
		{"a message", message, receive, 1, 0, 0, false},
		{"an empty message", clientFrame(true, Text, ""), receive, 1, 0, 0, false},
		{"a fragmented message around a ping", fragmented, receive, 1, 0, size(0), false},
		{"a message of 200 KiB", large, receive, 1, 0, 0, false},
		{"several messages at once", burst, times(3, receive), 3, 0, 0, false},
		{"one message while others are buffered", burst, receive, 1, 0, 0, true},
		{"a stream", message, readStream, 1, 0, 0, false},
		{"a stream that is dropped", slices.Concat(message, message), func(c *Conn) error { dropStream(c); return receive(c) }, 2, 0, 0, false},
		{"fragments", fragmented, fragments, 1, 0, size(0), false},
		{"frames", fragmented, times(3, readFrame), 1, 0, 0, false},
		{"a pong", slices.Concat(clientFrame(true, Pong, "unsolicited"), message), receive, 1, 0, 0, false},
		{"a sent message", nil, send(5), 0, 1, size(5), false},
		{"a sent message of 1 MiB", nil, send(1 << 20), 0, 1, size(1 << 20), false},
		{"sent messages", nil, times(10, send(300)), 0, 10, 10 * size(300), false},
		{"a sent ping", nil, func(c *Conn) error { return c.SendMessage(Ping, []byte("p")) }, 0, 0, size(1), false},
		{"a sent stream of two frames", nil, writeStream, 0, 1, size(fragmentSize) + size(2), false},
		{"sent frames", nil, func(c *Conn) error {
			c.WriteFrame(Frame{Header{Opcode: Text}, []byte("a")})
			c.WriteFrame(Frame{Header{Fin: true, Opcode: Ping}, nil})
			return c.WriteFrame(Frame{Header{Fin: true, Opcode: Continuation}, []byte("b")})
		}, 0, 1, 2*size(1) + size(0), false},
		{"a refused message", nil, func(c *Conn) error { c.SendMessage(Text, []byte("\xff")); return nil }, 0, 0, 0, false},
		{"echoes", burst, func(c *Conn) error {
			for range 3 {
				op, data, err := c.ReceiveMessage()
				if err != nil {
					return err
				}
				c.SendMessage(op, data)
			}
			return nil
		}, 3, 3, 3 * size(5), false},
	}
	for _, tt := range tests {
		for _, withHandshake := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/with_the_handshake=%t", tt.name, withHandshake), func(t *testing.T) {
				client, server := tcpPair(t)
				p, buffered := newPeer(t, client), tt.sent
				if !withHandshake {
					go p.Conn.Write(tt.sent)
					buffered = nil
				}
				c := newTestConn(server, buffered)
				go io.Copy(io.Discard, client)
				if err := tt.fn(c); err != nil {
					t.Fatal(err)
				}
				c.out.requestFlush(byLibrary) // what waits counts when it is written
				want := [4]uint64{tt.messagesIn, tt.messagesOut, uint64(len(tt.sent)), tt.bytesOut}
				if got := statCounts(c.Stats()); got != want {
					t.Errorf("got counts %v, want %v", got, want)
				}
				c.expire(&connError{"the end of the test", net.ErrClosed})
				if got := statCounts(c.Stats()); got != want {
					t.Errorf("after the end: got counts %v, want %v", got, want)
				}
				c.waitGoroutines()
			})
		}
	}
}

// The client has its answer, so every goroutine must see that it was sent.
func TestStats_are_complete_when_the_peer_has_its_answer(t *testing.T) {
	computes(t)
	for kind, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		h := handle(echoAll, PingInterval(0))
		p := dialServer(t, wstest.Serve(t, h))
		request, response := uint64(len(clientFrame(true, Text, "hello"))), size(5)
		for i := uint64(1); i <= 300; i++ {
			p.send(Text, "hello")
			p.expect(Text, "hello")
			got := h.Stats()
			if got.MessagesReceived != i || got.MessagesSent != i || got.BytesReceived != i*request || got.BytesSent != i*response {
				t.Fatalf("%s: after %d echoes: got %+v", kind, i, got)
			}
		}
		p.Close()
	}
}

// The goroutine that receives is about to read again, and has not done so yet.
func TestStats_while_the_reader_is_locked(t *testing.T) {
	tests := []struct {
		name     string
		messages int
		want     uint64
	}{
		{"after the only message", 1, 1},
		{"after the last of several messages", 3, 3},
	}
	for _, tt := range tests {
		c, p := newTCPConn(t)
		go p.Conn.Write(messageBurst(tt.messages, "hello"))
		for range tt.messages {
			if _, _, err := c.ReceiveMessage(); err != nil {
				t.Fatal(err)
			}
		}
		c.in.lock.Lock()
		if got := c.Stats(); got.MessagesReceived != tt.want || got.BytesReceived != tt.want*11 {
			t.Errorf("%s: got %+v, want %d messages", tt.name, got, tt.want)
		}
		c.in.lock.Unlock()
	}
}

// Stats must not wait for a goroutine that waits for the peer.
func TestStats_does_not_wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			go receiveAll(c)
			return c.SendMessage(Text, []byte("to a peer that does not read"))
		})
		p.send(Text, "hello")
		p.Write(clientFrame(true, Text, "cut off")[:9])
		synctest.Wait()
		start := time.Now()
		if got, want := statCounts(c.Stats()), [4]uint64{1, 1, 20, size(28)}; got != want {
			t.Errorf("while the write is blocked: got counts %v, want %v", got, want)
		}
		wantDuration(t, "Stats", start, 0)
		p.Conn.Close()
		<-done
		if got, want := statCounts(c.Stats()), [4]uint64{1, 0, 20, 0}; got != want {
			t.Errorf("after the write has failed: got counts %v, want %v", got, want)
		}
	})
}

func TestStats_do_not_count_what_a_deadline_prevented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		c.SetWriteDeadline(pastTime)
		if err := c.SendMessage(Text, []byte("never sent")); !isTimeout(err) {
			t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
		}
		c.SetWriteDeadline(time.Time{})
		go c.SendMessage(Text, []byte("sent"))
		p.expect(Text, "sent")
		synctest.Wait()
		if got, want := statCounts(c.Stats()), [4]uint64{0, 1, 0, size(4)}; got != want {
			t.Errorf("got counts %v, want %v", got, want)
		}
		p.Conn.Close()
		c.Close(StatusNormalClosure, "")
	})
}

// The counts are right when they no longer fit into one number.
func TestStats_of_a_long_connection(t *testing.T) {
	tests := []struct {
		name            string
		messages, bytes uint64 // already counted
	}{
		{"many messages", 1 << 23, 1 << 30},
		{"many bytes", 1, 1<<40 - 1},
		{"both", 1<<24 - 1, 1<<40 - 1},
		{"just before", 1<<23 - 1, 1<<39 - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			done := runHandler(c, echoAll)
			p.send(Text, "")
			p.expect(Text, "")
			for _, tally := range []*tally{&c.in.tally, &c.out.tally} {
				tally.packed.Store(tt.messages*oneMessage + tt.bytes)
			}
			for range 10 {
				p.send(Text, "hello")
				p.expect(Text, "hello")
			}
			want := [4]uint64{tt.messages + 10, tt.messages + 10, tt.bytes + 110, tt.bytes + 10*size(5)}
			if got := statCounts(c.Stats()); got != want {
				t.Errorf("got counts %v, want %v", got, want)
			}
			p.finish(done)
		})
	}
}

func TestStats_Opened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		c, p := newPipeConn(t)
		start := time.Now()
		for range 3 {
			time.Sleep(time.Minute)
			if got := c.Stats().Opened; !got.Equal(start) || !got.Round(0).Equal(start.Round(0)) {
				t.Errorf("got %v, want %v", got, start)
			}
		}
		p.Conn.Close()
		c.Close(StatusNormalClosure, "")
	})
}

func TestStats_RTT(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name  string
		delay []time.Duration // before the pong of each ping; negative for no pong
		want  []time.Duration // a second later
	}{
		{"answered", []time.Duration{30 * ms, 50 * ms, 20 * ms}, []time.Duration{30 * ms, 50 * ms, 20 * ms}},
		{"not answered at first", []time.Duration{-1, 50 * ms}, []time.Duration{0, 15050 * ms}},
		{"answered after the next ping", []time.Duration{20 * time.Second}, []time.Duration{20 * time.Second}},
		{"not answered later", []time.Duration{50 * ms, -1}, []time.Duration{50 * ms, 50 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				done := runHandler(c, receiveAll)
				p.Conn.SetDeadline(time.Time{})
				if got := c.Stats().RTT; got != 0 {
					t.Errorf("before the first ping: got %v, want 0", got)
				}
				for i, delay := range tt.delay {
					f, err := p.ReadFrame()
					if err != nil || Opcode(f.Opcode()) != Ping {
						t.Fatalf("got %v and error %v, want a ping", f, err)
					}
					if delay >= 0 {
						time.Sleep(delay)
						p.Conn.Write(clientFrame(true, Pong, "of another ping"))
						p.Conn.Write(clientFrame(true, Pong, string(f.Payload)))
						time.Sleep(ms)
						p.Conn.Write(clientFrame(true, Pong, string(f.Payload))) // unsolicited
					}
					time.Sleep(time.Second)
					if got := c.Stats().RTT; got != tt.want[i] {
						t.Errorf("after ping %d: got %v, want %v", i+1, got, tt.want[i])
					}
				}
				p.Conn.Close()
				<-done
			})
		})
	}
}

// Stats takes the reader's lock for a moment. The keepalive must not take that for a method
// that is receiving, because it would stop polling.
func TestStats_does_not_disturb_polls(t *testing.T) {
	var c *Conn
	c, p := newTCPConn(t)
	stop := make(chan bool)
	var sampling sync.WaitGroup
	for range 2 {
		sampling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					c.Stats()
				}
			}
		})
	}
	for range 50000 {
		if !c.in.tryLock() {
			t.Fatal("tryLock failed while no method was receiving")
		}
		c.in.lock.Unlock()
	}
	close(stop)
	sampling.Wait()
	done := runHandler(c, echoAll)
	checkEcho(p)
	p.finish(done)
}

func TestStats_allocates_nothing(t *testing.T) {
	c, _ := newTCPConn(t)
	checkAllocs(t, "Conn.Stats", 0, func() { c.Stats() })
}

func TestHandlerStats(t *testing.T) {
	h := Handle(echoAll, AcceptConnection(SameOrigin))
	check := func(when string, want HandlerStats) {
		t.Helper()
		got := h.Stats()
		if !maps.Equal(got.Closed, want.Closed) || got.Closed == nil {
			t.Errorf("%s: got ends %v, want %v", when, got.Closed, want.Closed)
		}
		got.Closed, want.Closed = nil, nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %+v", when, got, want)
		}
	}
	check("before the first request", HandlerStats{})
	synctest.Test(t, func(t *testing.T) {
		request, end := uint64(len(clientFrame(true, Text, "hello"))), uint64(len(clientFrame(true, Close, "12")))
		p, q := connectTo(t, h), connectTo(t, h)
		check("after two handshakes", HandlerStats{Open: 2, Accepted: 2})
		askFor(h)
		w := wstest.ReadRequest(wstest.Handshake("Origin: https://evil.example\r\n"))
		h.ServeHTTP(&wstest.Hijacker{}, w)
		check("after two refusals", HandlerStats{Open: 2, Accepted: 2, Refused: 2})
		for range 3 {
			go p.Conn.Write(clientFrame(true, Text, "hello"))
			p.expect(Text, "hello")
			synctest.Wait()
		}
		check("after three echoes", HandlerStats{Open: 2, Accepted: 2, Refused: 2, MessagesReceived: 3, MessagesSent: 3, BytesReceived: 3 * request, BytesSent: 3 * size(5)})
		p.Close()
		<-p.served
		sums := HandlerStats{Open: 1, Accepted: 2, Refused: 2, MessagesReceived: 3, MessagesSent: 3,
			BytesReceived: 3*request + end, BytesSent: 3*size(5) + size(2), Closed: map[StatusCode]uint64{1000: 1}}
		check("after the first has ended", sums)
		h.Stats().Closed[1000]++ // the map is the caller's
		q.Conn.Close()
		<-q.served
		sums.Open, sums.Closed = 0, map[StatusCode]uint64{1000: 1, 1006: 1}
		check("after both have ended", sums)
	})
}

// A request that was accepted stays accepted if its response cannot be sent.
func TestHandlerStats_of_handshakes_that_fail(t *testing.T) {
	lost := HandlerStats{Accepted: 1, Closed: map[StatusCode]uint64{1006: 1}}
	tests := []struct {
		name   string
		writes func() (int, error) // for the response; nil if the connection cannot be hijacked
		want   HandlerStats
	}{
		{"the connection cannot be hijacked", nil, HandlerStats{Refused: 1, Closed: map[StatusCode]uint64{}}},
		{"the response cannot be written", func() (int, error) { return 0, net.ErrClosed }, lost},
		{"a part of the response is written", func() (int, error) { return 10, net.ErrClosed }, lost},
		{"the write of a wrapper panics", func() (int, error) { panic("the wrapper") }, lost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := Handle(func(*Conn) error { t.Error("the function was called"); return nil })
			w := &wstest.Hijacker{}
			if tt.writes != nil {
				socket := wstest.NewSocket()
				socket.Hook = func(*wstest.Op) (int, error) {
					if s := h.Stats(); s.Accepted != 1 || s.Open != 1 {
						t.Errorf("got %+v while the response is written, want an open connection", s)
					}
					return tt.writes()
				}
				w.Conn = socket
			}
			func() {
				defer func() { recover() }()
				h.ServeHTTP(w, wstest.ReadRequest(wstest.Request()))
			}()
			if got := h.Stats(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if err := h.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown waits for it: %v", err)
			}
		})
	}
}

// No sum ever decreases, and no connection is counted twice or missed.
func TestHandlerStats_race_with_connections(t *testing.T) {
	h := Handle(func(c *Conn) error { return c.SendMessage(Text, []byte("hello")) })
	const clients, visits = 8, 20
	stop := make(chan bool)
	var sampling, visitors sync.WaitGroup
	sampling.Go(func() {
		var before HandlerStats
		for {
			s := h.Stats()
			var ended uint64
			for _, n := range s.Closed {
				ended += n
			}
			if s.MessagesSent < before.MessagesSent || s.BytesSent < before.BytesSent || s.Accepted != ended+uint64(s.Open) {
				t.Errorf("got %+v after %+v", s, before)
				return
			}
			before = s
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range clients {
		visitors.Go(func() {
			for range visits {
				server, client := net.Pipe()
				served := make(chan bool)
				go func() {
					defer close(served)
					h.ServeHTTP(&wstest.Hijacker{Conn: server}, wstest.ReadRequest(wstest.Request()))
				}()
				p := wstest.NewClient(nil, client)
				p.ReadUpgrade()
				p.ReadFrame()
				p.ReadFrame()
				client.Write(clientFrame(true, Close, closeBody(1000, "")))
				client.Close()
				<-served
			}
		})
	}
	visitors.Wait()
	close(stop)
	sampling.Wait()
	s := h.Stats()
	if s.Open != 0 || s.Accepted != clients*visits || s.MessagesSent != clients*visits || s.Closed[1000] != clients*visits {
		t.Errorf("got %+v, want %d connections and messages", s, clients*visits)
	}
}
