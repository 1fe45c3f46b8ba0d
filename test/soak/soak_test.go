package soak

import (
	"flag"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

var duration = flag.Duration("soak", 2*time.Second, "how long TestSoak runs; 0 skips it")

func TestMain(m *testing.M) { wstest.Main(m) }

// A soak is a server that clients use in every way for a long time.
type soak struct {
	*wstest.Load
	end     time.Time
	visits  []atomic.Int64 // by behaviour
	streams atomic.Int64   // over HTTP/2
	refused atomic.Int64   // because no port was free
	samples []wstest.Usage

	mu    sync.Mutex
	conns [8]*wstest.HTTP2 // that many clients share, nil before the first
}

// TestSoak runs hundreds of clients with mixed behaviour for -soak, by default two
// seconds. Memory and goroutines must neither grow while it runs nor remain afterwards.
func TestSoak(t *testing.T) {
	d := *duration
	if d == 0 {
		t.Skip("-soak 0")
	}
	if testing.Short() {
		d = min(d, 500*time.Millisecond)
	}
	clients := wstest.Scale(t, 240, 60)
	if d >= time.Minute {
		clients *= 5
	}
	l := wstest.NewLoad(t)
	l.UseHTTP2(1) // beside HTTP/1.1; visit makes the connections
	l.Run(alternate(wstest.Track(l, serve)), websocket.Handle(echoOrClose), extendedconnect.Configure, func() {
		s := &soak{Load: l, end: time.Now().Add(d), visits: make([]atomic.Int64, len(behaviours))}
		s.run(clients, d)
		s.closeHTTP2()
		s.report()
		s.wantFlat()
		if !wstest.Eventually(func() bool { return l.Running() == 0 }) {
			t.Errorf("%d connections are still served", l.Running())
		}
	})
}

// alternate serves requests with Handle, HandleConcurrent and HandleMessages in turn.
func alternate(fn websocket.HandlerFunc) http.Handler {
	opts := []websocket.Option{
		websocket.PingInterval(200 * time.Millisecond),
		websocket.ConnectionTimeout(15 * time.Second),
		websocket.WriteTimeout(5 * time.Second),
	}
	messages := websocket.HandleMessages(passMessages, append(opts, websocket.OnError(func(*websocket.Conn, error) {}))...)
	handlers := []http.Handler{websocket.Handle(fn, opts...), websocket.HandleConcurrent(fn, opts...), messages}
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[n.Add(1)%3].ServeHTTP(w, r)
	})
}

func serve(c *websocket.Conn) error {
	limitWriteBuffer(c)
	return echoOrClose(c)
}

func limitWriteBuffer(c *websocket.Conn) {
	if conn, ok := c.NetConn().(*net.TCPConn); ok {
		conn.SetWriteBuffer(16 << 10)
	}
}

// passMessages is serve for HandleMessages.
func passMessages(c *websocket.Conn) (websocket.MessageFunc, error) {
	limitWriteBuffer(c)
	return func(op websocket.Opcode, data []byte) error {
		if string(data) == "close" {
			return &websocket.CloseError{Code: websocket.StatusNormalClosure}
		}
		return c.SendMessage(op, data)
	}, nil
}

func echoOrClose(c *websocket.Conn) error {
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

// sample takes up to 24 samples until the end. It drops the errors that handlers have
// returned, because their list would look like a leak.
func (s *soak) sample(d time.Duration) {
	pace := time.NewTicker(d / 24)
	defer pace.Stop()
	for time.Now().Before(s.end) {
		<-pace.C
		s.ForgetEnds()
		s.samples = append(s.samples, wstest.Measure())
	}
}

// visit connects a client with the behaviour i and runs it until it has finished.
func (s *soak) visit(i int) {
	b := behaviours[i]
	conn, err := s.dial()
	if err != nil {
		s.refused.Add(1)
		return
	}
	defer conn.Close()
	limit := time.Now().Add(wstest.Patience)
	if !b.healthy && s.end.Before(limit) {
		limit = s.end.Add(100 * time.Millisecond) // the test does not wait for the last timeouts
	}
	conn.SetDeadline(limit)
	c := wstest.NewClient(nil, conn)
	if err = c.Upgrade(); err == nil {
		err = b.run(c)
	}
	if err == nil && b.healthy {
		conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))
		err = c.WantClose(1000)
	}
	if err != nil && b.healthy {
		s.Errorf("a client that %s: %v", b.name, err)
	}
	s.visits[i].Add(1)
}

// dial opens a TCP connection or, for every third client, a stream of an HTTP/2 connection.
func (s *soak) dial() (net.Conn, error) {
	addr := s.Server.Listener.Addr().String()
	if rand.IntN(3) > 0 {
		return net.Dial("tcp", addr)
	}
	s.mu.Lock()
	c := &s.conns[rand.IntN(len(s.conns))]
	if *c == nil || (*c).Err() != nil {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			*c, err = wstest.NewHTTP2(conn, 16<<10)
		}
		if err != nil {
			*c = nil
			s.mu.Unlock()
			return nil, err
		}
	}
	conn := *c
	s.mu.Unlock()
	stream, err := conn.Connect()
	if err != nil {
		return nil, err
	}
	s.streams.Add(1)
	return stream, nil
}

func (s *soak) closeHTTP2() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
}

func (s *soak) report() {
	s.Helper()
	total := int64(0)
	for i, b := range behaviours {
		n := s.visits[i].Load()
		total += n
		s.Logf("%7d visits by a client that %s", n, b.name)
		if n == 0 && !testing.Short() && !wstest.RaceEnabled() {
			s.Errorf("there was no client that %s", b.name)
		}
	}
	s.Logf("%7d visits in all, %d of them over HTTP/2, and %d without a port", total, s.streams.Load(), s.refused.Load())
}

// wantFlat compares the last third of the samples with the middle one. The first
// third is for the load to build up.
func (s *soak) wantFlat() {
	s.Helper()
	third := len(s.samples) / 3
	if third < 2 {
		s.Logf("%d samples are too few to tell", len(s.samples))
		return
	}
	middle, last := mean(s.samples[third:2*third]), mean(s.samples[2*third:])
	s.Logf("in use in the middle: %v; at the end: %v", middle, last)
	if last.Memory > middle.Memory+middle.Memory/4+wstest.MemorySlack {
		s.Errorf("memory grows from %d to %d KiB", middle.Memory>>10, last.Memory>>10)
	}
	if last.Goroutines > middle.Goroutines+middle.Goroutines/4+100 {
		s.Errorf("goroutines grow from %d to %d", middle.Goroutines, last.Goroutines)
	}
	if last.Files > middle.Files+middle.Files/4+100 {
		s.Errorf("descriptors grow from %d to %d", middle.Files, last.Files)
	}
}

func mean(samples []wstest.Usage) (m wstest.Usage) {
	n := len(samples)
	for _, u := range samples {
		m.Memory += u.Memory / uint64(n)
		m.Goroutines += u.Goroutines
		m.Files += u.Files
	}
	m.Goroutines /= n
	m.Files /= n
	return m
}
