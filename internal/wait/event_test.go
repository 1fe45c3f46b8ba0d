package wait

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEvent_wakes_every_waiting_goroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Event
		start := time.Now()
		time.AfterFunc(time.Hour, e.Set)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				e.Wait()
				if got := time.Since(start); got != time.Hour {
					t.Errorf("waited for %v, want %v", got, time.Hour)
				}
			})
		}
		synctest.Wait()
		if e.IsSet() {
			t.Error("the event is set before the call of Set")
		}
		wg.Wait()
		if !e.IsSet() {
			t.Error("the event is not set after the call of Set")
		}
	})
}

func TestEvent_Wait_returns_at_once_after_Set(t *testing.T) {
	var e Event
	e.Set()
	e.Wait()
	e.Wait()
	if !e.IsSet() {
		t.Error("the event is not set after the call of Set")
	}
}

func TestEvent_can_be_set_twice(t *testing.T) {
	for _, waited := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var e Event
			if waited {
				go e.Wait()
				synctest.Wait()
			}
			e.Set()
			e.Set()
			e.Wait()
			if !e.IsSet() {
				t.Error("the event is not set after two calls of Set")
			}
		})
	}
}

func TestEvent_survives_races(t *testing.T) {
	for range 1000 {
		var e Event
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(e.Wait)
			wg.Go(e.Set)
		}
		wg.Wait()
		if !e.IsSet() {
			t.Fatal("the event is not set")
		}
	}
}

func TestEvent_makes_a_channel_only_for_a_waiting_goroutine(t *testing.T) {
	events := make([]Event, 0, 101) // one for each run, and one for the warm-up
	if got := testing.AllocsPerRun(100, func() {
		events = append(events, Event{})
		e := &events[len(events)-1]
		e.Set()
		e.Wait()
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
