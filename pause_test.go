package websocket

import (
	"errors"
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
	handlers := map[string]HandlerFunc{"receiving": receiveAll, "busy": waitForEnd}
	for name, fn := range handlers {
		for _, pause := range []time.Duration{leastPause, 50 * time.Second, timeout, timeout + time.Second, 10 * time.Minute} {
			t.Run(name+"/"+pause.String(), func(t *testing.T) {
				for _, before := range []time.Duration{5 * time.Second, 15*time.Second + roundTrip/2, 29 * time.Second} {
					synctest.Test(t, func(t *testing.T) {
						c, _, p := newMemoryConn(t, ConnectionTimeout(timeout))
						done := runHandler(c, fn)
						go answerPings(p, roundTrip)
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
						if took := time.Since(start); took > timeout+timeout/10+2*time.Second {
							t.Errorf("the peer that does not answer was noticed %v after a pause", took)
						}
					})
				}
			})
		}
	}
}

// A tick that is only a little late changes no limit.
func TestConnectionTimeout_counts_a_short_delay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{connectionTimeout: 10 * time.Second}, false)
		time.Sleep(time.Second)
		before := r.timer.lastRead.Load()
		r.timer.alarmAt.Store(int64(clock() - leastPause + 1))
		r.timer.tick()
		if r.timer.lastRead.Load() != before {
			t.Error("the delay does not count as silence")
		}
		r.timer.stop()
		r.timer.waitTicks()
	})
}

// A pause is no part of a write either, but a peer that takes nothing afterwards is disconnected.
func TestWriteTimeout_does_not_count_a_pause_of_the_process(t *testing.T) {
	const timeout, pause = 10 * time.Second, time.Minute
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, WriteTimeout(timeout), ConnectionTimeout(0), PingInterval(0))
			sent := make(chan error, 1)
			go func() { sent <- c.SendMessage(Binary, make([]byte, 1000)) }()
			time.Sleep(time.Second)
			pauseTimer(c, pause)
			resumed := time.Now()
			if reads {
				time.Sleep(timeout / 4) // half of WriteTimeout may be over: when the tick was due
				go readAll(p.Conn)
			}
			err := <-sent
			took := time.Since(resumed)
			if reads && err != nil {
				t.Errorf("got error %v %v after the pause, want none", err, took)
			}
			if !reads && (!errors.Is(err, errTimedOut) || took > timeout) {
				t.Errorf("a peer that reads nothing: got error %v %v after the pause, want a timeout", err, took)
			}
			p.Conn.Close()
			c.CloseNow()
		})
	}
}
