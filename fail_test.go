package websocket

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestFail_drains_for_a_second(t *testing.T) {
	computes(t)
	broken := []byte{0x81, 0x00}
	closing := clientFrame(true, Close, closeBody(4001, ""))
	tests := []struct {
		name string
		send []byte
		half *wstest.HalfSocket
		peer func(w *recorder)
		want []string
		opts []Option
	}{
		{"a peer that stays, and CloseTimeout is short", broken, &wstest.HalfSocket{}, func(*recorder) {}, []string{"0s close 1002", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that closed and keeps sending, and CloseTimeout is short", closing, &wstest.HalfSocket{}, func(w *recorder) { go w.Flood() }, []string{"0s close 4001", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that stays", broken, &wstest.HalfSocket{}, func(*recorder) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that keeps sending", broken, &wstest.HalfSocket{}, func(w *recorder) { go w.Flood() }, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that hangs up", broken, &wstest.HalfSocket{}, func(w *recorder) { time.AfterFunc(200*time.Millisecond, func() { w.hangUp() }) }, []string{"0s close 1002", "200ms end"}, nil},
		{"a write side that cannot be closed", broken, &wstest.HalfSocket{Err: net.ErrClosed}, func(*recorder) {}, []string{"0s close 1002", "0s end"}, nil},
		{"a connection without CloseWrite", broken, nil, func(*recorder) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that closed and stays", closing, &wstest.HalfSocket{}, func(*recorder) {}, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed and keeps sending", closing, &wstest.HalfSocket{}, func(w *recorder) { go w.Flood() }, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed, without CloseWrite", closing, nil, func(*recorder) {}, []string{"0s close 4001", "0s end"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
					if tt.half == nil {
						return conn
					}
					tt.half.Socket = wstest.Wrap(conn)
					return tt.half
				}, tt.opts...)
				w := record(p, false)
				w.Send(tt.send)
				tt.peer(w)
				_, _, err := c.ReceiveMessage()
				<-w.Ended
				w.expect(tt.want...)
				if tt.half != nil && !tt.half.Shut() {
					t.Error("the write side was not closed")
				}
				if err != endOf(c) {
					t.Errorf("got error %v, want %v", err, endOf(c))
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestFail_sends_its_close_frame_after_the_messages(t *testing.T) {
	computes(t)
	c, p := newTCPConn(t)
	const messages = 100
	big := make([]byte, 100_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range messages {
			if err := c.SendMessage(Binary, big); err != nil {
				t.Errorf("sending before the failure: %v", err)
			}
		}
		p.Write([]byte{0x81, 0x00})
	})
	wg.Go(func() {
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrProtocol)
	})
	for range messages {
		p.expect(Binary, string(big))
	}
	p.expectClose(StatusProtocolError)
	p.ExpectEOF()
	p.Conn.Close()
	wg.Wait()
}

// A sender has begun a frame. The close frame is sent after that frame.
func TestFail_waits_for_the_frame_that_is_being_sent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		big := string(make([]byte, 100_000))
		go c.SendMessage(Binary, []byte(big))
		synctest.Wait()
		go receiveAll(c)
		p.Write([]byte{0x81, 0x00})
		time.Sleep(time.Second)
		p.expect(Binary, big)
		p.expectClose(StatusProtocolError)
		c.Close(StatusNormalClosure, "")
	})
}

func TestFail_is_bounded_if_the_peer_reads_nothing(t *testing.T) {
	tests := []struct {
		name string
		opt  Option
		want time.Duration
	}{
		{"by CloseTimeout", CloseTimeout(2 * time.Second), 2 * time.Second},
		{"also without CloseTimeout", CloseTimeout(0), failTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opt)
				go p.Write([]byte{0x81, 0x00})
				start := time.Now()
				_, _, err := c.ReceiveMessage()
				wantError(t, err, ErrProtocol)
				wantDuration(t, "failing", start, tt.want)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestFailAsync_after_the_end_does_nothing(t *testing.T) {
	c, p := newTCPConn(t)
	hangUp(p)
	_, _, err := c.ReceiveMessage()
	failAsync(c, ErrProtocol)
	wantSticky(t, c, err)
}

// Other limits apply to the close frame and to draining.
func TestFailAsync_is_not_cut_short_by_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPipeConn(t, ConnectionTimeout(10*time.Second), PingInterval(0), CloseTimeout(4*time.Second))
		start := time.Now()
		time.Sleep(9 * time.Second)
		failAsync(c, ErrProtocol) // the peer reads nothing
		wantDuration(t, "failAsync", start, 13*time.Second)
		c.Close(StatusNormalClosure, "")
	})
}

// A brokenRule is an ErrProtocol with the text that a test chooses.
type brokenRule string

func (e brokenRule) Error() string { return string(e) }

func (e brokenRule) Is(target error) bool { return target == ErrProtocol }

func TestFail_sends_the_reason_to_the_peer(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string
	}{
		{"without the name of the package", "websocket: no", "no"},
		{"as many bytes as fit", strings.Repeat("x", 200), strings.Repeat("x", 123)},
		{"cut between characters", strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{"cut between long characters", strings.Repeat("x", 120) + "\U0001F44B", strings.Repeat("x", 120)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			hangUp(p)
			failConn(c, brokenRule(tt.text))
			if got := p.expectClose(StatusProtocolError); got != tt.want {
				t.Errorf("got reason %q, want %q", got, tt.want)
			}
		})
	}
}
