package websocket

import (
	"sync"
	"time"
)

// Writing is the better part of what a small message costs. Where the peer sends
// many at once, their answers wait for each other and leave in one write: as long
// as the read buffer holds another whole frame, the handler is about to receive
// that one, and then either sends more or comes to wait for the peer, which
// writes what is pending. The alarm is for a handler that does neither.
const (
	coalesceSize = 64 << 10
	coalesceTime = 100 * time.Microsecond
)

var coalesceBuffers = sync.Pool{New: func() any { return new([coalesceSize]byte) }}

// mayDefer reports whether a frame that is to be sent may wait for the next.
func (c *Conn) mayDefer(h *Header) bool {
	return c.in.more.Load() && c.opts.writeCoalescing && h.Opcode != Close &&
		!c.deadlines.hasWrite.Load() && c.err() == nil
}

// coalesce puts a frame behind those that wait, which are written first if there
// is no room. It reports whether the frame is dealt with: written with the others,
// or left to wait if it may. The lock of c.out is held.
func (c *Conn) coalesce(h *Header, payload []byte, later bool) (done bool, err error) {
	out := &c.out
	size := maxHeaderSize + len(payload)
	if len(out.pending) > 0 && size > coalesceSize-len(out.pending) {
		if err := c.flush(); err != nil {
			return false, err
		}
	}
	if size > coalesceSize || !later && len(out.pending) == 0 {
		return false, nil
	}
	if out.pending == nil {
		out.pending = coalesceBuffers.Get().(*[coalesceSize]byte)[:0]
		out.deferred.Store(true)
		out.flushAlarm.Set(coalesceTime, c, (*Conn).flushSoon)
	}
	out.pending = append(h.append(out.pending, int64(len(payload))), payload...)
	if later {
		return true, nil
	}
	return true, c.flush()
}

// flush writes what is pending. An error is the end of the connection: it cannot be
// told to those who sent the frames.
func (c *Conn) flush() error {
	out := &c.out
	out.flushAlarm.Clear()
	lifted := c.liftWriteDeadline(true) // it was not for these
	c.beginWrite()
	_, err := writeWhole(c.conn, out.pending)
	c.endWrite()
	c.liftWriteDeadline(lifted)
	accepted := len(out.pending) // none of it can be taken back
	coalesceBuffers.Put((*[coalesceSize]byte)(out.pending[:coalesceSize]))
	out.pending = nil
	out.deferred.Store(false)
	return c.written(accepted, err)
}

// flushSoon has the pending frames written, by the goroutine that holds the sending side
// or else at once. The alarm calls it too, perhaps when no frames are pending any more.
func (c *Conn) flushSoon() {
	w := &c.out.waiting
	w.mu.Lock()
	w.flush = true
	w.any.Store(true)
	w.mu.Unlock()
	c.nudgeSender()
}
