package websocket

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLock_excludes_and_wakes_everybody(t *testing.T) {
	const goroutines, rounds = 32, 300
	var l lock
	var wg sync.WaitGroup
	held := 0 // the race detector watches it too
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				l.lock()
				held++
				l.unlock()
			}
		})
	}
	wg.Wait()
	if held != goroutines*rounds {
		t.Errorf("got %d turns, want %d", held, goroutines*rounds)
	}
	if !l.tryLock() {
		t.Error("the lock is held after everybody has let go")
	}
}

// Those who only try can slip in between an unlock and the waiter that it wakes.
func TestLock_waiters_survive_barging(t *testing.T) {
	const goroutines, rounds = 8, 500
	var l lock
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var barging sync.WaitGroup
	for range 4 {
		barging.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if l.tryLock() {
					l.unlock()
				}
			}
		})
	}
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				l.lock()
				l.unlock()
			}
		})
	}
	wg.Wait()
	close(stop)
	barging.Wait()
}

func TestLock_tryLock(t *testing.T) {
	var l lock
	if !l.tryLock() {
		t.Fatal("the zero lock is not free")
	}
	if l.tryLock() {
		t.Fatal("a held lock was taken")
	}
	l.unlock()
	if !l.tryLock() {
		t.Fatal("a lock that was let go is not free")
	}
}

// With a sync.Mutex the bubble's clock would stand still, and this test with it.
func TestLock_waiting_lets_fake_time_pass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lock
		start := time.Now()
		l.lock()
		time.AfterFunc(time.Hour, l.unlock)
		l.lock()
		if got := time.Since(start); got != time.Hour {
			t.Errorf("got the lock after %v, want %v", got, time.Hour)
		}
	})
}

func TestLock_hands_on_in_a_chain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lock
		var turns []int
		l.lock()
		for i := range 5 {
			go func() {
				l.lock()
				turns = append(turns, i)
				l.unlock()
			}()
		}
		synctest.Wait()
		if len(turns) != 0 {
			t.Fatalf("got turns %v while the lock was held", turns)
		}
		l.unlock()
		synctest.Wait()
		if len(turns) != 5 {
			t.Errorf("got turns of %v, want all five: a wake-up was lost", turns)
		}
	})
}
