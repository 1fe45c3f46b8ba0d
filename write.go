package websocket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// sender is the sending side of a Conn. Its lock is held for one frame at a
// time and guards what is not atomic; let go of it with unlockSender.
type sender struct {
	lock      wait.Lock
	streaming chan struct{} // of the MessageWriter that is open, nil without

	writing   atomic.Int64 // when the write that is going on began, 0 for none
	closeSent atomic.Bool
	broken    atomic.Bool // a write has failed; the lock may be held by who found out
	deferred  atomic.Bool // there are pending frames
	closeCode StatusCode  // what the close frame said; set before closeSent

	// Control frames that found the lock taken. Whoever holds it sends them when
	// it lets go, so neither a reader nor the watchdog waits for a slow sender.
	waiting control

	// Frames that wait to be written together, see coalesce.go.
	pending    []byte
	flushAlarm wait.Alarm[Conn]
}

// control is at most one ping and one pong: RFC 6455 section 5.5.3 lets an
// endpoint answer only the latest ping, and so a flood of them takes no memory.
type control struct {
	mu    sync.Mutex
	pong  []byte // nil: none
	any   atomic.Bool
	ping  bool
	flush bool // who wants the pending frames written does not wait either
}

// fragmentSize is what a MessageWriter gathers: it bounds what a message that is
// being written holds in memory.
const fragmentSize = 4096

var errWriteDeadline = fmt.Errorf("websocket: sending: %w", os.ErrDeadlineExceeded)

// lockSender takes the sending side, unless the connection ends or the write
// deadline passes before it is free.
func (c *Conn) lockSender() error {
	if c.out.lock.TryLock() {
		return nil
	}
	if c.out.lock.LockUnless(c.Context().Done(), c.deadlines.streamWait()) {
		return nil
	}
	if c.err() != nil {
		return c.endOfSending()
	}
	return errWriteDeadline
}

// sendErr is why nothing can be sent, nil if it can.
func (c *Conn) sendErr() error {
	if c.err() != nil {
		return c.endOfSending()
	}
	if c.out.closeSent.Load() {
		return &closedError{CloseError: CloseError{Code: c.out.closeCode}}
	}
	return nil
}

// unlockSender lets go of the sending side, and first sends the control frames
// that came in the meantime. One that comes right behind the last look finds
// either the lock free or its holder looking again.
func (c *Conn) unlockSender() {
	for {
		if c.out.waiting.any.Load() {
			c.sendWaiting()
		}
		c.out.lock.Unlock()
		if !c.out.waiting.any.Load() || !c.out.lock.TryLock() {
			return
		}
	}
}

// sendWaiting sends the control frames that wait, a pong also on a connection that
// has ended, ahead of the close frame. What cannot be sent any more is dropped.
func (c *Conn) sendWaiting() {
	ping, pong, flush := c.out.waiting.take()
	if flush && len(c.out.pending) > 0 {
		c.flush()
	}
	if pong != nil && !c.out.closeSent.Load() {
		c.writeOwn(&Header{Fin: true, Opcode: Pong}, pong)
	}
	if ping && c.sendErr() == nil {
		c.writeOwn(&Header{Fin: true, Opcode: Ping}, nil)
	}
}

func (w *control) take() (ping bool, pong []byte, flush bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ping, pong, flush = w.ping, w.pong, w.flush
	w.ping, w.pong, w.flush = false, nil, false
	w.any.Store(false)
	return ping, pong, flush
}

// sendPong answers a ping. payload is read only until it returns.
func (c *Conn) sendPong(payload []byte) {
	if !c.out.lock.TryLock() {
		c.out.waiting.addPong(payload)
		c.nudgeSender()
		return
	}
	defer c.unlockSender()
	if c.sendErr() == nil {
		c.writeOwn(&Header{Fin: true, Opcode: Pong}, payload)
	}
}

func (w *control) addPong(payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pong = append([]byte{}, payload...)
	w.any.Store(true)
}

// sendPing sends the ping of the keepalive.
func (c *Conn) sendPing() {
	w := &c.out.waiting
	w.mu.Lock()
	w.ping = true
	w.any.Store(true)
	w.mu.Unlock()
	c.nudgeSender()
}

// nudgeSender sends what waits if nobody else is about to.
func (c *Conn) nudgeSender() {
	if c.out.lock.TryLock() {
		c.unlockSender()
	}
}

// writeClose sends a close frame, the last frame of this side.
func (c *Conn) writeClose(payload []byte) error {
	if c.out.waiting.any.Load() {
		c.sendWaiting()
	}
	c.noteCloseSent(payload)
	return c.writeOwn(&Header{Fin: true, Opcode: Close}, payload)
}

// noteCloseSent starts the time within which the peer has to answer. It comes
// before the frame is written: the answer may be read before the write returns.
func (c *Conn) noteCloseSent(payload []byte) {
	if c.out.closeSent.Load() {
		return
	}
	c.out.closeCode = StatusNoStatusReceived
	if len(payload) >= 2 {
		c.out.closeCode = StatusCode(payload[0])<<8 | StatusCode(payload[1])
	}
	c.out.closeSent.Store(true)
	if c.out.streaming != nil {
		close(c.out.streaming) // its message cannot be finished any more
		c.out.streaming = nil
	}
	c.expectClose()
}

// write puts one frame on the wire, in one write, alone or along with those that
// wait. The lock of c.out is held.
func (c *Conn) write(h *Header, payload []byte) error {
	later := c.mayDefer(h)
	if later || len(c.out.pending) > 0 {
		done, err := c.coalesce(h, payload, later)
		if done || err != nil {
			return err
		}
	}
	c.beginWrite()
	n, err := writeFrame(c.conn, h, payload)
	c.endWrite()
	return c.written(n, err)
}

// writeOwn puts a control frame on the wire that the connection sends of its own
// accord. The lock of c.out is held.
func (c *Conn) writeOwn(h *Header, payload []byte) error {
	c.liftWriteDeadline(true)
	err := c.write(h, payload)
	c.liftWriteDeadline(false)
	return err
}

// written turns the outcome of a write into what the sender is told. A frame of
// which something was written and something was not is the end.
func (c *Conn) written(n int, err error) error {
	if err == nil {
		return nil
	}
	if c.err() != nil {
		return c.endOfSending()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return c.sendFailed(err)
	}
	// A TLS connection may have written part of a record, and says 0 all the same.
	if _, ok := c.conn.(*tls.Conn); ok || n > 0 {
		c.die("sending: the deadline cut a frame off", errTimedOut)
		return c.endOfSending()
	}
	return errWriteDeadline
}

// endOfSending is what senders are told of the end.
func (c *Conn) endOfSending() error {
	err := c.err()
	if errors.Is(err, errTimedOut) {
		return cutOffError{err}
	}
	return err
}

// sendFailed ends a connection that cannot be written to. Its peer may have closed
// it in an orderly way and gone, so what has arrived is looked at first.
func (c *Conn) sendFailed(err error) error {
	c.out.broken.Store(true)
	c.poll(time.Now().Add(pingPoll), lastLook)
	return c.die("sending", err)
}
