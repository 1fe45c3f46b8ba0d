package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// upgradeHandler serves connections as Handle does, but by Upgrade.
func upgradeHandler(fn HandlerFunc, opts ...Option) http.Handler {
	h := Handle(fn)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Upgrade(w, r, opts...); err == nil {
			h.conns.begin()
			h.conns.add(c)
			h.serve(c)
		}
	})
}

// handlerKinds are the ways in which a connection is served.
var handlerKinds = map[string]func(HandlerFunc, ...Option) http.Handler{
	"Handle":           func(fn HandlerFunc, opts ...Option) http.Handler { return Handle(fn, opts...) },
	"HandleConcurrent": func(fn HandlerFunc, opts ...Option) http.Handler { return HandleConcurrent(fn, opts...) },
	"Detached": func(fn HandlerFunc, opts ...Option) http.Handler {
		return Handle(fn, append(opts, Detached(true))...)
	},
	"Upgrade": upgradeHandler,
}

// A closeCall is a call of the function of OnClose.
type closeCall struct {
	c   *Conn
	err error
}

func TestOnClose_is_called_once_with_the_code(t *testing.T) {
	t.Parallel()
	answer := func(code StatusCode) func(*peer) { return answerClose(code, "") }
	tests := []struct {
		name string
		fn   HandlerFunc
		peer func(p *peer)
		code StatusCode
		is   error
	}{
		{"fn returns nil", noop, answer(1000), 1000, net.ErrClosed},
		{"fn returns a CloseError", func(*Conn) error { return &CloseError{Code: 4321} }, answer(4321), 4321, net.ErrClosed},
		{"fn returns an error", func(*Conn) error { return errSecret }, answer(1011), 1011, net.ErrClosed},
		{"fn panics", func(*Conn) error { panic(errSecret) }, answer(1011), 1011, net.ErrClosed},
		{"fn calls runtime.Goexit", func(*Conn) error { runtime.Goexit(); return nil }, answer(1011), 1011, net.ErrClosed},
		{"fn closes", func(c *Conn) error { return c.Close(4000, "") }, answer(4000), 4000, net.ErrClosed},
		{"fn sends a close frame", func(c *Conn) error { c.SendMessage(Close, []byte{0x0f, 0xa1}); return receiveAll(c) }, answer(4001), 4001, net.ErrClosed},
		{"the peer closes", receiveAll, peerCloses(1001), 1001, io.EOF},
		{"the peer closes with its own code", receiveAll, peerCloses(4001), 4001, &CloseError{}},
		{"the peer breaks a rule", receiveAll, peerBreaksRule(1002, 0x81, 0x00), 1002, ErrProtocol},
		{"the peer sends invalid text", receiveAll, peerBreaksRule(1007, 0x81, 0x81, 0, 0, 0, 0, 0xff), 1007, ErrInvalidUTF8},
		{"the peer sends too much", receiveAll, peerBreaksRule(1009, 0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 1009, ErrMessageTooLarge},
		{"the peer hangs up", receiveAll, hangUp, 1006, io.ErrUnexpectedEOF},
		{"the peer resets the connection", receiveAll, resetPeer, 1006, nil},
	}
	for kind, handle := range handlerKinds {
		for _, tt := range tests {
			t.Run(kind+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				calls := make(chan closeCall, 9)
				running := make(chan bool, 1)
				h := handle(func(c *Conn) error {
					running <- true
					defer func() { <-running }()
					return tt.fn(c)
				}, OnError(func(*Conn, error) {}), OnClose(func(c *Conn, err error) {
					if c.Context().Err() == nil || !c.life.closed.IsSet() {
						t.Error("OnClose was called on an open connection")
					}
					if kind != "Upgrade" && len(running) > 0 {
						t.Error("OnClose was called before fn has returned")
					}
					calls <- closeCall{c, err}
				}))
				srv, _, _ := serveDetached(t, h)
				p := dialServer(t, srv)
				tt.peer(p)
				call := await(t, calls)
				srv.Close()
				awaitEnd(t, h)
				if len(calls) > 0 {
					t.Errorf("OnClose was called %d times, want once", 1+len(calls))
				}
				if got := CloseStatus(call.err); got != tt.code {
					t.Errorf("got close status %v of %v, want %v", got, call.err, tt.code)
				}
				if peer, ok := tt.is.(*CloseError); ok && !errors.As(call.err, &peer) || !ok && tt.is != nil && !errors.Is(call.err, tt.is) {
					t.Errorf("got error %v, want one that is %v", call.err, tt.is)
				}
				if cause := context.Cause(call.c.Context()); cause != call.err {
					t.Errorf("got error %v, want the cause of the context %v", call.err, cause)
				}
			})
		}
	}
}

// Connections that end because of a timeout.
func TestOnClose_after_a_timeout(t *testing.T) {
	tests := []struct {
		name string
		fn   HandlerFunc
		opts []Option
		code StatusCode
		is   error
		took time.Duration
	}{
		{"the peer is silent", receiveAll, []Option{ConnectionTimeout(20 * time.Second)}, 1001, ErrConnectionTimeout, 20*time.Second + pingPoll + drainTime},
		{"the peer does not answer a close", noop, nil, 1000, net.ErrClosed, 5 * time.Second},
		{"the peer does not answer a close frame that was sent", func(c *Conn) error {
			c.SendMessage(Close, nil)
			return receiveAll(c)
		}, nil, 1006, ErrCloseTimeout, 5*time.Second + pingPoll},
		{"the connection reaches MaxLifetime", receiveAll, []Option{MaxLifetime(time.Nanosecond)}, 1001, net.ErrClosed, 5 * time.Second},
	}
	for kind, handle := range handlerKinds {
		for _, tt := range tests {
			t.Run(kind+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, start := make(chan closeCall, 9), time.Now()
					p := connectTo(t, handle(tt.fn, append(tt.opts, OnClose(func(c *Conn, err error) { calls <- closeCall{c, err} }))...))
					go io.Copy(io.Discard, p.Conn)
					call := <-calls
					if took := time.Since(start).Truncate(time.Millisecond); took != tt.took && took != tt.took-drainTime {
						t.Errorf("OnClose was called after %v, want %v", took, tt.took)
					}
					if got := CloseStatus(call.err); got != tt.code || !errors.Is(call.err, tt.is) {
						t.Errorf("got error %v with status %v, want %v with %v", call.err, got, tt.is, tt.code)
					}
					<-p.served
					synctest.Wait()
					if len(calls) > 0 {
						t.Error("OnClose was called twice")
					}
				})
			})
		}
	}
}

// ServeHTTP and Shutdown wait for OnClose, which may block.
func TestOnClose_may_block(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Handle(receiveAll, OnClose(func(*Conn, error) { time.Sleep(time.Hour) }))
		p, start := connectTo(t, h), time.Now()
		synctest.Wait()
		var client sync.WaitGroup
		client.Go(func() { p.expectClose(1001); p.send(Close, closeBody(1001, "")); p.ExpectEOF() })
		if took, err := shutDown(h, 2*time.Hour); err != nil || took != time.Hour {
			t.Errorf("Shutdown: got %v after %v, want nil after 1h", err, took)
		}
		<-p.served
		client.Wait()
		wantDuration(t, "ServeHTTP", start, time.Hour)
	})
}

// With Upgrade, no goroutine of the caller has to notice the end.
func TestOnClose_of_Upgrade_is_called_while_the_caller_is_busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed, proceed := make(chan error, 1), make(chan bool)
		p := connectTo(t, upgradeHandler(func(*Conn) error { <-proceed; return nil },
			OnClose(func(c *Conn, err error) {
				c.Close(StatusNormalClosure, "") // it must not wait for itself
				closed <- err
			})))
		var client sync.WaitGroup
		client.Go(func() { p.send(Close, closeBody(4000, "")); p.expectClose(4000); p.ExpectEOF() })
		if got := CloseStatus(<-closed); got != 4000 {
			t.Errorf("got close status %v, want 4000", got)
		}
		close(proceed)
		<-p.served
		client.Wait()
	})
}

func TestOnClose_is_not_called_for_a_refused_request(t *testing.T) {
	for kind, handle := range handlerKinds {
		h := handle(noop, OnClose(func(*Conn, error) { t.Errorf("%s: OnClose was called", kind) }))
		if r := askFor(h); r.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: got %s, want 500", kind, r.Status)
		}
	}
}

// A panic in OnClose is treated as one of fn: net/http or this package logs it, and the
// server keeps running.
func TestOnClose_panics(t *testing.T) {
	for kind, handle := range handlerKinds {
		for name, fn := range map[string]HandlerFunc{"after fn": noop, "after a panic of fn": panickingHandler} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				var errs atomic.Int32
				h := handle(fn, OnError(func(*Conn, error) { errs.Add(1) }),
					OnClose(func(*Conn, error) { panic("of OnClose") }))
				srv, logged, _ := serveDetached(t, h)
				p := dialServer(t, srv)
				p.read()
				p.send(Close, "")
				p.Conn.Close()
				for line := await(t, logged); !strings.Contains(line, "of OnClose"); line = await(t, logged) {
				}
				awaitEnd(t, h)
				if errs.Load() > 1 {
					t.Errorf("OnError was called %d times, want not for OnClose", errs.Load())
				}
				if h, ok := h.(*Handler); ok {
					if _, err := shutDown(h, wstest.Patience); err != nil {
						t.Errorf("Shutdown after the panic: %v", err)
					}
				}
			})
		}
	}
}

func TestMaxLifetime_ends_a_connection_at_90_to_100_percent(t *testing.T) {
	computes(t)
	const d = 1000 * time.Second
	for kind, handle := range handlerKinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := handle(receiveAll, MaxLifetime(d), ConnectionTimeout(0), PingInterval(0))
				var mu sync.Mutex
				var ends []time.Duration
				var peers sync.WaitGroup
				start := time.Now()
				for range 100 {
					p := connectTo(t, h)
					peers.Go(func() {
						p.Conn.SetDeadline(time.Time{})
						f, err := p.ReadFrame()
						if code, _, _ := f.CloseCode(); code != 1001 {
							t.Errorf("got %v and error %v, want a close frame with 1001", f, err)
						}
						end := time.Since(start)
						p.send(Close, closeBody(1001, ""))
						p.ExpectEOF()
						<-p.served
						mu.Lock()
						defer mu.Unlock()
						ends = append(ends, end)
					})
				}
				peers.Wait()
				slices.Sort(ends)
				if first, last := ends[0], ends[99]; first < d*90/100 || first > d*93/100 || last < d*97/100 || last > d {
					t.Errorf("the connections ended from %v to %v, want 90 to 100 %% of %v", first, last, d)
				}
				if different := len(slices.Compact(ends)); different < 95 {
					t.Errorf("the connections ended at %d different times, want 100", different)
				}
			})
		})
	}
}

func TestMaxLifetime_of_zero_is_no_limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connectTo(t, Handle(receiveAll, MaxLifetime(time.Hour), MaxLifetime(0), ConnectionTimeout(0), PingInterval(0)))
		time.Sleep(10000 * time.Hour)
		select {
		case <-p.served:
			t.Error("the connection has ended")
		default:
		}
		p.Conn.Close()
		<-p.served
	})
}

// The end does not need a goroutine that receives, and CloseTimeout limits it.
func TestMaxLifetime_while_the_peer_does_not_read(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connectTo(t, Handle(func(c *Conn) error {
			err := c.SendMessage(Text, []byte("a peer that does not read"))
			wantError(t, err, net.ErrClosed)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want no timeout", err)
			}
			return err
		}, MaxLifetime(30*time.Second), WriteTimeout(0)))
		start := time.Now()
		<-p.served
		if took := time.Since(start); took < 32*time.Second || took > 35*time.Second {
			t.Errorf("the connection took %v, want 27s to 30s and CloseTimeout", took)
		}
	})
}
