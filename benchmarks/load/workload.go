// Package load holds the workloads and the load generator, which sends the messages of a
// workload to a server. It uses no WebSocket library.
package load

import (
	"fmt"
	"slices"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Kind says what the connections of a workload do.
type Kind int

const (
	Echo      Kind = iota // send messages and receive their echoes, again and again
	Broadcast             // one connection sends a message, all connections receive it
	Handshake             // connect, handshake, close
	Idle                  // wait, do one echo on each connection, wait
)

// A Workload is one row of the tables.
type Workload struct {
	Name     string
	Group    string // the title of its group in the plots
	Kind     Kind
	Conns    int
	Size     int // bytes in the payload of a message
	Text     Text
	Burst    int          // messages in flight on each connection
	Fragment int          // bytes in the payload of each frame; 0 means one frame per message
	Mode     servers.Mode // "" means the first mode of the contestant
}

// Baseline returns the name of the hand-written contestant that w is compared with.
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

// ModeFor returns the mode in which c runs w.
func (w Workload) ModeFor(c servers.Contestant) servers.Mode {
	if w.Mode != "" {
		return w.Mode
	}
	return c.Modes[0]
}

// Workloads returns all workloads in the order of the tables.
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

// Find returns the workload with this name.
func Find(name string) (Workload, error) {
	all := Workloads()
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Workload{}, fmt.Errorf("there is no workload %q; -list shows all of them", name)
	}
	return all[i], nil
}

// SizeName returns a size of n bytes as it is written in the names of workloads.
func SizeName(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%dM", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%dK", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}
