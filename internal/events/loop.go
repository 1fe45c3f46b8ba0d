package events

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/epoll"
)

// shared is the loop of all sources. It exists while there are any.
var shared struct {
	mu   sync.Mutex
	loop *loop
}

// join returns the shared loop, which counts one more source. The first source makes the loop.
func join() (*loop, error) {
	if !epoll.Supported {
		return nil, errors.ErrUnsupported
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.loop == nil {
		set, err := epoll.New()
		if err != nil {
			return nil, err
		}
		shared.loop = newLoop(set)
	}
	shared.loop.members++
	return shared.loop, nil
}

// leave counts one source less. The last one closes the loop.
func (l *loop) leave() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if l.members--; l.members > 0 {
		return
	}
	shared.loop = nil
	l.close()
}

// A loop has the workers of its sources.
type loop struct {
	set     *epoll.Set
	members int // guarded by shared.mu

	mu         sync.Mutex // guards the fields below
	sources    []*Source  // by descriptor
	generation uint32
	queue      queue
	closed     bool

	polling  bool          // a worker waits for events
	woken    int           // workers that were woken, or started, and have not looked for work yet
	idle     int           // workers that wait for wake
	mostIdle int           // at most so many workers wait for wake; others end
	wake     chan struct{} // one token for each idle worker that is woken
	done     chan struct{} // closed by close

	careful  atomic.Int32 // how many runs have to be short before the workers are trusted; not guarded by mu
	progress uint32       // counts what the workers have begun
	seen     uint32       // progress at the last check of the monitor
	polled   bool         // a worker has looked for events since then
	overdue  bool         // the next worker has to look for events before it takes from the queue
	watched  bool         // the monitor is set
	monitor  *time.Timer
}

func newLoop(set *epoll.Set) *loop {
	l := &loop{
		set:      set,
		mostIdle: 2 * runtime.GOMAXPROCS(0),
		wake:     make(chan struct{}, 64),
		done:     make(chan struct{}),
	}
	l.careful.Store(carefulRuns)
	l.monitor = time.AfterFunc(time.Hour, l.watchOver)
	l.monitor.Stop()
	return l
}

// close ends the goroutines of the loop, which has no source any more.
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.monitor.Stop()
	close(l.done)
	l.set.Close()
}

// add adds a source. The source is in state running before its first event can come.
func (l *loop) add(s *Source, fd uintptr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for int(fd) >= len(l.sources) {
		l.sources = append(l.sources, make([]*Source, max(64, len(l.sources)))...)
	}
	l.generation++
	s.descriptor, s.generation = int32(fd), l.generation
	s.state.Store(running)
	l.sources[fd] = s
	return l.set.Add(fd, s.generation)
}

// remove ends the events of a source. The descriptor may belong to another source, if its user
// has closed it.
func (l *loop) remove(s *Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd := int(s.descriptor); fd < len(l.sources) && l.sources[fd] == s {
		l.sources[fd] = nil
		l.set.Remove(fd)
	}
}

// push puts a source into the queue, and wakes a worker for it.
func (l *loop) push(s *Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.push(s)
	l.help()
}

// requeue is push for a worker, which looks at the queue itself.
func (l *loop) requeue(s *Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.push(s)
}

// A Budget limits the work of a worker before it lets others run.
type Budget struct {
	left int
	work int // what was spent in this run
	loop *loop
}

// Spend takes off n bytes of work. If it returns true, the Runner has to return More.
func (b *Budget) Spend(n int) (over bool) {
	b.work += n
	if b.left -= n; b.left > 0 {
		return false
	}
	b.loop.mu.Lock()
	others := b.loop.queue.len() > 0
	b.loop.mu.Unlock()
	if !others {
		b.refill()
	}
	return others
}

// refill lets other goroutines run.
func (b *Budget) refill() {
	b.left = workBudget
	runtime.Gosched()
}

// epoch is what the times of runs are measured from. The monotonic clock alone is read faster
// than time.Now reads both.
var epoch = time.Now()

// work is the goroutine of a worker. If a Runner ends it with runtime.Goexit, and no other worker
// waits for events, the monitor notices that there is no progress.
func (l *loop) work() {
	l.mu.Lock()
	l.woken--
	l.mu.Unlock()
	b := &Budget{left: workBudget, loop: l}
	for s := l.next(); s != nil; s = l.next() {
		b.work = 0
		began := time.Since(epoch)
		l.run(s, b)
		l.noteRun(time.Since(epoch)-began, b.work)
		if b.left -= runCost; b.left <= 0 {
			b.refill()
		}
	}
}

// run runs a source that was in the queue. A source that has left is not run again, whatever its
// Runner returns, because a Runner that has recovered from a panic may return the zero value.
func (l *loop) run(s *Source, b *Budget) {
	if result := s.runner.Run(b); result == Idle && s.rest() {
		return
	}
	if s.Watched() {
		l.requeue(s)
	}
}

// noteRun notes how long a run has taken, and how much work it has done.
func (l *loop) noteRun(d time.Duration, work int) {
	if d >= longRun+time.Duration(work)*workTime {
		l.careful.Store(carefulRuns)
	} else if left := l.careful.Load(); left > 0 {
		l.careful.CompareAndSwap(left, left-1)
	}
}

// next returns the next source to be run. It returns nil if the worker has to end.
func (l *loop) next() *Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed {
		if l.overdue && !l.polling {
			l.poll()
			continue
		}
		if s := l.queue.pop(); s != nil {
			l.progress++
			if l.careful.Load() > 0 || l.queue.len() >= shareFrom {
				l.help()
			} else if !l.watched {
				l.watch()
			}
			return s
		}
		if !l.polling {
			l.poll()
			continue
		}
		if l.idle >= l.mostIdle {
			return nil
		}
		l.await()
	}
	return nil
}

// await waits until another worker has work for this one. l.mu is held, but not while it waits.
func (l *loop) await() {
	l.idle++
	l.mu.Unlock()
	select {
	case <-l.wake:
		l.mu.Lock()
		l.woken--
	case <-l.done:
		l.mu.Lock()
	}
}

// poll waits for events and queues their sources. l.mu is held, but not while it waits.
func (l *loop) poll() {
	l.polling, l.polled, l.overdue = true, true, false
	l.help() // with the queue, because Wait may take long
	l.mu.Unlock()
	n, err := l.set.Wait()
	l.mu.Lock()
	l.polling, l.polled = false, true
	l.progress++
	if err != nil {
		return // close has ended the wait
	}
	for i := range n {
		ev := l.set.Event(i)
		s := l.sources[ev.FD]
		if s == nil || s.generation != ev.Generation {
			continue // the source has left, and its descriptor may belong to another source already
		}
		if ev.Ended {
			s.ended.Store(true)
		}
		if s.notify() {
			l.queue.push(s)
		}
	}
}

// help makes sure that a worker takes what is in the queue, or waits for events, while the
// caller is busy. l.mu is held.
func (l *loop) help() {
	if l.closed || l.woken > 0 || l.polling && l.queue.len() == 0 {
		return
	}
	l.woken++
	if l.idle > 0 {
		l.idle--
		l.wake <- struct{}{} // the idle worker takes it, so this does not wait for long
		return
	}
	go l.work()
}

// watch sets the monitor, because a worker is trusted. l.mu is held.
func (l *loop) watch() {
	l.watched = true
	l.seen, l.polled = l.progress, l.polling
	l.monitor.Reset(monitorTime)
}

// watchOver is the monitor.
func (l *loop) watchOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return
	case l.polling && l.queue.len() == 0:
		l.watched = false // while nothing happens, the monitor is off
		return
	case l.progress == l.seen:
		l.careful.Store(carefulRuns)
		l.help()
	case !l.polled:
		l.overdue = true // sources that always have more keep the queue from being empty
	}
	l.watch()
}
