package websocket

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// readAheadLimit is how many messages HandleConcurrent keeps for a handler that
// does not receive: those in the channel and the one that the goroutine holds.
const readAheadLimit = 16

// A readAhead owns the goroutine of HandleConcurrent, which receives messages before the
// handler asks for them. Messages keep their order, which the threads of the egg do not
// keep: unmasking and checking happen as bytes arrive, so nothing is left to do in parallel.
type readAhead struct {
	life     *life
	messages chan Message  // closed when no more messages come
	stopping chan struct{} // closed when the handler has ended
	finished chan struct{} // closed when the goroutine has ended
	once     sync.Once     // closes stopping
	deadline wait.Deadline // the user's read deadline
	over     atomic.Bool   // the end was returned: no message comes after it
}

// startReadAhead starts the goroutine, which calls receive until it fails. stop
// waits for it.
func startReadAhead(life *life, receive func() (Message, error)) *readAhead {
	a := &readAhead{
		life:     life,
		messages: make(chan Message, readAheadLimit-1),
		stopping: make(chan struct{}),
		finished: make(chan struct{}),
	}
	go func() {
		defer close(a.finished)
		defer close(a.messages)
		for a.keep(receive()) {
		}
	}()
	return a
}

// keep keeps one message for the handler.
func (a *readAhead) keep(m Message, err error) bool {
	if err != nil {
		return false
	}
	select {
	case a.messages <- m:
		return true
	case <-a.stopping:
		return false
	}
}

// next takes the next message. The messages that arrived before the peer ended the
// connection are still returned. After Close they are not.
func (a *readAhead) next() (Message, error) {
	var here *closedError
	if err := a.life.err(); a.over.Load() || errors.As(err, &here) && here.peer == nil {
		return Message{}, err
	}
	select {
	case m, ok := <-a.messages:
		return m, a.endError(ok)
	default: // a deadline that has passed does not hide a message
	}
	select {
	case m, ok := <-a.messages:
		return m, a.endError(ok)
	case <-a.deadline.Done():
	case <-a.life.over.Done(): // the goroutine may still be draining the socket
	}
	if a.life.err() == nil {
		return Message{}, errReadDeadline
	}
	select {
	case m, ok := <-a.messages:
		return m, a.endError(ok)
	default:
		a.over.Store(true)
		return Message{}, a.life.err()
	}
}

// endError is the error of a receive from messages: the connection's, unless ok.
func (a *readAhead) endError(ok bool) error {
	if ok {
		return nil
	}
	return a.life.err()
}

// appendNext is next with the payload appended to dst.
func (a *readAhead) appendNext(dst []byte) (Opcode, []byte, error) {
	m, err := a.next()
	if dst == nil {
		return m.Opcode, m.Data, err // not copied, because the caller owns it already
	}
	return m.Opcode, append(dst, m.Data...), err
}

// stop ends the goroutine, whose socket is closed, and waits for it.
func (a *readAhead) stop() {
	a.once.Do(func() { close(a.stopping) })
	a.deadline.Set(time.Time{})
	<-a.finished
}
