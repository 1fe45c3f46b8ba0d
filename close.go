package websocket

import (
	"errors"
	"net"
	"strings"
	"time"
)

// A connection ends in one of five ways. Each function is called by the one goroutine that
// has moved the connection to a phase (life.go), and does the work of that phase:
//
//	connectionLost  the TCP connection does not work: close the socket
//	failConnection  close frame, then let it arrive (RFC 6455 section 7.1.7)
//	peerClosed      answer the close frame, then let it arrive (section 5.5.1)
//	closeHandshake  close frame, wait for the peer's (section 7.1.2)
//	expire          a limit has passed, or CloseNow: close the socket, so that the other
//	                four return
//
// The timer limits each of them.

// failTimeout limits the sending of a last close frame if CloseTimeout does not.
const failTimeout = 5 * time.Second

// received ends the connection if err, an error of the reader, requires that. It returns
// the error for the caller of a receiving method. in.lock is held.
func (c *Conn) received(err error) error {
	c.in.showCounts() // the end may wait for the peer with the lock held
	if err == errReadDeadline && c.life.current() < phaseLost {
		return err // first, because a handler may poll with short deadlines
	}
	dead, isDead := err.(*connError)
	peer, isClose := err.(*peerClose)
	switch {
	case c.life.err() != nil:
		return c.life.err()
	case isClose:
		return c.peerClosed(peer)
	case err == errReadDeadline && c.socket.readExpired():
		// A write has failed, and the user's deadline has ended the call, maybe before it looked at the socket.
		if c.lastLook(false); c.life.err() != nil {
			return c.life.err()
		}
		return err
	case c.life.current() == phaseLost && (isDead || err == errReadDeadline):
		return c.connectionLost(nil) // a read has found no close frame, so the error of the write is the cause
	case isDead:
		return c.streamEnded(dead)
	case CloseStatus(err) == 0:
		return err // a deadline has passed, or another method has begun the message
	}
	return c.failConnection(err)
}

// finishSend unlocks out.lock at the end of a sending method, and replaces its error.
func (c *Conn) finishSend(err *error) {
	c.out.release(bySender)
	*err = c.sendError(*err)
}

// sendError returns the error for the caller of a sending method. If a write has
// failed, it finds out why the connection has ended. No lock is held.
func (c *Conn) sendError(err error) error {
	if err == nil || c.life.current() < phaseLost {
		return err
	}
	c.settle()
	return c.out.ended()
}

// streamEnded ends a connection that nothing more can be read from. Accepted frames are
// written first, because the peer may have shut down only its own direction.
func (c *Conn) streamEnded(err error) error {
	if c.beginFailing(err) { // from now on, no frame is accepted
		c.out.awaitEnqueue()
		c.out.lock.Lock() // a write may be in progress, maybe of accepted frames
		c.out.writeQueue(byLibrary, allWrites)
		c.out.release(byLibrary)
		c.expire(nil)
	}
	return c.life.err()
}

// connectionLost ends a connection whose socket does not work any more.
func (c *Conn) connectionLost(err error) error {
	c.expire(err)
	return c.life.err()
}

// expire closes the socket now, and reports whether it was open. Goroutines that still
// work on the end of the connection return, because their reads and writes fail.
func (c *Conn) expire(err error) bool {
	told := c.life.current() == phaseDraining
	if !c.end(phaseClosed, err, 0) {
		return false
	}
	c.socket.cut(told)
	c.out.clearQueue()
	c.timer.stop()
	c.socket.stop()
	c.life.closed.Set()
	c.inbox.socketClosed()
	return true
}

// settle ends a connection in phaseLost: with the peer's close frame if it has
// arrived, else with the error of the write. If a goroutine is receiving, settle waits for it
// to do that, because the messages before the close frame are for it. That may be a goroutine which
// receives one message after another, so settle tries again and again, until phaseLost ends or for
// about drainTime. In other phases it does nothing. No lock is held.
func (c *Conn) settle() {
	if c.life.current() != phaseLost {
		return
	}
	if ahead := c.inbox.readsAhead(); ahead != nil {
		ahead.endNow()
		if c.overWithin(maxPoll) { // its goroutine may have to pass on messages first
			return
		}
	}
	for start := time.Now(); !c.in.tryLock(); {
		if time.Since(start) >= drainTime {
			c.connectionLost(nil)
			return
		}
		if c.overWithin(pingPoll) {
			return
		}
	}
	defer c.in.lock.Unlock()
	c.lastLook(true)
}

// overWithin waits until the connection has ended, for d at most, and reports whether it has.
func (c *Conn) overWithin(d time.Duration) bool {
	select {
	case <-c.life.over.Done():
		return true
	case <-time.After(d):
		return false
	}
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
		c.peerClosed(peer)
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
	if c.sendLastClose(byEnding, payload) {
		c.drain()
	} else {
		c.expire(nil)
	}
}

// failAsync is failConnection for a goroutine that does not hold in.lock, after
// beginFailing.
func (c *Conn) failAsync(payload []byte) {
	c.socket.endReads(longAgo)
	if !c.sendLastClose(byLibrary, payload) {
		c.expire(nil)
		return
	}
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	c.drain()
}

// peerClosed takes the peer's close frame and answers it with the same code. in.lock
// is held.
func (c *Conn) peerClosed(peer *peerClose) error {
	if peer.fault != nil {
		return c.failConnection(peer.fault)
	}
	var end error = &peer.closed
	if code, sent := c.life.closeSent(); sent && c.life.current() != phaseLost {
		end = &closedError{CloseError: CloseError{Code: code}, peer: &peer.closed}
	}
	if c.beginFailing(end) {
		c.finishFailing(peer.answer())
	}
	return c.life.err()
}

// beginFailing moves the connection to phaseFailing, and reports whether it did.
func (c *Conn) beginFailing(err error) bool {
	return c.end(phaseFailing, err, c.timer.timeouts.endLimit())
}

// end moves the connection to a phase in which it has ended, see keepalive.enter, and takes it out
// of its groups.
func (c *Conn) end(p phase, cause error, limit time.Duration) bool {
	if !c.timer.enter(p, cause, limit) {
		return false
	}
	c.leaveGroups()
	return true
}

// endLimit is CloseTimeout, or failTimeout if that is 0. It is not longer than the larger of
// ConnectionTimeout and failTimeout, because these phases do not wait for bytes of the peer.
func (t *timeouts) endLimit() time.Duration {
	limit, silence := t.closeTimeout, t.connectionTimeout
	switch {
	case limit == 0:
		return failTimeout
	case silence == 0:
		return limit
	}
	return min(limit, max(silence, failTimeout))
}

// failPayload returns the payload of a close frame that tells the peer which rule it
// broke, as far as there is room.
func failPayload(err error) []byte {
	return AppendClose(nil, CloseStatus(err), strings.TrimPrefix(err.Error(), "websocket: "))
}

// close sends a close frame, the last frame of this side, after all urgent and pending
// frames. The lock is held.
func (w *writer) close(by caller, payload []byte) error {
	if w.urgent.any.Load() || w.urgent.waits() {
		w.sendUrgent(by)
	}
	w.noteClose(payload)
	return w.sendOwn(by, &Header{Fin: true, Opcode: Close}, payload)
}

// noteClose notes that a close frame is about to be sent. It comes before the frame
// is written, because its answer may be read before the write returns. The lock is
// held.
func (w *writer) noteClose(payload []byte) {
	code := StatusNoStatusReceived
	if len(payload) >= 2 {
		code = StatusCode(payload[0])<<8 | StatusCode(payload[1])
	}
	if !w.life.noteCloseSent(code) {
		return
	}
	limit := w.timer.timeouts.closeTimeout
	if w.life.closeReceived() {
		limit = 0 // the peer has sent its close frame already
	}
	w.timer.enter(phaseCloseSent, nil, limit)
	w.awaitEnqueue()
	if open := w.openMessage(); open != nil {
		w.closeStream(open) // its message cannot be finished any more
		w.dropQueue()       // and no message can begin inside it
	}
}

// sendLastClose sends a close frame after everything that is being sent, unless one
// was sent, and begins the draining. It reports false if nothing can be sent any more.
func (c *Conn) sendLastClose(by caller, payload []byte) bool {
	if !c.sendCloseOnce(by, payload) {
		return false
	}
	c.timer.enter(phaseDraining, nil, drainTime)
	return true
}

func (c *Conn) sendCloseOnce(by caller, payload []byte) bool {
	c.out.lock.Lock()
	defer c.out.release(byLibrary)
	if _, sent := c.life.closeSent(); !sent {
		c.out.close(by, payload)
	} else {
		c.out.writeQueue(by, allWrites) // the close frame may be among the pending frames
	}
	return !c.out.broken
}

// drain shuts down the write side, drops what still arrives for drainTime at most,
// and closes the socket. in.lock is held.
func (c *Conn) drain() {
	defer c.expire(nil)
	err := c.socket.closeWrite()
	if err == errors.ErrUnsupported && c.life.closeReceived() {
		return // the peer has sent its last frame, so nothing more arrives
	}
	if err != nil && err != errors.ErrUnsupported {
		return
	}
	c.socket.endReads(time.Time{})
	if err == errors.ErrUnsupported && !c.life.hasUnread() {
		// The peer does not see the end of the stream, and may wait for it after its close frame.
		if _, closed := c.in.discard().(*peerClose); closed {
			return
		}
	}
	c.in.drain()
}

// Close closes the connection: it sends a close frame with code and reason, waits
// for the peer's close frame, for at most CloseTimeout, and closes the socket (RFC
// 6455 section 7.1.2). Messages sent before are written before the close frame.
// Messages of the peer are dropped. Every other method that is waiting returns an
// error that is [net.ErrClosed], and so does every later call.
//
// A reason never prevents the close: of a reason of more than 123 bytes, only the first
// characters are sent, and bytes that are not UTF-8 become U+FFFD. StatusNoStatusReceived
// with no reason sends a close frame without a code. A code that must not be sent (RFC
// 6455 section 7.4) is a programming error: Close returns [ErrProtocol] and does nothing,
// and the connection stays open.
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
	c.settle()
	if !c.beginClose(code, reason) {
		c.life.closed.Wait()
		return c.life.err()
	}
	err = c.closeHandshake(payload)
	c.life.closed.Wait() // CloseNow may be closing it at this moment
	return err
}

// StartClose is [Conn.Close] without the waiting: the connection has ended when it returns, and
// the close handshake continues in the background, within CloseTimeout. Messages sent before are
// still written, except those of TrySend behind an open MessageWriter. The connection needs no
// further call, but a later Close waits until its socket is closed. So a server can close many
// connections at the same time.
//
// If the connection has ended already, StartClose returns the error that it ended with. If a write
// has failed, StartClose returns the error of the write, because no close frame can be sent. The
// connection then ends within about a second, with the peer's close frame if that has arrived.
func (c *Conn) StartClose(code StatusCode, reason string) error {
	payload, err := closePayload(code, reason)
	if err != nil && c.life.err() == nil {
		return err
	}
	if c.life.current() == phaseLost {
		c.timer.run(c.settle) // on a goroutine, because it waits for a goroutine that is receiving
		return c.out.ended()
	}
	if !c.beginClose(code, reason) {
		return c.life.err()
	}
	// On a goroutine, because a sender may be writing to a peer that does not read.
	c.timer.run(func() { c.closeHandshake(payload) })
	return nil
}

// CloseNow closes the socket without a close handshake, and waits for nothing: frames that
// are not in the kernel yet are lost. The peer sees that the TCP connection has ended, which
// is 1006 (RFC 6455 section 7.1.5). Every method that is waiting, and every later call, returns an
// error that is [net.ErrClosed], or the error of what was ending the connection before.
//
// CloseNow also cuts off a close handshake that is in progress, for example that of Close,
// which then returns an error. If the socket is closed already, CloseNow returns the error
// that the connection ended with. Over HTTP/2 it resets the stream, also while Close waits for the
// peer, which may then lose the close frame. It does not reset a stream whose last close frame was
// sent, or whose peer has ended its side. Use Close instead, unless the peer must not or cannot
// answer, because after CloseNow the peer does not learn why the connection has ended.
func (c *Conn) CloseNow() error {
	var end error
	if c.life.current() != phaseLost { // there the cause is the error of a write
		end = &closedError{CloseError: CloseError{Code: StatusAbnormalClosure}}
	}
	if !c.expire(end) {
		return c.life.err()
	}
	return nil
}

// beginClose ends the connection for closeHandshake, and sets its limit. It returns false if the
// connection has ended already.
func (c *Conn) beginClose(code StatusCode, reason string) bool {
	if c.life.err() != nil { // as after most handlers, and then nothing is allocated
		return false
	}
	if sent, ok := c.life.closeSent(); ok {
		code = sent
	}
	end := &closedError{CloseError: CloseError{code, closeReason(reason)}}
	return c.end(phaseClosing, end, c.timer.timeouts.closeTimeout)
}

// closeHandshake sends the close frame and waits for the peer's.
func (c *Conn) closeHandshake(payload []byte) error {
	c.socket.endReads(longAgo) // a goroutine that is receiving gives up in.lock
	c.sendCloseOnce(byLibrary, payload)
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	c.socket.endReads(time.Time{})
	err := c.in.discard()
	if _, ok := err.(*peerClose); ok {
		c.timer.enter(phaseDraining, nil, drainTime)
		c.drain()
		return nil
	}
	if !c.expire(nil) {
		err = net.ErrClosed // the read has failed because the socket was closed
	}
	if r := c.rareIf(); r != nil && r.overdue.Load() != nil {
		return *r.overdue.Load()
	}
	return &connError{"the peer did not answer the close frame", err}
}

// noAnswer is the error of a close handshake that the peer has not finished within a limit.
func noAnswer(option string, limit time.Duration) error {
	return endedByTimeout(ErrCloseTimeout, "the peer did not answer the close frame within %s %v (RFC 6455 section 7.1.1)", option, limit)
}

// closeOverdue ends a connection that is being closed, because a limit has passed. Close returns
// noAnswer for that limit.
func (c *Conn) closeOverdue(option string, limit time.Duration) {
	err := noAnswer(option, limit)
	c.rareUsed().overdue.Store(&err)
	c.expire(nil)
}

// waitGoroutines waits for the goroutines of a connection whose socket is closed.
func (c *Conn) waitGoroutines() {
	c.timer.waitTicks()
	c.out.stop()
	c.socket.stop()
	c.socket.release()
	if c.inbox != nil {
		c.inbox.stop()
	}
}
