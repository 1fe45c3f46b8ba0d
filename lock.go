package websocket

import (
	"sync"
	"sync/atomic"
)

// A lock is a mutex whose waiters block on a channel. It is held across reads
// and writes of the socket, where a [sync.Mutex] would hide from testing/synctest
// that everybody is only waiting for the clock; taken without contention, it
// costs one compare-and-swap. The zero value is free.
type lock struct {
	held    atomic.Bool
	waiting atomic.Int32

	mu    sync.Mutex
	freed chan struct{} // made by the first waiter; guarded by mu
}

func (l *lock) tryLock() bool { return l.held.CompareAndSwap(false, true) }

func (l *lock) lock() {
	if !l.tryLock() {
		l.lockUnless(nil, nil)
	}
}

// lockUnless is lock for who gives up when one of the channels is closed. It
// reports whether the lock was taken.
func (l *lock) lockUnless(ended, expired <-chan struct{}) bool {
	freed := l.enter()
	defer l.waiting.Add(-1)
	for !l.tryLock() {
		select {
		case <-freed:
		case <-ended:
			return false
		case <-expired:
			return false
		}
	}
	return true
}

// enter announces a waiter. An unlock that comes after it leaves a token in the
// channel, so a waiter that finds the lock held after entering is woken.
func (l *lock) enter() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed == nil {
		l.freed = make(chan struct{}, 1)
	}
	l.waiting.Add(1)
	return l.freed
}

func (l *lock) unlock() {
	l.held.Store(false)
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.freed <- struct{}{}:
	default: // a token is there already, and one waiter at a time is enough
	}
}
