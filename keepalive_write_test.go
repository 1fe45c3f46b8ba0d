package websocket

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The time of most writes is not noted. A write that takes WriteTimeout must nevertheless never be
// reported early, and not late by more than a tenth.
func TestKeepalive_reports_a_write_that_takes_too_long(t *testing.T) {
	t.Parallel()
	const timeout = 60 * time.Second
	tests := []struct {
		name   string
		pings  time.Duration
		gap    time.Duration // before each write
		writes int           // before the one that takes too long
		ticks  float64       // at most, for each second of writing
	}{
		{"the first write", 0, 0, 0, 0},
		{"after as many as are timed", 0, time.Microsecond, int(manyWrites / oneWrite), 1e6},
		{"after one less", 0, time.Microsecond, int(manyWrites/oneWrite - 1), 1e6},
		{"after a write each millisecond", 0, time.Millisecond, 30_000, 0.2},
		{"after a write each 100 ms", 0, 100 * time.Millisecond, 1001, 0.2},
		{"after a write each second", 0, time.Second, 1000, 0.035},
		{"after a write each 10 s", 0, 10 * time.Second, 100, 0.035},
		{"after a write each second, and pings", 15 * time.Second, time.Second, 1000, 0.07},
		{"after a write each millisecond, and pings", 15 * time.Second, time.Millisecond, 30_000, 0.3},
	}
	for _, tt := range tests {
		for delay := range 4 { // the late write begins at another time since the last tick
			t.Run(fmt.Sprintf("%s/%d", tt.name, delay), func(t *testing.T) {
				computes(t)
				synctest.Test(t, func(t *testing.T) {
					r := newTickRecorder(timeouts{writeTimeout: timeout, pingInterval: tt.pings}, false)
					for range tt.writes {
						time.Sleep(tt.gap)
						r.timer.beginWrite()
						r.timer.endWrite()
					}
					r.mu.Lock()
					if writing := time.Since(r.start); float64(r.ticks) > 2+tt.ticks*writing.Seconds() {
						t.Errorf("got %d ticks in %v", r.ticks, writing)
					}
					r.mu.Unlock()
					time.Sleep(time.Duration(delay) * timeout / 30)
					began := time.Now()
					r.timer.beginWrite()
					time.Sleep(3 * timeout)
					r.timer.stop()
					r.timer.waitTicks()
					first := slices.IndexFunc(r.dues, func(do due) bool { return do.limit == writePassed })
					if first < 0 {
						t.Fatal("the write was not reported")
					}
					took := r.start.Add(r.times[first]).Sub(began)
					if took < timeout || took > timeout+timeout/writePrecision {
						t.Errorf("the write was reported after %v, want %v to %v", took, timeout, timeout+timeout/writePrecision)
					}
				})
			})
		}
	}
}

// No write is reported while each of them ends in time, however many there are.
func TestKeepalive_reports_no_write_that_ends_in_time(t *testing.T) {
	const timeout = 10 * time.Second
	for _, longest := range []time.Duration{time.Millisecond, timeout / 2, timeout - 1} {
		t.Run(longest.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTickRecorder(timeouts{writeTimeout: timeout}, false)
				for i := range 2000 {
					r.timer.beginWrite()
					if i%100 == 99 {
						time.Sleep(longest)
					}
					r.timer.endWrite()
					time.Sleep(time.Millisecond)
				}
				r.timer.stop()
				r.timer.waitTicks()
				if slices.ContainsFunc(r.dues, func(do due) bool { return do.limit == writePassed }) {
					t.Error("a write was reported")
				}
			})
		})
	}
}

// A busy connection without WriteTimeout needs no ticks for its writes.
func TestKeepalive_times_writes_without_WriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{}, false)
		for range 1000 {
			time.Sleep(time.Second)
			r.timer.beginWrite()
			if time.Duration(r.timer.writing.Load()) <= settling {
				t.Fatal("the write has no time")
			}
			r.timer.endWrite()
		}
		r.timer.stop()
		r.timer.waitTicks()
		if r.ticks > 0 {
			t.Errorf("got %d ticks, want none", r.ticks)
		}
	})
}

// A tick that meets a write gives it a time, unless that write has ended or has its own.
func TestKeepalive_settles_writes(t *testing.T) {
	for name, tt := range map[string]struct {
		writing  time.Duration
		hasOwn   bool
		becoming bool // a time
	}{
		"no write":                    {noTime, false, false},
		"a timed write":               {5, true, true},
		"an untimed write":            {untimed, false, true},
		"a write of a tick meanwhile": {settling, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var k keepalive
			k.writing.Store(int64(tt.writing))
			before := clock()
			k.settleWrites()
			switch got := time.Duration(k.writing.Load()); {
			case tt.hasOwn && got != tt.writing:
				t.Errorf("a write that began at %v has the time %v", tt.writing, got)
			case !tt.hasOwn && tt.becoming && got < before:
				t.Errorf("the write has the time %v, before the tick at %v", got, before)
			case !tt.becoming && got != tt.writing:
				t.Errorf("%v became %v", tt.writing, got)
			}
		})
	}
}

// A peer may take many small messages at a time, then none for seconds, and send nothing. If the
// library does not know the kind of socket, only the writes show that the peer reads, although few
// of them are timed.
func TestConnectionTimeout_of_a_peer_that_reads_many_small_frames_at_a_time(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{3037, 4099, 5303, 6701, 8303, 11311, 17299} { // primes, so that no burst coincides with a tick
		pause *= time.Millisecond
		t.Run(pause.String(), func(t *testing.T) {
			computes(t)
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				c := newTestConn(server, nil)
				go receiveAll(c)
				var reader sync.WaitGroup
				reader.Go(func() {
					frames := make([]byte, 100*(2+10))
					for {
						if _, err := io.ReadFull(client, frames); err != nil {
							return
						}
						time.Sleep(pause)
					}
				})
				start := time.Now()
				for time.Since(start) < 10*time.Minute && c.SendMessage(Binary, make([]byte, 10)) == nil {
				}
				if end := endOf(c); end != nil {
					t.Errorf("the connection ended after %v: %v", time.Since(start), end)
				}
				client.Close()
				c.Close(1000, "")
				reader.Wait()
			})
		})
	}
}

// The search for a peer that reads slowly looks at a write only when it is known whether that write
// waits. An untimed write has the time of the tick.
func TestKeepalive_notes_acks_of_an_untimed_write(t *testing.T) {
	computes(t)
	const timeout = time.Minute
	for name, tt := range map[string]struct {
		writes int           // before the one in progress
		noted  time.Duration // after the last sign of life
	}{
		"timed":   {0, timeout / 2},
		"untimed": {100, timeout/2 + blockedTime},
	} { // the write begins 5 s before half of the timeout
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTickRecorder(timeouts{connectionTimeout: timeout, writeTimeout: timeout}, false)
				r.recordAcks()
				time.Sleep(25 * time.Second)
				for range tt.writes {
					r.timer.beginWrite()
					r.timer.endWrite()
				}
				r.timer.beginWrite()
				time.Sleep(tt.noted - 25*time.Second)
				synctest.Wait()
				if !r.timer.taken().Waits {
					t.Error("the write does not count as waiting")
				}
				time.Sleep(timeout)
				r.timer.stop()
				r.timer.waitTicks()
				first := slices.IndexFunc(r.dues, func(do due) bool { return do.acks == noteAcks })
				if first < 0 || r.times[first] != tt.noted {
					t.Errorf("got %v at %v, want noteAcks at %v", r.dues, r.times, tt.noted)
				}
			})
		})
	}
	t.Run("untimed each time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newTickRecorder(timeouts{connectionTimeout: timeout, writeTimeout: timeout}, false)
			r.recordAcks()
			for time.Since(r.start) < timeout {
				for range 100 {
					r.timer.beginWrite()
					r.timer.endWrite()
				}
				r.timer.beginWrite()
				time.Sleep(time.Millisecond)
				r.timer.endWrite()
			}
			r.timer.stop()
			r.timer.waitTicks()
			first := slices.IndexFunc(r.dues, func(do due) bool { return do.acks == noteAcks })
			if first < 0 || r.times[first] > timeout*3/4 {
				t.Errorf("noteAcks was due at %v, want it after three quarters of the timeout at the latest", r.times)
			}
		})
	})
}

// An alarm that is due, but whose tick has not begun, is not put off.
func TestKeepalive_does_not_put_off_a_look_at_writes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{writeTimeout: time.Minute}, false)
		for range 100 {
			r.timer.beginWrite()
			r.timer.endWrite()
		}
		due := clock() - time.Second
		r.timer.alarmAt.Store(int64(due))
		r.timer.schedule()
		if at := time.Duration(r.timer.alarmAt.Load()); at > due {
			t.Errorf("the alarm is put off by %v", at-due)
		}
		r.timer.stop()
		r.timer.waitTicks()
	})
}
