package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/f44ffc3b/websocket/internal/utf8"
)

// MessageReader waits for the next message and returns its type and a reader of its
// payload, which ends with io.EOF. It does not wait for the whole message and does not
// buffer it, except with [HandleConcurrent], which has received the whole message. Text
// is checked as far as it was read, and fails the connection at its first invalid byte.
// MaxMessageSize applies.
//
// The next call of a receiving method drops the rest of the message, and the reader is of no use
// from then on. Only ReadFrame returns an error instead. The reader may be used by any goroutine, one
// Read at a time.
func (c *Conn) MessageReader() (Opcode, io.Reader, error) {
	if c.inbox != nil {
		m, err := c.inbox.next()
		if err != nil {
			return 0, nil, err
		}
		return m.Opcode, bytes.NewReader(m.Data), nil
	}
	if err := c.in.acquire(); err != nil {
		return 0, nil, err
	}
	defer c.in.release()
	op, m, err := c.in.beginStream(c)
	if err != nil {
		return 0, nil, c.received(err)
	}
	return op, m, nil
}

// beginStream waits for the next message and returns a reader of it.
func (r *reader) beginStream(c *Conn) (Opcode, *messageReader, error) {
	if err := r.begin(byMessageReader); err != nil {
		return 0, nil, err
	}
	end, err := r.next(modeMessages)
	if err != nil {
		return 0, nil, err
	}
	// It is made after the wait, because a deadline may interrupt that again and again.
	m := &messageReader{c: c, unfinished: unfinished{by: byMessageReader}, done: end == endOfMessage}
	if !m.done {
		r.begun = &m.unfinished
	}
	return r.incoming.op, m, nil
}

// A messageReader reads the message in progress, as long as r.begun is its unfinished.
// The lock of the reader guards it.
type messageReader struct {
	c *Conn
	unfinished
	done bool // the end of the message was read
}

var errMessageDropped = errors.New("websocket: read of a message that was dropped when the next one was asked for")

func (m *messageReader) Read(p []byte) (int, error) {
	c := m.c
	if m.done { // also after the end of the connection, because the message is complete
		return 0, io.EOF
	}
	if err := c.in.acquire(); err != nil {
		return 0, err
	}
	defer c.in.release()
	if err := c.life.receiveErr(); err != nil {
		return 0, err
	}
	n, err := c.in.readStream(m, p)
	if err != nil && err != io.EOF && err != errMessageDropped {
		err = c.received(err)
	}
	return n, err
}

// readStream reads the next bytes of m's message, and returns io.EOF itself at its end.
func (r *reader) readStream(m *messageReader, p []byte) (int, error) {
	if r.begun != &m.unfinished {
		return 0, errMessageDropped
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, end, err := r.payload(p, modeMessages)
		if end == endOfMessage {
			m.done, r.begun = true, nil
		}
		switch {
		case n > 0 || err != nil:
			return n, err
		case m.done:
			return 0, io.EOF
		}
	}
}

// MessageWriter begins a message and returns its writer. The bytes are sent in frames: small writes
// are gathered up to 4 KiB, and larger writes are not copied. With [Compression], up to 64 KiB are
// gathered: a message that ends within them is sent compressed in one frame, and a longer one is
// not compressed. Close ends the message. Until then other messages wait, even those that the same
// goroutine sends. Ping, pong and close frames are sent between the fragments.
//
// A Write of Text that is not valid UTF-8 returns [ErrInvalidUTF8] and sends nothing of
// it. If Close fails (the text ends inside a character, or the write deadline has
// passed) and no frame has been sent yet, the message is discarded. If part of it was
// already sent, the connection is closed with 1011. Close waits for a frame that
// another goroutine is writing, whatever the write deadline. The writer may be used by
// any goroutine.
func (c *Conn) MessageWriter(op Opcode) (io.WriteCloser, error) {
	if err := c.out.check(); err != nil {
		return nil, c.sendError(err)
	}
	if op != Text && op != Binary {
		return nil, fmt.Errorf("%w: %v cannot be written as a stream; want Text or Binary (RFC 6455 section 5.4)", ErrInvalidOpcode, op)
	}
	ended, err := c.out.openStream()
	if err != nil {
		return nil, c.sendError(err)
	}
	return &messageWriter{c: c, op: op, isText: op == Text, compress: c.compression().on(), ended: ended}, nil
}

// A messageWriter is the message that is open on c for sending. The lock of the writer
// guards it.
type messageWriter struct {
	c      *Conn
	op     Opcode // of the next frame: Continuation after the first
	isText bool
	text   utf8.Checker
	buf    []byte        // gathered for the next frame
	ended  chan struct{} // closed at the end of the message
	closed bool

	compress bool // the message is compressed if it ends with what buf gathers
}

var errMessageClosed = fmt.Errorf("websocket: write to a message that is closed: %w", io.ErrClosedPipe)

func (w *messageWriter) Write(p []byte) (n int, err error) {
	if err := w.c.out.acquire(); err != nil {
		return 0, w.c.sendError(err)
	}
	defer w.c.finishSend(&err)
	if err := w.checkOpen(); err != nil {
		return 0, err
	}
	before := w.text
	if w.isText && !w.text.Check(p) {
		w.text = before
		return 0, fmt.Errorf("%w: in a text message to be sent (RFC 6455 section 8.1)", ErrInvalidUTF8)
	}
	n, err = w.write(p)
	if err != nil && w.isText {
		// The caller may continue from n, so only p[:n] counts as checked.
		w.text = before
		w.text.Check(p[:n])
	}
	return n, err
}

func (w *messageWriter) checkOpen() error {
	if err := w.c.out.check(); err != nil {
		return err
	}
	if w.closed {
		return errMessageClosed
	}
	return nil
}

// gathers returns how much buf gathers.
func (w *messageWriter) gathers() int {
	if w.compress = w.compress && w.c.compression().on(); w.compress {
		return gatherSize
	}
	return fragmentSize
}

// write gathers small pieces and sends large ones as they are.
func (w *messageWriter) write(p []byte) (n int, err error) {
	for len(p) > 0 {
		limit := w.gathers()
		if len(w.buf) == 0 && len(p) >= limit {
			if err := w.sendFragment(p, false); err != nil {
				return n, err
			}
			return n + len(p), nil
		}
		if w.buf == nil {
			w.buf = make([]byte, 0, fragmentSize)
		}
		if len(w.buf) >= limit {
			if err := w.sendFragment(w.buf, false); err != nil {
				return n, err
			}
			if w.buf = w.buf[:0]; cap(w.buf) > fragmentSize {
				w.buf = nil
			}
			continue
		}
		k := min(len(p), limit-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		n += k
	}
	return n, nil
}

func (w *messageWriter) sendFragment(p []byte, fin bool) error {
	if err := w.c.out.send(&Header{Fin: fin, Opcode: w.op}, p); err != nil {
		return err
	}
	w.op, w.compress = Continuation, false
	return nil
}

// sendLast sends the last frame. If it is the only one, it may be compressed.
func (w *messageWriter) sendLast() error {
	if w.gathers(); w.compress {
		return w.c.out.sendData(&Header{Fin: true, Opcode: w.op}, w.buf)
	}
	return w.sendFragment(w.buf, true)
}

// Close ends the message. It returns after its last frame has been written.
func (w *messageWriter) Close() error {
	broken, err := w.finish()
	if broken {
		w.c.failAsync(AppendClose(nil, StatusInternalError, ""))
		if err == errWriteDeadline {
			return messageCutOff(w.c.life.err())
		}
		return err
	}
	return w.c.sendError(err)
}

// finish sends the last frame and lets the next message begin. If a part of the message
// was sent and the rest cannot be, the connection ends before that: broken is true if the
// caller has to send the close frame.
func (w *messageWriter) finish() (broken bool, err error) {
	out := &w.c.out
	out.lock.Lock() // not acquire, because the message ends here whatever the deadline
	defer out.release(bySender)
	if err := w.checkOpen(); err != nil {
		return false, err
	}
	begun := w.op == Continuation
	if w.isText && !w.text.Complete() {
		err = fmt.Errorf("%w: text message to be sent ends inside a character (RFC 6455 section 8.1)", ErrInvalidUTF8)
	} else {
		err = w.sendLast()
	}
	w.closed = true
	w.buf = nil
	if err != nil && begun && w.c.life.current() != phaseLost {
		broken = w.c.beginFailing(&closedError{CloseError: CloseError{Code: StatusInternalError}})
	}
	if broken {
		out.dropQueue() // a message cannot begin inside the broken one
	}
	out.closeStream(w.ended)
	return broken, err
}
