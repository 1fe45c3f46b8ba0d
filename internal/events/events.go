// Package events serves many sockets with few goroutines: one waits for the events of all, and
// a socket has a goroutine only while there is something to do.
//
// A [Source] is one socket. When something has arrived on it, a worker calls its Runner, one worker
// at a time. Workers are goroutines. Their number grows when runners block, and shrinks again, so a
// runner that blocks delays other sources for a short time at most. All goroutines end with the last
// source.
//
// # When a second worker is woken
//
// While a worker runs a source, another worker should wait for events, because the runner may
// block. But waking a goroutine for each event costs more than most runners take. So workers
// begin carefully: each wakes another one first. After carefulRuns short runs in a row they are
// trusted: a worker then runs a source alone and looks for events again afterwards. A monitor
// checks every monitorTime whether the workers still make progress, and wakes another worker if
// they do not. A long run ends the trust. A run is long if it takes longer than its work explains,
// because the Runner has probably waited for something, and may wait again.
package events

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket/internal/epoll"
)

const (
	// carefulRuns is how many runs have to be short before a worker runs a source alone.
	carefulRuns = 1000

	// longRun is the duration from which a run is not short, in addition to workTime for each byte
	// of its work. It is about ten times what it costs to wake a worker, so that a Runner that
	// waits, even for an answer from the same network, does not delay other sources often. workTime
	// is several times what a byte costs, so that a run that only works is short.
	longRun  = 100 * time.Microsecond
	workTime = 4 * time.Nanosecond

	// monitorTime is how often the monitor checks. A runner that blocks unexpectedly delays other
	// sources for twice this time at most.
	monitorTime = 10 * time.Millisecond

	// shareFrom is how many waiting sources are too many for one worker, if there are other
	// processors.
	shareFrom = 16
)

// A worker lets other goroutines run after workBudget bytes of work. If it ran for 10 ms, the
// scheduler would take its processor away in the middle of a system call, and would check for
// that every 20 µs.
const (
	workBudget = 1 << 20
	runCost    = 16 << 10 // of one run, in bytes of work
)

// Supported reports whether Watch works on this system.
const Supported = epoll.Supported

// A Result says what follows a run.
type Result int

const (
	// Idle: the source has nothing to do until the next event.
	Idle Result = iota

	// More: there is more to do, and other sources wait.
	More

	// Left: the source has left, see Source.Leave.
	Left
)

// A Runner handles what has arrived on a source.
type Runner interface {
	// Run is called after an event. Calls for one source never overlap. It has to read until
	// nothing is left, because the same bytes cause no second event. If it ends its goroutine with
	// runtime.Goexit, it has to call Leave before.
	Run(b *Budget) Result
}

// The states of a Source.
const (
	unwatched uint32 = iota // before Watch
	idle
	running // it is in the queue, or a worker runs it
	again   // as running, and an event has come since
	left
)

// A Source is a socket that is watched. The zero value is for Watch.
type Source struct {
	state      atomic.Uint32
	ended      atomic.Bool
	descriptor int32
	generation uint32
	loop       *loop
	runner     Runner
}

// Watch begins to watch a socket, and queues its source once, because bytes that have arrived
// before may cause no event. raw stays open until Watch has returned.
func Watch(s *Source, raw syscall.RawConn, r Runner) error {
	l, err := join()
	if err != nil {
		return err
	}
	s.loop, s.runner = l, r
	// Inside Control, so that the descriptor cannot be closed and its number used again.
	if ctrl := raw.Control(func(fd uintptr) { err = l.add(s, fd) }); ctrl != nil {
		err = ctrl
	}
	if err != nil {
		l.remove(s)
		s.state.Store(left)
		l.leave()
		return err
	}
	l.push(s)
	return nil
}

// Wake queues the source as an event does. It does nothing before Watch and after Leave.
func (s *Source) Wake() {
	if s.notify() {
		s.loop.push(s)
	}
}

// Ended reports whether the peer has ended the connection, or it has failed. A read does not wait
// then.
func (s *Source) Ended() bool { return s.ended.Load() }

// Watched reports whether Watch has succeeded, and the source has not left.
func (s *Source) Watched() bool {
	state := s.state.Load()
	return state != unwatched && state != left
}

// Unwatch ends the events. It has to be called before the socket is closed. Wake still works.
func (s *Source) Unwatch() {
	if s.state.Load() != unwatched {
		s.loop.remove(s)
	}
}

// Leave ends the watching. Only the Runner calls it, in Run, which is not called again.
func (s *Source) Leave() {
	s.loop.remove(s)
	if s.state.Swap(left) != left {
		s.loop.leave()
	}
}

// notify notes an event, and reports whether the source has to be queued.
func (s *Source) notify() bool {
	for {
		switch s.state.Load() {
		case idle:
			if s.state.CompareAndSwap(idle, running) {
				return true
			}
		case running:
			if s.state.CompareAndSwap(running, again) {
				return false
			}
		default:
			return false
		}
	}
}

// rest notes that a run has found nothing more. It reports false if an event came meanwhile.
func (s *Source) rest() bool {
	if s.state.CompareAndSwap(running, idle) {
		return true
	}
	s.state.CompareAndSwap(again, running)
	return false
}
