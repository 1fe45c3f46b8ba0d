package websocket

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A read from a Unix socket ends behind the bytes with which the peer has passed a descriptor,
// although there are more, and no event follows.
func TestHandleMessages_peer_passes_a_descriptor(t *testing.T) {
	blocks, goOn := make(chan bool), make(chan bool)
	srv := startMessagesUnix(t, openWith(func(c *Conn, op Opcode, data []byte) error {
		if string(data) == "block" {
			blocks <- true
			<-goOn
			return nil
		}
		return c.SendMessage(op, data)
	}))
	other, p := srv.dial(t), srv.dial(t)
	text := strings.Repeat("text", 100)
	frame := clientFrame(true, Text, text)
	p.send(Text, "block")
	await(t, blocks)
	if _, _, err := p.Conn.(*net.UnixConn).WriteMsgUnix(frame[:100], syscall.UnixRights(0), nil); err != nil {
		t.Fatal(err)
	}
	p.Write(frame[100:])
	checkEcho(other) // its event comes behind those of p
	goOn <- true
	p.expect(Text, text)
	p.Close()
	other.Close()
}

// A connection that has ended leaves nothing in the epoll sets, although a duplicate of its
// descriptor is open, as in a child process.
func TestHandleMessages_ends_beside_a_duplicate_of_its_descriptor(t *testing.T) {
	const n = 20
	conns := make(chan *Conn, n+1)
	srv := startMessages(t, func(c *Conn) (MessageFunc, error) { conns <- c; return c.SendMessage, nil })
	other := srv.dial(t) // so that the event loop stays
	checkEcho(other)
	<-conns
	before := wstest.Registrations(t)
	for range n {
		checkEcho(srv.dial(t))
		c := <-conns
		duplicate, err := c.NetConn().(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer duplicate.Close()
		c.CloseNow()
	}
	// The peers and the duplicates are in the set of Go's poller.
	if !wstest.Eventually(func() bool { return wstest.Registrations(t) <= before+2*n }) {
		t.Errorf("got %d descriptors in epoll sets, want %d as before, and two for each connection", wstest.Registrations(t), before)
	}
	checkEcho(other)
	other.Close()
}
