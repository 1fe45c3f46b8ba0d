package wait

import (
	"sync"
	"time"
)

// An Alarm calls a function at a time that Set chooses, on a goroutine of its timer. Set
// can move that time as often as needed, without allocation.
//
// The function may be called too often: if its time is moved while the timer's
// goroutine begins, the function runs at the old time and at the new one. It may also
// run twice at the same time. It must therefore look at the clock, or do nothing if
// there is nothing to do, and it must be safe for concurrent use.
//
// The zero value is not set.
type Alarm[T any] struct {
	mu      sync.Mutex
	timer   *time.Timer   // nil before the first Set and after Stop
	ended   chan struct{} // closed when running becomes 0; nil unless a goroutine waits
	running int32         // goroutines that are calling the function
	stopped bool
}

// Set makes the alarm call f(arg) in d, instead of at the time of an earlier Set. arg
// and f must be the same in every call, because only those of the first call are used.
// After Stop, Set does nothing.
func (a *Alarm[T]) Set(d time.Duration, arg *T, f func(*T)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.stopped:
	case a.timer == nil:
		a.timer = time.AfterFunc(d, func() { a.run(arg, f) })
	default:
		a.timer.Reset(d)
	}
}

// Clear cancels the call, until the next Set. A call that has begun continues.
func (a *Alarm[T]) Clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
}

// Stop cancels the call for good: no call begins after Stop has returned. A call that
// has begun before continues, and Wait waits for it.
func (a *Alarm[T]) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// Go calls f on a goroutine that Wait waits for too. After Stop it does nothing and returns
// false.
func (a *Alarm[T]) Go(f func()) bool {
	if !a.begin() {
		return false
	}
	go func() {
		defer a.end()
		f()
	}()
	return true
}

// Wait waits until the calls that have begun before Stop have returned. Call it after
// Stop, and not from the function itself.
func (a *Alarm[T]) Wait() {
	if ended := a.waitFor(); ended != nil {
		<-ended
	}
}

// waitFor returns the channel that Wait waits on, or nil if no call is running.
func (a *Alarm[T]) waitFor() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running > 0 && a.ended == nil {
		a.ended = make(chan struct{})
	}
	return a.ended
}

// run calls f on the timer's goroutine. The timer may have fired before Stop stopped it,
// so run looks whether the alarm was stopped.
func (a *Alarm[T]) run(arg *T, f func(*T)) {
	if !a.begin() {
		return
	}
	defer a.end()
	f(arg)
}

func (a *Alarm[T]) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return false
	}
	a.running++
	return true
}

func (a *Alarm[T]) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	if a.running == 0 && a.ended != nil {
		close(a.ended)
		a.ended = nil
	}
}
