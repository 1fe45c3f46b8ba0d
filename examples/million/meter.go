package main

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

// figures describe a moment. The rates are for the time since the figures before.
type figures struct {
	open              int
	opened, closed    float64 // connections a second
	received, sent    float64 // messages a second
	memory, perSocket uint64  // bytes
	goroutines        int
}

func (f figures) String() string {
	return fmt.Sprintf("%7d connections, %5.2f KiB each, %8.1f MiB in all, %7d goroutines; +%.0f -%.0f connections/s; %.0f messages/s in, %.0f out",
		f.open, float64(f.perSocket)/(1<<10), float64(f.memory)/(1<<20), f.goroutines, f.opened, f.closed, f.received, f.sent)
}

// A meter measures the connections of a handler.
type meter struct {
	handler *websocket.Handler
	without uint64 // the memory before the first connection

	mu     sync.Mutex // guards the fields below
	last   figures
	at     time.Time
	before websocket.HandlerStats
}

func newMeter(h *websocket.Handler) *meter {
	return &meter{handler: h, without: memory(), at: time.Now()}
}

// measure returns the present figures.
func (m *meter) measure() figures {
	stats, now := m.handler.Stats(), time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := func(now, before uint64, seconds float64) float64 { return float64(now-before) / seconds }
	seconds := now.Sub(m.at).Seconds()
	ended := func(s websocket.HandlerStats) uint64 { return s.Accepted - uint64(s.Open) }
	f := figures{
		open:       stats.Open,
		opened:     rate(stats.Accepted, m.before.Accepted, seconds),
		closed:     rate(ended(stats), ended(m.before), seconds),
		received:   rate(stats.MessagesReceived, m.before.MessagesReceived, seconds),
		sent:       rate(stats.MessagesSent, m.before.MessagesSent, seconds),
		memory:     memory(),
		goroutines: runtime.NumGoroutine(),
	}
	if f.open > 0 && f.memory > m.without {
		f.perSocket = (f.memory - m.without) / uint64(f.open)
	}
	m.last, m.at, m.before = f, now, stats
	return f
}

// ServeHTTP shows the last figures in a browser, which asks again every second.
func (m *meter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Refresh", "1")
	fmt.Fprintln(w, m.last)
}

// memory returns how many bytes this process has from the system. It is nearly the resident size.
// The memory of the kernel for the sockets is not part of it.
func memory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
