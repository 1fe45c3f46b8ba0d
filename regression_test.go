package websocket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// timed is what call returns, which must take want to the nanosecond, and nil for
// what does not end: the caller then closes what it waits for.
func timed(t testing.TB, what string, want time.Duration, call func() error) error {
	t.Helper()
	start, done := time.Now(), make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		took(t, what, start, want)
		return err
	case <-time.After(want + time.Hour):
		t.Errorf("%s still waits an hour after the %v that it should take", what, want)
		return nil
	}
}

// wantGone checks that the socket is closed, not about to be.
func wantGone(t testing.TB, c *Conn) {
	t.Helper()
	if !c.gone.IsSet() {
		t.Error("the socket is still open")
	}
}

// The ping lies unread until the keepalive looks whether the peer is silent, and
// nobody reads the answer.
func TestPong_to_a_peer_that_reads_nothing_in_a_look_at_its_silence(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		want time.Duration // when the connection ends
		err  error
	}{
		{"is ended by WriteTimeout", []Option{WriteTimeout(4 * time.Second)}, 14 * time.Second, errTimedOut},
		{"is ended by ConnectionTimeout", []Option{WriteTimeout(time.Minute)}, 19900 * time.Millisecond, ErrConnectionTimeout},
		{"is ended by ConnectionTimeout alone", []Option{WriteTimeout(0)}, 19900 * time.Millisecond, ErrConnectionTimeout},
		{"is ended where pings come later", []Option{PingInterval(time.Hour)}, 19900 * time.Millisecond, ErrConnectionTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, append([]Option{PingInterval(0), ConnectionTimeout(10 * time.Second)}, tt.opts...)...)
				go p.send(Ping, "nobody reads the answer")
				done := serveConn(c, idle)
				timed(t, "the end", tt.want, func() error { <-c.Context().Done(); return nil })
				wantError(t, c.err(), tt.err)
				p.conn.Close()
				<-done
				wantGone(t, c)
			})
		})
	}
}

// A panickyError is one of a user whose methods have a bug.
type panickyError struct{ method string }

func (e panickyError) Error() string { return "panics in " + e.method }

func (e panickyError) Is(error) bool {
	if e.method == "Is" {
		panic(e)
	}
	return false
}

func (e panickyError) As(any) bool {
	if e.method == "As" {
		panic(e)
	}
	return false
}

// Whatever fn returns, the peer is told, the socket is closed when the handler
// returns, and a panic goes on.
func TestHandle_closes_for_an_error_that_is_none(t *testing.T) {
	returns := func(err error) HandlerFunc { return func(*Conn) error { return err } }
	andThen := func(err error) HandlerFunc { return func(c *Conn) error { receiveAll(c); return err } }
	var none *CloseError
	tests := []struct {
		name     string
		fn       HandlerFunc
		peer     []byte // what it sends
		panics   any
		reported string
		wire     []string
	}{
		{"a nil *CloseError", returns(none), nil, nil, "nil *CloseError", []string{"0s close 1011", "5s end"}},
		{"a nil *CloseError, wrapped", returns(fmt.Errorf("late: %w", none)), nil, nil, "late", []string{"0s close 1011", "5s end"}},
		{"a nil *CloseError when the peer has closed", andThen(none), clientFrame(true, Close, closeBody(4000, "")), nil,
			"nil *CloseError", []string{"0s close 4000", "0s end"}},
		{"a panic in As", returns(panickyError{"As"}), nil, panickyError{"As"}, "panics in As", []string{"0s close 1011", "5s end"}},
		{"a panic in Is", andThen(panickyError{"Is"}), clientFrame(true, Close, closeBody(4000, "")), panickyError{"Is"},
			"panics in Is", []string{"0s close 4000", "0s end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []error
				c, p := pipe(t, OnError(func(_ *Conn, err error) { got = append(got, err) }))
				w := witnessed(p, false)
				if tt.peer != nil {
					w.send(tt.peer)
				}
				panicked := make(chan any)
				go func() {
					defer func() { panicked <- recover() }()
					c.serve(tt.fn)
				}()
				if v := <-panicked; v != tt.panics {
					t.Errorf("got panic %v, want %v", v, tt.panics)
				}
				wantGone(t, c)
				wantReport(t, got, tt.reported)
				synctest.Wait()
				w.expect(tt.wire...)
			})
		})
	}
}

func TestCloseError_nil_is_no_close(t *testing.T) {
	var none *CloseError
	for name, err := range map[string]error{"alone": none, "wrapped": fmt.Errorf("late: %w", none)} {
		if got := CloseStatus(err); got != 0 {
			t.Errorf("%s: got close status %v, want none", name, got)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%s: is io.EOF", name)
		}
		wantMention(t, err.Error(), "nil *CloseError")
	}
}

// An endingError is a *CloseError that cannot be sent, and while the handler is
// told so the connection ends.
type endingError struct{ end func() }

func (endingError) Error() string { return "ends" }

func (e endingError) As(target any) bool {
	own, ok := target.(**CloseError)
	if ok {
		e.end()
		*own = &CloseError{Code: StatusAbnormalClosure}
	}
	return ok
}

func TestHandle_waits_for_an_end_that_comes_with_a_close_that_must_not_be_sent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, OnError(func(*Conn, error) {}))
		w := witnessed(p, false)
		go receiveAll(c)
		done := serveConn(c, func(c *Conn) error {
			return endingError{func() {
				w.send([]byte{0x81, 0x00})
				<-c.Context().Done()
			}}
		})
		<-done
		wantGone(t, c)
		took(t, "the handler", w.start, lingerTime)
		synctest.Wait()
		w.expect("0s close 1002", "1s end")
	})
}

// The peer has not read the ping, so the sending side is taken.
func TestSetWriteDeadline_behind_a_blocked_ping(t *testing.T) {
	// Each prepares a call, which is made when the ping is on its way.
	calls := map[string]func(t *testing.T, c *Conn) func() error{
		"Write of a MessageWriter": func(t *testing.T, c *Conn) func() error {
			w := openWriter(t, c, Binary)
			return func() error { _, err := w.Write(make([]byte, 2*fragmentSize)); return err }
		},
	}
	for _, name := range sending {
		calls[name] = func(t *testing.T, c *Conn) func() error {
			return func() error { return everyMethod[name](c) }
		}
	}
	for name, prepare := range calls {
		for _, timeout := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprintf("%s with WriteTimeout %v", name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := pipe(t, WriteTimeout(timeout), ConnectionTimeout(0))
					call := prepare(t, c)
					time.Sleep(16 * time.Second)
					c.SetWriteDeadline(time.Now().Add(time.Second))
					wantError(t, timed(t, name, time.Second, call), os.ErrDeadlineExceeded)
					if c.err() != nil {
						t.Errorf("the connection has ended: %v", c.err())
					} else {
						c.SetWriteDeadline(time.Time{})
						p.expect(Ping, "")
						go c.WriteFrame(plain(Header{Fin: true, Opcode: Text}, "usable"))
						p.expect(Text, "usable")
					}
					p.conn.Close()
					c.Close(StatusNormalClosure, "")
				})
			})
		}
	}
}

// sending are the methods of everyMethod that send.
var sending = []string{"SendMessage/Text", "SendMessage/Ping", "SendMessage/Close", "SendJSON", "MessageWriter", "WriteFrame"}

// The end of a connection takes its time, for which the receiving side is held.
func TestReceivers_do_not_wait_for_the_end_to_be_over(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		end  func(c *Conn, w *witness)
	}{
		{"Close", nil, func(c *Conn, w *witness) { c.Close(4000, "") }},
		{"Close without CloseTimeout", []Option{CloseTimeout(0)}, func(c *Conn, w *witness) { c.Close(4000, "") }},
		{"failing", nil, func(c *Conn, w *witness) { w.send([]byte{0x81, 0x00}); receiveAll(c) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, tt.opts...)
				w := witnessed(p, false)
				go tt.end(c, w)
				<-c.Context().Done()
				synctest.Wait()
				if c.in.lock.TryLock() {
					t.Fatal("nobody holds the receiving side: nothing is tested")
				}
				for _, name := range receiving {
					if err := timed(t, name, 0, func() error { return everyMethod[name](c) }); err != c.err() {
						t.Errorf("%s: got error %v, want the sticky one: %v", name, err, c.err())
					}
				}
				w.p.conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	t.Run("also those that wait for each other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t)
			witnessed(p, false)
			var wg sync.WaitGroup
			for _, name := range receiving {
				wg.Go(func() {
					wantError(t, timed(t, name, time.Second, func() error { return everyMethod[name](c) }), net.ErrClosed)
				})
			}
			time.Sleep(time.Second)
			go c.Close(4000, "")
			wg.Wait()
			c.Close(4000, "")
		})
	})
}

// Run with -race. The first close frame is the one that counts.
func TestWriteFrame_second_close_beside_the_peers(t *testing.T) {
	for range 200 {
		c, p := pipe(t, PingInterval(0))
		var wg sync.WaitGroup
		wg.Go(func() {
			for code := StatusCode(4000); c.WriteFrame(plain(Header{Fin: true, Opcode: Close}, closeBody(code, ""))) == nil; code++ {
			}
		})
		wg.Go(func() { io.Copy(io.Discard, p.conn) })
		wg.Go(func() { p.conn.Write(clientFrame(true, Close, closeBody(3000, ""))) })
		err := receiveAll(c)
		if got := CloseStatus(err); got != 4000 && (got != 3000 || errors.Is(err, net.ErrClosed)) {
			t.Errorf("got error %v with status %v, want that of the first close frame", err, got)
		}
		c.Close(StatusNormalClosure, "")
		p.conn.Close()
		wg.Wait()
	}
}

// A receiver that takes an end for a deadline would set another and go on for ever.
func TestReceivers_take_no_end_for_a_deadline(t *testing.T) {
	ends := []struct {
		name string
		end  func(t *testing.T, c *Conn, p *peer)
	}{
		{"a message that WriteTimeout cuts", func(t *testing.T, c *Conn, p *peer) {
			wantError(t, c.SendMessage(Text, []byte("nobody reads this")), os.ErrDeadlineExceeded)
		}},
		{"a pong that WriteTimeout cuts", func(t *testing.T, c *Conn, p *peer) {
			p.send(Ping, "")
			<-c.Context().Done()
		}},
		{"a message that SetWriteDeadline cuts", func(t *testing.T, c *Conn, p *peer) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			wantError(t, cutOff(t, c, p), os.ErrDeadlineExceeded)
		}},
		{"a stream that SetWriteDeadline cuts", func(t *testing.T, c *Conn, p *peer) {
			w := openWriter(t, c, Binary)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			go p.conn.Read(make([]byte, 1))
			_, err := w.Write(make([]byte, 2*fragmentSize))
			wantError(t, err, os.ErrDeadlineExceeded)
			wantError(t, w.Close(), os.ErrDeadlineExceeded)
		}},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, PingInterval(0), WriteTimeout(7*time.Second))
				received := make(chan error, 1)
				start := time.Now()
				go func() {
					for {
						c.SetReadDeadline(time.Now().Add(time.Minute))
						if _, _, err := c.ReceiveMessage(); !isTimeout(err) || time.Since(start) > time.Hour {
							received <- err
							return
						}
					}
				}()
				synctest.Wait()
				tt.end(t, c, p)
				if err := <-received; isTimeout(err) {
					t.Errorf("who was receiving: got error %v, which is a deadline", err)
				}
				for name, call := range everyMethod {
					err := call(c)
					if isTimeout(err) != slices.Contains(sending, name) {
						t.Errorf("%s: got error %v, os.ErrDeadlineExceeded = %t", name, err, isTimeout(err))
					}
					if got := CloseStatus(err); got != StatusAbnormalClosure {
						t.Errorf("%s: got close status %v, want %v", name, got, StatusAbnormalClosure)
					}
				}
			})
		})
	}
}

// A timelessConn knows no deadlines, as tunnels often do not.
type timelessConn struct{ net.Conn }

func (timelessConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (timelessConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (timelessConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// timelessPipe is pipe without deadlines on the side of the Conn.
func timelessPipe(t testing.TB, opts ...Option) (*Conn, *witness) {
	server, client := net.Pipe()
	c := newConn(timelessConn{server}, httptest.NewRequest("GET", "/", nil), "", newOptions(opts), nil)
	return c, witnessed(newPeer(t, client), false)
}

func TestConn_without_deadlines(t *testing.T) {
	// The message comes between two pings, and the reader before or after it.
	for _, comes := range []time.Duration{0, 31 * time.Second, 33 * time.Second} {
		t.Run(fmt.Sprintf("has its pings and its messages, received from %v on", comes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := timelessPipe(t)
				time.AfterFunc(32*time.Second, func() { w.send(clientFrame(true, Text, "hello")) })
				time.Sleep(comes)
				_, got, err := c.ReceiveMessage()
				if string(got) != "hello" || err != nil {
					t.Errorf("got message %q, error %v", got, err)
				}
				took(t, "receiving", w.start, max(comes, 32*time.Second))
				synctest.Wait()
				w.expect("15s ping", "30s ping")
				w.p.conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	for _, habit := range habits {
		t.Run("is closed for silence/"+habit.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := timelessPipe(t, PingInterval(0), ConnectionTimeout(10*time.Second))
				done := habit.serve(c, habit.fn)
				wantError(t, timed(t, "the handler", 11*time.Second, func() error { return <-done }), ErrConnectionTimeout)
				wantGone(t, c)
				synctest.Wait()
				w.expect("10s close 1001", "11s end")
			})
		})
	}
	ends := []struct {
		name string
		sent []byte // by the peer
		fn   HandlerFunc
		wire []string
	}{
		{"a broken rule", []byte{0x81, 0x00}, receiveAll, []string{"0s close 1002", "1s end"}},
		{"the peer's close", clientFrame(true, Close, closeBody(4000, "")), receiveAll, []string{"0s close 4000", "0s end"}},
		{"Close", nil, func(c *Conn) error { return c.Close(4001, "") }, []string{"0s close 4001", "5s end"}},
		{"Close beside a reader", nil, func(c *Conn) error { go receiveAll(c); synctest.Wait(); return c.Close(4001, "") }, []string{"0s close 4001", "5s end"}},
		{"Close, answered", clientFrame(true, Close, closeBody(4000, "")), func(c *Conn) error { return c.Close(4001, "") }, []string{"0s close 4001", "0s end"}},
	}
	for _, tt := range ends {
		t.Run("is closed by "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := timelessPipe(t)
				if tt.sent != nil {
					w.send(tt.sent)
				}
				done := serveConn(c, tt.fn)
				select {
				case <-done:
				case <-time.After(time.Hour):
					t.Error("the handler does not return")
					w.p.conn.Close()
				}
				synctest.Wait()
				w.expect(tt.wire...)
			})
		})
	}
}

// tlsPipe is pipe over TLS. A TLS connection would like to say goodbye, and to wait
// five seconds for it.
func tlsPipe(t *testing.T, certificates []tls.Certificate, opts ...Option) (*Conn, *peer) {
	t.Helper()
	server, client := net.Pipe()
	// From TLS 1.3 on, the server writes more behind the handshake.
	s := tls.Server(server, &tls.Config{Certificates: certificates, MaxVersion: tls.VersionTLS12})
	p := newPeer(t, tls.Client(client, &tls.Config{InsecureSkipVerify: true}))
	go p.conn.(*tls.Conn).Handshake()
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return newConn(s, httptest.NewRequest("GET", "/", nil), "", newOptions(opts), nil), p
}

func TestEnds_over_TLS_are_bounded_where_the_peer_does_not_read(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	certificates := srv.TLS.Certificates
	srv.Close()
	closes := func(c *Conn) error { return c.Close(4000, "") }
	tests := []struct {
		name string
		peer func(p *peer)
		fn   HandlerFunc
		want time.Duration
		end  error
	}{
		{"Close, of which nothing is read", func(p *peer) {}, closes, 3 * time.Second, net.ErrClosed},
		{"Close, of which only the close frame is read", func(p *peer) { p.expectClose(4000) }, closes, 3 * time.Second, net.ErrClosed},
		{"Close, answered by a peer that then does not read", func(p *peer) { p.expectClose(4000); p.send(Close, "") }, closes, lingerTime, net.ErrClosed},
		{"failing", func(p *peer) { p.write([]byte{0x81, 0x00}); p.expectClose(1002) }, receiveAll, lingerTime, ErrProtocol},
		{"failing, of which nothing is read", func(p *peer) { p.write([]byte{0x81, 0x00}) }, receiveAll, 3 * time.Second, ErrProtocol},
		{"the peer's close", func(p *peer) { p.send(Close, ""); p.expectClose(1005) }, receiveAll, lingerTime, io.EOF},
		{"silence", func(p *peer) { p.expectClose(1001) }, receiveAll, 10*time.Second + lingerTime, ErrConnectionTimeout},
		{"WriteTimeout", func(p *peer) {}, func(c *Conn) error {
			time.Sleep(time.Second)
			return c.SendMessage(Text, []byte("x"))
		}, 8 * time.Second, errTimedOut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := tlsPipe(t, certificates, PingInterval(0), CloseTimeout(3*time.Second), WriteTimeout(7*time.Second), ConnectionTimeout(10*time.Second))
				go tt.peer(p)
				done := serveConn(c, tt.fn)
				timed(t, "the handler", tt.want, func() error { return <-done })
				wantError(t, c.err(), tt.end)
				wantGone(t, c)
			})
		})
	}
}

// Whoever only sends learns from a write that the peer has gone; its close frame
// lies unread.
func TestSenders_learn_of_the_close_of_a_peer_that_has_gone(t *testing.T) {
	sends := map[string]func(c *Conn) error{
		"SendMessage":       func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 1000)) },
		"SendMessage, long": func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 1<<17)) },
		"ping":              func(c *Conn) error { return c.SendMessage(Ping, nil) },
		"WriteFrame":        func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}}) },
		"MessageWriter": func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err != nil {
				return err
			}
			_, err = w.Write(make([]byte, 2*fragmentSize))
			return errors.Join(err, w.Close())
		},
	}
	goes := map[string]func(c *Conn, p *peer){
		"closes": func(_ *Conn, p *peer) { p.conn.Close() },
		"closes with something unread": func(c *Conn, p *peer) {
			c.SendMessage(Text, []byte("unread"))
			p.br.Peek(1) // it is there
			p.conn.Close()
		},
		"resets": func(_ *Conn, p *peer) { reset(p) },
	}
	for how, send := range sends {
		for way, leave := range goes {
			t.Run(how+" to a peer that "+way, func(t *testing.T) {
				c, p := dialConn(t, PingInterval(0))
				p.send(Close, closeBody(4000, "bye"))
				leave(c, p)
				var err error
				for err == nil {
					err = send(c)
				}
				var closed *CloseError
				if !errors.As(err, &closed) || *closed != (CloseError{4000, "bye"}) {
					t.Errorf("got error %v, want the peer's close", err)
				}
				if c.Close(StatusNormalClosure, "") != c.err() || CloseStatus(c.err()) != 4000 {
					t.Errorf("got end %v, want the peer's close", c.err())
				}
			})
		}
	}
}

func TestMessageWriter_whose_Close_fails_does_not_stay_open(t *testing.T) {
	t.Run("is dropped where nothing of it has left", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, "gathered")
		c.SetWriteDeadline(past)
		wantError(t, w.Close(), os.ErrDeadlineExceeded)
		wantError(t, w.Close(), io.ErrClosedPipe)
		_, err := w.Write([]byte("more"))
		wantError(t, err, io.ErrClosedPipe)
		c.SetWriteDeadline(time.Time{})
		if err := c.SendMessage(Text, []byte("next")); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sent{true, Text, "next"})
	})
	t.Run("ends the connection where something of it has", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, strings.Repeat("x", 2*fragmentSize))
		c.SetWriteDeadline(past)
		wantError(t, w.Close(), os.ErrDeadlineExceeded)
		wantFailed(t, s, StatusInternalError)
		for _, err := range []error{c.SendMessage(Text, nil), w.Close(), c.Close(StatusNormalClosure, "")} {
			if got := CloseStatus(err); got != StatusInternalError {
				t.Errorf("got error %v with status %v, want %v", err, got, StatusInternalError)
			}
		}
	})
	t.Run("lets the next message go out where nothing of it has left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t, WriteTimeout(0), ConnectionTimeout(0), PingInterval(0))
			w := openWriter(t, c, Binary)
			mustWrite(t, w, "gathered")
			c.SetWriteDeadline(time.Now().Add(time.Second))
			wantError(t, timed(t, "Close", time.Second, w.Close), os.ErrDeadlineExceeded)
			wantStillSends(t, c, p)
			p.conn.Close()
			c.Close(StatusNormalClosure, "")
		})
	})
	t.Run("lets nobody wait where something of it has left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t, WriteTimeout(0), ConnectionTimeout(0), PingInterval(0))
			start := time.Now()
			go p.read()
			w := openWriter(t, c, Binary)
			mustWrite(t, w, strings.Repeat("x", fragmentSize))
			c.SetWriteDeadline(time.Now().Add(time.Second))
			closed := make(chan error)
			go func() { closed <- w.Close() }()
			<-c.Context().Done()
			took(t, "the end", start, time.Second)
			synctest.Wait()
			for _, name := range sending {
				err := timed(t, name, 0, func() error { return everyMethod[name](c) })
				if got := CloseStatus(err); got != StatusInternalError {
					t.Errorf("%s: got error %v with status %v, want %v", name, err, got, StatusInternalError)
				}
			}
			p.expectClose(StatusInternalError)
			wantError(t, <-closed, os.ErrDeadlineExceeded)
			wantGone(t, c)
		})
	})
}

// What is wrong with a call is its caller's fault, and ErrInvalidUTF8 also the
// peer's: a close reason to be sent is told as the former.
func TestSendMessage_close_reason_that_is_not_UTF8_is_a_broken_rule(t *testing.T) {
	c, s := play(t, nil)
	err := c.SendMessage(Close, []byte(closeBody(StatusNormalClosure, "\xff")))
	wantError(t, err, ErrProtocol)
	wantMention(t, err.Error(), `"\xff"`, "RFC 6455 section 5.5.1")
	s.wantSent(t)
	if c.err() != nil {
		t.Errorf("the connection has ended: %v", c.err())
	}
}

func TestEnd_is_told_before_what_is_wrong_with_a_call(t *testing.T) {
	calls := map[string]func(c *Conn) error{
		"text that is not UTF-8":    func(c *Conn) error { return c.SendMessage(Text, []byte("\xff")) },
		"continuation":              func(c *Conn) error { return c.SendMessage(Continuation, nil) },
		"reserved opcode":           func(c *Conn) error { return c.SendMessage(0xb, nil) },
		"long ping":                 func(c *Conn) error { return c.SendMessage(Ping, make([]byte, 126)) },
		"close payload of one byte": func(c *Conn) error { return c.SendMessage(Close, []byte("\x03")) },
		"what is no JSON":           func(c *Conn) error { return c.SendJSON(func() {}) },
		"stream of pings":           func(c *Conn) error { _, err := c.MessageWriter(Ping); return err },
		"Close with 1006":           func(c *Conn) error { return c.Close(StatusAbnormalClosure, "") },
		"Close with a long reason":  func(c *Conn) error { return c.Close(4000, strings.Repeat("x", 124)) },
		"Close with no UTF-8":       func(c *Conn) error { return c.Close(4000, "\xff") },
		"JSON into what takes none": func(c *Conn) error { return c.ReceiveJSON(nil) },
	}
	ends := map[string]func(c *Conn){
		"the peer's close": func(c *Conn) { receiveAll(c) },
		"Close":            func(c *Conn) { c.Close(4000, "") },
	}
	for end, ends := range ends {
		for name, call := range calls {
			t.Run(name+" after "+end, func(t *testing.T) {
				c, _ := play(t, pieces(clientFrame(true, Close, closeBody(4001, ""))))
				ends(c)
				if got := call(c); got != c.err() || got == nil {
					t.Errorf("got error %v, want the sticky one: %v", got, c.err())
				}
			})
		}
		t.Run("stream of no UTF-8 after "+end, func(t *testing.T) {
			c, _ := play(t, pieces(clientFrame(true, Close, closeBody(4001, ""))))
			w := openWriter(t, c, Text)
			ends(c)
			if _, got := w.Write([]byte("\xff")); got != c.err() {
				t.Errorf("got error %v, want the sticky one: %v", got, c.err())
			}
		})
	}
	t.Run("after a close frame was sent", func(t *testing.T) {
		c, _ := play(t, nil)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		for _, name := range []string{"text that is not UTF-8", "continuation", "what is no JSON", "stream of pings"} {
			err := calls[name](c)
			wantError(t, err, net.ErrClosed)
			if got := CloseStatus(err); got != 4000 {
				t.Errorf("%s: got close status %v, want 4000", name, got)
			}
		}
	})
}

// The close handshake is done then, and no answer is missing.
func TestReadFrame_of_a_close_that_WriteFrame_answers(t *testing.T) {
	ends := []struct {
		name string
		end  func(c *Conn, p *peer) error
		want time.Duration
	}{
		{"and a peer that hangs up", func(c *Conn, p *peer) error {
			time.AfterFunc(20*time.Second, func() { p.conn.Close() })
			_, err := c.ReadFrame()
			return err
		}, 20 * time.Second},
		{"and a peer that stays", func(c *Conn, p *peer) error { _, err := c.ReadFrame(); return err }, time.Minute},
		{"and Close", func(c *Conn, p *peer) error { return c.Close(StatusNormalClosure, "") }, 0},
		{"and Close, late", func(c *Conn, p *peer) error { time.Sleep(20 * time.Second); return c.Close(StatusNormalClosure, "") }, 20 * time.Second},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pipe(t, PingInterval(0))
				go func() {
					p.send(Close, closeBody(4001, "bye"))
					p.expectClose(4001)
				}()
				f, err := c.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.WriteFrame(f); err != nil {
					t.Fatal(err)
				}
				err = timed(t, "the end", tt.want, func() error { return tt.end(c, p) })
				for _, err := range []error{err, c.err()} {
					if errors.Is(err, ErrCloseTimeout) {
						t.Errorf("got error %v, and the peer has closed", err)
					}
				}
				p.conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestCloseStatus_is_the_code_that_was_sent(t *testing.T) {
	ends := map[string]HandlerFunc{
		"Close with another code":     func(c *Conn) error { return c.Close(StatusNormalClosure, "") },
		"an end of fn":                noop,
		"a CloseError of fn":          func(*Conn) error { return &CloseError{Code: 4002} },
		"another error of fn":         func(*Conn) error { return errSecret },
		"a panic of fn":               func(*Conn) error { panic(http.ErrAbortHandler) },
		"the peer's answer, received": receiveAll,
	}
	for how, send := range closeSends {
		for name, fn := range ends {
			t.Run(how+" and then "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := pipe(t, OnError(func(*Conn, error) {}))
					w := witnessed(p, false)
					time.AfterFunc(time.Second, func() { w.send(clientFrame(true, Close, closeBody(4001, ""))) })
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { recover() }()
						c.serve(func(c *Conn) error {
							if err := send(c); err != nil {
								t.Error(err)
							}
							return fn(c)
						})
					}()
					<-done
					if got := CloseStatus(c.err()); got != 4000 {
						t.Errorf("got end %v with status %v, want 4000, which was sent", c.err(), got)
					}
					wantError(t, c.err(), net.ErrClosed)
					synctest.Wait()
					w.expect("0s close 4000", "1s end")
				})
			})
		}
	}
}

func TestReadFrame_behind_an_unfinished_MessageReader_says_what_is_wrong(t *testing.T) {
	c, _ := play(t, pieces(clientFrame(true, Text, "unread")))
	if _, _, err := c.MessageReader(); err != nil {
		t.Fatal(err)
	}
	_, err := c.ReadFrame()
	if err == nil {
		t.Fatal("ReadFrame took the frame of a MessageReader")
	}
	wantMention(t, err.Error(), "ReadFrame", "MessageReader")
	if strings.Contains(err.Error(), "deadline") {
		t.Errorf("got text %q, and there was no deadline", err)
	}
}

// The wire has four bits for an opcode.
func TestWriteFrame_close_is_what_the_peer_takes_for_one(t *testing.T) {
	body := closeBody(4000, "bye")
	masked := plain(Header{Fin: true, Opcode: Close, Masked: true, MaskKey: peerKey}, body)
	Mask(masked.Payload, peerKey, 0)
	for name, f := range map[string]Frame{
		"close":                       plain(Header{Fin: true, Opcode: Close}, body),
		"opcode 0x18":                 plain(Header{Fin: true, Opcode: 0x18}, body),
		"opcode 0xf8, reserved bits":  plain(Header{Fin: true, RSV1: true, Opcode: 0xf8}, body),
		"unfinished close":            plain(Header{Opcode: Close}, body),
		"close that is masked itself": masked,
	} {
		t.Run(name, func(t *testing.T) {
			c, s := play(t, nil)
			w := openWriter(t, c, Text)
			if err := c.WriteFrame(f); err != nil {
				t.Fatal(err)
			}
			wire := bytes.Join(s.writes, nil)
			if wire[0]&0x0f != byte(Close) {
				t.Fatalf("got %x, want a close frame", wire)
			}
			_, writeErr := w.Write(nil)
			for _, err := range []error{c.SendMessage(Text, nil), c.SendMessage(Close, nil), writeErr} {
				wantError(t, err, net.ErrClosed)
				if got := CloseStatus(err); got != 4000 {
					t.Errorf("got error %v with status %v, want 4000", err, got)
				}
			}
			c.Close(StatusNormalClosure, "")
			if got := bytes.Join(s.writes, nil); !bytes.Equal(got, wire) {
				t.Errorf("got %x on the wire, want nothing behind %x", got, wire)
			}
		})
	}
}

// RFC 6455 section 9.1: a quoted value must be a token once the quoted-pairs of
// RFC 2616 section 2.2 are taken for what they stand for.
func TestHandshake_quoted_extension_parameters(t *testing.T) {
	srv := serve(t, noop)
	for value, want := range map[string]int{
		`"b"`:       101,
		`"b\c"`:     101,
		`"\b\c"`:    101,
		`"\b" ; d`:  101,
		`"b\\c"`:    400, // a backslash is in no token
		`"\\"`:      400,
		`"b\\"`:     400,
		`"b\\\c"`:   400,
		`"b\"c"`:    400, // nor is a quote
		`"b\"`:      400, // nor does one that is quoted end the string
		`"\"`:       400,
		`"b\ c"`:    400,
		`"b\;c"`:    400,
		`b\c`:       400, // outside of quotes there is none
		`"b\c" "d"`: 400,
		`"b"\c`:     400,
	} {
		t.Run(value, func(t *testing.T) {
			p := dialRaw(t, srv)
			p.write([]byte(rawHandshake("Sec-WebSocket-Extensions: foo; a=" + value)))
			resp, _ := readResponse(t, p.br)
			if resp.StatusCode != want {
				t.Errorf("got status %d, want %d", resp.StatusCode, want)
			}
			p.conn.Close()
		})
	}
}
