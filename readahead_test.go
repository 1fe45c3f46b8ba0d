package websocket

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestHandleConcurrent_delivers_in_order_while_fn_is_busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		const messages = 100
		for i := range messages {
			w.Send(clientFrame(true, Text, fmt.Sprint(i)))
		}
		w.Send(clientFrame(true, Close, closeBody(4001, "")))
		done := runConcurrent(c, func(c *Conn) error {
			for i := range messages {
				time.Sleep(time.Second)
				if _, got, err := c.ReceiveMessage(); string(got) != fmt.Sprint(i) || err != nil {
					t.Errorf("got message %q, error %v, want %d", got, err, i)
				}
			}
			return receiveAll(c)
		})
		if got := CloseStatus(<-done); got != 4001 {
			t.Errorf("got close status %v, want the peer's", got)
		}
	})
}

func TestHandleConcurrent_answers_while_fn_is_busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0))
		w := record(p, false)
		done := runConcurrent(c, func(c *Conn) error {
			time.Sleep(10 * time.Second)
			return c.Context().Err()
		})
		time.Sleep(time.Second)
		w.Send(clientFrame(true, Text, "unread"))
		w.Send(clientFrame(true, Ping, "1"))
		time.Sleep(time.Second)
		w.Send(clientFrame(true, Ping, "2"))
		w.Send(clientFrame(true, Close, closeBody(4001, "")))
		<-c.Context().Done()
		wantDuration(t, "the end of the context", w.Start, 3*time.Second) // fn has a second to receive
		<-done
		w.expect("1s pong 1", "2s pong 2", "3s close 4001", "3s end")
	})
}

// The end of the connection takes effect when fn has answered the messages before it.
func TestHandleConcurrent_answers_what_came_before_the_end(t *testing.T) {
	ends := map[string]struct {
		wire []byte
		want string
	}{
		"a close frame": {clientFrame(true, Close, closeBody(4001, "")), "close 4001"},
		"a broken rule": {clientFrame(true, 3, ""), "close 1002"},
		"invalid text":  {clientFrame(true, Text, "\xff"), "close 1007"},
		"a large frame": {clientHeader(true, Binary, 1<<40), "close 1009"},
	}
	for name, tt := range ends {
		for _, busy := range []time.Duration{0, 200 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/%v for a message", name, busy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0))
					w := record(p, false)
					done := runConcurrent(c, func(c *Conn) error {
						for {
							op, data, err := c.ReceiveMessage()
							if err != nil {
								return err
							}
							time.Sleep(busy)
							if err := c.SendMessage(op, data); err != nil {
								t.Error(err)
							}
						}
					})
					w.Send(slices.Concat(clientFrame(true, Text, "1"), clientFrame(true, Text, "2"), clientFrame(true, Text, "3"), tt.wire))
					<-done
					synctest.Wait()
					at := func(n time.Duration, event string) string { return fmt.Sprintf("%v %s", n*busy, event) }
					w.Expect(t, append([]string{at(1, "text 1"), at(2, "text 2"), at(3, "text 3"), at(3, tt.want)}, w.Events()[4:]...)...)
				})
			})
		}
	}
}

// The end does not wait for ever for an fn that is busy, or has ended.
func TestHandleConcurrent_ends_without_the_handler(t *testing.T) {
	ends := map[string]struct {
		wire []byte
		busy time.Duration // the end for an fn that is busy
	}{
		"a close frame": {clientFrame(true, Close, closeBody(4001, "")), time.Second},
		"a broken rule": {clientFrame(true, 3, ""), 5 * time.Second}, // CloseTimeout
	}
	handlers := map[string]struct {
		fn   HandlerFunc
		busy bool
	}{
		"is busy":           {func(c *Conn) error { c.ReceiveMessage(); return waitForEnd(c) }, true},
		"does not receive":  {waitForEnd, true},
		"returns":           {func(c *Conn) error { c.ReceiveMessage(); return nil }, false},
		"calls Close":       {func(c *Conn) error { c.ReceiveMessage(); return c.Close(1000, "") }, false},
		"sets a deadline":   {func(c *Conn) error { c.SetReadDeadline(time.Now().Add(time.Minute)); return receiveAll(c) }, false},
		"receives from two": {func(c *Conn) error { go receiveAll(c); return receiveAll(c) }, false},
	}
	for name, tt := range ends {
		for how, h := range handlers {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0))
					w := record(p, false)
					done := runConcurrent(c, h.fn)
					w.Send(slices.Concat(clientFrame(true, Text, "1"), clientFrame(true, Text, "2"), tt.wire))
					want := time.Duration(0)
					if h.busy {
						want = tt.busy
					}
					timedCall(t, "the end", want, func() error { <-c.Context().Done(); return nil })
					<-done
				})
			})
		}
	}
}

// countWritten makes the peer write messages, and counts those that the server has read.
// Each message is larger than any read buffer, so that a write returns only when the server
// receives the message.
func countWritten(p *peer, messages int) *atomic.Int32 {
	var n atomic.Int32
	p.Conn.SetDeadline(time.Time{})
	go func() {
		for i := range messages {
			message := fmt.Sprintf("%-*d", 2*largeReadBufferSize, i)
			if _, err := p.Conn.Write(clientFrame(true, Text, message)); err != nil {
				return
			}
			n.Add(1)
		}
	}()
	return &n
}

func TestHandleConcurrent_reads_16_messages_ahead(t *testing.T) {
	computes(t)
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
		n := countWritten(p, 100)
		take := make(chan struct{})
		done := runConcurrent(c, func(c *Conn) error {
			for i := range 100 {
				<-take
				_, got, err := c.ReceiveMessage()
				if err != nil {
					return err
				}
				if strings.TrimSpace(string(got)) != fmt.Sprint(i) {
					t.Errorf("got message %.10q, want %d", got, i)
				}
			}
			return nil
		})
		for taken := range int32(10) {
			time.Sleep(5 * time.Minute) // with a poll each second
			synctest.Wait()
			if got := n.Load(); got != 16+taken {
				t.Fatalf("with %d messages taken, %d were read, want %d", taken, got, 16+taken)
			}
			take <- struct{}{}
		}
		p.Conn.Close()
		close(take)
		wantError(t, <-done, io.ErrUnexpectedEOF)
	})
}

// The keepalive polls while the reader waits for fn. The messages that it reads are not
// lost.
func TestHandleConcurrent_keeps_messages_for_a_busy_fn(t *testing.T) {
	computes(t)
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, ConnectionTimeout(20*time.Second))
		w := record(p, true)
		const messages = 100
		for i := range messages {
			w.Send(clientFrame(true, Text, fmt.Sprint(i)))
		}
		done := runConcurrent(c, func(c *Conn) error {
			time.Sleep(15 * time.Minute)
			for i := range messages {
				if _, got, err := c.ReceiveMessage(); string(got) != fmt.Sprint(i) || err != nil {
					t.Errorf("got message %q, error %v, want %d", got, err, i)
				}
			}
			w.Send(clientFrame(true, Close, ""))
			return receiveAll(c)
		})
		wantError(t, <-done, io.EOF)
	})
}

// concurrentEnds are the ways in which a connection ends after messages that fn has not
// received yet.
var concurrentEnds = []struct {
	name string
	end  []byte // nil closes the peer's socket
	want error
	code StatusCode
}{
	{"the peer's close", clientFrame(true, Close, closeBody(1001, "")), io.EOF, 1001},
	{"a broken rule", []byte{0x81, 0x00}, ErrProtocol, 1002},
	{"EOF", nil, io.ErrUnexpectedEOF, 1006},
}

func TestHandleConcurrent_delivers_the_messages_before_the_end(t *testing.T) {
	for _, tt := range concurrentEnds {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, true)
				for i := range 16 {
					w.Send(clientFrame(true, Text, fmt.Sprint(i)))
				}
				if tt.end != nil {
					w.Send(tt.end)
				} else {
					time.AfterFunc(time.Second, func() { w.hangUp() })
				}
				done := runConcurrent(c, func(c *Conn) error {
					time.Sleep(5 * time.Second)
					for i := range 16 {
						if _, got, err := c.ReceiveMessage(); string(got) != fmt.Sprint(i) || err != nil {
							t.Errorf("got message %q, error %v, want %d", got, err, i)
						}
					}
					_, _, err := c.ReceiveMessage()
					wantSticky(t, c, err)
					return err
				})
				err := <-done
				wantError(t, err, tt.want)
				if got := CloseStatus(err); got != tt.code {
					t.Errorf("got close status %v, want %v", got, tt.code)
				}
			})
		})
	}
}

// A tick, a poll or a failed write may find the end while the handler waits, before the goroutine that
// reads ahead gets a processor. The messages that are in the read buffer then are not lost.
func TestHandleConcurrent_delivers_what_is_in_the_buffer_at_the_end(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0))
		unlock := lockInput(c)
		done := runConcurrent(c, func(c *Conn) error {
			_, data, err := c.ReceiveMessage()
			if string(data) != "hello" {
				t.Errorf("got %q and error %v, want hello", data, err)
			}
			return receiveAll(c)
		})
		synctest.Wait() // the handler waits for the goroutine, and that for the lock
		c.in.buf.load(clientFrame(true, Text, "hello"))
		c.in.endBehind(errStreamReset)
		c.beginFailing(errStreamReset)
		synctest.Wait() // the handler has seen the end
		unlock()
		time.AfterFunc(time.Second, func() { c.expire(nil) }) // the work of beginFailing
		wantError(t, <-done, errStreamReset)
		p.Conn.Close()
	})
}

func TestHandleConcurrent_delivers_no_message_after_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		n := countWritten(p, 100)
		done := runConcurrent(c, func(c *Conn) error {
			time.Sleep(time.Second)
			go c.Close(4000, "")
			<-c.Context().Done()
			_, _, err := c.ReceiveMessage()
			wantError(t, err, net.ErrClosed)
			wantSticky(t, c, err)
			return err
		})
		time.Sleep(2 * time.Second)
		if got := n.Load(); got < 16 {
			t.Errorf("%d messages were read ahead, want 16", got)
		}
		p.Buffer.Discard(4)
		p.Conn.Write(clientFrame(true, Close, ""))
		<-done
	})
}

func TestHandleConcurrent_wakes_fn(t *testing.T) {
	for _, name := range []string{"ReceiveMessage", "AppendMessage", "MessageReader", "Messages", "ReceiveJSON"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, true)
				done := runConcurrent(c, allMethods[name])
				time.AfterFunc(3*time.Second, func() { c.Close(4000, "") })
				time.AfterFunc(5*time.Second, func() { w.Send(clientFrame(true, Close, "")) })
				wantError(t, <-done, net.ErrClosed)
				wantDuration(t, "closing", w.Start, 5*time.Second)
			})
		})
	}
}

func TestHandleConcurrent_delivers_the_messages_before_the_answer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		done := runConcurrent(c, func(c *Conn) error {
			c.SendMessage(Close, []byte(closeBody(4000, "")))
			time.Sleep(2 * time.Second)
			if _, got, err := c.ReceiveMessage(); string(got) != "on my way" || err != nil {
				t.Errorf("got message %q, error %v, want the message before the answer", got, err)
			}
			return receiveAll(c)
		})
		time.Sleep(time.Second)
		w.Send(clientFrame(true, Text, "on my way"))
		w.Send(clientFrame(true, Close, closeBody(4001, "your")))
		wantAnswer(t, <-done, 4000, CloseError{4001, "your"})
	})
}

func TestHandleConcurrent_receives_by_every_method(t *testing.T) {
	for name, read := range receiveOnce {
		if slices.Contains(frameMethods, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := dialServer(t, wstest.Serve(t, HandleConcurrent(func(c *Conn) error {
				for i := range 20 {
					if got, err := read(c); got != fmt.Sprint(i) || err != nil {
						t.Errorf("got %q, error %v, want %d", got, err, i)
					}
				}
				return nil
			})))
			for i := range 20 {
				p.send(Text, fmt.Sprint(i))
			}
			p.expectClose(StatusNormalClosure)
			p.send(Close, "")
			p.ExpectEOF()
		})
	}
}

func TestHandleConcurrent_AppendMessage_returns_dst_on_an_error(t *testing.T) {
	c, p := newTCPConn(t)
	hangUp(p)
	beginReadAhead(c)
	_, got, err := c.AppendMessage([]byte("mine"))
	if string(got) != "mine" || err == nil {
		t.Errorf("got %q, error %v, want dst as it was and an error", got, err)
	}
}

func TestHandleConcurrent_refuses_ReadFrame_and_ReceiveFragments(t *testing.T) {
	c, p := newTCPConn(t)
	done := runConcurrent(c, func(c *Conn) error {
		for _, name := range frameMethods {
			err := allMethods[name](c)
			if err == nil || !strings.Contains(err.Error(), name+" cannot be used with HandleConcurrent") {
				t.Errorf("got error %v, want one that names %s and HandleConcurrent", err, name)
			}
		}
		return echoAll(c)
	})
	p.send(Text, "still alive")
	p.expect(Text, "still alive")
	p.finish(done)
}

func TestHandleConcurrent_SetReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		done := runConcurrent(c, func(c *Conn) error {
			for _, wait := range []time.Duration{3, 0, 20} {
				start := time.Now()
				c.SetReadDeadline(start.Add(wait * time.Second))
				_, _, err := c.ReceiveMessage()
				wantError(t, err, os.ErrDeadlineExceeded)
				wantDuration(t, "the deadline", start, wait*time.Second)
			}
			c.SetReadDeadline(time.Time{})
			w.Send(clientFrame(true, Text, "alive"))
			if _, got, err := c.ReceiveMessage(); string(got) != "alive" || err != nil {
				t.Errorf("got message %q, error %v", got, err)
			}
			w.Send(clientFrame(true, Close, ""))
			return receiveAll(c)
		})
		wantError(t, <-done, io.EOF)
	})
}

// The goroutine of the reader ends with the connection, whatever it does when fn ends.
func TestHandleConcurrent_ends_its_reader(t *testing.T) {
	computes(t)
	readers := map[string]func(p *peer){
		"the reader waits for the peer": func(p *peer) { record(p, false) },
		"the reader waits for fn":       func(p *peer) { countWritten(p, 100) },
		"the reader is inside a message": func(p *peer) {
			record(p, false).Send(clientFrame(false, Text, "half"))
		},
	}
	ends := map[string]HandlerFunc{
		"returns": noop,
		"fails":   func(*Conn) error { return errSecret },
	}
	for reader, peer := range readers {
		for end, fn := range ends {
			t.Run(reader+"/fn "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					peer(p)
					done := runConcurrent(c, func(c *Conn) error { time.Sleep(time.Second); return fn(c) }, OnError(func(*Conn, error) {}))
					<-done
					select {
					case <-c.inbox.readsAhead().finished.Done():
					default:
						t.Error("the reader still runs")
					}
				})
			})
		}
	}
}

func TestHandleConcurrent_returns_the_end_at_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		done := runConcurrent(c, func(c *Conn) error {
			start := time.Now()
			_, _, err := c.ReceiveMessage()
			// Meanwhile the reader drains the socket for a second.
			wantDuration(t, "ReceiveMessage", start, 0)
			return err
		})
		w.Send([]byte{0x81, 0x00}) // not masked
		wantError(t, <-done, ErrProtocol)
		w.hangUp()
	})
}

// An impatientConn sets a read deadline before each Read, as some wrappers do.
type impatientConn struct{ net.Conn }

func (c impatientConn) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	return c.Conn.Read(p)
}

// A handler that continues after os.ErrDeadlineExceeded would spin, so the error of an ended
// connection must not be that.
func TestHandleConcurrent_ends_with_the_deadline_of_the_socket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newWrappedConn(t, func(conn net.Conn) net.Conn { return impatientConn{conn} }, PingInterval(0))
		done := runConcurrent(c, func(c *Conn) error {
			for calls := 1; ; calls++ {
				_, _, err := c.ReceiveMessage()
				if isTimeout(err) && calls < 10 {
					continue
				}
				if calls > 1 {
					t.Errorf("continued %d times after os.ErrDeadlineExceeded, want an error that ends the loop", calls-1)
				}
				if sendErr := c.SendMessage(Text, nil); sendErr == nil || isTimeout(sendErr) {
					t.Errorf("SendMessage returned %v, want an error that is not os.ErrDeadlineExceeded", sendErr)
				}
				return err
			}
		})
		err := <-done
		if err == nil || err.Error() != "websocket: receiving: i/o timeout" || CloseStatus(err) != StatusAbnormalClosure {
			t.Errorf("got the error %v with the code %v, want an i/o timeout with 1006", err, CloseStatus(err))
		}
		wantError(t, err, endOf(c))
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			t.Errorf("got %#v, want a net.Error of a timeout", err)
		}
		p.Conn.Close()
	})
}
