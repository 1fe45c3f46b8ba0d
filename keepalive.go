package websocket

import (
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
	lastPoll  time.Duration // when a poll was asked for, or notLooked
	pollAt    time.Duration // when the next poll is due while no method is receiving
	opened    time.Duration // when the handshake was done
	behind    int32         // see noteBehind
	rtt       uint32        // see Stats, in microseconds
	nextPoll  atomic.Uint32 // pollSet, pollMayGo, pollUnset or pollCancelled
	recent    atomic.Uint32 // since the last tick: noReads, oneRead or manyReads, and oneWrite for each timed write
	spread    uint16        // random: how much before MaxLifetime the connection ends, see endAt
	pollNotes pollNotes     // about the poll of lastPoll
	extended  uint8         // how often extendLost has extended phaseLost
	closeLate bool          // closePaused has extended a phase
	idlePolls uint8         // polls since a method has received
	aged      bool          // the end at MaxLifetime was asked for
	ackNoted  bool          // noteAcks was due in this silence, see renewAcks
}

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

// closePaused gives a phase in which the connection is closing more time, once, if its limit was
// noticed late. The process was paused, so what the peer has sent meanwhile may not be read yet. All
// connections read after a pause, so this can take much longer than one read.
func (k *keepalive) closePaused(p phase, by, now time.Duration) bool {
	late := now - by
	if p == phaseCloseSent {
		late = k.lastPoll - by // the poll that began then is over
	}
	if p == phaseLost || k.closeLate || late < blockedTime {
		return false // phaseLost has extensions of its own
	}
	k.closeLate = true
	k.life().bound(p, now+min(max(late, maxPoll), drainTime))
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

// restInterval replaces PingInterval if there are no pings: it is how often the library checks whether
// a connection needs its TLS read buffer, or its encoder.
const restInterval = 15 * time.Second

// pingTick is the time between two pings. Without pings, it is the time between two checks whether
// a TLS connection is quiet, and 0 for other connections.
func (k *keepalive) pingTick() time.Duration {
	if d := k.timeouts.pingInterval; d > 0 || !k.core.canRest() {
		return d
	}
	return restInterval
}

// pingDue notes what is due each pingTick.
func (k *keepalive) pingDue(now time.Duration, do *due) {
	k.nextPing = deadlineAfter(now, k.pingTick())
	do.rest = k.core.canRest()
	do.ping = k.timeouts.pingInterval > 0
	if do.ping && k.pingSent == noTime {
		k.pingSent = now
	}
}

// notePong measures the round trip of a ping of the keepalive: its pong is the next one without
// payload. A round trip may take longer than PingInterval, so the ping is the first one that has
// no pong yet.
//
// It reports whether there was such a ping.
func (k *keepalive) notePong() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pingSent == noTime {
		return false
	}
	k.setRTT(clock() - k.pingSent)
	k.pingSent = noTime
	return true
}

// noteRTT notes the round trip time of a ping of Ping.
func (k *keepalive) noteRTT(rtt time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setRTT(rtt)
}

// setRTT is noteRTT with mu held. More than an hour counts as an hour.
func (k *keepalive) setRTT(rtt time.Duration) {
	k.rtt = uint32(min(rtt, time.Hour) / time.Microsecond)
}

// roundTrip returns the latest round trip time.
func (k *keepalive) roundTrip() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Duration(k.rtt) * time.Microsecond
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
