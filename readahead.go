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

// A readAhead owns the goroutine of HandleConcurrent, which receives messages before the handler
// asks for them. Messages keep their order. The egg unmasks and checks them in several threads,
// which can change the order. Here both happen as the bytes arrive, so nothing is left to do in
// parallel.
//
// If an error follows the messages, it ends the connection only when the handler asks for a
// message after the last one, because only then has the handler answered them all. The time
// for that is limited.
type readAhead struct {
	inbox
	life     *life
	messages chan Message  // closed behind the last message
	stopping chan struct{} // closed when the handler has ended
	reached  chan struct{} // closed when the handler asks for a message after the last one
	hurried  chan struct{} // closed when the end must not wait for the handler
	finished chan struct{} // closed when the goroutine has ended
	stopOnce sync.Once     // closes stopping
	reach    sync.Once     // closes reached
	hurry    sync.Once     // closes hurried
	deadline wait.Deadline // the user's read deadline
	over     atomic.Bool   // the end was returned: no message comes after it
}

// A source is where a readAhead gets its messages.
type source interface {
	// receiveAhead returns the next message, or the error that ends the connection.
	receiveAhead() (Message, error)

	// endPatience is how long that error waits for the handler.
	endPatience(end error) time.Duration

	// endAhead ends the connection.
	endAhead(end error)
}

// newReadAhead returns a readAhead whose goroutine is not started yet.
func newReadAhead(life *life) *readAhead {
	a := &readAhead{
		life:     life,
		messages: make(chan Message, readAheadLimit-1),
		stopping: make(chan struct{}),
		reached:  make(chan struct{}),
		hurried:  make(chan struct{}),
		finished: make(chan struct{}),
	}
	a.inbox.ahead = a
	return a
}

// start starts the goroutine, which receives from src until the end. stop waits for it.
func (a *readAhead) start(src source) { go a.run(src) }

func (a *readAhead) run(src source) {
	defer close(a.finished)
	m, err := src.receiveAhead()
	received := err == nil
	for err == nil && a.keep(m) {
		m, err = src.receiveAhead()
	}
	close(a.messages)
	if err == nil {
		return // the handler has ended
	}
	if received {
		a.awaitHandler(src.endPatience(err))
	}
	src.endAhead(err)
}

// keep keeps one message for the handler. It returns false if the handler has ended.
func (a *readAhead) keep(m Message) bool {
	select {
	case a.messages <- m:
		return true
	case <-a.stopping:
		return false
	}
}

// awaitHandler waits until the handler has taken all messages and asks for another. It waits in
// parts, so that a pause of the process costs the handler only one of them.
func (a *readAhead) awaitHandler(limit time.Duration) {
	const parts = 10
	timeout := time.NewTimer(part(limit, parts))
	defer timeout.Stop()
	for range parts {
		select {
		case <-a.reached:
			return
		case <-a.hurried:
			return
		case <-a.stopping:
			return
		case <-a.life.over.Done():
			return
		case <-timeout.C:
			timeout.Reset(part(limit, parts))
		}
	}
}

// endNow makes the error that ends the connection take effect now.
func (a *readAhead) endNow() { a.hurry.Do(func() { close(a.hurried) }) }

// next takes the next message. The messages that arrived before the peer ended the
// connection are still returned. After Close they are not.
func (a *readAhead) next() (Message, error) {
	var here *closedError
	if err := a.life.err(); a.over.Load() || errors.As(err, &here) && here.peer == nil {
		return Message{}, err
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	default: // a deadline that has passed does not hide a message
	}
	ended := a.life.over.Done()
	if a.life.hasUnread() {
		ended = nil // the goroutine is about to pass on what it has read
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	case <-a.deadline.Done():
		if a.life.receiveErr() == nil {
			return Message{}, errReadDeadline
		}
	case <-ended: // the goroutine may be in a write
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	default:
		a.over.Store(true)
		return Message{}, a.life.err()
	}
}

// took returns the result of a read from the channel of messages. After the last message, it waits
// until the connection has ended.
func (a *readAhead) took(m Message, ok bool) (Message, error) {
	if ok {
		return m, nil
	}
	a.reach.Do(func() { close(a.reached) })
	select {
	case <-a.life.over.Done():
	case <-a.deadline.Done():
		if a.life.err() == nil {
			return Message{}, errReadDeadline
		}
	}
	return Message{}, a.life.err()
}

// discard drops messages until the connection has ended or the deadline has passed, however
// fast messages arrive.
func (a *readAhead) discard() error {
	for {
		if _, err := a.next(); err != nil {
			return err
		}
		if a.expired() {
			return errReadDeadline
		}
	}
}

// expired reports whether the user's read deadline has passed.
func (a *readAhead) expired() bool {
	select {
	case <-a.deadline.Done():
		return true
	default:
		return false
	}
}

// stop ends the goroutine, and waits for it. The socket is closed before.
func (a *readAhead) stop() {
	a.stopOnce.Do(func() { close(a.stopping) })
	a.deadline.Set(time.Time{})
	<-a.finished
}
