package websocket

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/deflate"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// A message that is compressed may refer to what the peer has inflated before (context
// takeover), without which small messages do not become smaller. So the encoder of a connection
// must see the compressed messages in the order in which they are written: it is used with the
// lock of the writer held, and no other frame may come between its use and its message.
// Uncompressed messages do not matter (RFC 7692 section 7.2.1). The encoder learns a message that
// was compressed alone, without history, because the peer's window has it. If its bytes are not
// there any more, the encoder forgets.
//
// A message is one frame: some clients cannot read compressed fragments.

// aloneSize is the largest message that is compressed with the history. A larger one is
// compressed before the lock is taken, because that takes long and because history gains little.
const aloneSize = 16 << 10

// gatherSize is how much a MessageWriter gathers for one compressed frame.
const gatherSize = 64 << 10

// quietTime stands in for PingInterval if there are no pings.
const quietTime = 15 * time.Second

// encoders hold no state of a connection. There is a pool for each size of the window, because
// an Encoder of another size would allocate. The largest has 12 KiB.
var encoders [deflate.MaxWindowBits + 1]sync.Pool

// A compression is the permessage-deflate of one connection.
type compression struct {
	agreed  agreement
	minSize atomic.Int64 // see SetCompression

	decoder *deflate.Decoder // of the message that is being received, or nil; in.lock guards it

	// out.lock guards the following. The encoder is borrowed for the first message and goes
	// back when none was sent for a while.
	encoder *deflate.Encoder
	used    bool               // since the last look of returnIdle
	ordered bool               // the frame in writer.send refers to those before it
	idle    wait.Alarm[writer] // calls returnIdle if no ping does
}

func newCompression(agreed agreement, minSize int) *compression {
	c := &compression{agreed: agreed}
	c.minSize.Store(int64(minSize))
	return c
}

// compression returns the permessage-deflate of the connection, or nil if it was not agreed on.
func (c *core) compression() *compression {
	if s := c.seldom.Load(); s != nil {
		return s.compression
	}
	return nil
}

// SetCompression sets which messages are compressed that are sent from now on: those of at least
// minSize bytes, or none if minSize is negative. It has no effect if compression was not agreed
// on, see [Compression]. For example, SetCompression(-1) comes before a message with a secret.
//
// Messages of a MessageWriter are compressed if that is allowed in each of its calls. The peer
// may compress its messages in any case.
func (c *Conn) SetCompression(minSize int) {
	if own := c.compression(); own != nil {
		own.minSize.Store(int64(minSize))
	}
}

// on reports whether messages are compressed now. c may be nil.
func (c *compression) on() bool { return c != nil && c.minSize.Load() >= 0 }

// wants reports whether a message of size bytes is to be compressed. c may be nil.
func (c *compression) wants(op Opcode, size int) bool {
	if c == nil || op.IsControl() {
		return false
	}
	least := c.minSize.Load()
	return least >= 0 && int64(size) >= least
}

// alone reports whether a message of size bytes is compressed without history, before the lock
// of the writer is taken.
func (c *compression) alone(size int) bool { return c.agreed.noTakeover || size > aloneSize }

// room returns an empty buffer of a pool for what size bytes are compressed to. releaseFrames
// returns it. More than pendingSize bytes move to an array of their own.
func room(size int) []byte {
	const more = maxHeaderSize + 64
	return withRoom(nil, min(size+size/8+more, pendingSize))
}

// newEncoder returns an encoder without history.
func newEncoder(windowBits uint8) *deflate.Encoder {
	e, ok := encoders[windowBits].Get().(*deflate.Encoder)
	if !ok {
		e = new(deflate.Encoder)
	}
	e.Reset(int(windowBits))
	return e
}

// releaseEncoder returns an encoder to its pool.
func releaseEncoder(e *deflate.Encoder, windowBits uint8) { encoders[windowBits].Put(e) }

// appendAlone appends a message to dst that is compressed without history. ok is false if it
// does not become smaller.
func appendAlone(dst, data []byte, windowBits uint8) (out []byte, ok bool) {
	e := newEncoder(windowBits)
	defer releaseEncoder(e, windowBits)
	return e.Append(dst, data)
}

// frameAlone returns a whole frame of a message that is compressed without history, or nil if
// it does not become smaller.
func frameAlone(op Opcode, data []byte, windowBits uint8) []byte {
	payload, ok := appendAlone(room(len(data)), data, windowBits)
	defer releaseFrames(payload)
	if !ok {
		return nil
	}
	h := Header{Fin: true, RSV1: true, Opcode: op}
	return append(h.append(make([]byte, 0, maxHeaderSize+len(payload)), int64(len(payload))), payload...)
}

// sendCompressed is SendMessage for a connection with compression.
func (c *Conn) sendCompressed(op Opcode, data []byte) (err error) {
	h := &Header{Fin: true, Opcode: op}
	own := c.compression()
	if !own.wants(op, len(data)) || !own.alone(len(data)) {
		if err := c.out.acquireForMessage(); err != nil {
			return c.sendError(err)
		}
		defer c.finishSend(&err)
		return c.out.sendData(h, data)
	}
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

// sendData is send for a whole message, which it compresses if that is wanted. The lock is held.
func (w *writer) sendData(h *Header, data []byte) error {
	c := w.compression()
	if !c.wants(h.Opcode, len(data)) {
		return w.send(h, data)
	}
	if w.openMessage() == nil && w.queued() > 0 { // its messages are compressed first
		if err := w.writeQueue(bySender, allWrites); err != nil {
			return err
		}
	}
	payload, ok := w.encode(room(len(data)), data)
	defer releaseFrames(payload)
	if !ok {
		return w.send(h, data)
	}
	compressed := *h
	compressed.RSV1 = true
	c.ordered = true
	err := w.send(&compressed, payload)
	c.ordered = false
	if err != nil {
		w.forget() // the peer does not have it
	}
	return err
}

// isOrdered reports whether the frame in send must come before the queue, because it refers to
// frames that were written or are pending. The lock is held.
func (w *writer) isOrdered() bool {
	c := w.compression()
	return c != nil && c.ordered
}

// sendFrameAlone sends the frame of a PreparedMessage. The lock is held.
func (w *writer) sendFrameAlone(f queuedFrame) error {
	var h Header
	start, _ := h.parse(f.bytes)
	err := w.send(&h, f.bytes[start:])
	if err != nil {
		w.noteAlone(&h)
		return err
	}
	w.learn(f.alone)
	return nil
}

// learn notes that a frame was sent, or comes next, that was compressed alone. a is nil if the
// frame is not compressed. The lock is held.
func (w *writer) learn(a *aloneFrame) {
	if a == nil {
		return
	}
	e := w.compression().encoder
	switch {
	case e == nil:
	case len(a.history) == 0:
		e.Forget()
	default:
		e.Learn(a.history)
	}
}

// noteAlone notes that a frame was sent which the encoder cannot learn.
func (w *writer) noteAlone(h *Header) {
	if h.RSV1 && w.compression() != nil {
		w.forget()
	}
}

// forget makes the next message refer to nothing before it. The lock is held.
func (w *writer) forget() {
	if e := w.compression().encoder; e != nil {
		e.Forget()
	}
}

// encode appends a message to dst that is compressed with the history of the connection. ok is
// false if it does not become smaller. The next frame of a message has to be this one. The lock
// is held.
func (w *writer) encode(dst, data []byte) (out []byte, ok bool) {
	c := w.compression()
	if c.agreed.noTakeover {
		return appendAlone(dst, data, c.agreed.windowBits)
	}
	if c.encoder == nil {
		w.lend(newEncoder(c.agreed.windowBits))
	}
	c.used = true
	return c.encoder.Append(dst, data)
}

// appendCompressed appends a whole frame to dst that has the message of frame, which is not
// compressed, compressed with the history. ok is false if that does not become smaller. The lock
// is held.
func (w *writer) appendCompressed(dst, frame []byte) (out []byte, ok bool) {
	var space [maxHeaderSize]byte
	out, ok = w.encode(append(dst, space[:]...), frame[headerSize(frame[1]):])
	if !ok {
		return out[:len(dst)], false
	}
	payload := out[len(dst)+maxHeaderSize:]
	h := Header{Fin: true, RSV1: true, Opcode: Opcode(frame[0] & opcodeBits)}
	start := len(h.append(out[:len(dst)], int64(len(payload))))
	return out[:start+copy(out[start:], payload)], true
}

// writeCompressedNow is writeNow for a connection with compression.
func (w *writer) writeCompressedNow(q *sendQueue, f queuedFrame) error {
	if !f.compress {
		return w.writeNow(q, f, false)
	}
	frame, ok := w.appendCompressed(room(len(f.bytes)), f.bytes)
	defer releaseFrames(frame)
	if f.compress = false; !ok {
		return w.writeNow(q, f, false)
	}
	return w.writeNow(q, queuedFrame{bytes: frame}, true)
}

// takeQueued takes frames of the queue for one write, at most so many, and compresses those that
// are to be compressed. messages is how many of them count for Stats. The lock is held.
func (w *writer) takeQueued(most int) (b []byte, frames int, messages uint16) {
	q := w.queueOf()
	if w.compression() == nil {
		return q.take(most, nil)
	}
	for frames < most && len(b) < pendingSize/2 {
		frame := q.takeToCompress()
		if frame == nil {
			break
		}
		if frames++; frames == 1 {
			b = room(pendingSize)
		}
		compressed, ok := w.appendCompressed(b, frame)
		if b = compressed; !ok {
			b = append(b, frame...)
		}
	}
	if frames > 0 {
		return b, frames, uint16(frames)
	}
	return q.take(most, w.learn)
}

// lend lends e to the connection, which then has its history. The lock is held.
func (w *writer) lend(e *deflate.Encoder) {
	c := w.compression()
	if c.encoder != nil {
		releaseEncoder(c.encoder, c.agreed.windowBits)
	}
	c.encoder, c.used = e, true
	w.watchIdle()
}

// returnIdle returns the encoder to its pool if it was not used since the last call. The
// keepalive calls it with each ping, and the alarm if there are no pings. It does not wait for
// the lock, whose holder may be about to use the encoder.
func (w *writer) returnIdle() {
	c := w.compression()
	if c == nil {
		return
	}
	if w.lock.TryLock() {
		if !c.used {
			w.returnEncoder()
		}
		c.used = false
		lent := c.encoder != nil
		w.release(byLibrary)
		if !lent {
			return
		}
	}
	w.watchIdle()
}

// watchIdle sets the alarm if no ping calls returnIdle.
func (w *writer) watchIdle() {
	if w.timer.timeouts.pingInterval == 0 {
		w.compression().idle.Set(quietTime, w, (*writer).returnIdle)
	}
}

// returnEncoder returns the encoder to its pool. The lock is held.
func (w *writer) returnEncoder() {
	if c := w.compression(); c != nil && c.encoder != nil {
		releaseEncoder(c.encoder, c.agreed.windowBits)
		c.encoder = nil
	}
}

// An aloneFrame is a whole frame of a message that was compressed without history.
type aloneFrame struct {
	bytes   []byte
	history []byte // the end of the message, as much as a window has; nil if nothing keeps it
}

// compressedFrames are the compressed frames of a PreparedMessage, made when a connection needs
// them, because the windows of connections differ.
type compressedFrames struct {
	mu     sync.Mutex // while a frame is made
	frames [deflate.MaxWindowBits - deflate.MinWindowBits + 1]atomic.Pointer[aloneFrame]
}

// frameFor returns the frame for a connection with compression c, which may be nil.
func (p *PreparedMessage) frameFor(c *compression) queuedFrame {
	plain := queuedFrame{bytes: p.frame, shared: true}
	if !c.wants(p.header.Opcode, len(p.frame)-p.start) {
		return plain
	}
	made := &p.compressed.frames[c.agreed.windowBits-deflate.MinWindowBits]
	frame := made.Load()
	if frame == nil {
		frame = p.compress(made, c.agreed.windowBits)
	}
	if frame.bytes == nil {
		return plain
	}
	return queuedFrame{bytes: frame.bytes, shared: true, alone: frame}
}

// compress sets made to the compressed frame, unless another goroutine has done that. The frame
// has no bytes if it does not become smaller.
func (p *PreparedMessage) compress(made *atomic.Pointer[aloneFrame], windowBits uint8) *aloneFrame {
	p.compressed.mu.Lock()
	defer p.compressed.mu.Unlock()
	if frame := made.Load(); frame != nil {
		return frame
	}
	frame := &aloneFrame{bytes: frameAlone(p.header.Opcode, p.frame[p.start:], windowBits)}
	if frame.bytes != nil {
		frame.history = p.frame[p.start:]
		if more := len(frame.history) - 1<<windowBits; more > 0 { // do not keep it in queues
			frame.history = bytes.Clone(frame.history[more:])
		}
	}
	made.Store(frame)
	return frame
}
