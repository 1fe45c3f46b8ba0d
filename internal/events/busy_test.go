package events

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A busy Runner always has more to do while it is on, in short runs.
type busy struct {
	echoer
	on atomic.Bool
}

func (r *busy) Run(b *Budget) Result {
	for r.on.Load() {
		for began := time.Now(); time.Since(began) < 100*time.Microsecond; {
		}
		if b.Spend(workBudget) {
			return More
		}
	}
	return r.echoer.Run(b)
}

// The queue of the loop is never empty while two sources always have more. A worker looks for the
// events of others nevertheless.
func TestLoop_looks_for_events_beside_busy_sources(t *testing.T) {
	var busies [2]*busy
	var peers [2]net.Conn
	var begin atomic.Bool
	z, peer := watched(t, func(*echoer) {
		if begin.Swap(false) { // both events come while the worker runs this source
			for i, r := range busies {
				r.on.Store(true)
				peers[i].Write([]byte{1})
			}
			for began := time.Now(); time.Since(began) < 200*time.Microsecond; {
			}
		}
	})
	for i := range busies {
		busies[i] = new(busy)
		peers[i] = watch(t, &busies[i].echoer, busies[i])
	}
	late := 0
	for range 5 {
		time.Sleep(2 * monitorTime)
		z.loop.careful.Store(0) // the workers are trusted
		n := z.got.Load()
		begin.Store(true)
		peer.Write([]byte{1})
		arrives(t, z, n+1)
		time.Sleep(monitorTime / 2)
		began := time.Now()
		peer.Write([]byte{1})
		arrives(t, z, n+2)
		took := time.Since(began)
		for _, r := range busies {
			r.on.Store(false)
		}
		if took > 4*monitorTime {
			t.Logf("an event waited for %v", took)
			late++
		}
	}
	if late > 2 { // one may be late because of other load
		t.Errorf("%d of 5 events were late", late)
	}
}

// A run is short if it takes no longer than its work explains.
func TestLoop_short_runs(t *testing.T) {
	tests := []struct {
		name  string
		took  time.Duration
		work  int
		short bool
	}{
		{"no time and no work", 0, 0, true},
		{"one message in 10 µs", 10 * time.Microsecond, 300, true},
		{"one message in 400 µs, because the runner waits for a database", 400 * time.Microsecond, 300, false},
		{"one message in 100 ms", 100 * time.Millisecond, 300, false},
		{"200 small messages in 200 µs", 200 * time.Microsecond, 200 * 272, true},
		{"200 small messages in 2 ms", 2 * time.Millisecond, 200 * 272, false},
		{"a large message in 200 µs", 200 * time.Microsecond, 64 << 10, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoopForTest(t)
			l.careful.Store(1)
			l.noteRun(tt.took, tt.work)
			if short := l.careful.Load() == 0; short != tt.short {
				t.Errorf("the run counts as short: %t, want %t", short, tt.short)
			}
		})
	}
}
