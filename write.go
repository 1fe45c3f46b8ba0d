package websocket

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// Writing is most of what a small message costs. If the peer sends many messages at
// once, the replies wait for each other and leave in one write: while the read
// buffer holds another complete frame, the handler is about to receive that frame,
// and then it either sends more or waits for the peer, which writes what is pending.
// The flush timer is for a handler that does neither.
const (
	pendingSize = 64 << 10
	pendingTime = 100 * time.Microsecond
)

// fragmentSize is how much a MessageWriter gathers for a frame. It limits the memory
// of a message that is being written.
const fragmentSize = 4096

// pendingBuffers are for more frames than one of frameBuffers holds. A small frame does
// not take one, because a blocked write must not hold 64 KiB for it.
var pendingBuffers = sync.Pool{New: func() any { return new([pendingSize]byte) }}

// A writer is the sending side of a connection. All frames leave through send.
type writer struct {
	*core
	lock        wait.Lock     // held for one frame at a time; guards what is not atomic
	openMessage chan struct{} // closed when the open MessageWriter ends; nil without one
	pending     *pending      // frames that wait to be written together, nil before the first

	frameBuffered atomic.Bool // the read buffer holds a complete frame: see mayWait
	hasPending    atomic.Bool // there are pending frames
	tally         tally       // messages and bytes that were written
	unsent        uint32      // messages among the frames that wait to be written
	coalescing    bool        // see WriteCoalescing
	broken        bool        // a write has failed

	urgent urgent
}

// pending is allocated on demand, because most peers wait for each answer.
type pending struct {
	frames     []byte
	flushTimer wait.Alarm[writer]
}

// urgent is what other goroutines want the holder of the writer's lock to send
// before it unlocks. It is at most a ping, a pong and a flush: RFC 6455 section 5.5.3
// lets an endpoint answer only the latest ping, so a flood of pings takes no memory.
type urgent struct {
	mu    sync.Mutex
	any   atomic.Bool
	ping  bool
	flush bool         // the pending frames
	pong  *pongPayload // nil for none
}

// A pongPayload is the payload of a pong frame.
type pongPayload struct {
	payload [maxControlPayload]byte
	size    byte
}

var errWriteDeadline = fmt.Errorf("websocket: sending: %w", os.ErrDeadlineExceeded)

// acquire locks the writer, unless the connection ends or the user's write deadline
// passes before it is free.
func (w *writer) acquire() error {
	if w.lock.TryLock() {
		return nil
	}
	if w.lock.LockUnless(w.life.over.Done(), w.socket.userWriteExpired()) {
		return nil
	}
	if w.urgent.any.Load() {
		w.flushUrgent() // the lock may have been handed to this goroutine, which did not take it
	}
	if w.life.err() != nil {
		return w.ended()
	}
	return errWriteDeadline
}

// acquireForMessage locks the writer while no MessageWriter is open, and checks
// that a message can be sent.
func (w *writer) acquireForMessage() error {
	for {
		if err := w.acquire(); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			w.release()
			return err
		}
		open := w.openMessage
		if open == nil {
			return nil
		}
		w.release()
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
	defer w.release()
	w.openMessage = make(chan struct{})
	return w.openMessage, nil
}

// closeStream ends the message, unless a close frame has ended it. The lock is held.
func (w *writer) closeStream(ended chan struct{}) {
	if w.openMessage == ended {
		w.openMessage = nil
		close(ended)
	}
}

// release unlocks the writer, and first sends what is urgent. A frame that becomes
// urgent after the last check is not lost: either its goroutine finds the lock free
// and sends it, or this loop sends it.
func (w *writer) release() {
	for {
		if w.urgent.any.Load() {
			w.sendUrgent()
		}
		w.lock.Unlock()
		if !w.urgent.any.Load() || !w.lock.TryLock() {
			return
		}
	}
}

// check returns the reason if no message can be sent, or nil.
func (w *writer) check() error {
	switch p := w.life.current(); {
	case p == phaseOpen:
		return nil
	case p == phaseCloseSent:
		code, _ := w.life.closeSent()
		return &closedError{CloseError: CloseError{Code: code}}
	}
	return w.ended()
}

// ended returns why the connection has ended, or lost its peer, as senders see it.
func (w *writer) ended() error {
	err := w.life.sendErr()
	if errors.Is(err, errTimedOut) {
		return cutOffError{err}
	}
	return err
}

// control sends a control frame of the library, to which the user's write deadline does not
// apply. The lock is held.
func (w *writer) control(op Opcode, payload []byte) error {
	before := w.socket.writeOwn(true)
	err := w.send(&Header{Fin: true, Opcode: op}, payload)
	w.socket.writeOwn(before)
	return err
}

// close sends a close frame, the last frame of this side, after all urgent and pending
// frames. The lock is held.
func (w *writer) close(payload []byte) error {
	if w.urgent.any.Load() {
		w.sendUrgent()
	}
	w.noteClose(payload)
	return w.control(Close, payload)
}

// noteClose notes that a close frame is about to be sent. It comes before the frame
// is written, because its answer may be read before the write returns. The lock is
// held.
func (w *writer) noteClose(payload []byte) {
	code := StatusNoStatusReceived
	if len(payload) >= 2 {
		code = StatusCode(payload[0])<<8 | StatusCode(payload[1])
	}
	if !w.life.noteCloseSent(code) {
		return
	}
	if w.openMessage != nil {
		w.closeStream(w.openMessage) // its message cannot be finished any more
	}
	limit := w.timer.timeouts.closeTimeout
	if w.life.received.Load() {
		limit = 0 // the peer has sent its close frame already
	}
	w.timer.enter(phaseCloseSent, nil, limit)
}

// pong answers a ping. It does not wait for the lock. payload is only read until it
// returns.
func (w *writer) pong(payload []byte) {
	if !w.lock.TryLock() {
		w.urgent.setPong(payload)
		w.flushUrgent()
		return
	}
	defer w.release()
	if w.check() == nil {
		w.control(Pong, payload)
	}
}

// ping sends a ping. It does not wait for the lock.
func (w *writer) ping() {
	u := &w.urgent
	u.mu.Lock()
	u.ping = true
	u.any.Store(true)
	u.mu.Unlock()
	w.flushUrgent()
}

// requestFlush writes what is pending. It does not wait for the lock.
func (w *writer) requestFlush() {
	u := &w.urgent
	u.mu.Lock()
	u.flush = true
	u.any.Store(true)
	u.mu.Unlock()
	w.flushUrgent()
}

// flushUrgent sends what is urgent, unless the holder of the lock is about to.
func (w *writer) flushUrgent() {
	if w.lock.TryLock() {
		w.release()
	}
}

func (u *urgent) setPong(payload []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pong == nil {
		u.pong = new(pongPayload)
	}
	u.pong.size = byte(copy(u.pong.payload[:], payload))
	u.any.Store(true)
}

func (u *urgent) take() (ping bool, pong *pongPayload, flush bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ping, pong, flush = u.ping, u.pong, u.flush
	u.ping, u.pong, u.flush = false, nil, false
	u.any.Store(false)
	return ping, pong, flush
}

// sendUrgent sends what is urgent: the pending frames first, then a pong, which is
// also sent ahead of the last close frame of a connection that is ending. What
// cannot be sent any more is dropped. The lock is held.
func (w *writer) sendUrgent() {
	ping, pong, flush := w.urgent.take()
	if flush {
		w.writePending()
	}
	if _, closed := w.life.closeSent(); pong != nil && !closed {
		w.control(Pong, pong.payload[:pong.size])
	}
	if ping && w.check() == nil {
		w.control(Ping, nil)
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

// writePending writes what is pending. The lock is held.
func (w *writer) writePending() {
	if w.hasPending.Load() && !w.broken {
		w.flush(w.pending.frames, nil, true)
	}
}

// beforeWait writes what is pending, because the goroutine that receives is about to
// wait for the peer. Until it comes back, no frame may wait for another.
func (w *writer) beforeWait() {
	w.noteBuffered(false)
	if w.hasPending.Load() {
		w.requestFlush()
	}
}

// mayWait reports whether a frame may wait for the next one.
func (w *writer) mayWait(h *Header) bool {
	return w.frameBuffered.Load() && w.coalescing && h.Opcode&opcodeBits != Close &&
		!w.socket.hasWriteDeadline.Load() && w.life.err() == nil
}

// send sends one frame: it writes the frame with those that are pending, or makes
// it pending too. The lock is held. The path of a frame that is written at once is in
// this function, because another function would take stack (TestConn_stack_stays_small).
func (w *writer) send(h *Header, payload []byte) error {
	if w.broken {
		return w.ended()
	}
	wait := w.mayWait(h)
	if wait || w.hasPending.Load() {
		return w.sendPending(h, payload, wait)
	}
	w.count(h)
	b := h.append(frameBuffers.Get().(*[frameBufferSize]byte)[:0], int64(len(payload)))
	if len(payload) > maxCopied {
		return w.flush(b, payload, false)
	}
	return w.flush(append(b, payload...), nil, false)
}

// sendPending is send for a frame that may wait, or that others wait for.
func (w *writer) sendPending(h *Header, payload []byte, wait bool) error {
	b := w.pendingFrames()
	size := maxHeaderSize + len(payload)
	if wait && len(b) > 0 && size <= cap(b)-len(b) { // as most frames that wait
		w.count(h)
		w.pending.frames = append(h.append(b, int64(len(payload))), payload...)
		return nil
	}
	fits := size <= pendingSize-len(b)
	if len(b) > 0 && (!fits && len(payload) <= maxCopied || w.socket.hasWriteDeadline.Load()) {
		if err := w.flush(b, nil, true); err != nil {
			return err
		}
		return w.send(h, payload)
	}
	w.count(h)
	if !fits {
		return w.flush(h.append(withRoom(b, maxHeaderSize), int64(len(payload))), payload, len(b) > 0)
	}
	first := len(b) == 0
	b = append(h.append(withRoom(b, size), int64(len(payload))), payload...)
	if !wait {
		return w.flush(b, nil, true)
	}
	w.pending.frames = b
	if first {
		w.hasPending.Store(true)
		w.pending.flushTimer.Set(pendingTime, w, (*writer).requestFlush)
	}
	return nil
}

// pendingFrames returns the frames that are pending.
func (w *writer) pendingFrames() []byte {
	if w.pending == nil {
		w.pending = new(pending)
	}
	return w.pending.frames
}

// withRoom returns the pending frames b with capacity for size bytes more. If that is more
// than pendingSize in total, the capacity has to grow.
func withRoom(b []byte, size int) []byte {
	need := len(b) + size
	switch {
	case need <= cap(b):
		return b
	case need <= frameBufferSize:
		return frameBuffers.Get().(*[frameBufferSize]byte)[:0]
	}
	larger := append(pendingBuffers.Get().(*[pendingSize]byte)[:0], b...)
	releaseFrames(b)
	return larger
}

// releaseFrames returns a buffer of withRoom to its pool.
func releaseFrames(b []byte) {
	switch cap(b) {
	case frameBufferSize:
		frameBuffers.Put((*[frameBufferSize]byte)(b[:cap(b)]))
	case pendingSize:
		pendingBuffers.Put((*[pendingSize]byte)(b[:cap(b)]))
	}
}

// flush writes b, which begins with the pending frames, and payload behind it.
// accepted says whether b holds frames whose senders were told that they are sent:
// the user's deadline is not for those, and none of them can be taken back. The
// lock is held.
func (w *writer) flush(b, payload []byte, accepted bool) (err error) {
	n, before := 0, false
	if accepted {
		w.pending.flushTimer.Clear()
		before = w.socket.writeOwn(true)
	}
	size, messages := len(b)+len(payload), w.unsent
	w.showCounts(size)
	w.timer.beginWrite()
	if payload == nil {
		n, err = w.socket.Write(b)
	} else {
		n, err = w.socket.writeBoth(b, payload)
	}
	w.timer.endWrite()
	releaseFrames(b) // not deferred, because that takes stack (TestConn_stack_stays_small)
	if accepted {
		w.socket.writeOwn(before)
		w.pending.frames = nil
		w.hasPending.Store(false)
	}
	if err != nil {
		w.takeBack(size-n, messages)
		return w.failed(err, accepted || w.socket.partial(n))
	}
	return nil
}

// failed returns the error of a sender whose write has failed. If a part of a frame
// may have been sent, or the socket does not work any more, nothing else can be
// sent.
func (w *writer) failed(err error, partial bool) error {
	expired := errors.Is(err, os.ErrDeadlineExceeded)
	w.broken = w.broken || partial || !expired
	switch {
	case w.life.err() != nil:
		return w.ended()
	case expired && !partial:
		return errWriteDeadline
	case expired:
		err = &connError{"sending: the deadline cut a frame off", errTimedOut}
	default:
		err = &connError{"sending", err}
	}
	if w.timer.enter(phaseLost, err, pingPoll) {
		w.timer.noteReadNow(clock())                  // quietFor in Conn.lostPassed counts from here
		w.socket.limitReads(time.Now().Add(pingPoll)) // a goroutine may be waiting for the peer
	}
	return w.ended()
}

// stop ends the flush timer for good and waits until it does not run. The connection
// has ended, so no more frames become pending.
func (w *writer) stop() {
	w.lock.Lock()
	p := w.pending
	w.release()
	if p != nil {
		p.flushTimer.Stop()
		p.flushTimer.Wait()
	}
}
