package wait

import (
	"sync/atomic"
	"time"
)

// An Alarm calls a function at a time that Reset or SetAlarm chooses, on a goroutine of its timer.
// That time can be moved as often as needed, without allocation.
//
// The function may be called too often: if its time is moved while the timer's
// goroutine begins, the function runs at the old time and at the new one. It may also
// run twice at the same time. It must therefore look at the clock, or do nothing if
// there is nothing to do, and it must be safe for concurrent use.
//
// The zero value is not set.
type Alarm struct {
	timer atomic.Pointer[time.Timer] // nil before Start or the first SetAlarm, and after Stop
	calls atomic.Uint32              // oneCall for each call that is running, and stopped
	ended Event                      // the alarm is stopped and no call is running
}

const (
	stopped uint32 = 1
	oneCall uint32 = 2
)

// Start makes the alarm call f in d. f has to do its work in Do. Start must be the first call.
// For an alarm that every connection has, it saves 32 bytes of each, because the timer needs no
// function of its own.
func (a *Alarm) Start(d time.Duration, f func()) { a.timer.Store(time.AfterFunc(d, f)) }

// Reset makes the alarm call its function in d, instead of at the time that was chosen before.
// It reports whether there is a timer: there is none before Start or SetAlarm, and after Stop.
func (a *Alarm) Reset(d time.Duration) bool {
	timer := a.timer.Load()
	if timer == nil || a.isStopped() {
		return false
	}
	timer.Reset(d)
	if a.isStopped() {
		timer.Stop() // the stopped alarm would otherwise stay in memory until the timer fires
	}
	return true
}

// SetAlarm is Reset, but the first call starts the alarm: it calls f(arg). arg and f must be the
// same in every call. After Stop, SetAlarm does nothing.
func SetAlarm[T any](a *Alarm, d time.Duration, arg *T, f func(*T)) {
	if a.Reset(d) || a.isStopped() {
		return
	}
	timer := time.AfterFunc(d, func() { a.Do(func() { f(arg) }) })
	if !a.timer.CompareAndSwap(nil, timer) {
		timer.Stop() // another goroutine has set the alarm for the first time
		SetAlarm(a, d, arg, f)
		return
	}
	if a.isStopped() {
		timer.Stop()
	}
}

func (a *Alarm) isStopped() bool { return a.calls.Load()&stopped != 0 }

// Clear cancels the call, until its time is chosen again. A call that has begun continues.
func (a *Alarm) Clear() {
	if timer := a.timer.Load(); timer != nil {
		timer.Stop()
	}
}

// Stop cancels the call for good: no call begins after Stop has returned. A call that
// has begun before continues, and Wait waits for it.
func (a *Alarm) Stop() {
	if a.calls.Or(stopped)&^stopped == 0 {
		a.ended.Set()
	}
	if timer := a.timer.Swap(nil); timer != nil {
		timer.Stop()
	}
}

// Go calls f on a goroutine that Wait waits for too. After Stop it does nothing and returns
// false.
func (a *Alarm) Go(f func()) bool {
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
func (a *Alarm) Wait() { a.ended.Wait() }

// Do calls f, unless the alarm is stopped. The timer may have fired before Stop stopped it, so each
// call of the function needs Do, and Wait waits for f.
func (a *Alarm) Do(f func()) {
	if !a.begin() {
		return
	}
	defer a.end()
	f()
}

func (a *Alarm) begin() bool {
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

func (a *Alarm) end() {
	if a.calls.Add(^(oneCall - 1)) == stopped { // subtracts oneCall
		a.ended.Set()
	}
}
