package websocket

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fullBuffer is a message that fills the smaller read buffer to the last byte.
func fullBuffer(less int) []byte {
	return clientFrame(true, Binary, strings.Repeat("x", readBufferSize-8-less))
}

// A watchedSocket notes the largest buffer that a Read waits with.
type watchedSocket struct {
	*net.TCPConn
	largest atomic.Int64
}

func (s *watchedSocket) Read(p []byte) (int, error) {
	s.largest.Store(max(s.largest.Load(), int64(len(p))))
	return s.TCPConn.Read(p)
}

// A peer that has sent 4 KiB and is waited for then does not make the server hold the
// larger read buffer.
func TestReadBuffer_of_a_peer_that_stalls(t *testing.T) {
	stalled := func(t *testing.T, wire []byte) (*Conn, *peer) {
		t.Helper()
		c, p := dialConn(t, PingInterval(0), ConnectionTimeout(0))
		if !c.in.ready.waits() {
			t.Skip("this platform waits with a buffer")
		}
		p.write(wire)
		return c, p
	}
	receive := func(t *testing.T, c *Conn) {
		t.Helper()
		if _, _, err := c.ReceiveMessage(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, held int) {
		t.Helper()
		if held > readBufferSize {
			t.Errorf("got a read buffer of %d bytes, want at most %d", held, readBufferSize)
		}
	}
	t.Run("in a large frame", func(t *testing.T) {
		c, _ := stalled(t, join(fullBuffer(0), headerOf(true, Binary, 1<<20), make([]byte, 200)))
		receive(t, c)
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
			t.Fatal(err)
		}
		check(t, len(c.in.buf))
	})
	t.Run("behind a broken rule", func(t *testing.T) {
		wrong := clientFrame(true, 3, "")
		c, p := stalled(t, join(fullBuffer(len(wrong)), wrong))
		watched := &watchedSocket{TCPConn: c.conn.(*net.TCPConn)}
		c.conn = watched
		done := serveConn(c, receiveAll)
		p.expectClose(StatusProtocolError)
		p.expectEOF()
		p.conn.Close()
		wantError(t, await(t, done), ErrProtocol)
		check(t, int(watched.largest.Load()))
	})
	t.Run("while nobody receives", func(t *testing.T) {
		c, _ := stalled(t, join(headerOf(true, Binary, 1<<20), make([]byte, readBufferSize+2)))
		for range 3 {
			c.poll(time.Now().Add(pingPoll), listenAndAnswer)
		}
		check(t, len(c.in.buf))
	})
}

// With no readiness to wait for, between messages, it is the smaller one, too.
func TestReadBuffer_of_an_idle_connection_without_readiness(t *testing.T) {
	for _, size := range []int{100, readBufferSize - 8, 5000, 10_000, 70_000} {
		t.Run(fmt.Sprint("after a message of ", size), func(t *testing.T) {
			c, s := play(t, pieces(clientFrame(true, Binary, strings.Repeat("x", size)), nil))
			c.in.ready = readiness{}
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != size {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				t.Fatalf("got error %v with %d pieces left", err, len(s.pieces))
			}
			if got := len(c.in.buf); got > readBufferSize {
				t.Errorf("waited with a buffer of %d bytes, want %d", got, readBufferSize)
			}
		})
	}
}

// What the keepalive reads while nobody receives is not lost to the end of the stream
// behind it.
func TestKeepalive_leaves_messages_ahead_of_the_end(t *testing.T) {
	c, p := dialConn(t, PingInterval(0), ConnectionTimeout(0))
	p.write(join(clientFrame(true, Text, "hello"), clientFrame(true, Close, closeBody(4000, "bye"))))
	p.conn.(*net.TCPConn).CloseWrite()
	c.poll(time.Now().Add(100*time.Millisecond), listenAndAnswer)
	if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "hello" {
		t.Errorf("got %q and error %v, want hello", data, err)
	}
	if _, _, err := c.ReceiveMessage(); CloseStatus(err) != 4000 {
		t.Errorf("got error %v, want 4000", err)
	}
}

// A write deadline is for what is sent under it: it does not end the connection over
// a frame that was accepted before.
func TestWriteCoalescing_and_a_write_deadline_that_has_passed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := play(t, pieces(burst(2, "question")))
		c.ReceiveMessage()
		if err := c.SendMessage(Text, []byte("waits")); err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		if err := c.SendMessage(Ping, nil); err != nil && !isTimeout(err) || c.err() != nil {
			t.Errorf("got error %v on a connection that ended with %v", err, c.err())
		}
		c.SetWriteDeadline(time.Time{})
		if err := c.SendMessage(Text, []byte("in time")); err != nil {
			t.Error(err)
		}
		time.Sleep(coalesceTime)
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
