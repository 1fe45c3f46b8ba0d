package websocket

import (
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// The states of the reads in keepalive.recent. Reading the clock and storing the time would be a
// quarter of the cost of a small message, so this is done once or twice between two ticks.
const (
	noReads   uint32 = iota // lastAlive is exact
	oneRead                 // lastAlive is exact, and is the time of a read since the last tick
	manyReads               // there were reads after lastAlive: the next tick takes its own time for them

	readsMask = 3
)

// readPrecision is the part of ConnectionTimeout by which lastAlive may be too late. It is never
// too early.
const readPrecision = 10

// noteRead notes that bytes have arrived: the peer is not silent. While many bytes arrive, it
// costs one load.
func (k *keepalive) noteRead() {
	if k.recent.Load()&readsMask != manyReads {
		k.noteFirstReads()
	}
}

// noteFirstReads is noteRead for the first reads after a tick. If reads are far apart, it notes
// the time of each, because a tick for each would cost more.
func (k *keepalive) noteFirstReads() {
	now, timeout := clock(), k.timeouts.connectionTimeout
	if k.recent.Load()&readsMask == noReads || timeout > 0 && now >= k.lookBy() {
		k.noteReadNow(now)
		return
	}
	k.setReads(manyReads)
	if timeout > 0 && int64(k.lookBy()) < k.alarmAt.Load() {
		k.schedule()
	}
}

func (k *keepalive) noteReadNow(now time.Duration) {
	k.lifeSignAt(now)
	k.setReads(oneRead)
}

// lifeSignAt notes a sign of life between two ticks. The next silence may begin before the next tick,
// and a pause of the process may hide that, so it makes the first ackStep due again.
func (k *keepalive) lifeSignAt(now time.Duration) {
	k.lastAlive.Store(int64(now))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ackNoted = false
}

// setReads sets the state of the reads, and leaves the writes as they are.
func (k *keepalive) setReads(state uint32) {
	for {
		recent := k.recent.Load()
		if k.recent.CompareAndSwap(recent, recent&^readsMask|state) {
			return
		}
	}
}

// lookBy is when a tick has to check whether there were manyReads.
func (k *keepalive) lookBy() time.Duration {
	return deadlineAfter(time.Duration(k.lastAlive.Load()), part(k.timeouts.connectionTimeout, readPrecision))
}

// settleReads makes lastAlive exact again, or too late, see readPrecision. Each tick begins with it.
// state is the state of the reads, which the tick has just reset to noReads.
func (k *keepalive) settleReads(state uint32) {
	if state == manyReads {
		k.noteAlive(0) // after the reset, because the reads before it have noted no time
	}
}

// quietFor reports whether nothing has arrived for d.
func (k *keepalive) quietFor(d time.Duration) bool {
	return clock() >= time.Duration(k.lastAlive.Load())+d
}

// noteAlive notes that the peer was alive a time ago: bytes have arrived, or the peer has taken some.
// A later sign of life stays.
func (k *keepalive) noteAlive(ago time.Duration) {
	at := int64(clock() - ago)
	for last := k.lastAlive.Load(); last < at && !k.lastAlive.CompareAndSwap(last, at); {
		last = k.lastAlive.Load()
	}
}

// noteBehind notes how many bytes wait in the kernel while a method is receiving. If there are
// more than the last time, the peer is not silent: the goroutine of that method may be writing
// a pong, and does not read meanwhile.
func (k *keepalive) noteBehind(unread int32, _, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ok && unread > k.behind {
		k.noteAlive(0) // noteRead would lock mu
	}
	k.behind = unread
}

// silentBy is when the peer has been silent for ConnectionTimeout. by is the limit of phase p. If a
// closing connection has such a limit, which is so unless CloseTimeout is 0, its silence does not
// count. It does not count after the limit was late either, not even when that has passed at last and
// by is never, because two ticks would then end the connection for different reasons.
func (k *keepalive) silentBy(p phase, by time.Duration) time.Duration {
	if p >= phaseClosing && by != never || p == phaseCloseSent && k.closeLate {
		return never
	}
	return deadlineAfter(time.Duration(k.lastAlive.Load()), k.timeouts.connectionTimeout)
}

// An ackStep is a step of the search for a peer that reads slowly; 0 is no step. Such a peer is
// alive, but may send nothing while a message is on the way to it, because the next ping waits
// behind the message. If bytes wait in the kernel at the first step, and the peer has acknowledged
// more bytes at the second, it is alive. There is one exception: a ping was written before the first
// step, and the peer has acknowledged that too. Then it has half of ConnectionTimeout to answer.
//
// The first step is not reached for an idle peer that answers pings, because ConnectionTimeout is
// four times PingInterval by default.
type ackStep byte

const (
	noteAcks    ackStep = 1 + iota // the peer has been silent for half of ConnectionTimeout
	compareAcks                    // it has been silent for ConnectionTimeout
)

// checkAcks notes which ackStep is due. The first one also shows a pause of the process.
func (k *keepalive) checkAcks(p phase, by, now time.Duration, do *due) {
	k.renewAcks()
	switch at := k.noteAcksAt(p, by); {
	case now >= at:
		k.skipPause(now - at)
		k.ackNoted, do.acks = true, noteAcks
	case do.poll && now >= k.silentBy(p, by):
		do.acks = compareAcks
	}
}

// renewAcks makes the first ackStep due again after a sign of life. It runs before each use of
// noteAcksAt. A tick alone is not enough, because none may come between two silences.
func (k *keepalive) renewAcks() {
	k.ackNoted = k.ackNoted && k.quietFor(part(k.timeouts.connectionTimeout, 2))
}

// noteAcksAt is when noteAcks is due. If a write has begun just before, noteAcks waits until it is
// known whether that write waits for room, see taken. That is limited, because it can happen again
// and again.
func (k *keepalive) noteAcksAt(p phase, by time.Duration) time.Duration {
	if k.ackNoted || k.silentBy(p, by) == never {
		return never
	}
	last, half := time.Duration(k.lastAlive.Load()), part(k.timeouts.connectionTimeout, 2)
	began, timed := k.writeBegan()
	if !timed {
		return last + half
	}
	return max(last+half, min(began+blockedTime, last+half+half/2))
}

// skipPause makes a silence shorter by the time by which its tick at half of ConnectionTimeout is
// late. The process was paused, with its container or its virtual machine. It has sent no pings
// meanwhile, and a peer needs a round trip to answer the next one. Otherwise the pause would end all
// connections. A short delay counts, as for noteRead. There is one such tick in a silence, so a dead
// peer is noticed although all ticks are late.
func (k *keepalive) skipPause(late time.Duration) {
	if late < part(k.timeouts.connectionTimeout, readPrecision) {
		return
	}
	last := k.lastAlive.Load()
	k.lastAlive.CompareAndSwap(last, last+int64(late)) // else there was a read
}

// awaitsAnswer reports whether an earlier tick has asked for a ping that has no pong yet.
func (k *keepalive) awaitsAnswer() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pingSent != noTime && clock()-k.pingSent >= blockedTime
}

// taken returns acks if the kernel does not report them. If a write waits for room at the first
// step, and that write or its piece has ended at the second, the peer reads.
func (k *keepalive) taken() acks {
	began, timed := k.writeBegan()
	return acks{Acks: sock.Acks{Acked: uint64(k.firstBegan(began)), Waits: timed && clock()-began >= blockedTime}}
}

// firstBegan returns when a write began, before a pause has made it begin again.
func (k *keepalive) firstBegan(began time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isSlow(began) {
		return k.core.slowWrite().first
	}
	return began
}

// noteTaken notes that the socket has taken a piece of a large frame. If the write had to wait for
// room, the peer has read, which is a sign of life. If the kernel reports acks, they decide
// instead, because the write may also have waited for a processor.
func (k *keepalive) noteTaken(began, now time.Duration) {
	if now-began >= blockedTime && !k.core.out.tellsAcks() {
		k.lifeSignAt(now)
	}
}
