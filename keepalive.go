package websocket

import (
	"fmt"
	"sync"
	"time"
)

// The keepalive is one timer a connection. It sends the pings, and it is the
// watchdog: it ends the connection when the peer has been silent for
// ConnectionTimeout or has not answered a close frame within CloseTimeout.
//
// A handler that only sends reads nothing. So at each ping, and before it ends
// the connection, the keepalive takes the receiving side if it is free and
// handles what control frames have arrived.
type keepalive struct {
	mu       sync.Mutex
	timer    *time.Timer
	armed    bool // the timer is set
	ticks    int  // goroutines of the timer that run
	stopped  bool
	finished chan struct{} // closed when the last of them ends; made by wait
	nextPing time.Time     // zero: no pings
	closeBy  time.Time     // zero: no close frame is waiting for its answer
}

const (
	// pingPoll is how long the keepalive listens after a ping. A read with a
	// deadline that has passed does not even look, so it is not zero.
	pingPoll = 10 * time.Millisecond

	// silencePoll is how long it listens before it takes a connection for dead.
	silencePoll = 100 * time.Millisecond
)

func (k *keepalive) start(c *Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.opts.pingInterval > 0 {
		k.nextPing = c.born.Add(c.opts.pingInterval)
	}
	k.arm(c)
}

// expectClose bounds the wait for the answer to a close frame. Pings end with it.
func (k *keepalive) expectClose(c *Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nextPing = time.Time{}
	if c.opts.closeTimeout > 0 && c.err() == nil {
		k.closeBy = time.Now().Add(c.opts.closeTimeout)
	}
	k.disarm()
	k.arm(c)
}

// arm sets the timer for what is due next. k.mu is held.
func (k *keepalive) arm(c *Conn) {
	next := k.next(c)
	if k.armed || k.stopped || next.IsZero() {
		return
	}
	k.armed = true
	k.ticks++
	if k.timer == nil {
		k.timer = time.AfterFunc(time.Until(next), c.tick)
		return
	}
	k.timer.Reset(time.Until(next))
}

// disarm stops the timer. A tick that it does not catch sets it again itself.
func (k *keepalive) disarm() {
	if k.armed && k.timer.Stop() {
		k.armed = false
		k.leave()
	}
}

// leave notes that a tick has ended, or will not be. k.mu is held.
func (k *keepalive) leave() {
	k.ticks--
	if k.ticks == 0 && k.finished != nil {
		close(k.finished)
		k.finished = nil
	}
}

// next is when there is something to do, zero for never.
func (k *keepalive) next(c *Conn) time.Time {
	next := earlier(k.nextPing, k.closeBy)
	if c.opts.connectionTimeout == 0 {
		return next
	}
	silent := c.silentAt()
	if early := silent.Add(-silencePollOf(c.opts)); time.Now().Before(early) {
		silent = early
	}
	return earlier(next, silent)
}

// silencePollOf is silencePoll, or less where ConnectionTimeout is short.
func silencePollOf(o *options) time.Duration {
	return min(silencePoll, o.connectionTimeout/4)
}

// silentAt is when the peer will have been silent for ConnectionTimeout.
func (c *Conn) silentAt() time.Time {
	return c.born.Add(time.Duration(c.lastHeard.Load()) + c.opts.connectionTimeout)
}

// stop keeps the timer from going off again.
func (k *keepalive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	k.disarm()
}

// wait waits for the ticks that were running when the timer was stopped.
func (k *keepalive) wait() {
	k.mu.Lock()
	if k.ticks == 0 {
		k.mu.Unlock()
		return
	}
	if k.finished == nil {
		k.finished = make(chan struct{})
	}
	finished := k.finished
	k.mu.Unlock()
	<-finished
}

// tick does what is due and sets the timer again.
func (c *Conn) tick() {
	k := &c.keepalive
	ping, closeLate := k.due(c.opts.pingInterval)
	switch {
	case closeLate:
		c.closeTimedOut()
	case c.isSilent():
		c.silenced()
	}
	// A peer that does not read holds up the ping, but not the watchdog: the next
	// tick may come while this one is still writing.
	k.mu.Lock()
	k.arm(c)
	k.mu.Unlock()
	if ping {
		c.sendPing()
		c.poll(time.Now().Add(pingPoll))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leave()
}

// due reports what the time has come for, and moves the ping on.
func (k *keepalive) due(interval time.Duration) (ping, closeLate bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed = false
	now := time.Now()
	closeLate = !k.closeBy.IsZero() && !now.Before(k.closeBy)
	ping = !k.nextPing.IsZero() && !now.Before(k.nextPing)
	if ping {
		k.nextPing = now.Add(interval)
	}
	return ping, closeLate
}

// closeTimedOut gives up a peer that leaves a close frame unanswered. Where the
// connection has ended already, somebody else does or is about to.
func (c *Conn) closeTimedOut() {
	if c.end(c.noAnswer()) {
		c.closeSocket()
	}
	c.keepalive.mu.Lock()
	defer c.keepalive.mu.Unlock()
	c.keepalive.closeBy = time.Time{}
}

// isSilent reports whether nothing has come for ConnectionTimeout. If that is
// about to be so, it listens for the rest of the time, if nobody else does.
func (c *Conn) isSilent() bool {
	if c.opts.connectionTimeout == 0 {
		return false
	}
	silent := c.silentAt()
	if time.Until(silent) > silencePollOf(c.opts) {
		return false
	}
	until := silent
	if time.Until(silent) <= 0 {
		until = time.Now().Add(silencePollOf(c.opts))
	}
	if c.poll(until) {
		return false
	}
	return !time.Now().Before(c.silentAt())
}

// silenced ends a connection whose peer is silent. One that is being closed
// already is given up.
func (c *Conn) silenced() {
	if c.err() != nil {
		c.conn.Close()
		return
	}
	c.abort(fmt.Errorf("%w: nothing from the peer for ConnectionTimeout %v", ErrConnectionTimeout, c.opts.connectionTimeout), StatusGoingAway)
}

// poll takes the receiving side if it is free and handles the control frames that
// arrive until the given time, up to the first data frame, which stays for the
// reader. It reports whether the peer cannot be called silent: something came, or
// so much of it waits unread that nothing more could be taken in.
func (c *Conn) poll(until time.Time) (alive bool) {
	in := &c.in
	if c.err() != nil || !in.lock.tryLock() {
		return false
	}
	defer in.lock.unlock()
	if !c.beginPoll(until) {
		return false
	}
	defer c.endPoll()
	before := c.lastHeard.Load()
	if !in.open && !in.raw {
		c.advance() // its error is the connection's end or the poll's deadline
	}
	for c.err() == nil && !in.full() {
		if c.fill() != nil {
			break
		}
	}
	if in.full() {
		c.heard()
	}
	return c.lastHeard.Load() != before
}

// full reports whether the read buffer has no room left.
func (in *receiver) full() bool {
	return in.buf != nil && in.w-in.r == len(in.buf)
}
