package wait

import "sync/atomic"

// An Event happens once, when Set is called. It takes 8 bytes. It allocates a channel
// (112 bytes) only when a goroutine waits for it, because most connections end without
// a waiting goroutine. The zero value has not happened.
type Event struct {
	// over is nil at first. The first waiting goroutine stores its channel here, and Set
	// closes that channel. After Set, over is happened.
	over atomic.Pointer[chan struct{}]
}

// happened is the channel of every Event that has happened.
var happened = func() *chan struct{} {
	over := make(chan struct{})
	close(over)
	return &over
}()

// Set makes the event happen. Later calls change nothing.
func (e *Event) Set() {
	if over := e.over.Swap(happened); over != nil && over != happened {
		close(*over)
	}
}

// IsSet reports whether the event has happened.
func (e *Event) IsSet() bool { return e.over.Load() == happened }

// Wait waits until the event has happened.
func (e *Event) Wait() { <-e.Done() }

// Done returns a channel that is closed when the event has happened.
func (e *Event) Done() <-chan struct{} {
	if e.over.Load() == nil {
		over := make(chan struct{})
		// This fails if another goroutine waits already, or if the event has happened.
		e.over.CompareAndSwap(nil, &over)
	}
	return *e.over.Load()
}
