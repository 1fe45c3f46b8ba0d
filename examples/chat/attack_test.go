package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// many returns limits for a test with many addresses: X-Forwarded-For has them.
func many() limits {
	l := defaultLimits()
	l.forwarders = true
	return l
}

// A tcpClient is a client of the chat over TCP.
type tcpClient struct {
	*wstest.Client
	t *testing.T
}

// from connects a client of the network address ip and returns the response.
func from(t *testing.T, addr, ip string) (*tcpClient, *http.Response) {
	t.Helper()
	c := &tcpClient{wstest.Dial(t, addr), t}
	request := wstest.Request("X-Forwarded-For: " + ip)
	c.Write([]byte(strings.Replace(request, "GET / ", "GET /chat ", 1)))
	c.Conn.SetDeadline(time.Now().Add(wstest.Patience))
	res, err := http.ReadResponse(c.Buffer, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, res
}

// expectRoom connects until the server accepts a connection of ip, because it counts a
// connection until it is closed.
func expectRoom(t *testing.T, addr, ip string) {
	t.Helper()
	if !wstest.Eventually(func() bool {
		_, res := from(t, addr, ip)
		return res.StatusCode == http.StatusSwitchingProtocols
	}) {
		t.Fatalf("%s is still refused", ip)
	}
}

// joinFrom connects a client of the network address ip, which joins the room.
func joinFrom(t *testing.T, addr, ip, name string) *tcpClient {
	t.Helper()
	c, res := from(t, addr, ip)
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the response to %s is %s, want 101", ip, res.Status)
	}
	c.hello(name)
	for c.receive().Type != "welcome" {
	}
	return c
}

func (c *tcpClient) hello(name string) {
	c.t.Helper()
	c.Send(wstest.Text, fmt.Sprintf(`{"name":%q,"key":"key of %s"}`, name, name))
}

// receive returns the next event.
func (c *tcpClient) receive() (e event) {
	c.t.Helper()
	c.Conn.SetDeadline(time.Now().Add(wstest.Patience))
	f, err := c.ReadFrame()
	if err != nil {
		c.t.Fatal(err)
	}
	if f.Opcode() == wstest.Ping {
		return c.receive()
	}
	if f.Opcode() != wstest.Text || json.Unmarshal(f.Payload, &e) != nil {
		c.t.Fatalf("got %v, want an event", f)
	}
	if e.Type == "alive" {
		return c.receive()
	}
	return e
}

// wantClose reads up to the close frame, which must have this code, closes the connection
// and returns the reason.
func (c *tcpClient) wantClose(code uint16) (reason string) {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		if f.Opcode() != wstest.Close {
			continue
		}
		c.Conn.Close()
		got, reason, err := f.CloseCode()
		if err != nil || got != code {
			c.t.Fatalf("closed with %d, %q and error %v, want %d", got, reason, err, code)
		}
		return reason
	}
}

// flood sends n remarks in one write.
func (c *tcpClient) flood(n int) {
	c.t.Helper()
	var data []byte
	for i := range n {
		data = append(data, wstest.Message(wstest.Text, fmt.Sprintf(`{"id":"%p %d","text":"flood"}`, c, i))...)
	}
	c.Write(data)
}

// span returns the time that n steps behind the burst take, less one for rounding.
func (r rate) span(n int) time.Duration {
	return time.Duration(n-1) * r.pace
}

// Members of many addresses send as much as each of them may. The events come at the rate
// of the room, so that a member that reads gets all of them.
func TestAttack_flood_from_many_addresses(t *testing.T) {
	const senders, remarks = 30, 10
	l := many()
	l.wholeRoom = rate{2 * time.Millisecond, 20}
	l.queue = 20 << 10 // 120 remarks
	addr, _ := start(t, newHub(l))
	var flooders []*tcpClient
	for i := range senders {
		flooders = append(flooders, joinFrom(t, addr, fmt.Sprintf("192.0.2.%d", i), fmt.Sprint("Flooder ", i)))
	}
	ada := joinFrom(t, addr, "198.51.100.1", "Ada")

	begin := time.Now()
	for _, b := range flooders {
		b.flood(remarks)
	}
	for i := range senders * remarks {
		if e := ada.receive(); e.Type != "said" {
			t.Fatalf("event %d is %+v, want a remark, because no member is removed", i, e)
		}
	}
	if got, least := time.Since(begin), l.wholeRoom.span(senders*remarks-l.wholeRoom.burst); got < least {
		t.Errorf("%d remarks came within %v, want at least %v", senders*remarks, got, least)
	}
	ada.flood(1)
	if e := ada.receive(); e.Type != "said" || e.Message.Name != "Ada" {
		t.Errorf("got the event %+v, want Ada's remark", e)
	}
}

// All sockets of one address share a rate, and a remark of another address does not wait
// for theirs.
func TestAttack_flood_from_one_address(t *testing.T) {
	l := many()
	l.perMember.pace, l.wholeRoom.pace = 0, 0
	l.byAddress = rate{5 * time.Millisecond, 20}
	addr, _ := start(t, newHub(l))
	var flooders []*tcpClient
	for i := range l.perAddress {
		flooders = append(flooders, joinFrom(t, addr, "192.0.2.1", fmt.Sprint("Flooder ", i)))
	}
	ada := joinFrom(t, addr, "198.51.100.1", "Ada")

	const remarks = 8
	begin := time.Now()
	for _, b := range flooders {
		b.flood(remarks)
	}
	ada.flood(1)
	all := l.perAddress * remarks
	position := all
	for i := range all + 1 {
		if e := ada.receive(); e.Type != "said" {
			t.Fatalf("got the event %+v, want a remark", e)
		} else if e.Message.Name == "Ada" {
			position = i
		}
	}
	if least := l.byAddress.span(all - l.byAddress.burst); time.Since(begin) < least {
		t.Errorf("%d remarks of one address came within %v, want at least %v", all, time.Since(begin), least)
	}
	if position > all/2 {
		t.Errorf("Ada's remark came behind %d of %d remarks of the other address, want at most half of them", position, all)
	}
}

// Clients that never send a hello do not keep others out of the room.
func TestAttack_silent_connections(t *testing.T) {
	t.Run("the oldest is closed when there are too many", func(t *testing.T) {
		l := many()
		l.waiting = 5
		addr, _ := start(t, newHub(l))
		closed := make(chan uint16, 3*l.waiting)
		for i := range 3 * l.waiting {
			c, _ := from(t, addr, fmt.Sprintf("192.0.2.%d", i))
			go func() {
				if f, err := c.ReadFrame(); err == nil {
					code, _, _ := f.CloseCode()
					closed <- code
				}
				c.Conn.Close()
			}()
		}
		joinFrom(t, addr, "198.51.100.1", "Ada")
		for range 2 * l.waiting {
			select {
			case code := <-closed:
				if code != 1013 {
					t.Errorf("closed with %d, want 1013", code)
				}
			case <-time.After(l.hello / 2):
				t.Fatal("silent connections are still open, want all but the newest closed")
			}
		}
	})

	t.Run("all are closed in time, also if they send a byte at a time", func(t *testing.T) {
		l := many()
		l.hello = 50 * time.Millisecond
		l.open = 5
		addr, _ := start(t, newHub(l))
		var silent []*tcpClient
		for i := range l.open {
			c, _ := from(t, addr, fmt.Sprintf("192.0.2.%d", i))
			silent = append(silent, c)
		}
		if _, res := from(t, addr, "198.51.100.1"); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("the response to one connection too many is %s, want 503", res.Status)
		}
		silent[0].Write([]byte{0x81}) // the beginning of a frame
		for _, c := range silent {
			c.wantClose(1008)
		}
		expectRoom(t, addr, "198.51.100.1")
	})
}

func TestAttack_connections_of_one_address(t *testing.T) {
	l := many()
	l.perAddress = 3
	addr, _ := start(t, newHub(l))
	var own []*tcpClient
	for i := range l.perAddress {
		own = append(own, joinFrom(t, addr, "2001:db8::"+fmt.Sprint(i), "Mallory "+strings.Repeat("x", i)))
	}
	c, res := from(t, addr, "2001:db8::ffff")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !res.Close {
		t.Errorf("the response is %s with the header %v, want 503 with Retry-After and Connection: close", res.Status, res.Header)
	}
	io.Copy(io.Discard, res.Body)
	if _, err := c.Buffer.ReadByte(); err != io.EOF {
		t.Errorf("reading behind the refusal returned %v, want EOF", err)
	}
	joinFrom(t, addr, "2001:db8:0:1::", "Ada") // another network

	own[0].Conn.Close()
	expectRoom(t, addr, "2001:db8::ffff")
}

func TestAttack_full_room(t *testing.T) {
	l := many()
	l.people = 2
	addr, _ := start(t, newHub(l))
	joinFrom(t, addr, "192.0.2.1", "Ada")
	bob := joinFrom(t, addr, "192.0.2.2", "Bob")
	eve, _ := from(t, addr, "192.0.2.3")
	eve.hello("Eve")
	if reason := eve.wantClose(1013); reason != "the room is full" {
		t.Errorf("closed with the reason %q, want that the room is full", reason)
	}
	joinFrom(t, addr, "192.0.2.2", "Bob") // replaces the old connection
	bob.wantClose(1008)
}

// The queue holds the welcome and the events of the time in which a client may be slow.
func TestDefaultLimits(t *testing.T) {
	l := defaultLimits()
	// A "<" is six bytes in the JSON of Go.
	name := strings.Repeat("<", maxName)
	said := message{remark{strings.Repeat("<", maxKey), strings.Repeat("<", maxText)}, name, time.Now()}
	welcome := event{Type: "welcome", Name: name}
	for range l.people {
		welcome.People = append(welcome.People, name)
	}
	for range maxHistory {
		welcome.History = append(welcome.History, said)
	}
	cost := func(e event) int { return len(e.encode())*5/4 + 80 } // at most, see SendQueue
	remarks := l.wholeRoom.burst + int(l.write/l.wholeRoom.pace)
	most := cost(welcome) + remarks*cost(event{Type: "said", Message: &said}) + l.people*cost(event{Type: "left", Name: name})
	if l.queue < most {
		t.Errorf("the queue has %d bytes, want at least %d", l.queue, most)
	}
	if l.open <= l.people+l.waiting {
		t.Errorf("at most %d connections are open, want more than the %d of people and waiting", l.open, l.people+l.waiting)
	}
}

// An address waits for at most one event of each other address, however many connections
// that one has.
func TestGate_shares_the_room(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := unpaced()
		l.wholeRoom = rate{time.Second, 0}
		g := newGate(l)
		enter := func(peer string) *address { return g.enter(g.address(&http.Request{RemoteAddr: peer})) }
		for range l.perAddress {
			a := enter("192.0.2.1:5000")
			go g.wait(t.Context(), a)
		}
		synctest.Wait()
		begin := time.Now()
		g.wait(t.Context(), enter("198.51.100.1:5000"))
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("the second address waited for %v, want 2s", got)
		}
		time.Sleep(time.Minute)
	})
}

// A client does not get a new burst by reconnecting, and the gate forgets an address when
// its burst is allowed again.
func TestGate_forgets_addresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := defaultLimits()
		l.byAddress = rate{time.Minute, 2}
		g := newGate(l)
		request := &http.Request{RemoteAddr: "192.0.2.1:5000"}
		for i, want := range []time.Duration{0, 0, time.Minute, 2 * time.Minute} {
			a := g.enter(g.address(request))
			if got := a.throttle.take(); got > 0 && got != want || got <= 0 && want != 0 {
				t.Errorf("event %d waits for %v, want %v", i+1, got, want)
			}
			g.leave(a)
		}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{2 * time.Minute, 2}, {3 * time.Minute, 1}} {
			time.Sleep(step.after)
			other := &http.Request{RemoteAddr: "192.0.2.2:5000"}
			g.leave(g.enter(g.address(other)))
			if got := len(g.addresses); got != step.want {
				t.Errorf("after %v more the gate knows %d addresses, want %d", step.after, got, step.want)
			}
		}
	})
}

func TestAddress(t *testing.T) {
	tests := []struct {
		name      string
		peer      string
		forwarded []string
		want      string // with limits.forwarders
		direct    string // without it
	}{
		{"no header", "192.0.2.1:5000", nil, "192.0.2.1/32", "192.0.2.1/32"},
		{"one address", "192.0.2.1:5000", []string{"198.51.100.7"}, "198.51.100.7/32", "192.0.2.1/32"},
		{"an address that the client has added", "192.0.2.1:5000", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7/32", "192.0.2.1/32"},
		{"a line that the client has added", "192.0.2.1:5000", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7/32", "192.0.2.1/32"},
		{"with a port", "192.0.2.1:5000", []string{"198.51.100.7:443"}, "198.51.100.7/32", "192.0.2.1/32"},
		{"IPv6", "[2001:db8:1:2:3:4:5:6]:5000", []string{"2001:db8:7::1"}, "2001:db8:7::/64", "2001:db8:1:2::/64"},
		{"IPv6 with a port", "[fe80::1%eth0]:5000", []string{"[2001:db8:7::1]:443"}, "2001:db8:7::/64", "fe80::/64"},
		{"IPv4 as IPv6", "[::ffff:192.0.2.1]:5000", []string{"::ffff:198.51.100.7"}, "198.51.100.7/32", "192.0.2.1/32"},
		{"no address", "192.0.2.1:5000", []string{"unknown"}, "192.0.2.1/32", "192.0.2.1/32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
			if got := newGate(many()).address(r).String(); got != tt.want {
				t.Errorf("behind a proxy the address is %s, want %s", got, tt.want)
			}
			if got := newGate(defaultLimits()).address(r).String(); got != tt.direct {
				t.Errorf("without a proxy the address is %s, want %s", got, tt.direct)
			}
		})
	}
}

// Joining and leaving in a loop is limited by the rates of the address and of the room,
// because each of them is an event for all.
func TestAttack_joins_in_a_loop(t *testing.T) {
	l := many()
	l.byAddress = rate{10 * time.Millisecond, 5}
	addr, _ := start(t, newHub(l))
	ada := joinFrom(t, addr, "198.51.100.1", "Ada")
	begin := time.Now()
	const joins = 20
	for i := range joins {
		joinFrom(t, addr, "192.0.2.1", fmt.Sprint("Mallory ", i)).Conn.Close()
	}
	if least := l.byAddress.span(joins - l.byAddress.burst); time.Since(begin) < least {
		t.Errorf("%d joins took %v, want at least %v", joins, time.Since(begin), least)
	}
	var left []string
	for len(left) < joins {
		if e := ada.receive(); e.Type == "left" {
			left = append(left, e.Name)
		}
	}
	if slices.Sort(left); len(slices.Compact(left)) != joins {
		t.Errorf("got the events that %q left, want %d names", left, joins)
	}
}
