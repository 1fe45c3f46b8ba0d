package websocket

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Ending a connection takes time, during which a goroutine holds the receiving side.
func TestReceivers_return_before_the_socket_is_closed(t *testing.T) {
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
					t.Fatal("no goroutine holds the receiving side, so the test tests nothing")
				}
				for _, name := range receivingMethods {
					if err := timedCall(t, name, 0, func() error { return allMethods[name](c) }); err != endOf(c) {
						t.Errorf("%s: got error %v, want the sticky error: %v", name, err, endOf(c))
					}
				}
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	t.Run("also if several goroutines receive", func(t *testing.T) {
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

// A caller that gets os.ErrDeadlineExceeded for an ended connection would set another
// deadline and call again for ever.
func TestReceivers_return_no_deadline_error_for_an_ended_connection(t *testing.T) {
	ends := []struct {
		name string
		end  func(t *testing.T, c *Conn, p *peer)
	}{
		{"a message that WriteTimeout cuts off", func(t *testing.T, c *Conn, p *peer) {
			wantError(t, c.SendMessage(Text, []byte("never read")), os.ErrDeadlineExceeded)
		}},
		{"a pong that WriteTimeout cuts off", func(t *testing.T, c *Conn, p *peer) {
			p.send(Ping, "")
			<-c.Context().Done()
		}},
		{"a message that SetWriteDeadline cuts off", func(t *testing.T, c *Conn, p *peer) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			wantError(t, sendPartly(t, c, p), os.ErrDeadlineExceeded)
		}},
		{"a stream that SetWriteDeadline cuts off", func(t *testing.T, c *Conn, p *peer) {
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
					t.Errorf("the receiver: got error %v, which is a deadline", err)
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

func TestEnded_connection_returns_its_error_before_that_of_an_argument(t *testing.T) {
	calls := map[string]func(c *Conn) error{
		"text that is not UTF-8":    func(c *Conn) error { return c.SendMessage(Text, []byte("\xff")) },
		"continuation":              func(c *Conn) error { return c.SendMessage(Continuation, nil) },
		"reserved opcode":           func(c *Conn) error { return c.SendMessage(0xb, nil) },
		"long ping":                 func(c *Conn) error { return c.SendMessage(Ping, make([]byte, 126)) },
		"close payload of one byte": func(c *Conn) error { return c.SendMessage(Close, []byte("\x03")) },
		"value that is not JSON":    func(c *Conn) error { return c.SendJSON(func() {}) },
		"stream of pings":           func(c *Conn) error { _, err := c.MessageWriter(Ping); return err },
		"Close with 1006":           func(c *Conn) error { return c.Close(StatusAbnormalClosure, "") },
		"Close with a long reason":  func(c *Conn) error { return c.Close(4000, strings.Repeat("x", 124)) },
		"Close with invalid UTF-8":  func(c *Conn) error { return c.Close(4000, "\xff") },
		"JSON into a nil pointer":   func(c *Conn) error { return c.ReceiveJSON(nil) },
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
					t.Errorf("got error %v, want the sticky error: %v", got, endOf(c))
				}
			})
		}
		t.Run("stream of invalid UTF-8 after "+end, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(clientFrame(true, Close, closeBody(4001, ""))))
			w := openWriter(t, c, Text)
			ends(c)
			if _, got := w.Write([]byte("\xff")); got != endOf(c) {
				t.Errorf("got error %v, want the sticky error: %v", got, endOf(c))
			}
		})
	}
	t.Run("after a close frame was sent", func(t *testing.T) {
		c, _ := newScriptConn(t, nil)
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		for _, name := range []string{"text that is not UTF-8", "continuation", "value that is not JSON", "stream of pings"} {
			err := calls[name](c)
			wantError(t, err, net.ErrClosed)
			if got := CloseStatus(err); got != 4000 {
				t.Errorf("%s: got close status %v, want 4000", name, got)
			}
		}
	})
}

// connEnds are the ways in which a connection on TCP can end.
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
	{"reset", func(c *Conn, p *peer) { resetPeer(p); receiveAll(c) }, errReset, 1006},
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

func TestContext_created_after_the_end_has_its_cause(t *testing.T) {
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

// concurrentCalls are the calls of goroutines that run at the same time. Methods
// for messages must not return an error before the connection has ended.
var concurrentCalls = map[string]map[string]func(c *Conn) error{
	"all methods": withoutClose(allMethods),
	"methods for messages": {
		"ReceiveMessage": allMethods["ReceiveMessage"],
		"MessageReader":  readStream,
		"Text":           func(c *Conn) error { return c.SendMessage(Text, []byte("text")) },
		"Ping":           allMethods["SendMessage/Ping"],
		"MessageWriter":  writeStream,
	},
}

func withoutClose(methods map[string]func(c *Conn) error) map[string]func(c *Conn) error {
	calls := maps.Clone(methods)
	delete(calls, "Close")
	delete(calls, "SendMessage/Close")
	calls["MessageWriter, to the end"] = writeStream
	return calls
}

func readStream(c *Conn) error {
	_, r, err := c.MessageReader()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if errors.Is(err, errMessageDropped) {
		err = nil // another goroutine receives the next message
	}
	return err
}

func writeStream(c *Conn) error {
	w, err := c.MessageWriter(Binary)
	if err != nil {
		return err
	}
	_, err = w.Write(make([]byte, 5000))
	return errors.Join(err, w.Close())
}

// Every method may be called from any goroutine, whatever the other goroutines do and
// however the connection ends.
func TestConn_methods_are_safe_for_concurrent_use(t *testing.T) {
	computes(t)
	for what, calls := range concurrentCalls {
		for _, tt := range connEnds {
			t.Run(what+"/"+tt.name, func(t *testing.T) {
				c, p := newTCPConn(t, PingInterval(time.Millisecond), CloseTimeout(wstest.Patience))
				var wg sync.WaitGroup
				wg.Go(func() { io.Copy(io.Discard, p.Conn) })
				for name, call := range calls {
					wg.Go(func() {
						for endOf(c) == nil {
							if err := call(c); err != nil && what == "methods for messages" {
								select {
								case <-c.Context().Done():
								case <-time.After(wstest.Patience):
									t.Errorf("%s returned %v on an open connection", name, err)
								}
							}
						}
					})
				}
				for range 20 {
					p.Write(slices.Concat(clientFrame(true, Ping, "!"), clientFrame(false, Text, "1"), clientFrame(true, Continuation, "2")))
				}
				if what == "methods for messages" { // because one of them reads the flood
					wg.Go(func() { p.Flood(clientFrame(true, Binary, strings.Repeat("x", 3000))) })
				}
				tt.end(c, p)
				c.Close(StatusNormalClosure, "")
				p.Conn.Close()
				wg.Wait()
				dropUnread(c) // which not every method can receive, because of those that ran before
				wantSticky(t, c, endOf(c))
			})
		}
	}
}
