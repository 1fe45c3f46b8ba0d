package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Stream returns the connection as a [net.Conn] for protocols that need a stream of bytes, in
// messages of type op, Text or Binary. The stream does not show where a message ends.
//
// Read continues across messages, and does not wait for whole ones. MaxMessageSize and
// MaxFragments do not apply, except with [HandleConcurrent], which receives whole messages;
// MaxFrameSize applies to each frame. A message of the other type fails the connection with
// 1003. Read returns [io.EOF] itself when the peer has closed with 1000, 1001 or without a
// code. For other errors, see [Conn].
//
// Write sends each call as one message. If the write deadline cuts the frame off, Write returns
// len(p) with the error: the rest is sent before anything else, and the stream continues. If
// nothing of the frame was written, it returns 0. Over TLS and HTTP/2, and on Windows, a frame that
// is cut off ends the connection instead. A Text stream keeps the bytes of an incomplete character for the
// next Write, and refuses bytes that are not UTF-8 with [ErrInvalidUTF8].
//
// Close closes with 1000 and does not wait, as [Conn.StartClose]. From then on, the methods return
// an error that is [net.ErrClosed]. If a Text stream ends inside a character, Close closes with
// 1011 and returns ErrInvalidUTF8. Close also ends a Read and a Write that wait. But over TLS,
// HTTP/2 and a net.Conn of an unknown type, and on Windows, the close frame can only follow a whole frame. So
// Write returns when its frame is sent, or after CloseTimeout; [Conn.CloseNow] ends it at once.
//
// The deadlines are those of the Conn, and can be removed again: see [Conn.SetReadDeadline] and
// [Conn.SetWriteDeadline].
//
// All methods may be called from any goroutine. Streams of the same Conn share its messages.
// If another receiving method is called, it drops the rest of the message in progress.
func (c *Conn) Stream(op Opcode) net.Conn {
	return &byteStream{c: c, op: op, begun: unfinished{by: byStream}}
}

// A byteStream is the net.Conn of Conn.Stream.
type byteStream struct {
	c      *Conn
	op     Opcode
	closed atomic.Bool

	begun unfinished // reader.begun in the middle of a message; in.lock guards it

	writing atomic.Bool // a Write has out.lock
	partial atomic.Bool // char is not empty
	char    []byte      // the beginning of a character for the next Write; out.lock guards it
}

var errStreamClosed = fmt.Errorf("websocket: use of a closed stream: %w", net.ErrClosed)

// check returns why the stream cannot be used, or nil.
func (s *byteStream) check() error {
	switch {
	case s.op != Text && s.op != Binary:
		return fmt.Errorf("%w: Stream(%v); want Text or Binary", ErrInvalidOpcode, s.op)
	case s.closed.Load():
		return errStreamClosed
	}
	return nil
}

func (s *byteStream) Read(p []byte) (n int, err error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	if s.c.inbox != nil {
		n, err = s.c.inbox.readBytes(s.op, p)
	} else {
		n, err = s.read(p)
	}
	switch {
	case err == nil || errors.Is(err, net.ErrClosed):
		return n, err
	case s.closed.Load():
		return n, errStreamClosed
	case errors.Is(err, io.EOF):
		return n, io.EOF
	}
	return n, err
}

func (s *byteStream) read(p []byte) (int, error) {
	if err := s.c.in.acquire(); err != nil {
		return 0, err
	}
	defer s.c.in.release()
	n, err := s.c.in.readBytes(s, p)
	if err != nil {
		err = s.c.received(err)
	}
	return n, err
}

// readBytes reads the next bytes of s.
func (r *reader) readBytes(s *byteStream, p []byte) (int, error) {
	switch err := r.begin(byStream); {
	case err != nil:
		return 0, err
	case r.socket.readExpired(): // bytes in the buffer must not hide that
		return 0, errReadDeadline
	case len(p) == 0:
		return 0, nil
	}
	for {
		end, err := r.next(modeStream)
		if err != nil {
			return 0, err
		}
		if op := r.incoming.op; op != s.op {
			return 0, &streamTypeError{s.op, op}
		}
		n := 0
		if end != endOfMessage { // also after a first fragment without payload
			r.begun = &s.begun
		}
		if end == notEnd {
			n, end, err = r.payload(p, modeStream)
		}
		if end == endOfMessage {
			r.begun = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// readBytes reads the next bytes of a Stream.
func (a *readAhead) readBytes(op Opcode, p []byte) (int, error) {
	a.reading.Lock() // without a limit, because its holder stops waiting at the same deadline
	defer a.reading.Unlock()
	for {
		c, m := a.conn, a.rest.Load()
		switch {
		case a.isOver():
			return 0, c.life.err()
		case c.life.err() == nil && a.expired():
			return 0, errReadDeadline
		case len(p) == 0:
			return 0, nil
		case m == nil:
			next, err := a.take()
			if err != nil {
				return 0, err
			}
			m = &next
			a.rest.Store(m)
		}
		if m.Opcode != op {
			err := &streamTypeError{op, m.Opcode}
			if c.beginFailing(err) {
				c.failAsync(failPayload(err))
			}
			return 0, c.life.err()
		}
		n := copy(p, m.Data)
		if m.Data = m.Data[n:]; len(m.Data) == 0 {
			a.rest.CompareAndSwap(m, nil)
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (s *byteStream) Write(p []byte) (n int, err error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	out := &s.c.out
	if err := out.check(); err != nil {
		return 0, s.c.sendError(err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := out.acquireForMessage(); err != nil {
		return 0, s.c.sendError(err)
	}
	defer s.c.finishSend(&err)
	s.writing.Store(true)
	defer s.writing.Store(false)
	var sent bool
	if s.op == Text {
		sent, err = s.writeText(p)
	} else {
		sent, err = s.send(p)
	}
	if sent {
		n = len(p)
	}
	return n, err
}

// send sends data as one message. sent is true if all of it was sent, or if the rest is sent later
// because a deadline has passed. out.lock is held.
func (s *byteStream) send(data []byte) (sent bool, err error) {
	begun, err := s.c.out.sendWhole(&Header{Fin: true, Opcode: s.op}, data)
	return begun || err == nil, err
}

// writeText sends the bytes that the last Write has kept, and p up to its last complete character.
// out.lock is held.
func (s *byteStream) writeText(p []byte) (sent bool, err error) {
	data := p
	if len(s.char) > 0 {
		data = append(s.char[:len(s.char):len(s.char)], p...) // a copy, because it has to be one frame
	}
	end := len(data) - incompleteBytes(data)
	if !ValidUTF8(data[:end]) {
		return false, fmt.Errorf("%w: in text to be sent by a stream; use Stream(Binary) for bytes (RFC 6455 section 8.1)", ErrInvalidUTF8)
	}
	if end > 0 {
		if sent, err = s.send(data[:end]); !sent {
			return false, err
		}
	}
	s.char = append([]byte(nil), data[end:]...)
	s.partial.Store(len(s.char) > 0)
	return true, err
}

// incompleteBytes returns how many bytes at the end of b are the beginning of a character.
func incompleteBytes(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Close begins the close handshake. It returns no error if the connection has ended already, as
// for a TCP connection that the peer has closed.
func (s *byteStream) Close() error {
	if s.closed.Swap(true) {
		return errStreamClosed
	}
	code, err := StatusNormalClosure, error(nil)
	if s.partial.Load() {
		code = StatusInternalError // the peer must not take the text for complete
		err = fmt.Errorf("%w: the text of a stream ends inside a character, whose first bytes were not sent (RFC 6455 section 8.1)", ErrInvalidUTF8)
	}
	s.c.StartClose(code, "")
	if s.writing.Load() && s.c.socket.exact() {
		s.c.socket.setUserWrite(longAgo) // the rest of its frame is sent before the close frame
	}
	return err
}

func (s *byteStream) LocalAddr() net.Addr  { return s.c.LocalAddr() }
func (s *byteStream) RemoteAddr() net.Addr { return s.c.RemoteAddr() }

func (s *byteStream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

func (s *byteStream) SetReadDeadline(t time.Time) error {
	return s.deadlineError(s.c.SetReadDeadline(t))
}

func (s *byteStream) SetWriteDeadline(t time.Time) error {
	return s.deadlineError(s.c.SetWriteDeadline(t))
}

// deadlineError returns the error for a deadline that could not be set. It returns nil if the
// peer has ended the connection, because a deadline has no effect then.
func (s *byteStream) deadlineError(err error) error {
	switch {
	case s.closed.Load():
		return errStreamClosed
	case err != nil && err == s.c.life.err() && !errors.Is(err, net.ErrClosed):
		return nil
	}
	return err
}

// A streamTypeError is the error of a connection whose peer has sent a message of the wrong
// type to a stream. The connection is closed with 1003.
type streamTypeError struct{ want, got Opcode }

func (e *streamTypeError) Error() string {
	return fmt.Sprintf("websocket: unsupported data: this endpoint reads a stream of %v messages, and the peer has sent a %v message (RFC 6455 section 7.4.1)", e.want, e.got)
}

func (e *streamTypeError) Is(target error) bool { return target == net.ErrClosed }

// As makes it an error of a connection that was closed here, for CloseStatus.
func (e *streamTypeError) As(target any) bool {
	here, ok := target.(**closedError)
	if ok {
		*here = &closedError{CloseError: CloseError{Code: StatusUnsupportedData}}
	}
	return ok
}
