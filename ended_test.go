package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// The end of a connection takes its time, for which the receiving side is held.
func TestReceivers_do_not_wait_for_the_end_to_be_over(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		end  func(c *Conn, w *recorder)
	}{
		{"Close", nil, func(c *Conn, w *recorder) { c.Close(4000, "") }},
		{"Close without CloseTimeout", []Option{CloseTimeout(0)}, func(c *Conn, w *recorder) { c.Close(4000, "") }},
		{"failing", nil, func(c *Conn, w *recorder) { w.Send([]byte{0x81, 0x00}); receiveAll(c) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opts...)
				w := record(p, false)
				go tt.end(c, w)
				<-c.Context().Done()
				synctest.Wait()
				if !isReceiving(c) {
					t.Fatal("nobody holds the receiving side: nothing is tested")
				}
				for _, name := range receivingMethods {
					if err := timedCall(t, name, 0, func() error { return allMethods[name](c) }); err != endOf(c) {
						t.Errorf("%s: got error %v, want the sticky one: %v", name, err, endOf(c))
					}
				}
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	t.Run("also those that wait for each other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t)
			record(p, false)
			var wg sync.WaitGroup
			for _, name := range receivingMethods {
				wg.Go(func() {
					wantError(t, timedCall(t, name, time.Second, func() error { return allMethods[name](c) }), net.ErrClosed)
				})
			}
			time.Sleep(time.Second)
			go c.Close(4000, "")
			wg.Wait()
			c.Close(4000, "")
		})
	})
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
			wantError(t, sendPartly(t, c, p), os.ErrDeadlineExceeded)
		}},
		{"a stream that SetWriteDeadline cuts", func(t *testing.T, c *Conn, p *peer) {
			w := openWriter(t, c, Binary)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			go p.Conn.Read(make([]byte, 1))
			_, err := w.Write(make([]byte, 2*fragmentSize))
			wantError(t, err, os.ErrDeadlineExceeded)
			wantError(t, w.Close(), os.ErrDeadlineExceeded)
		}},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), WriteTimeout(7*time.Second))
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
				for name, call := range allMethods {
					err := call(c)
					if isTimeout(err) != slices.Contains(sendingMethods, name) {
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
				c, _ := newScriptConn(t, segments(clientFrame(true, Close, closeBody(4001, ""))))
				ends(c)
				if got := call(c); got != endOf(c) || got == nil {
					t.Errorf("got error %v, want the sticky one: %v", got, endOf(c))
				}
			})
		}
		t.Run("stream of no UTF-8 after "+end, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(clientFrame(true, Close, closeBody(4001, ""))))
			w := openWriter(t, c, Text)
			ends(c)
			if _, got := w.Write([]byte("\xff")); got != endOf(c) {
				t.Errorf("got error %v, want the sticky one: %v", got, endOf(c))
			}
		})
	}
	t.Run("after a close frame was sent", func(t *testing.T) {
		c, _ := newScriptConn(t, nil)
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

// connEnds is every way in which a connection can end, on TCP.
var connEnds = []struct {
	name string
	end  func(c *Conn, p *peer)
	want error
	code StatusCode
}{
	{"the peer's close", func(c *Conn, p *peer) { p.send(Close, closeBody(1001, "")); hangUp(p); receiveAll(c) }, io.EOF, 1001},
	{"failing", func(c *Conn, p *peer) { p.Write([]byte{0x81, 0x00}); hangUp(p); receiveAll(c) }, ErrProtocol, 1002},
	{"Close", func(c *Conn, p *peer) { p.send(Close, ""); hangUp(p); c.Close(4000, "") }, net.ErrClosed, 4000},
	{"the answer to a close frame", func(c *Conn, p *peer) {
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		p.send(Close, closeBody(4001, ""))
		hangUp(p)
		receiveAll(c)
	}, net.ErrClosed, 4000},
	{"EOF without a close frame", func(c *Conn, p *peer) { hangUp(p); receiveAll(c) }, io.ErrUnexpectedEOF, 1006},
	{"EOF within a frame", func(c *Conn, p *peer) { p.Write([]byte{0x81, 0x85, 0}); hangUp(p); receiveAll(c) }, io.ErrUnexpectedEOF, 1006},
	{"reset", func(c *Conn, p *peer) { resetPeer(p); receiveAll(c) }, syscall.ECONNRESET, 1006},
	{"reset, while sending", func(c *Conn, p *peer) {
		resetPeer(p)
		for c.SendMessage(Binary, make([]byte, 1000)) == nil {
		}
	}, nil, 1006},
}

func TestContext_is_done_exactly_at_the_end(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			ctx := c.Context()
			if ctx.Err() != nil || context.Cause(ctx) != nil {
				t.Fatalf("done before the end: %v", context.Cause(ctx))
			}
			tt.end(c, p)
			if ctx.Err() != context.Canceled {
				t.Fatalf("got context error %v after the end, want %v", ctx.Err(), context.Canceled)
			}
			if tt.want != nil {
				wantError(t, endOf(c), tt.want)
			}
			if got := CloseStatus(endOf(c)); got != tt.code {
				t.Errorf("got close status %v, want %v", got, tt.code)
			}
			if tt.code == StatusAbnormalClosure && errors.Is(endOf(c), io.EOF) {
				t.Errorf("%v is io.EOF, which is a normal end", endOf(c))
			}
			wantSticky(t, c, endOf(c))
		})
	}
}

func TestContext_made_after_the_end(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			tt.end(c, p)
			if got := context.Cause(c.Context()); got != endOf(c) || got == nil {
				t.Errorf("got cause %v, want %v", got, endOf(c))
			}
		})
	}
}

// Every method may be called from any goroutine, whatever the others do and
// however the connection ends.
func TestConn_is_safe_for_everybody_at_once(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(time.Millisecond))
			var wg sync.WaitGroup
			wg.Go(func() { io.Copy(io.Discard, p.Conn) })
			for name, call := range allMethods {
				if name == "Close" || name == "SendMessage/Close" {
					continue
				}
				wg.Go(func() {
					for endOf(c) == nil {
						call(c)
					}
				})
			}
			wg.Go(func() {
				for endOf(c) == nil {
					if w, err := c.MessageWriter(Binary); err == nil {
						w.Write(make([]byte, 5000))
						w.Close()
					}
				}
			})
			for range 20 {
				p.Write(slices.Concat(clientFrame(true, Ping, "!"), clientFrame(false, Text, "1"), clientFrame(true, Continuation, "2")))
			}
			tt.end(c, p)
			c.Close(StatusNormalClosure, "")
			p.Conn.Close()
			wg.Wait()
			wantSticky(t, c, endOf(c))
		})
	}
}

// TestConn_everything_at_once closes a connection in the midst of everything else.
func TestConn_everything_at_once(t *testing.T) {
	ends := map[string]func(c *Conn, p *peer){
		"closed here": func(c *Conn, p *peer) { c.Close(StatusGoingAway, "") },
		"closed by the peer": func(c *Conn, p *peer) {
			p.Conn.Write(clientFrame(true, Close, closeBody(StatusNormalClosure, "")))
		},
		"a rule broken":  func(c *Conn, p *peer) { p.Conn.Write(wstest.Unhex("81 00")) },
		"network broken": func(c *Conn, p *peer) { p.Conn.Close() },
	}
	loops := []func(c *Conn) error{
		func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
		func(c *Conn) error {
			_, r, err := c.MessageReader()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			// The reader of a message that another goroutine dropped.
			if errors.Is(err, errMessageDropped) {
				err = nil
			}
			return err
		},
		func(c *Conn) error { return c.SendMessage(Text, []byte("text")) },
		func(c *Conn) error { return c.SendMessage(Ping, nil) },
		func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err == nil {
				w.Write(make([]byte, 5000))
				err = w.Close()
			}
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ready := make(chan *Conn)
			fn, results := captureError(func(c *Conn) error {
				ready <- c
				var wg sync.WaitGroup
				for _, loop := range loops {
					wg.Go(func() {
						for loop(c) == nil {
						}
					})
				}
				wg.Wait()
				return c.SendMessage(Text, nil)
			})
			p := dialServer(t, startServer(t, fn, CloseTimeout(100*time.Millisecond)))
			c := await(t, ready)
			p.send(Text, "begin")
			p.read()
			go func() {
				io.Copy(io.Discard, p.Conn)
				p.Conn.Close()
			}()
			go func() {
				for {
					if _, err := p.Conn.Write(clientFrame(true, Binary, strings.Repeat("x", 3000))); err != nil {
						return
					}
				}
			}()
			end(c, p)
			if err := await(t, results); err == nil {
				t.Error("sending goes on after the end")
			}
			p.Conn.Close()
		})
	}
}
