package websocket

import (
	"bytes"
	"testing"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// newUnixConn is newTCPConn over a Unix socket.
func newUnixConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	t.Helper()
	if !sock.Supported {
		t.Skip("the library knows no Unix sockets on this system")
	}
	client, server := socketPair(t, wstest.ListenUnix(t))
	c := newTestConn(server, nil, opts...)
	t.Cleanup(func() { client.Close(); c.Close(StatusNormalClosure, "") })
	return c, newPeer(t, client)
}

// A Unix socket works as a TCP connection does: it waits without a buffer, and TrySend writes at
// once.
func TestUnix_works_as_TCP_does(t *testing.T) {
	t.Parallel()
	c, p := newUnixConn(t, PingInterval(0))
	received := make(chan error, 1)
	go func() {
		for range 2 {
			op, data, err := c.ReceiveMessage()
			if err == nil {
				err = c.SendMessage(op, data)
			}
			received <- err
		}
	}()
	p.send(Text, "hello")
	p.expect(Text, "hello")
	wantError(t, await(t, received), nil)
	if err := c.TrySend(Text, make([]byte, 20_000)); err != nil || c.Stats().Queued != 0 || c.out.hasPending.Load() {
		t.Errorf("got error %v and %+v from TrySend, want the message in the kernel", err, c.Stats())
	}
	p.expect(Text, string(make([]byte, 20_000)))
	if !c.socket.waitsWithoutBuffer() {
		t.Error("the connection waits with a buffer")
	}
	p.send(Text, "bye")
	p.expect(Text, "bye")
	wantError(t, await(t, received), nil)
}

// The kernel takes a large message in many pieces.
func TestUnix_sends_a_large_message(t *testing.T) {
	t.Parallel()
	c, p := newUnixConn(t, PingInterval(0))
	data := bytes.Repeat([]byte("0123456789"), 1<<20)
	sent := make(chan error, 1)
	go func() { sent <- c.SendMessage(Binary, data) }()
	if f := p.read(); !bytes.Equal(f.Payload, data) {
		t.Errorf("got %d bytes, want the %d that were sent", len(f.Payload), len(data))
	}
	wantError(t, await(t, sent), nil)
}
