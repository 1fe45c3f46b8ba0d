package websocket

import (
	"errors"
	"fmt"
	"net/http"
	"time"
	"unique"
)

// An inbox passes messages to the user if the receiving methods do not read from the socket: a
// goroutine reads ahead (HandleConcurrent), or a function gets the messages (HandleMessages). A
// connection of Handle has no inbox.
type inbox struct {
	ahead    *readAhead // of HandleConcurrent
	messages *messages  // of HandleMessages

	// Of the request, which HandleMessages releases.
	server *http.Server
	path   unique.Handle[string] // most connections have the same
}

var errPassed = errors.New("websocket: a connection of HandleMessages has no receiving methods and no read deadline, because its MessageFunc gets all messages")

// next returns the next message.
func (b *inbox) next() (Message, error) {
	if b.messages != nil {
		return Message{}, errPassed
	}
	return b.ahead.next()
}

// readBytes reads the next bytes of a Stream.
func (b *inbox) readBytes(op Opcode, p []byte) (int, error) {
	if b.messages != nil {
		return 0, errPassed
	}
	return b.ahead.readBytes(op, p)
}

// appendNext is next with the payload appended to dst.
func (b *inbox) appendNext(dst []byte) (Opcode, []byte, error) {
	m, err := b.next()
	if dst == nil {
		return m.Opcode, m.Data, err // not copied, because the caller owns it already
	}
	return m.Opcode, append(dst, m.Data...), err
}

// discard drops messages until the end.
func (b *inbox) discard() error {
	if b.messages != nil {
		return errPassed
	}
	return b.ahead.discard()
}

// refuses returns the error of a method that receives frames.
func (b *inbox) refuses(m receiveMethod) error {
	if b.messages != nil {
		return errPassed
	}
	return errReadAhead(m)
}

// setDeadline sets the read deadline of the user.
func (b *inbox) setDeadline(t time.Time) error {
	if b.messages != nil {
		return errPassed
	}
	b.ahead.deadline.Set(t)
	return nil
}

// stop ends the goroutine that reads ahead, and waits for it. The socket is closed before.
func (b *inbox) stop() {
	if b.ahead != nil {
		b.ahead.stop()
	}
}

// prepareReadAhead makes c a connection of HandleConcurrent.
func prepareReadAhead(c *Conn) { c.inbox = &newReadAhead(c).inbox }

// socketClosed runs when the socket is closed. b may be nil.
func (b *inbox) socketClosed() {
	if b != nil && b.messages != nil {
		b.messages.socketClosed()
	}
}

// readsAhead returns the goroutine that reads ahead, or nil. b may be nil.
func (b *inbox) readsAhead() *readAhead {
	if b == nil {
		return nil
	}
	return b.ahead
}

func errReadAhead(m receiveMethod) error {
	return fmt.Errorf("websocket: %v cannot be used with HandleConcurrent, whose goroutine reads all frames; use Handle", m)
}
