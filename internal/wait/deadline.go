package wait

import (
	"sync"
	"time"
)

// A Deadline is a time that goroutines can wait for on a channel, together with other
// channels. It has a timer only after the first call of Done. The zero value never
// passes.
type Deadline struct {
	mu     sync.Mutex
	t      time.Time
	timer  *time.Timer
	done   chan struct{} // nil until the first call of Done
	closed bool          // done is closed
}

// Set moves the deadline to t, even for goroutines that already wait. A deadline at the zero time
// never passes.
func (d *Deadline) Set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.t = t
	if d.done != nil {
		d.arm()
	}
}

// Done returns a channel that is closed when the deadline has passed. Wait on it soon:
// if Set moves a deadline that has passed, later calls of Done return a new channel.
func (d *Deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
		d.arm()
	}
	return d.done
}

// arm sets the timer to d.t. d.mu is held.
func (d *Deadline) arm() {
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.closed {
		d.done, d.closed = make(chan struct{}), false
	}
	switch left := time.Until(d.t); {
	case d.t.IsZero():
	case left <= 0:
		d.pass()
	case d.timer == nil:
		d.timer = time.AfterFunc(left, d.fire)
	default:
		d.timer.Reset(left)
	}
}

// fire runs on the timer's goroutine. It looks at the clock, because Set may have moved
// the deadline after the timer fired, or the clock may have been set back.
func (d *Deadline) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch left := time.Until(d.t); {
	case d.t.IsZero():
	case left <= 0:
		d.pass()
	default:
		d.timer.Reset(left)
	}
}

// pass closes the channel. d.mu is held.
func (d *Deadline) pass() {
	if !d.closed {
		close(d.done)
		d.closed = true
	}
}
