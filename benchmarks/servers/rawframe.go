package servers

import (
	"bufio"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"unicode/utf8"
)

// rawFrame does the least work that an echo of frames needs in plain Go: it parses,
// unmasks and writes once per message. It checks UTF-8, but has no other checks and no
// limits, locks or timeouts, because it trusts the load generator.
var rawFrame = Contestant{
	Name:           "rawframe",
	Kind:           Baseline,
	Modes:          []Mode{InHandler, Detached},
	HTTP2:          true,
	ChecksUTF8:     true,
	JoinsFragments: true,
	Handler:        func(m Mode) http.Handler { return rawHandler(m, false) },
}

// rawBatch is rawFrame with one write for all messages of one read.
var rawBatch = Contestant{
	Name:           "rawbatch",
	Kind:           Baseline,
	Modes:          []Mode{InHandler, Detached},
	ChecksUTF8:     true,
	JoinsFragments: true,
	Handler:        func(m Mode) http.Handler { return rawHandler(m, true) },
}

func rawHandler(m Mode, batch bool) http.Handler {
	room := new(hub[net.Conn])
	echo := func(c net.Conn, frames []byte) { c.Write(frames) }
	chat := func(_ net.Conn, frames []byte) { room.each(func(c net.Conn) { c.Write(frames) }) }
	return services{
		EchoPath: rawServe(m, func(c net.Conn) { rawLoop(c, batch, echo) }),
		BroadcastPath: rawServe(m, func(c net.Conn) {
			room.join(c)
			defer room.leave(c)
			rawLoop(c, batch, chat)
		}),
	}
}

func rawServe(m Mode, loop func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			if c, err := openRawStream(w, r); err == nil {
				loop(c)
			}
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		// Let the garbage collector free the buffers of net/http, which still holds rw. Reset would
		// keep them.
		*rw.Reader, *rw.Writer = bufio.Reader{}, bufio.Writer{}
		run(m, func() {
			defer c.Close()
			if _, err := c.Write(rawResponse(r.Header.Get("Sec-WebSocket-Key"))); err == nil {
				loop(c)
			}
		})
	}
}

func rawResponse(key string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	res := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	res = base64.StdEncoding.AppendEncode(res, sum[:])
	return append(res, "\r\n\r\n"...)
}

// A rawConn is a connection with a buffer. It reads frames into the buffer, unmasks them
// there and writes the answers from there.
type rawConn struct {
	conn  net.Conn
	batch bool
	send  func(net.Conn, []byte)

	buf     []byte
	r, w    int    // buf[r:w] is read and not yet used
	message []byte // the fragments so far, after rawRoom bytes for a header
	out     []byte // the answers of a batch
	op      byte   // the opcode of the message
	key     []byte // the masking key, repeated
}

// rawRoom is the size of the largest header of an answer.
const rawRoom = 10

func rawLoop(c net.Conn, batch bool, send func(net.Conn, []byte)) {
	raw := &rawConn{conn: c, batch: batch, send: send}
	raw.buf, raw.key, raw.message = make([]byte, 4096), make([]byte, 1024), make([]byte, rawRoom)
	for raw.fill() == nil && raw.frames() == nil {
	}
}

// fill makes room for at least the rest of the frame that has begun, and reads once.
func (c *rawConn) fill() error {
	c.w = copy(c.buf, c.buf[c.r:c.w])
	c.r = 0
	if header, length, ok := parseRaw(c.buf[:c.w]); ok && header+length > len(c.buf) {
		c.buf = append(make([]byte, 0, header+length), c.buf[:c.w]...)
		c.buf = c.buf[:cap(c.buf)]
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	return err
}

var errClosed = errors.New("closed")

// frames answers every whole frame in the buffer.
func (c *rawConn) frames() error {
	c.out = c.out[:0]
	for {
		header, length, ok := parseRaw(c.buf[c.r:c.w])
		if !ok || header+length > c.w-c.r {
			break
		}
		frame := c.buf[c.r : c.r+header+length]
		c.r += len(frame)
		answer, err := c.answer(frame, header)
		switch {
		case err != nil:
			return err
		case c.batch:
			c.out = append(c.out, answer...)
		case len(answer) > 0:
			c.send(c.conn, answer)
		}
	}
	if len(c.out) > 0 {
		c.send(c.conn, c.out)
	}
	return nil
}

// answer returns the answer to a frame. It returns nil for every fragment except the last.
// The answer's header replaces the client's, which is longer.
func (c *rawConn) answer(frame []byte, header int) ([]byte, error) {
	fin, op, payload := frame[0]&0x80 != 0, frame[0]&0xf, frame[header:]
	c.unmask(payload, frame[header-4:header])
	if op >= 8 {
		return nil, c.control(op)
	}
	if op != 0 {
		c.op = op
	}
	if op == 0 || !fin {
		c.message = append(c.message, payload...)
		if !fin {
			return nil, nil
		}
		frame, header = c.message, rawRoom
		c.message = c.message[:rawRoom]
	}
	payload = frame[header:]
	if c.op == 1 && !utf8.Valid(payload) {
		return nil, errClosed
	}
	start := header - rawHeaderSize(len(payload))
	appendRawHeader(frame[start:start], c.op, len(payload))
	return frame[start:], nil
}

// control answers an empty ping or a close frame.
func (c *rawConn) control(op byte) error {
	if op == 9 {
		_, err := c.conn.Write([]byte{0x8a, 0})
		return err
	}
	c.conn.Write([]byte{0x88, 0})
	return errClosed
}

// unmask XORs payload with the key, in steps of up to the size of c.key.
func (c *rawConn) unmask(payload, key []byte) {
	n := copy(c.key, key)
	for n < min(len(c.key), len(payload)) {
		n += copy(c.key[n:], c.key[:n])
	}
	for len(payload) > 0 {
		payload = payload[subtle.XORBytes(payload, payload, c.key[:n]):]
	}
}

// parseRaw returns the sizes of the header and of the payload of the frame at the beginning
// of b. ok is false if b is too short for that.
func parseRaw(b []byte) (header, length int, ok bool) {
	if len(b) < 2 {
		return 0, 0, false
	}
	switch length := int(b[1] & 0x7f); {
	case length < 126:
		return 6, length, true
	case length == 126 && len(b) >= 4:
		return 8, int(binary.BigEndian.Uint16(b[2:])), true
	case length == 127 && len(b) >= 10:
		return 14, int(binary.BigEndian.Uint64(b[2:])), true
	}
	return 0, 0, false
}

func rawHeaderSize(length int) int {
	switch {
	case length < 126:
		return 2
	case length <= 0xffff:
		return 4
	}
	return 10
}

func appendRawHeader(dst []byte, op byte, length int) []byte {
	switch dst = append(dst, 0x80|op); rawHeaderSize(length) {
	case 2:
		return append(dst, byte(length))
	case 4:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
}
