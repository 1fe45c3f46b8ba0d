package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestReceiveMessage_declared_length_allocates_nothing(t *testing.T) {
	const limit = 256 << 10
	for _, r := range append(slices.Clone(receivers), rawReceiver) {
		for _, arrived := range []int{0, 1, 5000} {
			t.Run(fmt.Sprintf("%s with %d bytes of 1 GiB", r.name, arrived), func(t *testing.T) {
				wire := slices.Concat(clientHeader(true, Binary, 1<<30), make([]byte, arrived))
				c, _ := newScriptConn(t, segments(wire), MaxFrameSize(1<<30), MaxMessageSize(1<<30))
				var expired int
				var err error
				got := wstest.Allocated(func() { _, _, err = r.receive(c, &expired) })
				wantError(t, err, io.ErrUnexpectedEOF)
				if got > limit {
					t.Errorf("allocated %d bytes, want at most %d", got, limit)
				}
			})
		}
	}
}

// The error of a connection that broke differs from that of a connection that was closed.
func TestReceiveMessage_returns_the_error_of_a_broken_connection(t *testing.T) {
	whole := clientFrame(true, Binary, strings.Repeat("x", 10000))
	for _, r := range receivers {
		for _, n := range []int{0, 1, 5, 100, 8000} {
			c, s := newScriptConn(t, slices.Collect(slices.Chunk(whole[:n], 3000)))
			var expired int
			_, _, err := r.receive(c, &expired)
			wantError(t, err, io.ErrUnexpectedEOF)
			if errors.Is(err, io.EOF) || CloseStatus(err) != StatusAbnormalClosure {
				t.Errorf("%s after %d bytes: got error %v with status %v, want 1006 and an error that is not io.EOF", r.name, n, err, CloseStatus(err))
			}
			if frames := s.frames(t); len(frames) > 0 || !s.Closed() {
				t.Errorf("%s after %d bytes: got frames %v, want none and a closed socket", r.name, n, frames)
			}
		}
	}
}

func TestReceiveMessage_ends_if_reads_return_no_bytes(t *testing.T) {
	socket := wstest.NewSocket()
	socket.Hook = func(*wstest.Op) (int, error) { return 0, nil }
	_, _, err := newTestConn(socket, nil).ReceiveMessage()
	wantError(t, err, io.ErrNoProgress)
}

func TestReceiveMessage_bytes_after_the_handshake(t *testing.T) {
	wire := slices.Concat(clientFrame(true, Text, "early"), clientFrame(true, Binary, strings.Repeat("x", 6000)))
	c := newTestConn(wstest.NewSocket(), wire)
	for _, want := range []int{5, 6000} {
		if _, data, err := c.ReceiveMessage(); err != nil || len(data) != want {
			t.Errorf("got %d bytes and error %v, want %d", len(data), err, want)
		}
	}
	_, _, err := c.ReceiveMessage()
	wantError(t, err, io.ErrUnexpectedEOF)
}

// The lengths are on both sides of a change: another form of the header, a frame that no
// longer fits the read buffer, or a growing message that is moved.
func TestReceiveMessage_every_length(t *testing.T) {
	payload := make([]byte, 1<<17)
	for i := range len(payload) / 4 {
		binary.LittleEndian.PutUint32(payload[4*i:], uint32(i))
	}
	for _, around := range []int{0, 125, 126, 512, readBufferSize - maxHeaderSize, readBufferSize, 61230, 1 << 16, 1<<17 - 1} {
		for n := max(0, around-1); n <= around+1; n++ {
			frame := clientFrame(true, Binary, string(payload[:n]))
			for _, size := range []int{1 << 21, 1000} {
				c, _ := newScriptConn(t, slices.Collect(slices.Chunk(frame, size)))
				_, data, err := c.ReceiveMessage()
				if err != nil || !bytes.Equal(data, payload[:n]) {
					t.Fatalf("%d bytes in pieces of %d: got %d bytes and error %v", n, size, len(data), err)
				}
			}
		}
	}
}

// fullBuffer returns a message that fills the small read buffer, except for less bytes.
func fullBuffer(less int) []byte {
	return clientFrame(true, Binary, strings.Repeat("x", readBufferSize-8-less))
}

func TestReadBuffer(t *testing.T) {
	t.Parallel()
	t.Run("an idle connection has no read buffer", func(t *testing.T) {
		c, p := newTCPConn(t)
		skipIfBuffered(t, c)
		for _, size := range []int{10, 5000, 100_000} {
			p.send(Binary, strings.Repeat("x", size))
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != size {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Time{})
			if bufferSize(c) > 0 {
				t.Errorf("got a buffer of %d bytes after a message of %d, want none", bufferSize(c), size)
			}
		}
	})
	t.Run("the beginning of a frame waits in the small read buffer", func(t *testing.T) {
		c, p := newTCPConn(t)
		skipIfBuffered(t, c)
		frame := clientFrame(true, Binary, strings.Repeat("x", 6000))
		p.Write(append(frame, frame[:7]...))
		if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 6000 {
			t.Fatalf("got %d bytes and error %v", len(data), err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
			t.Fatal(err)
		}
		if got := bufferSize(c); got != readBufferSize {
			t.Errorf("got a buffer of %d bytes, want %d", got, readBufferSize)
		}
		c.SetReadDeadline(time.Time{})
		p.Write(frame[7:])
		if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 6000 {
			t.Fatalf("got %d bytes and error %v", len(data), err)
		}
	})
	t.Run("grows if many bytes have arrived", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(messageBurst(60, strings.Repeat("x", 1000))))
		largest := 0
		for range 60 {
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 1000 {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			largest = max(largest, bufferSize(c))
		}
		if largest != largeReadBufferSize {
			t.Errorf("got a buffer of %d bytes, want %d", largest, largeReadBufferSize)
		}
	})
	t.Run("the bytes after the handshake fit, however many", func(t *testing.T) {
		wire := messageBurst(9, strings.Repeat("x", 1000))
		c := newTestConn(wstest.NewSocket(), wire)
		for range 9 {
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 1000 {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
		}
		c.Close(StatusNormalClosure, "")
	})
}

// The server holds at most the small read buffer while it waits for a peer that has sent
// 4 KiB and then nothing more.
func TestReadBuffer_of_a_peer_that_stalls(t *testing.T) {
	computes(t)
	stalled := func(t *testing.T, wire []byte) (*Conn, *peer) {
		t.Helper()
		c, p := newTCPConn(t, PingInterval(0), ConnectionTimeout(0))
		skipIfBuffered(t, c)
		p.Write(wire)
		return c, p
	}
	receive := func(t *testing.T, c *Conn) {
		t.Helper()
		if _, _, err := c.ReceiveMessage(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, held, most int) {
		t.Helper()
		if held > most {
			t.Errorf("got a read buffer of %d bytes, want at most %d", held, most)
		}
	}
	t.Run("in a large frame", func(t *testing.T) {
		c, _ := stalled(t, slices.Concat(fullBuffer(0), clientHeader(true, Binary, 1<<20), make([]byte, 200)))
		receive(t, c)
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
			t.Fatal(err)
		}
		check(t, bufferSize(c), readBufferSize)
	})
	t.Run("after a broken rule", func(t *testing.T) {
		wrong := clientFrame(true, 3, "")
		server, client := tcpPair(t)
		socket := &wstest.HalfSocket{Socket: wstest.Wrap(server)}
		c, p := newTestConn(socket, nil, PingInterval(0), ConnectionTimeout(0)), newPeer(t, client)
		p.Write(slices.Concat(fullBuffer(len(wrong)), wrong))
		done := runHandler(c, receiveAll)
		p.expectClose(StatusProtocolError)
		p.ExpectEOF()
		p.Conn.Close()
		wantError(t, await(t, done), ErrProtocol)
		check(t, socket.LargestRead(), readBufferSize)
	})
	t.Run("while no method receives", func(t *testing.T) {
		c, _ := stalled(t, slices.Concat(clientHeader(true, Binary, 1<<20), make([]byte, readBufferSize+2)))
		for range 3 {
			pollOnce(c)
		}
		most := readBufferSize
		if !sock.BehindSupported {
			most *= 2 // see growForPoll
		}
		check(t, bufferSize(c), most)
	})
}

// A connection that cannot wait without a buffer waits with the small read buffer between
// messages.
func TestReadBuffer_of_an_idle_connection_without_readiness(t *testing.T) {
	for _, size := range []int{100, readBufferSize - 8, 5000, 10_000, 70_000} {
		t.Run(fmt.Sprint("after a message of ", size), func(t *testing.T) {
			c, s := newScriptConn(t, segments(clientFrame(true, Binary, strings.Repeat("x", size)), nil))
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != size {
				t.Fatalf("got %d bytes and error %v", len(data), err)
			}
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				t.Fatalf("got error %v with %d segments left", err, len(s.Unread()))
			}
			if got := bufferSize(c); got > readBufferSize {
				t.Errorf("waited with a buffer of %d bytes, want %d", got, readBufferSize)
			}
		})
	}
}
