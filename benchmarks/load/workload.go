// Package load is the other side of the race: what is sent, and the generator that
// sends it. It uses no WebSocket library.
package load

import (
	"fmt"
	"slices"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Kind is what the connections of a workload do.
type Kind int

const (
	Echo      Kind = iota // send, and read all of it back, over and over
	Broadcast             // one connection sends, all of them receive it
	Handshake             // connect, handshake, close
	Idle                  // nothing; then one echo each, and nothing again
)

// A Workload is one row of the tables.
type Workload struct {
	Name     string
	Group    string // the heading that it stands under
	Kind     Kind
	Conns    int
	Size     int // of a message's payload
	Text     Text
	Burst    int          // messages in flight on each connection
	Fragment int          // the payload of each frame of a message; 0 is all in one
	Mode     servers.Mode // "" is the contestant's own
}

// Baseline names the hand-written contestant that the workload is compared with.
func (w Workload) Baseline() string {
	if w.Burst > 1 {
		return "rawbatch"
	}
	return "rawframe"
}

// Admits reports whether c can run w.
func (w Workload) Admits(c servers.Contestant) bool {
	switch {
	case w.Mode != "" && !slices.Contains(c.Modes, w.Mode):
		return false
	case w.Fragment > 0 && !c.JoinsFragments:
		return false
	}
	return w.Kind == Echo || !c.Raw
}

// ModeFor is the mode that c runs w in.
func (w Workload) ModeFor(c servers.Contestant) servers.Mode {
	if w.Mode != "" {
		return w.Mode
	}
	return c.Modes[0]
}

// Workloads are all rows in the order of the tables.
func Workloads() []Workload {
	var all []Workload
	for _, conns := range []int{1, 64} {
		for _, size := range []int{16, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
			all = append(all, Workload{
				Name:  fmt.Sprintf("echo-%s-%dc", SizeName(size), conns),
				Group: "Echo in lock-step", Conns: conns, Size: size, Burst: 1,
			})
		}
	}
	for _, text := range []Text{ASCII, MultiByte} {
		for _, size := range []int{1 << 10, 64 << 10} {
			all = append(all, Workload{
				Name:  fmt.Sprintf("%s-%s-64c", text, SizeName(size)),
				Group: "Text", Conns: 64, Size: size, Text: text, Burst: 1,
			})
		}
	}
	return append(all,
		Workload{Name: "pipelined-16B-64c", Group: "Pipelined, 32 in flight", Conns: 64, Size: 16, Burst: 32},
		Workload{Name: "pipelined-1K-64c", Group: "Pipelined, 32 in flight", Conns: 64, Size: 1 << 10, Burst: 32},
		Workload{Name: "fragmented-64K/1K-64c", Group: "Fragmented receive", Conns: 64, Size: 64 << 10, Burst: 1, Fragment: 1 << 10},
		Workload{Name: "fragmented-16K/125B-64c", Group: "Fragmented receive", Conns: 64, Size: 16 << 10, Burst: 1, Fragment: 125},
		Workload{Name: "broadcast-1K-2000c", Group: "One message to all", Kind: Broadcast, Conns: 2000, Size: 1 << 10, Burst: 1},
		Workload{Name: "handshake", Group: "Connect, handshake, close", Kind: Handshake, Conns: 8},
		Workload{Name: "idle-10000c", Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.InHandler},
		Workload{Name: "idle-detached-10000c", Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.Detached},
	)
}

// Find returns the workload of that name.
func Find(name string) (Workload, error) {
	all := Workloads()
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Workload{}, fmt.Errorf("no workload is called %q", name)
	}
	return all[i], nil
}

// SizeName is n bytes as the names of workloads have it.
func SizeName(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%dM", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%dK", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}
