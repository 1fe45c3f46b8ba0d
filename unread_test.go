package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// inFront is what a peer sends in front of a control frame, and no method receives.
var inFront = map[string][]byte{
	"nothing":                        nil,
	"a message":                      clientFrame(true, Text, "unread"),
	"an empty message":               clientFrame(true, Binary, ""),
	"a fragmented message":           slices.Concat(clientFrame(false, Text, "un"), clientFrame(true, Ping, "inside"), clientFrame(true, Continuation, "read")),
	"the beginning of a message":     clientFrame(false, Text, "unread"),
	"messages that fill a buffer":    messageBurst(40, strings.Repeat("x", 90)),
	"a message of the buffer's size": clientFrame(true, Binary, strings.Repeat("x", readBufferSize-20)),
}

// busyHandlers do not receive for a minute or more.
var busyHandlers = map[string]HandlerFunc{
	"only sends": func(c *Conn) error {
		for {
			time.Sleep(100 * time.Millisecond)
			if err := c.SendMessage(Binary, nil); err != nil {
				return err
			}
		}
	},
	"waits": waitForEnd,
	"is busy after a message": func(c *Conn) error {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
		time.Sleep(10 * time.Minute)
		return receiveAll(c)
	},
	"is busy with a lent message": func(c *Conn) error {
		err := c.ReceiveFunc(func(_ Opcode, data []byte) error {
			time.Sleep(10 * time.Minute)
			if string(data) != "first" {
				return fmt.Errorf("the lent message became %q", data)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return receiveAll(c)
	},
	"is busy in a message": func(c *Conn) error {
		_, r, err := c.MessageReader()
		if err != nil {
			return err
		}
		r.Read(make([]byte, 1))
		time.Sleep(10 * time.Minute)
		return receiveAll(c)
	},
}

// While no method is receiving, pings and the peer's close frame are answered within a
// second, whatever is unread in front of them.
func TestPoll_answers_within_a_second(t *testing.T) {
	computes(t)
	for handler, fn := range busyHandlers {
		for front, wire := range inFront {
			for name, run := range runners {
				t.Run(strings.Join([]string{name, handler, front}, "/"), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, p := newPipeConn(t, PingInterval(0))
						w := record(p, false)
						done := run(c, fn)
						w.Send(clientFrame(true, Text, "first"))
						w.Send(slices.Concat(wire, clientFrame(true, Ping, "ping")))
						time.Sleep(time.Second)
						synctest.Wait()
						if !slices.ContainsFunc(w.Events(), func(e string) bool { return strings.HasSuffix(e, " pong ping") }) {
							t.Errorf("after a second the client has received %q, want a pong", w.Events())
						}
						time.Sleep(3300 * time.Millisecond)
						w.Send(clientFrame(true, Close, closeBody(4001, "bye")))
						timedCallWithin(t, "the end", time.Second, func() { <-c.Context().Done() })
						var peer *CloseError
						if !errors.As(endOf(c), &peer) || peer.Code != 4001 || peer.Reason != "bye" {
							t.Errorf("got end %v, want 4001 and bye", endOf(c))
						}
						synctest.Wait()
						if e := w.Events(); !slices.ContainsFunc(e, func(e string) bool { return strings.HasSuffix(e, " close 4001") }) {
							t.Errorf("the client has received %q, want a close frame with 4001", e)
						}
						<-done
					})
				})
			}
		}
	}
}

func timedCallWithin(t *testing.T, what string, limit time.Duration, call func()) {
	t.Helper()
	start := time.Now()
	call()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

// The answer to a close frame of SendMessage is noticed within a second, too.
func TestPoll_notices_the_answer_to_a_close_frame(t *testing.T) {
	for front, wire := range inFront {
		t.Run(front, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0))
				w := record(p, false)
				done := runHandler(c, waitForEnd)
				w.Send(wire)
				time.Sleep(2500 * time.Millisecond)
				c.SendMessage(Close, []byte(closeBody(1000, "")))
				w.Send(clientFrame(true, Close, closeBody(1000, "")))
				timedCallWithin(t, "the end", time.Second, func() { <-c.Context().Done() })
				wantError(t, endOf(c), net.ErrClosed)
				<-done
			})
		})
	}
}

// The messages in front of a close frame, or of the end of the stream, are there for a
// handler that receives them after the connection has ended.
func TestPoll_keeps_the_messages_in_front_of_the_end(t *testing.T) {
	wire := slices.Concat(clientFrame(true, Text, "one"), clientFrame(true, Ping, ""), clientFrame(true, Text, ""),
		clientFrame(false, Text, "th"), clientFrame(true, Pong, ""), clientFrame(true, Continuation, "ree"))
	bye := clientFrame(true, Close, closeBody(4001, "bye"))
	receiveAndCheck := func(t *testing.T, c *Conn, read func(c *Conn) (string, error), code StatusCode) {
		t.Helper()
		for _, want := range []string{"one", "", "three"} {
			if got, err := read(c); got != want || err != nil {
				t.Errorf("got %q and error %v, want %q", got, err, want)
			}
		}
		if _, err := read(c); CloseStatus(err) != code {
			t.Errorf("got error %v, want %v", err, code)
		}
	}
	for how, read := range receiveOnce {
		if how == "ReadFrame" {
			continue // it returns fragments
		}
		for busy, wait := range map[string]func(c *Conn){
			"for seconds":    func(c *Conn) { time.Sleep(5 * time.Second) },
			"for hours":      func(c *Conn) { time.Sleep(time.Hour) },
			"up to its end":  func(c *Conn) { <-c.Context().Done() },
			"up to its last": func(c *Conn) { c.life.closed.Wait() },
		} {
			t.Run(how+"/"+busy, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					w := record(p, true)
					done := runHandler(c, func(c *Conn) error {
						wait(c)
						receiveAndCheck(t, c, read, 4001)
						return nil
					})
					w.Send(slices.Concat(wire, bye))
					<-done
				})
			})
		}
		for end, tail := range map[StatusCode][]byte{4001: bye, StatusAbnormalClosure: nil} {
			t.Run(fmt.Sprintf("%s/the end of the stream, %v", how, end), func(t *testing.T) {
				c, p := newTCPConn(t, CloseTimeout(time.Millisecond))
				p.Write(slices.Concat(wire, tail))
				p.Conn.(*net.TCPConn).CloseWrite()
				for endOf(c) == nil {
					pollOnce(c)
				}
				receiveAndCheck(t, c, read, end)
			})
		}
	}
}

// After Close, no message is returned.
func TestClose_drops_unread_messages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		w.Send(clientFrame(true, Text, "unread"))
		time.Sleep(3300 * time.Millisecond) // not at the time of a poll
		w.Send(clientFrame(true, Close, ""))
		c.Close(1000, "")
		if _, data, err := c.ReceiveMessage(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %q and error %v, want net.ErrClosed", data, err)
		}
	})
}

// wrapped hides what the system knows about a net.Conn.
type wrapped struct{ net.Conn }

// sockets are the kinds of sockets for tests in real time.
var sockets = map[string]func(t testing.TB, opts ...Option) (*Conn, io.WriteCloser){
	"TCP": func(t testing.TB, opts ...Option) (*Conn, io.WriteCloser) {
		c, p := newTCPConn(t, opts...)
		return c, p.Conn
	},
	"TLS": func(t testing.TB, opts ...Option) (*Conn, io.WriteCloser) {
		conns := make(chan *Conn, 1)
		p := dialTLS(t, func(c *Conn) error { conns <- c; return waitForEnd(c) }, opts...)
		c := <-conns
		t.Cleanup(func() { c.CloseNow() }) // a poll would find the end of the peer within a second
		return c, p.Conn
	},
	"a net.Conn of unknown type": func(t testing.TB, opts ...Option) (*Conn, io.WriteCloser) {
		client, server := tcpPair(t)
		return newTestConn(wrapped{server}, nil, opts...), client
	},
}

// Bytes of a peer are a sign of life when they arrive, but not when they are read later.
func TestConnectionTimeout_does_not_count_unread_bytes(t *testing.T) {
	t.Parallel()
	for name, connect := range sockets {
		for _, size := range []int{5 << 10, 5 << 20} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				c, client := connect(t, PingInterval(0), ConnectionTimeout(150*time.Millisecond), CloseTimeout(50*time.Millisecond))
				defer client.Close()
				go client.Write(clientFrame(true, Binary, string(make([]byte, size))))
				select {
				case <-c.Context().Done():
					wantError(t, endOf(c), ErrConnectionTimeout)
				case <-time.After(wstest.Patience):
					t.Error("the connection is still open")
				}
				c.Close(1000, "")
			})
		}
	}
}

// New bytes behind unread ones are a sign of life, and the unread ones are not a second time.
func TestConnectionTimeout_counts_bytes_behind_unread_ones(t *testing.T) {
	t.Parallel()
	for name, connect := range sockets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, client := connect(t, PingInterval(0), ConnectionTimeout(time.Hour))
			defer client.Close()
			lastSign := func() time.Duration {
				c.timer.settleReads(c.timer.recent.Swap(noReads) & readsMask)
				return time.Duration(c.timer.lastAlive.Load())
			}
			client.Write(clientFrame(true, Text, strings.Repeat("x", 10_000)))
			for i := range 5 {
				before := clock()
				client.Write(clientFrame(true, Pong, ""))
				if !eventually(func() bool { pollOnce(c); return lastSign() >= before }) {
					t.Fatalf("pong %d is not a sign of life", i)
				}
			}
			for range 3 { // until the kernel has delivered what was sent
				pollOnce(c)
			}
			last := lastSign()
			pollOnce(c)
			if lastSign() != last {
				t.Error("there is a sign of life, but nothing has arrived")
			}
			if _, data, err := c.ReceiveMessage(); len(data) != 10_000 || err != nil {
				t.Errorf("got %d bytes and error %v, want the message", len(data), err)
			}
			client.Close()
			c.Close(1000, "")
		})
	}
}

// The end of the TCP connection is noticed however much is unread in front of it. A close
// frame there is why the connection has ended.
func TestPoll_notices_the_end_behind_unread_bytes(t *testing.T) {
	flood := bytes.Repeat(clientFrame(true, Binary, strings.Repeat("x", 1000)), 100)
	ends := map[string]struct {
		tail []byte
		end  func(p *peer)
		code StatusCode
	}{
		"FIN":               {nil, func(p *peer) { p.ShutWrite() }, StatusAbnormalClosure},
		"close":             {nil, func(p *peer) { p.Conn.Close() }, StatusAbnormalClosure},
		"RST":               {nil, resetPeer, StatusAbnormalClosure},
		"a close frame too": {clientFrame(true, Close, closeBody(4001, "bye")), func(p *peer) { p.Conn.Close() }, 4001},
	}
	sockets := map[string]func(t testing.TB, opts ...Option) (*Conn, *peer){"TCP": newTCPConn, "Unix": newUnixConn}
	for name, tt := range ends {
		for socket, connect := range sockets {
			t.Run(name+" over "+socket, func(t *testing.T) {
				c, p := connect(t, PingInterval(0), ConnectionTimeout(0), CloseTimeout(time.Millisecond))
				if _, _, ok := c.socket.behind(); !ok {
					t.Skip("this system does not tell what waits in the kernel")
				}
				p.Write(slices.Concat(flood, tt.tail))
				tt.end(p)
				for start := time.Now(); endOf(c) == nil && time.Since(start) < wstest.Patience; {
					pollOnce(c)
				}
				if got := CloseStatus(endOf(c)); got != tt.code {
					t.Errorf("got end %v, want %v", endOf(c), tt.code)
				}
			})
		}
	}
}

// A handler that still receives gets everything from a peer that has gone.
func TestPoll_gives_the_handler_time_before_the_end_of_the_stream(t *testing.T) {
	c, p := newTCPConn(t, PingInterval(0), ConnectionTimeout(0))
	const messages = 3000
	p.Write(messageBurst(messages, "message"))
	p.Conn.(*net.TCPConn).CloseWrite()
	for i := range messages {
		if i%100 == 0 {
			c.in.lock.Lock()
			c.poll(1) // unlocks
		}
		if _, _, err := c.ReceiveMessage(); err != nil {
			t.Fatalf("got error %v for message %d", err, i)
		}
	}
	_, _, err := c.ReceiveMessage()
	wantError(t, err, io.ErrUnexpectedEOF)
}

// Accepted frames are written before the end.
func TestReceive_writes_pending_frames_at_the_end_of_the_stream(t *testing.T) {
	for name, run := range runners {
		t.Run(name, func(t *testing.T) {
			c, p := newTCPConn(t, PingInterval(0))
			const messages = 500
			p.Write(messageBurst(messages, "message"))
			p.Conn.(*net.TCPConn).CloseWrite()
			sent := 0
			done := run(c, func(c *Conn) error {
				for {
					op, data, err := c.ReceiveMessage()
					if err != nil {
						return err
					}
					if c.SendMessage(op, data) == nil {
						sent++
					}
				}
			})
			got, err := io.ReadAll(p.Buffer)
			if err != nil && !errors.Is(err, errReset) {
				t.Error(err)
			}
			wantError(t, <-done, io.ErrUnexpectedEOF)
			if size := len(wstest.ServerFrame(first(true, Binary), "message")); sent != messages || len(got) != messages*size {
				t.Errorf("%d messages were accepted and %d arrived, want %d", sent, len(got)/size, messages)
			}
		})
	}
}

// A poll that cannot look behind a full buffer makes it larger. Thousands of connections may
// do so at the same time.
func TestPoll_holds_at_most_twice_what_is_unread(t *testing.T) {
	for _, size := range []int{0, 100, readBufferSize - 8, readBufferSize - 7, 4100, 8184, 10_000, 40_000, 64 << 10, 70_000, 200_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newWrappedConn(t, wrapConn, PingInterval(0), ConnectionTimeout(0))
				w := record(p, false)
				wire := clientFrame(true, Binary, strings.Repeat("x", size))
				w.Send(wire)
				for range 5 {
					time.Sleep(time.Second)
					synctest.Wait()
					if got, most := bufferSize(c), min(max(readBufferSize, 2*len(wire)), largeReadBufferSize); got > most {
						t.Errorf("the connection holds %d bytes for %d unread ones, want at most %d", got, len(wire), most)
					}
				}
				if got, least := bufferSize(c), min(len(wire), largeReadBufferSize); got < least {
					t.Errorf("the polls have read %d bytes at most, want %d", got, least)
				}
				_, data, err := c.ReceiveMessage()
				if len(data) != size || err != nil {
					t.Errorf("got %d bytes and error %v, want %d", len(data), err, size)
				}
				if got := bufferSize(c); got > readBufferSize {
					t.Errorf("the connection holds %d bytes after the message, want a small buffer at most", got)
				}
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// An openWrapper is a wrapper that shows what it wraps, as a tls.Conn does.
type openWrapper struct {
	net.Conn
	below func() net.Conn
}

func (w *openWrapper) NetConn() net.Conn { return w.below() }

// Bytes behind a full buffer are seen through such wrappers, so the buffer does not have to grow.
func TestPoll_looks_below_wrappers(t *testing.T) {
	client, server := tcpPair(t)
	defer client.Close()
	if _, _, ok := behind(server); !ok {
		t.Skip("this system does not tell what waits in the kernel")
	}
	wrap := func(conn net.Conn) net.Conn {
		return &openWrapper{wrapConn(conn), func() net.Conn { return conn }}
	}
	c := newTestConn(wrap(wrap(server)), nil, PingInterval(0), ConnectionTimeout(0))
	defer c.Close(StatusNormalClosure, "")
	go client.Write(clientFrame(true, Binary, strings.Repeat("x", 100_000)))
	seen := func() bool {
		pollOnce(c)
		defer lockInput(c)()
		return c.in.buf.behind > 0
	}
	if !eventually(seen) {
		t.Fatal("no poll has seen what waits behind the buffer")
	}
	if got := bufferSize(c); got != readBufferSize {
		t.Errorf("the connection holds a buffer of %d bytes, want %d", got, readBufferSize)
	}
	client.Close()

	itself := &openWrapper{Conn: server}
	itself.below = func() net.Conn { return itself }
	nothing := &openWrapper{server, func() net.Conn { return nil }}
	for _, conn := range []net.Conn{itself, nothing} {
		if _, _, ok := behind(conn); ok {
			t.Error("something was found below a wrapper of nothing")
		}
	}
}
