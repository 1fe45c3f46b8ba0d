package websocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"

	"github.com/f44ffc3b/websocket/internal/mask"
)

// ReceiveMessage waits for the next message from the peer and returns its type, Text
// or Binary, and its payload. The caller may keep and change the slice. It may begin at any
// address, so its memory is not aligned for other types than bytes. Text is valid UTF-8. Pings and
// close frames that come before the message or between its fragments are answered (see
// [DropIncomingPings]).
//
// If the peer closed the connection, the error is a [*CloseError]; for a normal
// closure, errors.Is(err, io.EOF) is also true. See [Conn] for other errors. If
// several goroutines receive, each gets complete messages. While no method is receiving,
// the connection is read once a second: pings are answered, and messages wait for the next
// call, even if the connection ends meanwhile. The peer's close frame is answered too, unless
// a method has received since the last such read: then it waits for the messages in front of it.
func (c *Conn) ReceiveMessage() (Opcode, []byte, error) {
	if c.inbox != nil {
		return nonNil(c.inbox.appendNext(nil))
	}
	if err := c.in.acquire(); err != nil {
		return 0, nil, err
	}
	defer c.in.release()
	// This is not a call of AppendMessage, because that takes stack (TestConn_stack_stays_small).
	op, data, err := c.in.message(nil)
	if err != nil {
		return 0, nil, c.received(err)
	}
	return nonNil(op, data, nil)
}

// nonNil makes an empty message a slice that is not nil.
func nonNil(op Opcode, data []byte, err error) (Opcode, []byte, error) {
	if data == nil && err == nil {
		data = []byte{}
	}
	return op, data, err
}

// AppendMessage is ReceiveMessage into the capacity of dst: it returns dst with the
// payload of the next message appended. It allocates only if the capacity is too
// small. On an error it returns dst as it was.
//
// A handler that uses a message only until it receives the next one can use
// [Conn.ReceiveFunc] instead. With many connections and messages of 16 KiB and more it takes
// less time, because the buffer of each connection is not in the cache of the processor when
// its message arrives.
//
//	op, data, err := c.AppendMessage(buf[:0])
func (c *Conn) AppendMessage(dst []byte) (Opcode, []byte, error) {
	if c.inbox != nil {
		return c.inbox.appendNext(dst)
	}
	if err := c.in.acquire(); err != nil {
		return 0, dst, err
	}
	defer c.in.release()
	op, data, err := c.in.message(dst)
	if err != nil {
		return 0, dst, c.received(err)
	}
	return op, data, nil
}

// message appends the next message to dst. On an error it returns dst as it was.
func (r *reader) message(dst []byte) (Opcode, []byte, error) {
	if !r.betweenMessages() {
		if err := r.begin(byReceiveMessage); err != nil {
			return 0, dst, err
		}
	}
	if !r.incoming.midMessage() {
		if r.buf.empty() {
			if err := r.fill(); err != nil {
				return 0, dst, err
			}
		}
		r.adoptLimits()
		if op, msg, ok := r.buffered(dst); ok {
			return op, msg, nil
		}
		// fragments would do this too. Here it makes the stack shallower for control
		// frames: their answers are the deepest calls, and have to fit the 4 KiB stack of
		// net/http's goroutine, because to grow it costs a tenth of a handshake.
		if end, err := r.next(modeMessages); err != nil {
			return 0, dst, err
		} else if end == endOfMessage {
			return r.incoming.op, dst, nil
		}
	}
	return r.fragments(dst)
}

// buffered is message for a message that is one frame, complete in the buffer and
// valid, as most are. fragments handles all other messages, and takes 50 % longer
// for a small one (BenchmarkBuffered).
func (r *reader) buffered(dst []byte) (op Opcode, msg []byte, ok bool) {
	b := r.buf.bytes()
	op, start, end := r.incoming.whole(b)
	if end == 0 {
		return 0, dst, false
	}
	payload, key := b[start:end], [4]byte(b[start-4:])
	if dst == nil {
		msg = make([]byte, len(payload)) // slices.Grow would make it a little larger
		copy(msg, payload)               // as the next statement, so that make does not clear the memory first
		mask.XOR(msg, key, 0)
	} else {
		msg = slices.Grow(dst, len(payload))[:len(dst)+len(payload)]
		mask.Copy(msg[len(dst):], payload, key)
	}
	if op == Text && !ValidUTF8(msg[len(dst):]) {
		return 0, dst, false
	}
	r.buf.discard(end)
	r.afterMessage()
	return op, msg, true
}

// fragments is message for a message of any shape. If a deadline interrupts it, what
// has arrived stays in r.begun, and a second deadline copies nothing.
func (r *reader) fragments(dst []byte) (Opcode, []byte, error) {
	msg, start := dst, len(dst)
	if r.begun != nil {
		msg, start = r.begun.data, 0
	}
	var err error
	if r.inflates(modeMessages) {
		msg, err = r.inflateMessage(msg)
	} else {
		msg, _, err = r.appendPayload(msg, start, modeMessages)
	}
	if err == errReadDeadline {
		err = r.interruptMessage(dst, msg, start)
	}
	if err != nil {
		return 0, dst, err
	}
	return r.incoming.op, r.finish(dst, msg), nil
}

// interruptMessage keeps what has been received of a message, msg[start:], after a read deadline.
func (r *reader) interruptMessage(dst, msg []byte, start int) error {
	if r.begun == nil && dst != nil {
		msg = append([]byte(nil), msg[start:]...) // the array is the caller's
	}
	return r.interrupt(byReceiveMessage, msg, nil)
}

// finish returns dst with a complete message behind it. msg is dst's array already,
// unless a deadline has interrupted the message.
func (r *reader) finish(dst, msg []byte) []byte {
	if r.begun != nil {
		r.begun = nil
		if dst != nil {
			return append(dst, msg...)
		}
	}
	if cap(msg) > 2*len(msg) && cap(msg) != cap(dst) { // a few bytes, see incoming.growMessage
		return append(make([]byte, 0, len(msg)), msg...)
	}
	return msg
}

// Discard answers control frames and drops the messages of the peer until the connection
// ends, and returns the error that it ended with. It is for a handler that needs no messages
// and only sends, from another goroutine, but has to know when the connection ends.
//
// Frames that break a rule of RFC 6455 fail the connection. Nothing is kept, so MaxFrameSize,
// MaxMessageSize and MaxFragments do not apply and text is not checked, except with
// [HandleConcurrent], whose goroutine receives messages as usual. After a read deadline,
// Discard returns an error that is [os.ErrDeadlineExceeded], and the next receiving call
// gets the next whole message.
func (c *Conn) Discard() error {
	if c.inbox != nil {
		return c.inbox.discard()
	}
	if err := c.in.acquire(); err != nil {
		return err
	}
	defer c.in.release()
	return c.received(c.in.dropMessages())
}

// dropMessages drops messages until an error.
func (r *reader) dropMessages() error {
	if err := r.begin(byDiscard); err != nil {
		return err
	}
	for {
		if _, err := r.skip(); err == errReadDeadline {
			return r.interrupt(byDiscard, nil, nil)
		} else if err != nil {
			return err
		}
	}
}

// Messages yields the messages of the peer as ReceiveMessage returns them, until the
// first error. The error comes last, with no message. The caller may keep and change
// each Data. After a read deadline, a new range continues where the last one ended.
func (c *Conn) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			op, data, err := c.ReceiveMessage()
			if !yield(Message{op, data}, err) || err != nil {
				return
			}
		}
	}
}

// ReceiveJSON waits for the next message, text or binary, and decodes it into v, a pointer,
// with encoding/json.
//
// If the message is not JSON for v, the error is [ErrInvalidJSON], and also the error of
// encoding/json, such as a [*json.SyntaxError]. The connection stays usable. A
// [HandlerFunc] that returns the error closes it with 1007. If v is not a pointer, or nil,
// ReceiveJSON receives nothing and returns a [*json.InvalidUnmarshalError].
func (c *Conn) ReceiveJSON(v any) error {
	if p := reflect.ValueOf(v); p.Kind() != reflect.Pointer || p.IsNil() {
		if err := c.life.err(); err != nil {
			return err
		}
		return fmt.Errorf("websocket: ReceiveJSON needs a pointer: %w", &json.InvalidUnmarshalError{Type: reflect.TypeOf(v)})
	}
	_, data, err := c.ReceiveMessage()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return invalidJSON(len(data), v, err)
	}
	return nil
}

// SendJSON sends v as encoding/json encodes it, in one text message. If v cannot be encoded,
// SendJSON sends nothing and returns an error that wraps that of encoding/json. Other errors are
// those of [Conn.SendMessage].
func (c *Conn) SendJSON(v any) error {
	if err := c.out.check(); err != nil {
		return c.sendError(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("websocket: %T as JSON: %w", v, err)
	}
	return c.SendMessage(Text, data)
}

// SendMessage sends one frame: a Text or Binary message, a Ping or Pong, or the Close
// that begins the close handshake. It returns when the frame is in the kernel, or
// waits to be written together with others (see [WriteCoalescing]). It reads data
// only until it returns, and never changes it. With [Compression], a message may be sent
// compressed.
//
// SendMessage refuses a message that would oblige the peer to fail the connection, and
// sends nothing then: it returns [ErrInvalidUTF8] for Text that is not valid UTF-8,
// [ErrInvalidOpcode] for Continuation and reserved opcodes, and [ErrProtocol] for a
// control frame of more than 125 bytes or a close payload that is not a valid code and
// reason.
//
// Messages of several goroutines never mix. A message that is sent while a
// MessageWriter is open waits until the writer is closed. Control frames do not wait.
//
// The payload of a Close is empty, or a code of two bytes (big-endian) and a reason in
// UTF-8. After a Close nothing more can be sent. The receiving methods continue until the peer
// has answered, within CloseTimeout. [Conn.Close] sends the frame and waits for the answer.
func (c *Conn) SendMessage(op Opcode, data []byte) (err error) {
	if err := c.out.check(); err != nil {
		return c.sendError(err) // without out.lock, for goroutines that call again and again
	}
	if err := checkMessage(op, data); err != nil {
		return err
	}
	if op.IsControl() {
		return c.sendControl(op, data)
	}
	if c.compression() != nil {
		return c.sendCompressed(op, data)
	}
	if err := c.out.acquireForMessage(); err != nil {
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	return c.out.send(&Header{Fin: true, Opcode: op}, data)
}

// sendControl sends a control frame, even between the fragments of a message.
func (c *Conn) sendControl(op Opcode, data []byte) (err error) {
	if err := c.out.acquire(); err != nil {
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	if err := c.out.check(); err != nil {
		return err
	}
	if op == Close {
		return c.out.close(bySender, data)
	}
	return c.out.send(&Header{Fin: true, Opcode: op}, data)
}

// checkMessage returns why a message must not be sent.
func checkMessage(op Opcode, data []byte) error {
	switch {
	case op == Continuation || op.IsReserved():
		return fmt.Errorf("%w: %v cannot be sent as a message; want Text, Binary, Ping, Pong or Close (RFC 6455 section 5.2)", ErrInvalidOpcode, op)
	case op.IsControl() && len(data) > maxControlPayload:
		return protocolError("5.5", "%v frame of %d bytes exceeds %d", op, len(data), maxControlPayload)
	case op == Text && !ValidUTF8(data):
		return fmt.Errorf("%w: in a text message to be sent; send it as Binary (RFC 6455 section 8.1)", ErrInvalidUTF8)
	case op == Close:
		return checkClosePayload(data)
	}
	return nil
}

// checkClosePayload returns ErrProtocol for a payload that the peer would have to fail
// the connection for.
func checkClosePayload(data []byte) error {
	_, err := ParseClose(data)
	if err != nil && !errors.Is(err, ErrProtocol) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// sendCompressed is SendMessage for a connection with compression.
func (c *Conn) sendCompressed(op Opcode, data []byte) (err error) {
	if own := c.compression(); own.wants(op, len(data)) && own.alone(len(data)) {
		return c.sendAlone(op, data)
	}
	if err := c.out.acquireForMessage(); err != nil {
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	return c.out.sendData(&Header{Fin: true, Opcode: op}, data)
}

// sendAlone compresses a message without the lock, because it does not refer to earlier messages.
func (c *Conn) sendAlone(op Opcode, data []byte) (err error) {
	h := &Header{Fin: true, Opcode: op}
	own := c.compression()
	bits := own.agreed.windowBits
	e := newEncoder(bits)
	payload, ok := e.Append(room(len(data)), data)
	defer releaseFrames(payload)
	if h.RSV1 = ok; ok {
		data = payload
	}
	if err := c.out.acquireForMessage(); err != nil {
		releaseEncoder(e, bits)
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	err = c.out.send(h, data)
	if ok && err == nil && !own.agreed.noTakeover {
		c.out.lend(e) // its history is the message
		return nil
	}
	releaseEncoder(e, bits)
	c.out.noteAlone(h)
	return err
}
