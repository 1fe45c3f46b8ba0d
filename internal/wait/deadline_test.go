package wait

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadline_passes_at_its_time(t *testing.T) {
	const unset = -1
	// A step happens when at seconds have passed. It sets the deadline to in seconds
	// later, or clears it.
	type step struct{ at, in time.Duration }
	tests := []struct {
		name  string
		steps []step
		want  time.Duration
	}{
		{"set before Done", []step{{0, 5}}, 5},
		{"set after Done", []step{{2, 5}}, 7},
		{"extended", []step{{0, 5}, {3, 10}}, 13},
		{"shortened", []step{{0, 50}, {3, 1}}, 4},
		{"in the past", []step{{0, 50}, {3, -5}}, 3},
		{"now", []step{{3, 0}}, 3},
		{"cleared", []step{{0, 5}, {3, unset}}, unset},
		{"cleared and set again", []step{{0, 5}, {3, unset}, {20, 5}}, 25},
		{"never set", nil, unset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d Deadline
				start := time.Now()
				for _, s := range tt.steps {
					at := start.Add(s.at * time.Second)
					time.AfterFunc(time.Until(at), func() {
						if s.in == unset {
							d.Set(time.Time{})
						} else {
							d.Set(time.Now().Add(s.in * time.Second))
						}
					})
				}
				got := time.Duration(unset)
				select {
				case <-d.Done():
					got = time.Since(start) / time.Second
				case <-time.After(time.Hour):
				}
				if got != tt.want {
					t.Errorf("passed after %d s, want %d", got, tt.want)
				}
			})
		})
	}
}

func TestDeadline_can_be_set_after_it_has_passed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Deadline
		d.Set(time.Now().Add(-time.Second))
		<-d.Done()
		<-d.Done()
		d.Set(time.Now().Add(time.Second))
		select {
		case <-d.Done():
			t.Error("the deadline in a second has passed already")
		default:
		}
		start := time.Now()
		<-d.Done()
		if got := time.Since(start); got != time.Second {
			t.Errorf("passed after %v, want 1s", got)
		}
		d.Set(time.Now().Add(-time.Second))
		<-d.Done()
	})
}

// The timer may have fired already when the deadline moves.
func TestDeadline_timer_races_with_Set(t *testing.T) {
	for range 200 {
		var d Deadline
		d.Set(time.Now().Add(50 * time.Microsecond))
		expired := d.Done()
		var wg sync.WaitGroup
		wg.Go(func() { d.Set(time.Now().Add(time.Hour)) })
		wg.Go(d.fire)
		wg.Wait()
		select {
		case <-expired: // before Set moved the deadline
			expired = d.Done()
		default:
		}
		select {
		case <-expired:
			t.Fatal("the deadline in an hour has passed")
		default:
		}
		d.Set(time.Time{})
	}
}

func TestDeadline_makes_a_timer_only_for_a_waiting_goroutine(t *testing.T) {
	var d Deadline
	d.Set(time.Now().Add(time.Hour))
	if d.timer != nil || d.done != nil {
		t.Error("a timer or a channel was made without a call of Done")
	}
}
