//go:build !notlinux

package epoll

import (
	"slices"
	"syscall"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func newSet(t *testing.T) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A watched is a descriptor that is in a set, and its peer.
type watched struct{ fd, peer int }

func watch(t *testing.T, s *Set, generation uint32) watched {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
	if err := s.Add(uintptr(fds[0]), generation); err != nil {
		t.Fatal(err)
	}
	return watched{fds[0], fds[1]}
}

// arrive lets a byte arrive.
func (w watched) arrive() { syscall.Write(w.peer, []byte{1}) }

// wantEvents checks what Wait returns.
func wantEvents(t *testing.T, s *Set, want ...Event) {
	t.Helper()
	n, err := s.Wait()
	var got []Event
	for i := range n {
		got = append(got, s.Event(i))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got the events %v and error %v, want %v", got, err, want)
	}
}

// Otherwise a Runner that blocks, and so does not read, would keep a processor busy.
func TestWait_reports_each_arrival_once(t *testing.T) {
	s := newSet(t)
	a, b := watch(t, s, 7), watch(t, s, 8)
	a.arrive()
	wantEvents(t, s, Event{a.fd, 7, false})
	b.arrive()
	wantEvents(t, s, Event{b.fd, 8, false}) // the byte of a is still there
	a.arrive()
	b.arrive()
	wantEvents(t, s, Event{a.fd, 7, false}, Event{b.fd, 8, false})
	syscall.Shutdown(a.peer, syscall.SHUT_WR)
	wantEvents(t, s, Event{a.fd, 7, true})
}

// What arrived before Add makes an event, too.
func TestAdd_after_an_arrival(t *testing.T) {
	s := newSet(t)
	a := watch(t, s, 1)
	s.Remove(a.fd)
	a.arrive()
	if err := s.Add(uintptr(a.fd), 2); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, s, Event{a.fd, 2, false})
}

// A duplicate, as in a child process, keeps nothing in the set.
func TestRemove_with_a_duplicate(t *testing.T) {
	s := newSet(t)
	a, b := watch(t, s, 1), watch(t, s, 2)
	duplicate, err := syscall.Dup(a.fd)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(duplicate)
	s.Remove(a.fd)
	a.arrive()
	b.arrive()
	wantEvents(t, s, Event{b.fd, 2, false})
}

func TestClose_ends_Wait(t *testing.T) {
	s := newSet(t)
	ended := make(chan error)
	go func() { _, err := s.Wait(); ended <- err }()
	s.Close()
	if <-ended == nil {
		t.Error("Wait returned no error after Close")
	}
}
