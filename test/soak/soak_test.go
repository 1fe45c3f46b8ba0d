package websocket

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSoak runs; 0 skips it")

// behaviours are what clients come for; of each one the share is the same. What a
// healthy one reports is an error, the others' is of no interest.
var behaviours = []struct {
	name    string
	healthy bool
	visit   func(conn net.Conn) error
}{
	{"echoes", true, func(conn net.Conn) error { return exchangeRandom(conn, 20) }},
	{"echoes fragments", true, exchangeFragments},
	{"is idle across pings", true, stayIdle},
	{"leaves at once", true, func(net.Conn) error { return nil }},
	{"floods with pings", false, func(conn net.Conn) error {
		for range 20 {
			if _, err := conn.Write(pingFlood); err != nil {
				return err
			}
		}
		return nil
	}},
	{"floods with messages and never reads", false, func(conn net.Conn) error {
		smallBuffer(conn)
		floodUntilCut(conn, messageFlood)
		return nil
	}},
	{"reads a byte at a time", false, func(conn net.Conn) error {
		smallBuffer(conn)
		conn.Write(clientFrame(true, Binary, string(make([]byte, 8<<10))))
		_, err := ReadFrame(oneByte{conn}, 8<<10)
		return err
	}},
	{"resets", false, func(conn net.Conn) error {
		conn.Write(clientFrame(true, Text, "hello")[:rand.IntN(11)])
		resetConn(conn)
		return nil
	}},
	{"breaks a rule", false, func(conn net.Conn) error {
		conn.Write(disturbances[rand.IntN(len(disturbances))])
		_, err := closeCode(conn)
		return err
	}},
	{"declares much", false, func(conn net.Conn) error {
		conn.Write(headerOf(true, Binary, 1<<20))
		_, err := closeCode(conn)
		return err
	}},
	{"is silent", false, func(conn net.Conn) error {
		_, err := closeCode(conn)
		return err
	}},
	{"never answers a close", false, func(conn net.Conn) error {
		conn.Write(clientFrame(true, Text, "close"))
		_, err := io.Copy(io.Discard, conn)
		return err
	}},
}

// disturbances are frames that end a connection.
var disturbances = [][]byte{
	{0x81, 0x00},
	{0xc1, 0x80, 0, 0, 0, 0},
	clientFrame(true, Continuation, "of nothing"),
	clientFrame(true, Text, "\xff"),
	clientFrame(true, 0xb, ""),
	clientFrame(false, Ping, ""),
	[]byte("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00keys"),
	headerOf(true, Binary, 1<<40),
}

// exchangeRandom sends messages of all sizes, each with the first frame that is
// not a ping as its echo.
func exchangeRandom(conn net.Conn, n int) error {
	for range n {
		message := make([]byte, rand.IntN(1<<rand.IntN(17)+1))
		for i := range message {
			message[i] = byte(i)
		}
		if err := exchangeOne(conn, message, clientFrame(true, Binary, string(message))); err != nil {
			return err
		}
	}
	return nil
}

func exchangeFragments(conn net.Conn) error {
	for range 10 {
		piece := string(bytes.Repeat([]byte("piece"), rand.IntN(500)))
		wire := join(clientFrame(false, Text, piece), clientFrame(true, Ping, "between"), clientFrame(true, Continuation, piece))
		if err := exchangeOne(conn, []byte(piece+piece), wire); err != nil {
			return err
		}
	}
	return nil
}

func exchangeOne(conn net.Conn, message, wire []byte) error {
	if _, err := conn.Write(wire); err != nil {
		return err
	}
	for {
		f, err := ReadFrame(conn, 1<<20)
		if err != nil {
			return err
		}
		if f.Opcode.IsControl() && f.Opcode != Close {
			continue
		}
		if !f.Fin || !bytes.Equal(f.Payload, message) {
			return fmt.Errorf("got %v %s, want %s", f.Opcode, abbreviate(f.Payload), abbreviate(message))
		}
		return nil
	}
}

// stayIdle answers three pings and does nothing else.
func stayIdle(conn net.Conn) error {
	for range 3 {
		f, err := ReadFrame(conn, 1<<20)
		if err != nil {
			return err
		}
		if f.Opcode != Ping {
			return fmt.Errorf("got %v %s, want a ping", f.Opcode, abbreviate(f.Payload))
		}
		if _, err := conn.Write(clientFrame(true, Pong, string(f.Payload))); err != nil {
			return err
		}
	}
	return nil
}

// A soak is a server that is used in every way for a long time.
type soak struct {
	*siege
	end     time.Time
	visits  []atomic.Int64 // by behaviour
	refused atomic.Int64   // for want of ports
	samples []usage
}

// TestSoak runs hundreds of clients with mixed behaviour for -soak, by default two
// seconds. Memory and goroutines must neither grow while it runs nor be left over.
func TestSoak(t *testing.T) {
	d := *soakFor
	if d == 0 {
		t.Skip("-soak 0")
	}
	if testing.Short() {
		d = min(d, 500*time.Millisecond)
	}
	clients := crowd(t, 240, 60)
	if d >= time.Minute {
		clients *= 5
	}
	fn := func(c *Conn) error {
		c.NetConn().(*net.TCPConn).SetWriteBuffer(16 << 10)
		return echoOrClose(c)
	}
	besiegeServer(t, alternate, nil, fn, func(s *siege) {
		soak := &soak{siege: s, end: time.Now().Add(d), visits: make([]atomic.Int64, len(behaviours))}
		soak.run(clients, d)
		soak.report()
		soak.wantFlat()
		if !eventually(func() bool { return s.serving() == 0 }) {
			t.Errorf("%d connections are still served", s.serving())
		}
	}, PingInterval(200*time.Millisecond), ConnectionTimeout(15*time.Second), WriteTimeout(5*time.Second))
}

// alternate is Handle for every other connection and HandleConcurrent for the rest.
func alternate(fn HandlerFunc, opts ...Option) *Handler {
	var n atomic.Int64
	return Handle(func(c *Conn) error {
		if n.Add(1)%2 == 0 {
			c.readAhead()
		}
		return fn(c)
	}, opts...)
}

func echoOrClose(c *Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if string(data) == "close" {
			return nil
		}
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

func (s *soak) run(clients int, d time.Duration) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					s.visit(rand.IntN(len(behaviours)))
				}
			}
		})
	}
	s.sample(d)
	close(end)
	wg.Wait()
}

// sample takes up to 24 samples until the end. The ends of handlers are of no
// interest, and are forgotten: they would be growth.
func (s *soak) sample(d time.Duration) {
	pace := time.NewTicker(d / 24)
	defer pace.Stop()
	for time.Now().Before(s.end) {
		<-pace.C
		s.mu.Lock()
		s.ends = nil
		s.mu.Unlock()
		s.samples = append(s.samples, measure())
	}
}

// visit is one connection from beginning to end.
func (s *soak) visit(i int) {
	b := behaviours[i]
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		s.refused.Add(1)
		return
	}
	defer conn.Close()
	limit := time.Now().Add(patience)
	if !b.healthy && s.end.Before(limit) {
		limit = s.end.Add(100 * time.Millisecond) // nobody waits for the timeouts of the last ones
	}
	conn.SetDeadline(limit)
	if err = upgradeClient(conn); err == nil {
		err = b.visit(conn)
	}
	if err == nil && b.healthy {
		err = leave1000(conn)
	}
	if err != nil && b.healthy {
		s.t.Errorf("a client that %s: %v", b.name, err)
	}
	s.visits[i].Add(1)
}

func leave1000(conn net.Conn) error {
	conn.Write(clientFrame(true, Close, closeBody(StatusNormalClosure, "")))
	code, err := closeCode(conn)
	if err == nil && code != StatusNormalClosure {
		err = errors.New("closed with " + code.String())
	}
	return err
}

func (s *soak) report() {
	s.t.Helper()
	total := int64(0)
	for i, b := range behaviours {
		n := s.visits[i].Load()
		total += n
		s.t.Logf("%7d visits by a client that %s", n, b.name)
		if n == 0 && !testing.Short() && !raceEnabled() {
			s.t.Errorf("no client that %s", b.name)
		}
	}
	s.t.Logf("%7d visits in all, %d without a port", total, s.refused.Load())
}

// wantFlat compares the last third of the samples with the middle one: the first
// is for the load to build up.
func (s *soak) wantFlat() {
	s.t.Helper()
	third := len(s.samples) / 3
	if third < 2 {
		s.t.Logf("%d samples are too few to tell", len(s.samples))
		return
	}
	middle, last := mean(s.samples[third:2*third]), mean(s.samples[2*third:])
	s.t.Logf("in use in the middle: %v; at the end: %v", middle, last)
	if last.memory > middle.memory+middle.memory/4+heapSlack {
		s.t.Errorf("memory grows from %d to %d KiB", middle.memory>>10, last.memory>>10)
	}
	if last.goroutines > middle.goroutines+middle.goroutines/4+100 {
		s.t.Errorf("goroutines grow from %d to %d", middle.goroutines, last.goroutines)
	}
	if last.files > middle.files+middle.files/4+100 {
		s.t.Errorf("descriptors grow from %d to %d", middle.files, last.files)
	}
}

func mean(samples []usage) (m usage) {
	n := len(samples)
	for _, u := range samples {
		m.memory += u.memory / uint64(n)
		m.goroutines += u.goroutines
		m.files += u.files
	}
	m.goroutines /= n
	m.files /= n
	return m
}
