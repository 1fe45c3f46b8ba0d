package websocket

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/memnet"
)

// newMemoryConn returns a Conn on a connection in memory that behaves like TCP, its client's
// end, and a peer on that.
func newMemoryConn(t testing.TB, opts ...Option) (*Conn, *memnet.Conn, *peer) {
	server, client := memnet.Pipe(&net.TCPAddr{Port: 1}, &net.TCPAddr{Port: 2})
	return newTestConn(server, nil, opts...), client, newPeer(t, client)
}

// With a write deadline, SendMessage leaves a close frame to the flush timer. The frame is sent
// before the connection ends, also if the peer's close frame is read meanwhile, and after the
// accepted messages.
func TestSendMessage_close_with_a_deadline_is_not_lost(t *testing.T) {
	for range 20 {
		client, server := tcpPair(t)
		c := newTestConn(server, nil)
		client.Write(append(messageBurst(2, "hi"), clientFrame(true, Close, closeBody(1000, ""))...))
		c.ReceiveMessage()
		if err := c.SendMessage(Text, []byte("accepted")); err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if err := c.SendMessage(Close, []byte(closeBody(4000, "bye"))); err != nil {
			t.Fatal(err)
		}
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(client)
			client.Close()
			got <- b
		}()
		c.ReceiveMessage()
		c.ReceiveMessage()
		c.Close(1000, "")
		want := append(AppendFrame(nil, Frame{Header{Fin: true, Opcode: Text}, []byte("accepted")}),
			AppendFrame(nil, Frame{Header{Fin: true, Opcode: Close}, []byte(closeBody(4000, "bye"))})...)
		if b := <-got; !bytes.Equal(b, want) {
			t.Fatalf("the peer has received %q, want %q", b, want)
		}
	}
}

// A close frame that does not fit beside the pending frames waits behind them.
func TestSendMessage_close_behind_many_pending_frames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPendingConn(t, keepConn, WriteTimeout(0))
		c.out.noteBuffered(true)
		for len(c.out.pending.frames) < pendingSize-16 {
			left := pendingSize - 14 - len(c.out.pending.frames)
			if err := c.SendMessage(Binary, make([]byte, min(8000, left))); err != nil {
				t.Fatal(err)
			}
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if err := c.SendMessage(Close, []byte(closeBody(4000, ""))); err != nil {
			t.Error(err)
		}
		last := Opcode(0)
		p.Conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		for {
			f, err := p.ReadFrame()
			if err != nil {
				break
			}
			last = Opcode(f.Opcode())
		}
		if last != Close {
			t.Errorf("the last frame is %v, want the close frame", last)
		}
		endConn(c, p)
	})
}

// The flush timer may be in the write of accepted frames when the peer ends its direction.
func TestReceive_lets_the_flush_timer_finish_at_the_end_of_the_stream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client, _ := newMemoryConn(t)
		client.SetReadBuffer(0) // the peer reads later
		client.Write(messageBurst(2, "question"))
		client.CloseWrite()
		c.ReceiveMessage()
		if err := c.SendMessage(Text, []byte("accepted")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the flush timer is in its write
		c.ReceiveMessage()
		time.AfterFunc(100*time.Millisecond, func() { client.SetReadBuffer(1 << 16) })
		_, _, err := c.ReceiveMessage()
		wantError(t, err, io.ErrUnexpectedEOF)
		c.Close(1000, "")
		if b, _ := io.ReadAll(client); !bytes.Contains(b, []byte("accepted")) {
			t.Errorf("the peer has received %q, want the accepted message", b)
		}
	})
}
