package wait

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLock_excludes_and_wakes_every_goroutine(t *testing.T) {
	const goroutines, rounds = 32, 300
	var l Lock
	var wg sync.WaitGroup
	held := 0 // the race detector reports two goroutines that hold the lock
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				l.Lock()
				held++
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if held != goroutines*rounds {
		t.Errorf("got %d turns, want %d", held, goroutines*rounds)
	}
	if !l.TryLock() {
		t.Error("the lock is held after every goroutine has unlocked it")
	}
}

// TryLock can take the lock after Unlock and before the goroutine that Unlock wakes.
func TestLock_waiting_goroutines_survive_TryLock(t *testing.T) {
	const goroutines, rounds = 8, 500
	var l Lock
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var trying sync.WaitGroup
	turns := 0
	for range 4 {
		trying.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if l.TryLock() {
					l.Unlock()
				}
			}
		})
	}
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				l.Lock()
				turns++
				l.Unlock()
			}
		})
	}
	wg.Wait()
	close(stop)
	trying.Wait()
	if turns != goroutines*rounds {
		t.Errorf("got %d turns, want %d", turns, goroutines*rounds)
	}
}

func TestLock_TryLock(t *testing.T) {
	var l Lock
	if !l.TryLock() {
		t.Fatal("the zero lock is not free")
	}
	if l.TryLock() {
		t.Fatal("a held lock was taken")
	}
	l.Unlock()
	if !l.TryLock() {
		t.Fatal("an unlocked lock is not free")
	}
}

// With a sync.Mutex, the clock of the bubble would stop, and so would this test.
func TestLock_waiting_lets_fake_time_pass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lock
		start := time.Now()
		l.Lock()
		time.AfterFunc(time.Hour, l.Unlock)
		l.Lock()
		if got := time.Since(start); got != time.Hour {
			t.Errorf("got the lock after %v, want %v", got, time.Hour)
		}
	})
}

func TestLock_wakes_one_goroutine_after_the_other(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lock
		var turns []int
		l.Lock()
		for i := range 5 {
			go func() {
				l.Lock()
				turns = append(turns, i)
				l.Unlock()
			}()
		}
		synctest.Wait()
		if len(turns) != 0 {
			t.Fatalf("got turns %v while the lock was held", turns)
		}
		l.Unlock()
		synctest.Wait()
		if len(turns) != 5 {
			t.Errorf("got turns %v, want all five: a goroutine was not woken", turns)
		}
	})
}

func TestLockUnless(t *testing.T) {
	never := make(chan struct{})
	closed := make(chan struct{})
	close(closed)
	tests := []struct {
		name string
		held time.Duration // how long the lock is held
		a, b time.Duration // when the channels are closed, 0 for nil
		want bool
		took time.Duration
	}{
		{"waits for the lock", 5, 0, 0, true, 5},
		{"waits with channels that stay open", 5, 10, 10, true, 5},
		{"gives up with the first channel", 5, 3, 10, false, 3},
		{"gives up with the second channel", 5, 10, 3, false, 3},
		{"gives up with the only channel", 5, 0, 3, false, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l Lock
				l.Lock()
				time.AfterFunc(tt.held*time.Second, l.Unlock)
				start := time.Now()
				got := l.LockUnless(closedIn(tt.a*time.Second), closedIn(tt.b*time.Second))
				if took := time.Since(start); got != tt.want || took != tt.took*time.Second {
					t.Errorf("got %v after %v, want %v after %v", got, took, tt.want, tt.took*time.Second)
				}
				time.Sleep(time.Minute)
				if free := l.TryLock(); free == tt.want {
					t.Errorf("the lock is free: %v, want %v", free, !tt.want)
				}
			})
		})
	}
	t.Run("takes a free lock, whatever the channels", func(t *testing.T) {
		var l Lock
		if !l.LockUnless(closed, closed) {
			t.Error("gave up, want the lock")
		}
	})
	t.Run("gives up at once", func(t *testing.T) {
		var l Lock
		l.Lock()
		if l.LockUnless(never, closed) {
			t.Error("took a held lock")
		}
	})
}

// closedIn returns a channel that is closed in d, or nil if d is 0.
func closedIn(d time.Duration) <-chan struct{} {
	if d == 0 {
		return nil
	}
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// A goroutine that gives up may have been the one that Unlock wakes. Another waiting
// goroutine must then get the lock.
func TestLockUnless_loses_no_wakeup_when_it_gives_up(t *testing.T) {
	for range 2000 {
		var l Lock
		l.Lock()
		end := make(chan struct{})
		waited := false
		var wg sync.WaitGroup
		wg.Go(func() {
			if l.LockUnless(end, nil) {
				l.Unlock()
			}
		})
		wg.Go(func() {
			l.Lock()
			waited = true
			l.Unlock()
		})
		wg.Go(func() { close(end) })
		wg.Go(l.Unlock)
		wg.Wait()
		if !waited || !l.TryLock() {
			t.Fatal("the lock is held after every goroutine has unlocked it")
		}
	}
}

func TestLock_makes_a_channel_only_for_a_waiting_goroutine(t *testing.T) {
	var l Lock
	for range 2 {
		l.Lock()
		l.TryLock()
		l.Unlock()
	}
	if l.queue.Load() != nil {
		t.Error("a channel was made, but no goroutine has waited")
	}
}

func BenchmarkLock(b *testing.B) {
	var l Lock
	turns := 0
	b.ReportAllocs()
	for b.Loop() {
		l.Lock()
		turns++
		l.Unlock()
	}
}

// A goroutine that locks again and again must not keep other goroutines from the lock.
func TestLock_is_handed_to_a_starving_goroutine(t *testing.T) {
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			var l Lock
			spins := 0 // guarded by l
			done := make(chan struct{})
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						l.Lock()
						for start := time.Now(); time.Since(start) < 50*time.Microsecond; {
							spins++
						}
						l.Unlock()
					}
				})
			}
			const locks = 20
			turns := 0
			start := time.Now()
			for range locks {
				l.Lock()
				turns++
				l.Unlock()
			}
			if took := time.Since(start) / locks; took > 500*time.Millisecond {
				t.Errorf("a lock took %v, want a few milliseconds", took)
			}
			close(done)
			wg.Wait()
			if turns != locks {
				t.Errorf("got %d turns, want %d", turns, locks)
			}
		})
	}
}

// The lock is handed to a goroutine that gives up. Another goroutine can then lock it.
func TestLock_is_free_if_the_starving_goroutine_gives_up(t *testing.T) {
	for range 50 {
		var l Lock
		l.Lock()
		giveUp := make(chan struct{})
		done := make(chan bool)
		go func() { done <- l.LockUnless(giveUp, nil) }()
		overtaken := true
		for overtaken && l.waiting.Load() < starving {
			l.Unlock()
			overtaken = l.TryLock()
		}
		go close(giveUp)
		if overtaken {
			l.Unlock() // hands over, unless the goroutine has given up already
		}
		if <-done {
			l.Unlock()
		}
		if !l.TryLock() {
			t.Fatal("the lock was lost")
		}
	}
}
