package websocket

import (
	"math"
	"time"
)

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

// pollNotes are what is known about the last poll.
type pollNotes uint8

const (
	pollOver   pollNotes = 1 << iota // it has ended
	pollRepeat                       // it repeats one that nobody may have looked for, see awaitPoll
)

// notLooked stands for the time of a poll that has to be repeated.
const notLooked = noTime + 1

// limitAfterPoll is when the first limit ends that bytes in the socket could extend.
func (k *keepalive) limitAfterPoll() time.Duration {
	p, by := k.life().until()
	if p != phaseCloseSent {
		return k.silentBy(p, by)
	}
	return min(by, k.silentBy(p, by))
}

// afterPoll returns when a limit that ends at by counts as passed: after a poll that began at
// by or later, because bytes in the socket could extend the limit.
func (k *keepalive) afterPoll(by time.Duration) time.Duration {
	switch {
	case by == never || k.lastPoll < by:
		return by
	case k.pollNotes&pollOver != 0:
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
//
// If that call has begun before the poll of a limit, the poll has left the socket to it, but a deadline
// may have ended the call before it has looked. So that poll is repeated. It is repeated once, because
// a function may receive with short deadlines all the time.
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
	if k.pollNotes&pollRepeat == 0 && k.lastPoll >= k.limitAfterPoll() && now < k.lastPoll+maxPoll {
		k.lastPoll = notLooked
	}
	k.reschedule()
}

// beginPoll notes that a poll is due. The next poll does not wait for the end of this one, which
// may be late.
func (k *keepalive) beginPoll(now time.Duration, do *due) {
	k.pollNotes = 0
	if k.lastPoll == notLooked {
		k.pollNotes = pollRepeat
	}
	k.lastPoll, k.pollAt = now, now+pollInterval
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
	if began >= k.lastPoll {
		k.pollNotes |= pollOver
	}
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
