package websocket

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// deadlines decides what the deadlines of the socket are. The user sets them,
// but the watchdog and the close handshake need the read deadline for
// themselves now and then; what the user set meanwhile is kept for afterwards.
type deadlines struct {
	mu       sync.Mutex
	user     *userDeadlines // nil until the user sets one, or somebody has to wait for it
	readers  int32          // who wants the receiving side and sends the watchdog away
	hasWrite atomic.Bool
	polling  bool // the watchdog has the read deadline, for a moment
	closing  bool // the close handshake has it, for good
	lifted   bool // the write deadline is off the socket, for a control frame
}

// userDeadlines are apart because most connections never have any, and would carry
// a hundred bytes for nothing.
type userDeadlines struct {
	read, write time.Time
	streamWait  wait.Deadline // the write deadline of those who wait for a MessageWriter
}

// ofUser is where the deadlines that the user sets are kept. d.mu is held.
func (d *deadlines) ofUser() *userDeadlines {
	if d.user == nil {
		d.user = new(userDeadlines)
	}
	return d.user
}

// asked is what the user has asked for. d.mu is held.
func (d *deadlines) asked() (read, write time.Time) {
	if d.user == nil {
		return time.Time{}, time.Time{}
	}
	return d.user.read, d.user.write
}

// streamWait is closed when the user's write deadline has passed.
func (d *deadlines) streamWait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ofUser().streamWait.Done()
}

// release stops what waits for a deadline.
func (d *deadlines) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user != nil {
		d.user.streamWait.Set(time.Time{})
	}
}

// past is a deadline that makes a blocked read return at once.
var past = time.Unix(1, 0)

// SetReadDeadline sets the time after which receiving methods that are waiting,
// and those called later, return an error that is [os.ErrDeadlineExceeded]. The
// zero time is none. What has arrived by then may still be returned. The connection
// stays usable, also in the middle of a frame: set a later deadline and call the
// same method again, and it goes on where it was. Answering the ping of a peer that
// does not read is bounded by WriteTimeout instead.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if err := c.err(); err != nil {
		return err
	}
	if c.inbox != nil {
		c.inbox.deadline.Set(t)
		return nil
	}
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ofUser().read = t
	if d.polling || d.closing {
		return nil
	}
	return c.conn.SetReadDeadline(t)
}

// SetWriteDeadline sets the time after which sending methods return an error
// that is [os.ErrDeadlineExceeded]; WriteTimeout holds beside it. The zero time is
// none. The connection stays usable if nothing of the frame was written; a frame
// that was cut off ends it. Over TLS, any expired write does.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if err := c.err(); err != nil {
		return err
	}
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ofUser().streamWait.Set(t)
	d.user.write = t
	d.hasWrite.Store(!t.IsZero())
	if d.lifted {
		return nil
	}
	return c.conn.SetWriteDeadline(t)
}

// liftWriteDeadline takes the user's deadline off the socket for what the
// connection sends of its own accord, and puts it back. It is often one that
// passed with the last message. The result is whether it was off before.
func (c *Conn) liftWriteDeadline(lift bool) (was bool) {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	was, d.lifted = d.lifted, lift
	_, write := d.asked()
	switch {
	case write.IsZero():
	case lift:
		c.conn.SetWriteDeadline(time.Time{})
	default:
		c.conn.SetWriteDeadline(write)
	}
	return was
}

// beginPoll lends the read deadline to the watchdog until endPoll, unless somebody
// with a better claim is waiting for it.
func (c *Conn) beginPoll(until time.Time) bool {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing || d.readers > 0 {
		return false
	}
	// A socket that knows no deadlines cannot be listened to for a while.
	d.polling = c.conn.SetReadDeadline(until) == nil
	return d.polling
}

func (c *Conn) endPoll() {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polling = false
	if !d.closing {
		read, _ := d.asked()
		c.conn.SetReadDeadline(read)
	}
}

// interruptPoll sends the watchdog away from the receiving side, for a reader that
// wants it, and keeps it away until readerDone.
func (c *Conn) interruptPoll() {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers++
	if d.polling && !d.closing {
		c.conn.SetReadDeadline(past)
	}
}

func (c *Conn) readerDone() {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers--
}

// setClosingDeadline takes the read deadline for the end of the connection.
func (c *Conn) setClosingDeadline(t time.Time) {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
	c.conn.SetReadDeadline(t)
}
