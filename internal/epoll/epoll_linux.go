//go:build !notlinux

package epoll

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Supported reports whether the functions of this package work on this system.
const Supported = true

// batch is how many events one call of Wait returns at most.
const batch = 128

// edgeTriggered is EPOLLET, which package syscall declares as a negative number on some systems.
const edgeTriggered = 1 << 31

// A Set is an epoll instance. Add and Remove may be called by any goroutine, Wait by one at a
// time. After Close, none of them may be called. Close ends a call of Wait.
type Set struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	read   func(fd uintptr) bool
	events [batch]syscall.EpollEvent
	n      int
}

// New returns an empty set.
func New() (*Set, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that os.NewFile adds it to Go's poller
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &Set{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	// NewFile does not report that Go's poller has refused the descriptor, but then it has no
	// deadlines, and Wait would return at once.
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		s.file.Close()
		return nil, err
	}
	s.read = func(fd uintptr) bool {
		// A raw call, because it does not wait. epoll_pwait exists on every processor, unlike
		// epoll_wait.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&s.events[0])), batch, 0, 0, 0)
		if errno != 0 {
			n = 0
		}
		s.n = int(n)
		return n > 0
	}
	return s, nil
}

// Add adds a descriptor, which must stay open during the call. If there is input already, an
// event follows.
func (s *Set) Add(fd uintptr, generation uint32) error {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(fd), Pad: int32(generation)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(s.fd, syscall.EPOLL_CTL_ADD, int(fd), &ev))
}

// Remove removes a descriptor before it is closed. Closing it is not enough, because its events
// continue while a duplicate of it is open, or a child process has it.
func (s *Set) Remove(fd int) {
	syscall.EpollCtl(s.fd, syscall.EPOLL_CTL_DEL, fd, nil)
}

// An Event says that something has arrived on a descriptor.
type Event struct {
	FD         int
	Generation uint32
	Ended      bool // the peer has ended the connection, or it has failed
}

// Wait waits for events. It returns how many there are for Event, or an error after Close.
func (s *Set) Wait() (int, error) {
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	return s.n, nil
}

// Event returns the event i of the last call of Wait.
func (s *Set) Event(i int) Event {
	ev := &s.events[i]
	return Event{
		FD:         int(ev.Fd),
		Generation: uint32(ev.Pad),
		Ended:      ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0,
	}
}

// Close closes the set and ends a call of Wait. The descriptors in it stay open.
func (s *Set) Close() { s.file.Close() }
