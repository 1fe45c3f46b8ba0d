package websocket

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// While the library needs a deadline, the socket has that of the library, otherwise that of
// the user.
func TestSocket_deadlines(t *testing.T) {
	user, poll := time.Unix(1e9, 0), time.Unix(2e9, 0)
	tests := []struct {
		name string
		do   func(s *socket)
		want []wstest.DeadlineCall
	}{
		{"the user's", func(s *socket) { s.setUserRead(user); s.setUserWrite(user) },
			[]wstest.DeadlineCall{{Which: "read", Set: true}, {Which: "write", Set: true}}},
		{"a poll ends with the user's", func(s *socket) { s.setUserRead(user); s.beginPoll(poll); s.endPoll() },
			[]wstest.DeadlineCall{{Which: "read", Set: true}, {Which: "read", Set: true}, {Which: "read", Set: true}}},
		{"a poll ends with none", func(s *socket) { s.beginPoll(poll); s.endPoll() },
			[]wstest.DeadlineCall{{Which: "read", Set: true}, {Which: "read"}}},
		{"the user's is not set during a poll", func(s *socket) { s.beginPoll(poll); s.setUserRead(user) },
			[]wstest.DeadlineCall{{Which: "read", Set: true}}},
		{"no poll deadline if a goroutine waits", func(s *socket) { s.interruptPoll(); s.beginPoll(poll); s.endInterrupt() }, nil},
		{"a goroutine that waits ends a poll", func(s *socket) { s.beginPoll(poll); s.interruptPoll() },
			[]wstest.DeadlineCall{{Which: "read", Set: true}, {Which: "read", Set: true}}},
		{"the deadline of the end stays", func(s *socket) {
			s.endReads(longAgo)
			s.setUserRead(user)
			s.beginPoll(poll)
			s.interruptPoll()
			s.endInterrupt()
		}, []wstest.DeadlineCall{{Which: "read", Set: true}}},
		{"a write of the library has no deadline", func(s *socket) {
			s.setUserWrite(user)
			s.writeAs(byLibrary)
			s.writeAs(bySender)
		}, []wstest.DeadlineCall{{Which: "write", Set: true}, {Which: "write"}, {Which: "write", Set: true}}},
		{"a write of the library sets no deadline without a user's", func(s *socket) { s.writeAs(byLibrary); s.writeAs(bySender) }, nil},
		{"the user's is set after a write of the library", func(s *socket) {
			s.writeAs(byLibrary)
			s.setUserWrite(user)
			s.writeAs(bySender)
		}, []wstest.DeadlineCall{{Which: "write", Set: true}}},
		{"a write of a receiving method has the read deadline", func(s *socket) {
			s.setUserRead(user)
			s.writeAs(byReceiver)
			s.writeAs(bySender)
		}, []wstest.DeadlineCall{{Which: "read", Set: true}, {Which: "write", Set: true}, {Which: "write"}}},
		{"a read deadline applies to the write of a receiving method that has begun", func(s *socket) {
			s.writeAs(byReceiver)
			s.setUserRead(user)
			s.writeAs(bySender)
		}, []wstest.DeadlineCall{{Which: "write", Set: true}, {Which: "read", Set: true}, {Which: "write"}}},
		{"a write deadline does not apply to a write of a receiving method", func(s *socket) {
			s.setUserWrite(user)
			s.writeAs(byReceiver)
			s.setUserWrite(time.Time{})
			s.writeAs(bySender)
		}, []wstest.DeadlineCall{{Which: "write", Set: true}, {Which: "write"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := wstest.NewSocket()
			var s socket
			s.transport = newTransport(conn, &s, new(inbuf))
			tt.do(&s)
			if got := conn.Deadlines(); !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A closed net.Pipe refuses deadlines, but a read from it does not wait, so a poll and Ping must
// find its end. They must not begin on a transport that has no deadlines, where they could not be
// ended.
func TestSocket_polls_unless_a_read_could_wait_for_ever(t *testing.T) {
	local, remote := net.Pipe()
	remote.Close()
	closed, _ := net.Pipe()
	closed.Close()
	without := wstest.NewSocket()
	without.NoDeadlines = true
	tests := []struct {
		name string
		conn net.Conn
		want bool
	}{
		{"the peer has closed the pipe", local, true},
		{"the pipe is closed", closed, true},
		{"the socket is closed", closedConn{wstest.NewSocket()}, true},
		{"no deadlines", without, false},
	}
	begins := map[string]func(s *socket) bool{
		"a poll":        func(s *socket) bool { return s.beginPoll(time.Now().Add(time.Hour)) },
		"Ping":          func(s *socket) bool { return s.beginWait() },
		"the last look": func(s *socket) bool { return s.beginLastLook(time.Now().Add(time.Hour)) == nil },
	}
	for _, tt := range tests {
		for name, begin := range begins {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				var s socket
				s.transport = newTransport(tt.conn, &s, new(inbuf))
				if got := begin(&s); got != tt.want || s.isPolled() != tt.want {
					t.Errorf("got %v, with the deadline lent: %v, want %v", got, s.isPolled(), tt.want)
				}
			})
		}
	}
}

type closedConn struct{ net.Conn }

func (closedConn) SetReadDeadline(time.Time) error {
	return &net.OpError{Op: "set", Err: net.ErrClosed}
}
