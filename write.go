package websocket

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// fragmentSize is how much a MessageWriter gathers for a frame. It limits the memory
// of a message that is being written.
const fragmentSize = 4096

// A writer is the sending side of a connection. send is for the frames of sending methods that wait,
// try for those of TrySend and Broadcast, and sendOwn for the control frames of the library.
type writer struct {
	*core
	lock    wait.Lock // held for one frame at a time; guards what is not atomic
	pending *pending  // nil before a frame waits or a MessageWriter is opened

	frameBuffered atomic.Bool // the read buffer holds a complete frame: see mayWait
	hasPending    atomic.Bool // there are pending frames
	tally         tally       // messages and bytes that were written
	unsent        uint16      // messages among the frames that wait to be written, in less than 128 KiB
	coalescing    bool        // see WriteCoalescing
	broken        bool        // a write has failed
	stopped       bool        // see stop
	keepsRest     bool        // the frame in send is one of sendWhole
	begun         bool        // a part of that frame was written
	acksTold      acksTold    // see tellsAcks

	urgent urgent
}

// acquire locks the writer, unless the connection ends or the user's write deadline
// passes before it is free.
func (w *writer) acquire() error {
	if w.lock.TryLock() {
		return nil
	}
	return w.awaitLock()
}

// awaitLock is acquire for a lock that is held. It is a function of its own, like closedFor, so
// that the compiler inlines the common case: the calls would be a twentieth of the cost of a
// message that is one of many (binary-16B-batched in benchmarks/).
func (w *writer) awaitLock() error {
	if w.lock.LockUnless(w.life.over.Done(), w.socket.userWriteExpired()) {
		return nil
	}
	if w.urgent.any.Load() {
		w.flushUrgent(bySender) // the lock may have been handed to this goroutine, which did not take it
	}
	if w.life.err() != nil {
		return w.ended()
	}
	return errWriteDeadline
}

// release unlocks the writer, and first sends what is urgent. A frame that becomes
// urgent after the last check is not lost: either its goroutine finds the lock free
// and sends it, or this loop sends it. by is the call that holds the lock.
func (w *writer) release(by caller) {
	for {
		if w.urgent.any.Load() {
			w.sendUrgent(by)
		}
		w.lock.Unlock()
		if !w.urgent.any.Load() || !w.lock.TryLock() {
			return
		}
	}
}

// check returns the reason if no message can be sent, or nil.
func (w *writer) check() error {
	if w.life.current() == phaseOpen {
		return nil
	}
	return w.closedFor()
}

// closedFor is check for a connection that is not open.
func (w *writer) closedFor() error {
	if w.life.current() != phaseCloseSent {
		return w.ended()
	}
	code, _ := w.life.closeSent()
	return &closedError{CloseError: CloseError{Code: code}}
}

// ended returns why the connection has ended, or lost its peer, as senders see it.
func (w *writer) ended() error {
	err := w.life.sendErr()
	if errors.Is(err, errTimedOut) {
		return cutOffError{err}
	}
	return err
}

// send sends one frame of a user: it writes the frame with those that are pending, or
// makes it pending too. The lock is held. A small frame that is written at once is written
// here and not by flush, because another function would take stack (TestConn_stack_stays_small).
func (w *writer) send(h *Header, payload []byte) error {
	if w.broken {
		return w.ended()
	}
	// With a deadline, no frame of a user waits, because its sender could not learn that the
	// deadline has passed.
	wait := w.mayWait(h) && !w.socket.hasDeadline(bySender) && w.queued() == 0
	if wait && w.appendPending(h, payload) { // as sendPending would, but without that call
		return nil
	}
	if wait || w.hasPending.Load() {
		return w.sendPending(bySender, h, payload, wait, false)
	}
	if len(payload) > maxCopied {
		return w.sendLarge(h, payload)
	}
	w.count(h)
	b := append(h.append(frameBuffers.Get().(*[frameBufferSize]byte)[:0], int64(len(payload))), payload...)
	w.showCounts(len(b))
	w.timer.beginWrite()
	n, err := w.socket.Write(b)
	w.timer.endWrite()
	if err != nil {
		return w.notSent(b, n, err)
	}
	w.unsent = 0
	releaseFrames(b)
	return nil
}

// sendLarge is send for a frame that is written at once, and whose payload is not copied.
func (w *writer) sendLarge(h *Header, payload []byte) error {
	w.count(h)
	return w.flush(bySender, h.append(frameBuffers.Get().(*[frameBufferSize]byte)[:0], int64(len(payload))), payload, 0)
}

// notSent is notWritten for a frame that send has written itself. It exists because the many
// arguments of notWritten would enlarge the stack frame of send.
func (w *writer) notSent(b []byte, n int, err error) error {
	return w.notWritten(bySender, b, nil, n, 0, err)
}

// sendOwn sends a control frame of the library, or a close frame, whole: if a deadline of
// the call cuts the write off, the rest stays pending. The lock is held.
func (w *writer) sendOwn(by caller, h *Header, payload []byte) error {
	if w.broken {
		return w.ended()
	}
	if w.leavesToTimer(by) {
		w.leaveToTimer(h, payload)
		return nil
	}
	if wait := w.mayWait(h) && w.life.err() == nil; wait || w.hasPending.Load() {
		return w.sendPending(by, h, payload, wait, true)
	}
	b := append(h.append(frameBuffers.Get().(*[frameBufferSize]byte)[:0], int64(len(payload))), payload...)
	return w.flush(by, b, nil, len(b))
}

// flush writes b, which begins with the pending frames, and then payload. The first accepted bytes
// of b are frames whose senders were told that they are sent, or frames of the library. If the
// deadline of the call cuts those off, the rest of them stays pending. The lock is held.
func (w *writer) flush(by caller, b, payload []byte, accepted int) (err error) {
	n, m := 0, 0
	if w.hasPending.Load() {
		n = w.takePending()
	}
	if by != bySender {
		w.socket.writeAs(by)
	}
	w.showCounts(len(b) - n + len(payload))
	switch {
	case payload != nil:
		m, err = w.socket.writeLarge(b[n:], payload, w.timer.beginLargeWrite())
	case len(b) > pendingSize:
		m, err = w.socket.writeLarge(nil, b[n:], w.timer.beginLargeWrite())
	default:
		w.timer.beginWrite()
		m, err = w.write(by, b[n:])
	}
	w.timer.endWrite()
	if by != bySender {
		w.socket.writeAs(bySender)
	}
	if err != nil {
		return w.notWritten(by, b, payload, n+m, accepted, err)
	}
	w.unsent = 0
	releaseFrames(b) // not deferred, because that takes stack (TestConn_stack_stays_small)
	return nil
}

// write writes p. If the end of the stream follows at once, the last frame leaves in one packet with
// it, and so may the frames before it. That takes up to a twentieth less time for a whole connection
// (the row handshake in benchmarks/), and wakes the peer once.
func (w *writer) write(by caller, p []byte) (int, error) {
	if by != byEnding {
		return w.socket.Write(p)
	}
	n, err := w.socket.writeNow(p, true)
	if n == len(p) || err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return n, err
	}
	m, err := w.socket.Write(p[n:])
	return n + m, err
}

// notWritten returns the error of a sender whose write has returned err after n bytes of
// flush's b and payload.
func (w *writer) notWritten(by caller, b, payload []byte, n, accepted int, err error) error {
	w.takeBack(len(b) + len(payload) - n)
	switch {
	case w.mayContinue(by, err, n, accepted):
		if accepted < len(b) && endsMessage(b[accepted:]) {
			w.unsent-- // the frame of the call is not sent at all
		}
		if n == accepted {
			w.showCounts(0)
			w.unsent = 0
		}
		w.keep(b[:accepted], n)
		return w.cutOff()
	case w.keepsRest && n > accepted && w.expiredExactly(err):
		w.keepRest(b, payload, n)
		return w.cutOff()
	}
	w.unsent = 0
	releaseFrames(b)
	return w.failed(err)
}

// mayContinue reports whether the connection works after a write that returned err: the deadline of
// the call has cut it off before a frame, or inside an accepted one.
func (w *writer) mayContinue(by caller, err error, n, accepted int) bool {
	if !w.expiredExactly(err) {
		return false
	}
	return n == accepted || n < accepted && (by == bySender || by == byReceiver)
}

// expiredExactly reports whether err is an expired deadline after which it is known how much
// was written.
func (w *writer) expiredExactly(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && w.socket.exact() && !w.socket.writesOver()
}

// sendWhole is send for a Stream. If a deadline cuts its frame off, the rest is sent later,
// before anything else, and begun is true together with the error. The lock is held.
func (w *writer) sendWhole(h *Header, payload []byte) (begun bool, err error) {
	w.keepsRest = true
	err = w.sendData(h, payload)
	begun, w.keepsRest, w.begun = w.begun, false, false
	return begun, err
}

// keepRest is keep for the frame of sendWhole, which is at the end of b, or in b and payload. It
// makes a copy, because payload belongs to the caller.
func (w *writer) keepRest(b, payload []byte, n int) {
	fromPayload := max(n-len(b), 0)
	rest := withRoom(nil, len(b)-min(n, len(b))+len(payload)-fromPayload)
	rest = append(append(rest, b[min(n, len(b)):]...), payload[fromPayload:]...)
	releaseFrames(b)
	w.begun = true
	w.keep(rest, 0)
}

// keep keeps the accepted frames b pending, of which n bytes are written. The flush timer
// writes the rest, because its goroutine has no deadline.
func (w *writer) keep(b []byte, n int) {
	if n == len(b) {
		releaseFrames(b)
		return
	}
	p := w.pendingOf()
	p.frames, p.written, p.unawaited = b, n, true
	w.hasPending.Store(true)
	w.flushIn(0)
}

// cutOff returns the error of a sender whose deadline has passed on a connection that
// still works.
func (w *writer) cutOff() error {
	if w.life.err() != nil {
		return w.ended()
	}
	return errWriteDeadline
}

// failed returns the error of a sender whose write has failed. A part of a frame may have
// been sent, or the socket does not work any more, so nothing else can be sent.
func (w *writer) failed(err error) error {
	w.broken = true
	switch {
	case w.life.err() != nil:
		return w.ended()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errFrameCutOff
	default:
		err = &connError{"sending", err}
	}
	if w.timer.enter(phaseLost, err, pingPoll) {
		w.timer.noteReadNow(clock())                  // the handler receives what has arrived before silence ends the phase
		w.socket.limitReads(time.Now().Add(pingPoll)) // a goroutine may be waiting for the peer
	}
	return w.ended()
}

// stop ends the flush timer for good and waits until it does not run. The connection
// has ended, so no more frames become pending.
func (w *writer) stop() {
	w.lock.Lock()
	w.stopped = true
	p := w.pending
	w.dropQueue()
	w.returnEncoder()
	w.release(byLibrary)
	if w.compression() != nil {
		w.compression().idle.Stop()
		w.compression().idle.Wait()
	}
	if p != nil {
		p.flushTimer.Stop()
		p.flushTimer.Wait()
	}
}

// acksTold says whether the system reports what the peer has acknowledged.
type acksTold byte

const (
	notAsked acksTold = iota
	acksKnown
	acksUnknown
)

// tellsAcks reports whether the kernel reports what the peer has acknowledged. The answer does not
// change, and the progress of each piece of a slow write needs it, so the system is asked once.
// The lock is held.
func (w *writer) tellsAcks() bool {
	if w.acksTold == notAsked {
		w.acksTold = acksUnknown
		if _, ok := w.socket.acked(); ok {
			w.acksTold = acksKnown
		}
	}
	return w.acksTold == acksKnown
}

// count counts a frame that is about to be written, or to become pending. The lock is held.
func (w *writer) count(h *Header) {
	if h.Fin && !h.Opcode.IsControl() {
		w.unsent++
	}
}

// showCounts adds the counts to the tally before n bytes are written, because the peer may get
// them and ask for Stats before the write returns. If all of them are written, the caller has to
// clear unsent, and otherwise call takeBack.
func (w *writer) showCounts(n int) {
	w.tally.add(uint64(w.unsent)*oneMessage+uint64(n), w.core, sending)
}

// takeBack takes back n bytes that could not be written, and the messages that were in the write.
func (w *writer) takeBack(n int) {
	w.tally.packed.Store(w.tally.packed.Load() - uint64(w.unsent)*oneMessage - uint64(n))
}

func (w *writer) counted() counts { return w.countsOf(&w.tally, sending) }
