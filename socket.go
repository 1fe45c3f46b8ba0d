package websocket

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// A socket is the transport of a connection and its deadlines. The user sets
// deadlines, but the keepalive and the closing of the connection need them for
// themselves now and then, so the socket has these rules:
//
//   - The read deadline is that of the closing connection, if there is one; else
//     that of a poll; else the user's. After a failed write, it is pingPoll from
//     now, or the user's if that is earlier. See lookAgain for a deadline of pingPoll that
//     has passed too early.
//   - The write deadline is that of the call that writes: the user's write deadline in
//     a sending method, the user's read deadline in a receiving method, and none in
//     all other goroutines. After WriteTimeout, it has passed for all of them.
type socket struct {
	transport

	mu          sync.Mutex     // guards the fields below, and setting a deadline of the transport
	user        *userDeadlines // nil until the user sets a deadline or a goroutine waits for one
	waiting     int32          // goroutines that wait to receive and interrupt a poll
	has         atomic.Uint32  // hasReadDeadline and hasWriteDeadline; also read without mu
	polling     bool           // a poll has the read deadline
	ending      bool           // the closing connection has it, until the end
	looks       uint8          // reads that were repeated since the last poll began, see lookAgain
	limited     bool           // a write has failed: no read waits for long
	writesEnded bool           // a write has taken WriteTimeout: all writes fail
	writer      caller         // whose call writes; bySender when none does

	freshBytes uint32 // read, but not in the tally of the reader yet, whose lock guards it
}

// acks are what the kernel reports about a connection.
type acks struct {
	sock.Acks      // Written is unknown unless the peer has to answer a ping among these bytes
	last      bool // the peer has had the time that the last step gave it
}

const unknown = math.MaxUint64 // see acks

// The bits of socket.has: the deadlines that the user has set.
const (
	hasReadDeadline uint32 = 1 << iota
	hasWriteDeadline
)

// A caller is the kind of call that writes. Its deadline applies to the write, even to frames that
// other goroutines have requested.
type caller byte

const (
	bySender   caller = iota // a sending method
	byReceiver               // a receiving method
	byPoll                   // a poll, which holds the lock of the reader
	byLibrary                // a goroutine without a deadline, or the closing of the connection
	byEnding                 // the same, and closeWrite follows at once
)

// userDeadlines are allocated on demand, because most connections have none.
type userDeadlines struct {
	read, write  time.Time
	writeExpired wait.Deadline // for goroutines that wait for something other than the socket
}

// longAgo is a deadline that makes a blocked read return at once.
var longAgo = time.Unix(1, 0)

// userOf returns the user's deadlines. s.mu is held.
func (s *socket) userOf() *userDeadlines {
	if s.user == nil {
		s.user = new(userDeadlines)
	}
	return s.user
}

// applyRead sets the read deadline of the transport: own, if the library has it, or
// the user's. s.mu is held.
func (s *socket) applyRead(own time.Time) error {
	user, t := s.userRead(), own
	switch {
	case s.polling || s.ending:
	case !s.limited, !user.IsZero() && user.Before(own):
		t = user
	}
	return s.transport.SetReadDeadline(t)
}

// userRead returns the user's read deadline, or the zero time. s.mu is held.
func (s *socket) userRead() time.Time {
	if s.user == nil {
		return time.Time{}
	}
	return s.user.read
}

// applyWrite sets the write deadline of the transport. s.mu is held.
func (s *socket) applyWrite() error {
	return s.transport.SetWriteDeadline(s.deadlineOf(s.writer))
}

// deadlineOf returns the write deadline of a call. s.mu is held.
func (s *socket) deadlineOf(c caller) time.Time {
	switch {
	case s.writesEnded:
		return longAgo
	case s.user == nil:
	case c == bySender:
		return s.user.write
	case c == byReceiver:
		return s.user.read
	}
	return time.Time{}
}

// setUserRead sets the user's read deadline.
func (s *socket) setUserRead(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userOf().read = t
	s.note(hasReadDeadline, t)
	if s.writer == byReceiver {
		s.applyWrite()
	}
	if s.polling || s.ending {
		return nil // endPoll applies it
	}
	return s.applyRead(time.Now().Add(pingPoll))
}

// note notes whether the user has set one of the deadlines.
func (s *socket) note(deadline uint32, t time.Time) {
	if t.IsZero() {
		s.has.And(^deadline)
	} else {
		s.has.Or(deadline)
	}
}

// readExpired reports whether the user's read deadline has passed.
func (s *socket) readExpired() bool {
	if s.has.Load()&hasReadDeadline == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user := s.userRead()
	return !user.IsZero() && !time.Now().Before(user)
}

// limitReads limits the reads of a connection that cannot be written to: they wait until
// t at most. It fails if the transport has no deadlines.
func (s *socket) limitReads(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.limited {
		s.limited, s.looks = true, 0
	}
	if s.ending {
		return nil
	}
	return s.applyRead(t) // also during a poll, because that of Ping has no limit
}

// maxLooks limits how often reads are repeated in one poll, or in the last look. The peer may send all
// the time.
const maxLooks = 3

// lookAgain reports whether a read that has failed with err has to be repeated, with a new deadline.
// The library's own deadlines are short, so a process that got no processor may reach one before the
// read has looked, and what has arrived, maybe a close frame, would be lost. If the system does not
// report what has arrived, the read is repeated once if until, the deadline, has passed long ago; a zero
// until is not known. The lock of the reader is held.
func (s *socket) lookAgain(err error, until time.Time) bool {
	if !hasNotLooked(err) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks == maxLooks || !s.hasShortDeadline() {
		return false
	}
	switch unread, ended, ok := s.behind(); {
	case ok && unread == 0 && !ended:
		return false
	case !ok && (s.looks > 0 || until.IsZero() || time.Since(until) < pingPoll):
		return false
	}
	s.looks++
	return s.applyRead(time.Now().Add(pingPoll)) == nil
}

// hasShortDeadline reports whether a read has a deadline of pingPoll, which the library has set, and
// neither the user nor a goroutine that waits to receive has ended it. s.mu is held.
func (s *socket) hasShortDeadline() bool {
	switch {
	case s.ending:
		return false
	case !s.limited:
		return s.polling && s.waiting == 0
	}
	user := s.userRead()
	return s.polling || user.IsZero() || time.Now().Before(user)
}

// setUserWrite sets the user's write deadline.
func (s *socket) setUserWrite(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userOf().write = t
	s.user.writeExpired.Set(t)
	s.note(hasWriteDeadline, t)
	if s.writer != bySender {
		return nil // writeAs applies it
	}
	return s.applyWrite()
}

// userWriteExpired returns a channel that is closed when the user's write deadline
// has passed.
func (s *socket) userWriteExpired() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.userOf().writeExpired.Done()
}

// writeAs gives the write deadline to a kind of call. Only the holder of the writer's lock
// calls it, and gives it back to bySender.
func (s *socket) writeAs(c caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.deadlineOf(s.writer)
	s.writer = c
	if !before.Equal(s.deadlineOf(c)) {
		s.applyWrite()
	}
}

// hasDeadline reports whether a call of this kind must not wait in a write of frames
// that are not its own: it has a deadline, or holds a lock that such a call needs.
func (s *socket) hasDeadline(c caller) bool {
	switch c {
	case bySender:
		return s.has.Load()&hasWriteDeadline != 0
	case byReceiver:
		return s.has.Load()&hasReadDeadline != 0
	}
	return c == byPoll
}

// beginPoll gives the read deadline to a poll, until endPoll. It reports false if
// the connection is being closed, a goroutine waits to receive, or the transport
// has no deadlines, because then a poll could not be ended.
func (s *socket) beginPoll(until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || s.waiting > 0 {
		return false
	}
	s.looks = 0
	return s.lendRead(until) == nil
}

// beginWait is beginPoll for Ping, which waits until it is interrupted. It is called again
// to wait again. It reports false after a failed write, too.
func (s *socket) beginWait() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || s.limited || s.waiting > 0 {
		return false
	}
	return s.lendRead(time.Time{}) == nil
}

// interruptWait ends a poll, or the wait of a Ping, but does not prevent the next.
func (s *socket) interruptWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polling && !s.ending && !s.limited {
		s.applyRead(longAgo)
	}
}

// beginLastLook is beginPoll after a write has failed. It does not give way to a goroutine
// that waits to receive. It fails if the transport has no deadlines.
func (s *socket) beginLastLook(until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limited, s.looks = true, 0
	return s.lendRead(until)
}

// lendRead gives the read deadline to a poll. It fails if the transport has no deadlines. A net.Pipe
// that the peer has closed also refuses one, but a read from it does not wait. s.mu is held.
func (s *socket) lendRead(until time.Time) error {
	s.polling = true
	err := s.applyRead(until)
	if errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.polling = err == nil
	return err
}

func (s *socket) endPoll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polling = false
	if !s.ending {
		s.applyRead(time.Now().Add(pingPoll))
	}
}

// isPolled reports whether a poll, Ping or the last look has the read deadline.
func (s *socket) isPolled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.polling
}

// restoreRead removes a read deadline that somebody else has set on the net.Conn.
func (s *socket) restoreRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyUserRead()
}

// applyUserRead sets the user's read deadline, unless the library has the deadline. s.mu is held.
func (s *socket) applyUserRead() {
	if !s.deadlineTaken() {
		s.applyRead(time.Time{})
	}
}

// deadlineTaken reports whether the library has the read deadline. s.mu is held.
func (s *socket) deadlineTaken() bool { return s.polling || s.ending || s.limited }

// isWanted reports whether a goroutine waits to receive.
func (s *socket) isWanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0
}

// interruptPoll ends a poll and prevents the next, until endInterrupt. A goroutine
// that waits to receive calls it.
func (s *socket) interruptPoll() {
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	s.interruptWait()
}

func (s *socket) endInterrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

// endReads sets the read deadline to t. Later deadlines of the user have no effect.
func (s *socket) endReads(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.applyRead(t)
}

// endWrites makes the write in progress fail, and all later ones.
func (s *socket) endWrites() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writesEnded = true
	s.applyWrite()
}

// writesOver reports whether endWrites was called.
func (s *socket) writesOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writesEnded
}

// stop ends the timers of the deadlines.
func (s *socket) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.user != nil {
		s.user.writeExpired.Set(time.Time{})
	}
}
