package wait

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A recorder notes the times at which an alarm calls it, in seconds after the start.
type recorder struct {
	start time.Time
	mu    sync.Mutex
	calls []time.Duration
}

func (r *recorder) call() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, time.Since(r.start)/time.Second)
}

func TestAlarm_calls_at_its_time(t *testing.T) {
	const (
		clear = -1
		stop  = -2
	)
	// A step happens when at seconds have passed. It sets the alarm to in seconds later,
	// or clears or stops the alarm.
	type step struct{ at, in time.Duration }
	tests := []struct {
		name  string
		steps []step
		want  []time.Duration
	}{
		{"set once", []step{{0, 5}}, []time.Duration{5}},
		{"set to now", []step{{3, 0}}, []time.Duration{3}},
		{"moved to later", []step{{0, 5}, {3, 10}}, []time.Duration{13}},
		{"moved to earlier", []step{{0, 50}, {3, 1}}, []time.Duration{4}},
		{"set again after the call", []step{{0, 5}, {10, 5}}, []time.Duration{5, 15}},
		{"cleared", []step{{0, 5}, {3, clear}}, nil},
		{"cleared before the first Set", []step{{0, clear}, {3, 5}}, []time.Duration{8}},
		{"cleared after the call", []step{{0, 5}, {7, clear}}, []time.Duration{5}},
		{"cleared and set again", []step{{0, 5}, {3, clear}, {20, 5}}, []time.Duration{25}},
		{"stopped", []step{{0, 5}, {3, stop}}, nil},
		{"stopped and set again", []step{{0, 5}, {3, stop}, {4, 5}}, nil},
		{"stopped before the first Set", []step{{0, stop}, {3, 5}}, nil},
		{"stopped twice", []step{{0, 5}, {3, stop}, {4, stop}, {5, clear}}, nil},
		{"never set", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a Alarm
				r := &recorder{start: time.Now()}
				for _, s := range tt.steps {
					time.Sleep(time.Until(r.start.Add(s.at * time.Second)))
					switch s.in {
					case clear:
						a.Clear()
					case stop:
						a.Stop()
					default:
						SetAlarm(&a, s.in*time.Second, r, (*recorder).call)
					}
				}
				time.Sleep(time.Hour)
				a.Stop()
				a.Wait()
				if !slices.Equal(r.calls, tt.want) {
					t.Errorf("got calls at the seconds %v, want %v", r.calls, tt.want)
				}
			})
		})
	}
}

// The function of the keepalive sets its alarm again.
func TestAlarm_can_be_set_by_its_function(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Alarm
		var calls int
		var f func(*int)
		f = func(n *int) {
			if *n++; *n < 5 {
				SetAlarm(&a, time.Second, n, f)
			}
		}
		SetAlarm(&a, time.Second, &calls, f)
		time.Sleep(time.Hour)
		if a.Stop(); calls != 5 {
			t.Errorf("got %d calls, want 5", calls)
		}
	})
}

func TestAlarm_Wait(t *testing.T) {
	sleep := func(d *time.Duration) { time.Sleep(*d) }
	tests := []struct {
		name  string
		calls time.Duration   // how long each call takes
		sets  []time.Duration // when the alarm is set to now
		stop  time.Duration
		want  time.Duration // when Wait returns
	}{
		{"without a call", time.Hour, nil, 5, 5},
		{"for a call that is running", 10 * time.Second, []time.Duration{1}, 5, 11},
		{"for calls that run at the same time", 10 * time.Second, []time.Duration{1, 3}, 5, 13},
		{"after the call has returned", 2 * time.Second, []time.Duration{1}, 5, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a Alarm
				start := time.Now()
				for _, at := range tt.sets {
					time.Sleep(time.Until(start.Add(at * time.Second)))
					SetAlarm(&a, 0, &tt.calls, sleep)
				}
				time.Sleep(time.Until(start.Add(tt.stop * time.Second)))
				a.Stop()
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						a.Wait()
						if got := time.Since(start); got != tt.want*time.Second {
							t.Errorf("Wait returned after %v, want %v", got, tt.want*time.Second)
						}
					})
				}
				wg.Wait()
				a.Wait()
			})
		})
	}
}

// The timer can fire before Stop stops it, and its goroutine can begin after Stop.
func TestAlarm_Stop_prevents_a_call_whose_timer_has_fired(t *testing.T) {
	var a Alarm
	a.Stop()
	a.Do(func() { t.Error("the function was called after Stop") })
	a.Wait()
}

func TestAlarm_Wait_returns_after_a_function_that_calls_Goexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Alarm
		SetAlarm(&a, 0, new(int), func(*int) { runtime.Goexit() })
		synctest.Wait()
		a.Stop()
		a.Wait()
	})
}

// After Stop and Wait, no call is running and none begins, whenever the timer fires.
func TestAlarm_Stop_races_with_the_timer(t *testing.T) {
	for i := range 500 {
		var a Alarm
		var calls atomic.Int32
		SetAlarm(&a, time.Duration(i%50)*time.Microsecond, &calls, func(n *atomic.Int32) {
			n.Add(1)
			runtime.Gosched()
			n.Add(1)
		})
		for range i % 7 {
			runtime.Gosched()
		}
		a.Stop()
		a.Wait()
		before := calls.Load()
		runtime.Gosched()
		if after := calls.Load(); before%2 != 0 || after != before {
			t.Fatalf("the function had made %d steps after Wait, then %d, want 2 for each call", before, after)
		}
	}
}

func TestAlarm_survives_races(t *testing.T) {
	var a Alarm
	var calls atomic.Int32
	var f func(*atomic.Int32)
	f = func(n *atomic.Int32) {
		n.Add(1)
		SetAlarm(&a, time.Microsecond, n, f)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				SetAlarm(&a, time.Duration(i)*10*time.Microsecond, &calls, f)
				if i == 3 {
					a.Clear()
				}
			}
		})
	}
	wg.Wait()
	SetAlarm(&a, 0, &calls, f)
	for calls.Load() == 0 {
		runtime.Gosched()
	}
	a.Stop()
	a.Wait()
	last := calls.Load()
	SetAlarm(&a, 0, &calls, f)
	time.Sleep(time.Millisecond)
	a.Wait()
	if got := calls.Load(); got != last {
		t.Errorf("got %d calls after Stop, want none", got-last)
	}
}

func TestAlarm_allocates_only_in_the_first_Set(t *testing.T) {
	var a Alarm
	defer a.Stop()
	r := new(recorder)
	SetAlarm(&a, time.Hour, r, (*recorder).call)
	if got := testing.AllocsPerRun(100, func() {
		SetAlarm(&a, time.Hour, r, (*recorder).call)
		a.Clear()
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func BenchmarkAlarm(b *testing.B) {
	var a Alarm
	defer a.Stop()
	r := new(recorder)
	b.ReportAllocs()
	for b.Loop() {
		SetAlarm(&a, time.Hour, r, (*recorder).call)
		a.Clear()
	}
}

func TestAlarm_Wait_waits_for_Go(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Alarm
		start := time.Now()
		if !a.Go(func() { time.Sleep(time.Hour) }) {
			t.Error("Go returned false before Stop")
		}
		a.Stop()
		a.Wait()
		if got := time.Since(start); got != time.Hour {
			t.Errorf("Wait returned after %v, want %v", got, time.Hour)
		}
		if a.Go(func() { t.Error("Go called its function after Stop") }) {
			t.Error("Go returned true after Stop")
		}
		synctest.Wait()
	})
}

func TestAlarm_Start(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Alarm
		r := &recorder{start: time.Now()}
		if a.Reset(time.Second) {
			t.Error("Reset before Start reported a timer")
		}
		a.Start(5*time.Second, func() { a.Do(r.call) })
		a.Reset(3 * time.Second)
		time.Sleep(10 * time.Second)
		a.Reset(time.Second)
		time.Sleep(10 * time.Second)
		a.Stop()
		if a.Reset(time.Second) {
			t.Error("Reset after Stop reported a timer")
		}
		time.Sleep(10 * time.Second)
		a.Wait()
		if want := []time.Duration{3, 11}; !slices.Equal(r.calls, want) {
			t.Errorf("got calls at the seconds %v, want %v", r.calls, want)
		}
	})
}
