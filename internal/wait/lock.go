package wait

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Lock is a mutex whose waiting goroutines block on a channel. It is held during reads
// and writes of a socket. A [sync.Mutex] would stop the fake clock of testing/synctest
// there, because a goroutine that waits for a sync.Mutex is not durably blocked. Without
// contention, locking costs one compare-and-swap. The zero value is free.
//
// A Lock is as fair as a sync.Mutex. For a millisecond, a goroutine that locks again and
// again may overtake the waiting goroutines, because that saves switches between
// goroutines. Then Unlock hands the lock to a waiting goroutine.
type Lock struct {
	state   atomic.Uint32 // free, held or handed
	waiting atomic.Int32  // waiting goroutines, plus starving for each that is starving
	queue   atomic.Pointer[queue]
}

// A queue is where goroutines wait for a Lock. The first of them allocates it, because few
// locks are ever waited for.
type queue struct {
	mu    sync.Mutex // guards what becomes of a lock that is handed over
	freed chan struct{}
}

// The states of a Lock. A lock that is handed is still locked: only a waiting goroutine
// can take it.
const (
	free uint32 = iota
	held
	handed
)

// A goroutine is starving when it has waited for starvingAfter. The count of starving
// goroutines is in the upper half of Lock.waiting.
const (
	starving      = 1 << 16
	starvingAfter = time.Millisecond
)

// TryLock locks the lock if it is free, and reports whether it was.
func (l *Lock) TryLock() bool { return l.state.CompareAndSwap(free, held) }

// Lock waits until the lock is free and locks it.
func (l *Lock) Lock() {
	if !l.TryLock() {
		l.LockUnless(nil, nil)
	}
}

// LockUnless waits until the lock is free and locks it, but gives up when a or b is
// closed. It reports whether it has locked the lock. A nil channel is never closed.
func (l *Lock) LockUnless(a, b <-chan struct{}) bool {
	q := l.enter()
	weight := int32(1)
	defer func() { l.leave(q, weight) }()
	woken := false // only a goroutine that was woken takes a lock that is handed over
	for start := time.Now(); !l.TryLock() && !(woken && l.state.CompareAndSwap(handed, held)); {
		if weight == 1 && time.Since(start) > starvingAfter {
			weight += starving
			l.waiting.Add(starving)
		}
		select {
		case <-q.freed:
			woken = true
		case <-a:
			return false
		case <-b:
			return false
		}
	}
	return true
}

// enter adds a waiting goroutine and returns the queue in which it waits. Every later
// Unlock leaves a token there. So a goroutine that finds the lock held after enter is woken.
func (l *Lock) enter() *queue {
	if l.queue.Load() == nil {
		l.queue.CompareAndSwap(nil, &queue{freed: make(chan struct{}, 1)})
	}
	l.waiting.Add(1)
	return l.queue.Load()
}

// leave removes a waiting goroutine. If the last one gives up, leave frees a lock that
// was handed over, because no goroutine is left to take it.
func (l *Lock) leave(q *queue, weight int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.waiting.Add(-weight) == 0 {
		l.state.CompareAndSwap(handed, free)
	}
}

// Unlock frees the lock, or hands it to a waiting goroutine, and wakes one.
func (l *Lock) Unlock() {
	if l.waiting.Load() >= starving && l.handOver() {
		return
	}
	l.state.Store(free)
	if l.waiting.Load() > 0 {
		l.queue.Load().wake()
	}
}

// handOver hands the lock to the waiting goroutines, and reports whether it has done so.
// It does nothing if none of them is starving any more.
func (l *Lock) handOver() bool {
	q := l.queue.Load()
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.waiting.Load() < starving {
		return false
	}
	l.state.Store(handed)
	q.wake()
	return true
}

// wake leaves a token for one waiting goroutine.
func (q *queue) wake() {
	select {
	case q.freed <- struct{}{}:
	default: // a token is there already, and one goroutine at a time is enough
	}
}
