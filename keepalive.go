package websocket

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// The keepalive is one timer a connection. It sends the pings, and it is the
// watchdog: it ends the connection when the peer has been silent for
// ConnectionTimeout, has not answered a close frame within CloseTimeout, or has
// held up a write for WriteTimeout. It also bounds what every end still does on the
// socket.
//
// A handler that only sends reads nothing. So at each ping, and before it ends
// the connection, the keepalive takes the receiving side if it is free and
// handles what control frames have arrived.
//
// Its times are durations since epoch: they fit an atomic, and the monotonic clock
// alone is read much faster than time.Now reads both.
type keepalive struct {
	alarm wait.Alarm[Conn]
	due   atomic.Int64 // what the alarm is set for

	mu       sync.Mutex
	nextPing time.Duration // never: no pings
	closeBy  time.Duration // when the socket is closed, whatever goes on; or never
	late     bool          // that time has come
	deaf     bool          // silence does not matter any more
}

// never is a time that does not come.
const never time.Duration = math.MaxInt64

const (
	// pingPoll is how long the keepalive listens after a ping. A read with a
	// deadline that has passed does not even look, so it is not zero.
	pingPoll = 10 * time.Millisecond

	// silencePoll is how long it listens before it takes a connection for dead.
	silencePoll = 100 * time.Millisecond
)

// epoch is before anything that a connection notes the time of, also where that is
// the clock of a testing/synctest bubble, which begins in the year 2000. 0 can then
// stand for no time.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

// clock is the time since epoch.
func clock() time.Duration { return time.Since(epoch) }

// heard notes that the peer is alive.
func (c *Conn) heard() { c.lastHeard.Store(int64(clock())) }

// after is t+d, or never where there is no limit d or the sum is none.
func after(t, d time.Duration) time.Duration {
	if d == 0 || d > never-t {
		return never
	}
	return t + d
}

func (c *Conn) startKeepalive() {
	now := clock()
	c.lastHeard.Store(int64(now))
	c.keepalive.nextPing = after(now, c.opts.pingInterval)
	c.keepalive.closeBy = never
	c.schedule()
}

// expectClose bounds the wait for the answer to a close frame. Pings end with it.
func (c *Conn) expectClose() {
	k := &c.keepalive
	k.mu.Lock()
	k.nextPing = never
	if c.err() == nil && !c.in.closeReceived.Load() {
		k.closeBy = after(clock(), c.opts.closeTimeout)
	}
	k.mu.Unlock()
	c.schedule()
}

// closeWithin bounds what an end still does on the socket: the watchdog closes it in
// d at the latest, or when it was to before, which is returned. 0 is no bound.
func (c *Conn) closeWithin(d time.Duration) (before time.Duration) {
	k := &c.keepalive
	k.mu.Lock()
	k.nextPing = never
	before = k.closeBy
	k.closeBy = min(before, after(clock(), d))
	k.mu.Unlock()
	c.schedule()
	return before
}

// closeAt puts back a bound that closeWithin has returned.
func (c *Conn) closeAt(by time.Duration) {
	k := &c.keepalive
	k.mu.Lock()
	k.closeBy = by
	k.mu.Unlock()
	c.schedule()
}

// tooLate reports whether the watchdog has closed the socket at the end of a close
// that took too long.
func (k *keepalive) tooLate() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.late
}

// schedule sets the alarm for what is due next.
func (c *Conn) schedule() {
	k := &c.keepalive
	k.mu.Lock()
	defer k.mu.Unlock()
	now := clock()
	next := min(k.nextPing, listenBefore(k.closeBy, now, c.opts.closeTimeout))
	if !k.deaf {
		next = min(next, listenBefore(c.silentAt(), now, c.opts.connectionTimeout))
	}
	// In this order, a write that begins meanwhile is either seen here or sees
	// that the alarm comes too late for it.
	k.due.Store(int64(next))
	next = min(next, c.writeLate())
	k.due.Store(int64(next))
	if next == never {
		k.alarm.Clear()
		return
	}
	k.alarm.Set(next-now, c, (*Conn).tick)
}

// listenBefore is when to look at the end of a timeout: a moment before it, to
// listen if nobody does, and then.
func listenBefore(end, now, timeout time.Duration) time.Duration {
	if early := end - listenTime(timeout); end != never && now < early {
		return early
	}
	return end
}

// listenTime is silencePoll, or less where the timeout is short.
func listenTime(timeout time.Duration) time.Duration {
	return min(silencePoll, timeout/4)
}

// ignoreSilence is for a connection that is being ended: what is left to do has
// bounds of its own.
func (k *keepalive) ignoreSilence() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deaf = true
}

// silentAt is when the peer will have been silent for ConnectionTimeout.
func (c *Conn) silentAt() time.Duration {
	return after(time.Duration(c.lastHeard.Load()), c.opts.connectionTimeout)
}

// beginWrite puts the write that follows under the watchdog, which costs less
// than a deadline of the socket for each. The alarm is nearly always set for a
// time before the write can be late: a ping comes sooner.
func (c *Conn) beginWrite() {
	if c.opts.writeTimeout == 0 {
		return
	}
	now := clock()
	c.out.writing.Store(int64(now))
	if int64(after(now, c.opts.writeTimeout)) < c.keepalive.due.Load() {
		c.schedule()
	}
}

func (c *Conn) endWrite() { c.out.writing.Store(0) }

// writeLate is when the write that is going on, if one is, will have taken
// WriteTimeout.
func (c *Conn) writeLate() time.Duration {
	if began := c.out.writing.Load(); began != 0 {
		return after(time.Duration(began), c.opts.writeTimeout)
	}
	return never
}

// tick does what is due and sets the alarm again. It may run when nothing is due, and
// on two goroutines at once.
func (c *Conn) tick() {
	ping := c.keepalive.takePing(clock(), c.opts.pingInterval)
	switch {
	case c.closeIsLate():
		c.giveUp(c.noAnswer())
	case c.writeLate() <= clock():
		c.endWrite()
		c.giveUp(&deadError{fmt.Sprintf("sending: the peer read nothing for WriteTimeout %v", c.opts.writeTimeout), errTimedOut})
	case c.isSilent():
		c.silenced()
	}
	// A peer that does not read holds up the ping, but not the watchdog: the next
	// tick may come while this one is still writing.
	c.schedule()
	c.nudgeSender() // for pongs that waited for this
	if ping {
		c.sendPing()
		c.poll(time.Now().Add(pingPoll), listenAndAnswer)
	}
}

// takePing reports whether it is time for a ping, and moves the next one on.
func (k *keepalive) takePing(now, interval time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now < k.nextPing {
		return false
	}
	k.nextPing = after(now, interval)
	return true
}

// closeIsLate reports whether the time to answer the close frame is over. If that
// is about to be so, it listens for the rest of the time, if nobody else does.
func (c *Conn) closeIsLate() bool {
	k := &c.keepalive
	k.mu.Lock()
	by := k.closeBy
	k.mu.Unlock()
	left := by - clock()
	if left > listenTime(c.opts.closeTimeout) {
		return false
	}
	c.poll(time.Now().Add(left), listenOnly)
	if clock() < by {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closeBy, k.late = never, true
	return true
}

// giveUp closes the socket of a peer that does not do its part. Whoever waits for
// it, on a connection that is ending already, is set free.
func (c *Conn) giveUp(err error) {
	if c.end(err) {
		c.closeSocket()
		return
	}
	c.cutSocket()
}

// isSilent reports whether nothing has come for ConnectionTimeout. If that is
// about to be so, it listens for the rest of the time, if nobody else does.
func (c *Conn) isSilent() bool {
	k := &c.keepalive
	k.mu.Lock()
	deaf := k.deaf
	k.mu.Unlock()
	if deaf {
		return false
	}
	window := listenTime(c.opts.connectionTimeout)
	left := c.silentAt() - clock()
	if left > window {
		return false
	}
	if left <= 0 {
		left = window
	}
	return !c.poll(time.Now().Add(left), listenOnly) && clock() >= c.silentAt()
}

// silenced ends a connection whose peer is silent. One that is being closed
// already is given up.
func (c *Conn) silenced() {
	if c.err() != nil {
		c.keepalive.ignoreSilence()
		c.cutSocket()
		return
	}
	err := fmt.Errorf("%w: nothing from the peer for ConnectionTimeout %v", ErrConnectionTimeout, c.opts.connectionTimeout)
	c.abort(err, failPayload(err))
}

// A look is what the receiving side is taken for by who does not want messages.
type look byte

const (
	listenAndAnswer look = 1 + iota
	listenOnly           // nobody watches over writes: pongs are left to who sends next
	lastLook             // nothing can be written any more
)

// poll takes the receiving side if it is free and handles the control frames that
// arrive until the given time, up to the first data frame, which stays for the
// reader. It reports whether the peer cannot be called silent: something came, or
// so much of it waits unread that nothing more could be taken in.
func (c *Conn) poll(until time.Time, purpose look) (alive bool) {
	in := &c.in
	if c.err() != nil || !in.lock.TryLock() {
		return false
	}
	defer in.lock.Unlock()
	if !c.beginPoll(until) {
		return false
	}
	defer c.endPoll()
	in.look = purpose
	defer func() { in.look = 0 }()
	before := c.lastHeard.Load()
	if !in.open && !in.raw {
		c.advance() // its error is the connection's end or the poll's deadline
	}
	for c.err() == nil && !in.full() {
		in.bulk = false // nobody waits for what comes
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
