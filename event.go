package websocket

import "sync/atomic"

// An event happens once, and can be waited for. It is 8 bytes, and a channel of 112
// only where somebody waits: a connection's end hardly ever has to be. The zero
// value has not happened.
type event struct {
	over atomic.Pointer[chan struct{}] // closed when it happens; happened afterwards
}

// happened is the channel of every event that has.
var happened = func() *chan struct{} {
	over := make(chan struct{})
	close(over)
	return &over
}()

func (e *event) happen() {
	if over := e.over.Swap(happened); over != nil {
		close(*over)
	}
}

func (e *event) wait() {
	if e.over.Load() == nil {
		over := make(chan struct{})
		e.over.CompareAndSwap(nil, &over) // unless somebody waits already, or it has happened
	}
	<-*e.over.Load()
}
