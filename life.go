package websocket

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A phase is a step in the life of a connection. A connection moves only to
// later phases, and only enter moves it. The connection has ended from
// phaseClosing on: from then on every method returns the cause of the end.
type phase uint32

const (
	// phaseOpen: both sides may send. The keepalive sends pings and limits the
	// silence of the peer to ConnectionTimeout.
	phaseOpen phase = iota

	// phaseCloseSent: SendMessage or WriteFrame has sent a close frame, and the
	// peer has CloseTimeout to answer it (RFC 6455 section 7.1.2). Receiving goes
	// on, because the peer may send messages before its close frame.
	phaseCloseSent

	// phaseLost: a write has failed, so nothing can be sent. Receiving goes on,
	// because the peer may have sent a close frame before it ended the TCP
	// connection, and then that close frame is why the connection ended (RFC 6455
	// section 7.1.5). No read waits longer than pingPoll (see lookAgain). The cause is the error
	// of the write until a close frame is found.
	phaseLost

	// phaseClosing: Close or StartClose sends a close frame and waits for that of the peer,
	// within CloseTimeout (RFC 6455 section 7.1.2).
	phaseClosing

	// phaseFailing: the last close frame of this side is being sent, because the
	// peer broke a rule (RFC 6455 section 7.1.7), was silent, or has sent its own
	// close frame (section 5.5.1).
	phaseFailing

	// phaseDraining: the last frame was sent. The write side of the socket is shut
	// down and input is dropped for at most drainTime.
	phaseDraining

	// phaseClosed: the socket is closed or about to be.
	phaseClosed
)

// drainTime is how long input is dropped after the last frame of this side. Closing a socket
// with unread bytes would reset the TCP connection, and the peer could lose the close frame
// by that.
const drainTime = time.Second

// life is the state of a connection from its handshake to its end. enter is the
// only function that changes the phase; all other code only asks for it.
type life struct {
	phase atomic.Uint32
	notes atomic.Uint32 // see closeReceived; the lower half is the code of the close frame that was sent

	cause  atomic.Pointer[error]       // why the connection ended, or cannot send any more
	ctx    atomic.Pointer[connContext] // made by the first call of Conn.Context
	over   wait.Event                  // the connection has ended
	closed wait.Event                  // its socket is closed

	mu sync.Mutex    // guards by, and serializes enter
	by time.Duration // when the phase has to be over, see clock; never for no bound
}

// A connContext is made when the user asks for it, because most users do not.
type connContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// enter moves the connection to phase p, which has to be over at the time by, and
// reports whether it did. It returns false if the connection is in phase p or later, or is
// already ending. The goroutine that gets true does the work of the
// phase. cause is why the connection ends; nil leaves the cause as it is.
func (l *life) enter(p phase, cause error, by time.Duration) bool {
	l.mu.Lock()
	now := l.current()
	if p <= now || now >= phaseClosing && p < phaseDraining {
		l.mu.Unlock()
		return false
	}
	if cause == nil && l.cause.Load() == nil {
		cause = &closedError{CloseError: CloseError{Code: StatusAbnormalClosure}} // err needs one
	}
	if cause != nil && now < phaseClosing {
		kept := cause // a variable of its own, because only this one is allocated
		l.cause.Store(&kept)
	}
	if now == phaseCloseSent || now == phaseClosing {
		by = min(by, l.by) // a second close does not extend the peer's time
	}
	l.by = by
	l.phase.Store(uint32(p))
	l.mu.Unlock()
	if now < phaseClosing && p >= phaseClosing {
		if ctx := l.ctx.Load(); ctx != nil {
			ctx.cancel(l.err())
		}
		l.over.Set()
	}
	return true
}

// bound changes the time by which phase p has to be over. It does nothing if the
// connection is in another phase.
func (l *life) bound(p phase, by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current() == p {
		l.by = by
	}
}

func (l *life) current() phase { return phase(l.phase.Load()) }

// until returns the phase and the time by which it has to be over.
func (l *life) until() (phase, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current(), l.by
}

// err returns why the connection ended, or nil.
func (l *life) err() error {
	if l.current() < phaseClosing {
		return nil
	}
	return *l.cause.Load()
}

// receiveErr is err, but nil while messages from before the end can still be received.
func (l *life) receiveErr() error {
	if l.hasUnread() {
		return nil
	}
	return l.err()
}

// sendErr returns why nothing can be sent: the cause of the end, or of phaseLost. It is nil before,
// even in phaseCloseSent.
func (l *life) sendErr() error {
	if l.current() < phaseLost {
		return nil
	}
	return *l.cause.Load()
}

// The bits of life.notes above the code of the close frame that was sent.
const (
	closeWasSent   uint32 = 1 << (16 + iota)
	closeReceived         // the peer's close frame has arrived
	unreadMessages        // messages that arrived before the end can still be received
)

func (l *life) noteCloseReceived()  { l.notes.Or(closeReceived) }
func (l *life) closeReceived() bool { return l.notes.Load()&closeReceived != 0 }
func (l *life) hasUnread() bool     { return l.notes.Load()&unreadMessages != 0 }

// noteUnread notes whether there are messages that can still be received.
func (l *life) noteUnread(there bool) {
	if there {
		l.notes.Or(unreadMessages)
	} else {
		l.notes.And(^unreadMessages)
	}
}

// noteCloseSent notes the code of the close frame that is about to be sent, and
// reports whether it is the first one. WriteFrame can send any code, also 0, so a bit
// beside the code says that a frame was sent.
func (l *life) noteCloseSent(code StatusCode) bool {
	for {
		notes := l.notes.Load()
		if notes&closeWasSent != 0 {
			return false
		}
		if l.notes.CompareAndSwap(notes, notes|closeWasSent|uint32(code)) {
			return true
		}
	}
}

// closeSent returns the code of the close frame that was sent, and whether one was.
func (l *life) closeSent() (StatusCode, bool) {
	notes := l.notes.Load()
	return StatusCode(notes), notes&closeWasSent != 0
}

// context returns the context of the connection, with the values of values().
func (l *life) context(values func() context.Context) context.Context {
	ctx := l.ctx.Load()
	if ctx == nil {
		ctx = new(connContext)
		ctx.Context, ctx.cancel = context.WithCancelCause(values())
		if !l.ctx.CompareAndSwap(nil, ctx) {
			ctx = l.ctx.Load()
		}
	}
	// Either this call sees the end, or enter sees the context.
	if err := l.err(); err != nil {
		ctx.cancel(err)
	}
	return ctx.Context
}

// pingPoll is how long a poll waits. It is not 0, because a read with a deadline that has
// passed does not look at the socket.
const pingPoll = 10 * time.Millisecond

// never is a time that does not come, and noTime stands for no time.
const (
	never  time.Duration = math.MaxInt64
	noTime time.Duration = math.MinInt64
)

// epoch is what times are measured from. A duration fits an atomic, and the
// monotonic clock alone is read faster than time.Now reads both clocks.
var epoch = time.Now()

// clock is the time since epoch.
func clock() time.Duration { return time.Since(epoch) }

// part returns d/n, but not 0, which stands for no limit.
func part(d, n time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return max(d/n, 1)
}

// deadlineAfter returns t+d, or never if d is 0 or longer than a century.
func deadlineAfter(t, d time.Duration) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	if d == 0 || d > century {
		return never
	}
	return t + d
}
