package websockettest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket"
)

// maxFrame is the largest payload that the client accepts.
const maxFrame = 1 << 30

// maxFrames is how many frames a call reads. The clock of a bubble stands still while the handler
// sends without a pause, so bubbleLimit does not end such a call. In bubbleLimit, a handler with a
// PingInterval of a second sends 172,800 pings.
const maxFrames = 250_000

// A reading is one call of a method that receives. It remembers what arrived before the result that
// the method waits for, so that a failure text can list it.
type reading struct {
	*Client
	method, want           string
	frames                 int
	messages, pings, pongs int
}

// begin starts a call. All its waits together take c.limit at most.
func (c *Client) begin(method, want string) *reading {
	c.t.Helper()
	c.checkUsable(method)
	if c.stopped.Load() {
		c.t.Fatalf("websockettest: %s: StopReading was called before: call StartReading first", method)
	}
	c.conn.SetReadDeadline(time.Now().Add(c.limit))
	return &reading{Client: c, method: method, want: want}
}

// fail fails the test, because got arrived instead of what is wanted.
func (r *reading) fail(got string) {
	r.t.Helper()
	if before := r.before(); before != "" {
		got += " after " + before
	}
	r.t.Fatalf("websockettest: %s: got %s, want %s", r.method, got, r.want)
}

// before describes what arrived earlier in the call. It returns "" if nothing did.
func (r *reading) before() string {
	var counts []string
	for _, kind := range []struct {
		n    int
		name string
	}{{r.messages, "message"}, {r.pings, "ping"}, {r.pongs, "pong"}} {
		if kind.n == 1 {
			counts = append(counts, "1 "+kind.name)
		} else if kind.n > 1 {
			counts = append(counts, fmt.Sprintf("%d %ss", kind.n, kind.name))
		}
	}
	return strings.Join(counts, " and ")
}

// read reads the next frame. The error says that the connection has ended.
func (r *reading) read() (websocket.Frame, error) {
	r.t.Helper()
	if r.frames++; r.frames > maxFrames {
		got := cmp.Or(r.before(), "no whole message")
		r.t.Fatalf("websockettest: %s: got more than %d frames (%s), want %s", r.method, maxFrames, got, r.want)
	}
	f, err := websocket.ReadFrame(r.in, maxFrame)
	switch {
	case isTimeout(err):
		r.fail(fmt.Sprintf("nothing in %v", r.limit))
	case errors.Is(err, websocket.ErrProtocol) || errors.Is(err, websocket.ErrMessageTooLarge):
		r.fail(fmt.Sprintf("a frame with a header that is not valid (%v)", err))
	}
	return f, err
}

// describeEnd describes the error of a read that did not return a frame.
func (c *Client) describeEnd(err error) string {
	if c.closed != "" {
		return "the end of the connection, which was closed with " + c.closed
	}
	return fmt.Sprintf("the end of the connection without a close frame (%v)", err)
}

// lastFrames describes how the connection has ended, after a write has failed. The server
// has closed its socket, so reading does not wait.
func (c *Client) lastFrames() string {
	c.conn.SetReadDeadline(time.Time{})
	for {
		f, err := websocket.ReadFrame(c.in, maxFrame)
		switch {
		case err != nil:
			return c.describeEnd(err)
		case f.Opcode == websocket.Close:
			return describe(f)
		}
	}
}

// next returns the next frame of a message, or a close frame. It answers pings, drops pongs,
// and checks each frame. The error is that of read.
func (r *reading) next() (websocket.Frame, error) {
	r.t.Helper()
	for {
		f, err := r.read()
		if err != nil {
			return f, err
		}
		if broken := r.brokenRule(f); broken != "" {
			r.fail(describe(f) + ", which " + broken)
		}
		switch f.Opcode {
		case websocket.Ping:
			r.pings++
			f.Opcode = websocket.Pong
			r.conn.SetWriteDeadline(time.Now().Add(r.limit))
			r.write(f) // if it fails, the next read returns the reason
		case websocket.Pong:
			r.pongs++
		default:
			return f, nil
		}
	}
}

// brokenRule returns the rule that a frame breaks, or "".
func (c *Client) brokenRule(f websocket.Frame) string {
	switch control := f.Opcode.IsControl(); {
	case f.Masked:
		return "is masked (RFC 6455 section 5.1)"
	case f.RSV2 || f.RSV3 || f.RSV1 && c.deflate == nil:
		return "has reserved bits without an extension (RFC 6455 section 5.2)"
	case f.RSV1 && (control || f.Opcode == websocket.Continuation):
		return "has RSV1, which only the first frame of a message may have (RFC 7692 section 6.1)"
	case f.Opcode.IsReserved():
		return "has a reserved opcode (RFC 6455 section 5.2)"
	case control && !f.Fin:
		return "is a fragmented control frame (RFC 6455 section 5.5)"
	case control && len(f.Payload) > 125:
		return "is a control frame of more than 125 bytes (RFC 6455 section 5.5)"
	}
	return ""
}

// receive returns the next message. A close frame fails the test.
func (r *reading) receive() (websocket.Opcode, []byte) {
	r.t.Helper()
	first, data, err := r.message()
	switch {
	case err != nil:
		r.fail(r.describeEnd(err))
	case first.Opcode == websocket.Close:
		r.fail(describe(first))
	}
	return first.Opcode, data
}

// message reads the frames of the next message and returns its opcode, in the first frame,
// and its data. If a close frame comes, it returns that frame. The error is that of read.
func (r *reading) message() (first websocket.Frame, data []byte, err error) {
	r.t.Helper()
	for begun := false; ; {
		f, err := r.next()
		if err != nil {
			return f, nil, err
		}
		if f.Opcode == websocket.Close {
			r.closed = describe(f)
			return f, nil, nil
		}
		if r.midMessage && !begun && f.Opcode == websocket.Continuation {
			r.pass(f) // the rest of a message of ReceiveFrame
			continue
		}
		switch continues := f.Opcode == websocket.Continuation; {
		case continues && !begun:
			r.fail(describe(f) + ", which continues no message (RFC 6455 section 5.4)")
		case !continues && (begun || r.midMessage):
			r.fail(describe(f) + ", which is in the middle of another message (RFC 6455 section 5.4)")
		}
		if !begun {
			first, begun = f, true
			data = f.Payload
		} else {
			data = append(data, f.Payload...)
		}
		if f.Fin {
			return first, r.check(first, data), nil
		}
	}
}

// check returns the inflated message. It checks text.
func (r *reading) check(first websocket.Frame, data []byte) []byte {
	r.t.Helper()
	if first.RSV1 {
		inflated, err := r.deflate.inflate(data)
		if err != nil {
			r.fail(fmt.Sprintf("a %v message that cannot be inflated (%v)", first.Opcode, err))
		}
		data = inflated
	}
	if first.Opcode == websocket.Text && !utf8.Valid(data) {
		r.fail(fmt.Sprintf("the text message %s, which is not UTF-8 (RFC 6455 section 8.1)", cut(data)))
	}
	return data
}

// closeFrame drops messages up to the close frame, answers it and checks its code.
func (r *reading) closeFrame(code websocket.StatusCode) (reason string) {
	r.t.Helper()
	for {
		f, _, err := r.message()
		if err != nil {
			r.fail(r.describeEnd(err))
		}
		if f.Opcode != websocket.Close {
			r.messages++
			continue
		}
		text := describe(f)
		got, reason, err := parseClose(f.Payload)
		if err != nil {
			r.fail(fmt.Sprintf("%s, which is not valid: %v", text, err))
		}
		if !r.closeSent {
			f.Payload = f.Payload[:min(2, len(f.Payload))]
			r.conn.SetWriteDeadline(time.Now().Add(r.limit))
			r.write(f) // the server may have ended the connection already
		}
		// The client has sent its last frame. The server then does not have to wait for
		// the end of the client's connection.
		r.conn.CloseWrite()
		if got != code {
			r.fail(text)
		}
		return reason
	}
}

// cutOff drops messages up to the end of the connection. A close frame fails the test.
func (r *reading) cutOff() {
	r.t.Helper()
	for {
		f, _, err := r.message()
		switch {
		case err != nil && r.closed != "":
			r.fail(r.describeEnd(err))
		case err != nil:
			return
		case f.Opcode == websocket.Close:
			r.fail(describe(f))
		}
		r.messages++
	}
}

// end waits for the end of the connection. Bytes and a reset fail the test.
func (r *reading) end() {
	r.t.Helper()
	switch rest, err := r.in.Peek(1); {
	case len(rest) > 0:
		f, err := websocket.ReadFrame(r.in, maxFrame)
		if err != nil {
			r.fail(fmt.Sprintf("bytes after the close frame that are not a frame (%v)", err))
		}
		r.fail(describe(f) + " after the close frame")
	case isTimeout(err):
		r.fail(fmt.Sprintf("nothing in %v", r.limit))
	case err != io.EOF:
		r.fail(r.describeEnd(err))
	}
}

// describe describes a frame for a failure text.
func describe(f websocket.Frame) string {
	if f.Opcode == websocket.Close {
		code, reason, err := parseClose(f.Payload)
		switch {
		case err != nil:
			return "a close frame with the payload " + cut(f.Payload)
		case reason == "":
			return "a close frame " + code.String()
		}
		return fmt.Sprintf("a close frame %v %q", code, reason)
	}
	return fmt.Sprintf("a %v frame with %s", f.Opcode, cut(f.Payload))
}

// cut quotes b, or the beginning of a long b.
func cut(b []byte) string {
	const most = 200
	if len(b) <= most {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
}

// parseClose parses the payload of a close frame (RFC 6455 sections 5.5.1 and 7.4).
func parseClose(payload []byte) (code websocket.StatusCode, reason string, err error) {
	switch len(payload) {
	case 0:
		return websocket.StatusNoStatusReceived, "", nil
	case 1:
		return 0, "", errors.New("its payload of 1 byte is too short for a code (RFC 6455 section 5.5.1)")
	}
	code, reason = websocket.StatusCode(binary.BigEndian.Uint16(payload)), string(payload[2:])
	return code, reason, checkClose(code, reason)
}

// closePayload returns the payload of a close frame.
func closePayload(code websocket.StatusCode, reason string) ([]byte, error) {
	if code == websocket.StatusNoStatusReceived && reason == "" {
		return nil, nil
	}
	if err := checkClose(code, reason); err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...), nil
}

// checkClose checks what a close frame must not contain.
func checkClose(code websocket.StatusCode, reason string) error {
	const maxReason = 123
	private := code >= 3000 && code <= 4999
	assigned := code >= websocket.StatusNormalClosure && code <= websocket.StatusBadGateway &&
		code != 1004 && code != websocket.StatusNoStatusReceived && code != websocket.StatusAbnormalClosure
	switch {
	case !private && !assigned:
		return fmt.Errorf("the code %v must not be sent (RFC 6455 section 7.4)", code)
	case len(reason) > maxReason:
		return fmt.Errorf("the reason has %d bytes, and at most %d are allowed (RFC 6455 section 5.5)", len(reason), maxReason)
	case !utf8.ValidString(reason):
		return fmt.Errorf("the reason %q is not UTF-8 (RFC 6455 section 5.5.1)", reason)
	}
	return nil
}
