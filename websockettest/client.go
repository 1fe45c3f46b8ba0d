package websockettest

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/memnet"
)

// A Client is the client of one connection to a handler. [Dial] makes it.
//
// A method that cannot succeed fails the test with [testing.T.Fatalf], and the text says what
// arrived instead. The methods must be called by the goroutine of the test, except where noted.
type Client struct {
	t        testing.TB
	conn     *memnet.Conn
	in       *bufio.Reader // of conn
	server   *server
	limit    time.Duration // of each wait
	response *http.Response
	refusal  string   // status and body of a refusal; "" if the handshake was accepted
	deflate  *deflate // nil if compression was not agreed on

	stopped atomic.Bool // StopReading
	aborted atomic.Bool

	closeSent bool
	closed    string // describes the close frame that was received; "" before
	// ReceiveFrame has returned the beginning of a message, and not its last frame.
	midMessage bool
}

// Response returns the response to the handshake: the 101, or the refusal of the handler.
// The body of a refusal can be read. Response may be called by any goroutine.
func (c *Client) Response() *http.Response { return c.response }

// Send sends a message of one frame, or a ping, pong or close frame. It does not check data,
// so that a test can send text that is not UTF-8. If compression was agreed on, messages are
// compressed. Send fails the test if op is none of Text, Binary, Ping, Pong and Close, or if
// the connection has ended.
func (c *Client) Send(op websocket.Opcode, data []byte) {
	c.t.Helper()
	c.send("Send", op, data)
}

func (c *Client) send(method string, op websocket.Opcode, data []byte) {
	c.t.Helper()
	if op == websocket.Continuation || op.IsReserved() {
		c.t.Fatalf("websockettest: %s: a message cannot have the opcode %v: use SendFrame", method, op)
	}
	f := websocket.Frame{Header: websocket.Header{Fin: true, Opcode: op}, Payload: data}
	if c.deflate != nil && !op.IsControl() {
		f.RSV1, f.Payload = true, c.deflate.compress(data)
	}
	c.sendFrame(method, f)
}

// SendJSON sends v as encoding/json encodes it, in one text message. It fails the test if v
// cannot be encoded, or if the connection has ended.
func (c *Client) SendJSON(v any) {
	c.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		c.t.Fatalf("websockettest: SendJSON: %v", err)
	}
	c.send("SendJSON", websocket.Text, data)
}

// SendFrame sends a frame as it is, even one that breaks the rules. But it cannot send a frame that is
// not masked: it masks such a frame with a random key, and does not change the payload of f. A frame
// with Masked set is sent as it is, so its payload must be masked already. Length is ignored.
// SendFrame fails the test if the connection has ended.
func (c *Client) SendFrame(f websocket.Frame) {
	c.t.Helper()
	if c.deflate != nil && f.RSV1 {
		c.deflate.forget()
	}
	c.sendFrame("SendFrame", f)
}

func (c *Client) sendFrame(method string, f websocket.Frame) {
	c.t.Helper()
	c.checkUsable(method)
	c.conn.SetWriteDeadline(time.Now().Add(c.limit))
	err := c.write(f)
	switch {
	case isTimeout(err):
		c.t.Fatalf("websockettest: %s: the handler has not read for %v, and %d MiB wait to be read by it", method, c.limit, sendBuffer>>20)
	case err != nil:
		c.t.Fatalf("websockettest: %s: the connection has ended: got %s", method, c.lastFrames())
	}
}

// write writes a frame, which it masks if it is not masked.
func (c *Client) write(f websocket.Frame) error {
	if !f.Masked {
		f.Payload = append([]byte(nil), f.Payload...)
		rand.Read(f.MaskKey[:])
		websocket.Mask(f.Payload, f.MaskKey, 0)
		f.Masked = true
	}
	if f.Opcode == websocket.Close {
		c.closeSent = true
	}
	return websocket.WriteFrame(c.conn, f)
}

// checkUsable fails the test if a method that sends or receives cannot succeed.
func (c *Client) checkUsable(method string) {
	c.t.Helper()
	switch {
	case c.refusal != "":
		c.t.Fatalf("websockettest: %s: the handshake was refused with %s", method, c.refusal)
	case c.aborted.Load():
		c.t.Fatalf("websockettest: %s: Abort was called before", method)
	case c.closeSent && c.closed != "":
		c.t.Fatalf("websockettest: %s: the connection is closed: got %s before", method, c.closed)
	}
}

// Receive returns the next message, with its fragments joined and inflated. It answers pings
// and drops pongs until the message arrives. The caller may keep and change the data. Receive
// fails the test if the server closes or ends the connection instead, breaks a rule of RFC
// 6455, or sends no message in time.
func (c *Client) Receive() (websocket.Opcode, []byte) {
	c.t.Helper()
	r := c.begin("Receive", "a message")
	return r.receive()
}

// ReceiveJSON receives a message, text or binary, as Receive does, and decodes it into v with
// encoding/json. It fails the test if the message is not JSON for v.
func (c *Client) ReceiveJSON(v any) {
	c.t.Helper()
	r := c.begin("ReceiveJSON", "a message")
	op, data := r.receive()
	if err := json.Unmarshal(data, v); err != nil {
		c.t.Fatalf("websockettest: ReceiveJSON: got the %v message %s, want JSON for %T: %v", op, cut(data), v, err)
	}
}

// ReceiveFrame returns the next frame as it arrived. It answers nothing, and checks only that
// the frame has a valid header. If it returns a ping or a close frame, the test answers
// with Send, or leaves the frame unanswered. ReceiveFrame fails the test if the connection
// ends, or if no frame arrives in time.
//
// If the test calls Receive, ReceiveJSON, WantClose or Close in the middle of a message of which
// ReceiveFrame has returned a frame, the rest of that message is dropped.
func (c *Client) ReceiveFrame() websocket.Frame {
	c.t.Helper()
	r := c.begin("ReceiveFrame", "a frame")
	f, err := r.read()
	if err != nil {
		r.fail(r.describeEnd(err))
	}
	if f.Opcode == websocket.Close {
		c.closed = describe(f)
	}
	if !f.Opcode.IsControl() {
		c.pass(f)
	}
	return f
}

// pass notes a frame of a message that no method returns as a message.
func (c *Client) pass(f websocket.Frame) {
	c.midMessage = !f.Fin
	if c.deflate != nil {
		c.deflate.pass(f)
	}
}

// WantClose reads up to the close frame of the server and returns its reason. It drops the
// messages before the close frame, and answers pings. It answers the close frame with the
// same code, unless the client has sent a close frame before, and then sends nothing more.
// The code of a close frame without one is [websocket.StatusNoStatusReceived].
//
// WantClose fails the test if the close frame has another code, or if the connection ends
// without a close frame. WantClose([websocket.StatusAbnormalClosure]) is for handlers that
// end the connection without a close frame: a close frame fails the test.
func (c *Client) WantClose(code websocket.StatusCode) (reason string) {
	c.t.Helper()
	if code == websocket.StatusAbnormalClosure {
		r := c.begin("WantClose", "the end of the connection without a close frame")
		r.cutOff()
		return ""
	}
	r := c.begin("WantClose", "a close frame "+code.String())
	return r.closeFrame(code)
}

// Close performs the close handshake: it sends a close frame with code and reason, waits for
// the answer of the server, and then for the end of the connection. It drops the messages
// before the answer, and answers pings. With [websocket.StatusNoStatusReceived], the close
// frame has no code.
//
// Close fails the test if the server does not answer with the same code, if it sends
// something after its answer, or if it does not end the connection. It also fails the test if
// the client must not send code and reason; SendFrame can send them.
func (c *Client) Close(code websocket.StatusCode, reason string) {
	c.t.Helper()
	payload, err := closePayload(code, reason)
	if err != nil {
		c.t.Fatalf("websockettest: Close: %v: use SendFrame for such a close frame", err)
	}
	c.checkUsable("Close")
	if c.closeSent {
		c.t.Fatalf("websockettest: Close: a close frame was sent before: use WantClose for the answer")
	}
	c.send("Close", websocket.Close, payload)
	r := c.begin("Close", "a close frame "+code.String()+" as the answer")
	r.closeFrame(code)
	r.want = "the end of the connection after the close handshake"
	r.end()
	c.conn.Close()
}

// Abort breaks the network: the reads and writes of the server fail with
// [syscall.ECONNRESET] from now on, and bytes on their way are lost. Abort never fails the
// test, but methods that send or receive fail it afterwards. Abort may be called by any
// goroutine.
func (c *Client) Abort() {
	c.aborted.Store(true)
	c.conn.Reset()
}

// StopReading makes the client stop reading from the network. The server can then send 64
// KiB more, which wait in the buffers of the network. Then its writes block until
// StartReading is called. Methods that receive fail the test meanwhile; those that send do
// not. StopReading may be called by any goroutine.
func (c *Client) StopReading() {
	if !c.stopped.Swap(true) {
		c.conn.SetReadBuffer(c.conn.Unread() + stoppedBuffer)
	}
}

// StartReading makes the client read again after StopReading. Nothing is lost. StartReading
// may be called by any goroutine.
func (c *Client) StartReading() {
	c.stopped.Store(false)
	c.conn.SetReadBuffer(readBuffer)
}
