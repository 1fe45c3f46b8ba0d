// Package memnet has connections in memory that behave as TCP connections do: bytes that
// were written wait in a buffer of limited size, each direction can be shut down alone,
// deadlines can be moved while a goroutine waits, and a connection can be reset. Errors are
// of the types that package net returns.
//
// Goroutines wait on channels, so the connections work inside a testing/synctest bubble.
package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// DefaultReadBuffer is how many unread bytes each end holds at first.
const DefaultReadBuffer = 64 << 10

// A Conn is one end of a connection. Its methods may be called by any goroutine.
type Conn struct {
	in, out       *stream
	local, remote net.Addr

	readBy, writeBy wait.Deadline
	writing         wait.Lock // held during a Write, so that its bytes stay together
	closed          wait.Event
}

// Pipe returns the two ends of a connection between the addresses a and b.
func Pipe(a, b net.Addr) (*Conn, *Conn) {
	ab, ba := newStream(), newStream()
	return &Conn{in: ba, out: ab, local: a, remote: b}, &Conn{in: ab, out: ba, local: b, remote: a}
}

// Read reads bytes that the peer has written. It waits for at least one.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p, &c.readBy)
	return n, c.opError("read", err)
}

// Write writes p. It waits until the peer's read buffer has room.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.out.write(p, &c.writeBy)
	return n, c.opError("write", err)
}

// TryWrite writes as much of p as the peer's read buffer has room for, and does not wait. It writes
// nothing while a Write waits. Its errors are those of Write.
func (c *Conn) TryWrite(p []byte) (int, error) {
	if !c.writing.TryLock() {
		return 0, nil
	}
	defer c.writing.Unlock()
	if isDone(c.writeBy.Done()) {
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	}
	n, _, err := c.out.tryWrite(p)
	return n, c.opError("write", err)
}

// opError wraps err as package net does.
func (c *Conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if err == errReset || err == errBrokenPipe {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite shuts down the direction to the peer: the peer reads io.EOF behind the bytes
// that were written.
func (c *Conn) CloseWrite() error { return c.opError("close", c.out.shut()) }

// Close closes the connection. The peer can still read the bytes that were written, and its
// writes fail. Operations that wait return.
func (c *Conn) Close() error {
	return c.close(io.EOF, errBrokenPipe)
}

// Reset closes the connection as if the network had broken: bytes that are on their way in
// both directions are lost, and the reads and writes of the peer fail with
// syscall.ECONNRESET.
func (c *Conn) Reset() error {
	c.out.drop()
	return c.close(errReset, errReset)
}

// close closes c. The peer's reads and writes return these errors from now on.
func (c *Conn) close(peerRead, peerWrite error) error {
	if c.closed.IsSet() {
		return c.opError("close", net.ErrClosed)
	}
	c.out.end(peerRead, net.ErrClosed)
	c.in.drop()
	c.in.end(net.ErrClosed, peerWrite)
	c.SetDeadline(time.Time{}) // stops their timers
	c.closed.Set()
	return nil
}

// Closed returns a channel that is closed when this end was closed.
func (c *Conn) Closed() <-chan struct{} { return c.closed.Done() }

// SetReadBuffer sets how many bytes the peer can write that this end has not read. If more
// bytes are written already, they stay.
func (c *Conn) SetReadBuffer(n int) { c.in.setLimit(n) }

// Unread returns how many bytes the peer has written that this end has not read.
func (c *Conn) Unread() int { return c.in.len() }

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.readBy.Set(t)
	c.writeBy.Set(t)
	return nil
}

// SetReadDeadline sets the deadline of Read, also of a Read that waits.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readBy.Set(t)
	return nil
}

// SetWriteDeadline sets the deadline of Write, also of a Write that waits.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Set(t)
	return nil
}

// A stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex // held only for a moment
	unread   []byte
	limit    int
	readErr  error         // what read returns when unread is empty
	writeErr error         // what write returns
	changed  chan struct{} // closed when one of the fields above changes; nil if no goroutine waits
}

func newStream() *stream { return &stream{limit: DefaultReadBuffer} }

// read returns bytes, or waits for them. As in package net, a deadline that has passed
// comes before bytes that have arrived.
func (s *stream) read(p []byte, by *wait.Deadline) (int, error) {
	for {
		expired := by.Done()
		if isDone(expired) {
			return 0, os.ErrDeadlineExceeded
		}
		n, changed, err := s.tryRead(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

// tryRead reads without waiting. If there is nothing to read, it returns the channel to wait
// on.
func (s *stream) tryRead(p []byte) (n int, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) == 0 {
		return 0, s.wait(), s.readErr
	}
	n = copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 {
		s.unread = nil
	}
	s.change()
	return n, nil, nil
}

// write writes p piece by piece, as far as there is room, and waits for more room.
func (s *stream) write(p []byte, by *wait.Deadline) (written int, err error) {
	for {
		expired := by.Done()
		if isDone(expired) {
			return written, os.ErrDeadlineExceeded
		}
		n, changed, err := s.tryWrite(p[written:])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

// tryWrite writes as much of p as there is room for. It returns the channel to wait on.
func (s *stream) tryWrite(p []byte) (n int, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr != nil {
		return 0, nil, s.writeErr
	}
	n = min(len(p), max(0, s.limit-len(s.unread)))
	if n > 0 {
		s.unread = append(s.unread, p[:n]...)
		s.change()
	}
	return n, s.wait(), nil
}

// end sets the errors of both sides. A side that has closed its end keeps net.ErrClosed.
func (s *stream) end(read, write error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != net.ErrClosed {
		s.readErr = read
	}
	if s.writeErr != net.ErrClosed {
		s.writeErr = write
	}
	s.change()
}

// shut ends the stream behind the bytes that were written, unless it has ended.
func (s *stream) shut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr != nil {
		return s.writeErr
	}
	s.readErr, s.writeErr = io.EOF, errBrokenPipe
	s.change()
	return nil
}

func (s *stream) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = nil
}

func (s *stream) setLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
	s.change()
}

func (s *stream) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unread)
}

// wait returns a channel that is closed at the next change. s.mu is held.
func (s *stream) wait() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// change wakes the goroutines that wait. s.mu is held.
func (s *stream) change() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
