package websocket

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ping sends a ping, waits for its pong, and returns the time between them. A peer may answer only
// the latest of several pings, so the pong of a later call of Ping completes this call too (RFC
// 6455 section 5.5.3). Other pongs do not.
//
// If no method is receiving, Ping reads from the connection itself, and messages wait for the next
// receiving call. If they fill the read buffer, Ping finds a pong after them only when they are
// received. With [Conn.ReadFrame] the handler gets all frames: the pong counts when ReadFrame
// returns it.
//
// When ctx is done, Ping returns an error that is ctx.Err(), and the connection stays usable. Ping
// is not needed to keep the connection open, see [PingInterval].
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if err := c.out.check(); err != nil {
		err = c.sendError(err)
		if c.life.current() >= phaseLost {
			err = c.life.sendErr() // not os.ErrDeadlineExceeded, because ctx is the deadline of Ping
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
// returns before that, pings.turn gets a token when a call may try again.
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
// messages, as a poll does. It returns early if a goroutine wants to receive. It also returns early
// where it cannot find a pong any more: at a close frame, at the end of the stream after unread
// messages, or when the buffer is full. The polls handle these three cases. The lock is held.
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
		switch err := r.fillInPoll(time.Time{}); {
		case err == errReadDeadline:
			if !r.socket.beginWait() {
				return nil
			}
		case err == errStreamEnd && !r.receivedAll():
			return nil
		case err != nil:
			return r.endBehind(err)
		}
	}
	return nil
}

// A pingError is the error of a Ping whose context is done. If the deadline of the context has
// passed, the error is a timeout, as context.DeadlineExceeded is.
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
