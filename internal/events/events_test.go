package events

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/epoll"
	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// An echoer is a Runner that reads all that has arrived and counts it.
type echoer struct {
	Source
	conn    net.Conn
	raw     syscall.RawConn
	got     atomic.Int64
	runs    atomic.Int64
	running atomic.Int32
	overlap atomic.Bool
	each    func(e *echoer) // called in each run, unless nil
	leaving atomic.Bool
	left    chan struct{}
	result  Result // of the run that leaves
}

func (e *echoer) Run(b *Budget) Result {
	if e.running.Add(1) != 1 {
		e.overlap.Store(true)
	}
	defer e.running.Add(-1)
	e.runs.Add(1)
	if e.each != nil {
		e.each(e)
	}
	var p [100]byte
	for {
		n, ended := -1, false
		e.raw.Read(func(fd uintptr) bool {
			k, err := sock.Read(fd, p[:])
			n, ended = k, err == nil && k == 0 || err != nil && !sock.WouldWait(err)
			return true
		})
		switch {
		case e.leaving.Load() || ended:
			e.Leave()
			e.conn.Close()
			close(e.left)
			return e.result
		case n <= 0:
			return Idle
		}
		e.got.Add(int64(n))
		if b.Spend(n) {
			return More
		}
	}
}

// leave makes the runner leave, and waits for that.
func (e *echoer) leave() {
	e.leaving.Store(true)
	e.Wake()
	<-e.left
}

// watched returns a watched source and its peer.
func watched(t testing.TB, each func(*echoer)) (*echoer, net.Conn) {
	t.Helper()
	e := &echoer{each: each}
	return e, watch(t, e, e)
}

// watch connects e, which r is a part of or is, with a peer, and watches its side.
func watch(t testing.TB, e *echoer, r Runner) net.Conn {
	t.Helper()
	peer := connect(t, e)
	if err := Watch(&e.Source, e.raw, r); err != nil {
		t.Fatal(err)
	}
	return peer
}

// connect connects e with a peer.
func connect(t testing.TB, e *echoer) net.Conn {
	t.Helper()
	if !Supported {
		t.Skip("this system has no epoll")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e.conn, e.left, e.result = conn, make(chan struct{}), Left
	if e.raw, err = conn.(syscall.Conn).SyscallConn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return peer
}

// arrives waits until the source has read n bytes in all.
func arrives(t testing.TB, e *echoer, n int64) {
	t.Helper()
	if !wstest.Eventually(func() bool { return e.got.Load() == n }) {
		t.Errorf("the source has read %d bytes, want %d", e.got.Load(), n)
	}
}

func TestWatch(t *testing.T) {
	e, peer := watched(t, nil)
	for i := range int64(100) {
		peer.Write(make([]byte, 7))
		arrives(t, e, 7*(i+1))
	}
	if runs := e.runs.Load(); runs > 201 {
		t.Errorf("got %d runs for 100 events", runs)
	}
	peer.Close()
	<-e.left
	if e.overlap.Load() || !e.Ended() || e.Watched() {
		t.Errorf("got overlapping runs: %t; ended: %t; watched: %t", e.overlap.Load(), e.Ended(), e.Watched())
	}
}

// A source is run once after Watch, because bytes may have arrived before without an event, and
// again if something arrives while it runs.
func TestWatch_runs_once_without_an_event(t *testing.T) {
	e, peer := watched(t, nil)
	if !wstest.Eventually(func() bool { return e.runs.Load() == 1 }) {
		t.Errorf("got %d runs, want 1", e.runs.Load())
	}
	peer.Close()
	<-e.left
}

// An event during a run leads to another run, even if that has read its bytes already.
func TestWatch_event_during_a_run(t *testing.T) {
	begun, goOn := make(chan bool, 100), make(chan bool, 100)
	e, peer := watched(t, func(*echoer) { begun <- true; <-goOn })
	<-begun
	peer.Write(make([]byte, 7))
	other, otherPeer := watched(t, nil) // its events are seen after those of the first
	otherPeer.Write(make([]byte, 1))
	arrives(t, other, 1)
	close(goOn)
	<-begun
	arrives(t, e, 7)
	if e.overlap.Load() {
		t.Error("runs of one source overlap")
	}
	peer.Close()
	<-e.left
	otherPeer.Close()
	<-other.left
}

// A source that was removed gets no event, although bytes arrive on its descriptor.
func TestUnwatch(t *testing.T) {
	kept, keptPeer := watched(t, nil) // so that the loop stays
	for i := range int64(50) {
		e, peer := watched(t, nil)
		peer.Write(make([]byte, 3))
		arrives(t, e, 3)
		e.Unwatch()
		awaitRest(t, e)
		runs := e.runs.Load()
		peer.Write(make([]byte, 3))
		keptPeer.Write(make([]byte, 1))
		arrives(t, kept, i+1) // the event of e would have come before that of kept
		if e.state.Load() != idle || e.runs.Load() != runs {
			t.Fatal("a source that is not watched got an event")
		}
		e.leave()
		e.Wake()
		if e.Watched() {
			t.Fatal("a source that has left is watched")
		}
	}
	keptPeer.Close()
	<-kept.left
}

// awaitRest waits until no worker has the source.
func awaitRest(t testing.TB, e *echoer) {
	t.Helper()
	if !wstest.Eventually(func() bool { return e.state.Load() == idle }) {
		t.Fatal("the source is not idle")
	}
}

// A late event, of a descriptor whose number is used again, is for no source.
func TestLoop_ignores_events_of_another_generation(t *testing.T) {
	e, peer := watched(t, nil)
	awaitRest(t, e)
	l := e.loop
	l.mu.Lock()
	e.generation++ // as if the source came after the event that follows
	l.mu.Unlock()
	peer.Write(make([]byte, 3))
	other, otherPeer := watched(t, nil)
	otherPeer.Write(make([]byte, 1))
	arrives(t, other, 1)
	if n := e.runs.Load(); n != 1 {
		t.Errorf("got %d runs, want none after the first", n)
	}
	otherPeer.Close()
	<-other.left
	e.leave()
}

// Runners that block hold up no other source, in every state of trust.
func TestLoop_blocking_runners(t *testing.T) {
	for _, procs := range []int{1, 2, 8} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		for _, trusted := range []bool{false, true} {
			other, otherPeer := watched(t, nil)
			arrives(t, other, 0)
			goOn := make(chan bool)
			var blocked atomic.Int32
			const n = 40
			var all []*echoer
			var peers []net.Conn
			for range n {
				first := true
				e, peer := watched(t, func(*echoer) {
					if !first {
						blocked.Add(1)
						<-goOn
					}
					first = false
				})
				awaitRest(t, e)
				all, peers = append(all, e), append(peers, peer)
			}
			if trusted {
				other.loop.careful.Store(0)
			}
			for _, peer := range peers {
				peer.Write([]byte("x"))
			}
			start := time.Now()
			if !wstest.Eventually(func() bool { return blocked.Load() == n }) {
				t.Fatalf("GOMAXPROCS=%d: %d of %d runners run", procs, blocked.Load(), n)
			}
			otherPeer.Write([]byte("x"))
			arrives(t, other, 1)
			if took := time.Since(start); took > time.Second {
				t.Errorf("GOMAXPROCS=%d, trusted %t: %d runners that block have held up others for %v", procs, trusted, n, took)
			}
			close(goOn)
			for i, e := range all {
				peers[i].Close()
				<-e.left
			}
			l := other.loop
			if !wstest.Eventually(func() bool { return idleWorkers(l) <= l.mostIdle }) {
				t.Errorf("%d workers wait for work, want at most %d", idleWorkers(l), l.mostIdle)
			}
			otherPeer.Close()
			<-other.left
		}
	}
}

func idleWorkers(l *loop) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle
}

// While a duplicate of a descriptor is open, as in a child process, its socket stays in the
// set unless it is removed before the descriptor is closed.
func TestUnwatch_with_a_duplicate(t *testing.T) {
	other, otherPeer := watched(t, nil)
	before := wstest.Registrations(t)
	e, _ := watched(t, nil)
	duplicate, err := e.conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer duplicate.Close()
	e.leave()
	if got := wstest.Registrations(t); got > before+2 { // the peer and the duplicate are in the set of Go's poller
		t.Errorf("got %d descriptors in epoll sets, want %d as before, and two", got, before)
	}
	otherPeer.Close()
	<-other.left
}

// After many short runs workers are trusted, and a long run ends that.
func TestLoop_trust(t *testing.T) {
	var sleep atomic.Bool
	e, peer := watched(t, func(*echoer) {
		if sleep.Load() {
			time.Sleep(4 * longRun) // as a Runner that waits for a database in the same network
		}
	})
	l := e.loop
	l.careful.Store(3)
	for i := int64(1); l.careful.Load() > 0; i++ {
		peer.Write([]byte("x"))
		arrives(t, e, i)
	}
	sleep.Store(true)
	peer.Write([]byte("x"))
	if !wstest.Eventually(func() bool { return l.careful.Load() > 3 }) {
		t.Error("the workers are trusted after a long run")
	}
	peer.Close()
	<-e.left
}

// The workers are trusted, and a runner blocks. Then the monitor wakes a worker in the time that
// the documentation of HandleMessages names, and ends the trust.
func TestLoop_monitor(t *testing.T) {
	const documented = 20 * time.Millisecond
	var block atomic.Bool
	begun, goOn := make(chan bool), make(chan bool)
	stuck, stuckPeer := watched(t, func(*echoer) {
		if block.Load() {
			begun <- true
			<-goOn
		}
	})
	other, otherPeer := watched(t, nil)
	awaitRest(t, stuck)
	l, best := other.loop, time.Hour
	for i := int64(1); i <= 20 && best > documented; i++ { // some may be late because of other load
		trust(t, l)
		block.Store(true)
		stuckPeer.Write([]byte{1})
		<-begun
		start := time.Now()
		otherPeer.Write([]byte{1})
		arrives(t, other, i)
		best = min(best, time.Since(start))
		if l.careful.Swap(0) == 0 {
			t.Error("the workers are trusted while a runner blocks")
		}
		block.Store(false)
		goOn <- true
		arrives(t, stuck, i)
		wstest.Eventually(func() bool { return l.careful.Load() > 0 }) // the long run was noted
	}
	if best > 2*documented {
		t.Errorf("an event behind a runner that blocks waits for %v, want %v at most", best, documented)
	}
	stuckPeer.Close()
	<-stuck.left
	otherPeer.Close()
	<-other.left
}

// trust waits until one worker polls and the others wait, and makes the loop trust them.
func trust(t testing.TB, l *loop) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	if !wstest.Eventually(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		workers := bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(".(*loop).work("))
		if !l.polling || workers != l.idle+1 || l.woken > 0 || l.queue.len() > 0 {
			return false
		}
		l.careful.Store(0)
		return true
	}) {
		t.Fatal("the workers do not rest")
	}
}

// After a Runner has ended its goroutine, another worker takes the place of that goroutine.
func TestLoop_goexit(t *testing.T) {
	other, otherPeer := watched(t, nil)
	for range 20 {
		other.loop.careful.Store(0) // so that there may be one worker
		e, peer := watched(t, func(e *echoer) {
			e.Leave()
			e.conn.Close()
			close(e.left)
			runtime.Goexit()
		})
		<-e.left
		peer.Close()
	}
	otherPeer.Write([]byte("x"))
	arrives(t, other, 1)
	otherPeer.Close()
	<-other.left
}

// A Runner that has left, and then recovered from a panic, returns the zero value. The source is
// not run again, and the loop stays for the others.
func TestLoop_runs_no_source_that_has_left(t *testing.T) {
	for name, result := range map[string]Result{"Idle": Idle, "More": More, "Left": Left} {
		t.Run(name, func(t *testing.T) {
			other, otherPeer := watched(t, nil)
			for i := range int64(20) {
				e, _ := watched(t, nil)
				e.result = result
				e.leave()
				runs := e.runs.Load()
				otherPeer.Write([]byte("x"))
				arrives(t, other, i+1)
				if got := e.runs.Load(); got != runs {
					t.Errorf("the source was run %d times after it has left", got-runs)
				}
			}
			shared.mu.Lock()
			if shared.loop != other.loop || other.loop.members != 1 {
				t.Errorf("the loop has %d members, want the other source", other.loop.members)
			}
			shared.mu.Unlock()
			otherPeer.Close()
			<-other.left
		})
	}
}

// The loop ends with its last source, and a new one begins with the next, while others come and
// go.
func TestLoop_comes_and_goes(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 30 {
				e, peer := watched(t, nil)
				peer.Write(make([]byte, 5))
				arrives(t, e, 5)
				peer.Close()
				<-e.left
			}
		})
	}
	wg.Wait()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.loop != nil {
		t.Error("the loop is left without a source")
	}
}

// A source with much to do gives way to others.
func TestBudget(t *testing.T) {
	l := newLoopForTest(t)
	b := &Budget{left: workBudget, loop: l}
	if b.Spend(workBudget) || b.left != workBudget {
		t.Errorf("without other sources, the budget is over or not refilled: %d", b.left)
	}
	l.queue.push(new(Source))
	if b.Spend(workBudget - 1) {
		t.Error("the budget is over before it is spent")
	}
	if !b.Spend(1) {
		t.Error("the budget is not over, although another source waits")
	}
}

func newLoopForTest(t *testing.T) *loop {
	set, err := epoll.New()
	if err != nil {
		t.Skip(err)
	}
	l := newLoop(set)
	t.Cleanup(l.close)
	return l
}

func TestQueue(t *testing.T) {
	var q queue
	sources := make([]Source, 1000)
	in, out := 0, 0
	for _, n := range []int{1, 63, 1, 500, 100, 300} {
		for range n {
			if in < len(sources) {
				q.push(&sources[in])
				in++
			}
		}
		for range n / 2 {
			if s := q.pop(); s != &sources[out] {
				t.Fatalf("source %d came out of order", out)
			}
			out++
		}
	}
	for ; out < in; out++ {
		if s := q.pop(); s != &sources[out] {
			t.Fatalf("source %d came out of order", out)
		}
	}
	if q.len() != 0 || q.pop() != nil {
		t.Error("the queue is not empty")
	}
}

// On a system without epoll, or for a closed socket, Watch fails and leaves nothing behind.
func TestWatch_fails(t *testing.T) {
	var e echoer
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := Watch(&e.Source, raw, &e); err == nil || e.Watched() {
		t.Errorf("Watch of a closed socket: got error %v, watched %t", err, e.Watched())
	}
	e.Wake()
	e.Unwatch()
}
