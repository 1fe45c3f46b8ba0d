package load

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// The key of the example in RFC 6455 section 1.3, and the Sec-WebSocket-Accept for it.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// timeout limits every wait of a connection.
const timeout = 60 * time.Second

// dial connects to addr and does the handshake for path. With an empty path it does no
// handshake.
func dial(addr, path string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// Close resets the connection, which leaves no socket in TIME_WAIT. Otherwise the
	// runs could use up all ports.
	c.(*net.TCPConn).SetLinger(0)
	c.SetDeadline(time.Now().Add(timeout))
	return upgrade(c, path)
}

// upgrade does the handshake for path on c, unless path is empty.
func upgrade(c net.Conn, path string) (net.Conn, error) {
	if path == "" {
		return c, nil
	}
	if err := handshake(c, path); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// handshake sends a handshake for path and checks the response.
func handshake(c net.Conn, path string) error {
	extensions := Offer(path)
	if extensions != "" {
		extensions = "Sec-WebSocket-Extensions: " + extensions + "\r\n"
	}
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n"+extensions+"\r\n")
	if err != nil {
		return err
	}
	// The server sends nothing after the response before the client has sent a frame, so
	// these reads get only the response.
	res := make([]byte, 0, 1024)
	for !bytes.HasSuffix(res, []byte("\r\n\r\n")) {
		n, err := c.Read(res[len(res):cap(res)])
		if err != nil {
			return fmt.Errorf("handshake: %w after the response %q", err, res)
		}
		res = res[:len(res)+n]
	}
	if !bytes.HasPrefix(res, []byte("HTTP/1.1 101 ")) || !bytes.Contains(res, []byte(": "+accept+"\r\n")) {
		return fmt.Errorf("handshake: got the response %q, want 101 and the right Sec-WebSocket-Accept", res)
	}
	return checkAgreement(path, res)
}

// awaitPong sends a ping and waits for the pong. Then the server reads from c, and its
// handler has added c to the connections that get broadcasts. The end of the handshake does
// not show that.
func awaitPong(c net.Conn) error {
	if _, err := c.Write([]byte{0x89, 0x80, 0, 0, 0, 0}); err != nil {
		return err
	}
	var pong [2]byte
	if _, err := io.ReadFull(c, pong[:]); err != nil {
		return fmt.Errorf("waiting for a pong: %w", err)
	}
	if pong != [2]byte{0x8a, 0} {
		return fmt.Errorf("got % x, want an empty pong", pong)
	}
	return nil
}

// connectAndClose connects, does the handshake and sends a close frame. It waits until the
// server has closed the socket, as RFC 6455 section 7.1.1 asks of clients.
func connectAndClose(addr string) error {
	c, err := dial(addr, servers.EchoPath)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 1024))
	if err != nil {
		return fmt.Errorf("closing: %w after % x", err, answer)
	}
	// x/net does not answer with a close frame.
	if len(answer) > 0 && answer[0] != 0x88 {
		return fmt.Errorf("closing: got % x, want a close frame", answer)
	}
	return nil
}
