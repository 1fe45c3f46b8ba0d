package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// dropped are frames that Discard drops.
var dropped = map[string][]byte{
	"nothing":                      nil,
	"messages":                     slices.Concat(clientFrame(true, Text, "a"), clientFrame(true, Binary, ""), clientFrame(true, Binary, "b")),
	"fragments":                    slices.Concat(clientFrame(false, Text, "a"), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "b")),
	"a pong":                       clientFrame(true, Pong, "x"),
	"a frame over MaxFrameSize":    clientFrame(true, Binary, strings.Repeat("x", 2000)),
	"a message over the limit":     bytes.Join([][]byte{clientFrame(false, Binary, strings.Repeat("x", 900)), clientFrame(true, Continuation, strings.Repeat("x", 900))}, nil),
	"a message of many frames":     slices.Concat(clientFrame(false, Text, ""), bytes.Repeat(clientFrame(false, Continuation, ""), 20), clientFrame(true, Continuation, "")),
	"text that is not UTF-8":       clientFrame(true, Text, "\xff"),
	"text that ends in a fragment": slices.Concat(clientFrame(false, Text, "\xce"), clientFrame(true, Continuation, "")),
}

var droppedLimits = []Option{MaxFrameSize(1000), MaxMessageSize(1000), MaxFragments(10)}

func TestDiscard_drops_messages_and_answers_control_frames(t *testing.T) {
	for name, wire := range dropped {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t, droppedLimits...)
			done := runHandler(c, (*Conn).Discard)
			p.Write(wire)
			p.send(Ping, "still here?")
			p.expect(Pong, "still here?")
			p.Write(wire)
			p.send(Close, closeBody(4000, "bye"))
			p.expectClose(4000)
			hangUp(p)
			wantCloseError(t, <-done, 4000)
			wantCloseError(t, c.Discard(), 4000)
		})
	}
}

func TestDiscard_fails_a_peer_that_breaks_a_rule(t *testing.T) {
	tests := map[string][]byte{
		"an unmasked frame":            wstest.ServerFrame(first(true, Text), "x"),
		"a reserved bit":               withBits(0x40, clientFrame(true, Text, "x")),
		"a reserved opcode":            clientFrame(true, 3, "x"),
		"a fragmented ping":            clientFrame(false, Ping, "x"),
		"a ping over 125 bytes":        clientHeader(true, Ping, 126),
		"a continuation of nothing":    slices.Concat(clientFrame(true, Text, "x"), clientFrame(true, Continuation, "x")),
		"a message inside a message":   slices.Concat(clientFrame(false, Text, "x"), clientFrame(true, Text, "x")),
		"an invalid close frame":       clientFrame(true, Close, "x"),
		"a length in a longer form":    []byte("\x82\xfe\x00\x05"),
		"a length of more than 63 bit": []byte("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
	}
	for name, wire := range tests {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t, droppedLimits...)
			done := runHandler(c, (*Conn).Discard)
			p.Write(wire)
			p.expectClose(StatusProtocolError)
			hangUp(p)
			wantError(t, <-done, ErrProtocol)
		})
	}
}

// With HandleConcurrent, the goroutine applies the limits, and Discard drops what it has
// received.
func TestDiscard_with_HandleConcurrent(t *testing.T) {
	t.Run("drops messages and answers control frames", func(t *testing.T) {
		c, p := newTCPConn(t)
		done := runConcurrent(c, (*Conn).Discard)
		p.Write(messageBurst(100, "x"))
		p.send(Ping, "still here?")
		p.expect(Pong, "still here?")
		p.send(Close, closeBody(4000, "bye"))
		p.expectClose(4000)
		hangUp(p)
		wantCloseError(t, <-done, 4000)
	})
	t.Run("limits apply", func(t *testing.T) {
		c, p := newTCPConn(t, MaxMessageSize(1000))
		done := runConcurrent(c, (*Conn).Discard)
		p.send(Text, strings.Repeat("x", 1001))
		p.expectClose(StatusMessageTooBig)
		hangUp(p)
		wantError(t, <-done, ErrMessageTooLarge)
	})
}

// The peer sends as fast as it can, and Discard returns nevertheless.
func TestDiscard_returns_after_a_deadline_under_a_flood(t *testing.T) {
	computes(t)
	for name, begin := range map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t)
			begin(c)
			flooding := make(chan int64)
			go func() { flooding <- p.Flood(messageBurst(1000, "flood")) }()
			c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			if err := c.Discard(); !isTimeout(err) {
				t.Errorf("got error %v, want an expired deadline", err)
			}
			if err := c.SendMessage(Text, []byte("open")); err != nil {
				t.Errorf("sending after the deadline: %v", err)
			}
			c.CloseNow()
			<-flooding
			c.Close(StatusNormalClosure, "")
		})
	}
}

// After a deadline at any byte, every method gets the next whole message.
func TestDiscard_after_a_deadline(t *testing.T) {
	computes(t)
	invalid := clientFrame(true, Text, "\xff")
	tests := map[string][]byte{
		"one frame":     clientFrame(true, Binary, "dropped"),
		"fragments":     slices.Concat(clientFrame(false, Text, "dro"), clientFrame(true, Ping, "p"), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "pped")),
		"invalid text":  invalid,
		"over a limit":  clientFrame(true, Binary, strings.Repeat("x", 40)),
		"many messages": slices.Concat(clientFrame(true, Binary, "a"), invalid, clientFrame(true, Text, "b")),
	}
	for name, wire := range tests {
		for method, receive := range receiveOnce {
			t.Run(name+" and "+method, func(t *testing.T) {
				for i := 1; i < len(wire); i++ {
					checkDiscardCut(t, wire, i, receive)
				}
			})
		}
	}
}

// checkDiscardCut calls Discard, whose deadline expires after i bytes of wire, and again, and
// then receive.
func checkDiscardCut(t *testing.T, wire []byte, i int, receive func(c *Conn) (string, error)) {
	t.Helper()
	socket := wstest.NewSocket(segments(wire[:i], nil, wire[i:], nil, clientFrame(true, Text, "next"))...)
	c := newTestConn(socket, nil, MaxMessageSize(35), MaxFrameSize(35), MaxFragments(2), PingInterval(0), ConnectionTimeout(0))
	defer c.CloseNow()
	for range 2 {
		if err := c.Discard(); !isTimeout(err) {
			t.Fatalf("cut at byte %d: got error %v, want an expired deadline", i, err)
		}
	}
	if got, err := receive(c); got != "next" || err != nil {
		t.Errorf("cut at byte %d: got %q and error %v, want the next message", i, got, err)
	}
}

// The next call skips the rest of the message, also if another deadline cuts that off.
func TestDiscard_rest_of_a_message_is_skipped_by_the_next_call(t *testing.T) {
	for method, receive := range receiveOnce {
		t.Run(method, func(t *testing.T) {
			wire := slices.Concat(clientFrame(false, Text, "\xff"), clientFrame(true, Ping, "p"), clientFrame(true, Continuation, strings.Repeat("x", 40)))
			const header = 6
			for i := header; i < len(wire)-1; i++ {
				rest := append(wire[i+1:len(wire):len(wire)], clientFrame(true, Text, "next")...)
				socket := wstest.NewSocket(segments(wire[:i], nil, wire[i:i+1], nil, rest)...)
				c := newTestConn(socket, nil, MaxMessageSize(35), MaxFrameSize(35))
				if err := c.Discard(); !isTimeout(err) {
					t.Fatalf("cut at byte %d: got error %v of Discard, want an expired deadline", i, err)
				}
				if _, err := receive(c); !isTimeout(err) {
					t.Fatalf("cut at byte %d: got error %v, want an expired deadline", i, err)
				}
				if got, err := receive(c); got != "next" || err != nil {
					t.Errorf("cut at byte %d: got %q and error %v, want the next message", i, got, err)
				}
				c.Close(StatusNormalClosure, "") // writes the pong, which may wait for the handler's answer
				if !bytes.Contains(socket.Written(), AppendFrame(nil, Frame{Header{Fin: true, Opcode: Pong}, []byte("p")})) {
					t.Errorf("cut at byte %d: the ping in the message was not answered", i)
				}
			}
		})
	}
}

// Discard drops the rest of a message that another method has begun.
func TestDiscard_in_the_middle_of_a_message(t *testing.T) {
	tests := map[string]func(t *testing.T, c *Conn){
		"ReceiveMessage":   func(t *testing.T, c *Conn) { c.ReceiveMessage() },
		"ReceiveFragments": func(t *testing.T, c *Conn) { c.ReceiveFragments() },
		"MessageReader": func(t *testing.T, c *Conn) {
			_, r, _ := c.MessageReader()
			t.Cleanup(func() {
				if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("the reader of the dropped message returned error %v, want another", err)
				}
			})
		},
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			socket := wstest.NewSocket(segments(clientFrame(false, Text, "begun"), nil,
				clientFrame(true, Continuation, strings.Repeat("\xff", 40)), clientFrame(true, Text, "another"))...)
			c := newTestConn(socket, nil, MaxMessageSize(35), MaxFrameSize(35))
			begin(t, c)
			wantError(t, discardPast(c), io.ErrUnexpectedEOF)
			c.CloseNow()
		})
	}
	t.Run("ReadFrame", func(t *testing.T) {
		frame := clientFrame(true, Text, "begun")
		socket := wstest.NewSocket(segments(frame[:8], nil, frame[8:])...)
		c := newTestConn(socket, nil)
		defer c.CloseNow()
		c.ReadFrame()
		err := c.Discard()
		if err == nil || isTimeout(err) {
			t.Fatalf("got error %v, want one that says what to do", err)
		}
		wantMention(t, err.Error(), "Discard", "ReadFrame")
		if f, err := c.ReadFrame(); err != nil || string(f.Payload) != "begun" {
			t.Errorf("got frame %q and error %v, want the rest of the frame", f.Payload, err)
		}
	})
}

// discardPast calls Discard until its error is not an expired deadline.
func discardPast(c *Conn) error {
	for {
		if err := c.Discard(); !isTimeout(err) {
			return err
		}
	}
}

// Between two calls of Discard, a poll must not apply the limits.
func TestDiscard_polls_apply_no_limits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, MaxMessageSize(35), MaxFrameSize(35))
		r := record(p, true)
		c.SetReadDeadline(time.Now().Add(1200 * time.Millisecond)) // not at the time of a poll
		if err := c.Discard(); !isTimeout(err) {
			t.Fatalf("got error %v, want an expired deadline", err)
		}
		r.Send(clientFrame(true, Binary, strings.Repeat("x", 40)))
		r.Send(clientFrame(true, Ping, "behind"))
		time.Sleep(10 * time.Second)
		r.expect("1.7s pong behind")
		c.SetReadDeadline(time.Now().Add(time.Second))
		if err := c.Discard(); !isTimeout(err) {
			t.Errorf("got error %v, want an expired deadline", err)
		}
		c.CloseNow()
		synctest.Wait()
	})
}

func TestDiscard_ends_with_Close(t *testing.T) {
	for name, begin := range map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				begin(c)
				done := make(chan error)
				go func() { done <- c.Discard() }()
				synctest.Wait()
				go func() {
					p.expectClose(4000)
					p.send(Close, closeBody(4000, ""))
				}()
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				wantError(t, <-done, net.ErrClosed)
			})
		})
	}
}

func TestDiscard_allocates_nothing(t *testing.T) {
	wire := slices.Concat(clientFrame(true, Binary, strings.Repeat("x", 100_000)), clientFrame(true, Text, "x"))
	c := newTestConn(wstest.Repeat(wire), nil, PingInterval(0), ConnectionTimeout(0))
	defer c.CloseNow()
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	checkAllocs(t, "dropping a message", 0, func() {
		for end := notEnd; end != endOfMessage; {
			var err error
			if end, err = c.in.skip(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	})
}

// A message of more frames than an int32 can count is still one message.
func TestDiscard_counts_frames_without_overflow(t *testing.T) {
	in := incoming{limits: testLimits()}
	in.frames = 1<<31 - 2
	for range 3 {
		if n, err := in.next(clientFrame(false, Continuation, ""), modeSkip); n == 0 || err != nil {
			t.Fatalf("got size %d and error %v, want the size of the header", n, err)
		}
		in.begin(modeSkip)
		if !in.midMessage() {
			t.Fatal("the message has ended, but it has no last frame")
		}
	}
}
