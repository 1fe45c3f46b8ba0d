package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A siege is a server under attack. A healthy client is served all the while, and
// when the attack is over, memory, goroutines and descriptors must be back where
// they were.
type siege struct {
	t    *testing.T
	srv  *httptest.Server
	base usage

	mu     sync.Mutex
	served map[*Conn]bool // those whose handler runs
	conns  []net.Conn     // the attackers'
	ends   []error        // what the handlers ended with
}

// usage is what the process has in use.
type usage struct {
	memory     uint64 // heap and stacks, after a collection
	goroutines int
	files      int
}

// heapSlack is what may be left of an attack: the runtime keeps the descriptors
// of its goroutines, and pools keep what was in use.
const heapSlack = 8 << 20

func measure() usage {
	runtime.GC()
	runtime.GC() // the first leaves the pools their victims
	// Not HeapAlloc, which has the garbage that was made meanwhile in it.
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return usage{samples[0].Value.Uint64() + samples[1].Value.Uint64(), runtime.NumGoroutine(), openFiles()}
}

// growth is how much more memory is in use after than before.
func growth(before, after usage) uint64 {
	return after.memory - min(after.memory, before.memory)
}

func (u usage) String() string {
	return fmt.Sprintf("%d KiB, %d goroutines, %d descriptors", u.memory>>10, u.goroutines, u.files)
}

// besiege runs attack against a server whose handler is Handle(fn, opts...).
func besiege(t *testing.T, fn HandlerFunc, attack func(s *siege), opts ...Option) {
	t.Helper()
	besiegeServer(t, Handle, nil, fn, attack, opts...)
}

func besiegeServer(t *testing.T, handle func(HandlerFunc, ...Option) *Handler, configure func(*http.Server), fn HandlerFunc, attack func(s *siege), opts ...Option) {
	t.Helper()
	s := &siege{t: t, served: make(map[*Conn]bool)}
	attacked, healthy := handle(s.register(fn), opts...), Handle(echo)
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Healthy") != "" {
			healthy.ServeHTTP(w, r)
			return
		}
		attacked.ServeHTTP(w, r)
	}))
	s.srv.Config.ErrorLog = quiet
	if configure != nil {
		configure(s.srv.Config)
	}
	s.srv.Start()
	defer s.srv.Close()
	client := dial(t, s.srv, "X-Healthy: yes\r\n")
	checkBystander(client)
	s.base = measure()
	stop := s.keepServed(client)
	func() {
		defer stop()
		defer s.withdraw()
		attack(s)
	}()
	s.wantBase()
	client.close()
}

// register makes fn known to the siege while it runs, and its error after that.
func (s *siege) register(fn HandlerFunc) HandlerFunc {
	return func(c *Conn) error {
		s.mu.Lock()
		s.served[c] = true
		s.mu.Unlock()
		err := fn(c)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.served, c)
		s.ends = append(s.ends, err)
		return err
	}
}

// keepServed has the healthy client exchange a message every few milliseconds
// until stop is called, which logs how it went.
func (s *siege) keepServed(p *peer) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	trips, slowest := 0, time.Duration(0)
	go func() {
		defer close(ended)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			start := time.Now()
			if err := roundTrip(p, fmt.Sprint("still here ", trips)); err != nil {
				s.t.Errorf("the healthy client, after %d round trips: %v", trips, err)
				return
			}
			trips++
			slowest = max(slowest, time.Since(start))
			select {
			case <-pace.C:
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		s.t.Logf("healthy client: %d round trips, the slowest in %v", trips, slowest.Round(time.Microsecond))
	}
}

// roundTrip is checkBystander for goroutines that must not end the test.
func roundTrip(p *peer, text string) error {
	p.conn.SetDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(clientFrame(true, Text, text)); err != nil {
		return err
	}
	for {
		f, err := ReadFrame(p.br, 1<<20)
		if err != nil {
			return err
		}
		if f.Opcode == Ping {
			continue
		}
		if string(f.Payload) != text {
			return fmt.Errorf("got %v %s, want %q", f.Opcode, abbreviate(f.Payload), text)
		}
		return nil
	}
}

// withdraw closes what the attackers have open.
func (s *siege) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}

// wantBase waits until everything is back at its base.
func (s *siege) wantBase() {
	s.t.Helper()
	var now usage
	if !eventually(func() bool {
		now = measure()
		return now.memory <= s.base.memory+heapSlack && now.goroutines <= s.base.goroutines && now.files <= s.base.files
	}) {
		s.t.Errorf("after the attack there are %v in use, want no more than before: %v", now, s.base)
	}
	s.t.Logf("before %v; after %v", s.base, now)
}

// eventually waits for what nothing else tells of.
func eventually(done func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

// wantEnds waits for n handlers to have returned, and checks their errors.
func (s *siege) wantEnds(n int, check func(err error) bool) {
	s.t.Helper()
	var ends []error
	if !eventually(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		ends = s.ends
		return len(ends) >= n
	}) {
		s.t.Errorf("%d handlers have returned, want %d", len(ends), n)
	}
	for i, err := range ends {
		if !check(err) {
			s.t.Errorf("handler %d of %d ended with %v", i+1, len(ends), err)
			return
		}
	}
}

// connect makes a connection of an attacker.
func (s *siege) connect() (net.Conn, error) {
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn)
	return conn, nil
}

// upgraded101 is the answer to testHandshake, byte for byte: a ping may follow
// directly.
const upgraded101 = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: " + rfcAccept + "\r\n\r\n"

// upgradeClient does the handshake on a connection.
func upgradeClient(conn net.Conn) error {
	if _, err := io.WriteString(conn, fmt.Sprintf(testHandshake, "")); err != nil {
		return err
	}
	answer := make([]byte, len(upgraded101))
	n, err := io.ReadFull(conn, answer)
	if err == nil && string(answer) != upgraded101 {
		err = errors.New("not what was to come")
	}
	if err != nil {
		return fmt.Errorf("handshake answered with %q: %w", answer[:n], err)
	}
	return nil
}

// raid connects n clients and waits until all are being served.
func (s *siege) raid(n int) []net.Conn {
	s.t.Helper()
	conns := make([]net.Conn, n)
	s.each(n, 64, func(i int) (err error) {
		if conns[i], err = s.connect(); err == nil {
			err = upgradeClient(conns[i])
		}
		return err
	})
	if s.t.Failed() {
		s.t.FailNow()
	}
	if !eventually(func() bool { return s.serving() == n }) {
		s.t.Fatalf("%d connections are served, want %d", s.serving(), n)
	}
	return conns
}

func (s *siege) serving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

// each runs f for 0 to n-1, so many at a time.
func (s *siege) each(n, atOnce int, f func(i int) error) {
	s.t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					s.t.Errorf("client %d of %d: %v", i+1, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// together runs f for all clients at the same time.
func (s *siege) together(conns []net.Conn, f func(conn net.Conn) error) {
	s.t.Helper()
	s.each(len(conns), len(conns), func(i int) error { return f(conns[i]) })
}

// assault runs f for all clients at the same time until the server has ended every
// connection. Only then are they closed, which frees those that have not noticed:
// a client whose kernel waits for room at a server that is gone can take its time.
func (s *siege) assault(conns []net.Conn, f func(conn net.Conn), check func(err error) bool) {
	s.t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.withdraw()
	for _, conn := range conns {
		wg.Go(func() { f(conn) })
	}
	s.wantEnds(len(conns), check)
}

// peakWhile runs f and returns the most memory that was in use above the base.
func (s *siege) peakWhile(f func()) uint64 {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	var peak uint64
	for {
		peak = max(peak, growth(s.base, measure()))
		select {
		case <-done:
			return peak
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *siege) wantAtMost(got, most uint64, what string) {
	s.t.Helper()
	s.t.Logf("%s: %d KiB, at most %d KiB are fine", what, got>>10, most>>10)
	if got > most {
		s.t.Errorf("%s: %d KiB, want at most %d KiB", what, got>>10, most>>10)
	}
}

// crowd is how many clients there are: n of them, or fewer where the test is to
// be short or each costs ten times as much.
func crowd(t *testing.T, n, race int) int {
	t.Helper()
	most := n
	if raceEnabled() {
		n = race
	}
	if testing.Short() {
		n = max(n/10, 1)
	}
	if n != most {
		t.Logf("scaled down from %d to %d", most, n)
	}
	return n
}

// closeCode reads until the close frame, returns its code and reads the rest.
func closeCode(conn net.Conn) (StatusCode, error) {
	for {
		f, err := ReadFrame(conn, 1<<20)
		if err != nil {
			return 0, err
		}
		if f.Opcode != Close {
			continue
		}
		got, err := parseClosePayload(f.Payload)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, conn)
		return got.Code, err
	}
}

// wantClosed checks that the server closes every connection in order, with code.
func (s *siege) wantClosed(conns []net.Conn, code StatusCode) {
	s.t.Helper()
	s.together(conns, func(conn net.Conn) error {
		got, err := closeCode(conn)
		conn.Close()
		if err != nil || got != code {
			return fmt.Errorf("closed with %v, error %v, want %v", got, err, code)
		}
		return nil
	})
}

// smallBuffer keeps the kernel from taking megabytes that a client does not read.
// The server's side has its own, see tight.
func smallBuffer(conn net.Conn) { conn.(*net.TCPConn).SetReadBuffer(4096) }

// tight is fn with little room between the server and the client.
func tight(fn HandlerFunc) HandlerFunc {
	return func(c *Conn) error {
		c.NetConn().(*net.TCPConn).SetWriteBuffer(4096)
		return fn(c)
	}
}

func isError(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func timedOutWriting(err error) bool {
	return strings.Contains(err.Error(), "WriteTimeout")
}

func TestHostile_2000_connections_that_declare_1_MiB_and_send_10_bytes(t *testing.T) {
	besiege(t, receiveAll, func(s *siege) {
		conns := s.raid(crowd(t, 2000, 1000))
		connected, since := measure(), clock()
		s.together(conns, func(conn net.Conn) error {
			_, err := conn.Write(append(headerOf(true, Binary, 1<<20), "ten bytes."...))
			return err
		})
		if !eventually(func() bool { return s.heardAll(since) }) {
			t.Error("the server has not read all that was sent")
		}
		now := measure()
		s.wantAtMost(growth(connected, now), 1<<20+uint64(len(conns))<<11, "the frames cost")
		s.wantAtMost(growth(s.base, now), 64<<20, "the connections, of both sides, and the frames cost")
	})
}

// heardAll reports whether something was read from every connection since then.
func (s *siege) heardAll(since time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.served {
		if c.lastHeard.Load() < int64(since) {
			return false
		}
	}
	return true
}

func TestHostile_lengths_of_64_bits(t *testing.T) {
	for _, tt := range []struct {
		length string
		code   StatusCode
		is     error
	}{
		{"\x80\x00\x00\x00\x00\x00\x00\x00", StatusProtocolError, ErrProtocol},
		{"\x80\x00\x00\x00\x00\x00\x00\x05", StatusProtocolError, ErrProtocol},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", StatusProtocolError, ErrProtocol},
		{"\x7f\xff\xff\xff\xff\xff\xff\xff", StatusMessageTooBig, ErrMessageTooLarge},
		{"\x00\x00\x00\x01\x00\x00\x00\x00", StatusMessageTooBig, ErrMessageTooLarge},
		{"\x00\x00\x00\x00\x80\x00\x00\x00", StatusMessageTooBig, ErrMessageTooLarge},
	} {
		t.Run(fmt.Sprintf("%x", tt.length), func(t *testing.T) {
			besiege(t, receiveAll, func(s *siege) {
				conns := s.raid(crowd(t, 100, 100))
				s.together(conns, func(conn net.Conn) error {
					_, err := conn.Write([]byte("\x82\xff" + tt.length + "keyspayload"))
					return err
				})
				s.wantClosed(conns, tt.code)
				s.wantEnds(len(conns), isError(tt.is))
			})
		})
	}
}

// pieces of one message: n frames of the same bytes, of which the last is sent apart.
func splitMessage(n int, payload string) (most, last []byte) {
	first := clientFrame(false, Binary, payload)
	more := bytes.Repeat(clientFrame(false, Continuation, payload), n-2)
	return append(first, more...), clientFrame(true, Continuation, payload)
}

func TestHostile_100000_empty_fragments(t *testing.T) {
	most, last := splitMessage(100_000, "")
	t.Run("and the end", func(t *testing.T) {
		besiege(t, echo, func(s *siege) {
			conns := s.raid(crowd(t, 20, 5))
			peak := s.peakWhile(func() {
				s.together(conns, func(conn net.Conn) error {
					if _, err := conn.Write(join(most, last)); err != nil {
						return err
					}
					f, err := ReadFrame(conn, 0)
					if err != nil || f.Opcode != Binary {
						return fmt.Errorf("got %+v, %v, want an empty message", f, err)
					}
					return nil
				})
			})
			s.wantAtMost(peak, 32<<20, "the most in use, of both sides")
		})
	})
	t.Run("and more than MaxFragments", func(t *testing.T) {
		besiege(t, receiveAll, func(s *siege) {
			conns := s.raid(crowd(t, 20, 5))
			s.together(conns, func(conn net.Conn) error {
				_, err := conn.Write(most)
				return err
			})
			s.wantClosed(conns, StatusMessageTooBig)
			s.wantEnds(len(conns), isError(ErrMessageTooLarge))
		}, MaxFragments(99_000))
	})
}

// sliced is a message of n bytes in fragments of one.
func sliced(n int) [][]byte {
	most, last := splitMessage(n, "x")
	return chops(join(most, last), 64<<10)
}

func TestHostile_1_MiB_in_fragments_of_one_byte(t *testing.T) {
	size := 1 << 20
	if raceEnabled() || testing.Short() {
		size >>= 3
		t.Logf("scaled down from 1 MiB to %d KiB", size>>10)
	}
	t.Run("takes linear time and memory", func(t *testing.T) {
		quarter, _ := receiveSliced(t, size/4)
		whole, memory := receiveSliced(t, size)
		t.Logf("a quarter takes %v, the whole %v and allocates %d KiB", quarter, whole, memory>>10)
		if memory > 8*uint64(size) {
			t.Errorf("a message of %d KiB allocates %d KiB", size>>10, memory>>10)
		}
		if whole > 10*quarter {
			t.Errorf("a message takes %v and a quarter of it %v: that is not linear", whole, quarter)
		}
	})
	t.Run("comes back whole", func(t *testing.T) {
		besiege(t, echo, func(s *siege) {
			conns := s.raid(crowd(t, 4, 2))
			wire := sliced(size)
			s.base = measure() // the attackers share what they send
			peak := s.peakWhile(func() {
				s.together(conns, func(conn net.Conn) error { return sendSliced(conn, wire, size) })
			})
			s.wantAtMost(peak, 1<<20+8*uint64(size*len(conns)), "the most in use, of both sides")
		}, MaxFragments(size))
	})
	t.Run("is over the default MaxFragments", func(t *testing.T) {
		besiege(t, receiveAll, func(s *siege) {
			conns := s.raid(4)
			s.together(conns, func(conn net.Conn) error {
				_, err := conn.Write(join(sliced(defaultOptions().maxFragments + 2)...))
				return err
			})
			s.wantClosed(conns, StatusMessageTooBig)
			s.wantEnds(len(conns), isError(ErrMessageTooLarge))
		})
	})
}

// receiveSliced returns the best of three times, and what was allocated.
func receiveSliced(t *testing.T, n int) (best time.Duration, memory uint64) {
	wire := sliced(n)
	best = time.Hour
	for range 3 {
		c, _ := play(t, append([][]byte(nil), wire...), MaxFragments(n))
		memory = allocated(func() {
			start := time.Now()
			if _, data, err := c.ReceiveMessage(); err != nil || len(data) != n {
				t.Fatalf("got %d bytes and error %v, want %d", len(data), err, n)
			}
			best = min(best, time.Since(start))
		})
	}
	return best, memory
}

func sendSliced(conn net.Conn, wire [][]byte, size int) error {
	if err := writeAll(conn, wire); err != nil {
		return err
	}
	f, err := ReadFrame(conn, int64(size))
	if err != nil || !bytes.Equal(f.Payload, bytes.Repeat([]byte("x"), size)) {
		return fmt.Errorf("%d bytes came back, error %v", len(f.Payload), err)
	}
	return nil
}

var (
	pingFlood    = bytes.Repeat(clientFrame(true, Ping, strings.Repeat("p", 125)), 100)
	messageFlood = bytes.Repeat(clientFrame(true, Binary, strings.Repeat("m", 4096)), 4)
	lots         = make([]byte, 16<<20)
)

// floods are what clients send without end, behind one text message, that never
// read. What one costs is measured on both sides.
var floods = []struct {
	name     string
	handle   func(HandlerFunc, ...Option) *Handler
	fn       HandlerFunc
	flood    []byte
	eachCost uint64
}{
	{"pings", Handle, receiveAll, pingFlood, 256 << 10},
	{"pings beside a busy handler", HandleConcurrent, idle, pingFlood, 256 << 10},
	{"pings behind a sender that is stuck", HandleConcurrent, sendWhenAsked(lots), pingFlood, 256 << 10},
	{"messages to an echo", Handle, echo, messageFlood, 256 << 10},
	{"messages to a concurrent echo", HandleConcurrent, echo, messageFlood, 384 << 10},
}

func TestHostile_50_clients_that_send_for_ever_and_never_read(t *testing.T) {
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			besiegeServer(t, tt.handle, nil, tight(tt.fn), func(s *siege) {
				conns := s.raid(crowd(t, 50, 50))
				var sent atomic.Int64
				peak := s.peakWhile(func() {
					s.assault(conns, func(conn net.Conn) {
						smallBuffer(conn)
						conn.Write(clientFrame(true, Text, "go"))
						sent.Add(floodUntilCut(conn, tt.flood))
					}, timedOutWriting)
				})
				t.Logf("%d KiB were sent", sent.Load()>>10)
				s.wantAtMost(peak, 1<<20+uint64(len(conns))*tt.eachCost, "the most in use, of both sides")
			}, WriteTimeout(200*time.Millisecond))
		})
	}
}

// floodUntilCut sends until the server does not want any more of it.
func floodUntilCut(conn net.Conn, flood []byte) (sent int64) {
	for {
		n, err := conn.Write(flood)
		sent += int64(n)
		if err != nil {
			return sent
		}
	}
}

func TestHostile_slow_readers(t *testing.T) {
	t.Run("50 that read a byte at a time get everything", func(t *testing.T) {
		const size = 8 << 10
		besiege(t, sendWhenAsked(bytes.Repeat([]byte("slow"), size/4)), func(s *siege) {
			conns := s.raid(crowd(t, 50, 20))
			s.together(conns, func(conn net.Conn) error {
				smallBuffer(conn)
				conn.Write(clientFrame(true, Text, "go"))
				f, err := ReadFrame(oneByte{conn}, size)
				if err != nil || !bytes.Equal(f.Payload, bytes.Repeat([]byte("slow"), size/4)) {
					return fmt.Errorf("%d bytes came, error %v", len(f.Payload), err)
				}
				return nil
			})
		})
	})
	t.Run("50 that take too long are cut off by WriteTimeout", func(t *testing.T) {
		besiege(t, sendWhenAsked(lots), func(s *siege) {
			conns := s.raid(crowd(t, 50, 50))
			peak := s.peakWhile(func() {
				s.assault(conns, func(conn net.Conn) {
					smallBuffer(conn)
					conn.Write(clientFrame(true, Text, "go"))
					trickle(conn)
				}, timedOutWriting)
			})
			s.wantAtMost(peak, 1<<20+uint64(len(conns))*64<<10, "the most in use, of both sides")
		}, WriteTimeout(200*time.Millisecond))
	})
}

// oneByte reads a byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// trickle reads a byte now and then, until it is cut off.
func trickle(conn net.Conn) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for range pace.C {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return
		}
	}
}

// sendWhenAsked is a handler that answers every message with data.
func sendWhenAsked(data []byte) HandlerFunc {
	return tight(func(c *Conn) error {
		for {
			if _, _, err := c.ReceiveMessage(); err != nil {
				return err
			}
			if err := c.SendMessage(Binary, data); err != nil {
				return err
			}
		}
	})
}

func TestHostile_200_handshakes_a_byte_at_a_time(t *testing.T) {
	const limit = 250 * time.Millisecond
	configure := func(srv *http.Server) { srv.ReadHeaderTimeout = limit }
	besiegeServer(t, Handle, configure, echo, func(s *siege) {
		n := crowd(t, 200, 100)
		var slowest atomic.Int64
		s.each(n, n, func(int) error {
			conn, err := s.connect()
			if err != nil {
				return err
			}
			start := time.Now()
			if err := dribbleHandshake(conn, limit); err != nil {
				return err
			}
			slowest.Store(max(slowest.Load(), int64(time.Since(start))))
			return nil
		})
		t.Logf("ReadHeaderTimeout %v cut off the last in %v", limit, time.Duration(slowest.Load()))
		if n := len(s.ends) + s.serving(); n > 0 {
			t.Errorf("%d handlers were run", n)
		}
	})
}

// dribbleHandshake sends a handshake so slowly that it takes three times the limit, and
// expects to be hung up on.
func dribbleHandshake(conn net.Conn, limit time.Duration) error {
	handshake := fmt.Sprintf(testHandshake, "")
	cut := make(chan error, 1)
	go func() {
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte(" 101 ")) {
			cut <- errors.New("the handshake was accepted")
			return
		}
		cut <- nil
	}()
	pace := time.NewTicker(3 * limit / time.Duration(len(handshake)))
	defer pace.Stop()
	for i := range len(handshake) {
		select {
		case err := <-cut:
			return err
		case <-pace.C:
			io.WriteString(conn, handshake[i:i+1])
		}
	}
	return <-cut
}

// resets are the moments at which a client goes away without a word.
var resets = []struct {
	name   string
	served bool // there is a handler then
	send   string
	wait   bool // for something of the server
}{
	{name: "before the handshake"},
	{name: "in the middle of the handshake", send: testHandshake[:40]},
	{name: "behind the handshake", served: true},
	{name: "in the middle of a header", served: true, send: string(clientFrame(true, Text, "hello")[:1])},
	{name: "in the middle of a length", served: true, send: string(headerOf(true, Binary, 1<<20)[:5])},
	{name: "in the middle of a frame", served: true, send: string(clientFrame(true, Text, "hello")[:8])},
	{name: "between fragments", served: true, send: string(clientFrame(false, Text, "hello"))},
	{name: "behind a ping", served: true, send: string(clientFrame(true, Ping, "hello"))},
	{name: "while much is being sent to it", served: true, send: string(clientFrame(true, Text, "send")), wait: true},
	{name: "instead of answering a close", served: true, send: string(clientFrame(true, Text, "close")), wait: true},
	{name: "behind its own close", served: true, send: string(clientFrame(true, Close, closeBody(1000, "")))},
	{name: "behind a broken rule", served: true, send: "\x81\x00"},
}

// obey does what the client says, and tells of no error that comes of it.
func obey(c *Conn) error {
	for {
		_, data, err := c.ReceiveMessage()
		switch {
		case err != nil:
			return err
		case string(data) == "send":
			err = c.SendMessage(Binary, lots)
		case string(data) == "close":
			err = c.Close(StatusNormalClosure, "")
		}
		if err != nil {
			return err
		}
	}
}

func TestHostile_100_resets_at_every_moment(t *testing.T) {
	for _, tt := range resets {
		t.Run(tt.name, func(t *testing.T) {
			besiege(t, obey, func(s *siege) {
				n := crowd(t, 100, 50)
				s.each(n, 16, func(int) error {
					conn, err := s.connect()
					if err == nil && tt.served {
						err = upgradeClient(conn)
					}
					if err != nil {
						return err
					}
					io.WriteString(conn, tt.send)
					if tt.wait {
						_, err = conn.Read(make([]byte, 1))
					}
					resetConn(conn)
					return err
				})
				if !tt.served {
					n = 0
				}
				s.wantEnds(n, func(err error) bool { return err != nil })
			})
		})
	}
}

func resetConn(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func TestHostile_200_peers_that_never_answer_a_close(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, flood := range map[string][]byte{
		"and are silent":       nil,
		"and send on for ever": bytes.Repeat(clientFrame(true, Binary, strings.Repeat("m", 1000)), 10),
		"and ping on for ever": bytes.Repeat(clientFrame(true, Ping, "p"), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			besiege(t, obey, func(s *siege) {
				conns := s.raid(crowd(t, 200, 50))
				peak := s.peakWhile(func() {
					s.assault(conns, func(conn net.Conn) {
						conn.Write(clientFrame(true, Text, "close"))
						if flood != nil {
							floodUntilCut(conn, flood)
						}
					}, isError(ErrCloseTimeout))
				})
				s.wantAtMost(peak, 1<<20+uint64(len(conns))*128<<10, "the most in use, of both sides")
			}, CloseTimeout(limit))
		})
	}
}

// goodbyes are the ways in which a client ends a short visit.
var goodbyes = []func(conn net.Conn) error{
	func(conn net.Conn) error { return conn.Close() },
	func(conn net.Conn) error { resetConn(conn); return nil },
	func(conn net.Conn) error {
		conn.Write(clientFrame(true, Close, closeBody(StatusNormalClosure, "")))
		_, err := closeCode(conn)
		return errors.Join(err, conn.Close())
	},
}

func TestHostile_burst_of_5000_connects_and_disconnects(t *testing.T) {
	besiege(t, echo, func(s *siege) {
		n := crowd(t, 5000, 1500)
		start := time.Now()
		s.each(n, 64, func(i int) error {
			conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
			if err != nil {
				return err
			}
			conn.SetDeadline(time.Now().Add(patience))
			if err := upgradeClient(conn); err != nil {
				return err
			}
			return goodbyes[i%len(goodbyes)](conn)
		})
		s.wantEnds(n, func(err error) bool { return err != nil })
		t.Logf("%d in %v", n, time.Since(start).Round(time.Millisecond))
	})
}

// The clients have a process of their own: one has seldom descriptors for both
// sides, and so the memory that is measured is the server's alone.
func TestHostile_10000_idle_connections(t *testing.T) {
	if addr := os.Getenv(idleTarget); addr != "" {
		beIdle(t, addr)
		return
	}
	besiege(t, receiveAll, func(s *siege) {
		n := min(crowd(t, 10_000, 2_000), maxFiles()-s.base.files-100)
		before := measure()
		stop := s.idleClients(n)
		defer stop()
		if !eventually(func() bool { return s.serving() == n }) {
			t.Errorf("%d connections are served, want %d", s.serving(), n)
			return
		}
		now := measure()
		perConn := growth(before, now) / uint64(n)
		t.Logf("%d idle connections: %v, %d bytes each", n, now, perConn)
		if most := uint64(24 << 10); perConn > most {
			t.Errorf("an idle connection costs %d bytes, want at most %d", perConn, most)
		}
		if goroutines := now.goroutines - before.goroutines; goroutines > n+20 {
			t.Errorf("%d idle connections cost %d goroutines", n, goroutines)
		}
	})
}

const (
	idleTarget = "WEBSOCKET_TEST_IDLE_TARGET"
	idleCount  = "WEBSOCKET_TEST_IDLE_COUNT"
)

// idleClients runs a process with n clients until stop is called.
func (s *siege) idleClients(n int) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostile_10000_idle_connections$")
	cmd.Env = append(os.Environ(), idleTarget+"="+s.srv.Listener.Addr().String(), fmt.Sprintf("%s=%d", idleCount, n))
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		defer cancel()
		hold.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the process of the clients: %v", err)
		}
	}
}

// beIdle is the process of the clients: it lets go when its input ends.
func beIdle(t *testing.T, addr string) {
	n, err := strconv.Atoi(os.Getenv(idleCount))
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, n)
	(&siege{t: t}).each(n, 32, func(i int) (err error) {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return err
		}
		return upgradeClient(conns[i])
	})
	io.Copy(io.Discard, os.Stdin)
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
}

// maxFiles is how many descriptors the process may have. The Go runtime has raised
// the limit as far as it may already.
func maxFiles() int {
	limits, err := os.ReadFile("/proc/self/limits")
	for line := range strings.Lines(string(limits)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(line, "Max open files") {
			continue
		}
		if fields[3] == "unlimited" {
			return 1 << 20
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			return n
		}
	}
	if err != nil {
		return 1000 // no Linux
	}
	return 256
}

// everybody uses every kind of method from goroutines of its own until the
// connection ends, which is up to the watchdog, the peer and, after d, to Close. It
// returns what ended the connection.
func everybody(c *Conn, d time.Duration) error {
	var wg sync.WaitGroup
	repeat := func(f func() error) {
		for range 2 {
			wg.Go(func() {
				for c.err() == nil {
					f()
				}
			})
		}
	}
	repeat(func() error { return c.SendMessage(Text, []byte("text")) })
	repeat(func() error { _, _, err := c.ReceiveMessage(); return err })
	repeat(func() error { return c.SendMessage(Ping, nil) })
	repeat(func() error { return c.SetReadDeadline(time.Now().Add(time.Millisecond)) })
	repeat(func() error { return sendStream(c) })
	for range 2 {
		wg.Go(func() {
			select {
			case <-time.After(d):
				c.Close(StatusNormalClosure, "")
			case <-c.Context().Done():
			}
		})
	}
	wg.Wait()
	return c.err()
}

// drain takes what HandleConcurrent has read ahead: it comes before the error.
func drain(c *Conn) {
	for range 1000 {
		if _, _, err := c.ReceiveMessage(); err == c.err() {
			return
		}
		runtime.Gosched()
	}
}

func sendStream(c *Conn) error {
	w, err := c.MessageWriter(Binary)
	if err != nil {
		return err
	}
	_, err = w.Write(make([]byte, 5000))
	return errors.Join(err, w.Close())
}

// Close, Send, Receive and the watchdog race on each connection, from a dozen
// goroutines; which of them ends it is a matter of chance.
func TestHostile_100_races_of_Close_Send_Receive_and_the_watchdog(t *testing.T) {
	for name, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		t.Run(name, func(t *testing.T) {
			fn := func(c *Conn) error {
				err := everybody(c, time.Duration(rand.IntN(10))*time.Millisecond)
				drain(c)
				wantSticky(t, c, err)
				return err
			}
			besiegeServer(t, handle, nil, fn, func(s *siege) {
				n := crowd(t, 100, 40)
				s.each(n, 8, func(int) error { return s.chat() })
				s.wantEnds(n, func(err error) bool { return err != nil })
				t.Log(s.tally())
			}, PingInterval(time.Millisecond), ConnectionTimeout(4*time.Millisecond), CloseTimeout(5*time.Millisecond), WriteTimeout(50*time.Millisecond))
		})
	}
}

// chat reads everything, sends a little and falls silent, or leaves.
func (s *siege) chat() error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	if upgradeClient(conn) != nil {
		return nil // the watchdog may strike that early
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, conn) })
	for range rand.IntN(50) {
		conn.Write(join(clientFrame(true, Ping, "!"), clientFrame(false, Text, "1"), clientFrame(true, Continuation, "2")))
	}
	switch rand.IntN(4) {
	case 0:
		conn.Write(clientFrame(true, Close, closeBody(StatusGoingAway, "")))
	case 1:
		resetConn(conn)
	}
	wg.Wait()
	return nil
}

// tally counts the handlers by what they ended with.
func (s *siege) tally() map[StatusCode]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[StatusCode]int{}
	for _, err := range s.ends {
		counts[CloseStatus(err)]++
	}
	return counts
}

// The security page names tests; it must not outlive them.
func TestSecurityPage(t *testing.T) {
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	src := parseSources(t)
	named := 0
	for _, span := range codeSpans(string(text)) {
		if !strings.HasPrefix(span, "Test") && !strings.HasPrefix(span, "Fuzz") {
			continue
		}
		named++
		for _, problem := range src.check("", "`"+span+"`") {
			t.Error(problem)
		}
	}
	if named == 0 {
		t.Error("SECURITY.md names no tests")
	}
	for test := range src.tests {
		if strings.HasPrefix(test, "TestHostile_") && !strings.Contains(string(text), test) {
			t.Errorf("SECURITY.md does not name %s", test)
		}
	}
}
