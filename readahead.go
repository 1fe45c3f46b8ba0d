package websocket

import (
	"errors"
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
	conn     *Conn
	messages chan Message  // closed behind the last message
	stopping wait.Event    // the handler has ended
	hurried  wait.Event    // the end does not wait for the handler, see endNow
	finished wait.Event    // the goroutine has ended
	deadline wait.Deadline // the user's read deadline
	over     atomic.Bool   // the end was returned: no message comes after it

	reading wait.Lock               // held by the Read of a Stream
	rest    atomic.Pointer[Message] // what Streams have to read of the message in progress
}

// newReadAhead returns a readAhead whose goroutine is not started yet.
func newReadAhead(c *Conn) *readAhead {
	a := &readAhead{conn: c, messages: make(chan Message, readAheadLimit-1)}
	a.inbox.ahead = a
	return a
}

// start starts the goroutine, which receives until the end. stop waits for it.
func (a *readAhead) start() { go a.run() }

func (a *readAhead) run() {
	defer a.finished.Set()
	m, err := a.receive()
	received := err == nil
	for err == nil && a.keep(m) {
		m, err = a.receive()
	}
	close(a.messages)
	if err == nil {
		return // the handler has ended
	}
	if received {
		a.awaitHandler(a.handlerTime(err))
	}
	a.end(err)
}

// receive receives the next message. If it returns an error, end ends the connection with that
// error; until then, nothing else is read.
func (a *readAhead) receive() (Message, error) {
	c := a.conn
	if err := c.in.acquire(); err != nil {
		return Message{}, err
	}
	defer c.in.release()
	op, data, err := c.in.message(nil)
	if err != nil {
		c.rareUsed().aheadEnd = err
		c.out.noteBuffered(false)
	}
	return Message{op, data}, err
}

// handlerTime is how long the end of the connection waits for the handler: a second if the peer
// waits for the answer to its close frame, not at all if nothing can be sent, and otherwise endLimit.
func (a *readAhead) handlerTime(end error) time.Duration {
	if _, ok := end.(*peerClose); ok {
		return pollInterval
	}
	if dead, ok := end.(*connError); ok && dead != errStreamEnd {
		return 0
	}
	return a.conn.timer.timeouts.endLimit()
}

// end ends the connection after receive has returned an error.
func (a *readAhead) end(err error) {
	c := a.conn
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	if c.received(err); c.life.err() == nil {
		c.connectionLost(&connError{"receiving", errSocketDeadline})
	}
}

// keep keeps one message for the handler. It returns false if the handler has ended.
func (a *readAhead) keep(m Message) bool {
	select {
	case a.messages <- m:
		return true
	case <-a.stopping.Done():
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
		case <-a.hurried.Done():
			return
		case <-a.conn.life.over.Done():
			return
		case <-timeout.C:
			timeout.Reset(part(limit, parts))
		}
	}
}

// endNow makes the error that ends the connection take effect now, because the handler has asked for
// a message after the last one, or because nothing can be sent any more.
func (a *readAhead) endNow() { a.hurried.Set() }

// next is take for a method other than Read of a Stream: it drops the rest of the message that
// Streams have begun.
func (a *readAhead) next() (Message, error) {
	if a.rest.Load() != nil {
		a.rest.Store(nil)
	}
	return a.take()
}

// isOver reports whether no message is returned any more. The messages that arrived before the peer
// ended the connection are still returned. After Close they are not.
func (a *readAhead) isOver() bool {
	var here *closedError
	return a.over.Load() || errors.As(a.conn.life.err(), &here) && here.peer == nil
}

// take takes the next message.
func (a *readAhead) take() (Message, error) {
	if a.isOver() {
		return Message{}, a.conn.life.err()
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	default: // a deadline that has passed does not hide a message
	}
	ended := a.conn.life.over.Done()
	if a.conn.life.hasUnread() {
		ended = nil // the goroutine is about to pass on what it has read
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	case <-a.deadline.Done():
		if a.conn.life.receiveErr() == nil {
			return Message{}, errReadDeadline
		}
	case <-ended: // the goroutine may be in a write
		if a.conn.life.hasUnread() {
			return a.take() // noted before the end, but after this call began to wait
		}
	}
	select {
	case m, ok := <-a.messages:
		return a.took(m, ok)
	default:
		a.over.Store(true)
		return Message{}, a.conn.life.err()
	}
}

// took returns the result of a read from the channel of messages. After the last message, it waits
// until the connection has ended.
func (a *readAhead) took(m Message, ok bool) (Message, error) {
	if ok {
		return m, nil
	}
	a.endNow()
	select {
	case <-a.conn.life.over.Done():
	case <-a.deadline.Done():
		if a.conn.life.err() == nil {
			return Message{}, errReadDeadline
		}
	}
	return Message{}, a.conn.life.err()
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
	a.stopping.Set()
	a.deadline.Set(time.Time{})
	a.finished.Wait()
}
