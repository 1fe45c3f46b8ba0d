package websocket

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// queueOverhead is how many bytes a frame in a sendQueue counts in addition to its own.
const queueOverhead = 32

// A sendQueue holds the whole frames that TrySend and Broadcast have accepted and that no write has
// begun. They are written after the pending frames: by the goroutine of the flush timer, or by a
// sender before its own frame. The queue is a part of seldom, because most peers read fast enough
// and never need it.
//
// Other connections may share the bytes of a frame, so they are never changed.
type sendQueue struct {
	mu     sync.Mutex
	frames []queuedFrame
	size   atomic.Int64 // the sum of their costs; changes with mu held
}

// A queuedFrame is a whole frame of TrySend or Broadcast.
type queuedFrame struct {
	bytes    []byte
	shared   bool // bytes does not change after the call
	toAll    bool // it is a Broadcast: an empty queue takes it whatever its size
	compress bool // it is to be compressed when it is written, because earlier frames are the history

	alone *aloneFrame // for writer.learn, if the frame is compressed already
}

// cost is how many bytes a frame counts in the queue: its own, those that it keeps for the encoder,
// and queueOverhead.
func (f *queuedFrame) cost() int {
	if f.alone != nil {
		return len(f.bytes) + len(f.alone.history) + queueOverhead
	}
	return len(f.bytes) + queueOverhead
}

// fits returns ErrSendQueueFull if a frame does not fit into a queue of limit bytes. A Broadcast
// fits into an empty queue whatever its size, because otherwise a large one would close all
// connections, even those whose peers read fast. The queues share its bytes.
func (q *sendQueue) fits(f queuedFrame, limit int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.room(f, limit)
}

// room is fits with q.mu held.
func (q *sendQueue) room(f queuedFrame, limit int) error {
	n, size := len(f.bytes), int(q.size.Load())
	if f.toAll && size == 0 {
		return nil
	}
	if f.cost() > limit-size {
		return fmt.Errorf("%w: a frame of %d bytes does not fit beside the %d bytes that wait for the peer; SendQueue is %d",
			ErrSendQueueFull, n, size, limit)
	}
	return nil
}

// add puts a frame into the queue, whatever its limit.
func (q *sendQueue) add(frame []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(queuedFrame{bytes: frame})
}

// append is add with q.mu held.
func (q *sendQueue) append(f queuedFrame) {
	q.frames = append(q.frames, f)
	q.size.Add(int64(f.cost()))
}

// len returns how many frames wait. q may be nil.
func (q *sendQueue) len() int {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames)
}

// take takes frames out of the queue for one write, not more than most: several that have no more
// than pendingSize bytes, or one. It stops before a frame that is to be compressed. If b is a
// single frame, it does not have the capacity of a pooled buffer, because releaseFrames would put
// it into the pool. messages is how many of the frames count for Stats. learn is called for each
// frame, and may be nil without compression.
func (q *sendQueue) take(most int, learn func(*aloneFrame)) (b []byte, frames int, messages uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	total := 0
	for _, f := range q.frames[:min(most, len(q.frames))] {
		if total += len(f.bytes); total > pendingSize && frames > 0 || f.compress {
			break
		}
		frames++
	}
	if frames == 0 {
		return nil, 0, 0
	}
	b = q.frames[0].bytes
	if frames > 1 || len(b) == frameBufferSize || len(b) == pendingSize {
		b = pendingBuffers.Get().(*[pendingSize]byte)[:0]
		for _, f := range q.frames[:frames] {
			b = append(b, f.bytes...)
		}
	} else {
		b = b[:len(b):len(b)]
	}
	for range frames {
		if learn != nil {
			learn(q.frames[0].alone)
		}
		if endsMessage(q.drop()) {
			messages++
		}
	}
	return b, frames, messages
}

// takeToCompress takes the first frame, if it is to be compressed. Otherwise it returns nil.
func (q *sendQueue) takeToCompress() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 || !q.frames[0].compress {
		return nil
	}
	return q.drop()
}

// drop removes the first frame and returns it. q.mu is held.
func (q *sendQueue) drop() []byte {
	b := q.frames[0].bytes
	q.size.Add(-int64(q.frames[0].cost()))
	q.frames[0] = queuedFrame{}
	if q.frames = q.frames[1:]; len(q.frames) == 0 {
		q.frames = nil // so that the array becomes garbage
	}
	return b
}
