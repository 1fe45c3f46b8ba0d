package main

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The limits of one process. They hold whatever the clients do. With n processes, a client
// that uses all of them has n times as much.
type limits struct {
	open       int // connections
	perAddress int // connections of one address

	hello   time.Duration // from the handshake to the end of the hello
	write   time.Duration // for one write to a client that does not read
	behind  time.Duration // a client waits for messages that this process does not have yet
	catchUp time.Duration // for the messages that a client has missed

	perConnection rate // remarks

	historyEntries, historyBytes int64 // of the copy in memory, if the stream keeps more

	forwarders bool // the address of a client is in X-Forwarded-For, see gate.address
}

// A rate allows a burst of steps, and then one step in each pace.
type rate struct {
	pace  time.Duration
	burst int
}

func defaultLimits() limits {
	return limits{
		open:           10_000,
		perAddress:     20,
		hello:          10 * time.Second,
		write:          10 * time.Second,
		behind:         5 * time.Second,
		catchUp:        30 * time.Second,
		perConnection:  rate{500 * time.Millisecond, 10},
		historyEntries: 100_000,
		historyBytes:   64 << 20,
	}
}

// A throttle holds the steps of a rate. Steps that are too early wait for their turn. One
// goroutine uses it.
type throttle struct {
	rate
	next time.Time // when the step after the burst may be made
}

// wait counts a step and waits until it may be made, or ctx is done.
func (t *throttle) wait(ctx context.Context) {
	now := time.Now()
	if earliest := now.Add(-time.Duration(t.burst) * t.pace); t.next.Before(earliest) {
		t.next = earliest
	}
	t.next = t.next.Add(t.pace)
	d := t.next.Sub(now)
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A gate counts the connections, of all clients and of each address.
type gate struct {
	limits limits

	mu        sync.Mutex // guards the fields below
	open      int
	addresses map[netip.Prefix]int
}

func newGate(l limits) *gate {
	return &gate{limits: l, addresses: make(map[netip.Prefix]int)}
}

// enter counts a connection. It returns false if there are too many, and otherwise the
// function that takes the connection back.
func (g *gate) enter(address netip.Prefix) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.limits.open || g.addresses[address] >= g.limits.perAddress {
		return nil, false
	}
	g.open++
	g.addresses[address]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open--
		if g.addresses[address]--; g.addresses[address] == 0 {
			delete(g.addresses, address)
		}
	}, true
}

// address returns the network address that the limits for r apply to: one address of IPv4,
// or a network of 64 bits of IPv6, because one host can use all addresses of such a network.
//
// Behind a proxy, every request comes from the address of the proxy. With
// limits.forwarders, address therefore takes the last address of X-Forwarded-For: the
// proxy has appended it, and the client may have sent those before it.
func (g *gate) address(r *http.Request) netip.Prefix {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	ip := peer.Addr()
	if g.limits.forwarders {
		if client, ok := lastForwarded(r.Header); ok {
			ip = client
		}
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits) // without an IP, all clients share the zero Prefix
	return prefix
}

// lastForwarded returns the last address of X-Forwarded-For. Some proxies add the port.
func lastForwarded(header http.Header) (netip.Addr, bool) {
	values := header.Values("X-Forwarded-For")
	if len(values) == 0 {
		return netip.Addr{}, false
	}
	last := values[len(values)-1]
	last = strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
	if ip, err := netip.ParseAddr(last); err == nil {
		return ip, true
	}
	peer, err := netip.ParseAddrPort(last)
	return peer.Addr(), err == nil
}
