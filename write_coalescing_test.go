package websocket

import (
	"bytes"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestWriteCoalescing_of_an_echo(t *testing.T) {
	small := clientFrame(true, Text, "small")
	tests := []struct {
		name   string
		pieces [][]byte
		opts   []Option
		want   []int // frames in each write
	}{
		{"one message is written at once", segments(small), nil, []int{1}},
		{"messages that come one by one are written one by one", segments(small, small, small), nil, []int{1, 1, 1}},
		{"messages that come together are written together", segments(messageBurst(32, "small")), nil, []int{32}},
		{"the answers to one read are written before the next read", segments(messageBurst(3, "a"), messageBurst(4, "b")), nil, []int{3, 4}},
		{"a pong is written with the messages", segments(slices.Concat(small, clientFrame(true, Ping, "ping"), small)), nil, []int{3}},
		{"no answer waits for the rest of a frame", segments(slices.Concat(small, small[:5]), small[5:]), nil, []int{1, 1}},
		{"no answer waits for the rest of a header", segments(slices.Concat(small, small[:1]), small[1:]), nil, []int{1, 1}},
		{"lengths of 16 bits", segments(messageBurst(3, strings.Repeat("x", 200))), nil, []int{3}},
		{"a message of 20,000 bytes after small ones", segments(slices.Concat(small, small, clientFrame(true, Binary, strings.Repeat("x", 20000)))), nil, []int{2, 1}},
		{"each message is written alone without WriteCoalescing", segments(messageBurst(5, "small")), []Option{WriteCoalescing(false)}, []int{1, 1, 1, 1, 1}},
	}
	for how, echo := range echoes {
		for _, tt := range tests {
			t.Run(how+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, s := newScriptConn(t, tt.pieces, tt.opts...)
					joinFrameWrites(s)
					err := echo(c)
					wantError(t, err, io.ErrUnexpectedEOF)
					if got := framesPerWrite(t, s); !slices.Equal(got, tt.want) {
						t.Errorf("got writes of %v frames, want %v", got, tt.want)
					}
				})
			})
		}
	}
}

// echoes are echoes with the methods that receive messages in different ways.
var echoes = map[string]HandlerFunc{
	"ReceiveMessage": echoAll,
	"ReceiveFunc": func(c *Conn) error {
		for {
			if err := c.ReceiveFunc(c.SendMessage); err != nil {
				return err
			}
		}
	},
	"HandleMessages": func(c *Conn) error {
		prepareMessages(c)
		c.inbox.messages.fn = c.SendMessage
		return passAll(c)
	},
}

// joinFrameWrites makes one write of the two writes of a large frame, because these tests
// count only the writes of whole frames.
func joinFrameWrites(s scriptSocket) {
	var part []byte
	s.Hook = func(op *wstest.Op) (int, error) {
		if !op.Write {
			return op.Do(op.P)
		}
		part = append(part, op.P...)
		if !endsInFrame(bytes.NewReader(part)) {
			return len(op.P), nil
		}
		_, err := op.Do(part)
		part = nil
		return len(op.P), err
	}
}

func endsInFrame(r *bytes.Reader) bool {
	for r.Len() > 0 {
		if _, err := ReadFrame(r, 1<<30); err != nil {
			return false
		}
	}
	return true
}

// The peer sends 300 KiB at once. A write has at most the 64 KiB of the buffer for pending
// frames, and uses most of that buffer.
func TestWriteCoalescing_is_bounded(t *testing.T) {
	const messages = 300
	synctest.Test(t, func(t *testing.T) {
		c, s := newScriptConn(t, segments(messageBurst(messages, strings.Repeat("x", 1000))))
		joinFrameWrites(s)
		wantError(t, echoAll(c), io.ErrUnexpectedEOF)
		most := 0
		for _, b := range s.Writes() {
			if len(b) > 64<<10 || len(b) > pendingSize {
				t.Errorf("got a write of %d bytes, want at most %d", len(b), pendingSize)
			}
			most = max(most, len(b))
		}
		if most < pendingSize/2 {
			t.Errorf("the largest write has %d bytes, want more than half of %d", most, pendingSize)
		}
		if got, most := len(s.Writes()), messages/20; got > most {
			t.Errorf("got %d writes for %d frames, want at most %d", got, messages, most)
		}
		if got := len(s.frames(t)); got != messages {
			t.Errorf("got %d frames, want %d", got, messages)
		}
	})
}

func TestWriteCoalescing_does_not_wait_for_a_handler_that_stalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			c.ReceiveMessage()
			c.SendMessage(Text, []byte("first"))
			time.Sleep(time.Hour)
			return nil
		})
		go p.Write(messageBurst(2, "question"))
		start := time.Now()
		p.expect(Text, "first")
		wantDuration(t, "the flush of a pending frame", start, pendingTime)
		p.Conn.Close()
		<-done
	})
}

func TestWriteCoalescing_keeps_the_order(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *Conn)
		want []sentFrame
	}{
		{"a close", func(c *Conn) { c.Close(StatusNormalClosure, "") },
			[]sentFrame{{true, Text, "waits"}, {true, Close, "\x03\xe8"}}},
		{"a close that is a message", func(c *Conn) { c.SendMessage(Close, nil) },
			[]sentFrame{{true, Text, "waits"}, {true, Close, ""}}},
		{"a large message", func(c *Conn) { c.SendMessage(Binary, make([]byte, 1<<16)) },
			[]sentFrame{{true, Text, "waits"}, {true, Binary, string(make([]byte, 1<<16))}}},
		{"a message under a deadline", func(c *Conn) {
			c.SetWriteDeadline(time.Now().Add(time.Hour))
			c.SendMessage(Text, []byte("at once"))
		}, []sentFrame{{true, Text, "waits"}, {true, Text, "at once"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newScriptConn(t, segments(messageBurst(2, "question")))
				c.ReceiveMessage()
				if err := c.SendMessage(Text, []byte("waits")); err != nil {
					t.Fatal(err)
				}
				s.wantSent(t)
				tt.end(c)
				s.wantSent(t, tt.want...)
			})
		})
	}
}

func TestWriteCoalescing_ends_the_connection_if_a_write_fails(t *testing.T) {
	tests := []struct {
		name string
		then func(c *Conn) error
	}{
		{"when the next message is waited for", func(c *Conn) error {
			return receiveAll(c) // first receives a message that has arrived
		}},
		{"when there is no room", func(c *Conn) error { return c.SendMessage(Binary, make([]byte, pendingSize-40)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newScriptConn(t, segments(messageBurst(2, "question"), messageBurst(1, "more")))
				c.ReceiveMessage()
				c.SendMessage(Text, bytes.Repeat([]byte("waits"), 10))
				s.FailWrites(os.ErrClosed)
				err := tt.then(c)
				wantError(t, err, os.ErrClosed)
				receiveAll(c) // what arrived before the end
				wantSticky(t, c, err)
				if got := CloseStatus(err); got != StatusAbnormalClosure {
					t.Errorf("got status %v, want %v", got, StatusAbnormalClosure)
				}
			})
		})
	}
}

func TestWriteCoalescing_over_TCP(t *testing.T) {
	srv := startServer(t, echoAll)
	p := dialServer(t, srv)
	const n = 2000
	go p.Conn.Write(messageBurst(n, strings.Repeat("x", 100)))
	for range n {
		p.expect(Binary, strings.Repeat("x", 100))
	}
	p.Close()
}

// A write deadline applies only to frames that are sent after it was set. It must not end
// the connection because of a frame that was accepted before.
func TestWriteCoalescing_is_not_bound_by_a_later_write_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newScriptConn(t, segments(messageBurst(2, "question")))
		c.ReceiveMessage()
		if err := c.SendMessage(Text, []byte("waits")); err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		if err := c.SendMessage(Ping, nil); err != nil && !isTimeout(err) || endOf(c) != nil {
			t.Errorf("got error %v on a connection that ended with %v", err, endOf(c))
		}
		c.SetWriteDeadline(time.Time{})
		if err := c.SendMessage(Text, []byte("in time")); err != nil {
			t.Error(err)
		}
		time.Sleep(pendingTime)
		synctest.Wait()
		var texts []string
		for _, f := range s.frames(t) {
			if f.Opcode == Text {
				texts = append(texts, string(f.Payload))
			}
		}
		if !slices.Equal(texts, []string{"waits", "in time"}) {
			t.Errorf("got %q", texts)
		}
	})
}

// framesPerWrite returns how many frames each write since the last call of Forget had.
func framesPerWrite(t testing.TB, s scriptSocket) (counts []int) {
	t.Helper()
	for _, b := range s.Writes() {
		n := 0
		for r := bytes.NewReader(b); r.Len() > 0; n++ {
			if _, err := wstest.NewDecoder(r).ReadFrame(); err != nil {
				t.Fatalf("the write %s is not made of whole frames: %v", wstest.Hex(b), err)
			}
		}
		counts = append(counts, n)
	}
	return counts
}

// While one goroutine waits for bytes of the peer, a frame of another goroutine must not
// wait for the next message. The first goroutine may wait at any place in a message.
func TestWriteCoalescing_does_not_wait_while_a_goroutine_receives(t *testing.T) {
	fragment := clientFrame(false, Text, strings.Repeat("x", 2000)) // so large that its payload is read without the buffer
	for name, wire := range map[string][]byte{
		"between messages":             clientFrame(true, Text, "whole"),
		"for the next fragment":        fragment,
		"for a small payload":          slices.Concat(fragment, clientHeader(true, Continuation, 100)),
		"for a payload read directly":  slices.Concat(fragment, clientHeader(true, Continuation, 100_000)),
		"for a payload after messages": slices.Concat(messageBurst(3, "x"), clientHeader(true, Binary, 100_000)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, false)
				go receiveAll(c)
				w.Send(slices.Concat(clientFrame(true, Text, "first"), wire)) // so a frame is buffered with the first message
				synctest.Wait()
				if err := c.SendMessage(Text, []byte("at once")); err != nil {
					t.Error(err)
				}
				time.Sleep(pendingTime)
				synctest.Wait()
				w.expect("0s text at once")
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// A ping that waits behind a large rest of frames is left to the flush timer. A receiving call with
// a deadline must not wait in a write of frames of others.
func TestPing_behind_a_large_rest_is_left_to_the_timer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		c := newTestConn(server, nil, PingInterval(0), ConnectionTimeout(0))
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.out.lock.Lock()
		c.out.keep(append(withRoom(nil, 100_000), make([]byte, 100_000)...), 0) // as keepRest does
		c.out.pending.flushTimer.Clear()
		start := time.Now()
		err := c.out.sendOwn(byReceiver, &Header{Fin: true, Opcode: Ping}, []byte("x"))
		if took := time.Since(start); took > 0 || err != nil {
			t.Errorf("got error %v after %v, want none at once", err, took)
		}
		c.out.lock.Unlock()
		client.Close()
		c.CloseNow()
		c.out.stop()
	})
}
