package websocket

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// halfPipe adds to a connection in memory what a TCP connection can.
type halfPipe struct {
	net.Conn
	err  error
	shut bool
}

func (h *halfPipe) CloseWrite() error {
	h.shut = true
	return h.err
}

func TestFail_drains_for_a_second(t *testing.T) {
	broken := []byte{0x81, 0x00}
	closing := clientFrame(true, Close, closeBody(4001, ""))
	tests := []struct {
		name string
		send []byte
		half *halfPipe
		peer func(w *recorder)
		want []string
		opts []Option
	}{
		{"a peer that stays, and CloseTimeout is short", broken, &halfPipe{}, func(*recorder) {}, []string{"0s close 1002", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that closed and sends for ever, and CloseTimeout is short", closing, &halfPipe{}, func(w *recorder) { go flood(w) }, []string{"0s close 4001", "1s end"}, []Option{CloseTimeout(20 * time.Millisecond)}},
		{"a peer that stays", broken, &halfPipe{}, func(*recorder) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that sends for ever", broken, &halfPipe{}, func(w *recorder) { go flood(w) }, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that hangs up", broken, &halfPipe{}, func(w *recorder) { time.AfterFunc(200*time.Millisecond, func() { w.p.conn.Close() }) }, []string{"0s close 1002", "200ms end"}, nil},
		{"a write side that cannot be shut", broken, &halfPipe{err: net.ErrClosed}, func(*recorder) {}, []string{"0s close 1002", "0s end"}, nil},
		{"a connection without a write side to shut", broken, nil, func(*recorder) {}, []string{"0s close 1002", "1s end"}, nil},
		{"a peer that closed and stays", closing, &halfPipe{}, func(*recorder) {}, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed and sends for ever", closing, &halfPipe{}, func(w *recorder) { go flood(w) }, []string{"0s close 4001", "1s end"}, nil},
		{"a peer that closed, without a write side to shut", closing, nil, func(*recorder) {}, []string{"0s close 4001", "0s end"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opts...)
				if tt.half != nil {
					tt.half.Conn = c.conn
					c.conn = tt.half
				}
				w := record(p, false)
				w.send(tt.send)
				tt.peer(w)
				_, _, err := c.ReceiveMessage()
				<-w.ended
				w.expect(tt.want...)
				if tt.half != nil && !tt.half.shut {
					t.Error("the write side was not shut")
				}
				if err != c.err() {
					t.Errorf("got error %v, want %v", err, c.err())
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestFail_closes_behind_what_was_sent(t *testing.T) {
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
		p.write([]byte{0x81, 0x00})
	})
	wg.Go(func() {
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrProtocol)
	})
	for range messages {
		p.expect(Binary, string(big))
	}
	p.expectClose(StatusProtocolError)
	p.expectEOF()
	p.conn.Close()
	wg.Wait()
}

// The frame that a sender has begun comes whole, and then the close frame.
func TestFail_waits_for_the_frame_that_is_being_sent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		big := string(make([]byte, 100_000))
		go c.SendMessage(Binary, []byte(big))
		synctest.Wait()
		go receiveAll(c)
		p.write([]byte{0x81, 0x00})
		time.Sleep(time.Second)
		p.expect(Binary, big)
		p.expectClose(StatusProtocolError)
		c.Close(StatusNormalClosure, "")
	})
}

func TestFail_is_bounded_where_the_peer_reads_nothing(t *testing.T) {
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
				go p.write([]byte{0x81, 0x00})
				start := time.Now()
				_, _, err := c.ReceiveMessage()
				wantError(t, err, ErrProtocol)
				wantDuration(t, "failing", start, tt.want)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestAbort_of_what_has_ended_does_nothing(t *testing.T) {
	c, p := newTCPConn(t)
	hangUp(p)
	_, _, err := c.ReceiveMessage()
	c.abort(ErrProtocol, nil)
	wantSticky(t, c, err)
}

// What is left to do has bounds of its own.
func TestAbort_is_not_cut_short_by_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPipeConn(t, ConnectionTimeout(10*time.Second), PingInterval(0), CloseTimeout(4*time.Second))
		start := time.Now()
		time.Sleep(9 * time.Second)
		c.abort(ErrProtocol, nil) // the peer reads nothing
		wantDuration(t, "abort", start, 13*time.Second)
		c.Close(StatusNormalClosure, "")
	})
}

// brokenRule is an ErrProtocol with a text to choose.
type brokenRule string

func (e brokenRule) Error() string { return string(e) }

func (e brokenRule) Is(target error) bool { return target == ErrProtocol }

func TestFail_tells_the_peer_why(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string
	}{
		{"without the name of the package", "websocket: no", "no"},
		{"as much as there is room for", strings.Repeat("x", 200), strings.Repeat("x", 123)},
		{"cut between characters", strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{"cut between long characters", strings.Repeat("x", 120) + "\U0001F44B", strings.Repeat("x", 120)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t)
			hangUp(p)
			c.in.lock.Lock()
			c.fail(brokenRule(tt.text))
			c.in.lock.Unlock()
			if got := p.expectClose(StatusProtocolError); got != tt.want {
				t.Errorf("got reason %q, want %q", got, tt.want)
			}
		})
	}
}
