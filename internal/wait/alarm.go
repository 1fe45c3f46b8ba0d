package wait

import (
	"sync/atomic"
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
	timer atomic.Pointer[time.Timer] // nil before the first Set and after Stop
	calls atomic.Uint32              // oneCall for each call that is running, and stopped
	ended Event                      // the alarm is stopped and no call is running
}

const (
	stopped uint32 = 1
	oneCall uint32 = 2
)

// Set makes the alarm call f(arg) in d, instead of at the time of an earlier Set. arg
// and f must be the same in every call, because only those of the first call are used.
// After Stop, Set does nothing.
func (a *Alarm[T]) Set(d time.Duration, arg *T, f func(*T)) {
	if a.isStopped() {
		return
	}
	timer := a.timer.Load()
	if timer != nil {
		timer.Reset(d)
	} else {
		timer = time.AfterFunc(d, func() { a.run(arg, f) })
		if !a.timer.CompareAndSwap(nil, timer) {
			timer.Stop() // another goroutine has set the alarm for the first time
			a.Set(d, arg, f)
			return
		}
	}
	if a.isStopped() {
		timer.Stop() // the stopped alarm would otherwise stay in memory until the timer fires
	}
}

func (a *Alarm[T]) isStopped() bool { return a.calls.Load()&stopped != 0 }

// Clear cancels the call, until the next Set. A call that has begun continues.
func (a *Alarm[T]) Clear() {
	if timer := a.timer.Load(); timer != nil {
		timer.Stop()
	}
}

// Stop cancels the call for good: no call begins after Stop has returned. A call that
// has begun before continues, and Wait waits for it.
func (a *Alarm[T]) Stop() {
	if a.calls.Or(stopped)&^stopped == 0 {
		a.ended.Set()
	}
	if timer := a.timer.Swap(nil); timer != nil {
		timer.Stop()
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
func (a *Alarm[T]) Wait() { a.ended.Wait() }

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
	for {
		calls := a.calls.Load()
		if calls&stopped != 0 {
			return false
		}
		if a.calls.CompareAndSwap(calls, calls+oneCall) {
			return true
		}
	}
}

func (a *Alarm[T]) end() {
	if a.calls.Add(^(oneCall - 1)) == stopped { // subtracts oneCall
		a.ended.Set()
	}
}
