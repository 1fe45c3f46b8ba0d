package wstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// Patience is how long a test waits for something that must happen. A test that
// passes does not wait that long.
const Patience = 20 * time.Second

// A Client is a WebSocket client that a test controls byte by byte. It sends only the
// bytes of the test and answers no frame. The test reads one frame after the other.
//
// Methods that return an error may be called by any goroutine. The others fail
// the test and return only if they succeed, so they are for the goroutine of the
// test.
type Client struct {
	Conn   net.Conn
	Buffer *bufio.Reader // what was read from Conn
	Frames *Decoder      // of the bytes in Buffer

	t testing.TB
}

// NewClient returns a client on conn, and closes conn when the test ends. If t is nil,
// the caller must close conn, and may call only the methods that return an error.
func NewClient(t testing.TB, conn net.Conn) *Client {
	if t != nil {
		t.Cleanup(func() { conn.Close() })
	}
	buffer := bufio.NewReader(conn)
	return &Client{Conn: conn, Buffer: buffer, Frames: NewDecoder(buffer), t: t}
}

// Dial connects to addr over TCP, or to the Unix socket of ServeUnix. It does not send a handshake.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, conn)
}

// DialTLS connects to addr over TLS and accepts every certificate. It does not
// send a WebSocket handshake.
func DialTLS(t testing.TB, addr string) *Client {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, conn)
}

// Upgrade sends a handshake with the headers, each a line with its line end, and
// checks that the server accepts it. It does nothing on a Stream, which Connect has upgraded.
func (c *Client) Upgrade(headers ...string) error {
	if _, ok := c.Conn.(*Stream); ok {
		return nil
	}
	if _, err := io.WriteString(c.Conn, Handshake(headers...)); err != nil {
		return err
	}
	return c.ReadUpgrade()
}

// ReadUpgrade reads the response to a handshake and checks that the server has
// accepted it.
func (c *Client) ReadUpgrade() error {
	resp, err := http.ReadResponse(c.Buffer, nil)
	if err != nil {
		return fmt.Errorf("reading the response to the handshake: %w", err)
	}
	if accept := resp.Header.Get("Sec-WebSocket-Accept"); resp.StatusCode != http.StatusSwitchingProtocols || accept != Accept {
		return fmt.Errorf("got response %s with Sec-WebSocket-Accept %q, want 101 and %q", resp.Status, accept, Accept)
	}
	return nil
}

// ReadFrame reads the next frame of the server.
func (c *Client) ReadFrame() (Frame, error) { return c.Frames.ReadFrame() }

// ReadClose reads and drops everything up to the server's close frame, and returns
// its code. The error is nil only if the connection then ends without a reset.
func (c *Client) ReadClose() (code uint16, err error) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return 0, err
		}
		if f.Opcode() != Close {
			continue
		}
		code, _, err := f.CloseCode()
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, c.Buffer)
		return code, err
	}
}

// RoundTrip sends a text message and checks that the next frame that is not a ping
// is its echo.
func (c *Client) RoundTrip(text string) error {
	c.Conn.SetDeadline(time.Now().Add(Patience))
	if _, err := c.Conn.Write(Message(Text, text)); err != nil {
		return err
	}
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		if f.Opcode() == Ping {
			continue
		}
		if f.First != Fin|Text || string(f.Payload) != text {
			return fmt.Errorf("got %v, want the text %q", f, text)
		}
		return nil
	}
}

// WantClose reads up to the end of the connection. It returns an error unless the server
// has sent a close frame with code and then ended the connection without a reset.
func (c *Client) WantClose(code uint16) error {
	got, err := c.ReadClose()
	if err != nil || got != code {
		return fmt.Errorf("got the close code %d and error %v, want %d and then EOF", got, err, code)
	}
	return nil
}

// Flood sends b again and again until the connection breaks, and returns how many
// bytes were sent.
func (c *Client) Flood(b []byte) (sent int64) {
	for {
		n, err := c.Conn.Write(b)
		sent += int64(n)
		if err != nil {
			return sent
		}
	}
}

// LimitReadBuffer makes the read buffer of the client's socket small. Otherwise the
// kernel would accept megabytes that the client does not read. The write buffer of the
// server's socket is not changed. A Stream has a window instead.
func (c *Client) LimitReadBuffer() {
	if conn, ok := c.Conn.(*net.TCPConn); ok {
		conn.SetReadBuffer(4096)
	}
}

// Reset closes a TCP connection with a reset, as if the client had crashed, or resets a Stream. A Unix
// socket knows no resets, and is closed.
func (c *Client) Reset() {
	if s, ok := c.Conn.(*Stream); ok {
		s.Reset(H2Cancel)
		return
	}
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Conn.Close()
}

// ShutWrite closes the write side of the connection. The client can still read.
func (c *Client) ShutWrite() error {
	conn, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return conn.CloseWrite()
}

// Handshake does the handshake as Upgrade does, and fails the test if that fails.
func (c *Client) Handshake(headers ...string) {
	c.t.Helper()
	c.Conn.SetDeadline(time.Now().Add(Patience))
	if err := c.Upgrade(headers...); err != nil {
		c.t.Fatal(err)
	}
}

// Write sends bytes as they are.
func (c *Client) Write(b []byte) {
	c.t.Helper()
	c.Conn.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("writing %s: %v", Hex(b), err)
	}
}

// Send sends a message of one frame.
func (c *Client) Send(opcode byte, payload string) {
	c.t.Helper()
	c.Write(Message(opcode, payload))
}

// Read returns the next frame of the server.
func (c *Client) Read() Frame {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(Patience))
	f, err := c.ReadFrame()
	if err != nil {
		c.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

// Expect reads a frame and checks that it is a whole message with this payload.
func (c *Client) Expect(opcode byte, payload string) {
	c.t.Helper()
	if f := c.Read(); f.First != Fin|opcode || string(f.Payload) != payload {
		c.t.Fatalf("got %v, want frame %#02x %s", f, Fin|opcode, Hex([]byte(payload)))
	}
}

// ExpectBytes reads as many bytes as want has and compares them.
func (c *Client) ExpectBytes(want []byte) {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(Patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.Buffer, got)
	if err != nil || !bytes.Equal(got, want) {
		c.t.Fatalf("got %s and error %v, want %s", Hex(got[:n]), err, Hex(want))
	}
}

// ExpectClose reads a close frame and checks its code, which is 1005 for a frame
// without a code. It returns the reason.
func (c *Client) ExpectClose(code uint16) (reason string) {
	c.t.Helper()
	got, reason, err := c.Read().CloseCode()
	if err != nil {
		c.t.Fatalf("%v, want the code %d", err, code)
	}
	if got != code {
		c.t.Fatalf("got a close frame with the code %d and the reason %q, want the code %d", got, reason, code)
	}
	return reason
}

// ExpectEOF checks that the server sends nothing more and ends the connection. A reset
// fails the test, because it can destroy bytes that are on their way.
func (c *Client) ExpectEOF() {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(Patience))
	rest, err := io.ReadAll(c.Buffer)
	if err != nil || len(rest) > 0 {
		c.t.Fatalf("got %s and error %v, want EOF", Hex(rest), err)
	}
}

// ExpectNothing checks that the server sends nothing before it answers a ping.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	c.Send(Ping, "anything else?")
	c.Expect(Pong, "anything else?")
}

// Close does the client's part of a normal close handshake and closes the socket.
func (c *Client) Close() {
	c.t.Helper()
	c.Send(Close, ClosePayload(1000, ""))
	c.ExpectClose(1000)
	c.ExpectEOF()
	c.Conn.Close()
}
