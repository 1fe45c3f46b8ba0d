package websocket

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// If the handler does not receive, a poll finds the peer's close frame or error within a second.
func TestKeepalive_notices_the_end_without_a_reader(t *testing.T) {
	ends := []struct {
		name string
		end  func(w *recorder)
		at   time.Duration
		want StatusCode
		wire []string
	}{
		{"the peer's close", func(w *recorder) { w.Send(clientFrame(true, Close, closeBody(4001, ""))) }, 16 * time.Second, 4001, []string{"15s ping", "16s close 4001", "16s end"}},
		{"a broken rule", func(w *recorder) { w.Send([]byte{0x81, 0x00}) }, 16 * time.Second, 1002, []string{"15s ping", "16s close 1002", "17s end"}},
		{"EOF", func(w *recorder) { w.hangUp() }, 16 * time.Second, 1006, []string{"15s ping", "15.9s end"}},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, true)
				done := runHandler(c, func(c *Conn) error {
					c.ReceiveMessage() // from now on, the library knows that the handler receives messages
					return waitForEnd(c)
				})
				w.Send(clientFrame(true, Binary, ""))
				time.Sleep(15900 * time.Millisecond)
				tt.end(w)
				<-c.Context().Done()
				wantDuration(t, "the end", w.Start, tt.at)
				if got := CloseStatus(<-done); got != tt.want {
					t.Errorf("got close status %v, want %v", got, tt.want)
				}
				synctest.Wait()
				w.expect(tt.wire...)
			})
		})
	}
}

// A receiving call cancels the poll that the end of the one before has asked for. After the next
// message, the handler may be busy, and a poll has to answer.
func TestKeepalive_polls_after_a_cancelled_poll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		done := runHandler(c, func(c *Conn) error {
			for range 3 {
				c.ReceiveMessage()
			}
			return waitForEnd(c)
		})
		for range 3 {
			w.Send(clientFrame(true, Binary, ""))
			time.Sleep(100 * time.Millisecond)
		}
		w.Send(append(clientFrame(true, Ping, "busy"), clientFrame(true, Close, closeBody(4001, ""))...))
		<-c.Context().Done()
		wantDuration(t, "the end", w.Start, 1100*time.Millisecond)
		if got := CloseStatus(<-done); got != 4001 {
			t.Errorf("got close status %v, want 4001", got)
		}
		synctest.Wait()
		w.expect("600ms pong busy", "1.1s close 4001", "1.1s end")
	})
}

// A handler that receives from the buffer does not postpone the poll that is due.
func TestKeepalive_answers_a_busy_handlers_pings_within_a_second(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
		w := record(p, true)
		done := runHandler(c, func(c *Conn) error {
			for {
				if _, _, err := c.ReceiveMessage(); err != nil {
					return err
				}
				time.Sleep(2990 * time.Millisecond)
			}
		})
		w.Send(append(clientFrame(true, Binary, "first"), clientFrame(true, Binary, "second")...))
		time.Sleep(2020 * time.Millisecond) // a poll has just been
		w.Send(clientFrame(true, Ping, "sent at 2.02s"))
		time.Sleep(3 * time.Second)
		w.expect("3s pong sent at 2.02s")
		c.CloseNow()
		<-done
	})
}

// What polls note is about the time since a method has received.
func TestKeepalive_forgets_earlier_polls_after_a_message(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{connectionTimeout: 10 * s}, false)
		r.busy = true
		r.timer.resumePolls()
		time.Sleep(5500 * time.Millisecond)
		r.timer.noteBehind(5000, false, true)
		r.timer.noteRead()
		r.timer.noteReceived() // the handler receives a message,
		r.timer.noteReading()  // and waits for the next one
		time.Sleep(4 * s)
		r.timer.noteBehind(3000, false, true)
		if r.timer.quietFor(s) {
			t.Error("3000 unread bytes are no sign of life, because there were 5000 before the last message")
		}
		time.Sleep(9999 * time.Millisecond)
		r.timer.stop()
		r.timer.waitTicks()
		time.Sleep(s)
		if do := r.timer.tick(); !do.poll || do.idlePolls != 0 {
			t.Errorf("got %+v, want a poll that knows of no poll since the last message", do)
		}
	})
}

// A tick that finds a method receiving leaves the next poll to the end of that call. If the lock was
// not held by a receiving call, there is no such end.
func TestKeepalive_polls_after_a_lock_that_no_receiving_call_held(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0))
		w := record(p, true)
		c.in.lock.Lock() // as Ping
		var once sync.Once
		c.socket.transport = hookedBehind{c.socket.transport, func() {
			once.Do(func() { // between the tick's look at the lock and its end
				c.in.lock.Unlock()
				c.timer.resumePolls()
			})
		}}
		c.timer.schedule() // so that ticks see the hook
		time.Sleep(1500 * time.Millisecond)
		w.Send(clientFrame(true, Ping, "unanswered"))
		time.Sleep(time.Second)
		w.expect("2s pong unanswered")
		c.CloseNow()
	})
}

type hookedBehind struct {
	transport
	hook func()
}

func (t hookedBehind) behind() (int32, bool, bool) {
	t.hook()
	return t.transport.behind()
}

// ReadFrame accepts reserved bits. So the keepalive must not fail the connection because of
// them while the handler has not received yet: its first call may be ReadFrame.
func TestKeepalive_checks_no_frame_before_the_first_receiving_call(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		w.Send(clientFrame(true, Ping, "answered"))
		w.Send(withBits(0x40, clientFrame(true, Binary, "extended")))
		time.Sleep(40 * time.Second)
		f, err := c.ReadFrame()
		if err != nil || !f.RSV1 || string(f.Payload) != "extended" {
			t.Errorf("got frame %+v and error %v, want one with RSV1", f, err)
		}
		w.expect("1s pong answered", "15s ping", "30s ping")
		w.hangUp()
		c.Close(StatusNormalClosure, "")
	})
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		w.Send(withBits(0x40, clientFrame(true, Binary, "extended")))
		time.Sleep(40 * time.Second)
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrProtocol)
		w.hangUp()
		c.Close(StatusNormalClosure, "")
	})
}

func TestKeepalive_gives_a_sender_the_close_of_the_peer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		done := runHandler(c, func(c *Conn) error {
			for {
				time.Sleep(700 * time.Millisecond)
				if err := c.SendMessage(Binary, nil); err != nil {
					return err
				}
			}
		})
		time.Sleep(16 * time.Second)
		w.Send(clientFrame(true, Close, closeBody(4001, "")))
		if got := CloseStatus(<-done); got != 4001 {
			t.Errorf("got close status %v, want the peer's", got)
		}
		wantDuration(t, "the end", w.Start, 16100*time.Millisecond)
	})
}

// The bytes that the keepalive has read are still there for a method that receives
// later, and complete.
func TestKeepalive_keeps_messages_for_the_reader(t *testing.T) {
	large := strings.Repeat("x", 10_000)
	for name, read := range receiveOnce {
		for _, message := range []string{"", "hello", large} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, len(message)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					w := record(p, true)
					w.Send(clientFrame(true, Text, message))
					time.Sleep(40 * time.Second)
					w.Send(clientFrame(true, Text, "the next"))
					for _, want := range []string{message, "the next"} {
						got, err := read(c)
						for name == "ReadFrame" && err == nil && got == "" && want != "" {
							got, err = read(c) // pongs
						}
						if got != want || err != nil {
							t.Fatalf("got %s, error %v, want %s", wstest.Hex([]byte(got)), err, wstest.Hex([]byte(want)))
						}
					}
					w.hangUp()
					c.Close(StatusNormalClosure, "")
				})
			})
		}
	}
}

// Messages that the keepalive has read while no method was receiving are delivered
// before the end of the stream.
func TestKeepalive_keeps_messages_that_came_before_the_end(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0), ConnectionTimeout(0))
	p.Write(slices.Concat(clientFrame(true, Text, "hello"), clientFrame(true, Close, closeBody(4000, "bye"))))
	p.Conn.(*net.TCPConn).CloseWrite()
	pollOnce(c)
	if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "hello" {
		t.Errorf("got %q and error %v, want hello", data, err)
	}
	if _, _, err := c.ReceiveMessage(); CloseStatus(err) != 4000 {
		t.Errorf("got error %v, want 4000", err)
	}
}

func TestKeepalive_reads_no_payload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		w.Send(clientFrame(true, Text, "hello"))
		time.Sleep(40 * time.Second)
		c.in.lock.Lock()
		if got, want := c.in.buf.bytes(), clientFrame(true, Text, "hello"); !bytes.HasPrefix(got, want) {
			t.Errorf("got %x in the read buffer, want the whole frame %x first", got, want)
		}
		c.in.lock.Unlock()
		w.hangUp()
		c.Close(StatusNormalClosure, "")
	})
}

func TestKeepalive_answers_pings_behind_unread_messages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		w.Send(clientFrame(true, Ping, "before"))
		w.Send(clientFrame(true, Text, "hello"))
		w.Send(clientFrame(true, Ping, "after"))
		time.Sleep(20 * time.Second)
		w.expect("1s pong before", "1s pong after", "15s ping")
		go receiveAll(c)
		synctest.Wait()
		w.expect("1s pong before", "1s pong after", "15s ping")
		w.Send(clientFrame(true, Close, ""))
		synctest.Wait()
		c.Close(StatusNormalClosure, "")
	})
}

func TestKeepalive_gives_way_to_a_reader(t *testing.T) {
	tests := []struct {
		name       string
		comes      time.Duration // when the reader begins to wait
		message    time.Duration // when the message arrives
		want       time.Duration // when the reader gets the message
		connection time.Duration
	}{
		{"during the poll after a ping", 15001 * time.Millisecond, 15002 * time.Millisecond, 15002 * time.Millisecond, time.Minute},
		{"with a message that the poll has read", 15005 * time.Millisecond, 15002 * time.Millisecond, 15005 * time.Millisecond, time.Minute},
		{"as the poll begins", 15 * time.Second, 15001 * time.Millisecond, 15001 * time.Millisecond, time.Minute},
		{"during the poll before a timeout", 12_910 * time.Millisecond, 12_920 * time.Millisecond, 12_920 * time.Millisecond, 13 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, ConnectionTimeout(tt.connection))
				w := record(p, false)
				time.AfterFunc(tt.message, func() { w.Send(clientFrame(true, Text, "hello")) })
				time.Sleep(tt.comes)
				_, got, err := c.ReceiveMessage()
				if string(got) != "hello" || err != nil {
					t.Errorf("got message %q, error %v", got, err)
				}
				wantDuration(t, "receiving", w.Start, tt.want)
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// A reader may begin to wait after the poll has locked the receiving side, and before it
// has set the deadline.
func TestKeepalive_gives_way_to_a_reader_that_is_already_waiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		c.socket.interruptPoll()
		start := time.Now()
		pollOnce(c)
		wantDuration(t, "the poll", start, 0)
		c.socket.endInterrupt()
		p.Conn.Close()
		c.Close(StatusNormalClosure, "")
	})
}

func TestReadFrame_gets_all_control_frames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, ConnectionTimeout(0))
		w := record(p, false)
		w.Send(clientFrame(true, Text, "first"))
		done := runHandler(c, func(c *Conn) error {
			for _, want := range []string{"first", "ping", "close"} {
				f, err := c.ReadFrame()
				if err != nil || string(f.Payload[max(0, len(f.Payload)-5):]) != want {
					t.Errorf("got frame %v %q, error %v, want %q", f.Opcode, f.Payload, err, want)
				}
				time.Sleep(41 * time.Second)
			}
			return nil
		})
		time.Sleep(10 * time.Second)
		w.Send(clientFrame(true, Ping, "ping"))
		w.Send(clientFrame(true, Close, closeBody(4001, "close")))
		<-done
		synctest.Wait()
		w.expect("15s ping", "30s ping", "45s ping", "1m0s ping", "1m15s ping", "1m30s ping", "1m45s ping", "2m0s ping", "2m3s close 1000", "2m3s end")
	})
}

// A poll may take long, because the process was stopped. The connection ends for silence
// only if that poll finds no bytes.
func TestConnectionTimeout_waits_for_a_slow_poll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
			return delayedPolls{wstest.Wrap(conn)}
		}, PingInterval(0), ConnectionTimeout(10*time.Second))
		done := runHandler(c, waitForEnd)
		go func() {
			time.Sleep(9 * time.Second)
			p.Conn.Write(clientFrame(true, Pong, ""))
		}()
		time.Sleep(11 * time.Second)
		if err := endOf(c); err != nil {
			t.Errorf("got end %v, want none, because a pong arrived at 9s", err)
		}
		p.Conn.Close()
		<-done
	})
}

// If a poll, or Ping, holds the reader when the limit passes, the messages of earlier polls are not
// lost.
func TestConnectionTimeout_during_a_poll_keeps_the_messages(t *testing.T) {
	const timeout = 10 * time.Second
	holders := []struct {
		name  string
		at    time.Duration // from then on, a read takes longer
		stall time.Duration
		ping  bool
	}{
		{"the poll of the limit", timeout - 500*time.Millisecond, 3 * maxPoll, false},
		{"the poll before", timeout - 1500*time.Millisecond, 2 * time.Second, false},
		{"Ping", timeout - 500*time.Millisecond, 0, true},
	}
	for _, tt := range holders {
		for name, run := range runners {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var stalls atomic.Bool
					c, p := newHookedConn(t, func(s *wstest.Socket) {
						s.Hook = func(op *wstest.Op) (int, error) {
							if !op.Write && stalls.Load() {
								time.Sleep(tt.stall) // the process does not run
							}
							return op.Do(op.P)
						}
					}, PingInterval(0), ConnectionTimeout(timeout))
					received := 0
					done := run(c, func(c *Conn) error {
						for {
							if _, _, err := c.ReceiveMessage(); err != nil {
								return err
							}
							if received++; received == 1 {
								<-c.Context().Done() // busy
							}
						}
					})
					const messages = 30 // more than HandleConcurrent reads ahead
					p.Write(messageBurst(messages, "hello"))
					go io.Copy(io.Discard, p.Conn)
					time.Sleep(tt.at)
					stalls.Store(true)
					if tt.ping {
						go c.Ping(t.Context())
					}
					wantError(t, <-done, ErrConnectionTimeout)
					if received != messages {
						t.Errorf("received %d messages, want %d", received, messages)
					}
					p.Conn.Close()
				})
			})
		}
	}
}

type delayedPolls struct{ *wstest.Socket }

func (s delayedPolls) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left > 0 && left <= pingPoll {
		time.Sleep(20 * time.Millisecond)
		t = t.Add(20 * time.Millisecond)
	}
	return s.Socket.SetReadDeadline(t)
}

// A ReadFrame that is refused does not change how the keepalive treats control frames.
func TestReadFrame_that_is_refused_changes_nothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		go w.Send(clientFrame(false, Text, "begins"))
		if _, _, err := c.MessageReader(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadFrame(); err == nil {
			t.Fatal("ReadFrame in the middle of a message")
		}
		if c.in.mode != modeMessages {
			t.Errorf("the mode is %d, want %d", c.in.mode, modeMessages)
		}
		w.hangUp()
		c.Close(1000, "")
	})
}

// A function that receives with short deadlines does not keep the connection of a silent peer, or of one
// that does not answer a close frame, however the polls of the limits and the calls meet.
func TestKeepalive_limits_of_a_function_with_short_deadlines(t *testing.T) {
	const precision = 250 * time.Millisecond
	limits := []struct {
		name  string
		begin func(c *Conn)
		limit time.Duration
		want  error
	}{
		{"ConnectionTimeout", func(*Conn) {}, time.Minute, ErrConnectionTimeout},
		{"CloseTimeout", func(c *Conn) { c.SendMessage(Close, []byte(closeBody(StatusNormalClosure, ""))) }, 5 * time.Second, ErrCloseTimeout},
	}
	paces := []struct{ wait, pause time.Duration }{
		{time.Millisecond, time.Millisecond}, {2 * time.Millisecond, 0}, {2 * time.Millisecond, 3 * time.Millisecond},
		{0, time.Millisecond}, {9 * time.Millisecond, time.Millisecond}, {90 * time.Millisecond, 0}, {40 * time.Millisecond, 60 * time.Millisecond},
	}
	for _, limit := range limits {
		for _, pace := range paces {
			t.Run(fmt.Sprintf("%s/%v and a pause of %v", limit.name, pace.wait, pace.pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _, p := newMemoryConn(t)
					go io.Copy(io.Discard, p.Conn)
					start := time.Now()
					took := time.Duration(0)
					done := runHandler(c, func(c *Conn) error {
						limit.begin(c)
						for {
							c.SetReadDeadline(time.Now().Add(pace.wait))
							c.ReceiveMessage()
							if took = time.Since(start); endOf(c) != nil || took > 2*limit.limit {
								return endOf(c)
							}
							time.Sleep(pace.pause)
						}
					})
					wantError(t, <-done, limit.want)
					if took < limit.limit || took > limit.limit+precision {
						t.Errorf("the connection has ended after %v, want %v", took, limit.limit)
					}
					p.Conn.Close()
				})
			})
		}
	}
}
