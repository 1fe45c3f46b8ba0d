package wstest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Load is a server that many clients use at the same time. Some of them misbehave, and
// meanwhile the server must serve a healthy client. After the load, the process must not
// use more memory, goroutines or descriptors than before.
type Load struct {
	*testing.T
	Server *httptest.Server
	Before Usage

	mu      sync.Mutex
	running int       // handlers
	ends    []error   // that handlers have returned
	clients []*Client // that Connect has made
	streams int       // see UseHTTP2
	conns   []*HTTP2  // with streams for Connect
}

// NewLoad returns a Load that is not running yet.
func NewLoad(t *testing.T) *Load { return &Load{T: t} }

// Track returns a function that calls fn and tells l of each call: Running counts the
// calls that run, and WantEnds checks the errors that they return.
func Track[C any](l *Load, fn func(C) error) func(C) error {
	return func(c C) error {
		l.mu.Lock()
		l.running++
		l.mu.Unlock()
		err := fn(c)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running--
		l.ends = append(l.ends, err)
		return err
	}
}

// healthyHeader marks the handshake of the healthy client.
const healthyHeader = "X-Healthy"

// Run calls load while a server runs h for the clients of the load and healthy,
// which must be an echo, for the healthy client. configure may be nil. load may change
// l.Before, which Peak uses.
func (l *Load) Run(h, healthy http.Handler, configure func(*http.Server), load func()) {
	l.Helper()
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(healthyHeader) != "" {
			healthy.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	l.Server.Config.ErrorLog = NoLog
	if l.streams > 0 {
		serveHTTP2(l.Server.Config)
	}
	if configure != nil {
		configure(l.Server.Config)
	}
	l.Server.Start()
	defer l.Server.Close()
	before := Measure()
	client := Dial(l.T, l.Server.Listener.Addr().String())
	client.Handshake(healthyHeader + ": yes\r\n")
	if err := client.RoundTrip("here"); err != nil {
		l.Fatal(err)
	}
	l.Before = Measure()
	stop := l.keepServed(client)
	func() {
		defer stop()
		defer l.CloseClients()
		load()
	}()
	client.Close() // first, because the event loop of HandleMessages keeps a few goroutines while it has a connection
	l.wantBefore(before)
}

// keepServed exchanges a message with the healthy client every few milliseconds
// until stop is called.
func (l *Load) keepServed(client *Client) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	trips, slowest := 0, time.Duration(0)
	go func() {
		defer close(ended)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			start := time.Now()
			if err := client.RoundTrip("still here"); err != nil {
				l.Errorf("the healthy client, after %d round trips: %v", trips, err)
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
		l.Logf("healthy client: %d round trips, the slowest in %v", trips, slowest.Round(time.Microsecond))
	}
}

// wantBefore waits until the process uses no more than before the load.
func (l *Load) wantBefore(before Usage) {
	l.Helper()
	var now Usage
	if !Eventually(func() bool {
		now = Measure()
		return now.Memory <= before.Memory+MemorySlack && now.Goroutines <= before.Goroutines && now.Files <= before.Files
	}) {
		l.Errorf("after the load the process uses %v, want no more than before: %v", now, before)
	}
	l.Logf("before %v; after %v", before, now)
}

// UseHTTP2 makes Connect open streams on HTTP/2 connections; streams is how many each connection
// has. The windows are as small as the read buffers of LimitReadBuffer. Call it before Run.
func (l *Load) UseHTTP2(streams int) { l.streams = streams }

// Connect connects a client over TCP, without a handshake. The client is closed at
// the end of the load, and its operations are bounded by Patience.
func (l *Load) Connect() (*Client, error) {
	conn, err := l.dial()
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(Patience))
	client := NewClient(nil, conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients = append(l.clients, client)
	return client, nil
}

// dial opens a TCP connection, or an upgraded stream.
func (l *Load) dial() (net.Conn, error) {
	if l.streams == 0 {
		return net.Dial("tcp", l.Server.Listener.Addr().String())
	}
	c, err := l.http2()
	if err != nil {
		return nil, err
	}
	s, err := c.Connect()
	if err == nil && s.Status != http.StatusOK {
		err = fmt.Errorf("got the status %d, want 200", s.Status)
	}
	return s, err
}

// http2 returns a connection that may have one more stream.
func (l *Load) http2() (*HTTP2, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.conns); n > 0 && l.conns[n-1].opened() < l.streams {
		return l.conns[n-1], nil
	}
	conn, err := net.Dial("tcp", l.Server.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	c, err := NewHTTP2(conn, 4096)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// ConnectAll connects n clients with handshakes, and waits until all are served.
func (l *Load) ConnectAll(n int) []*Client {
	l.Helper()
	clients := make([]*Client, n)
	l.Each(n, 64, func(i int) (err error) {
		if clients[i], err = l.Connect(); err == nil {
			err = clients[i].Upgrade()
		}
		return err
	})
	if l.Failed() {
		l.FailNow()
	}
	if !Eventually(func() bool { return l.Running() == n }) {
		l.Fatalf("%d connections are served, want %d", l.Running(), n)
	}
	return clients
}

// CloseClients closes the clients that Connect has made.
func (l *Load) CloseClients() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, client := range l.clients {
		client.Conn.Close()
	}
	for _, c := range l.conns {
		c.Close()
	}
	l.clients, l.conns = nil, nil
}

// Running returns how many handlers run.
func (l *Load) Running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// Ends returns the errors that handlers have returned since the last ForgetEnds.
func (l *Load) Ends() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends
}

// ForgetEnds drops the errors that handlers have returned, because they take memory.
func (l *Load) ForgetEnds() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = nil
}

// WantEnds waits until n handlers have returned, and checks their errors.
func (l *Load) WantEnds(n int, check func(err error) bool) {
	l.Helper()
	var ends []error
	if !Eventually(func() bool {
		ends = l.Ends()
		return len(ends) >= n
	}) {
		l.Errorf("%d handlers have returned, want %d", len(ends), n)
	}
	for i, err := range ends {
		if !check(err) {
			l.Errorf("handler %d of %d ended with %v", i+1, len(ends), err)
			return
		}
	}
}

// Each calls f for 0 to n-1, at most atOnce of them at the same time. An error of f
// fails the test.
func (l *Load) Each(n, atOnce int, f func(i int) error) {
	l.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					l.Errorf("client %d of %d: %v", i+1, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Together calls f for all clients at the same time.
func (l *Load) Together(clients []*Client, f func(c *Client) error) {
	l.Helper()
	l.Each(len(clients), len(clients), func(i int) error { return f(clients[i]) })
}

// UntilCut calls f for all clients at the same time, and waits until the server has
// ended every connection. Then it closes the clients, because a write of f may still
// block after the server has closed its side.
func (l *Load) UntilCut(clients []*Client, f func(c *Client), check func(err error) bool) {
	l.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.CloseClients()
	for _, client := range clients {
		wg.Go(func() { f(client) })
	}
	l.WantEnds(len(clients), check)
}

// Peak calls f and returns by how much memory has grown at most since Before, measured
// while f runs.
func (l *Load) Peak(f func()) uint64 {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	var peak uint64
	for {
		peak = max(peak, Measure().Growth(l.Before))
		select {
		case <-done:
			return peak
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// WantAtMost checks that got, an amount of memory, is at most most.
func (l *Load) WantAtMost(got, most uint64, what string) {
	l.Helper()
	l.Logf("%s: %d KiB, at most %d KiB are allowed", what, got>>10, most>>10)
	if got > most {
		l.Errorf("%s: got %d KiB, want at most %d KiB", what, got>>10, most>>10)
	}
}

// WantClosed checks for all clients that the server sends a close frame with code and
// ends the connection without a reset.
func (l *Load) WantClosed(clients []*Client, code uint16) {
	l.Helper()
	l.Together(clients, func(c *Client) error {
		err := c.WantClose(code)
		c.Conn.Close()
		return err
	})
}
