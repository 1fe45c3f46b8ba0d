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

	// patience is how long the server may be silent. It pings more often.
	patience = time.Minute
)

// A client is the other end of a connection, with no more of the library than its
// frames.
type client struct {
	conn net.Conn
	r    *bufio.Reader

	mu sync.Mutex // held for one frame: pongs go out between the fragments
}

// upload sends a file and writes to out how far it is.
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
		return fmt.Errorf("the server has a file with the SHA-256 %s, want %s", sum, want)
	}
	fmt.Fprintf(out, "SHA-256 %s\n", sum)
	return nil
}

// dial connects and shakes hands (RFC 6455 section 4.1).
func dial(rawURL string) (*client, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "ws" || u.Port() == "" {
		return nil, fmt.Errorf("the URL is %s, want ws://host:port/path", rawURL)
	}
	conn, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, r: bufio.NewReader(conn)}
	if err := c.shakeHands(u); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) shakeHands(u *url.URL) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {key},
	}}
	c.conn.SetDeadline(time.Now().Add(patience))
	if err := req.Write(c.conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != websocket.AcceptKey(key) {
		return fmt.Errorf("the server answered the handshake with %s", res.Status)
	}
	return nil
}

// transfer sends what r gives and returns the SHA-256 that the server answers. It
// calls tell, on another goroutine, for what the server says meanwhile.
func (c *client) transfer(r io.Reader, tell func(progress)) (sum string, err error) {
	var (
		follower  sync.WaitGroup
		followErr error
	)
	follower.Go(func() {
		defer c.conn.Close() // a server that wants no more ends the sending
		sum, followErr = c.follow(tell)
	})
	sendErr := c.send(r)
	if sendErr != nil {
		// The server has a moment to say why.
		defer time.AfterFunc(time.Second, func() { c.conn.Close() }).Stop()
	}
	follower.Wait()
	if why := new(websocket.CloseError); sendErr == nil || errors.As(followErr, &why) {
		return sum, followErr
	}
	return "", sendErr
}

// send sends what r gives as one binary message of many frames.
func (c *client) send(r io.Reader) error {
	fragment := make([]byte, fragmentSize)
	op := websocket.Binary
	for last := false; !last; op = websocket.Continuation {
		n, err := io.ReadFull(r, fragment)
		last = err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			c.conn.Close() // of a message without an end, there is nothing to say
			return err
		}
		if err := c.write(op, last, fragment[:n]); err != nil {
			return err
		}
	}
	return nil
}

// write sends a frame and masks payload for that, in place: every frame of a
// client has a new key that nobody can guess (RFC 6455 section 5.3).
func (c *client) write(op websocket.Opcode, fin bool, payload []byte) error {
	h := websocket.Header{Fin: fin, Opcode: op, Masked: true}
	rand.Read(h.MaskKey[:])
	websocket.Mask(payload, h.MaskKey, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	return websocket.WriteFrame(c.conn, websocket.Frame{Header: h, Payload: payload})
}

// follow reads what the server sends until it closes the connection, and returns
// the SHA-256 that it sent.
func (c *client) follow(tell func(progress)) (sum string, err error) {
	for {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		f, err := websocket.ReadFrame(c.r, 4096)
		if err != nil {
			return "", err
		}
		switch f.Opcode {
		case websocket.Ping:
			err = c.write(websocket.Pong, true, f.Payload)
		case websocket.Text:
			sum, err = c.heed(f.Payload, tell)
		case websocket.Close:
			return sum, c.goodbye(f.Payload, sum)
		}
		if err != nil {
			return "", err
		}
	}
}

// heed passes progress on, and begins to close the connection when the file has
// arrived.
func (c *client) heed(text []byte, tell func(progress)) (sum string, err error) {
	var p progress
	if err := json.Unmarshal(text, &p); err != nil {
		return "", err
	}
	tell(p)
	if p.SHA256 == "" {
		return "", nil
	}
	normal := binary.BigEndian.AppendUint16(nil, uint16(websocket.StatusNormalClosure))
	return p.SHA256, c.write(websocket.Close, true, normal)
}

// goodbye takes the close frame of the server: the answer to ours if there is a
// sum, and why there is none otherwise.
func (c *client) goodbye(payload []byte, sum string) error {
	if sum != "" {
		return nil
	}
	why := &websocket.CloseError{Code: websocket.StatusNoStatusReceived}
	if len(payload) >= 2 {
		why.Code = websocket.StatusCode(binary.BigEndian.Uint16(payload))
		why.Reason = string(payload[2:])
	}
	c.write(websocket.Close, true, nil)
	return why
}
