package websocket

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A connection ends in one of five ways. Each function is called by the one goroutine that
// has moved the connection to a phase (life.go), and does the work of that phase:
//
//	connectionLost  the TCP connection does not work: close the socket
//	failConnection  close frame, then let it arrive (RFC 6455 section 7.1.7)
//	peerClosed      answer the close frame, then let it arrive (section 5.5.1)
//	Close           close frame, wait for the peer's (section 7.1.2)
//	expire          a limit has passed: close the socket, so that the other four return
//
// The timer limits each of them.

// failTimeout limits the sending of a last close frame if CloseTimeout does not.
const failTimeout = 5 * time.Second

// received ends the connection if err, an error of the reader, requires that. It returns
// the error for the caller of a receiving method. in.lock is held.
func (c *Conn) received(err error) error {
	if err == errReadDeadline && c.life.current() < phaseLost {
		return err // first, because a handler may poll with short deadlines
	}
	dead, isDead := err.(*connError)
	peer, isClose := err.(*peerClose)
	switch {
	case c.life.err() != nil:
		return c.life.err()
	case isClose:
		return c.peerClosed(peer.payload)
	case c.life.current() == phaseLost && (isDead || err == errReadDeadline):
		return c.connectionLost(nil) // no close frame has arrived, so the error of the write is the cause
	case isDead:
		return c.streamEnded(dead)
	case CloseStatus(err) == 0:
		return err // a deadline has passed, or another method has begun the message
	}
	return c.failConnection(err)
}

// finishSend unlocks out.lock at the end of a sending method, and replaces its error.
func (c *Conn) finishSend(err *error) {
	c.out.release()
	*err = c.sendError(*err)
}

// sendError returns the error for the caller of a sending method. If a write has
// failed, it finds out why the connection has ended. No lock is held.
func (c *Conn) sendError(err error) error {
	if err == nil || c.life.current() < phaseLost {
		return err
	}
	if c.life.current() == phaseLost {
		c.settle()
	}
	return c.out.ended()
}

// streamEnded ends a connection that nothing more can be read from. What was accepted for
// sending is written first, because the peer may have shut down only its own direction.
func (c *Conn) streamEnded(err error) error {
	if !c.out.hasPending.Load() {
		return c.connectionLost(err)
	}
	if c.beginFailing(err) {
		c.out.lock.Lock()
		c.out.writePending()
		c.out.release()
		c.expire(nil)
	}
	return c.life.err()
}

// connectionLost ends a connection whose socket does not work any more.
func (c *Conn) connectionLost(err error) error {
	c.expire(err)
	return c.life.err()
}

// expire closes the socket now. Goroutines that still work on the end of the
// connection return, because their reads and writes fail.
func (c *Conn) expire(err error) {
	if !c.timer.enter(phaseClosed, err, 0) {
		return
	}
	c.socket.cut()
	c.timer.stop()
	c.life.closed.Set()
}

// settle ends a connection in phaseLost: with the peer's close frame if it has
// arrived, else with the error of the write. A goroutine that is receiving is left to do
// that, because the messages before the close frame are for it. No lock is held.
func (c *Conn) settle() {
	var patience wait.Deadline
	patience.Set(time.Now().Add(maxPoll))
	defer patience.Set(time.Time{})
	if c.ahead != nil {
		c.ahead.endNow()
	}
	if c.ahead != nil || !c.in.tryLock() {
		select {
		case <-c.life.over.Done():
			return
		case <-patience.Done():
		}
		if !c.in.tryLock() {
			c.connectionLost(nil)
			return
		}
	}
	defer c.in.lock.Unlock()
	c.lastLook(true)
}

// lastLook is settle with in.lock held. Unless it is final, it leaves the connection open
// while there is input that the handler can receive.
func (c *Conn) lastLook(final bool) {
	if c.life.current() != phaseLost {
		return
	}
	peer, isClose := c.in.lastLook(final).(*peerClose)
	switch {
	case isClose:
		c.peerClosed(peer.payload)
	case final || !c.in.holdsInput():
		c.connectionLost(nil)
	}
}

// failConnection fails the connection, because the peer broke a rule or a limit.
// in.lock is held.
func (c *Conn) failConnection(err error) error {
	if c.beginFailing(err) {
		c.finishFailing(failPayload(err))
	}
	return c.life.err()
}

// finishFailing sends a close frame, unless one was sent, and closes the socket. in.lock is
// held.
func (c *Conn) finishFailing(payload []byte) {
	if c.sendLastClose(payload) {
		c.drain()
	} else {
		c.expire(nil)
	}
}

// failAsync is failConnection for a goroutine that does not hold in.lock, after
// beginFailing.
func (c *Conn) failAsync(payload []byte) {
	c.socket.endReads(longAgo)
	if !c.sendLastClose(payload) {
		c.expire(nil)
		return
	}
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	c.drain()
}

// peerClosed takes the peer's close frame and answers it with the same code. in.lock
// is held.
func (c *Conn) peerClosed(payload []byte) error {
	peer, err := parseClosePayload(payload)
	if err != nil {
		return c.failConnection(err)
	}
	var end error = peer
	if code, sent := c.life.closeSent(); sent && c.life.current() != phaseLost {
		end = &closedError{CloseError: CloseError{Code: code}, peer: peer}
	}
	if c.beginFailing(end) {
		c.finishFailing(payload[:min(len(payload), 2)])
	}
	return c.life.err()
}

func (c *Conn) beginFailing(err error) bool {
	return c.timer.enter(phaseFailing, err, c.endLimit())
}

// endLimit is CloseTimeout, or failTimeout if that is 0.
func (c *Conn) endLimit() time.Duration {
	if limit := c.timer.timeouts.closeTimeout; limit > 0 {
		return limit
	}
	return failTimeout
}

// failPayload returns the payload of a close frame that tells the peer which rule it
// broke, as far as there is room.
func failPayload(err error) []byte {
	reason := strings.TrimPrefix(err.Error(), "websocket: ")
	if len(reason) > maxReason {
		reason = reason[:maxReason]
		for !utf8.ValidString(reason) {
			reason = reason[:len(reason)-1]
		}
	}
	return closeBytes(CloseStatus(err), reason)
}

// sendLastClose sends a close frame after everything that is being sent, unless one
// was sent, and begins the draining. It reports false if nothing can be sent any more.
func (c *Conn) sendLastClose(payload []byte) bool {
	if !c.sendCloseOnce(payload) {
		return false
	}
	c.timer.enter(phaseDraining, nil, drainTime)
	return true
}

func (c *Conn) sendCloseOnce(payload []byte) bool {
	c.out.lock.Lock()
	defer c.out.release()
	if _, sent := c.life.closeSent(); !sent {
		c.out.close(payload)
	}
	return !c.out.broken
}

// drain shuts down the write side, drops what still arrives for drainTime at most,
// and closes the socket. in.lock is held.
func (c *Conn) drain() {
	defer c.expire(nil)
	err := c.socket.closeWrite()
	if err == errors.ErrUnsupported && c.life.received.Load() {
		return // the peer has sent its last frame, so nothing more arrives
	}
	if err != nil && err != errors.ErrUnsupported {
		return
	}
	c.socket.endReads(time.Time{})
	c.in.drain()
}

// Close closes the connection: it sends a close frame with code and reason, waits
// for the peer's close frame, for at most CloseTimeout, and closes the socket (RFC
// 6455 section 7.1.2). Messages sent before are written before the close frame.
// Messages of the peer are dropped. Every other method that is waiting returns an
// error that is [net.ErrClosed], and so does every later call.
//
// StatusNoStatusReceived with no reason sends a close frame without a code. A code
// that must not be sent (RFC 6455 section 7.4) and a reason of more than 123 bytes
// are [ErrProtocol], and a reason that is not UTF-8 is [ErrInvalidUTF8]; then the
// connection is not closed.
//
// If the peer does not answer in time, the error is [ErrCloseTimeout] and the socket
// is closed nevertheless. If the connection has ended already, Close waits until its
// socket is closed and returns the error that it ended with. A HandlerFunc does not
// have to call Close, because the connection is closed when it returns.
func (c *Conn) Close(code StatusCode, reason string) error {
	payload, err := closePayload(code, reason)
	if err != nil && c.life.err() == nil {
		return err
	}
	defer c.waitGoroutines()
	if c.life.current() == phaseLost {
		c.settle()
	}
	if sent, ok := c.life.closeSent(); ok {
		code = sent
	}
	limit := c.timer.timeouts.closeTimeout
	_, by := c.life.until()
	by = min(by, deadlineAfter(clock(), limit)) // before the timer computes it, so it is not later
	if c.life.err() != nil || !c.timer.enter(phaseClosing, &closedError{CloseError: CloseError{code, reason}}, limit) {
		c.life.closed.Wait()
		return c.life.err()
	}
	return c.closeHandshake(payload, by)
}

// closeHandshake sends the close frame and waits for the peer's until the time by.
func (c *Conn) closeHandshake(payload []byte, by time.Duration) error {
	c.socket.endReads(longAgo) // a goroutine that is receiving gives up in.lock
	c.sendCloseOnce(payload)
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	c.socket.endReads(time.Time{})
	err := c.in.discard()
	if _, ok := err.(*peerClose); ok {
		c.timer.enter(phaseDraining, nil, drainTime)
		c.drain()
		return nil
	}
	c.expire(nil)
	if clock() >= by {
		return c.noAnswer()
	}
	return &connError{"the peer did not answer the close frame", err}
}

// startClose begins the close handshake and returns. The handshake ends in the background,
// within CloseTimeout.
func (c *Conn) startClose(code StatusCode, reason string) {
	if c.life.current() == phaseLost {
		go c.settle()
		return
	}
	payload := closeBytes(code, reason)
	if sent, ok := c.life.closeSent(); ok {
		code = sent
	}
	limit := c.timer.timeouts.closeTimeout
	by := deadlineAfter(clock(), limit)
	if c.timer.enter(phaseClosing, &closedError{CloseError: CloseError{code, reason}}, limit) {
		go c.closeHandshake(payload, by)
	}
}

func (c *Conn) noAnswer() error {
	return fmt.Errorf("%w: the peer did not answer the close frame within CloseTimeout %v (RFC 6455 section 7.1.1)", ErrCloseTimeout, c.timer.timeouts.closeTimeout)
}

// waitGoroutines waits for the goroutines of a connection whose socket is closed.
func (c *Conn) waitGoroutines() {
	c.timer.waitTicks()
	c.out.stop()
	c.socket.stop()
	if c.ahead != nil {
		c.ahead.stop()
	}
}

// tick does what the timer says is due. The alarm is set again already, so the timer
// limits all that this does.
func (c *Conn) tick() {
	do := c.timer.tick()
	switch do.limit {
	case phasePassed:
		c.phasePassed()
	case writePassed:
		c.writePassed()
	case silencePassed:
		c.peerSilent()
	}
	if do.end {
		c.startClose(StatusGoingAway, "")
	}
	if do.ping {
		c.out.ping()
	}
	if do.ping && c.life.current() == phaseLost && c.in.tryLock() { // the ping could not be written
		defer c.in.lock.Unlock()
		c.lastLook(false)
		return
	}
	if do.poll {
		began := clock()
		receiving := !c.in.tryLock()
		if !receiving {
			c.poll(int(do.quiet))
		}
		c.timer.pollEnded(began, receiving)
	}
}

// poll looks for control frames while no method is receiving, and ends the connection if it
// finds the end. quiet is how many polls there were since a method has received. in.lock is
// held; poll unlocks it.
func (c *Conn) poll(quiet int) {
	defer c.in.lock.Unlock()
	if c.life.current() > phaseCloseSent {
		return
	}
	patience := min(c.endLimit()/pollInterval, math.MaxUint8)
	if err := c.in.poll(quiet, int(patience)); err != nil {
		c.received(err)
	}
}

// phasePassed ends a phase that took too long.
func (c *Conn) phasePassed() {
	switch c.life.current() {
	case phaseCloseSent:
		c.expire(c.noAnswer())
	case phaseLost:
		c.lostPassed()
	case phaseClosing, phaseFailing, phaseDraining:
		c.expire(nil)
	}
}

// lostPassed ends phaseLost. If there is input that the handler can receive, the handler
// has CloseTimeout for that first.
func (c *Conn) lostPassed() {
	switch {
	case c.in.tryLock():
		defer c.in.lock.Unlock()
		c.lastLook(c.in.lastChance)
		c.in.lastChance = true
		c.timer.bound(phaseLost, c.endLimit())
	case c.timer.quietFor(maxPoll): // the read of a socket without deadlines does not return
		c.connectionLost(nil)
	case !c.timer.extendLost(): // the goroutine that is receiving has not ended it
		c.connectionLost(nil)
	}
}

// writePassed ends a connection whose peer does not read. If the peer has closed it before,
// that is why it ended.
func (c *Conn) writePassed() {
	var end error = &connError{fmt.Sprintf("sending: one write took longer than WriteTimeout %v", c.timer.timeouts.writeTimeout), errTimedOut}
	if c.in.tryLock() {
		defer c.in.lock.Unlock()
		if found, ok := c.in.lastLook(true).(*peerClose); ok {
			if peer, err := parseClosePayload(found.payload); err == nil {
				end = peer
			}
		}
	}
	c.expire(end)
}

// peerSilent ends a connection whose peer has been silent for ConnectionTimeout.
func (c *Conn) peerSilent() {
	switch c.life.current() {
	case phaseOpen, phaseCloseSent:
	case phaseLost:
		c.settle()
		return
	case phaseClosing: // without CloseTimeout
		c.expire(nil)
		return
	default:
		return // these phases have a limit
	}
	err := fmt.Errorf("%w: nothing from the peer for ConnectionTimeout %v", ErrConnectionTimeout, c.timer.timeouts.connectionTimeout)
	if c.beginFailing(err) {
		c.failAsync(failPayload(err))
	}
}
