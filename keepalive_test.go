package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// handlerUses are the ways in which a handler can use a connection. The keepalive must work
// with each.
var handlerUses = []struct {
	name  string
	serve func(*Conn, HandlerFunc, ...Option) <-chan error
	fn    HandlerFunc
}{
	{"receiving", runHandler, receiveAll},
	{"only sending", runHandler, sendEverySecond},
	{"doing neither", runHandler, waitForEnd},
	{"reading ahead", runConcurrent, receiveAll},
	{"reading ahead and doing nothing", runConcurrent, waitForEnd},
}

// forEachUse runs test in a bubble for each of handlerUses, while the handler runs. end
// waits for the handler and returns its error.
func forEachUse(t *testing.T, opts []Option, pongs bool, test func(t *testing.T, c *Conn, w *recorder, end func() error)) {
	for _, use := range handlerUses {
		t.Run(use.name, func(t *testing.T) {
			computes(t)
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, opts...)
				w := record(p, pongs)
				done := use.serve(c, use.fn)
				test(t, c, w, func() error { err := <-done; synctest.Wait(); return err })
			})
		})
	}
}

func TestPingInterval(t *testing.T) {
	forEachUse(t, nil, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		time.Sleep(61 * time.Second)
		synctest.Wait()
		w.expect("15s ping", "30s ping", "45s ping", "1m0s ping")
		c.Close(4000, "")
		end()
		w.expect("15s ping", "30s ping", "45s ping", "1m0s ping", "1m1s close 4000", "1m6s end")
	})
}

func TestPingInterval_keeps_time(t *testing.T) {
	t.Parallel()
	forEachUse(t, nil, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if got := len(w.Events()); got != 240 || w.Events()[got-1] != "1h0m0s ping" {
			t.Errorf("got %d pings, the last %q, want 240 and the last at 1h", got, w.Events()[got-1])
		}
		c.Close(4000, "")
		end()
	})
}

func TestPingInterval_zero_sends_none(t *testing.T) {
	t.Parallel()
	forEachUse(t, []Option{PingInterval(0), ConnectionTimeout(0)}, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect()
		c.Close(4000, "")
		end()
	})
}

func TestPingInterval_ends_with_the_close_frame(t *testing.T) {
	t.Parallel()
	forEachUse(t, []Option{CloseTimeout(0), ConnectionTimeout(0)}, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		time.Sleep(20 * time.Second)
		c.SendMessage(Close, nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("15s ping", "20s close 1005")
		w.hangUp()
		c.Close(4000, "") // because all timeouts are off, only Close reads
		end()
	})
}

func TestConnectionTimeout(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		want []string
	}{
		{"longer than PingInterval", []Option{ConnectionTimeout(50 * time.Second)}, []string{"15s ping", "30s ping", "45s ping", "50.01s close 1001", "51.01s end"}},
		{"shorter than PingInterval", []Option{ConnectionTimeout(10 * time.Second)}, []string{"10.01s close 1001", "11.01s end"}},
		{"without pings", []Option{ConnectionTimeout(10 * time.Second), PingInterval(0)}, []string{"10.01s close 1001", "11.01s end"}},
		{"very short", []Option{ConnectionTimeout(time.Millisecond)}, []string{"11ms close 1001", "1.011s end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			forEachUse(t, tt.opts, false, func(t *testing.T, c *Conn, w *recorder, end func() error) {
				err := end()
				wantError(t, err, ErrConnectionTimeout)
				if errors.Is(err, io.EOF) || CloseStatus(err) != StatusGoingAway || !strings.Contains(err.Error(), "for ConnectionTimeout ") {
					t.Errorf("got error %v, want 1001, not io.EOF, with the option and its value", err)
				}
				w.expect(tt.want...)
				wantSticky(t, c, err)
			})
		})
	}
}

// Waiting methods return at the timeout, and not after the close frame and the draining.
func TestConnectionTimeout_wakes_every_method_on_time(t *testing.T) {
	for _, name := range append([]string{"Context"}, receivingMethods...) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newPipeConn(t, ConnectionTimeout(10*time.Second), PingInterval(0))
				start := time.Now()
				if name == "Context" {
					<-c.Context().Done()
				}
				wantError(t, allMethods[name](c), ErrConnectionTimeout)
				wantDuration(t, name, start, 10*time.Second+pingPoll)
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestConnectionTimeout_counts_from_the_last_byte(t *testing.T) {
	t.Parallel()
	last := map[string][]byte{
		"a pong":           clientFrame(true, Pong, ""),
		"a message":        clientFrame(true, Binary, "x"),
		"half a header":    {0x81},
		"half a payload":   clientFrame(true, Binary, "hello")[:8],
		"an empty message": clientFrame(true, Text, ""),
	}
	for name, b := range last {
		t.Run(name, func(t *testing.T) {
			forEachUse(t, []Option{ConnectionTimeout(60 * time.Second), PingInterval(0)}, false, func(t *testing.T, c *Conn, w *recorder, end func() error) {
				// The byte comes in the last moment. If the handler does not receive, only
				// the poll at the timeout finds it.
				const last = time.Minute + pingPoll/2
				time.AfterFunc(last, func() { w.Send(b) })
				<-c.Context().Done()
				wantDuration(t, "the end", w.Start, last+time.Minute+pingPoll)
				end()
			})
		})
	}
}

func TestConnectionTimeout_does_not_end_a_peer_that_answers_pings(t *testing.T) {
	t.Parallel()
	forEachUse(t, []Option{ConnectionTimeout(20 * time.Second)}, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		time.Sleep(time.Hour)
		if err := endOf(c); err != nil {
			t.Errorf("the connection has ended, although the peer answers: %v", err)
		}
		c.Close(4000, "")
		end()
	})
}

func TestConnectionTimeout_keeps_messages_for_a_busy_handler(t *testing.T) {
	computes(t)
	tests := []struct {
		name    string
		message string
	}{
		{"a small message", "hello"},
		{"an empty message", ""},
		{"a message that fills the buffer", string(make([]byte, readBufferSize-8))},
		{"a message larger than the buffer", string(make([]byte, 60_000))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, ConnectionTimeout(20*time.Second))
				w := record(p, true)
				w.Send(clientFrame(true, Binary, tt.message))
				done := runHandler(c, func(c *Conn) error {
					time.Sleep(15 * time.Minute)
					_, got, err := c.ReceiveMessage()
					if string(got) != tt.message || err != nil {
						t.Errorf("got %s, error %v, want %s", wstest.Hex(got), err, wstest.Hex([]byte(tt.message)))
					}
					w.Send(clientFrame(true, Close, ""))
					return receiveAll(c)
				})
				wantError(t, <-done, io.EOF)
			})
		})
	}
}

// The connection may begin to fail while a tick runs.
func TestConnectionTimeout_does_not_apply_while_the_connection_fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, ConnectionTimeout(10*time.Second), PingInterval(0))
		c.timer.enter(phaseFailing, ErrProtocol, 2*time.Hour)
		time.Sleep(time.Hour)
		if got := c.life.current(); got != phaseFailing {
			t.Errorf("got phase %d, want %d", got, phaseFailing)
		}
		p.Conn.Close()
		c.expire(nil)
		c.Close(StatusNormalClosure, "")
	})
}

func TestPing_waits_for_the_frame_that_is_being_sent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		done := runHandler(c, func(c *Conn) error {
			if err := c.SendMessage(Text, []byte("held up")); err != nil {
				t.Error(err)
			}
			return receiveAll(c)
		})
		time.Sleep(20 * time.Second)
		w := record(p, true)
		time.Sleep(11 * time.Second)
		w.expect("0s text held up", "0s ping", "10s ping")
		w.Send(clientFrame(true, Close, ""))
		<-done
	})
}

func TestPing_to_a_peer_that_does_not_read(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		want time.Duration // when the connection ends
		err  error
	}{
		{"is ended by WriteTimeout", []Option{WriteTimeout(10 * time.Second)}, 25 * time.Second, errTimedOut},
		{"is ended by ConnectionTimeout", []Option{ConnectionTimeout(20 * time.Second)}, 20*time.Second + pingPoll, ErrConnectionTimeout},
		{"is ended by ConnectionTimeout alone", []Option{ConnectionTimeout(70 * time.Second), WriteTimeout(0)}, 70*time.Second + pingPoll, ErrConnectionTimeout},
	}
	for _, tt := range tests {
		for _, use := range handlerUses {
			t.Run(tt.name+"/"+use.name, func(t *testing.T) {
				if use.name == "only sending" {
					t.Skip("the handler waits for its own write")
				}
				synctest.Test(t, func(t *testing.T) {
					c, _ := newPipeConn(t, tt.opts...)
					start := time.Now()
					done := use.serve(c, use.fn)
					<-c.Context().Done()
					want := tt.want
					if tt.err == errTimedOut {
						want += pingPoll // in which a close frame is looked for
					}
					wantDuration(t, "the end", start, want)
					err := <-done
					wantError(t, err, tt.err)
				})
			})
		}
	}
}

// The user's write deadline has passed long ago and does not apply to the ping.
func TestPing_is_bounded_by_WriteTimeout_and_not_by_the_write_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPipeConn(t, WriteTimeout(10*time.Second))
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		start := time.Now()
		<-c.Context().Done()
		wantDuration(t, "the end", start, 25*time.Second+pingPoll)
		c.Close(StatusNormalClosure, "")
	})
}

func TestSenders_return_ErrConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, ConnectionTimeout(10*time.Second))
		p.Conn.SetReadDeadline(time.Time{})
		sent := make(chan error)
		go func() { sent <- c.SendMessage(Text, []byte("never read")) }()
		<-c.Context().Done()
		wantError(t, context.Cause(c.Context()), ErrConnectionTimeout)
		start := time.Now()
		wantError(t, <-sent, ErrConnectionTimeout)
		wantDuration(t, "waking the sender", start, 5*time.Second) // CloseTimeout
		c.Close(StatusNormalClosure, "")
	})
}

// Only an option of 0 makes a wait endless. The peer reads nothing, so a sender waits until the
// socket is closed.
func TestKeepalive_frees_a_sender_with_every_CloseTimeout(t *testing.T) {
	ends := map[string]struct {
		end  func(c *Conn, p *peer)
		want time.Duration // when the sender returns, with CloseTimeout(math.MaxInt64)
	}{
		"a silent peer":     {func(*Conn, *peer) {}, 10*time.Second + pingPoll + failTimeout},
		"a peer that errs":  {func(c *Conn, p *peer) { go p.Write(withBits(0x40, clientFrame(true, Text, ""))); receiveAll(c) }, 10 * time.Second},
		"a peer that quits": {func(c *Conn, p *peer) { go p.send(Close, ""); receiveAll(c) }, 10 * time.Second},
		"Close":             {func(c *Conn, p *peer) { c.Close(StatusNormalClosure, "") }, 10*time.Second + pingPoll},
		"the end of fn":     {func(c *Conn, p *peer) { serveConn(c, noop) }, 10*time.Second + pingPoll},
	}
	for name, tt := range ends {
		for _, limit := range []time.Duration{math.MaxInt64, math.MaxInt64 - time.Hour, 0} {
			t.Run(fmt.Sprintf("%s, CloseTimeout %d", name, limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(10*time.Second), WriteTimeout(0), CloseTimeout(limit))
					sent := make(chan error, 1)
					start := time.Now()
					go func() { sent <- c.SendMessage(Text, []byte("never read")) }()
					synctest.Wait()
					go tt.end(c, p)
					select {
					case err := <-sent:
						if took := time.Since(start); err == nil || took > tt.want {
							t.Errorf("got error %v after %v, want one after at most %v", err, took, tt.want)
						}
					case <-time.After(time.Hour):
						t.Error("the sender still waits after an hour")
					}
					p.Conn.Close()
					c.Close(StatusNormalClosure, "")
				})
			})
		}
	}
}

func TestKeepalive_stops_with_the_connection(t *testing.T) {
	forEachUse(t, nil, true, func(t *testing.T, c *Conn, w *recorder, end func() error) {
		w.hangUp()
		end()
		if hasTimer(c) {
			t.Error("the timer was not stopped")
		}
	})
}

// No method is receiving, so a poll reads the ping after a second. The peer does not read the
// pong.
func TestPong_of_a_poll_to_a_peer_that_does_not_read(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		want time.Duration // when the connection ends
		err  error
	}{
		{"is ended by WriteTimeout", []Option{WriteTimeout(4 * time.Second)}, 5*time.Second + pingPoll, errTimedOut},
		{"is ended by ConnectionTimeout", []Option{WriteTimeout(time.Minute)}, 11*time.Second + pingPoll, ErrConnectionTimeout},
		{"is ended by ConnectionTimeout alone", []Option{WriteTimeout(0)}, 11*time.Second + pingPoll, ErrConnectionTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, append([]Option{PingInterval(0), ConnectionTimeout(10 * time.Second)}, tt.opts...)...)
				go p.send(Ping, "never answered")
				done := runHandler(c, waitForEnd)
				timedCall(t, "the end", tt.want, func() error { <-c.Context().Done(); return nil })
				wantError(t, endOf(c), tt.err)
				p.Conn.Close()
				<-done
				wantSocketClosed(t, c)
			})
		})
	}
}

// sendEverySecond sends a message each second, and does not receive.
func sendEverySecond(c *Conn) error {
	for {
		select {
		case <-c.Context().Done():
			return endOf(c)
		case <-time.After(time.Second):
		}
		if err := c.SendMessage(Binary, []byte("tick")); err != nil {
			return err
		}
	}
}
