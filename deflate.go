package websocket

import (
	"github.com/f44ffc3b/websocket/internal/deflate"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// sendData is send for a whole message, which it compresses if that is wanted. The lock is held.
func (w *writer) sendData(h *Header, data []byte) error {
	c := w.compression()
	if !c.wants(h.Opcode, len(data)) {
		return w.send(h, data)
	}
	if w.openMessage() == nil && w.queued() > 0 { // the queued messages are compressed first
		if err := w.writeQueue(bySender, allWrites); err != nil {
			return err
		}
	}
	payload, ok := w.encode(room(len(data)), data)
	var err error
	if ok {
		err = w.sendEncoded(h, payload)
	} else {
		err = w.send(h, data)
	}
	releaseFrames(payload) // not deferred: a defer needs stack, and a panic may drop them
	return err
}

// sendEncoded sends a message that encode has compressed. The lock is held.
func (w *writer) sendEncoded(h *Header, payload []byte) error {
	compressed, c := *h, w.compression()
	compressed.RSV1 = true
	c.ordered = true
	err := w.send(&compressed, payload)
	c.ordered = false
	if err != nil {
		w.forget() // the peer does not have this message
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

// learn notes that a frame that was compressed alone was sent, or is the next to be sent. a is
// nil if the frame is not compressed. The lock is held.
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

// forget makes sure that the next message refers to no earlier one. The lock is held.
func (w *writer) forget() {
	if e := w.compression().encoder; e != nil {
		e.Forget()
	}
}

// encode compresses data with the history of the connection and appends the result to dst. ok is
// false if the result is not smaller. The next message that is written has to be this one. The
// lock is held.
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

// appendCompressed compresses the message of frame, a whole uncompressed frame, with the history,
// and appends the result to dst as a whole frame. ok is false if it does not become smaller. The
// lock is held.
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

// takeQueued takes frames from the queue for one write, not more than most, and compresses those
// that are to be compressed. messages is how many of them count for Stats. The lock is held.
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

// lend lends e, with its history, to the connection. The lock is held.
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
		wait.SetAlarm(&w.compression().idle, restInterval, w, (*writer).returnIdle)
	}
}

// returnEncoder returns the encoder to its pool. The lock is held.
func (w *writer) returnEncoder() {
	if c := w.compression(); c != nil && c.encoder != nil {
		releaseEncoder(c.encoder, c.agreed.windowBits)
		c.encoder = nil
	}
}
