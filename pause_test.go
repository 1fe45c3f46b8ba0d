package websocket

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// pauseTimer lets d pass in which the timer of c does not ring, as if the process was paused.
func pauseTimer(c *Conn, d time.Duration) {
	time.Sleep(2 * pingPoll) // a poll sets the timer when it ends
	c.timer.alarm.Clear()
	time.Sleep(d)
	c.timer.schedule() // as a receiving or sending method might do before the tick
	c.ring()
}

// lateTicks makes each tick late, until the connection ends, or for an hour.
func lateTicks(c *Conn, late time.Duration) {
	for start := time.Now(); endOf(c) == nil && time.Since(start) < time.Hour; {
		lateTick(c, late)
	}
}

// lateTick makes the next tick late.
func lateTick(c *Conn, late time.Duration) {
	time.Sleep(3 * pingPoll) // for a poll
	due := time.Duration(c.timer.alarmAt.Load()) - clock()
	c.timer.alarm.Clear()
	time.Sleep(max(due, 0) + late)
	c.timer.schedule()
	c.ring()
}

// answerPings answers each ping of the server after a round trip, until the connection ends.
func answerPings(p *peer, roundTrip time.Duration) {
	for {
		f, err := p.Client.ReadFrame()
		switch {
		case err != nil:
			return
		case f.Opcode() == wstest.Ping:
			time.Sleep(roundTrip)
			p.Conn.Write(clientFrame(true, Pong, string(f.Payload)))
		}
	}
}

// While the process is paused, it sends no pings, so a peer that sends nothing is not silent. After
// the pause, a peer that answers pings keeps its connection, and one that does not loses it.
func TestConnectionTimeout_does_not_count_a_pause_of_the_process(t *testing.T) {
	const timeout, roundTrip = time.Minute, 300 * time.Millisecond
	handlers := map[string]HandlerFunc{"receiving": receiveAll, "busy": waitForEnd, "busy after a ReadFrame": func(c *Conn) error {
		c.ReadFrame() // polls read pongs from now on, but leave them to the next call
		return waitForEnd(c)
	}}
	for name, fn := range handlers {
		for _, pause := range []time.Duration{time.Second, 50 * time.Second, timeout, timeout + time.Second, 10 * time.Minute} {
			t.Run(name+"/"+pause.String(), func(t *testing.T) {
				for _, before := range []time.Duration{5 * time.Second, 15*time.Second + roundTrip/2, 29 * time.Second} {
					synctest.Test(t, func(t *testing.T) {
						c, _, p := newMemoryConn(t, ConnectionTimeout(timeout))
						done := runHandler(c, fn)
						go answerPings(p, roundTrip)
						p.Conn.Write(clientFrame(true, Text, "hello"))
						time.Sleep(before)
						pauseTimer(c, pause)
						time.Sleep(2 * timeout)
						if err := endOf(c); err != nil {
							t.Errorf("a pause after %v has ended the connection: %v", before, err)
						}
						p.Conn.Close()
						<-done
						time.Sleep(roundTrip) // for answerPings
					})
					synctest.Test(t, func(t *testing.T) {
						c, _, _ := newMemoryConn(t, ConnectionTimeout(timeout))
						done := runHandler(c, fn)
						time.Sleep(before)
						pauseTimer(c, pause)
						start := time.Now()
						if err := <-done; !errors.Is(err, ErrConnectionTimeout) {
							t.Errorf("a peer that does not answer: got error %v, want ErrConnectionTimeout", err)
						}
						if took := time.Since(start); took > timeout+2*time.Second {
							t.Errorf("the peer that does not answer was noticed %v after a pause", took)
						}
					})
				}
			})
		}
	}
}

// If the process always gets too little time, a dead peer is noticed nevertheless.
func TestConnectionTimeout_of_a_process_that_is_always_late(t *testing.T) {
	const timeout = time.Minute
	for name, fn := range map[string]HandlerFunc{"receiving": receiveAll, "busy": waitForEnd} {
		for _, late := range []time.Duration{900 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
			t.Run(name+"/"+late.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _, _ := newMemoryConn(t, ConnectionTimeout(timeout))
					done := runHandler(c, fn)
					start := time.Now()
					lateTicks(c, late)
					if took := time.Since(start); took > timeout+10*late {
						t.Errorf("a dead peer was noticed after %v, with ticks that are late by %v", took, late)
					}
					wantError(t, <-done, ErrConnectionTimeout)
				})
			})
		}
	}
}

// A write that a pause has interrupted has WriteTimeout again, because it may be about to return. A
// peer that takes nothing afterwards is disconnected.
func TestWriteTimeout_begins_again_after_a_pause_of_the_process(t *testing.T) {
	const timeout, before = 10 * time.Second, time.Second
	for _, pause := range []time.Duration{timeout/2 + before, timeout*9/10 - before, timeout - before, timeout, time.Minute} {
		for _, reads := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, WriteTimeout(timeout), ConnectionTimeout(0), PingInterval(0))
				sent := make(chan error, 1)
				go func() { sent <- c.SendMessage(Binary, make([]byte, 1000)) }()
				time.Sleep(before)
				pauseTimer(c, pause)
				resumed := time.Now()
				if reads {
					time.Sleep(timeout * 9 / 10)
					go readAll(p.Conn)
				}
				err := <-sent
				took := time.Since(resumed)
				if reads && err != nil {
					t.Errorf("got error %v %v after a pause of %v, want none", err, took, pause)
				}
				if !reads && (!errors.Is(err, errTimedOut) || (took < timeout || took > timeout+pingPoll)) {
					t.Errorf("a peer that reads nothing: got error %v %v after a pause of %v, want a timeout after %v", err, took, pause, timeout)
				}
				p.Conn.Close()
				c.CloseNow()
			})
		}
	}
}

// A write that is never finished ends, too, if each tick is late.
func TestWriteTimeout_of_a_process_that_is_always_late(t *testing.T) {
	const timeout, late = 10 * time.Second, 8 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, WriteTimeout(timeout), ConnectionTimeout(0), PingInterval(0))
		sent := make(chan error, 1)
		go func() { sent <- c.SendMessage(Binary, make([]byte, 1000)) }()
		start := time.Now()
		lateTicks(c, late)
		if took := time.Since(start); took > 2*timeout+4*late {
			t.Errorf("the write has ended after %v, with ticks that are late by %v", took, late)
		}
		wantError(t, <-sent, errTimedOut)
		p.Conn.Close()
	})
}

// After a pause of the process in the close handshake, there is time to read the answer that has
// arrived meanwhile.
func TestCloseTimeout_after_a_pause_of_the_process(t *testing.T) {
	closes := map[string]struct {
		by   func(c *Conn) error
		most time.Duration // the latest end if the peer does not answer
	}{
		"Close": {func(c *Conn) error { return c.Close(StatusNormalClosure, "") }, drainTime},
		"SendMessage": {func(c *Conn) error {
			c.SendMessage(Close, []byte(closeBody(StatusNormalClosure, "")))
			if _, _, err := c.ReceiveMessage(); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}, drainTime + 2*pingPoll}, // after a poll, which cannot look because ReceiveMessage does
	}
	for name, tt := range closes {
		for _, answers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the peer answers: %t", name, answers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(3*pingPoll)) // half of it passes before the pause
					closed := make(chan error, 1)
					go func() { closed <- tt.by(c) }()
					p.expectClose(StatusNormalClosure)
					pauseTimer(c, time.Minute)
					resumed := time.Now()
					if answers {
						time.Sleep(drainTime / 2)
						p.send(Close, closeBody(StatusNormalClosure, ""))
						p.Conn.Close()
					}
					err := <-closed
					took := time.Since(resumed)
					if answers && err != nil {
						t.Errorf("got error %v %v after the pause, want none", err, took)
					}
					if !answers && (!errors.Is(err, ErrCloseTimeout) || took < drainTime || took > tt.most) {
						t.Errorf("a peer that does not answer: got error %v %v after the pause, want a timeout after %v", err, took, tt.most)
					}
					c.CloseNow()
				})
			})
		}
	}
}

// When the limit that was late has passed, the tick for it ends the connection, and not a tick for the
// silence.
func TestCloseTimeout_after_a_pause_is_the_only_limit(t *testing.T) {
	k := &keepalive{timeouts: &timeouts{connectionTimeout: 1}}
	for _, by := range []time.Duration{time.Second, never} {
		if k.silentBy(phaseCloseSent, by) == never {
			t.Errorf("silence does not count before a pause, with the limit %v", by)
		}
	}
	k.closeLate = true
	for _, by := range []time.Duration{time.Second, never} {
		if k.silentBy(phaseCloseSent, by) != never {
			t.Errorf("silence counts after a pause, with the limit %v", by)
		}
	}
}

// A close handshake that is never finished ends, too, if each tick is late.
func TestCloseTimeout_of_a_process_that_is_always_late(t *testing.T) {
	const timeout, late = 5 * time.Second, 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, CloseTimeout(timeout))
		start := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- c.Close(StatusNormalClosure, "") }()
		p.expectClose(StatusNormalClosure)
		for c.life.current() != phaseClosed && time.Since(start) < time.Minute {
			lateTick(c, late)
		}
		wantError(t, <-closed, ErrCloseTimeout)
		if took := time.Since(start); took > timeout+2*late+drainTime+3*maxPoll {
			t.Errorf("the close handshake has ended after %v, with ticks that are late by %v", took, late)
		}
	})
}

// A write that begins again after a pause is no sign of life of a peer that takes nothing.
func TestConnectionTimeout_of_a_peer_whose_write_begins_again(t *testing.T) {
	const timeout, before, pause = 20 * time.Second, 14500 * time.Millisecond, 4 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, WriteTimeout(30*time.Second), ConnectionTimeout(timeout), PingInterval(0))
		go c.SendMessage(Binary, make([]byte, 1000)) // the peer reads nothing
		start := time.Now()
		time.Sleep(before) // after half of ConnectionTimeout, and before half of WriteTimeout
		pauseTimer(c, pause)
		<-c.Context().Done()
		if took := time.Since(start); took > timeout+pause+maxPoll {
			t.Errorf("the dead peer was noticed after %v, want %v", took, timeout)
		}
		p.Conn.Close()
		c.CloseNow()
	})
}

// The process is paused again before a tick has seen the pong that the peer has sent after the first
// pause. The second pause is in a silence of its own.
func TestConnectionTimeout_does_not_count_the_second_of_two_pauses(t *testing.T) {
	const timeout, roundTrip, pause = time.Minute, 300 * time.Millisecond, 70 * time.Second
	for name, fn := range map[string]HandlerFunc{"receiving": receiveAll, "busy": waitForEnd} {
		for _, between := range []time.Duration{5 * time.Second, 14 * time.Second, 20 * time.Second} {
			t.Run(fmt.Sprintf("%s/%v", name, between), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _, p := newMemoryConn(t, ConnectionTimeout(timeout))
					done := runHandler(c, fn)
					go answerPings(p, roundTrip)
					p.Conn.Write(clientFrame(true, Text, "hello"))
					for _, before := range []time.Duration{5 * time.Second, between} {
						time.Sleep(before)
						c.timer.alarm.Clear()
						time.Sleep(pause)
						c.ring() // nothing sets the timer between the pause and the tick
					}
					time.Sleep(2 * timeout)
					if err := endOf(c); err != nil {
						t.Errorf("the pauses have ended the connection: %v", err)
					}
					p.Conn.Close()
					<-done
					time.Sleep(roundTrip) // for answerPings
				})
			})
		}
	}
}
