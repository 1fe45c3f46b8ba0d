// Package board holds the parts of docs/broadcast.md that are not whole programs.
package board

import (
	"errors"
	"iter"
	"net"
	"sync"

	"github.com/f44ffc3b/websocket"
)

// A board is a text that all members see.
type board struct {
	mu      sync.Mutex
	text    []byte
	members websocket.Group
}

// join sends the text to c and makes c a member. No change is lost between the two, because
// set waits for the lock.
func (b *board) join(c *websocket.Conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := c.TrySend(websocket.Text, b.text); err != nil {
		return err
	}
	b.members.Join(c)
	return nil
}

// set changes the text for all members. With the lock, all of them get the changes in the
// same order.
func (b *board) set(text []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
	return b.members.Broadcast(websocket.Text, text)
}

// broadcastTo sends a message to the members of g for which keep returns true.
func broadcastTo(g *websocket.Group, keep func(*websocket.Conn) bool, op websocket.Opcode, data []byte) error {
	return websocket.Broadcast(filter(g.All(), keep), op, data)
}

// filter yields the connections for which keep returns true.
func filter(conns iter.Seq[*websocket.Conn], keep func(*websocket.Conn) bool) iter.Seq[*websocket.Conn] {
	return func(yield func(*websocket.Conn) bool) {
		for c := range conns {
			if keep(c) && !yield(c) {
				return
			}
		}
	}
}

// sendFrame sends a video frame to the clients that have taken the frames before it.
func sendFrame(viewers *websocket.Group, frame []byte) error {
	p, err := websocket.PrepareMessage(websocket.Binary, frame)
	if err != nil {
		return err
	}
	for c := range viewers.All() {
		if c.Stats().Queued > 0 {
			continue // the client is behind: it gets a later frame
		}
		err := c.TrySendPrepared(p)
		if errors.Is(err, websocket.ErrSendQueueFull) && !errors.Is(err, net.ErrClosed) {
			return err // the frame is larger than the queue
		}
	}
	return nil
}
