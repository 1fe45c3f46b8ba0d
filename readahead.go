package websocket

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// readAheadLimit is how many messages HandleConcurrent keeps for a handler that
// does not take them: those in the channel and the one in the reader's hand.
const readAheadLimit = 16

// An inbox is what the reader goroutine of HandleConcurrent has read ahead.
type inbox struct {
	messages chan Message  // closed when nothing more comes
	unwanted chan struct{} // closed when the handler has ended
	finished chan struct{} // closed when the reader has ended
	once     sync.Once     // closes unwanted
	deadline wait.Deadline // of those who wait for messages
	over     atomic.Bool   // the end was handed out: no message comes after it
}

// readAhead starts the reader. Inbox.release waits for it.
func (c *Conn) readAhead() {
	b := &inbox{
		messages: make(chan Message, readAheadLimit-1),
		unwanted: make(chan struct{}),
		finished: make(chan struct{}),
	}
	c.inbox = b
	go func() {
		defer close(b.finished)
		defer close(b.messages)
		for b.put(c) {
		}
	}()
}

// put reads one message and keeps it for the handler. The order of the messages
// is kept, which the egg's threads do not promise: unmasking and checking happen
// as the bytes arrive, and leave nothing to do in parallel.
func (b *inbox) put(c *Conn) bool {
	op, data, err := c.receiveNext()
	if err != nil {
		c.die("receiving", err) // if it has not: a deadline that a wrapped socket sets itself
		return false
	}
	select {
	case b.messages <- Message{op, data}:
		return true
	case <-b.unwanted:
		return false
	}
}

func (c *Conn) receiveNext() (Opcode, []byte, error) {
	if err := c.lockReceiver(); err != nil {
		return 0, nil, err
	}
	defer c.in.lock.Unlock()
	return c.receive(nil)
}

// next takes the next message. Those that came before the peer ended the
// connection are still handed out; Close drops them.
func (b *inbox) next(c *Conn) (Message, error) {
	var here *closedError
	if err := c.err(); b.over.Load() || errors.As(err, &here) && here.peer == nil {
		return Message{}, err
	}
	select {
	case m, ok := <-b.messages:
		return m, b.endOf(c, ok)
	default: // what is there is not lost to a deadline
	}
	select {
	case m, ok := <-b.messages:
		return m, b.endOf(c, ok)
	case <-b.deadline.Done():
	case <-c.Context().Done(): // the reader may yet be draining the socket
	}
	if c.err() == nil {
		return Message{}, errReadDeadline
	}
	select {
	case m, ok := <-b.messages:
		return m, b.endOf(c, ok)
	default:
		b.over.Store(true)
		return Message{}, c.err()
	}
}

// endOf is the error of a receive from messages: none, or the connection's.
func (b *inbox) endOf(c *Conn, ok bool) error {
	if ok {
		return nil
	}
	return c.err()
}

func (b *inbox) appendNext(c *Conn, dst []byte) (Opcode, []byte, error) {
	m, err := b.next(c)
	if dst == nil {
		return m.Opcode, m.Data, err // no copy of what is the caller's already
	}
	return m.Opcode, append(dst, m.Data...), err
}

// release ends the reader, whose socket is closed, and waits for it.
func (b *inbox) release() {
	b.once.Do(func() { close(b.unwanted) })
	b.deadline.Set(time.Time{})
	<-b.finished
}

func errInbox(m method) error {
	return fmt.Errorf("websocket: %v cannot be used with HandleConcurrent, whose reader takes all frames; use Handle", m)
}
