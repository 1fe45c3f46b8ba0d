package nettest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/f44ffc3b/websocket"
)

// A clientConn is the client's end of a stream of binary messages. Its deadlines are those of
// the socket, and are not needed in the middle of a frame.
type clientConn struct {
	net.Conn
	in *bufio.Reader

	reading sync.Mutex // guards in and the fields below
	left    int64      // bytes of the open frame

	writing sync.Mutex
	closed  bool // a close frame was sent
}

// newClient does the handshake on conn.
func newClient(conn net.Conn) (*clientConn, error) {
	req, err := http.NewRequest("GET", "http://app.example/", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("got status %v, want 101", resp.Status)
	}
	return &clientConn{Conn: conn, in: in}, nil
}

func (c *clientConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for c.left == 0 {
		if err := c.readHeader(); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// readHeader opens the next data frame, and answers a control frame.
func (c *clientConn) readHeader() error {
	h, err := websocket.ReadHeader(c.in)
	if err != nil {
		return err
	}
	if !h.Opcode.IsControl() {
		c.left = h.Length
		return nil
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	switch h.Opcode {
	case websocket.Ping:
		return c.send(websocket.Pong, payload)
	case websocket.Close:
		c.send(websocket.Close, payload[:min(2, len(payload))])
		return io.EOF
	}
	return nil
}

// Write sends messages of 64 KiB at most, because MaxFrameSize limits what the server accepts.
func (c *clientConn) Write(p []byte) (n int, err error) {
	for piece := range slices.Chunk(p, 64<<10) {
		if err := c.send(websocket.Binary, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

var errClosed = errors.New("a close frame was sent")

// send sends one masked frame.
func (c *clientConn) send(op websocket.Opcode, payload []byte) error {
	f := websocket.Frame{Header: websocket.Header{Fin: true, Opcode: op, Masked: true}, Payload: append([]byte(nil), payload...)}
	binary.NativeEndian.PutUint32(f.MaskKey[:], rand.Uint32())
	websocket.Mask(f.Payload, f.MaskKey, 0)
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return errClosed
	}
	c.closed = op == websocket.Close
	_, err := c.Conn.Write(websocket.AppendFrame(nil, f))
	return err
}

// Close sends a close frame and reads until the server has answered it.
func (c *clientConn) Close() error {
	if err := c.send(websocket.Close, []byte{3, 232}); err == nil {
		go io.Copy(io.Discard, struct{ io.Reader }{c}) // the server ends the TCP connection
		return nil
	}
	return c.Conn.Close()
}
