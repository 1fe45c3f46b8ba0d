// Package load holds the workloads and the load generator, which sends the messages of a
// workload to a server. It uses no WebSocket library.
package load

import (
	"fmt"
	"slices"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Kind says what the connections of a workload do.
type Kind int

const (
	Echo      Kind = iota // send messages and receive their echoes, again and again
	Broadcast             // one connection sends a message, all connections receive it
	Handshake             // connect, handshake, close
	Idle                  // wait, do an echo or several on each connection, wait
)

// A Workload is one row of the tables.
type Workload struct {
	Name     string
	Group    string // the title of its group in the plots
	Kind     Kind
	Conns    int
	Size     int // bytes in the payload of a message
	Text     Text
	Burst    int              // messages in flight on each connection
	Fragment int              // bytes in the payload of each frame; 0 means one frame per message
	Mode     servers.Mode     // "" means the first mode of the contestant
	Protocol servers.Protocol // below WebSocket
	Service  string           // the path of the handshake; "" means servers.EchoPath

	Echoes int           // of an idle connection, before it is idle again; 0 means one
	Quiet  time.Duration // if not 0, an idle connection is measured again after this time

	Shuffle bool // the connections of a broadcast are read in a random order, not in that of their handshakes

	Slow  int           // of 100 connections, so many do not read
	Stall time.Duration // with Slow: after this time without a message, the server is blocked
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
	case !c.Has(w.path()), !c.Speaks(w.Protocol):
		return false
	}
	return w.Kind == Echo || !c.Raw
}

func (w Workload) path() string {
	if w.Service == "" {
		return servers.EchoPath
	}
	return w.Service
}

// readers returns how many connections of w read. With slow ones, at least one does not.
func (w Workload) readers() int {
	if w.Slow == 0 {
		return w.Conns
	}
	return w.Conns - max(1, w.Conns*w.Slow/100)
}

// SlowSuffix ends the name of a workload that is otherwise the same as the one without it.
const SlowSuffix = "-1%slow"

// stall is many times the time of a broadcast on a busy machine.
const stall = 5 * time.Second

// broadcasts returns the workloads with one message to all, for the service with this path.
// Each workload with slow members is next to the one that it is compared with.
func broadcasts(name, path string) []Workload {
	var all []Workload
	for _, conns := range []int{2000, 10000} {
		for _, size := range []int{128, 1 << 10} {
			w := Workload{
				Name:  fmt.Sprintf("%s-%s-%dc", name, SizeName(size), conns),
				Group: "One message to all", Kind: Broadcast, Conns: conns, Size: size, Burst: 1, Service: path,
			}
			all = append(all, w)
			if conns == 2000 && path == servers.BroadcastPath {
				shuffled := w
				shuffled.Name, shuffled.Shuffle = w.Name+"-shuffled", true
				all = append(all, shuffled)
			}
			if size < 1<<10 {
				continue
			}
			w.Name += SlowSuffix
			w.Slow, w.Stall = 1, stall
			all = append(all, w)
		}
	}
	return all
}

// overTLS returns the workloads over TLS and HTTP/1.1. The idle connections are measured again when
// they have been quiet.
func overTLS() []Workload {
	var all []Workload
	for _, size := range []int{16, 1 << 10} {
		all = append(all, Workload{
			Name:  fmt.Sprintf("tls-echo-%s-64c", SizeName(size)),
			Group: "TLS", Conns: 64, Size: size, Burst: 1, Protocol: servers.HTTP1TLS,
		})
	}
	for _, mode := range []servers.Mode{servers.InHandler, servers.Detached} {
		name := "tls-quiet-10000c"
		if mode == servers.Detached {
			name = "tls-quiet-detached-10000c"
		}
		all = append(all, Workload{
			Name: name, Group: "Idle over TLS", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: mode,
			Protocol: servers.HTTP1TLS, Service: servers.PingPath, Quiet: 2 * servers.IdlePing,
		})
	}
	return all
}

// http2s returns the workloads over HTTP/2, and over TLS those that they are compared with.
func http2s() []Workload {
	var all []Workload
	for _, size := range []int{16, 1 << 10} {
		all = append(all, Workload{
			Name:  fmt.Sprintf("http2-echo-%s-64c", SizeName(size)),
			Group: "HTTP/2", Conns: 64, Size: size, Burst: 1, Protocol: servers.HTTP2,
		})
	}
	for _, p := range []servers.Protocol{servers.HTTP1TLS, servers.HTTP2TLS} {
		name := "tls-idle-10000c"
		if p.Streams() {
			name = "http2-idle-10000c"
		}
		all = append(all, Workload{
			Name: name, Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.InHandler, Protocol: p,
		})
	}
	return all
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
	for _, size := range []int{16, 1 << 10} {
		all = append(all, Workload{
			Name:  fmt.Sprintf("echo-%s-5000c", SizeName(size)),
			Group: "Echo in lock-step", Conns: 5000, Size: size, Burst: 1,
		})
	}
	for _, text := range []Text{ASCII, MultiByte} {
		for _, size := range []int{1 << 10, 64 << 10} {
			all = append(all, Workload{
				Name:  fmt.Sprintf("%s-%s-64c", text, SizeName(size)),
				Group: "Text", Conns: 64, Size: size, Text: text, Burst: 1,
			})
		}
	}
	all = append(all,
		Workload{Name: "pipelined-16B-64c", Group: "Pipelined, 32 in flight", Conns: 64, Size: 16, Burst: 32},
		Workload{Name: "pipelined-1K-64c", Group: "Pipelined, 32 in flight", Conns: 64, Size: 1 << 10, Burst: 32},
		Workload{Name: "fragmented-64K/1K-64c", Group: "Fragmented receive", Conns: 64, Size: 64 << 10, Burst: 1, Fragment: 1 << 10},
		Workload{Name: "fragmented-16K/125B-64c", Group: "Fragmented receive", Conns: 64, Size: 16 << 10, Burst: 1, Fragment: 125},
	)
	all = append(all, broadcasts("broadcast", servers.BroadcastPath)...)
	all = append(all, broadcasts("broadcast-queue", servers.QueuePath)...)
	all = append(all, deflates()...)
	all = append(all, overTLS()...)
	all = append(all, http2s()...)
	return append(all,
		Workload{Name: "handshake", Group: "Connect, handshake, close", Kind: Handshake, Conns: 8},
		Workload{Name: "idle-10000c", Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.InHandler},
		Workload{Name: "idle-20000c", Group: "Idle", Kind: Idle, Conns: 20000, Size: 1 << 10, Burst: 1, Mode: servers.InHandler},
		Workload{Name: "idle-detached-10000c", Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.Detached},
		Workload{Name: "idle-group-10000c", Group: "Idle", Kind: Idle, Conns: 10000, Size: 1 << 10, Burst: 1, Mode: servers.InHandler, Service: servers.GroupPath},
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
