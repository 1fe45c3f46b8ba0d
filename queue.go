package websocket

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// A sendQueue holds the whole frames that TrySend and Broadcast have accepted and that no write has
// begun. They are written after the pending frames: by the goroutine of the flush timer, or by a
// sender before its own frame. The queue is a part of seldom, because most peers read fast enough
// and never need it.
//
// It is a linked list, because an array that grows would take up to twice the memory of its frames,
// and would keep it while frames leave the queue. Other connections may share the bytes of a frame,
// so they are never changed.
type sendQueue struct {
	mu          sync.Mutex
	first, last *queueEntry
	frames      int
	size        atomic.Int64 // the sum of their costs; changes with mu held
}

type queueEntry struct {
	queuedFrame
	next *queueEntry
}

// A queuedFrame is a whole frame of TrySend or Broadcast.
type queuedFrame struct {
	bytes    []byte
	shared   bool // bytes does not change after the call, and has memory of newFrame
	toAll    bool // it is a Broadcast: an empty queue takes it whatever its size
	compress bool // it is to be compressed when it is written, because earlier frames are the history

	alone *aloneFrame // for writer.learn, if the frame is compressed already
}

// newFrame returns an empty slice with room for a frame of size bytes. Its capacity is all the
// memory that the allocator takes for it, which a queue has to count.
func newFrame(size int) []byte { return slices.Grow([]byte(nil), size) }

const (
	// queueOverhead is the size of a queueEntry, and that of an aloneFrame, on 64-bit systems.
	queueOverhead = 48

	// leastMemory is how much memory a small frame can take. The allocator puts several small
	// objects into 16 bytes, which stay allocated while one of them is used.
	leastMemory = 16
)

// cost is how many bytes a frame counts in the queue: the memory of the frame, of its entry, and of
// what it keeps for the encoder. A frame that enqueue has to copy counts more after that.
func (f *queuedFrame) cost() int {
	size := len(f.bytes)
	if f.shared {
		size = cap(f.bytes)
	}
	size = max(size, leastMemory) + queueOverhead
	if f.alone != nil {
		size += cap(f.alone.history) + queueOverhead
	}
	return size
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

// add puts a frame into the queue, whatever its limit. Nothing else uses the frame.
func (q *sendQueue) add(frame []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(queuedFrame{bytes: frame, shared: true})
}

// append is add with q.mu held.
func (q *sendQueue) append(f queuedFrame) {
	e := &queueEntry{queuedFrame: f}
	if q.last == nil {
		q.first = e
	} else {
		q.last.next = e
	}
	q.last = e
	q.frames++
	q.size.Add(int64(f.cost()))
}

// len returns how many frames wait. q may be nil.
func (q *sendQueue) len() int {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.frames
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
	for e := q.first; e != nil && frames < most; e = e.next {
		if total += len(e.bytes); total > pendingSize && frames > 0 || e.compress {
			break
		}
		frames++
	}
	if frames == 0 {
		return nil, 0, 0
	}
	b = q.first.bytes
	join := frames > 1 || len(b) == frameBufferSize || len(b) == pendingSize
	if join {
		b = pendingBuffers.Get().(*[pendingSize]byte)[:0]
	} else {
		b = b[:len(b):len(b)]
	}
	for range frames {
		f := q.drop()
		if join {
			b = append(b, f.bytes...)
		}
		if learn != nil {
			learn(f.alone)
		}
		if endsMessage(f.bytes) {
			messages++
		}
	}
	return b, frames, messages
}

// takeToCompress takes the first frame, if it is to be compressed. Otherwise it returns nil.
func (q *sendQueue) takeToCompress() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil || !q.first.compress {
		return nil
	}
	return q.drop().bytes
}

// drop removes the first frame and returns it. q.mu is held.
func (q *sendQueue) drop() *queuedFrame {
	e := q.first
	if q.first = e.next; q.first == nil {
		q.last = nil
	}
	q.frames--
	q.size.Add(-int64(e.cost()))
	return &e.queuedFrame
}

// clear drops all frames.
func (q *sendQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.first, q.last, q.frames = nil, nil, 0
	q.size.Store(0)
}
