package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// readPing returns the payload of the next frame, which is a ping.
func (p *peer) readPing() string {
	p.t.Helper()
	f := p.read()
	if f.Opcode != Ping {
		p.t.Errorf("got a %v frame, want a ping", f.Opcode)
	}
	return string(f.Payload)
}

// pingResult is what a call of Ping has returned, and when.
type pingResult struct {
	rtt  time.Duration
	err  error
	took time.Duration
}

// startPing calls Ping on a goroutine.
func startPing(ctx context.Context, c *Conn) <-chan pingResult {
	result := make(chan pingResult, 1)
	start := time.Now()
	go func() {
		rtt, err := c.Ping(ctx)
		result <- pingResult{rtt, err, time.Since(start)}
	}()
	return result
}

func wantRTT(t *testing.T, got pingResult, want time.Duration) {
	t.Helper()
	if got.err != nil || got.rtt != want {
		t.Errorf("got a round trip of %v and error %v, want %v", got.rtt, got.err, want)
	}
}

// Whatever the handler does, the round trip is exact.
func TestPing_measures_the_round_trip(t *testing.T) {
	concurrent := func(receives bool) func(*testing.T, *Conn, *peer) {
		return func(t *testing.T, c *Conn, p *peer) {
			beginReadAhead(c)
			if receives {
				go receiveAll(c)
				return
			}
			p.Write(messageBurst(readAheadLimit, "x")) // so the goroutine does not read
			synctest.Wait()
		}
	}
	tests := map[string]func(t *testing.T, c *Conn, p *peer){
		"no method has received": func(t *testing.T, c *Conn, p *peer) {},
		"a method is receiving":  func(t *testing.T, c *Conn, p *peer) { go receiveAll(c) },
		"Discard is running":     func(t *testing.T, c *Conn, p *peer) { go c.Discard() },
		"ReadFrame is running": func(t *testing.T, c *Conn, p *peer) {
			go func() {
				for {
					if _, err := c.ReadFrame(); err != nil {
						return
					}
				}
			}()
		},
		"a message is unread": func(t *testing.T, c *Conn, p *peer) {
			go p.send(Text, "unread")
			time.Sleep(2 * time.Second) // a poll reads it
		},
		"a method returns before the pong": func(t *testing.T, c *Conn, p *peer) {
			go c.ReceiveMessage()
			time.AfterFunc(time.Second, func() { p.send(Text, "x") })
		},
		"a method is called before the pong": func(t *testing.T, c *Conn, p *peer) {
			time.AfterFunc(time.Second, func() { receiveAll(c) })
		},
		"a deadline expires before the pong": func(t *testing.T, c *Conn, p *peer) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			go c.ReceiveMessage()
		},
		"HandleConcurrent, which receives":        concurrent(true),
		"HandleConcurrent, which cannot go ahead": concurrent(false),
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, DropIncomingPings(true))
				begin(t, c, p)
				synctest.Wait()
				for _, rtt := range []time.Duration{3 * time.Second, 0, 1234567} {
					result := startPing(context.Background(), c)
					payload := p.readPing()
					if len(payload) != 8 {
						t.Errorf("got a payload of %d bytes, want 8", len(payload))
					}
					time.Sleep(rtt)
					p.send(Pong, payload)
					wantRTT(t, <-result, rtt)
				}
				c.CloseNow()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestPing_over_TCP_and_TLS(t *testing.T) {
	for name, run := range map[string]func(HandlerFunc) *peer{
		"TCP": func(fn HandlerFunc) *peer { return dialServer(t, startServer(t, fn)) },
		"TLS": func(fn HandlerFunc) *peer { return dialTLS(t, fn) },
	} {
		t.Run(name, func(t *testing.T) {
			results := make(chan pingResult, 10)
			p := run(func(c *Conn) error {
				for range 10 {
					rtt, err := c.Ping(context.Background())
					results <- pingResult{rtt: rtt, err: err}
					if err != nil {
						return err
					}
				}
				return nil
			})
			for range 10 {
				p.send(Text, "unread")
				p.send(Pong, p.readPing())
				if got := await(t, results); got.err != nil || got.rtt <= 0 || got.rtt > time.Minute {
					t.Errorf("got a round trip of %v and error %v", got.rtt, got.err)
				}
			}
			p.expectClose(StatusNormalClosure)
			hangUp(p)
		})
	}
}

// Only a pong to this ping, or to a later one, is an answer.
func TestPing_ignores_other_pongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(2*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		early := startPing(ctx, c)
		old := p.readPing()
		if got := <-early; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want an expired context", got.err)
		}
		result := startPing(context.Background(), c)
		payload := p.readPing()
		next := []byte(payload)
		next[7]++ // the ping after it, which was not sent
		for _, pong := range []string{"", "x", old, string(next), payload[:7], payload + "x", strings.Repeat("\x00", 8)} {
			p.send(Pong, pong)
		}
		p.send(Pong, p.readPing()) // the ping of the keepalive
		time.Sleep(500 * time.Millisecond)
		select {
		case got := <-result:
			t.Fatalf("got %+v, want no result before the pong", got)
		default:
		}
		p.send(Pong, payload)
		wantRTT(t, <-result, 1500*time.Millisecond)
		p.send(Pong, payload) // a second pong is ignored
		c.CloseNow()
	})
}

// A peer may answer only the latest ping (RFC 6455 section 5.5.3).
func TestPing_is_completed_by_the_pong_to_a_later_ping(t *testing.T) {
	tests := []struct {
		name   string
		answer []int           // pings that are answered, a unit after each other
		want   []time.Duration // in units
	}{
		{"in order", []int{0, 1, 2}, []time.Duration{1, 2, 3}},
		{"only the last", []int{2}, []time.Duration{1, 1, 1}},
		{"in reverse order", []int{2, 1, 0}, []time.Duration{1, 1, 1}},
		{"the second, then the third", []int{1, 2}, []time.Duration{1, 1, 2}},
	}
	const unit = 100 * time.Millisecond // so short that no poll reads
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				var results []<-chan pingResult
				var payloads []string
				for range tt.want {
					results = append(results, startPing(context.Background(), c))
					payloads = append(payloads, p.readPing())
				}
				for _, i := range tt.answer {
					time.Sleep(unit)
					p.send(Pong, payloads[i])
				}
				for i, want := range tt.want {
					wantRTT(t, <-results[i], want*unit)
				}
				c.CloseNow()
			})
		})
	}
	t.Run("although its call has given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t)
			first := startPing(context.Background(), c)
			p.readPing()
			ctx, cancel := context.WithCancel(context.Background())
			second := startPing(ctx, c)
			payload := p.readPing()
			cancel()
			<-second
			time.Sleep(time.Second)
			p.send(Pong, payload)
			wantRTT(t, <-first, time.Second)
			c.CloseNow()
		})
	})
}

func TestPing_of_many_goroutines(t *testing.T) {
	for _, receives := range []bool{false, true} {
		c, p := newTCPConn(t)
		if receives {
			go receiveAll(c)
		}
		const calls = 50
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if _, err := c.Ping(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		seen := make(map[string]bool)
		for range calls {
			payload := p.readPing()
			if seen[payload] {
				t.Errorf("the payload %x came twice", payload)
			}
			seen[payload] = true
			p.send(Pong, payload)
		}
		wg.Wait()
		c.CloseNow()
	}
}

// The round trip begins when the ping is sent, not when it waits for another frame.
func TestPing_behind_a_blocked_sender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		go c.SendMessage(Text, []byte("blocked"))
		synctest.Wait()
		result := startPing(context.Background(), c)
		time.Sleep(time.Second)
		p.expect(Text, "blocked")
		payload := p.readPing()
		time.Sleep(time.Second)
		p.send(Pong, payload)
		wantRTT(t, <-result, time.Second)
		c.CloseNow()
	})
}

// While Ping reads, control frames have the same effect as without Ping.
func TestPing_handles_control_frames(t *testing.T) {
	tests := []struct {
		name string
		sent []byte
		want error
		code StatusCode // of the answer, 0 for a pong
	}{
		{"a ping", clientFrame(true, Ping, "p"), context.DeadlineExceeded, 0},
		{"a ping behind a message", slices.Concat(clientFrame(true, Text, "m"), clientFrame(true, Ping, "p")), context.DeadlineExceeded, 0},
		{"a close frame", clientFrame(true, Close, closeBody(4000, "")), &CloseError{Code: 4000}, 4000},
		{"a close frame behind a message", slices.Concat(clientFrame(true, Text, "m"), clientFrame(true, Close, closeBody(4000, ""))), &CloseError{Code: 4000}, 4000},
		{"an invalid close frame", clientFrame(true, Close, "x"), ErrProtocol, StatusProtocolError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, CloseTimeout(500*time.Millisecond)) // for which a broken rule waits for the handler
				go p.send(Text, "first")
				c.ReceiveMessage() // until then, broken rules are left to the handler
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				result := startPing(ctx, c)
				p.readPing()
				go p.Write(tt.sent)
				start := time.Now()
				if tt.code == 0 {
					p.expect(Pong, "p")
					wantDuration(t, "the pong", start, 0)
				} else {
					p.expectClose(tt.code)
					if took := time.Since(start); took > time.Second {
						t.Errorf("the close took %v, want a second at most", took)
					}
				}
				go hangUp(p)
				got := <-result
				var peer *CloseError
				if errors.As(tt.want, &peer) {
					wantCloseError(t, got.err, peer.Code)
				} else {
					wantError(t, got.err, tt.want)
				}
				c.CloseNow()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestPing_ends_with_the_connection(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *Conn, p *peer)
		want error
	}{
		{"CloseNow", func(c *Conn, p *peer) { c.CloseNow() }, net.ErrClosed},
		{"Close", func(c *Conn, p *peer) { go p.expectClose(4000); c.Close(4000, "") }, net.ErrClosed},
		{"the end of the stream", func(c *Conn, p *peer) { p.Conn.Close() }, io.ErrUnexpectedEOF},
		{"ConnectionTimeout", func(c *Conn, p *peer) { p.expectClose(StatusGoingAway) }, ErrConnectionTimeout},
	}
	for _, tt := range tests {
		for _, receives := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(5*time.Second))
					if receives {
						go receiveAll(c)
					}
					result := startPing(context.Background(), c)
					p.readPing()
					tt.end(c, p)
					wantError(t, (<-result).err, tt.want)
					_, err := c.Ping(context.Background())
					wantError(t, err, tt.want)
					c.Close(StatusNormalClosure, "")
				})
			})
		}
	}
}

// A write fails while Ping reads. It must not hold up the search for the reason.
func TestPing_while_a_write_fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, isBroken := newBrokenConn(t, false)
		result := startPing(context.Background(), c)
		p.readPing()
		synctest.Wait()
		isBroken.Store(true)
		start := time.Now()
		wantError(t, c.SendMessage(Text, []byte("x")), syscall.EPIPE)
		if took := time.Since(start); took > 3*pingPoll {
			t.Errorf("SendMessage took %v, want %v at most", took, 3*pingPoll)
		}
		wantError(t, (<-result).err, syscall.EPIPE)
		c.Close(StatusNormalClosure, "")
	})
}

// More messages are unread than the buffer holds. The calls wait for the handler, and do not
// keep the processor busy: the clock of the bubble would stand still.
func TestPing_behind_a_full_buffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		a, b := startPing(context.Background(), c), startPing(context.Background(), c)
		p.readPing()
		payload := p.readPing()
		burst := messageBurst(100, strings.Repeat("x", 1000))
		go func() {
			p.Write(burst)
			p.send(Pong, payload)
		}()
		time.Sleep(10 * time.Second)
		for range 100 {
			if _, _, err := c.ReceiveMessage(); err != nil {
				t.Fatal(err)
			}
		}
		wantRTT(t, <-a, 10*time.Second)
		wantRTT(t, <-b, 10*time.Second)
		c.CloseNow()
	})
}

// Polls go on after Ping.
func TestPing_leaves_the_polls_working(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, PingInterval(0))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		result := startPing(ctx, c)
		p.readPing()
		<-result
		for range 3 {
			go p.send(Ping, "poll")
			start := time.Now()
			p.expect(Pong, "poll")
			if took := time.Since(start); took > pollInterval {
				t.Errorf("the pong took %v, want a second at most", took)
			}
		}
		c.CloseNow()
	})
}

func TestPing_after_a_close_frame_was_sent(t *testing.T) {
	c, p := newTCPConn(t)
	c.SendMessage(Close, nil)
	_, err := c.Ping(context.Background())
	wantError(t, err, net.ErrClosed)
	c.CloseNow()
	p.expectClose(StatusNoStatusReceived)
	p.ExpectEOF()
}

// On a transport without deadlines, Ping cannot give way to a receiving method, so it does not read.
func TestPing_on_a_transport_without_deadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
			socket := wstest.Wrap(conn)
			socket.NoDeadlines = true
			return socket
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		result := startPing(ctx, c)
		p.readPing()
		wantError(t, (<-result).err, context.DeadlineExceeded)
		go receiveAll(c)
		result = startPing(context.Background(), c)
		p.send(Pong, p.readPing())
		wantRTT(t, <-result, 0)
		c.CloseNow()
	})
}
