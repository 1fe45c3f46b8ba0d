package websocket

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestStartClose_ends_the_connection_at_once(t *testing.T) {
	tests := []struct {
		name    string
		options []Option
		peer    func(p *peer)
		open    time.Duration // how long the socket stays open
	}{
		{"the peer answers", nil, func(p *peer) {
			p.expectClose(4000)
			time.Sleep(2 * time.Second)
			p.send(Close, closeBody(4000, ""))
		}, 2 * time.Second},
		{"the peer sends a message first", nil, func(p *peer) {
			p.expectClose(4000)
			p.send(Text, "late")
			p.send(Close, closeBody(4000, ""))
		}, 0},
		{"the peer is silent", nil, func(p *peer) { p.expectClose(4000) }, 5 * time.Second},
		{"the peer reads nothing", nil, func(p *peer) {}, 5 * time.Second},
		{"without a CloseTimeout, a silent peer has ConnectionTimeout",
			[]Option{CloseTimeout(0), ConnectionTimeout(time.Minute)},
			func(p *peer) { p.expectClose(4000) }, time.Minute + pingPoll},
		{"without a CloseTimeout, a peer that reads nothing has WriteTimeout",
			[]Option{CloseTimeout(0), ConnectionTimeout(0), PingInterval(0), WriteTimeout(time.Minute)},
			func(p *peer) {}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.options...)
				go tt.peer(p)
				start := time.Now()
				if err := c.StartClose(4000, "bye"); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				wantDuration(t, "StartClose", start, 0)
				wantSticky(t, c, endOf(c))
				wantError(t, endOf(c), net.ErrClosed)
				if got := CloseStatus(endOf(c)); got != 4000 {
					t.Errorf("got close status %v, want 4000", got)
				}
				wantError(t, c.StartClose(4001, ""), net.ErrClosed)
				wantError(t, c.Close(4001, ""), net.ErrClosed)
				wantDuration(t, "the close handshake", start, tt.open)
				wantSocketClosed(t, c)
			})
		})
	}
}

// The goroutine of the close handshake must not outlive the handler.
func TestStartClose_in_a_handler(t *testing.T) {
	for _, run := range []func(*Conn, HandlerFunc, ...Option) <-chan error{runHandler, runConcurrent} {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t)
			start := time.Now()
			done := run(c, func(c *Conn) error { return c.StartClose(4000, "") })
			p.expectClose(4000)
			if err := <-done; err != nil {
				t.Errorf("got error %v, want none", err)
			}
			wantDuration(t, "the end of the handler", start, 5*time.Second)
			wantSocketClosed(t, c)
			p.ExpectEOF()
		})
	}
}

func TestStartClose_wakes_every_method_that_waits(t *testing.T) {
	for name, begin := range map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newPipeConn(t) // whose peer neither reads nor writes
				begin(c)
				errs := make(chan error, 3)
				go func() { errs <- receiveAll(c) }()
				for range 2 {
					go func() { errs <- c.SendMessage(Text, []byte("x")) }()
				}
				synctest.Wait()
				start := time.Now()
				c.StartClose(StatusNormalClosure, "")
				for range cap(errs) {
					wantError(t, <-errs, net.ErrClosed)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("the methods returned after %v, want CloseTimeout at most", took)
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestStartClose_of_100_silent_peers_takes_no_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make([]*Conn, 100)
		for i := range conns {
			conns[i], _ = newPipeConn(t)
		}
		start := time.Now()
		for _, c := range conns {
			c.StartClose(StatusGoingAway, "")
		}
		wantDuration(t, "closing all", start, 0)
		for _, c := range conns {
			c.Close(StatusGoingAway, "")
		}
		wantDuration(t, "closing all, with the waiting", start, 5*time.Second)
	})
}

func TestStartClose_sends_what_was_sent_before(t *testing.T) {
	c, p := newTCPConn(t)
	const messages = 50
	for range messages {
		if err := c.SendMessage(Text, []byte("before")); err != nil {
			t.Fatal(err)
		}
	}
	c.StartClose(StatusNormalClosure, "done")
	for range messages {
		p.expect(Text, "before")
	}
	if reason := p.expectClose(StatusNormalClosure); reason != "done" {
		t.Errorf("got reason %q, want done", reason)
	}
	p.send(Close, closeBody(StatusNormalClosure, ""))
	p.ExpectEOF()
	hangUp(p)
	c.life.closed.Wait()
}

func TestStartClose_refuses_a_code_that_must_not_be_sent(t *testing.T) {
	c, p := newTCPConn(t)
	done := runHandler(c, echoAll)
	wantError(t, c.StartClose(1006, ""), ErrProtocol)
	p.ExpectNothing()
	checkEcho(p)
	p.finish(done)
}

func TestStartClose_after_a_close_frame_of_SendMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		r := record(p, false)
		start := time.Now()
		c.SendMessage(Close, []byte(closeBody(4001, "")))
		time.Sleep(time.Second)
		if err := c.StartClose(4000, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		if got := CloseStatus(endOf(c)); got != 4001 {
			t.Errorf("got close status %v, want the 4001 that was sent", got)
		}
		c.life.closed.Wait()
		wantDuration(t, "both closes", start, 5*time.Second) // the second one does not extend the time
		synctest.Wait()
		r.expect("0s close 4001", "5s end")
		c.Close(4000, "")
	})
}

// The write has failed, but the peer's close frame is the reason for that.
func TestStartClose_on_a_connection_that_cannot_send(t *testing.T) {
	broken := errors.New("broken pipe")
	for name, tt := range map[string]struct {
		sent []byte
		want error
	}{
		"the peer's close frame is the cause": {clientFrame(true, Close, closeBody(4000, "")), &CloseError{Code: 4000}},
		"the error of the write is the cause": {nil, broken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				socket := wstest.NewSocket(tt.sent)
				socket.FailWrites(broken)
				c := newTestConn(socket, nil)
				c.in.lock.Lock() // as a goroutine that receives
				sent := make(chan error)
				go func() { sent <- c.SendMessage(Text, []byte("x")) }()
				synctest.Wait()
				start := time.Now()
				wantError(t, c.StartClose(StatusNormalClosure, ""), broken)
				wantDuration(t, "StartClose", start, 0)
				c.in.lock.Unlock()
				<-sent
				c.life.closed.Wait()
				var peer *CloseError
				if errors.As(tt.want, &peer) {
					wantCloseError(t, endOf(c), peer.Code)
				} else {
					wantError(t, endOf(c), tt.want)
				}
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func wantCloseError(t *testing.T, err error, code StatusCode) {
	t.Helper()
	var peer *CloseError
	if !errors.As(err, &peer) || peer.Code != code {
		t.Errorf("got error %v, want a CloseError with %v", err, code)
	}
}

func TestCloseNow(t *testing.T) {
	for name, begin := range map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				begin(c)
				received, sent := make(chan error), make(chan error)
				go func() { received <- receiveAll(c) }()
				go func() { sent <- c.SendMessage(Text, []byte("x")) }() // the peer does not read
				synctest.Wait()
				start := time.Now()
				if err := c.CloseNow(); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				wantError(t, <-received, net.ErrClosed)
				wantError(t, <-sent, net.ErrClosed)
				wantSocketClosed(t, c)
				if got := CloseStatus(endOf(c)); got != StatusAbnormalClosure {
					t.Errorf("got close status %v, want 1006", got)
				}
				wantSticky(t, c, endOf(c))
				wantError(t, c.CloseNow(), net.ErrClosed)
				wantError(t, c.Close(StatusNormalClosure, ""), net.ErrClosed)
				wantDuration(t, "all", start, 0)
				p.ExpectEOF()
			})
		})
	}
}

func TestCloseNow_sends_nothing(t *testing.T) {
	c, p := newTCPConn(t)
	c.CloseNow()
	if _, err := p.Conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got error %v, want only the end of the stream", err)
	}
}

func TestCloseNow_keeps_the_error_that_ended_the_connection(t *testing.T) {
	c, p := newTCPConn(t)
	p.send(Close, closeBody(4000, ""))
	hangUp(p)
	wantCloseError(t, receiveAll(c), 4000)
	wantCloseError(t, c.CloseNow(), 4000)
	wantCloseError(t, endOf(c), 4000)
}

// A deadline in an hour must not keep the memory of the connection until then.
func TestCloseNow_leaves_no_timer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPipeConn(t)
		c.SetWriteDeadline(time.Now().Add(time.Hour))
		for range 2 {
			go c.SendMessage(Text, []byte("x")) // the second one waits for the deadline with a timer
		}
		synctest.Wait()
		c.CloseNow()
		if hasTimer(c) {
			t.Error("the keepalive has a timer")
		}
		select {
		case <-c.socket.user.writeExpired.Done():
			t.Error("the write deadline has passed")
		case <-time.After(2 * time.Hour):
		}
	})
}

func TestCloseNow_cuts_a_close_in_progress(t *testing.T) {
	tests := []struct {
		name string
		code StatusCode
		peer func(p *peer)
	}{
		{"that waits for the peer's answer", 4000, func(p *peer) { p.expectClose(4000) }},
		{"that cannot send", 4000, func(p *peer) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				closed := make(chan error)
				go func() { closed <- c.Close(tt.code, "") }()
				tt.peer(p)
				synctest.Wait()
				start := time.Now()
				if err := c.CloseNow(); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				err := <-closed
				wantDuration(t, "the end of Close", start, 0)
				wantError(t, err, net.ErrClosed)
				wantMention(t, err.Error(), "did not answer")
				if got := CloseStatus(endOf(c)); got != tt.code {
					t.Errorf("got close status %v, want %v, with which the connection was closed", got, tt.code)
				}
			})
		})
	}
}

func TestCloseNow_over_TLS_does_not_wait_for_a_blocked_write(t *testing.T) {
	t.Parallel()
	handler, ends := captureError(func(c *Conn) error {
		sent := make(chan error)
		go func() {
			for {
				if err := c.SendMessage(Binary, make([]byte, 1<<20)); err != nil {
					sent <- err
					return
				}
			}
		}()
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := c.ReceiveMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.CloseNow()
		return <-sent
	})
	dialTLS(t, handler)
	err := await(t, ends)
	wantError(t, err, net.ErrClosed)
	if strings.Contains(err.Error(), "timeout") {
		t.Errorf("got error %v, want none of a timeout", err)
	}
}
