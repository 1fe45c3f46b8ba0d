package websocket

import (
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// Writing is most of the cost of a small message. If the peer sends many messages at
// once, the replies wait for each other and leave in one write. While the read buffer
// holds another complete frame, the handler is about to receive that frame. Then it
// either sends more, or waits for the peer, and the wait begins with a write of the
// pending frames. The flush timer is for a handler that does neither.
const pendingTime = 100 * time.Microsecond

// pending is what waits to be written, and why. It is allocated on demand, because most peers
// wait for each answer.
type pending struct {
	frames     []byte // that wait to be written together
	written    int    // how much of frames was sent by a write that a deadline has cut off
	flushTimer wait.Alarm
	open       chan struct{} // closed when the open MessageWriter ends; nil without one
	unawaited  bool          // the socket did not take frames at once, so no receiving method waits for their write
}

// openMessage returns the channel that is closed when the open MessageWriter ends, or nil
// without one. The lock is held.
func (w *writer) openMessage() chan struct{} {
	if w.pending == nil {
		return nil
	}
	return w.pending.open
}

// flushIn makes the flush timer write what is pending in d. The lock is held.
func (w *writer) flushIn(d time.Duration) {
	if !w.stopped {
		wait.SetAlarm(&w.pendingOf().flushTimer, d, w, (*writer).flushByTimer)
	}
}

// noteBuffered notes whether the read buffer holds a complete frame, which the
// handler is about to receive. It skips the store if nothing changed, because the
// store would double the cost of a small message.
func (w *writer) noteBuffered(frame bool) {
	if frame != w.frameBuffered.Load() {
		w.frameBuffered.Store(frame)
	}
}

// beforeWait writes what is pending, because the goroutine that receives is about to
// wait for the peer. Until that goroutine has read again, no frame may wait for another.
func (w *writer) beforeWait(by caller) {
	w.noteBuffered(false)
	if w.hasPending.Load() {
		w.requestFlush(by)
	}
}

// mayWait reports whether a frame may wait for the next one, while the connection is open.
func (w *writer) mayWait(h *Header) bool {
	return w.frameBuffered.Load() && w.coalescing && h.Opcode&opcodeBits != Close
}

// leaveToTimer leaves a frame of sendOwn to the flush timer. A close frame has to be written after
// the queue. If a large frame is pending, of which a part may be written, a close frame waits in the
// queue and does not move it, and only the latest pong is kept, so that a flood of pings takes no
// memory. Pings have limits of their own. The lock is held.
func (w *writer) leaveToTimer(h *Header, payload []byte) {
	b := w.pendingFrames()
	full := len(b) > pendingSize-maxHeaderSize-maxControlPayload
	switch {
	case h.Opcode&opcodeBits == Close && (full || w.queued() > 0):
		w.seldomUsed().queue.add(AppendFrame(nil, Frame{*h, payload}))
	case h.Opcode == Pong && full:
		w.urgent.keepPong(payload) // the flush timer sends it without a request
	default:
		size := maxHeaderSize + len(payload)
		w.pending.frames = append(h.append(withRoom(b, size), int64(len(payload))), payload...)
	}
	w.hasPending.Store(true)
	w.flushIn(0)
}

// appendPending appends a frame to those that are pending, if there are any and there is room. It
// reports whether it did. For most frames that wait, it does.
func (w *writer) appendPending(h *Header, payload []byte) bool {
	b := w.pendingFrames()
	if len(b) == 0 || maxHeaderSize+len(payload) > cap(b)-len(b) {
		return false
	}
	w.count(h)
	w.pending.frames = append(h.append(b, int64(len(payload))), payload...)
	return true
}

// sendPending is send for a frame that may wait, or behind frames that are pending. own is
// true for sendOwn.
func (w *writer) sendPending(by caller, h *Header, payload []byte, wait, own bool) error {
	if wait && w.appendPending(h, payload) {
		return nil
	}
	behind := !wait && !w.isOrdered() && (!own || h.Opcode&opcodeBits == Close) // pings and pongs do not wait for the queue
	if err := w.makeRoom(by, len(payload), behind); err != nil {
		if own && !w.broken { // a deadline of the call has passed meanwhile
			w.leaveToTimer(h, payload)
		}
		return err
	}
	b := w.pendingFrames()
	accepted := len(b)
	size := maxHeaderSize + len(payload)
	if size > pendingSize-accepted && !own {
		w.count(h)
		return w.flush(by, h.append(withRoom(b, maxHeaderSize), int64(len(payload))), payload, accepted)
	}
	w.count(h)
	b = append(h.append(withRoom(b, size), int64(len(payload))), payload...)
	if wait {
		w.pending.frames = b
		if accepted == 0 {
			w.hasPending.Store(true)
			w.flushIn(pendingTime)
		}
		if !own && !w.frameBuffered.Load() { // the receiver has begun to wait meanwhile
			return w.flush(by, b, nil, accepted)
		}
		return nil
	}
	if own {
		accepted = len(b)
	}
	return w.flush(by, b, nil, accepted)
}

// makeRoom writes what has to leave before a frame with a payload of size bytes: the queue, if the
// frame is behind it, and pending frames without room for a small frame.
func (w *writer) makeRoom(by caller, size int, behind bool) error {
	if behind && w.openMessage() == nil && w.queued() > 0 {
		if err := w.writeQueue(by, allWrites); err != nil {
			return err
		}
	}
	b := w.pendingFrames()
	if len(b) == 0 || size > maxCopied || maxHeaderSize+size <= pendingSize-len(b) {
		return nil
	}
	return w.flush(by, b, nil, len(b))
}

// pendingFrames returns the frames that are pending.
func (w *writer) pendingFrames() []byte { return w.pendingOf().frames }

// pendingOf allocates w.pending if nothing has waited yet.
func (w *writer) pendingOf() *pending {
	if w.pending == nil {
		w.pending = new(pending)
	}
	return w.pending
}

// takePending removes the pending frames, and returns how many of their bytes were written before.
func (w *writer) takePending() (written int) {
	p := w.pendingOf()
	written = p.written
	p.frames, p.written, p.unawaited = nil, 0, false
	if w.noPending() && !w.urgent.waits() && w.waitingPings() == nil {
		p.flushTimer.Clear()
	}
	return written
}

// acquireForMessage locks the writer while no MessageWriter is open, and checks
// that a message can be sent.
func (w *writer) acquireForMessage() error {
	for {
		if err := w.acquire(); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			w.release(bySender)
			return err
		}
		open := w.openMessage()
		if open == nil {
			return nil
		}
		w.release(bySender)
		select {
		case <-open:
		case <-w.life.over.Done():
			return w.ended()
		case <-w.socket.userWriteExpired():
			return errWriteDeadline
		}
	}
}

// openStream begins the message of a MessageWriter and returns the channel that is
// closed when the message ends.
func (w *writer) openStream() (ended chan struct{}, err error) {
	if err := w.acquireForMessage(); err != nil {
		return nil, err
	}
	defer w.release(bySender)
	if w.queued() > 0 { // the queued messages were sent before this one
		if err := w.writeQueue(bySender, allWrites); err != nil {
			return nil, err
		}
	}
	ended = make(chan struct{})
	w.pendingOf().open = ended
	return ended, nil
}

// closeStream ends the message, unless a close frame has ended it. The lock is held.
func (w *writer) closeStream(ended chan struct{}) {
	if w.openMessage() == ended {
		w.pending.open = nil
		if w.queued() > 0 {
			w.urgent.request() // the goroutine that unlocks the writer begins to write the queue
		}
		close(ended)
	}
}
