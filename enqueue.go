package websocket

import (
	"errors"
	"math"
)

// queueOf returns the queue, or nil before the first frame.
func (w *writer) queueOf() *sendQueue {
	if s := w.seldom.Load(); s != nil {
		return &s.queue
	}
	return nil
}

// queued returns how many bytes wait in the queue.
func (w *writer) queued() int {
	if q := w.queueOf(); q != nil {
		return int(q.size.Load())
	}
	return 0
}

// enqueue puts a frame into the queue. No frame may come after a close frame, or inside the message
// of a MessageWriter that a close frame has ended. So enqueue checks the phase with q.mu held, see
// awaitEnqueue.
func (w *writer) enqueue(q *sendQueue, f queuedFrame) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := w.check(); err != nil {
		return err
	}
	limit := w.timer.timeouts.sendQueue
	if err := q.room(f, limit); err != nil {
		return err
	}
	if !f.shared {
		f.bytes, f.shared = append(newFrame(len(f.bytes)), f.bytes...), true
		if err := q.room(f, limit); err != nil {
			return err
		}
	}
	q.append(f)
	w.hasPending.Store(true) // so that no frame overtakes the queue
	return nil
}

// awaitEnqueue waits for the calls of enqueue that have checked the phase before it changed.
// Locking q.mu once is enough.
func (w *writer) awaitEnqueue() {
	if q := w.queueOf(); q != nil {
		q.len()
	}
}

// noPending notes that no frame is pending, unless the queue holds frames. It reports
// whether the queue is empty too.
func (w *writer) noPending() bool {
	q := w.queueOf()
	if q == nil {
		w.hasPending.Store(false)
		if q = w.queueOf(); q == nil { // otherwise TrySend has allocated it meanwhile
			return true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	w.hasPending.Store(q.frames > 0)
	return q.frames == 0
}

// clearQueue frees the memory of the queue when the socket is closed. Nothing is accepted any more.
func (w *writer) clearQueue() {
	if q := w.queueOf(); q != nil {
		q.clear()
	}
}

// dropQueue drops the frames of the queue. The lock is held.
func (w *writer) dropQueue() {
	w.clearQueue()
	if w.pending == nil || len(w.pending.frames) == 0 {
		w.noPending()
	}
}

// try sends a whole frame without waiting for the peer: if the socket does not take it at
// once, it waits in the queue.
func (w *writer) try(f queuedFrame) error {
	q := &w.seldomUsed().queue
	if !w.lock.TryLock() {
		if err := w.enqueue(q, f); err != nil {
			return err
		}
		w.urgent.request()
		if w.lock.TryLock() {
			w.releaseNow()
		}
		return nil
	}
	defer w.releaseNow()
	if err := w.check(); err != nil {
		return err
	}
	if w.openMessage() != nil || w.hasPending.Load() {
		err := w.enqueue(q, f)
		w.flushSoon()
		return err
	}
	if err := q.fits(f, w.timer.timeouts.sendQueue); err != nil {
		return err
	}
	if w.compression() != nil {
		return w.writeCompressedNow(q, f)
	}
	return w.writeNow(q, f, false)
}

// writeNow writes as much of a frame as the socket takes at once, and the rest becomes pending. A
// frame of which nothing was written goes into the queue. If it is ordered (see isOrdered), it
// becomes pending instead, because other goroutines can put frames into the queue before it. The
// lock is held, and nothing is pending.
func (w *writer) writeNow(q *sendQueue, f queuedFrame, ordered bool) error {
	if endsMessage(f.bytes) {
		w.unsent++
	}
	size := len(f.bytes)
	w.showCounts(size)
	n, err := w.socketNow(f.bytes)
	if n < size {
		w.takeBack(size - n)
	}
	toQueue := n == 0 && !ordered
	if n == size || toQueue { // the queue counts its messages when they leave it
		w.unsent = 0
	}
	if !toQueue { // the encoder learns a queued frame when it leaves the queue
		w.learn(f.alone)
	}
	switch {
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		return w.failed(err)
	case n == size:
		return nil
	case toQueue:
		err = w.enqueue(q, f)
		w.flushSoon()
		return err
	}
	w.keep(ownFrame(f.bytes, n, f.shared))
	return nil
}

// socketNow is socket.writeNow, but the user's write deadline does not apply to it.
func (w *writer) socketNow(p []byte) (int, error) {
	n, err := w.socket.writeNow(p, false)
	if err != errors.ErrUnsupported || !w.socket.hasDeadline(bySender) || !w.socket.exact() {
		return n, err
	}
	w.socket.writeAs(byLibrary) // the deadline may have passed
	defer w.socket.writeAs(bySender)
	return w.socket.writeNow(p, false)
}

// ownFrame returns the bytes that become pending after n bytes of a frame were written, and how
// many of them are written already. A shared frame is not copied, unless its size is that of a
// pooled buffer, because releaseFrames would then put it into a pool.
func ownFrame(frame []byte, n int, shared bool) (b []byte, written int) {
	if shared && len(frame) != frameBufferSize && len(frame) != pendingSize {
		return frame[:len(frame):len(frame)], n
	}
	rest := frame[n:]
	return append(withRoom(nil, len(rest)), rest...), 0
}

// flushSoon makes the goroutine of the flush timer write what is pending, and the queue,
// unless a MessageWriter is open. The lock is held.
func (w *writer) flushSoon() {
	if w.openMessage() == nil {
		w.flushIn(0)
	}
}

// releaseNow unlocks the writer. It leaves what is urgent to the goroutine of the flush
// timer, because the caller must not wait.
func (w *writer) releaseNow() {
	for {
		if w.urgent.any.Swap(false) {
			w.flushIn(0) // it makes a new request, so nothing is lost if the lock is held then
		}
		w.lock.Unlock()
		if !w.urgent.any.Load() || !w.lock.TryLock() {
			return
		}
	}
}

// wroteAll reports whether everything that was to be sent has been written, with the pings.
func (w *writer) wroteAll() bool {
	if w.urgent.any.Load() || !w.lock.TryLock() {
		return false
	}
	defer w.releaseNow()
	return !w.hasPending.Load()
}

// writeQueue writes the pending frames, and then the queue with the given number of writes at most.
// It does not write frames that are queued meanwhile, so that it ends although other goroutines go
// on sending. It writes nothing of the queue while a MessageWriter is open, because the queued
// messages come after the message of that MessageWriter. The lock is held.
func (w *writer) writeQueue(by caller, writes int) error {
	left := w.queueOf().len()
	for w.hasPending.Load() && !w.broken {
		if b := w.pendingFrames(); len(b) > 0 {
			if err := w.flush(by, b, nil, len(b)); err != nil {
				return err
			}
			continue
		}
		if w.openMessage() != nil {
			return nil
		}
		b, frames, messages := w.takeQueued(left)
		if frames == 0 {
			break
		}
		w.unsent += messages
		if err := w.flush(by, b, nil, len(b)); err != nil {
			return err
		}
		if left, writes = left-frames, writes-1; writes == 0 {
			break
		}
		if w.urgent.any.Load() { // pings and pongs do not wait for the queue
			ping, pong, _ := w.urgent.take()
			w.sendControls(by, ping, pong)
		}
	}
	if !w.broken && len(w.pendingFrames()) == 0 && !w.noPending() {
		w.flushSoon() // urgent.take may have cleared the request of a sender that came meanwhile
	}
	return nil
}

// allWrites is how many writes writeQueue needs for all of the queue.
const allWrites = math.MaxInt
