package websocket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/f44ffc3b/websocket/internal/utf8"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// receiver is the receiving side of a Conn: socket → read buffer → header →
// limits → payload. Its lock guards all of it.
type receiver struct {
	lock wait.Lock

	// What was read from the socket and not yet used is buf[r:w].
	buf   []byte
	r, w  int
	ready readiness

	// The frame whose header was taken from the buffer and whose payload was
	// not yet, not wholly: it is open.
	header Header // also of the frame that comes next, while none is open
	left   int64  // bytes of its payload that are still to come

	// The message that the frame is a part of.
	size   int64 // the payload lengths of its frames so far
	frames int32
	text   utf8.Checker
	keyPos uint8 // where in the masking key the open frame's payload goes on

	// What the method that reads the message had when a deadline expired.
	partial []byte
	frags   []Frame
	stream  *messageReader

	// What is small is together, for what a connection costs: a word between two
	// larger ones takes up as much as eight of these.
	closeReceived atomic.Bool
	more          atomic.Bool // a whole frame is waiting in the buffer; see mayDefer
	bulk          bool        // the next read is to be into the larger buffer
	open          bool        // a frame is, see above
	op            Opcode      // of the message, Text or Binary; Continuation between messages
	isText        bool        // text is to be checked; never set for ReadFrame
	owner         method      // who is reading the message
	raw           bool        // ReadFrame is in use: control frames are the user's
	draining      bool        // the connection has ended, and what comes is dropped
	look          look        // what the watchdog, or a sender, is reading for
}

// errCloseReceived ends the reading of a connection that was closed here.
var errCloseReceived = errors.New("websocket: the peer has answered the close frame")

var errReadDeadline = fmt.Errorf("websocket: receiving: %w", os.ErrDeadlineExceeded)

// lockReceiver takes the receiving side, unless the connection ends before it is
// free. The watchdog gives way to readers.
func (c *Conn) lockReceiver() error {
	if c.in.lock.TryLock() {
		return nil
	}
	c.interruptPoll()
	defer c.readerDone()
	if !c.in.lock.LockUnless(c.Context().Done(), nil) {
		return c.err()
	}
	return nil
}

// readSocket reads what has arrived, waiting for at least one byte.
func (c *Conn) readSocket(p []byte) (int, error) {
	if err := c.err(); err != nil && !c.in.draining {
		return 0, err
	}
	for range maxEmptyReads {
		n, err := c.conn.Read(p)
		if n > 0 {
			// An error that came along comes again.
			c.heard()
			return n, nil
		}
		if err != nil {
			return 0, c.readFailed(err)
		}
	}
	return 0, c.readFailed(io.ErrNoProgress)
}

// maxEmptyReads is how often a net.Conn may return neither a byte nor an error
// before it is taken for broken.
const maxEmptyReads = 100

// readFailed tells the ways apart in which a read ends with nothing read.
func (c *Conn) readFailed(err error) error {
	if ended := c.err(); ended != nil {
		return ended
	}
	// In a last look behind a write that failed, that is the end, and not this.
	if errors.Is(err, os.ErrDeadlineExceeded) || c.in.look == lastLook {
		return errReadDeadline
	}
	if err == io.EOF && c.in.look != 0 && (c.in.open || c.in.r < c.in.w) {
		return errReadDeadline // who receives what came before it finds it again
	}
	if err == io.EOF {
		// io.EOF is a connection that was closed properly, which this one was not.
		return c.die("the peer ended the TCP connection without a close frame", io.ErrUnexpectedEOF)
	}
	return c.die("receiving", err)
}

// fill reads once from the socket into the buffer, in which there is no whole
// frame. It may have to wait, so what was to be sent along with more is sent now.
func (c *Conn) fill() error {
	in := &c.in
	if in.more.Load() {
		in.more.Store(false)
	}
	if c.out.deferred.Load() {
		c.flushSoon()
	}
	n, err := c.fillBuffer()
	in.w += n
	in.bulk = n > 0 && (in.w == len(in.buf) || n >= readBufferSize && in.ready.waits())
	if !in.bulk && in.w > in.r {
		in.shrinkBuffer() // the handler may take long to come back for these few bytes
	}
	return err
}

func (c *Conn) fillBuffer() (int, error) {
	in := &c.in
	if !in.ready.waits() {
		// What this waits with between messages may be held for long.
		in.bulk = in.bulk && (in.open || in.r < in.w)
		in.takeBuffer()
		return c.readSocket(in.buf[in.w:])
	}
	if err := c.err(); err != nil && !in.draining {
		return 0, err
	}
	n, err := in.ready.fill()
	if err != nil {
		return 0, c.readFailed(err)
	}
	c.heard()
	return n, nil
}

// buffered is what was read from the socket and not yet used.
func (in *receiver) buffered() []byte { return in.buf[in.r:in.w] }

// nextHeader waits for a whole header, reads it and returns its size, but leaves
// it in the buffer: a control frame is taken up as a whole or not at all. No frame
// is open.
func (c *Conn) nextHeader() (int, error) {
	in := &c.in
	for {
		n, err := in.header.parse(in.buffered())
		if err != nil {
			return 0, c.fail(err)
		}
		if n > 0 {
			return n, nil
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// advance goes on to the next data frame and opens it. Control frames on the way
// are handled on the spot (RFC 6455 section 5.4: they may come between the
// fragments of a message).
func (c *Conn) advance() error {
	in := &c.in
	for !in.open {
		n, err := c.nextHeader()
		if err != nil {
			return err
		}
		if err := c.checkHeader(&in.header); err != nil {
			return c.fail(err)
		}
		if in.header.Opcode.IsControl() {
			if err := c.handleControl(n); err != nil {
				return err
			}
			continue
		}
		in.r += n
		in.begin()
	}
	return nil
}

// checkHeader holds a frame from a client against the rules, and against the
// limits before any of its payload is waited for.
func (c *Conn) checkHeader(h *Header) error {
	in := &c.in
	switch {
	case h.RSV1 || h.RSV2 || h.RSV3:
		return protocolError("5.2", "reserved bits set in a %v frame, and no extension was agreed on", h.Opcode)
	case h.Opcode.IsReserved():
		return fmt.Errorf("%w: %w", ErrInvalidOpcode, protocolError("5.2", "%v", h.Opcode))
	case !h.Masked:
		return unmasked(h)
	case h.Opcode.IsControl():
		return checkControl(h)
	case h.Opcode == Continuation && in.op == Continuation:
		return protocolError("5.4", "continuation frame with no message to continue")
	case h.Opcode != Continuation && in.op != Continuation:
		return protocolError("5.4", "%v frame in the middle of a fragmented message", h.Opcode)
	}
	return c.checkLimits(h)
}

func unmasked(h *Header) error {
	return protocolError("5.1", "unmasked %v frame from a client", h.Opcode)
}

func checkControl(h *Header) error {
	if !h.Fin {
		return protocolError("5.5", "fragmented %v frame", h.Opcode)
	}
	if h.Length > maxControlPayload {
		return protocolError("5.5", "%v frame of %d bytes exceeds %d", h.Opcode, h.Length, maxControlPayload)
	}
	return nil
}

func (c *Conn) checkLimits(h *Header) error {
	in, o := &c.in, c.opts
	if err := c.checkFrameSize(h); err != nil {
		return err
	}
	// Neither side can overflow: size is at most maxMessageSize here.
	if h.Length > o.maxMessageSize-in.size {
		return tooLarge("message of %d bytes exceeds MaxMessageSize %d", in.size+h.Length, o.maxMessageSize)
	}
	if int(in.frames) >= o.maxFragments {
		return tooLarge("message of more frames than MaxFragments %d", o.maxFragments)
	}
	return nil
}

func (c *Conn) checkFrameSize(h *Header) error {
	if limit := c.opts.maxFrameSize; h.Length > limit {
		return tooLarge("frame of %d bytes exceeds MaxFrameSize %d", h.Length, limit)
	}
	return nil
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s (RFC 6455 section 10.4)", ErrMessageTooLarge, fmt.Sprintf(format, args...))
}

// begin opens a data frame whose header was checked.
func (in *receiver) begin() {
	if op := in.header.Opcode; op != Continuation {
		in.op = op
		in.isText = op == Text
		in.text = utf8.Checker{}
	}
	in.openFrame()
	in.size += in.header.Length
	in.frames++
}

func (in *receiver) openFrame() {
	in.open = true
	in.left = in.header.Length
	in.keyPos = 0
}

// endFrame closes the open frame, of which nothing is left, and reports whether
// it was the last of its message.
func (c *Conn) endFrame() (last bool, err error) {
	in := &c.in
	in.open = false
	if !in.header.Fin {
		return false, nil
	}
	if in.isText && !in.text.Complete() {
		return false, c.fail(fmt.Errorf("%w: text message ends inside a character (RFC 6455 section 8.1)", ErrInvalidUTF8))
	}
	in.endMessage()
	in.messageTaken()
	return true, nil
}

// messageTaken sees to what is behind a message: it notes whether the next frame is
// there already, and keeps no large buffer that is empty, as who has the message now
// may take long to come back. The store of an atomic costs as much as all the rest.
func (in *receiver) messageTaken() {
	_, end := wholeFrame(in.buffered())
	if more := end > 0; more != in.more.Load() {
		in.more.Store(more)
	}
	if in.r == in.w && len(in.buf) > readBufferSize {
		in.releaseBuffer()
	}
}

func (in *receiver) endMessage() {
	in.op, in.size, in.frames, in.isText = Continuation, 0, 0, false
	in.owner, in.partial, in.frags, in.stream = nobody, nil, nil, nil
}

// readChunk reads a piece of the open frame's payload into p, unmasks it and
// checks it while it is in the cache. Neither p nor what is left may be empty.
//
// What the buffer has comes first; then large pieces come straight from the
// socket, and small ones through the buffer, with what follows them.
func (c *Conn) readChunk(p []byte) (int, error) {
	in := &c.in
	if int64(len(p)) > in.left {
		p = p[:in.left]
	}
	n, err := c.readPayloadBytes(p)
	if err != nil {
		return 0, err
	}
	p = p[:n]
	in.left -= int64(n)
	in.keyPos = uint8(Mask(p, in.header.MaskKey, int(in.keyPos)))
	if in.isText && !in.text.Check(p) {
		return 0, c.fail(fmt.Errorf("%w: in a text message (RFC 6455 section 8.1)", ErrInvalidUTF8))
	}
	return n, nil
}

// readPayloadBytes reads into p what comes next, still masked.
func (c *Conn) readPayloadBytes(p []byte) (int, error) {
	in := &c.in
	if in.r == in.w {
		if len(p) >= readBufferSize {
			return c.readPast(p[:min(len(p), maxRead)])
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buffered())
	in.r += n
	return n, nil
}

// readPast reads straight into a message.
func (c *Conn) readPast(p []byte) (int, error) {
	c.in.releaseBuffer() // nothing is in it, and the peer may take its time
	c.in.bulk = c.in.bulk && c.in.ready.waits()
	if c.out.deferred.Load() {
		c.flushSoon()
	}
	return c.readSocket(p)
}

// maxRead bounds a read into a message, so that the piece is still in the cache
// when it is unmasked and checked.
const maxRead = 64 << 10

// readPayload appends the rest of the open frame's payload to b, of which
// everything from start on was received, and behind which more bytes of the same
// message may follow. On an error, b is what there is so far.
func (c *Conn) readPayload(b []byte, start int, more int64) ([]byte, error) {
	in := &c.in
	for in.left > 0 {
		b = grow(b, len(b)-start+min(in.w-in.r, int(in.left)), in.left+more)
		n, err := c.readChunk(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// handleControl waits for the whole of a control frame, whose header is the next
// n bytes of the buffer, and answers it.
func (c *Conn) handleControl(n int) error {
	in := &c.in
	end := n + int(in.header.Length)
	for len(in.buffered()) < end {
		if err := c.fill(); err != nil {
			return err
		}
	}
	payload := in.buffered()[n:end]
	in.r += end
	Mask(payload, in.header.MaskKey, 0)
	switch in.header.Opcode {
	case Ping:
		switch {
		case c.opts.dropIncomingPings:
		case in.look == listenOnly || in.look == lastLook:
			c.out.waiting.addPong(payload)
		default:
			c.sendPong(payload)
		}
	case Close:
		return c.peerClosed(payload)
	}
	return nil
}
