package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Ping sends a ping, waits for its pong, and returns the time between them. A peer may
// answer only the latest of several pings, so the pong to a later ping of Ping counts too
// (RFC 6455 section 5.5.3). Other pongs do not.
//
// If no method is receiving, Ping reads from the connection itself, and messages wait for
// the next receiving call. A pong behind more of them than the read buffer holds is seen when
// they are received. With [Conn.ReadFrame] the handler gets all frames: the pong counts when
// ReadFrame returns it.
//
// When ctx is done, Ping returns an error that is ctx.Err(), and the connection stays usable.
// The connection has a keepalive of its own, see [PingInterval], so Ping is not needed for
// that. It can be called by several goroutines.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if err := c.out.check(); err != nil {
		err = c.sendError(err)
		if c.life.current() >= phaseLost {
			err = c.life.sendErr() // which is no expired deadline: ctx is the deadline of Ping
		}
		return 0, err
	}
	start := clock()
	if err := ctx.Err(); err != nil {
		return 0, &pingError{err, 0}
	}
	p := c.pingsUsed()
	call := p.begin()
	defer p.end(call)
	stop := context.AfterFunc(ctx, func() {
		if call.reading.Load() {
			c.socket.interruptWait()
		}
	})
	defer stop()
	c.timer.run(c.out.requestPings) // on a goroutine, because the write may block for longer than ctx
	for {
		c.receivePong(ctx, call)
		select {
		case <-call.answered:
		case <-p.turn:
			continue
		case <-ctx.Done():
		case <-c.life.over.Done():
		}
		switch {
		case call.isAnswered():
			return call.rtt, nil
		case c.life.err() != nil:
			return 0, c.life.err()
		}
		return 0, &pingError{ctx.Err(), clock() - start}
	}
}

// receivePong reads until call is answered or ctx is done, if no method is receiving. If it
// returns before that, a turn follows when it is worth trying again.
func (c *Conn) receivePong(ctx context.Context, call *pingCall) {
	if !c.in.tryLock() {
		return
	}
	over := func() bool { return call.isAnswered() || ctx.Err() != nil }
	if c.life.current() <= phaseCloseSent {
		call.reading.Store(true)
		err := c.in.awaitPong(over)
		call.reading.Store(false)
		if err != nil {
			c.received(err)
		}
	}
	c.in.lock.Unlock()
	c.timer.resumePolls()
	if over() {
		c.in.passTurn() // the next call of Ping may read
	}
}

// awaitPong reads until over returns true, and handles the control frames among the unread
// messages, as a poll does. It returns early if a goroutine wants to receive, or if a pong
// could not be found: nothing can be read behind a close frame or the end of the stream, and
// no more than the buffer holds. Those are left to the polls. The lock is held.
func (r *reader) awaitPong(over func() bool) error {
	if r.aheadEnd() != nil || r.mode == modeFrames || !r.socket.beginWait() {
		return nil
	}
	defer r.socket.endPoll()
	r.polling = true
	defer func() { r.polling = false }()
	var s controlScan
	for !over() {
		if err := r.scan(&s); err != nil {
			return r.endBehind(err)
		}
		if s.closed || r.buf.full() || over() {
			return nil
		}
		switch err := r.fillInPoll(true); {
		case err == errReadDeadline:
			if !r.socket.beginWait() {
				return nil
			}
		case err == errStreamEnd && !(r.incoming.left == 0 && r.buf.empty()):
			return nil
		case err != nil:
			return r.endBehind(err)
		}
	}
	return nil
}

// passTurn lets a call of Ping read, if one is waiting. It is called when the lock has been
// free for a moment.
func (r *reader) passTurn() {
	if p := r.waitingPings(); p != nil {
		p.pass()
	}
}

// pong handles the payload of a pong.
func (r *reader) pong(payload []byte) {
	if len(payload) == 0 { // as the keepalive's pings
		if r.timer.notePong() {
			r.socket.noteQuiet()
		}
		return
	}
	if p := r.waitingPings(); p != nil {
		if rtt, ok := p.answer(payload); ok {
			r.timer.noteRTT(rtt)
		}
	}
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

// pings are the calls of Ping that wait. The payload of a ping is its number, added to a
// random number, so that the peer can neither confuse it with another ping nor guess it.
type pings struct {
	count atomic.Int32 // len(calls), for goroutines that would not lock mu for nothing

	mu     sync.Mutex
	random uint64
	last   uint64        // the number of the last call
	sent   uint64        // the number of the last ping that was sent
	calls  []*pingCall   // in the order of their numbers
	turn   chan struct{} // one call may try to read
}

// A pingCall is a call of Ping.
type pingCall struct {
	number   uint64
	sent     time.Duration // when its ping was sent, see clock
	rtt      time.Duration // set before answered is closed
	answered chan struct{}
	reading  atomic.Bool // it reads from the connection
}

// pingsUsed returns the pings. It allocates them if this is the first call of Ping.
func (c *core) pingsUsed() *pings {
	s := c.seldomUsed()
	if s.pings.Load() == nil {
		s.pings.CompareAndSwap(nil, new(pings))
	}
	return s.pings.Load()
}

// waitingPings returns the pings if a call of Ping waits, or nil.
func (c *core) waitingPings() *pings {
	s := c.seldom.Load()
	if s == nil {
		return nil
	}
	if p := s.pings.Load(); p != nil && p.count.Load() > 0 {
		return p
	}
	return nil
}

func (p *pings) begin() *pingCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn == nil {
		p.turn = make(chan struct{}, 1)
		p.random = rand.Uint64()
	}
	p.last++
	call := &pingCall{number: p.last, answered: make(chan struct{})}
	p.setCalls(append(p.calls, call))
	return call
}

func (p *pings) end(call *pingCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.calls, call); i >= 0 {
		p.setCalls(slices.Delete(p.calls, i, i+1))
	}
}

func (p *pings) setCalls(calls []*pingCall) {
	p.calls = calls
	p.count.Store(int32(len(calls)))
}

// next returns the payload of the next ping to be sent, which is sent now, or nil.
func (p *pings) next() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.calls {
		if call.number > p.sent {
			p.sent, call.sent = call.number, clock()
			return binary.BigEndian.AppendUint64(nil, p.random+call.number)
		}
	}
	return nil
}

// answer completes the calls that a pong with this payload answers: that of the ping with
// the same payload, and all before it. It returns the round trip time of that ping, unless its
// call waits no longer.
func (p *pings) answer(payload []byte) (rtt time.Duration, ok bool) {
	if len(payload) != 8 {
		return 0, false
	}
	now := clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	number := binary.BigEndian.Uint64(payload) - p.random
	if number == 0 || number > p.sent {
		return 0, false
	}
	n := 0
	for _, call := range p.calls {
		if call.number > number {
			break
		}
		call.rtt = now - call.sent
		rtt, ok = call.rtt, call.number == number
		close(call.answered)
		n++
	}
	p.setCalls(slices.Delete(p.calls, 0, n))
	return rtt, ok
}

func (p *pings) pass() {
	select {
	case p.turn <- struct{}{}:
	default: // one call at a time reads
	}
}

func (c *pingCall) isAnswered() bool {
	select {
	case <-c.answered:
		return true
	default:
		return false
	}
}

// A pingError is the error of a Ping whose context is done. If that is because of a deadline,
// it is a timeout, as the error of the context itself.
type pingError struct {
	err  error // of the context
	took time.Duration
}

func (e *pingError) Error() string {
	return fmt.Sprintf("websocket: Ping has waited for %v and got no pong: %v", e.took, e.err)
}

func (e *pingError) Unwrap() error   { return e.err }
func (e *pingError) Timeout() bool   { return errors.Is(e.err, context.DeadlineExceeded) }
func (e *pingError) Temporary() bool { return e.Timeout() }

// pingTick is the time between two pings, or between two looks at whether a TLS connection is
// quiet if there are no pings. It is 0 if there is nothing to do.
func (k *keepalive) pingTick() time.Duration {
	if d := k.timeouts.pingInterval; d > 0 || k.owner.shared().socket.overTLS() == nil {
		return d
	}
	return defaultPingInterval
}

// pingDue notes what is due each pingTick.
func (k *keepalive) pingDue(now time.Duration, do *due) {
	k.nextPing = deadlineAfter(now, k.pingTick())
	do.rest = k.owner.shared().socket.overTLS() != nil
	do.ping = k.timeouts.pingInterval > 0
	if do.ping && !k.awaitsPong {
		k.awaitsPong, k.pingSent = true, now
	}
}
