package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	fragmentSize = 64 << 10

	// timeout is how long the server may be silent, and how long a write may take. The
	// server sends pings more often.
	timeout = time.Minute
)

// A client is the client's side of a connection. It uses only the frame functions of the
// library, and no Conn.
type client struct {
	conn net.Conn
	r    *bufio.Reader

	mu sync.Mutex // held while one frame is written, so pongs can come between fragments
}

// upload sends a file to the server at rawURL and writes the progress to out.
func upload(rawURL, path string, out io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	c, err := dial(rawURL)
	if err != nil {
		return err
	}
	defer c.conn.Close()

	hash := sha256.New()
	sum, err := c.transfer(io.TeeReader(file, hash), func(p progress) {
		fmt.Fprintf(out, "%d of %d bytes\n", p.Received, info.Size())
	})
	if err != nil {
		return err
	}
	if want := hex.EncodeToString(hash.Sum(nil)); sum != want {
		return fmt.Errorf("the server stored a file with the SHA-256 %s, want %s: upload it again", sum, want)
	}
	fmt.Fprintf(out, "SHA-256 %s\n", sum)
	return nil
}

// dial connects to the server and does the handshake (RFC 6455 section 4.1).
func dial(rawURL string) (*client, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "ws" || u.Port() == "" {
		return nil, fmt.Errorf("the URL is %q, want ws://host:port/path", rawURL)
	}
	conn, err := net.DialTimeout("tcp", u.Host, timeout)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, r: bufio.NewReader(conn)}
	if err := c.handshake(u); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// handshake sends the request and checks the response.
func (c *client) handshake(u *url.URL) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {key},
	}}
	c.conn.SetDeadline(time.Now().Add(timeout))
	if err := req.Write(c.conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != websocket.AcceptKey(key) {
		return fmt.Errorf("the server answered the handshake with %s, want 101 and the right Sec-WebSocket-Accept", res.Status)
	}
	return nil
}

// transfer sends the data of r and returns the SHA-256 that the server sends at the end.
// It calls report on another goroutine, for each report of the server.
func (c *client) transfer(r io.Reader, report func(progress)) (sum string, err error) {
	var (
		reader  sync.WaitGroup
		readErr error
	)
	reader.Go(func() {
		defer c.conn.Close() // stops send if the server has closed the connection early
		sum, readErr = c.readReports(report)
	})
	sendErr := c.send(r)
	if sendErr != nil {
		// The server may have sent a close frame with the reason. Give it a second to
		// arrive.
		defer time.AfterFunc(time.Second, func() { c.conn.Close() }).Stop()
	}
	reader.Wait()
	if closed := new(websocket.CloseError); sendErr == nil || errors.As(readErr, &closed) {
		return sum, readErr
	}
	return "", sendErr
}

// send sends the data of r as one binary message of many frames.
func (c *client) send(r io.Reader) error {
	fragment := make([]byte, fragmentSize)
	op := websocket.Binary
	for last := false; !last; op = websocket.Continuation {
		n, err := io.ReadFull(r, fragment)
		last = err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			c.conn.Close() // because the message cannot be finished
			return err
		}
		if err := c.write(op, last, fragment[:n]); err != nil {
			return err
		}
	}
	return nil
}

// write sends a frame. It masks payload in place. Each frame has a new random key, because
// RFC 6455 section 5.3 requires keys that cannot be predicted.
func (c *client) write(op websocket.Opcode, fin bool, payload []byte) error {
	h := websocket.Header{Fin: fin, Opcode: op, Masked: true}
	rand.Read(h.MaskKey[:])
	websocket.Mask(payload, h.MaskKey, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(timeout))
	return websocket.WriteFrame(c.conn, websocket.Frame{Header: h, Payload: payload})
}

// readReports handles the frames of the server until it closes the connection, and
// returns the SHA-256 that it has sent.
func (c *client) readReports(report func(progress)) (sum string, err error) {
	for {
		c.conn.SetReadDeadline(time.Now().Add(timeout))
		f, err := websocket.ReadFrame(c.r, 4096)
		if err != nil {
			return "", err
		}
		switch f.Opcode {
		case websocket.Ping:
			err = c.write(websocket.Pong, true, f.Payload)
		case websocket.Text:
			sum, err = c.readReport(f.Payload, report)
		case websocket.Close:
			return sum, c.closed(f.Payload, sum)
		}
		if err != nil {
			return "", err
		}
	}
}

// readReport passes a report of the server on. If it has the SHA-256, the file has arrived
// and the client starts to close the connection.
func (c *client) readReport(text []byte, report func(progress)) (sum string, err error) {
	var p progress
	if err := json.Unmarshal(text, &p); err != nil {
		return "", err
	}
	report(p)
	if p.SHA256 == "" {
		return "", nil
	}
	normal := binary.BigEndian.AppendUint16(nil, uint16(websocket.StatusNormalClosure))
	return p.SHA256, c.write(websocket.Close, true, normal)
}

// closed handles the server's close frame. With a sum it is the answer to the client's
// close frame. Without a sum it says why the server refused the file; closed then
// answers it and returns a CloseError.
func (c *client) closed(payload []byte, sum string) error {
	if sum != "" {
		return nil
	}
	refusal := &websocket.CloseError{Code: websocket.StatusNoStatusReceived}
	if len(payload) >= 2 {
		refusal.Code = websocket.StatusCode(binary.BigEndian.Uint16(payload))
		refusal.Reason = string(payload[2:])
	}
	c.write(websocket.Close, true, nil)
	return refusal
}
