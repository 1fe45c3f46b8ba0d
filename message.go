package websocket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/f44ffc3b/websocket/internal/utf8"
)

// A Message is what [Conn.Messages] yields.
type Message struct {
	Opcode Opcode // Text or Binary
	Data   []byte // the caller's
}

// A method of Conn that reads messages. A message whose reading was cut short
// by a deadline is finished by the method that began it.
type method byte

const (
	nobody method = iota
	byReceiveMessage
	byMessageReader
	byReceiveFragments
	byReadFrame
)

func (m method) String() string {
	return [...]string{"nothing", "ReceiveMessage", "MessageReader", "ReceiveFragments", "ReadFrame"}[m]
}

// claim makes m the method that reads the next message. One that was left unread
// in the middle of a MessageReader is dropped first.
func (c *Conn) claim(m method) error {
	in := &c.in
	if err := c.err(); err != nil {
		return err
	}
	if in.owner == byMessageReader && m != byReadFrame {
		return c.skipMessage()
	}
	if in.owner == byMessageReader {
		return fmt.Errorf("websocket: %v in the middle of a message that MessageReader began; read that to its end first", m)
	}
	if in.owner != nobody && in.owner != m {
		return fmt.Errorf("websocket: %v in the middle of a message that %v began and a deadline cut short; call %v again first", m, in.owner, in.owner)
	}
	return nil
}

// skipMessage reads what is left of the message in progress and drops it.
func (c *Conn) skipMessage() error {
	in := &c.in
	in.stream = nil
	scratch := make([]byte, 512)
	for {
		if err := c.advance(); err != nil {
			return err
		}
		for in.left > 0 {
			if _, err := c.readChunk(scratch); err != nil {
				return err
			}
		}
		if last, err := c.endFrame(); last || err != nil {
			return err
		}
	}
}

// ReceiveMessage waits for the next message from the peer and returns its type,
// Text or Binary, and its payload. The slice is the caller's to keep and change.
// Pings and closes that come before it or between its fragments are answered on
// the way; text is valid UTF-8.
//
// The error of a connection that has ended is a [*CloseError] when the peer
// closed it, and [io.EOF] too if that was a normal end; the other ends are listed
// at [Conn]. With plain Handle nothing is read from the connection unless a
// receiving method is waiting, but for what the keepalive takes in. Of several
// goroutines that receive, each gets whole messages.
func (c *Conn) ReceiveMessage() (Opcode, []byte, error) {
	if c.inbox != nil {
		return notNil(c.inbox.appendNext(c, nil))
	}
	if err := c.lockReceiver(); err != nil {
		return 0, nil, err
	}
	defer c.in.lock.Unlock()
	return notNil(c.receive(nil))
}

// notNil tells an empty message from none.
func notNil(op Opcode, data []byte, err error) (Opcode, []byte, error) {
	if data == nil && err == nil {
		data = []byte{}
	}
	return op, data, err
}

// AppendMessage is ReceiveMessage into the room behind dst: it returns dst with
// the payload of the next message appended, and allocates only if the capacity
// does not suffice. On an error it returns dst as it was.
//
//	op, data, err := c.AppendMessage(buf[:0])
func (c *Conn) AppendMessage(dst []byte) (Opcode, []byte, error) {
	if c.inbox != nil {
		return c.inbox.appendNext(c, dst)
	}
	if err := c.lockReceiver(); err != nil {
		return 0, dst, err
	}
	defer c.in.lock.Unlock()
	return c.receive(dst)
}

// receive is AppendMessage for who holds the reading side.
func (c *Conn) receive(dst []byte) (Opcode, []byte, error) {
	in := &c.in
	if err := c.claim(byReceiveMessage); err != nil {
		return 0, dst, err
	}
	if in.op == Continuation { // between messages
		if in.r == in.w {
			if err := c.fill(); err != nil {
				return 0, dst, err
			}
		}
		if op, msg, ok := c.takeWhole(dst); ok {
			return op, msg, nil
		}
		// receiveFrames does this, too. But most closes come here, and answering one
		// is as deep as the stack gets: in net/http's goroutine it just does not grow
		// over 4 KiB, which a tenth of what a handshake costs would go into.
		if err := c.advance(); err != nil {
			return 0, dst, err
		}
	}
	return c.receiveFrames(dst)
}

// takeWhole takes a message that is one frame, nothing out of the ordinary and all
// there, as most are. Everything else, and all that is wrong, is left as it is for
// receiveFrames, which takes half as long again for a small message
// (BenchmarkTakeWhole has both).
func (c *Conn) takeWhole(dst []byte) (op Opcode, msg []byte, ok bool) {
	in, o := &c.in, c.opts
	b := in.buffered()
	start, end := wholeFrame(b)
	size := int64(end - start)
	if end == 0 || size > o.maxFrameSize || size > o.maxMessageSize {
		return 0, dst, false
	}
	switch b[0] { // FIN set, no reserved bits
	case finBit | byte(Text):
		op = Text
	case finBit | byte(Binary):
		op = Binary
	default:
		return 0, dst, false
	}
	msg = append(dst, b[start:end]...)
	Mask(msg[len(dst):], [4]byte(b[start-4:]), 0)
	if op == Text && !ValidUTF8(msg[len(dst):]) {
		return 0, dst, false
	}
	in.r += end
	in.messageTaken()
	return op, msg, true
}

// receiveFrames is receive for a message that comes in any way.
func (c *Conn) receiveFrames(dst []byte) (Opcode, []byte, error) {
	in := &c.in
	start := len(dst)
	msg := append(dst, in.partial...)
	for {
		if err := c.advance(); err != nil {
			in.keep(msg[start:])
			return 0, dst, err
		}
		in.owner = byReceiveMessage
		op := in.op
		var err error
		if msg, err = c.readPayload(msg, start, c.mayFollow()); err != nil {
			in.keep(msg[start:])
			return 0, dst, err
		}
		last, err := c.endFrame()
		if err != nil {
			return 0, dst, err
		}
		if last {
			return op, msg, nil
		}
	}
}

// mayFollow is how much of the message may come behind the open frame. Room for
// it is made along with the frame's: growing by a fragment at a time would copy
// the message once for each.
func (c *Conn) mayFollow() int64 {
	if c.in.header.Fin {
		return 0
	}
	return c.opts.maxMessageSize - c.in.size
}

// keep saves what there is of a message for when the reading goes on. It is a
// copy: the room behind dst is the caller's.
func (in *receiver) keep(msg []byte) {
	in.partial = append([]byte(nil), msg...)
}

// Messages yields the messages of the peer as ReceiveMessage returns them, until
// the first error, which comes last and with no message. Each Data is the
// caller's.
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

// MessageReader waits for the next message and returns its type and a reader of
// its payload, which ends with io.EOF. The message is neither buffered nor waited
// for: a text is checked as far as it was read, and fails the connection at its
// first invalid byte. MaxMessageSize holds for it.
//
// The next call of a receiving method drops what was not read of the message,
// and the reader is of no use from then on. The reader may be used by any
// goroutine, one Read at a time.
func (c *Conn) MessageReader() (Opcode, io.Reader, error) {
	if c.inbox != nil {
		m, err := c.inbox.next(c)
		if err != nil {
			return 0, nil, err
		}
		return m.Opcode, bytes.NewReader(m.Data), nil
	}
	if err := c.lockReceiver(); err != nil {
		return 0, nil, err
	}
	defer c.in.lock.Unlock()
	if err := c.claim(byMessageReader); err != nil {
		return 0, nil, err
	}
	if err := c.advance(); err != nil {
		return 0, nil, err
	}
	c.in.owner = byMessageReader
	c.in.stream = &messageReader{c: c}
	return c.in.op, c.in.stream, nil
}

// A messageReader reads the message that is in progress on c for as long as it
// is c.in.stream. The lock of c.in guards it.
type messageReader struct {
	c    *Conn
	done bool
}

var errMessageDropped = errors.New("websocket: read of a message that was dropped when the next one was asked for")

func (m *messageReader) Read(p []byte) (int, error) {
	c := m.c
	if err := c.lockReceiver(); err != nil {
		return 0, err
	}
	defer c.in.lock.Unlock()
	if m.done {
		return 0, io.EOF
	}
	if err := c.err(); err != nil {
		return 0, err
	}
	if c.in.stream != m {
		return 0, errMessageDropped
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.nextPayload(); err != nil {
		m.done = err == io.EOF
		return 0, err
	}
	return c.readChunk(p)
}

// nextPayload goes on to where the message has payload left, through empty
// frames and from one frame to the next. It returns io.EOF at the end.
func (c *Conn) nextPayload() error {
	in := &c.in
	for !in.open || in.left == 0 {
		if !in.open {
			if err := c.advance(); err != nil {
				return err
			}
			continue
		}
		last, err := c.endFrame()
		if err != nil {
			return err
		}
		if last {
			return io.EOF
		}
	}
	return nil
}

// ReceiveJSON waits for the next message, text or binary, and decodes it into v
// with encoding/json. A message that is not JSON for v is an error, and the
// connection stays usable.
func (c *Conn) ReceiveJSON(v any) error {
	_, data, err := c.ReceiveMessage()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("websocket: message of %d bytes is not JSON for %T: %w", len(data), v, err)
	}
	return nil
}

// SendJSON sends v as encoding/json encodes it, in one text message.
func (c *Conn) SendJSON(v any) error {
	if err := c.sendErr(); err != nil {
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("websocket: %T as JSON: %w", v, err)
	}
	return c.SendMessage(Text, data)
}

// SendMessage sends one frame: a Text or Binary message, a Ping or Pong, or the
// Close that begins the close handshake. It returns when the frame is in the
// kernel, or on its way there with others, see [WriteCoalescing]; data is read until
// then, never changed and never kept.
//
// What the peer would have to fail the connection for is not sent: Text that is
// not UTF-8 is [ErrInvalidUTF8], Continuation and reserved opcodes are
// [ErrInvalidOpcode], a control frame of more than 125 bytes or a close payload
// that is not a valid code and reason is [ErrProtocol].
//
// Messages of several goroutines never mix: one that is sent while a
// MessageWriter is open waits for its Close. Control frames go in between.
//
// After a Close nothing more can be sent, and the receiving methods go on until
// the peer has answered it, within CloseTimeout. [Conn.Close] does all of that.
func (c *Conn) SendMessage(op Opcode, data []byte) error {
	if err := c.sendErr(); err != nil {
		return err
	}
	if err := checkMessage(op, data); err != nil {
		return err
	}
	if op.IsControl() {
		return c.sendControl(op, data)
	}
	if err := c.lockForMessage(); err != nil {
		return err
	}
	defer c.unlockSender()
	return c.write(&Header{Fin: true, Opcode: op}, data)
}

// checkMessage refuses what must not be sent.
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

// checkClosePayload makes a broken rule of what would be the peer's otherwise.
func checkClosePayload(data []byte) error {
	_, err := parseClosePayload(data)
	if err != nil && !errors.Is(err, ErrProtocol) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// sendControl sends a control frame, also between the fragments of a message.
func (c *Conn) sendControl(op Opcode, data []byte) error {
	if err := c.lockSender(); err != nil {
		return err
	}
	defer c.unlockSender()
	if err := c.sendErr(); err != nil {
		return err
	}
	if op == Close {
		return c.writeClose(data)
	}
	return c.write(&Header{Fin: true, Opcode: op}, data)
}

// lockForMessage takes the sending side between messages.
func (c *Conn) lockForMessage() error {
	for {
		if err := c.lockSender(); err != nil {
			return err
		}
		if err := c.sendErr(); err != nil {
			c.unlockSender()
			return err
		}
		busy := c.out.streaming
		if busy == nil {
			return nil
		}
		c.unlockSender()
		if err := c.waitForStream(busy); err != nil {
			return err
		}
	}
}

// waitForStream waits until the MessageWriter that is open has been closed.
func (c *Conn) waitForStream(closed <-chan struct{}) error {
	select {
	case <-closed:
		return nil
	case <-c.Context().Done():
		return c.endOfSending()
	case <-c.deadlines.streamWait():
		return errWriteDeadline
	}
}

// MessageWriter begins a message and returns its writer. What is written leaves
// in frames: small writes are gathered up to 4 KiB, larger ones are not copied.
// Close ends the message; until then other messages wait, also those that the
// same goroutine sends, and ping, pong and close frames go between the fragments.
//
// A Write of Text that breaks UTF-8 returns [ErrInvalidUTF8] and sends nothing of
// it. A message whose Close fails, because it ends inside a character or a deadline
// has passed, is not sent at all if nothing of it has left; if something has,
// nothing can mend it and the connection ends with 1011. Close waits for a frame that
// is on its way, whatever the write deadline. The writer may be used by any goroutine.
func (c *Conn) MessageWriter(op Opcode) (io.WriteCloser, error) {
	if err := c.sendErr(); err != nil {
		return nil, err
	}
	if op != Text && op != Binary {
		return nil, fmt.Errorf("%w: %v cannot be written as a stream; want Text or Binary (RFC 6455 section 5.4)", ErrInvalidOpcode, op)
	}
	if err := c.lockForMessage(); err != nil {
		return nil, err
	}
	defer c.unlockSender()
	w := &messageWriter{c: c, op: op, isText: op == Text, ended: make(chan struct{})}
	c.out.streaming = w.ended
	return w, nil
}

// A messageWriter is the message that is open on c for sending. The lock of
// c.out guards it.
type messageWriter struct {
	c      *Conn
	op     Opcode // of the next frame: Continuation once one has left
	isText bool
	text   utf8.Checker
	buf    []byte        // what is gathered for the next frame
	ended  chan struct{} // closed with the message
	closed bool
}

var errMessageClosed = fmt.Errorf("websocket: write to a message that is closed: %w", io.ErrClosedPipe)

func (w *messageWriter) Write(p []byte) (int, error) {
	c := w.c
	if err := c.lockSender(); err != nil {
		return 0, err
	}
	defer c.unlockSender()
	if err := w.usable(); err != nil {
		return 0, err
	}
	before := w.text
	if w.isText && !w.text.Check(p) {
		w.text = before
		return 0, fmt.Errorf("%w: in a text message to be sent (RFC 6455 section 8.1)", ErrInvalidUTF8)
	}
	n, err := w.write(p)
	if err != nil && w.isText {
		// The caller may go on from n, so that is how far the check has come.
		w.text = before
		w.text.Check(p[:n])
	}
	return n, err
}

func (w *messageWriter) usable() error {
	if err := w.c.sendErr(); err != nil {
		return err
	}
	if w.closed {
		return errMessageClosed
	}
	return nil
}

// write gathers small pieces and sends large ones as they are.
func (w *messageWriter) write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(w.buf) == 0 && len(p) >= fragmentSize {
			if err := w.sendFragment(p, false); err != nil {
				return n, err
			}
			return n + len(p), nil
		}
		if w.buf == nil {
			w.buf = make([]byte, 0, fragmentSize)
		}
		if len(w.buf) == fragmentSize {
			if err := w.sendFragment(w.buf, false); err != nil {
				return n, err
			}
			w.buf = w.buf[:0]
			continue
		}
		k := min(len(p), fragmentSize-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		n += k
	}
	return n, nil
}

func (w *messageWriter) sendFragment(p []byte, fin bool) error {
	if err := w.c.write(&Header{Fin: fin, Opcode: w.op}, p); err != nil {
		return err
	}
	w.op = Continuation
	return nil
}

// Close ends the message. It returns after its last frame has been written.
func (w *messageWriter) Close() error {
	err, broken := w.finish()
	if broken {
		end := &closedError{CloseError: CloseError{Code: StatusInternalError}}
		w.c.abort(end, closeBytes(end.Code, ""))
	}
	return err
}

// finish sends the last frame and lets the next message begin. It reports a
// message that can be neither finished nor taken back.
func (w *messageWriter) finish() (err error, broken bool) {
	c := w.c
	c.out.lock.Lock() // not lockSender: the message ends here, whatever the deadline
	defer c.unlockSender()
	if err := w.usable(); err != nil {
		return err, false
	}
	begun := w.op == Continuation
	if w.isText && !w.text.Complete() {
		err = fmt.Errorf("%w: text message to be sent ends inside a character (RFC 6455 section 8.1)", ErrInvalidUTF8)
	} else {
		err = w.sendFragment(w.buf, true)
	}
	broken = err != nil && begun
	w.closed = true
	w.buf = nil
	if c.out.streaming == w.ended {
		c.out.streaming = nil
		close(w.ended)
	}
	return err, broken
}
