package main

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The limits of a chat. They hold whatever the clients do. README.md says which attack
// each of them stops.
type limits struct {
	people     int // members of the room
	waiting    int // connections that have not sent their hello
	open       int // all connections; some more than people and waiting, because closing takes time
	perAddress int // all connections of one address
	queue      int // bytes of the events that may wait for a member, see defaultLimits

	hello time.Duration // from the handshake to the end of the hello
	write time.Duration // for one write to a client that does not read

	perMember  rate // remarks of a member
	byAddress  rate // remarks and hellos of all connections of one address
	wholeRoom  rate // events of the room
	forwarders bool // the address of a client is in X-Forwarded-For, see gate.address
}

// A rate allows a burst of steps, and then one step in each pace.
type rate struct {
	pace  time.Duration
	burst int
}

// defaultLimits returns the limits of the program. The queue is long enough for a welcome and
// all events of the time in which a client may be slow: the burst of the room, the events of
// write, and all members leaving. A client that reads as fast as the room's pace is
// therefore never removed, however many clients send. The queues of all members share the
// memory of an event.
func defaultLimits() limits {
	return limits{
		people:     200,
		waiting:    50,
		open:       400,
		perAddress: 10,
		queue:      4 << 20,
		hello:      10 * time.Second,
		write:      5 * time.Second,
		perMember:  rate{500 * time.Millisecond, 10},
		byAddress:  rate{200 * time.Millisecond, 20},
		wholeRoom:  rate{20 * time.Millisecond, 50},
	}
}

// A throttle holds the steps of a rate. Steps that are too early wait for their turn.
type throttle struct {
	rate
	mu   sync.Mutex
	next time.Time // when the step after the burst may be made
}

// take counts a step and returns how long it should wait.
func (t *throttle) take() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-time.Duration(t.burst) * t.pace); t.next.Before(earliest) {
		t.next = earliest
	}
	t.next = t.next.Add(t.pace)
	return t.next.Sub(now)
}

// wait counts a step and waits until it may be made, or ctx is done.
func (t *throttle) wait(ctx context.Context) {
	d := t.take()
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// full reports whether the whole burst is allowed again.
func (t *throttle) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.next.After(time.Now().Add(-time.Duration(t.burst) * t.pace))
}

// A gate counts the connections and the events, of all clients and of each address.
type gate struct {
	limits limits
	room   throttle

	mu        sync.Mutex // guards the fields below, and the field open of each address
	open      int
	addresses map[netip.Prefix]*address
	swept     time.Time // when addresses without connections were removed
}

// An address is a network address with connections, or one that had some recently.
type address struct {
	prefix   netip.Prefix
	open     int
	throttle throttle
	turn     chan struct{} // has one element while a connection waits for its turn
}

func newGate(l limits) *gate {
	return &gate{limits: l, room: throttle{rate: l.wholeRoom}, addresses: make(map[netip.Prefix]*address)}
}

// enter counts a connection from prefix. It returns nil if there are too many. The caller
// calls leave with the result at the end of the connection.
func (g *gate) enter(prefix netip.Prefix) *address {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	a := g.addresses[prefix]
	if g.open == g.limits.open || a != nil && a.open == g.limits.perAddress {
		return nil
	}
	if a == nil {
		a = &address{prefix: prefix, throttle: throttle{rate: g.limits.byAddress}, turn: make(chan struct{}, 1)}
		g.addresses[prefix] = a
	}
	g.open++
	a.open++
	return a
}

func (g *gate) leave(a *address) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	a.open--
}

// sweep forgets the addresses without connections, once a minute. An address is kept
// until its throttle is full, because a client could otherwise reconnect to get a new
// burst. The caller holds g.mu.
func (g *gate) sweep() {
	if time.Since(g.swept) < time.Minute {
		return
	}
	g.swept = time.Now()
	for prefix, a := range g.addresses {
		if a.open == 0 && a.throttle.full() {
			delete(g.addresses, prefix)
		}
	}
}

// wait waits until the address may cause an event in the room, or ctx is done. At most one
// connection of an address waits for the room. The others wait for that one, so all
// addresses have the same share of the room's rate.
func (g *gate) wait(ctx context.Context, a *address) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return
	}
	a.throttle.wait(ctx)
	if ctx.Err() == nil {
		g.room.wait(ctx)
	}
}

// address returns the network address that the limits for r apply to: one address of
// IPv4, or a network of 64 bits of IPv6, because one host can use all addresses of such a
// network.
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
