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
