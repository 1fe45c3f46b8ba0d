//go:build unix

package stress

import (
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// maxPause is the longest pause of the server.
const maxPause = 3 * connectionTimeout

// disturb stops and continues the server until done is closed: once for a while, as with a container
// that is paused, or again and again, as with one that has used its share of the processors.
func (p *process) disturb(r random, done <-chan struct{}) {
	for {
		// The time between two pauses is long enough for a round trip, because a healthy client needs
		// one after each pause.
		if !sleepUntil(done, r.between(connectionTimeout/2, 3*time.Second)) {
			return
		}
		p.beginPause()
		if r.oneIn(2) {
			p.stopFor(r.between(connectionTimeout/15, maxPause), done)
		} else {
			p.throttle(r, done)
		}
		p.endPause()
	}
}

// throttle stops the server most of the time for up to two seconds. A stop is longer than 10 ms, the
// time that the library takes to look at a socket.
func (p *process) throttle(r random, done <-chan struct{}) {
	until := time.Now().Add(r.between(connectionTimeout/2, 2*time.Second))
	for time.Now().Before(until) && p.stopFor(r.between(12*time.Millisecond, 40*time.Millisecond), done) {
		sleepUntil(done, r.between(time.Millisecond, 10*time.Millisecond))
	}
}

// stopFor stops the server for d, and reports whether done was not closed meanwhile.
func (p *process) stopFor(d time.Duration, done <-chan struct{}) bool {
	p.cmd.Process.Signal(syscall.SIGSTOP)
	defer p.cmd.Process.Signal(syscall.SIGCONT)
	return sleepUntil(done, d)
}

// sleepUntil sleeps for d, and reports whether done was not closed meanwhile.
func sleepUntil(done <-chan struct{}, d time.Duration) bool {
	select {
	case <-done:
		return false
	case <-time.After(d):
		return true
	}
}

// beginPause and endPause note a pause, or a time in which the server is stopped again and again.
func (p *process) beginPause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses = append(p.pauses, period{from: time.Now()})
}

func (p *process) endPause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses[len(p.pauses)-1].to = time.Now()
}

// pausesBetween returns the pauses of which a part was between two times.
func (p *process) pausesBetween(from, to time.Time) (pauses []period) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pause := range p.pauses {
		if pause.to.IsZero() { // it has not ended
			pause.to = time.Now()
		}
		if pause.overlaps(from, to) {
			pauses = append(pauses, pause)
		}
	}
	return pauses
}

// allowance returns how much later than documented something may end that began and ended at these
// times: slack, each pause, and after it once more the limit in which it fell, because a limit that a
// pause has met begins again.
func (p *process) allowance(from, to time.Time) time.Duration {
	d := slack
	for _, pause := range p.pausesBetween(from, to) {
		d += pause.to.Sub(pause.from) + connectionTimeout
	}
	return d
}

// startBurners starts processes that use as many processors as n, until the test ends.
func startBurners(t *testing.T, n int) {
	t.Helper()
	for range n {
		cmd, input, err := command("burner")
		if err == nil {
			err = cmd.Start()
		}
		cmd.Stdin.(*os.File).Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			input.Close()
			cmd.Wait()
		})
	}
}

// runBurner uses one processor until the parent closes the standard input.
func runBurner() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var n atomic.Int64
	for {
		n.Add(1)
	}
}

// stalls are the times in which this process did not run, because others used the processors. A client
// is not healthy meanwhile: it answers no ping.
type stalls struct {
	done  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex
	periods []period
}

// A client has half of connectionTimeout for an answer. A stall that takes half of that may be the
// reason for a timeout, because the other goroutines of the client wait too.
const maxStall = connectionTimeout / 4

func watchStalls() *stalls {
	s := &stalls{done: make(chan struct{})}
	s.ended.Go(func() {
		const tick = 20 * time.Millisecond
		for last := time.Now(); sleepUntil(s.done, tick); {
			now := time.Now()
			if now.Sub(last) > tick+maxStall {
				s.mu.Lock()
				s.periods = append(s.periods, period{last, now})
				s.mu.Unlock()
			}
			last = now
		}
	})
	return s
}

func (s *stalls) stop() {
	close(s.done)
	s.ended.Wait()
}

// between reports whether there was a stall between two times.
func (s *stalls) between(from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.periods, func(stall period) bool { return stall.overlaps(from, to) })
}
