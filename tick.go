package websocket

import (
	"fmt"
	"math"
	"time"
)

// ring is called by the alarm.
func (c *Conn) ring() { c.timer.alarm.Do(c.tick) }

// tick does what the timer says is due. The alarm is set again already, so the timer
// limits all that this does.
func (c *Conn) tick() {
	do := c.timer.tick()
	switch do.limit {
	case phasePassed:
		c.phasePassed()
	case writePassed:
		if a, ok := c.socket.acked(); !c.timer.writeGoesOn(do.write, a, ok) {
			c.writePassed()
		}
	case silencePassed:
		c.peerSilent()
	}
	if do.end {
		c.StartClose(StatusGoingAway, "")
	}
	if do.write.note {
		a, _ := c.socket.acked()
		c.timer.noteWriteAcks(a)
	}
	if do.acks != 0 {
		c.checkAcks(do.acks) // before a ping, whose bytes would count as waiting
	}
	if do.rest {
		c.socket.interruptRead(c.socket.overTLS())
	}
	if do.ping {
		c.out.returnIdle()
		c.out.ping()
	}
	if do.ping && c.life.current() == phaseLost && c.in.tryLock() { // the ping could not be written
		defer c.in.lock.Unlock()
		c.lastLook(false)
		return
	}
	if do.poll {
		c.pollDue(int(do.idlePolls))
	}
}

// pollDue polls the socket, unless a method is receiving. idlePolls is how many polls there were
// since a method has received.
func (c *Conn) pollDue(idlePolls int) {
	began := clock()
	receiving := !c.in.tryLock()
	if receiving {
		c.timer.noteBehind(c.socket.behind())
	} else {
		c.poll(idlePolls)
	}
	c.timer.pollEnded(began, receiving)
	if receiving && c.in.tryLock() { // it was Ping or another poll, and has ended meanwhile
		c.in.lock.Unlock()
		c.timer.resumePolls()
		c.in.passTurn()
	}
}

// checkAcks takes a step of the search for a peer that reads slowly, see ackStep.
func (c *Conn) checkAcks(step ackStep) {
	now, ok := c.socket.acked()
	if !ok {
		now = c.timer.taken()
	}
	if !ok || !c.timer.awaitsAnswer() || !c.out.wroteAll() {
		now.Written = unknown
	}
	if ok && step == compareAcks {
		c.timer.noteAlive(now.Silence) // over TLS, they may be a part of a record
	}
	s, before := c.seldomUsed(), &c.rareUsed().acks
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case step == noteAcks:
	case before.Waits && now.Acked != before.Acked && now.Acked < before.Written:
		c.timer.noteAlive(0)
	case before.last:
	case before.Waits && now.Acked != before.Acked, // the pings have arrived, and the peer may be about to answer
		ok && now.Waits && !before.Waits: // the bytes that wait were sent after noteAcks
		now.last = true
		c.timer.noteAlive(c.timer.timeouts.connectionTimeout / 2)
	}
	*before = now
}

// poll looks for control frames while no method is receiving, and ends the connection if what it
// finds requires that. in.lock is held; poll unlocks it.
func (c *Conn) poll(idlePolls int) {
	defer c.in.passTurn() // after Unlock
	defer c.in.lock.Unlock()
	if c.life.current() > phaseCloseSent {
		return
	}
	if err := c.in.poll(c.timer.timeouts.endings(idlePolls)); err != nil {
		c.received(err)
	}
}

// endings returns the ends that a poll may act on, after idlePolls polls since a method has received.
func (t *timeouts) endings(idlePolls int) endings {
	const dropTime = 60 * time.Second // ConnectionTimeout by default
	ending := t.endLimit()
	gone := dropTime
	if limit := t.connectionTimeout; limit > 0 {
		gone = min(limit, dropTime)
	}
	over := func(limit time.Duration) bool {
		return idlePolls >= max(1, int(min(limit/pollInterval, math.MaxUint8)))
	}
	return endings{closing: idlePolls > 0, ending: over(ending), gone: over(max(ending, gone*9/10))}
}

// phasePassed ends a phase that took too long.
func (c *Conn) phasePassed() {
	switch c.life.current() {
	case phaseCloseSent:
		if !c.endKnown() {
			c.expire(noAnswer("CloseTimeout", c.timer.timeouts.closeTimeout))
		}
	case phaseLost:
		c.lostPassed()
	case phaseClosing:
		c.closeOverdue("CloseTimeout", c.timer.timeouts.closeTimeout)
	case phaseFailing, phaseDraining:
		c.expire(nil)
	}
}

// lostPassed ends phaseLost. If there is input that the handler can receive, the handler
// has CloseTimeout for that first. If a goroutine is receiving, that may be a call that is about to
// return what has arrived, so lostPassed tries again.
func (c *Conn) lostPassed() {
	switch {
	case c.in.tryLock():
		defer c.in.lock.Unlock()
		c.lastLook(c.in.lastChance)
		c.in.lastChance = true
		c.timer.bound(phaseLost, c.timer.timeouts.endLimit())
	case !c.timer.extendLost():
		// The receiving goroutine has not ended it, maybe because the socket has no deadlines.
		c.connectionLost(nil)
	}
}

// writePassed ends a connection whose peer does not read. If the peer has sent a close frame
// before, that is the cause of the end.
func (c *Conn) writePassed() {
	limit := c.timer.timeouts.writeTimeout
	var end error = &connError{fmt.Sprintf("sending: one write took longer than WriteTimeout %v", limit), errTimedOut}
	locked := c.life.current() < phaseClosing && c.in.tryLock()
	if locked {
		defer c.in.lock.Unlock()
		if found, ok := c.in.lastLook(true).(*peerClose); ok && found.fault == nil {
			end = &found.closed
		}
	}
	switch {
	case !locked && c.timer.enter(phaseLost, end, pingPoll): // the goroutine that is receiving looks for a close frame
		c.socket.limitReads(time.Now().Add(pingPoll))
		c.socket.endWrites() // that goroutine may be in the write of a pong
	case c.life.current() >= phaseClosing:
		c.closeOverdue("WriteTimeout", limit) // because that phase may have no other limit
	case locked:
		c.expire(end)
	}
}

// endKnown ends a connection that the peer has ended already, if that end is known and only
// waits for a handler that is not receiving. It reports whether it did.
func (c *Conn) endKnown() bool {
	if !c.in.tryLock() {
		if c.socket.isPolled() {
			// Earlier polls may have read messages. A receiving call waits for the lock, and looks.
			c.life.noteUnread(true)
		}
		return false
	}
	defer c.in.lock.Unlock()
	end := c.in.aheadEnd()
	if _, ended, _ := c.socket.behind(); end == nil && ended {
		end = c.in.poll(allEndings)
	}
	if end == nil {
		end = c.in.endBehind(c.in.endInBuffer()) // the handler may be busy when the connection ends
	}
	if end == nil {
		end = c.in.closeBehind()
	}
	if end != nil {
		c.received(end)
	}
	return c.life.err() != nil
}

// peerSilent ends a connection whose peer has been silent for ConnectionTimeout.
func (c *Conn) peerSilent() {
	switch c.life.current() {
	case phaseOpen, phaseCloseSent:
	case phaseLost:
		c.settle()
		return
	case phaseClosing: // without CloseTimeout
		c.closeOverdue("ConnectionTimeout", c.timer.timeouts.connectionTimeout)
		return
	default:
		return // these phases have a limit
	}
	if c.endKnown() {
		return
	}
	err := endedByTimeout(ErrConnectionTimeout, "nothing from the peer for ConnectionTimeout %v", c.timer.timeouts.connectionTimeout)
	// The close frame may have to wait for a sender that the silent peer blocks. This limit ends
	// the wait.
	if c.end(phaseFailing, err, min(c.timer.timeouts.endLimit(), failTimeout)) {
		c.failAsync(failPayload(err))
	}
}
