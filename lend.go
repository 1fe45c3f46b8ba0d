package websocket

import (
	"errors"

	"github.com/f44ffc3b/websocket/internal/mask"
	"github.com/f44ffc3b/websocket/internal/utf8"
)

// A MessageFunc is called with a message. data is valid only until it returns: the memory
// is then used for other messages. It may change data, and pass it to sending methods. See
// [HandleMessages] and [Conn.ReceiveFunc].
type MessageFunc func(op Opcode, data []byte) error

// ReceiveFunc waits for the next message and calls fn with it. It lends the message to fn,
// usually without a copy: data is valid only until fn returns. It returns the error of fn
// unchanged. If no message can be received, it returns the error of [Conn.ReceiveMessage] and does
// not call fn. If fn is nil, it returns an error and receives nothing.
//
// It is the fastest way to receive, above all for messages of 16 KiB and more. All connections
// share the memory for the messages, so it is often still in the cache of the processor.
// [Conn.ReceiveMessage] is for messages that the handler keeps, and [Conn.AppendMessage] for those
// that it collects in a buffer of its own.
//
// fn may send and close. It should not receive, because a receiving method would return a later
// message while fn still runs with this one. While fn runs, pings and the peer's close frame are
// answered as they are between two calls of ReceiveMessage. If fn panics, the message is lost
// and the connection stays usable. Read deadlines apply to the wait for the message only.
func (c *Conn) ReceiveFunc(fn MessageFunc) error {
	if fn == nil {
		return errNilFunc
	}
	op, data, buf, err := c.receiveLent()
	if err != nil {
		return err
	}
	err = fn(op, data)
	releaseInput(buf)
	return err
}

// receiveLent receives the next message for ReceiveFunc, which passes buf to releaseInput when fn
// has returned. It is a function of its own, because fn runs on top of the stack frame of
// ReceiveFunc (TestConn_stack_stays_small).
func (c *Conn) receiveLent() (op Opcode, data, buf []byte, err error) {
	if c.inbox != nil {
		m, err := c.inbox.next()
		return m.Opcode, m.Data, nil, err
	}
	if err := c.in.acquire(); err != nil {
		return 0, nil, nil, err
	}
	defer c.in.release() // before fn runs, so that fn may call Close, which needs the lock
	var m lentMessage
	if err = c.in.lend(&m); err != nil {
		err = c.received(err)
	}
	return m.op, m.data, m.buf, err
}

var errNilFunc = errors.New("websocket: ReceiveFunc(nil): want a function")

// A lentMessage is a message that is lent to a MessageFunc. Its memory does not belong to the
// reader any more, so the reader can be used meanwhile.
type lentMessage struct {
	op   Opcode
	data []byte
	buf  []byte // for releaseInput, when the function has returned; data is a part of it
}

// lend receives the next message for a MessageFunc. If a deadline interrupts it, the next call
// continues. The lock is held.
func (r *reader) lend(m *lentMessage) error {
	if !r.betweenMessages() {
		if err := r.begin(byReceiveFunc); err != nil {
			return err
		}
	}
	for !r.incoming.midMessage() {
		if r.buf.empty() {
			if err := r.fill(); err != nil {
				return err
			}
		}
		r.adoptLimits()
		if r.lendBuffered(m) {
			return nil
		}
		if !r.collects() {
			break
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
	return r.lendJoined(m)
}

// lendBuffered is lend for a message that is one frame, complete in the buffer and valid. The
// function gets the read buffer. If the buffer also holds bytes after the message, the smaller of
// the two parts is copied to another buffer. A message that is far smaller than the buffer is copied
// too, because the function may take long.
func (r *reader) lendBuffered(m *lentMessage) bool {
	b := r.buf.bytes()
	op, start, end := r.incoming.whole(b)
	if end == 0 {
		return false
	}
	key, rest := [4]byte(b[start-4:]), len(b)-end
	copied := rest > 0 && rest >= end-start || len(r.buf.buf) > max(readBufferSize, 8*end)
	if copied {
		m.buf = takeInput(end - start)
		m.data = m.buf[: end-start : end-start]
		mask.Copy(m.data, b[start:end], key)
	} else {
		m.data = b[start:end:end]
		mask.XOR(m.data, key, 0)
	}
	if op == Text && !ValidUTF8(m.data) {
		if !copied {
			mask.XOR(m.data, key, 0) // lendJoined expects masked bytes
		}
		releaseInput(m.buf)
		m.buf, m.data = nil, nil
		return false
	}
	r.buf.discard(end)
	if copied {
		r.buf.shrink()
	} else {
		m.buf = r.buf.give()
	}
	m.op = op
	r.afterMessage()
	return true
}

// collects reports whether lend reads on until the next frame is complete in the buffer. It does
// so if the buffer can hold the frame, and would not be much larger than what has arrived.
func (r *reader) collects() bool {
	b := r.buf.bytes()
	n, err := r.examine(modeMessages)
	if err != nil {
		return false // next returns it again
	}
	h := &r.incoming.header
	if n == 0 {
		return true // the header is not complete
	}
	size := int64(n) + h.Length
	if !h.Fin || h.Opcode.IsControl() || size > largeReadBufferSize || size <= int64(len(b)) {
		return false
	}
	if r.buf.full() || !r.buf.short && r.socket.waitsWithoutBuffer() {
		r.buf.large = r.buf.large || size > readBufferSize
	}
	// Invalid text fails the connection at its first bad byte, so it is checked before a wait.
	if !r.buf.short { // the rest may be in the socket
		return h.Opcode != Text || h.RSV1 || mayBeText(b[n:], h.MaskKey)
	}
	return h.Opcode != Text && (size <= readBufferSize || len(b) >= largeReadBufferSize/4)
}

// mayBeText reports whether the beginning of a text, which stays masked, has no invalid byte. A copy
// takes less time than to unmask the text and to mask it again.
func mayBeText(masked []byte, key [4]byte) bool {
	scratch := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(scratch)
	var text utf8.Checker
	for len(masked) > 0 {
		n := min(len(masked), len(scratch)) // a multiple of the length of the key, except the last
		mask.Copy(scratch[:n], masked[:n], key)
		if !text.Check(scratch[:n]) {
			return false
		}
		masked = masked[n:]
	}
	return true
}

// lendJoined is lend for all other messages: it joins the payload in a buffer of its own. If a
// deadline interrupts it, the bytes that have arrived stay in r.begun.
func (r *reader) lendJoined(m *lentMessage) error {
	var msg []byte
	if r.begun != nil {
		msg = r.begun.data
	}
	end, err := r.next(modeMessages)
	if err == nil && r.inflates(modeMessages) {
		msg, err = r.inflateLent(msg)
		end = endOfMessage
	}
	for end != endOfMessage && err == nil {
		for end == notEnd && err == nil {
			msg = r.growLent(msg)
			var n int
			n, end, err = r.payload(msg[len(msg):cap(msg)], modeMessages)
			msg = msg[:len(msg)+n]
		}
		if end == endOfFrame && err == nil {
			end, err = r.next(modeMessages)
		}
	}
	if err == errReadDeadline {
		return r.interrupt(byReceiveFunc, msg, nil)
	}
	r.begun = nil
	if err != nil {
		releaseInput(msg[:cap(msg)])
		return err
	}
	if msg == nil {
		msg = []byte{}
	}
	m.op, m.data, m.buf = r.incoming.op, msg[:len(msg):len(msg)], msg[:cap(msg)]
	return nil
}

// inflateLent is appendInflated for a lent message. The result may have another array than msg;
// the array of msg is then back in its pool.
func (r *reader) inflateLent(msg []byte) ([]byte, error) {
	if msg == nil {
		arrived := min(int64(len(r.buf.bytes())), r.incoming.left)
		msg = takeInput(int(min(4*arrived, r.incoming.limits.maxMessageSize)))[:0] // few messages shrink to less than a quarter
	}
	inflated, err := r.appendInflated(msg)
	if cap(inflated) != cap(msg) {
		releaseInput(msg[:cap(msg)])
	}
	return inflated, err
}

// growLent makes room for the next bytes of the open frame. The room is at most twice the bytes
// that have arrived, including those in the kernel, and not more than the frame declares.
func (r *reader) growLent(msg []byte) []byte {
	if len(msg) < cap(msg) {
		return msg
	}
	declared := int64(len(msg)) + r.incoming.left
	arrived := int64(len(msg)) + min(int64(len(r.buf.bytes())), r.incoming.left)
	if 2*arrived < declared {
		if unread, _, ok := r.socket.behind(); ok {
			arrived += int64(unread)
		}
	}
	if arrived <= minPiece && arrived < declared { // wait with little memory, because the peer may send no more
		return append(make([]byte, 0, 2*minPiece), msg...)
	}
	size := min(declared, max(2*arrived, int64(len(msg))+1))
	larger := append(takeInput(int(size))[:0], msg...)
	releaseInput(msg[:cap(msg)])
	return larger
}
