package load

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// The nonce of the example in RFC 6455 section 1.3, and its answer there.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// patience bounds everything that a connection may wait for.
const patience = 60 * time.Second

// dial connects to addr and does the handshake for path; none for "".
func dial(addr, path string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// A reset at the end leaves no socket in TIME_WAIT: runs follow each other,
	// and there are only so many ports.
	c.(*net.TCPConn).SetLinger(0)
	c.SetDeadline(time.Now().Add(patience))
	if path == "" {
		return c, nil
	}
	if err := handshake(c, path); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func handshake(c net.Conn, path string) error {
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		return err
	}
	// Nothing follows the response before the client has sent a frame, so reading
	// on until it is whole reads nothing else.
	res := make([]byte, 0, 1024)
	for !bytes.HasSuffix(res, []byte("\r\n\r\n")) {
		n, err := c.Read(res[len(res):cap(res)])
		if err != nil {
			return fmt.Errorf("handshake: %w after %q", err, res)
		}
		res = res[:len(res)+n]
	}
	if !bytes.HasPrefix(res, []byte("HTTP/1.1 101 ")) || !bytes.Contains(res, []byte(": "+accept+"\r\n")) {
		return fmt.Errorf("handshake: got %q", res)
	}
	return nil
}

// awaitPong returns when the server reads from c: the handshake is over before its
// handler has put c among those who get what is broadcast.
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

// visit connects, does the handshake and closes: with a close frame, and the socket
// once the server has closed it, as RFC 6455 section 7.1.1 has it.
func visit(addr string) error {
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
	// x/net closes without a close frame of its own.
	if len(answer) > 0 && answer[0] != 0x88 {
		return fmt.Errorf("closing: got % x, want a close frame", answer)
	}
	return nil
}
