package websocket

import (
	"sync"
	"time"
)

// An alarm is a timer that runs a function on a goroutine of its own, which can
// be waited for. The zero value is not set.
type alarm struct {
	mu       sync.Mutex
	timer    *time.Timer
	finished chan struct{} // closed when the last of running ends; made by wait
	running  int32         // goroutines of the timer that have not ended, or not begun
	armed    bool          // the timer is set
	stopped  bool
}

// set makes the alarm go off in d instead of when it was to. What it runs must be
// the same each time, and call rung first and leave last.
func (a *alarm) set(d time.Duration, c *Conn, ring func(*Conn)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disarm()
	if a.armed || a.stopped {
		return // armed: it is going off at this moment, and ring will set it again
	}
	a.armed = true
	a.running++
	if a.timer == nil {
		a.timer = time.AfterFunc(d, func() { ring(c) })
		return
	}
	a.timer.Reset(d)
}

// clear keeps the alarm from going off until it is set again.
func (a *alarm) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disarm()
}

// stop keeps the alarm from going off for good.
func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.disarm()
}

// disarm stops the timer, if it can still be stopped. a.mu is held.
func (a *alarm) disarm() {
	if a.armed && a.timer.Stop() {
		a.armed = false
		a.ended()
	}
}

// rung is called by ring when it begins: from then on the alarm can be set again.
func (a *alarm) rung() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.armed = false
}

// leave is called by ring when it ends.
func (a *alarm) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended()
}

func (a *alarm) ended() {
	a.running--
	if a.running == 0 && a.finished != nil {
		close(a.finished)
		a.finished = nil
	}
}

// wait waits for what was running when the alarm was stopped.
func (a *alarm) wait() {
	a.mu.Lock()
	if a.running == 0 {
		a.mu.Unlock()
		return
	}
	if a.finished == nil {
		a.finished = make(chan struct{})
	}
	finished := a.finished
	a.mu.Unlock()
	<-finished
}
