//go:build !linux || notlinux

package epoll

import "errors"

// Supported reports whether the functions of this package work on this system.
const Supported = false

// A Set does not exist on this system.
type Set struct{}

// New returns an error.
func New() (*Set, error) { return nil, errors.ErrUnsupported }

// Add returns an error.
func (*Set) Add(uintptr, uint32) error { return errors.ErrUnsupported }

// Remove does nothing.
func (*Set) Remove(int) {}

// An Event says that something has arrived on a descriptor.
type Event struct {
	FD         int
	Generation uint32
	Ended      bool
}

// Wait returns an error.
func (*Set) Wait() (int, error) { return 0, errors.ErrUnsupported }

// Event returns nothing.
func (*Set) Event(int) Event { return Event{} }

// Close does nothing.
func (*Set) Close() {}
