package websocket

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A reader is the receiving side of a connection: socket, buffer, frames. It handles
// the control frames between data frames. It returns an error if the connection must end,
// and Conn.received ends it.
type reader struct {
	*core
	lock wait.Lock // guards all of the following

	buf           inbuf
	incoming      incoming
	mode          frameMode   // of the last receiving call, 0 before the first; modeFrames stays
	polling       bool        // a poll is reading, not a receiving call
	dropPings     bool        // see DropIncomingPings
	lastChance    bool        // in phaseLost, the handler has had time to receive
	bufferOnly    bool        // a read of the socket could wait for ever
	inflating     bool        // the decoder may have more of the message without another byte of the peer
	freshMessages uint16      // received, but not in the tally yet; see also socket.freshBytes
	begun         *unfinished // the message that a method has begun, nil for none
	tally         tally       // messages and bytes that have arrived
}

// A receiveMethod is a method of Conn that receives.
type receiveMethod byte

const (
	byReceiveMessage receiveMethod = iota
	byMessageReader
	byReceiveFragments
	byReadFrame
	byDiscard
	byStream
	byReceiveFunc
)

// receiveMethods has the name of each method, and the rules for the frames that it receives.
var receiveMethods = [...]struct {
	name string
	mode frameMode
}{
	byReceiveMessage:   {"ReceiveMessage", modeMessages},
	byMessageReader:    {"MessageReader", modeMessages},
	byReceiveFragments: {"ReceiveFragments", modeFragments},
	byReadFrame:        {"ReadFrame", modeFrames},
	byDiscard:          {"Discard", modeSkip},
	byStream:           {"Stream", modeStream},
	byReceiveFunc:      {"ReceiveFunc", modeMessages},
}

func (m receiveMethod) String() string { return receiveMethods[m].name }

// unfinished is a message, or frame, that a method has begun to receive. A read
// deadline may interrupt it; then only the same method can continue it.
type unfinished struct {
	by     receiveMethod
	data   []byte  // what has arrived of the message, or of the frame
	frames []Frame // what has arrived for ReceiveFragments
}

// errStreamEnd is the end of the peer's bytes: a FIN, or END_STREAM over HTTP/2. io.EOF itself
// stands for a close frame with a normal code.
var errStreamEnd = &connError{"the peer ended its side of the connection without a close frame", io.ErrUnexpectedEOF}

// errStreamReset is the end of an HTTP/2 stream of which no more is known.
var errStreamReset = &connError{"the HTTP/2 stream was reset, or its TCP connection has ended", io.ErrUnexpectedEOF}

// acquire locks the reader, unless the connection ends before the lock is free. A poll
// gives way to a goroutine that wants to receive.
func (r *reader) acquire() error {
	if r.lock.TryLock() {
		return nil
	}
	return r.awaitLock()
}

// awaitLock is acquire for a lock that is held, see writer.awaitLock.
func (r *reader) awaitLock() error {
	r.socket.interruptPoll()
	defer r.socket.endInterrupt()
	if r.lock.LockUnless(r.life.over.Done(), nil) {
		return nil
	}
	if !r.life.hasUnread() {
		return r.life.err()
	}
	r.lock.Lock() // its holder ends the connection, and has a limit
	return nil
}

// release unlocks the reader after a receiving call.
func (r *reader) release() {
	r.lock.Unlock()
	r.timer.noteReceived() // in this order: either the poll finds the lock free, or this call sets the alarm
	r.passTurn()
}

// betweenMessages reports whether the last call has received a whole message, and the next may do so:
// then begin has nothing to do. The compiler inlines it.
func (r *reader) betweenMessages() bool {
	return r.begun == nil && r.mode == modeMessages && r.life.current() < phaseClosing
}

// begin begins a receiving call. It fails if another method has begun a message.
func (r *reader) begin(by receiveMethod) error {
	if err := r.life.receiveErr(); err != nil {
		return err
	}
	if r.begun != nil {
		if err := r.resume(by); err != nil {
			return err
		}
	}
	if r.mode == 0 { // most handlers begin with this call, and then nothing wakes the process before the first ping
		r.timer.cancelPoll(pollUnset)
	}
	if r.mode != modeFrames { // polls leave all frames to ReadFrame from its first call on
		r.mode = receiveMethods[by].mode
	}
	return nil
}

// resume begins a receiving call in the middle of a message.
func (r *reader) resume(by receiveMethod) error {
	switch begun := r.begun.by; {
	case by == byDiscard && begun != byReadFrame:
		r.begun = nil // what has arrived is dropped too
		r.stopInflating()
	case begun == byStream && by == byStream: // it may be another Stream of this Conn
	case begun == byDiscard || begun == byStream:
		if begun == byStream {
			r.begun = &unfinished{by: byDiscard} // if a deadline cuts this off, no Stream continues in the middle
		}
		if r.mode == modeStream {
			r.mode = modeSkip // polls must not check the text of what is dropped
		}
		return r.skipRest()
	case begun == byMessageReader && by == byReadFrame:
		return fmt.Errorf("websocket: %v in the middle of a message that MessageReader began; read that to its end first", by)
	case begun == byMessageReader:
		return r.skipMessage()
	case begun != by:
		return fmt.Errorf("websocket: %v in the middle of a message that %v began and a deadline cut short; call %v again first", by, begun, begun)
	}
	return nil
}

// skipMessage reads the rest of the message that a MessageReader has begun, and drops
// it. Its Read returns errMessageDropped from now on.
func (r *reader) skipMessage() error {
	if r.begun.data == nil { // else a deadline has interrupted an earlier call
		r.begun = &unfinished{by: byMessageReader, data: make([]byte, 512)}
	}
	for {
		_, end, err := r.payload(r.begun.data, modeMessages)
		if err != nil {
			return err
		}
		if end == endOfMessage {
			r.begun = nil
			return nil
		}
	}
}

// skipRest drops the rest of a message that Stream has begun, or in which a deadline has
// interrupted Discard. MaxMessageSize does not apply to it.
func (r *reader) skipRest() error {
	if r.stopInflating() {
		r.begun = nil
		return nil
	}
	for {
		end, err := r.skip()
		if err != nil {
			return err
		}
		if end == endOfMessage {
			r.begun = nil
			return nil
		}
	}
}

// skip drops the next frame, or what is left of the open frame.
func (r *reader) skip() (frameEnd, error) {
	if end, err := r.next(modeSkip); end != notEnd || err != nil {
		return end, err
	}
	return r.dropFrame(modeSkip)
}

// dropFrame drops what is left of the open frame.
func (r *reader) dropFrame(mode frameMode) (frameEnd, error) {
	for {
		if r.buf.empty() {
			if err := r.fill(); err != nil {
				return notEnd, err
			}
		}
		n := min(int64(len(r.buf.bytes())), r.incoming.left)
		r.buf.discard(int(n))
		if end, err := r.incoming.drop(n, mode); end != notEnd || err != nil {
			return r.passOn(end), err
		}
	}
}

// next opens the next data frame. It does nothing if a frame is open. It handles the
// control frames on the way (RFC 6455 section 5.4: they may come between the
// fragments of a message). A frame without payload ends at once.
//
// If a compressed message ends with a frame without payload, it returns notEnd, because the
// message may not be inflated to its end yet.
func (r *reader) next(mode frameMode) (frameEnd, error) {
	for r.incoming.left == 0 && !r.inflating {
		n, err := r.examine(mode)
		if n == 0 && err == nil {
			n, err = r.header(mode)
		}
		if err != nil {
			return notEnd, err
		}
		if r.incoming.isControl(mode) {
			if err := r.control(n); err != nil {
				return notEnd, err
			}
			continue
		}
		r.buf.discard(n)
		if end, err := r.incoming.begin(mode); end == endOfMessage && r.inflates(mode) {
			r.inflating = true
		} else if end != notEnd || err != nil {
			return r.passOn(end), err
		}
	}
	return notEnd, nil
}

// appendPayload appends the payload of the next frame, or what is left of the open frame, to msg. In
// modeMessages it continues to the end of the message, and makes room for the other frames along with
// the first, because growing for each fragment would copy the message each time. The first start
// bytes of msg belong to the caller. On an error, msg holds what has arrived.
func (r *reader) appendPayload(msg []byte, start int, mode frameMode) ([]byte, frameEnd, error) {
	in, joined := &r.incoming, mode == modeMessages
	for {
		end, err := r.next(mode)
		for end == notEnd && err == nil {
			if arrived := len(msg) - start + min(len(r.buf.bytes()), int(in.left)); joined {
				msg = in.growMessage(msg, arrived, r.buf.bytes())
			} else {
				msg = grow(msg, arrived, in.left)
			}
			var n int
			n, end, err = r.payload(msg[len(msg):cap(msg)], mode)
			msg = msg[:len(msg)+n]
		}
		if !joined || end == endOfMessage || err != nil {
			return msg, end, err
		}
	}
}

// interrupt keeps what has arrived of a message for the next call of the method, and
// returns errReadDeadline.
func (r *reader) interrupt(by receiveMethod, data []byte, frames []Frame) error {
	switch {
	case r.begun != nil:
		r.begun.data, r.begun.frames = data, frames
	case r.incoming.midMessage() || r.incoming.left > 0:
		r.begun = &unfinished{by, data, frames}
	}
	return errReadDeadline
}

// header waits for the rest of a header and returns its size, but leaves it in the buffer.
func (r *reader) header(mode frameMode) (int, error) {
	for {
		if err := r.fill(); err != nil {
			return 0, err
		}
		n, err := r.examine(mode)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// examine examines the frame that the buffer begins with.
func (r *reader) examine(mode frameMode) (int, error) {
	r.adoptLimits()
	return r.incoming.next(r.buf.bytes(), mode)
}

// adoptLimits applies the limits of SetMaxMessageSize to what arrives next. It changes
// nothing in the middle of a message.
func (r *reader) adoptLimits() { r.incoming.adopt(r.latestLimits()) }

// latestLimits returns the limits of SetMaxMessageSize, nil before its first call.
func (r *reader) latestLimits() *limits {
	if s := r.seldom.Load(); s != nil {
		return s.limits.Load()
	}
	return nil
}

// payload reads the next piece of payload into p, which is not empty, and unmasks it. All
// payload is read here or in appendInflated, except that of whole frames in the buffer. The
// payload of a compressed message is inflated if the mode says so.
func (r *reader) payload(p []byte, mode frameMode) (n int, end frameEnd, err error) {
	if r.incoming.left == 0 {
		if end, err = r.next(mode); end != notEnd || err != nil {
			return 0, end, err
		}
	}
	if r.inflates(mode) {
		return r.inflate(p, mode)
	}
	if int64(len(p)) > r.incoming.left {
		p = p[:r.incoming.left]
	}
	if n, err = r.take(p); err != nil {
		return 0, notEnd, err
	}
	end, err = r.incoming.unmask(p[:n], mode)
	if err != nil && end == notEnd {
		n = 0 // the piece has an invalid byte
	}
	return n, r.passOn(end), err
}

// passOn returns end, and calls afterMessage at the end of a message.
func (r *reader) passOn(end frameEnd) frameEnd {
	if end == endOfMessage {
		r.afterMessage()
	}
	return end
}

// afterMessage runs after a message was taken from the buffer. It tells senders
// whether another frame is buffered, and releases an empty large buffer, because the
// handler may not receive again for a while.
func (r *reader) afterMessage() {
	_, end := parseWhole(r.buf.bytes())
	r.out.noteBuffered(end > 0)
	if r.freshMessages++; end > 0 && r.freshMessages < math.MaxUint16 {
		return
	}
	r.showCounts()
	r.buf.releaseIfLarge()
}

// maxRead limits a read into a message, so that the piece is still in the cache of
// the processor when it is unmasked and checked.
const maxRead = 64 << 10

// take reads the next bytes, still masked, into p. It first takes bytes from the buffer.
// Then large pieces come directly from the socket, and small ones through the
// buffer, together with what follows them.
func (r *reader) take(p []byte) (int, error) {
	if r.buf.empty() {
		if len(p) >= readBufferSize {
			return r.readDirect(p[:min(len(p), maxRead)])
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf.bytes())
	r.buf.discard(n)
	return n, nil
}

// readDirect reads once from the socket into p. The buffer is empty.
func (r *reader) readDirect(p []byte) (int, error) {
	if err := r.beforeRead(); err != nil {
		return 0, err
	}
	r.buf.release()
	r.buf.large = r.buf.large && r.socket.waitsWithoutBuffer()
	n, err := r.socket.Read(p)
	for err != nil && r.socket.lookAgain(err, time.Time{}) {
		n, err = r.socket.Read(p)
	}
	if err != nil {
		return 0, r.failed(err)
	}
	r.noteRead(n)
	return n, nil
}

// fill reads once from the socket into the buffer, in which there is no complete
// frame.
func (r *reader) fill() error {
	if err := r.beforeRead(); err != nil {
		return err
	}
	if r.buf.large && r.buf.empty() && r.incoming.left == 0 && !r.socket.waitsWithoutBuffer() {
		r.buf.large = false // between messages the wait can be long
	}
	had := len(r.buf.bytes())
	err := r.socket.fill()
	for err != nil && r.socket.lookAgain(err, time.Time{}) {
		err = r.socket.fill()
	}
	if err != nil {
		r.buf.large = r.buf.large && r.buf.noWait // the loop of HandleMessages comes back with input
		r.buf.shrink()                            // the next call may come late
		return r.failed(err)
	}
	r.noteRead(len(r.buf.bytes()) - had)
	return nil
}

// beforeRead runs before each read of the socket, because the read may have to wait:
// no reply to a buffered frame can be expected, and pending frames are written.
func (r *reader) beforeRead() error {
	r.showCounts()
	p := r.life.current()
	if p == phaseOpen && !r.bufferOnly { // apart from the others, because most reads are like this
		if !r.polling {
			r.timer.noteReading()
		}
		r.out.beforeWait(r.caller())
		return nil
	}
	switch {
	case r.bufferOnly:
		return errReadDeadline
	case p > phaseOpen && r.mode == modeDiscard:
		return nil
	case p >= phaseClosing:
		return r.life.err()
	}
	r.out.beforeWait(r.caller())
	if p == phaseLost && !r.polling {
		if err := r.socket.limitReads(time.Now().Add(pingPoll)); err != nil {
			return errReadDeadline // without deadlines, the read could wait for ever
		}
	}
	return nil
}

// failed converts the error of a failed read.
func (r *reader) failed(err error) error {
	switch discard := r.mode == modeDiscard; {
	case r.life.err() != nil && !discard:
		return r.life.err()
	case errors.Is(err, os.ErrDeadlineExceeded) && !discard:
		return errReadDeadline
	case err == io.EOF:
		return errStreamEnd
	case err == error(errFrameCutOff):
		return err
	}
	return &connError{"receiving", err}
}

// noteRead notes that n bytes have arrived. The lock is held.
func (r *reader) noteRead(n int) {
	r.socket.freshBytes += uint32(n)
	r.timer.noteRead()
}

// showCounts adds the fresh counts to the tally. It runs before a read that may wait, and after
// the last message in the buffer, because the peer may then get its answer and ask for Stats.
func (r *reader) showCounts() {
	if fresh := r.fresh(); fresh > 0 {
		r.tally.add(fresh, r.core, receiving)
		r.freshMessages, r.socket.freshBytes = 0, 0
	}
}

// fresh returns the counts that the tally does not show, as a packed number.
func (r *reader) fresh() uint64 {
	return uint64(r.freshMessages)*oneMessage + uint64(r.socket.freshBytes)
}

// counted returns what was received. If a goroutine holds the lock, the tally is enough, because
// that goroutine shows its counts before it waits. If the lock is free, messages may be left in
// the buffer, so the fresh counts are not shown yet and are added here.
func (r *reader) counted() counts {
	r.socket.mu.Lock() // so that tryLock does not fail because of this
	defer r.socket.mu.Unlock()
	if !r.lock.TryLock() {
		return r.countsOf(&r.tally, receiving)
	}
	defer r.lock.Unlock()
	sum := r.countsOf(&r.tally, receiving)
	sum.add(r.fresh())
	return sum
}

// tryLock locks the reader, unless a goroutine is receiving.
func (r *reader) tryLock() bool {
	r.socket.mu.Lock()
	defer r.socket.mu.Unlock()
	return r.lock.TryLock()
}
