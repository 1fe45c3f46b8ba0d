//go:build !notlinux

package events

import (
	"syscall"
	"testing"
)

// A numbered is the RawConn of a descriptor.
type numbered uintptr

func (n numbered) Control(f func(fd uintptr)) error    { f(uintptr(n)); return nil }
func (n numbered) Read(f func(fd uintptr) bool) error  { f(uintptr(n)); return nil }
func (n numbered) Write(f func(fd uintptr) bool) error { f(uintptr(n)); return nil }

// A source leaves late, and the number of its descriptor belongs to another source already. That
// source keeps its events.
func TestLeave_after_the_number_was_used_again(t *testing.T) {
	for name, unwatch := range map[string]bool{"after Unwatch": true, "the user has closed the socket": false} {
		t.Run(name, func(t *testing.T) {
			begun, goOn := make(chan bool, 10), make(chan bool)
			old, _ := watched(t, func(*echoer) { begun <- true; <-goOn })
			<-begun
			e := new(echoer)
			peer := connect(t, e)
			number := int(old.descriptor)
			if unwatch {
				old.Unwatch()
			}
			old.conn.Close()
			e.raw.Control(func(fd uintptr) {
				if err := syscall.Dup3(int(fd), number, syscall.O_CLOEXEC); err != nil {
					t.Fatal(err)
				}
			})
			defer syscall.Close(number)
			e.raw = numbered(number)
			if err := Watch(&e.Source, e.raw, e); err != nil {
				t.Fatal(err)
			}
			awaitRest(t, e)
			close(goOn)
			old.leave()
			peer.Write(make([]byte, 3))
			arrives(t, e, 3)
			e.leave()
		})
	}
}
