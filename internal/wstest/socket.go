package wstest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A Socket is a net.Conn in memory that a test controls. Its operations either
// follow a script (NewSocket, Repeat) or go to another net.Conn (Wrap), and a hook
// may change each of them. It can be used inside a testing/synctest bubble.
//
// A script is the list of pieces that the peer sends. Each Read returns at most one piece,
// or the rest of one. An empty piece is a read deadline that expires. After the last
// piece, Read returns io.EOF. Writes are recorded. Write fails if its deadline has passed.
// No operation of a script waits.
//
// The exported fields are set before the socket is used, except where noted.
type Socket struct {
	// Hook, if it is not nil, does every Read and Write. It may call op.Do.
	Hook func(op *Op) (int, error)

	// NoDeadlines makes the methods that set deadlines fail, as those of many
	// tunnels do.
	NoDeadlines bool

	conn   net.Conn // nil for a script
	repeat []byte   // what a Repeat socket sends

	readBy, writeBy wait.Deadline
	closed          chan struct{}

	mu                    sync.Mutex
	pieces                [][]byte
	pos                   int // in repeat
	writes                [][]byte
	writeErr              error
	writeDeadline         time.Time
	readsDone, writesDone int            // how many calls there were
	deadlines             []DeadlineCall // in the order of the calls
	largestRead           int            // the longest slice that Read was called with
}

// A DeadlineCall is a call of SetDeadline ("both"), SetReadDeadline ("read") or
// SetWriteDeadline ("write"). Set is false if it removed the deadline.
type DeadlineCall struct {
	Which string
	Set   bool
}

// NewSocket returns a Socket whose peer sends the pieces.
func NewSocket(pieces ...[]byte) *Socket {
	return &Socket{pieces: slices.Clone(pieces), closed: make(chan struct{})}
}

// Repeat returns a Socket whose peer sends wire again and again and accepts
// every write. It records no writes, so that it does not allocate.
func Repeat(wire []byte) *Socket {
	return &Socket{repeat: wire, closed: make(chan struct{})}
}

// Wrap returns a Socket whose operations go to conn.
func Wrap(conn net.Conn) *Socket {
	return &Socket{conn: conn, closed: make(chan struct{})}
}

// An Op is one call of Read or Write of a Socket.
type Op struct {
	P      []byte // what Read or Write was called with
	Write  bool
	Number int // how many Reads, or Writes, there were before this one

	socket *Socket
}

// Do reads into p, or writes p, as if there were no hook. It may be called more
// than once.
func (op *Op) Do(p []byte) (int, error) {
	if op.Write {
		return op.socket.write(p)
	}
	return op.socket.read(p)
}

// Wait waits for d. If the deadline of the operation passes earlier, or the socket is
// closed, Wait returns the error that Read and Write return then.
func (op *Op) Wait(d time.Duration) error {
	by := &op.socket.readBy
	if op.Write {
		by = &op.socket.writeBy
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-by.Done():
		return os.ErrDeadlineExceeded
	case <-op.socket.closed:
		return net.ErrClosed
	}
}

// Read reads bytes that the peer has sent.
func (s *Socket) Read(p []byte) (int, error) {
	number := s.count(&s.readsDone, len(p))
	if s.Hook != nil {
		return s.Hook(&Op{P: p, Number: number, socket: s})
	}
	return s.read(p)
}

// Write records p, or writes it to the wrapped net.Conn.
func (s *Socket) Write(p []byte) (int, error) {
	number := s.count(&s.writesDone, 0)
	if s.Hook != nil {
		return s.Hook(&Op{P: p, Write: true, Number: number, socket: s})
	}
	return s.write(p)
}

// count counts an operation and returns its number.
func (s *Socket) count(operations *int, size int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largestRead = max(s.largestRead, size)
	*operations++
	return *operations - 1
}

func (s *Socket) read(p []byte) (int, error) {
	if s.conn != nil {
		return s.conn.Read(p)
	}
	if s.Closed() {
		return 0, io.EOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repeat != nil {
		n := copy(p, s.repeat[s.pos:])
		s.pos = (s.pos + n) % len(s.repeat)
		return n, nil
	}
	return s.readScript(p)
}

// readScript reads from the first piece. s.mu is held.
func (s *Socket) readScript(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n, err := copy(p, s.pieces[0]), error(nil)
	if len(s.pieces[0]) == 0 {
		err = os.ErrDeadlineExceeded
	}
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, err
}

func (s *Socket) write(p []byte) (int, error) {
	if s.conn != nil {
		return s.conn.Write(p)
	}
	if s.Closed() {
		return 0, net.ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.writeDeadline; !t.IsZero() && !time.Now().Before(t) {
		return 0, os.ErrDeadlineExceeded
	}
	if s.writeErr != nil {
		return 0, s.writeErr
	}
	if s.repeat == nil {
		s.writes = append(s.writes, bytes.Clone(p))
	}
	return len(p), nil
}

// FailWrites makes every Write from now on return err.
func (s *Socket) FailWrites(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeErr = err
}

// Unread returns the pieces that were not read yet.
func (s *Socket) Unread() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces
}

// Skip takes n bytes from the first of the unread pieces, or takes the piece if it is
// empty. It is for a reader that does not call Read.
func (s *Socket) Skip(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
}

// Writes returns the slices that were written since the last call of Forget.
func (s *Socket) Writes() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// Written returns the bytes that were written since the last call of Forget.
func (s *Socket) Written() []byte { return slices.Concat(s.Writes()...) }

// Forget drops the recorded writes.
func (s *Socket) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = nil
}

// Operations returns how many Reads and Writes there were.
func (s *Socket) Operations() (reads, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readsDone, s.writesDone
}

// LargestRead returns the length of the longest slice that Read was called with.
func (s *Socket) LargestRead() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.largestRead
}

// Deadlines returns the calls that have set a deadline of a script, in their order.
func (s *Socket) Deadlines() []DeadlineCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deadlines)
}

// Closed reports whether Close was called.
func (s *Socket) Closed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Close closes the socket and the wrapped net.Conn. Operations that wait return.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Closed() {
		close(s.closed)
	}
	if s.conn != nil {
		return s.conn.Close()
	}
	return nil
}

// LocalAddr returns the address of the wrapped net.Conn, or an empty one.
func (s *Socket) LocalAddr() net.Addr {
	if s.conn != nil {
		return s.conn.LocalAddr()
	}
	return &net.TCPAddr{}
}

// RemoteAddr returns the address of the wrapped net.Conn, or an empty one.
func (s *Socket) RemoteAddr() net.Addr {
	if s.conn != nil {
		return s.conn.RemoteAddr()
	}
	return &net.TCPAddr{}
}

// SetDeadline sets both deadlines.
func (s *Socket) SetDeadline(t time.Time) error {
	return s.setDeadline("both", t, func(conn net.Conn) error { return conn.SetDeadline(t) }, &s.readBy, &s.writeBy)
}

// SetReadDeadline sets the deadline of the wrapped net.Conn. It does not affect the reads
// of a script, in which an empty piece is a deadline that expires.
func (s *Socket) SetReadDeadline(t time.Time) error {
	return s.setDeadline("read", t, func(conn net.Conn) error { return conn.SetReadDeadline(t) }, &s.readBy)
}

// SetWriteDeadline sets the deadline of Write.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	return s.setDeadline("write", t, func(conn net.Conn) error { return conn.SetWriteDeadline(t) }, &s.writeBy)
}

func (s *Socket) setDeadline(which string, t time.Time, below func(net.Conn) error, deadlines ...*wait.Deadline) error {
	if s.NoDeadlines {
		return errors.ErrUnsupported
	}
	s.mu.Lock()
	if s.conn == nil && s.repeat == nil {
		s.deadlines = append(s.deadlines, DeadlineCall{which, !t.IsZero()})
	}
	if which != "read" {
		s.writeDeadline = t
	}
	s.mu.Unlock()
	for _, d := range deadlines {
		d.Set(t)
	}
	if s.conn != nil {
		return below(s.conn)
	}
	return nil
}

// A HalfSocket is a Socket whose write side can be closed alone, as that of a TCP
// connection can.
type HalfSocket struct {
	*Socket
	Err error // what CloseWrite returns

	mu   sync.Mutex
	shut bool
}

// CloseWrite notes the call, and closes the write side of the wrapped net.Conn if that is
// possible.
func (h *HalfSocket) CloseWrite() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = true
	if conn, ok := h.conn.(interface{ CloseWrite() error }); ok && h.Err == nil {
		return conn.CloseWrite()
	}
	return h.Err
}

// Shut reports whether CloseWrite was called.
func (h *HalfSocket) Shut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shut
}
