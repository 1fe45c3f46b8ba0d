package wait

import (
	"sync"
	"sync/atomic"
)

// A Lock is a mutex whose waiting goroutines block on a channel. It can be held during
// reads and writes of a socket. Without contention, taking it costs one
// compare-and-swap. The zero value is free.
type Lock struct {
	held    atomic.Bool
	waiting atomic.Int32 // goroutines in LockUnless

	mu    sync.Mutex
	freed chan struct{} // made by the first waiting goroutine; guarded by mu
}

// TryLock takes the lock if it is free, and reports whether it did.
func (l *Lock) TryLock() bool { return l.held.CompareAndSwap(false, true) }

// Lock takes the lock, and waits until it is free.
func (l *Lock) Lock() {
	if !l.TryLock() {
		l.LockUnless(nil, nil)
	}
}

// LockUnless takes the lock, but gives up when a or b is closed before the lock is
// free. It reports whether it took the lock. A nil channel is never closed. A free
// lock is always taken.
func (l *Lock) LockUnless(a, b <-chan struct{}) bool {
	freed := l.enter()
	defer l.waiting.Add(-1)
	for !l.TryLock() {
		select {
		case <-freed:
		case <-a:
			return false
		case <-b:
			return false
		}
	}
	return true
}

// enter announces a waiting goroutine and returns the channel to wait on. Every Unlock
// after enter leaves a token in that channel. A goroutine that finds the lock held
// after enter is therefore woken by the next Unlock.
func (l *Lock) enter() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed == nil {
		l.freed = make(chan struct{}, 1)
	}
	l.waiting.Add(1)
	return l.freed
}

// Unlock frees the lock and wakes one waiting goroutine. The lock must be held, but not
// by the same goroutine.
func (l *Lock) Unlock() {
	l.held.Store(false)
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.freed <- struct{}{}:
	default: // a token is there already, and one woken goroutine at a time is enough
	}
}
