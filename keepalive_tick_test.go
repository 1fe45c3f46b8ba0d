package websocket

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A tickRecorder is a keepalive without a connection. It notes the due work and its times.
type tickRecorder struct {
	core
	start time.Time
	mu    sync.Mutex // guards the following: ticks may overlap
	times []time.Duration
	dues  []due
	ticks int
	stuck bool // polls do not end
	busy  bool // no method is receiving
	acks  bool // record the steps of ackStep, too
}

// newTickRecorder returns the keepalive of a connection on which a method is receiving.
func newTickRecorder(t timeouts, stuck bool) *tickRecorder {
	r := &tickRecorder{start: time.Now(), stuck: stuck}
	r.out.acksTold = acksUnknown
	r.run(&t)
	r.timer.pollAt = never
	r.timer.schedule()
	return r
}

// run starts the keepalive.
func (r *tickRecorder) run(t *timeouts) {
	r.life.by = never
	r.timer.start(&r.core, t, func() { r.timer.alarm.Do(r.tick) })
}

func (r *tickRecorder) tick() {
	do := r.timer.tick()
	do.idlePolls = 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.acks {
		do.acks, do.write = 0, writeStep{}
	}
	r.ticks++
	if do != (due{}) {
		r.times = append(r.times, time.Since(r.start))
		r.dues = append(r.dues, do)
	}
	if do.poll && !r.stuck {
		r.timer.pollEnded(clock(), !r.busy)
	}
}

// recordAcks lets the recorder keep the steps of ackStep, too.
func (r *tickRecorder) recordAcks() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = true
}

func TestKeepalive_tick_reports_the_due_work(t *testing.T) {
	const s = time.Second
	ping, poll := due{ping: true}, due{poll: true}
	tests := []struct {
		name  string
		t     timeouts
		begin func(r *tickRecorder)
		times []time.Duration
		dues  []due
	}{
		{"pings", timeouts{pingInterval: 10 * s}, func(*tickRecorder) {},
			[]time.Duration{10 * s, 20 * s, 30 * s}, []due{ping, ping, ping}},
		{"a poll, and then silence", timeouts{connectionTimeout: 10 * s}, func(*tickRecorder) {},
			[]time.Duration{10 * s, 10*s + pingPoll}, []due{poll, {limit: silencePassed}}},
		{"silence, if the poll does not end", timeouts{connectionTimeout: 10 * s}, func(*tickRecorder) {},
			[]time.Duration{10 * s, 10*s + maxPoll}, []due{poll, {limit: silencePassed}}},
		{"no silence if the poll reads something", timeouts{connectionTimeout: 20 * s}, func(r *tickRecorder) {
			time.AfterFunc(20*s+pingPoll/2, r.timer.noteRead)
		}, []time.Duration{20 * s}, []due{poll}},
		{"a write that takes too long", timeouts{writeTimeout: 10 * s}, func(r *tickRecorder) {
			time.AfterFunc(5*s, func() { r.timer.beginWrite() })
		}, []time.Duration{15 * s}, []due{{limit: writePassed}}},
		{"nothing for a write that ends in time", timeouts{writeTimeout: 10 * s}, func(r *tickRecorder) {
			time.AfterFunc(5*s, func() { r.timer.beginWrite() })
			time.AfterFunc(14*s, func() { r.timer.endWrite() })
		}, nil, nil},
		{"each piece of a write has the time of a write", timeouts{writeTimeout: 10 * s}, func(r *tickRecorder) {
			began := clock()
			r.timer.beginWrite()
			time.AfterFunc(9*s, func() { progress{&r.timer, began}.report() })
			time.AfterFunc(18*s, func() { progress{&r.timer, began}.report() })
		}, []time.Duration{28 * s}, []due{{limit: writePassed}}},
		{"a piece of a write that had to wait is a sign of life", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.timer.beginWrite()
			time.AfterFunc(9*s, func() { progress{&r.timer, clock() - 9*s}.report() })
		}, []time.Duration{19 * s}, []due{poll}},
		{"a write for which there was room is not a sign of life", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			time.AfterFunc(9*s, func() { r.timer.beginWrite(); progress{&r.timer, clock()}.report(); r.timer.endWrite() })
		}, []time.Duration{10 * s}, []due{poll}},
		{"what the peer has acknowledged, before silence", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) { r.recordAcks() },
			[]time.Duration{5 * s, 10 * s, 10*s + pingPoll}, []due{{acks: noteAcks}, {poll: true, acks: compareAcks}, {limit: silencePassed}}},
		{"it again, after a sign of life", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.recordAcks()
			time.AfterFunc(10*s+pingPoll/2, func() { r.timer.noteAlive(0) })
		}, []time.Duration{5 * s, 10 * s, 15*s + pingPoll/2}, []due{{acks: noteAcks}, {poll: true, acks: compareAcks}, {acks: noteAcks}}},
		{"it again, after a message, because no tick may follow that", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.recordAcks()
			time.AfterFunc(6*s, func() { r.timer.noteRead(); r.timer.noteReceived(); r.timer.noteReading() })
		}, []time.Duration{5 * s, 11 * s, 16 * s}, []due{{acks: noteAcks}, {acks: noteAcks}, {poll: true, acks: compareAcks}}},
		{"it not, if the peer answers pings", timeouts{connectionTimeout: 40 * s, pingInterval: 10 * s}, func(r *tickRecorder) {
			r.recordAcks()
			for i := range 4 {
				time.AfterFunc(time.Duration(i)*10*s+s, r.timer.noteRead)
			}
		}, []time.Duration{10 * s, 20 * s, 30 * s}, []due{ping, ping, ping}},
		{"a piece of a write is no sign of life if the kernel tells more", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.out.acksTold = acksKnown
			r.timer.beginWrite()
			time.AfterFunc(9*s, func() { progress{&r.timer, clock() - 9*s}.report() })
		}, []time.Duration{10 * s}, []due{poll}},
		{"an unanswered close frame, after a poll", timeouts{}, func(r *tickRecorder) {
			r.timer.enter(phaseCloseSent, nil, 10*s)
		}, []time.Duration{10 * s, 10*s + pingPoll}, []due{poll, {limit: phasePassed}}},
		{"a phase that takes too long", timeouts{pingInterval: s}, func(r *tickRecorder) {
			r.timer.enter(phaseFailing, errCause, 10*s)
		}, []time.Duration{10 * s}, []due{{limit: phasePassed}}},
		{"a limit that was moved", timeouts{}, func(r *tickRecorder) {
			r.timer.enter(phaseLost, errCause, 5*s)
			time.AfterFunc(2*s, func() { r.timer.bound(phaseLost, 10*s) })
		}, []time.Duration{12 * s}, []due{{limit: phasePassed}}},
		{"no silence while the connection closes within a limit", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.timer.enter(phaseClosing, errCause, 25*s)
		}, []time.Duration{25 * s}, []due{{limit: phasePassed}}},
		{"silence if the connection closes without a limit", timeouts{connectionTimeout: 10 * s}, func(r *tickRecorder) {
			r.timer.enter(phaseClosing, errCause, 0)
		}, []time.Duration{10 * s, 10*s + pingPoll}, []due{poll, {limit: silencePassed}}},
		{"nothing without limits", timeouts{}, func(*tickRecorder) {}, nil, nil},
		{"nothing after stop", timeouts{pingInterval: s}, func(r *tickRecorder) { r.timer.stop() }, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTickRecorder(tt.t, strings.Contains(tt.name, "does not end"))
				tt.begin(r)
				time.Sleep(39 * s)
				r.timer.stop()
				r.timer.waitTicks()
				if len(r.dues) > len(tt.dues) && tt.dues != nil { // without the repetitions
					r.dues, r.times = r.dues[:len(tt.dues)], r.times[:len(tt.dues)]
				}
				if !slices.Equal(r.dues, tt.dues) || !slices.Equal(r.times, tt.times) {
					t.Errorf("got %+v at %v, want %+v at %v", r.dues, r.times, tt.dues, tt.times)
				}
			})
		})
	}
}

// A tick only compares times with the clock. So a tick that comes early or twice does
// nothing.
func TestKeepalive_tick_may_come_at_any_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{pingInterval: 10 * time.Second, connectionTimeout: 25 * time.Second}, false)
		for range 100 {
			time.Sleep(99 * time.Millisecond)
			r.tick()
		}
		if len(r.dues) != 0 {
			t.Errorf("got due work %+v before the first limit", r.dues)
		}
		r.timer.stop()
	})
}

// The keepalive polls a silent socket and may have to write there: a pong, or frames
// that are pending. The timer is set again before that, so WriteTimeout limits it.
func TestKeepalive_limits_its_own_writes(t *testing.T) {
	for name, wire := range map[string][]byte{
		"pending frames":              messageBurst(2, "question"),
		"pending frames, then a pong": append(messageBurst(2, "question"), clientFrame(true, Ping, "ping")...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(time.Second), WriteTimeout(time.Second))
				start := time.Now()
				go p.Write(wire)
				_, _, err := c.ReceiveMessage()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second - 50*time.Microsecond) // the poll comes before the flush timer
				c.SendMessage(Text, []byte("pending"))        // fails if the pong is in its way
				<-c.Context().Done()                          // because the peer reads nothing
				if took := time.Since(start); took > 2*time.Second+2*pingPoll {
					t.Errorf("the end took %v, want WriteTimeout", took)
				}
				if err := endOf(c); !errors.Is(err, errTimedOut) && !errors.Is(err, ErrConnectionTimeout) {
					t.Errorf("got error %v, want that of WriteTimeout or ConnectionTimeout", err)
				}
				p.Conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// While a method is receiving, nothing wakes the process between two pings. Otherwise one
// poll a second does. After a message, the method that receives the next one cancels the poll, but
// only once between two ticks.
func TestKeepalive_polls_once_a_second(t *testing.T) {
	computes(t)
	tests := []struct {
		name     string
		ping     time.Duration
		busy     bool
		receives time.Duration // how often a receiving call returns
		again    bool          // another call begins
		most     int           // ticks in an hour
	}{
		{"not while a method is receiving", 0, false, 0, false, 0},
		{"while none is", 0, true, 0, false, 3600},
		{"once after a message", 0, false, time.Minute, false, 60},
		{"twice in a second with messages", 0, true, 100 * time.Millisecond, false, 7200},
		{"less often with messages for a method", 0, false, 100 * time.Millisecond, true, 5600},
		{"after every other message for a method", 0, false, time.Minute, true, 30},
		{"not after a message for a method that follows a ping", 15 * time.Second, false, 60001 * time.Millisecond, true, 240},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTickRecorder(timeouts{pingInterval: tt.ping}, false)
				r.busy = tt.busy
				if tt.busy {
					r.timer.noteReceived()
				}
				for start := time.Now(); time.Since(start) < time.Hour; {
					if tt.receives == 0 {
						time.Sleep(time.Hour)
						break
					}
					time.Sleep(tt.receives)
					r.timer.noteReceived()
					if tt.again {
						r.timer.noteReading()
					}
				}
				r.timer.stop()
				r.timer.waitTicks()
				if r.ticks > tt.most+1 || r.ticks < tt.most*9/10 {
					t.Errorf("got %d ticks in an hour, want %d", r.ticks, tt.most)
				}
			})
		})
	}
}

// An older sign of life does not replace a later one.
func TestNoteAlive_keeps_the_later_sign_of_life(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		time.Sleep(time.Minute)
		for _, tt := range []struct{ ago, want time.Duration }{{30 * time.Second, 30 * time.Second}, {10 * time.Second, 10 * time.Second}, {20 * time.Second, 10 * time.Second}} {
			c.timer.noteAlive(tt.ago)
			if got := clock() - time.Duration(c.timer.lastAlive.Load()); got != tt.want {
				t.Errorf("after a sign of life %v ago: the last one was %v ago, want %v", tt.ago, got, tt.want)
			}
		}
		p.Conn.Close()
		c.CloseNow()
	})
}
