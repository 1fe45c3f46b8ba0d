package wait

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Lock is a mutex whose waiting goroutines block on a channel. It is held during reads
// and writes of a socket, where a [sync.Mutex] would hide from testing/synctest that all
// goroutines only wait for the clock. Without contention, to lock it costs one
// compare-and-swap. The zero value is free.
//
// It is as fair as a sync.Mutex: a goroutine that locks and unlocks again and again may
// overtake waiting ones for a millisecond, because that saves switching between
// goroutines; then the lock is handed to one of those that wait.
type Lock struct {
	state   atomic.Uint32 // free, held or handed
	waiting atomic.Int32  // waiting goroutines, plus starving for each that is starving

	mu    sync.Mutex
	freed chan struct{} // made by the first waiting goroutine; guarded by mu
}

// The states of a Lock. One that is handed is still held, until a waiting goroutine
// takes it. Other goroutines cannot.
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

// LockUnless is Lock for a goroutine that gives up when one of two channels is closed. It
// reports whether it has locked the lock. A nil channel is never closed.
func (l *Lock) LockUnless(a, b <-chan struct{}) bool {
	freed := l.enter()
	weight := int32(1)
	defer func() { l.leave(weight) }()
	for start := time.Now(); !l.TryLock() && !l.state.CompareAndSwap(handed, held); {
		if weight == 1 && time.Since(start) > starvingAfter {
			weight += starving
			l.waiting.Add(starving)
		}
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

// enter adds a waiting goroutine. An Unlock that comes later leaves a token in the
// channel, so a goroutine that finds the lock held after enter is woken.
func (l *Lock) enter() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed == nil {
		l.freed = make(chan struct{}, 1)
	}
	l.waiting.Add(1)
	return l.freed
}

// leave removes a waiting goroutine. If it was the last one and gives up, nobody is left
// to take a lock that was handed over.
func (l *Lock) leave(weight int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
}

// handOver hands the lock to the waiting goroutines, unless none of them is starving any
// more.
func (l *Lock) handOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Load() < starving {
		return false
	}
	l.state.Store(handed)
	l.wake()
	return true
}

// wake leaves a token for one waiting goroutine. l.mu is held.
func (l *Lock) wake() {
	select {
	case l.freed <- struct{}{}:
	default: // a token is there already, and one goroutine at a time is enough
	}
}
