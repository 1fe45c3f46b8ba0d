package websocket

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The time of most reads is not noted. The silence of the peer must nevertheless never be
// reported early, and not late by more than a tenth.
func TestKeepalive_reports_silence_after_the_last_read(t *testing.T) {
	computes(t)
	const timeout = 60 * time.Second
	every := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	tests := []struct {
		name  string
		pings time.Duration
		gap   func(i int) time.Duration // before read i
		reads int
		ticks float64 // at most, for each second of reading
	}{
		{"no read", 0, nil, 0, 0},
		{"one read", 0, every(7 * time.Second), 1, 0},
		{"two reads at once", 0, every(time.Microsecond), 2, 1e6},
		{"pongs", 15 * time.Second, every(15 * time.Second), 50, 1.0 / 15},
		{"a read each 10 s", 0, every(10 * time.Second), 50, 0.04},
		{"a read each second", 0, every(time.Second), 500, 0.2},
		{"a read each second, and pings", 15 * time.Second, every(time.Second), 500, 0.3},
		{"a read each millisecond", 0, every(time.Millisecond), 20000, 0.25},
		{"two reads a minute before the next", 0, func(i int) time.Duration { return time.Duration(i%2) * 59 * time.Second }, 50, 0.1},
		{"reads at odd times", 4 * time.Second, func(i int) time.Duration { return time.Duration(i*i%31) * 777 * time.Millisecond }, 300, 0.6},
		{"one read, and one just before a tick", 10 * time.Second, func(i int) time.Duration { return []time.Duration{1, 9999 * time.Millisecond}[i%2] }, 20, 0.3},
	}
	for _, tt := range tests {
		for _, slow := range []bool{false, true} { // the reads are long after a tick, or right behind one
			t.Run(fmt.Sprintf("%s/after_a_tick=%t", tt.name, slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newTickRecorder(timeouts{connectionTimeout: timeout, pingInterval: tt.pings}, false)
					if slow {
						r.tick()
					}
					last := time.Now()
					for i := range tt.reads {
						time.Sleep(tt.gap(i))
						r.timer.noteRead()
						last = time.Now()
					}
					time.Sleep(3 * timeout)
					r.timer.stop()
					r.timer.waitTicks()
					idle := 12.0 // ticks at most in the time without reads
					if tt.pings > 0 {
						idle += float64(3 * timeout / tt.pings)
					}
					if reading := last.Sub(r.start); float64(r.ticks) > idle+tt.ticks*reading.Seconds() {
						t.Errorf("got %d ticks in %v", r.ticks, reading)
					}
					first := slices.IndexFunc(r.dues, func(do due) bool { return do.limit == silencePassed })
					if first < 0 {
						t.Fatal("silence was not reported")
					}
					silent := r.start.Add(r.times[first]).Sub(last)
					if silent < timeout || silent > timeout+timeout/readPrecision+pingPoll {
						t.Errorf("silence was reported %v after the last read, want %v to %v", silent, timeout, timeout+timeout/readPrecision+pingPoll)
					}
				})
			})
		}
	}
}

// A busy connection without ConnectionTimeout needs no ticks for its reads.
func TestKeepalive_notes_reads_without_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTickRecorder(timeouts{}, false)
		for range 1000 {
			time.Sleep(time.Second)
			r.timer.noteRead()
		}
		r.timer.stop()
		r.timer.waitTicks()
		if r.ticks > 0 {
			t.Errorf("got %d ticks, want none", r.ticks)
		}
	})
}
