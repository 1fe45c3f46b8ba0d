package websocket

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A starvedConn is a socket in a process that gets no processor: the short deadlines of some reads
// have passed before the read looks.
type starvedConn struct {
	*net.TCPConn
	reads *atomic.Int32 // how many reads are still to be late
}

func (c starvedConn) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left > 0 && left <= pingPoll && c.reads.Add(-1) >= 0 {
		t = longAgo
	}
	return c.TCPConn.SetReadDeadline(t)
}

// starvedConns connect with a server whose next reads with a short deadline are late.
var starvedConns = map[string]func(t *testing.T, reads int) (*Conn, *peer){
	"TCP": func(t *testing.T, reads int) (*Conn, *peer) {
		client, server := tcpPair(t)
		return newTestConn(starve(server, reads), nil, PingInterval(0)), newPeer(t, client)
	},
	"TLS": func(t *testing.T, reads int) (*Conn, *peer) {
		pair := newTLSPair(t, tls.VersionTLS13, func(server net.Conn) net.Conn { return starve(server, reads) })
		return newTestConn(pair.server, nil, PingInterval(0)), newPeer(t, pair.client)
	},
}

func starve(conn net.Conn, reads int) starvedConn {
	c := starvedConn{conn.(*net.TCPConn), new(atomic.Int32)}
	c.reads.Store(int32(reads))
	return c
}

// The peer's close frame has arrived when a write fails. The reads that look for it have little
// time, and the process may get no processor meanwhile.
func TestLost_finds_the_close_frame_although_its_deadline_has_passed(t *testing.T) {
	t.Parallel()
	uses := map[string]func(c *Conn) error{
		"only sending": func(c *Conn) (err error) {
			for err == nil {
				err = c.SendMessage(Binary, make([]byte, 1000))
			}
			return err
		},
		"receiving": receiveAll,
		"polled":    func(c *Conn) error { pollOnce(c); return receiveAll(c) },
	}
	for kind, connect := range starvedConns {
		for name, use := range uses {
			t.Run(kind+"/"+name, func(t *testing.T) {
				c, p := connect(t, maxLooks)
				if _, _, ok := c.socket.behind(); !ok {
					t.Skip("this system does not tell what has arrived")
				}
				p.Write(lastWords)
				p.Conn.Close()
				waitForBytes(t, c, len(lastWords))
				wantBye(t, use(c))
				c.Close(StatusNormalClosure, "")
			})
		}
	}
}

// A read is repeated only for bytes that have arrived, only if its deadline was one of the library,
// and not too often.
func TestSocket_lookAgain(t *testing.T) {
	expired := error(&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded})
	during := func(poll bool, change func(s *socket)) func(s *socket) {
		return func(s *socket) {
			if poll {
				s.beginPoll(time.Now().Add(pingPoll))
			} else {
				s.limitReads(time.Now().Add(pingPoll))
			}
			if change != nil {
				change(s)
			}
		}
	}
	userExpires := func(s *socket) { s.setUserRead(pastTime) }
	tests := []struct {
		name    string
		arrived bool
		state   func(s *socket)
		err     error
		looks   int // before
		want    bool
	}{
		{"a poll", true, during(true, nil), expired, 0, true},
		{"after a failed write", true, during(false, nil), expired, 0, true},
		{"the last time", true, during(true, nil), expired, maxLooks - 1, true},
		{"too often", true, during(true, nil), expired, maxLooks, false},
		{"a read that has looked", true, during(true, nil), os.ErrDeadlineExceeded, 0, false},
		{"another error", true, during(true, nil), errors.New("another error"), 0, false},
		{"a poll of a socket without input", false, during(true, nil), expired, 0, false},
		{"a failed write of a socket without input", false, during(false, nil), expired, 0, false},
		{"the user's deadline", true, userExpires, expired, 0, false},
		{"the user's deadline after a failed write", true, during(false, userExpires), expired, 0, false},
		{"the user's deadline does not end a poll", true, during(true, userExpires), expired, 0, true},
		{"a poll that gives way to a receiving goroutine", true, during(true, (*socket).interruptPoll), expired, 0, false},
		{"a closing connection", true, during(false, func(s *socket) { s.endReads(time.Now().Add(time.Hour)) }), expired, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			if _, _, ok := c.socket.behind(); !ok {
				t.Skip("this system does not tell what has arrived")
			}
			if tt.arrived {
				p.Write([]byte("x"))
				waitForBytes(t, c, 1)
			}
			c.in.lock.Lock()
			tt.state(&c.socket)
			c.socket.looks = uint8(tt.looks)
			again := c.socket.lookAgain(tt.err, time.Time{})
			c.socket.endPoll()
			c.in.lock.Unlock()
			if again != tt.want {
				t.Errorf("got %v, want %v", again, tt.want)
			}
		})
	}
}

// A peer that sends the beginning of a record has sent no message. The last look waits for the rest
// only as long as it may.
func TestLost_waits_for_half_a_record_no_longer(t *testing.T) {
	pair := newTLSPair(t, tls.VersionTLS13, nil)
	c := newTestConn(pair.server, nil, PingInterval(0))
	record := pair.below.collect(func() { pair.client.Write(lastWords) })
	pair.below.Write(record[:len(record)/2])
	waitForBytes(t, c, len(record)/2)
	timedCallWithin(t, "the last look", wstest.Patience/2, func() {
		defer lockInput(c)()
		if err := c.in.lastLook(true); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got error %v, want that of the deadline", err)
		}
	})
	pair.below.Close()
	c.CloseNow()
}

// A lateConn does not tell what has arrived, and its process gets no processor: the next short deadline
// is noticed long after it has passed, and before the read looks.
type lateConn struct {
	net.Conn
	late *atomic.Bool
}

func (c lateConn) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left > 0 && left <= pingPoll && c.late.Swap(false) {
		time.Sleep(left + pingPoll)
	}
	return c.Conn.SetReadDeadline(t)
}

// A poll that could not look is repeated, even if the system does not tell that something has arrived.
func TestPoll_finds_the_close_frame_although_its_deadline_has_passed(t *testing.T) {
	client, server := tcpPair(t)
	conn := lateConn{server, new(atomic.Bool)}
	c, p := newTestConn(conn, nil, PingInterval(0)), newPeer(t, client)
	p.Write(lastWords)
	arrived := func() bool { unread, _, ok := behind(server); return !ok || int(unread) >= len(lastWords) }
	if !wstest.Eventually(arrived) {
		t.Fatal("the close frame has not arrived")
	}
	conn.late.Store(true)
	pollOnce(c)
	if conn.late.Load() {
		t.Error("the poll was not late")
	}
	wantBye(t, endOf(c))
	p.Conn.Close()
	c.CloseNow()
}

// A poll of a connection that has got nothing is not repeated.
func TestSocket_lookAgain_without_a_report_of_the_system(t *testing.T) {
	expired := error(&net.OpError{Op: "read", Net: "http2", Err: os.ErrDeadlineExceeded})
	tests := []struct {
		name  string
		err   error
		late  time.Duration
		looks uint8
		want  bool
	}{
		{"on time", expired, pingPoll / 2, 0, false},
		{"late", expired, 2 * pingPoll, 0, true},
		{"late again", expired, 2 * pingPoll, 1, false},
		{"a read that has looked", os.ErrDeadlineExceeded, 2 * pingPoll, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, p := newMemoryConn(t)
				until := time.Now().Add(pingPoll)
				c.in.lock.Lock()
				c.socket.beginPoll(until)
				c.socket.looks = tt.looks
				time.Sleep(pingPoll + tt.late)
				if again := c.socket.lookAgain(tt.err, until); again != tt.want {
					t.Errorf("got %v, want %v", again, tt.want)
				}
				c.socket.endPoll()
				c.in.lock.Unlock()
				p.Conn.Close()
				c.CloseNow()
			})
		})
	}
}
