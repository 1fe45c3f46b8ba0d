package websocket

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// timeouts are how long a connection waits for its peer, 0 for no limit, and how many bytes may
// wait for the peer.
type timeouts struct {
	sendQueue         int
	pingInterval      time.Duration
	closeTimeout      time.Duration
	connectionTimeout time.Duration
	writeTimeout      time.Duration
	maxLifetime       time.Duration
}

// A keepalive is the one timer of a connection. It says when to send a ping, and when a limit has
// passed: silence of the peer, a write, a phase of the closing connection, or MaxLifetime. It reads
// and writes nothing: a tick reschedules the timer and returns what is due, so nothing that the
// connection then does can delay the next tick.
//
// A handler that only sends, or is busy, receives nothing. While no method is receiving, the
// keepalive asks for a poll of the socket each second, so that pings and the peer's close
// frame are answered. It also asks for one before it reports a limit that bytes in the
// socket could extend.
type keepalive struct {
	alarm    wait.Alarm
	core     *core
	timeouts *timeouts

	lastAlive atomic.Int64 // the last sign of life, unless there were manyReads: a byte arrived, or the peer made room for one
	writing   atomic.Int64 // when the piece that is being written began, noTime if there is none; see untimed
	alarmAt   atomic.Int64 // when the alarm rings

	mu        sync.Mutex    // guards the following; nextPoll and recent are also read without it
	nextPing  time.Duration // see pingTick
	pingSent  time.Duration // the first of the pings that have no pong yet, noTime if there is none
	lastPoll  time.Duration // when a poll was asked for
	pollAt    time.Duration // when the next poll is due while no method is receiving
	opened    time.Duration // when the handshake was done
	behind    int32         // see noteBehind
	rtt       uint32        // see Stats, in microseconds
	nextPoll  atomic.Uint32 // pollSet, pollMayGo, pollUnset or pollCancelled
	recent    atomic.Uint32 // since the last tick: noReads, oneRead or manyReads, and oneWrite for each timed write
	spread    uint16        // random: how much before MaxLifetime the connection ends, see endAt
	polled    bool          // the poll of lastPoll has ended
	extended  uint8         // how often extendLost has extended phaseLost
	closeLate bool          // closePaused has extended a phase
	idlePolls uint8         // polls since a method has received
	aged      bool          // the end at MaxLifetime was asked for
	ackNoted  bool          // noteAcks was due in this silence, see renewAcks
}

// While no method is receiving, the socket is polled each pollInterval, and for the first
// time a pollUnit after a method has received.
const (
	pollInterval = time.Second
	pollUnit     = pollInterval / 2
)

// The states of keepalive.nextPoll. Each receiving call that reads could cancel the next poll, and
// its end could set it again, but that costs more than a small message. So the poll is cancelled once
// between two ticks. If a connection has few messages, no tick follows them: the process is not
// woken, and the ticks of many connections at once take no stacks, which would stay in memory.
const (
	pollSet       uint32 = iota // the alarm is set for the next poll
	pollMayGo                   // the same, and the next receiving call that reads cancels it
	pollUnset                   // the next end of a receiving call has to set the alarm
	pollCancelled               // the same, and a poll was cancelled since the last tick
)

// due is what a tick asks for.
type due struct {
	ping      bool
	rest      bool // the connection may have been quiet for a PingInterval, see tlsTransport
	poll      bool
	end       bool // the connection has reached MaxLifetime
	limit     limitPassed
	acks      ackStep
	write     writeStep
	idlePolls uint8 // polls before this one since a method has received
}

// A limitPassed is a limit that has passed, 0 if none has.
type limitPassed byte

const (
	phasePassed   limitPassed = 1 + iota // the time of the phase is over
	writePassed                          // one write has taken WriteTimeout
	silencePassed                        // nothing has arrived for ConnectionTimeout
)

// maxPoll is how long a limit waits for the end of its poll. The poll may be late, because the
// process did not run, or because the poll writes.
const maxPoll = 100 * time.Millisecond

// blockedTime is the least duration of a write that counts as having waited for room in the
// socket. A write for which there is room takes microseconds.
const blockedTime = 10 * time.Millisecond

// start starts the keepalive of c. ring is called when something is due, and does its work in
// alarm.Do.
func (k *keepalive) start(c *core, t *timeouts, ring func()) {
	k.mu.Lock() // until the alarm has its timer, so that the first tick can set it
	defer k.mu.Unlock()
	now := clock()
	k.core, k.timeouts = c, t
	k.lastAlive.Store(int64(now))
	k.opened = now
	k.writing.Store(int64(noTime))
	k.lastPoll, k.pollAt, k.idlePolls = noTime, now+pollInterval, 1
	k.pingSent = noTime
	k.nextPoll.Store(pollUnset)
	k.nextPing = deadlineAfter(now, k.pingTick())
	k.spread = uint16(rand.Uint32())
	k.alarm.Start(k.nextAlarm()-now, ring)
}

// endAt is when the connection reaches the end of its life: after 90 to 100 % of MaxLifetime.
func (k *keepalive) endAt() time.Duration {
	d := k.timeouts.maxLifetime
	if d == 0 || k.aged {
		return never
	}
	early := float64(d) / 10 * float64(k.spread) / (1 << 16)
	return deadlineAfter(k.opened, d-time.Duration(early))
}

// stop ends the timer for good. waitTicks waits for ticks that are running.
func (k *keepalive) stop()      { k.alarm.Stop() }
func (k *keepalive) waitTicks() { k.alarm.Wait() }

func (k *keepalive) life() *life { return &k.core.life }

// run calls f on a goroutine that waitTicks waits for. It does nothing after stop.
func (k *keepalive) run(f func()) { k.alarm.Go(f) }

// enter is life.enter, with a limit d for the phase (0 is no limit) that the timer
// then watches.
func (k *keepalive) enter(p phase, cause error, d time.Duration) bool {
	if !k.life().enter(p, cause, deadlineAfter(clock(), d)) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, by := k.life().until(); int64(by) < k.alarmAt.Load() { // else an earlier tick sets the alarm for it
		k.reschedule()
	}
	return true
}

// bound changes the limit of phase p to d from now on.
func (k *keepalive) bound(p phase, d time.Duration) {
	k.life().bound(p, deadlineAfter(clock(), d))
	k.schedule()
}

// maxExtensions is how often phaseLost is extended: for 0.6 s in total.
const maxExtensions = 6

// closePaused gives a phase in which the connection is closing maxPoll more, once, if this tick is
// late. The process was paused, so what the peer has sent meanwhile may not be read yet.
func (k *keepalive) closePaused(p phase, by, now time.Duration) bool {
	if p < phaseClosing || k.closeLate || now-by < blockedTime {
		return false
	}
	k.closeLate = true
	k.life().bound(p, now+maxPoll)
	return true
}

// extendLost gives phaseLost more time: first pingPoll, and then twice as much each time. There are
// only a few extensions, because each can be late. It reports whether it did.
func (k *keepalive) extendLost() bool {
	k.mu.Lock()
	extended := k.extended
	k.extended = min(extended+1, maxExtensions)
	k.mu.Unlock()
	if extended == maxExtensions {
		return false
	}
	k.bound(phaseLost, pingPoll<<extended)
	return true
}

// Reading the clock would be a fifth of the cost of a small message. So only the first writes after
// a tick note when they begin. Later ones are untimed, and then a tick comes within a tenth of
// WriteTimeout. If a write is in progress, this tick counts as its beginning. So a write may take a
// tenth longer than WriteTimeout, but is never cut off early. If there are only a few writes, no
// such tick is needed.
const (
	oneWrite   = readsMask + 1 // what beginWrite adds to keepalive.recent
	manyWrites = 64 * oneWrite

	untimed  = noTime + 1 // keepalive.writing: a write is in progress, and a tick will note the time
	settling = noTime + 2 // a tick is doing that
)

// writePrecision is the part of WriteTimeout that an untimed write may take longer.
const writePrecision = 10

// beginWrite limits the write that follows to WriteTimeout. A deadline of the socket for each
// write would cost more. While there are many writes, it costs a store and a load.
func (k *keepalive) beginWrite() {
	k.writing.Store(int64(untimed))
	if k.recent.Load() < manyWrites { // in this order: either settleWrites sees the write, or the write sees that it is one of few
		k.timeWrite()
	}
}

// timeWrite notes when the write in progress has begun. The last of the writes that are timed
// sets the alarm for the untimed ones.
func (k *keepalive) timeWrite() {
	now := clock()
	k.pieceBegins(now)
	timeout := k.timeouts.writeTimeout
	if timeout > 0 && k.recent.Add(oneWrite) >= manyWrites && int64(now+part(timeout, writePrecision)) < k.alarmAt.Load() {
		k.schedule()
	}
}

// beginLargeWrite is beginWrite for a frame whose progress is reported.
func (k *keepalive) beginLargeWrite() progress {
	began := clock()
	k.pieceBegins(began)
	return progress{k, began}
}

// settleWrites gives an untimed write that is in progress the time of this tick. Writes that begin
// later are timed again. There are two steps, because another write may begin between them, and
// must not get a time before its beginning.
func (k *keepalive) settleWrites() {
	if k.writing.CompareAndSwap(int64(untimed), int64(settling)) {
		k.writing.CompareAndSwap(int64(settling), int64(clock()))
	}
}

// pieceBegins notes that the write in progress, or its next piece, begins now.
func (k *keepalive) pieceBegins(now time.Duration) {
	k.writing.Store(int64(now))
	if int64(deadlineAfter(now, part(k.timeouts.writeTimeout, 2))) < k.alarmAt.Load() {
		k.schedule()
	}
}

// notePiece implements pieceNoter. The next piece has WriteTimeout again.
func (k *keepalive) notePiece(began time.Duration) {
	now := clock()
	k.noteTaken(began, now)
	k.pieceBegins(now)
}

// endWrite notes that the write has ended. It does not read the clock, see ackStep.
func (k *keepalive) endWrite() { k.writing.Store(int64(noTime)) }

// writeBegan returns when the write in progress, or its piece, has begun. timed is false if there is
// none, or if that time is not known yet.
func (k *keepalive) writeBegan() (began time.Duration, timed bool) {
	began = time.Duration(k.writing.Load())
	return began, began > settling
}

// writeBy is when the write in progress is late.
func (k *keepalive) writeBy() time.Duration {
	if began, timed := k.writeBegan(); timed {
		return deadlineAfter(began, k.timeouts.writeTimeout)
	}
	return never
}

// writesLookBy is when a tick has to look at an untimed write. An alarm that is set already does
// that, and must not be set to a later time, even if it is due and the tick has not begun.
func (k *keepalive) writesLookBy(alarmAt time.Duration) time.Duration {
	return min(alarmAt, deadlineAfter(clock(), part(k.timeouts.writeTimeout, writePrecision)))
}

// schedule sets the alarm to what is due next.
func (k *keepalive) schedule() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reschedule()
}

// reschedule is schedule with k.mu held.
func (k *keepalive) reschedule() {
	if next := k.nextAlarm(); next != never {
		k.alarm.Reset(next - clock())
	} else {
		k.alarm.Clear()
	}
}

// nextAlarm returns when something is due next, and notes it for the reads and writes that begin.
// k.mu is held.
func (k *keepalive) nextAlarm() time.Duration {
	p, by := k.life().until()
	next, last := never, time.Duration(k.alarmAt.Load())
	k.renewAcks()
	if p == phaseOpen {
		next = min(k.nextPing, k.endAt())
	}
	if p <= phaseCloseSent {
		next = min(next, k.pollAt)
	}
	next = min(next, k.noteAcksAt(p, by), k.afterPoll(k.silentBy(p, by)))
	if p == phaseCloseSent {
		by = k.afterPoll(by)
	}
	next = min(next, by)
	// In this order, either this call sees a write that begins meanwhile, or the
	// write sees that the alarm is set too late for it. The same holds for reads.
	k.alarmAt.Store(int64(next))
	next = min(next, k.writeBy(), k.noteWriteAt())
	recent := k.recent.Load()
	if k.silentBy(p, by) != never && recent&readsMask == manyReads {
		next = min(next, k.lookBy())
	}
	if recent >= manyWrites {
		next = min(next, k.writesLookBy(last))
	}
	k.alarmAt.Store(int64(next))
	return next
}

// afterPoll returns when a limit that ends at by counts as passed: after a poll that began at
// by or later, because bytes in the socket could extend the limit.
func (k *keepalive) afterPoll(by time.Duration) time.Duration {
	switch {
	case by == never || k.lastPoll < by:
		return by
	case k.polled:
		return k.lastPoll + pingPoll
	}
	return k.lastPoll + maxPoll
}

// noteReceived runs after each receiving call: from now on, no method is receiving. It
// costs one load, because the alarm is set only by the first call after a poll, and by one more
// after noteReading has cancelled a poll.
func (k *keepalive) noteReceived() {
	if k.nextPoll.Load() >= pollUnset {
		k.awaitPoll()
	}
}

// noteReading runs before a receiving call reads the socket, see pollMayGo.
func (k *keepalive) noteReading() {
	if k.nextPoll.Load() == pollMayGo {
		k.cancelPoll(pollCancelled)
	}
}

// cancelPoll cancels the next poll, because a method is receiving. The end of that call asks for
// another. state is pollUnset or pollCancelled.
func (k *keepalive) cancelPoll(state uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nextPoll.Store(state)
	k.pollAt = never
	k.reschedule()
}

// awaitPoll sets the alarm to the next poll, because a receiving call has ended. If a poll is due
// before, that one stays. What the earlier polls have noted is out of date.
func (k *keepalive) awaitPoll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch k.nextPoll.Load() {
	case pollUnset:
		k.nextPoll.Store(pollMayGo)
	case pollCancelled:
		k.nextPoll.Store(pollSet)
	default:
		return
	}
	now := clock()
	k.pollAt, k.idlePolls, k.behind = min(k.pollAt, now+pollUnit), 0, 0
	if now < k.lastPoll+maxPoll {
		k.lastPoll = noTime // that poll has left the socket to this call, which may have read nothing
	}
	k.reschedule()
}

// beginPoll notes that a poll is due. The next poll does not wait for the end of this one, which
// may be late.
func (k *keepalive) beginPoll(now time.Duration, do *due) {
	k.lastPoll, k.polled, k.pollAt = now, false, now+pollInterval
	do.poll = true
	k.nextPoll.Store(pollUnset)
	do.idlePolls = k.idlePolls
}

// passedAfterPoll reports whether a limit that ends at by has passed, see afterPoll. If the
// socket has to be polled first, it notes that.
func (k *keepalive) passedAfterPoll(by, now time.Duration, do *due) bool {
	switch {
	case now < by:
		return false
	case k.lastPoll < by:
		k.beginPoll(now, do)
		return false
	}
	return now >= k.afterPoll(by)
}

// pollEnded notes that a poll that began at a time has ended. receiving says that there was no
// poll, because a method is receiving, which handles control frames too. That method then asks
// for the next poll, see noteReceived.
func (k *keepalive) pollEnded(began time.Duration, receiving bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.nextPoll.Load() != pollUnset: // a receiving call has ended meanwhile, and has asked for it
	case receiving:
		k.pollAt = never
	default:
		if k.idlePolls == 0 {
			k.pollAt = began + pollUnit
		} else if k.pollAt == never {
			k.pollAt = began + pollInterval
		}
		k.idlePolls = min(k.idlePolls, math.MaxUint8-1) + 1
	}
	k.polled = k.polled || began >= k.lastPoll
	k.reschedule()
}

// resumePolls runs when Ping stops reading: from now on, polls have to look for control
// frames. The handler has received nothing, so idlePolls does not change.
func (k *keepalive) resumePolls() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pollAt == never { // a tick has found the lock of the reader held
		k.pollAt = clock() + pollInterval
		k.reschedule()
	}
}

// tick returns what is due, after it has set the alarm again. It may be called early or
// too often, because it only looks at the clock. It resets a limit that has passed, so the
// alarm cannot ring in a loop.
func (k *keepalive) tick() (do due) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settleReads(k.recent.Swap(noReads) & readsMask)
	k.settleWrites()
	k.nextPoll.CompareAndSwap(pollCancelled, pollUnset)
	now := clock()
	p, by := k.life().until()
	switch {
	case p == phaseCloseSent && k.passedAfterPoll(by, now, &do), p != phaseCloseSent && now >= by:
		if !k.closePaused(p, by, now) {
			do.limit = phasePassed
			k.life().bound(p, never)
		}
	case now >= k.writeBy():
		k.checkWrite(now, &do)
	case k.passedAfterPoll(k.silentBy(p, by), now, &do):
		do.limit = silencePassed
		k.lastAlive.Store(int64(now))
	}
	if p <= phaseCloseSent && now >= k.pollAt {
		k.beginPoll(now, &do)
	}
	k.checkAcks(p, by, now, &do)
	if at := k.noteWriteAt(); now >= at {
		k.noteHalfWrite(now, now-at, &do)
	}
	if p == phaseOpen && now >= k.nextPing {
		k.pingDue(now, &do)
	}
	if p == phaseOpen && now >= k.endAt() {
		do.end, k.aged = true, true
	}
	k.reschedule()
	return do
}
