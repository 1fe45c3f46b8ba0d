package websocket

import (
	"sync"
	"sync/atomic"
)

// urgent is what other goroutines want the holder of the writer's lock to send
// before it unlocks. It is at most a ping, a pong and a flush: RFC 6455 section 5.5.3
// lets an endpoint answer only the latest ping, so a flood of pings takes no memory.
type urgent struct {
	mu    sync.Mutex
	any   atomic.Bool
	ping  bool
	flush bool                        // the pending frames
	pong  atomic.Pointer[pongPayload] // nil for none; mu guards changes, and the payload
}

// A pongPayload is the payload of a pong frame.
type pongPayload struct {
	payload [maxControlPayload]byte
	size    byte
}

// pong answers a ping. It does not wait for the lock. payload is only read until it
// returns.
func (w *writer) pong(by caller, payload []byte) {
	if !w.lock.TryLock() {
		w.urgent.setPong(payload)
		w.flushUrgent(by)
		return
	}
	defer w.release(by)
	w.urgent.dropPong()
	if w.check() == nil {
		w.sendOwn(by, &Header{Fin: true, Opcode: Pong}, payload)
	}
}

// ping sends a ping. It does not wait for the lock.
func (w *writer) ping() {
	u := &w.urgent
	u.mu.Lock()
	u.ping = true
	u.any.Store(true)
	u.mu.Unlock()
	w.flushUrgent(byLibrary)
}

// flushByTimer writes what is pending, on the goroutine of the flush timer.
func (w *writer) flushByTimer() { w.requestFlush(byLibrary) }

// requestFlush writes what is pending. It does not wait for the lock.
func (w *writer) requestFlush(by caller) {
	u := &w.urgent
	u.mu.Lock()
	u.flush = true
	u.any.Store(true)
	u.mu.Unlock()
	w.flushUrgent(by)
}

// flushUrgent sends what is urgent, unless the holder of the lock is about to.
func (w *writer) flushUrgent(by caller) {
	if w.lock.TryLock() {
		w.release(by)
	}
}

// request asks the holder of the lock to look for what is urgent, for the calls of Ping, and
// for the queue.
func (u *urgent) request() { u.any.Store(true) }

func (u *urgent) setPong(payload []byte) {
	u.keepPong(payload)
	u.request()
}

// keepPong is setPong, but does not ask the holder of the lock.
func (u *urgent) keepPong(payload []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pong.Load()
	if p == nil {
		p = new(pongPayload)
		u.pong.Store(p)
	}
	p.size = byte(copy(p.payload[:], payload))
}

// dropPong drops a pong that was left to the flush timer, because a later one is about to be sent.
func (u *urgent) dropPong() {
	if u.pong.Load() == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pong.Store(nil)
}

// waits reports whether there is something to send. releaseNow and keepPong have left it to the
// flush timer.
func (u *urgent) waits() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ping || u.pong.Load() != nil
}

func (u *urgent) take() (ping bool, pong *pongPayload, flush bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ping, pong, flush = u.ping, u.pong.Swap(nil), u.flush
	u.ping, u.flush = false, false
	u.any.Store(false)
	return ping, pong, flush
}

// sendUrgent sends what is urgent: the pending frames first, then the controls, and then the
// queue. The lock is held.
func (w *writer) sendUrgent(by caller) {
	ping, pong, flush := w.urgent.take()
	if flush {
		w.flushPending(by)
	}
	w.sendControls(by, ping, pong)
	w.sendQueued(by)
}

// sendControls sends pings, and a pong, which is also sent ahead of the last close frame of a
// connection that is ending. It drops frames that cannot be sent any more. The lock is held.
func (w *writer) sendControls(by caller, ping bool, pong *pongPayload) {
	if _, closed := w.life.closeSent(); pong != nil && !closed {
		w.sendOwn(by, &Header{Fin: true, Opcode: Pong}, pong.payload[:pong.size])
	}
	if ping && w.check() == nil {
		w.sendOwn(by, &Header{Fin: true, Opcode: Ping}, nil)
	}
	w.sendRequestedPings(by)
}

// flushPending writes what is pending, or leaves that to the flush timer if the call
// must not wait for it. The lock is held.
func (w *writer) flushPending(by caller) {
	switch {
	case w.broken || len(w.pendingFrames()) == 0:
	case w.leavesToTimer(by):
		w.flushIn(0)
	default:
		w.flush(by, w.pending.frames, nil, len(w.pending.frames))
	}
}

// sendQueued writes from the queue once, if this is a goroutine of the library. Other calls
// leave it to the flush timer, because they must not wait for messages that are not theirs.
// The lock is held.
func (w *writer) sendQueued(by caller) {
	switch {
	case w.openMessage() != nil || w.queued() == 0:
	case by != byLibrary && by != byEnding:
		w.flushSoon()
	default:
		w.writeQueue(by, 1) // other goroutines may take the lock before the next write
	}
}

// leavesToTimer reports whether frames that do not belong to the call are left to the goroutine of
// the flush timer. Their write must not delay a call that has a deadline. Over TLS it cannot be cut
// off either, because that would end the connection. A receiving method does not wait for the rest of a
// frame whose sender has not waited. The lock is held.
func (w *writer) leavesToTimer(by caller) bool {
	leaves := w.socket.hasDeadline(by) || by == byReceiver && w.pending != nil && w.pending.unawaited
	return leaves && !w.stopped && w.life.err() == nil
}

// requestPings sends the pings of the calls that wait. It does not wait for the lock.
func (w *writer) requestPings() {
	w.urgent.request()
	w.flushUrgent(byLibrary)
}

// sendRequestedPings sends the ping of each call that waits. The lock is held.
func (w *writer) sendRequestedPings(by caller) {
	p := w.waitingPings()
	if p == nil || w.check() != nil {
		return
	}
	for payload := p.next(); payload != nil; payload = p.next() {
		w.sendOwn(by, &Header{Fin: true, Opcode: Ping}, payload)
	}
}
