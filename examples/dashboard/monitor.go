package main

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	interval   = time.Second // between two samples
	maxHistory = 60          // samples that a new viewer gets
)

// A sample has the numbers of one moment. Rates are for the time since the sample before.
type sample struct {
	Time          int64   `json:"time"`          // in milliseconds since 1970
	Open          int     `json:"open"`          // connections
	Received      float64 `json:"received"`      // messages per second
	Sent          float64 `json:"sent"`          // messages per second
	BytesReceived float64 `json:"bytesReceived"` // per second
	BytesSent     float64 `json:"bytesSent"`     // per second
	RTT           spread  `json:"rtt"`           // milliseconds, of the connections that have answered a ping
	Queued        spread  `json:"queued"`        // bytes

	Accepted uint64            `json:"accepted"`
	Refused  uint64            `json:"refused"`
	Closed   map[string]uint64 `json:"closed"` // by code, see byCode
}

// A spread describes one number of all connections.
type spread struct {
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	Sum    float64 `json:"sum"`
}

// spreadOf returns the spread of values, which it sorts.
func spreadOf(values []float64) (s spread) {
	if len(values) == 0 {
		return s
	}
	slices.Sort(values)
	for _, v := range values {
		s.Sum += v
	}
	s.Median, s.Max = values[len(values)/2], values[len(values)-1]
	return s
}

// A message is what a viewer gets: first all samples of the history, then each new one.
type message struct {
	Started int64    `json:"started"` // when the server was started, in milliseconds since 1970
	Samples []sample `json:"samples"`
}

// A monitor takes samples of a Handler and sends them to all viewers.
type monitor struct {
	echoes  *websocket.Handler // the one it watches
	socket  *websocket.Handler // the one of the viewers
	viewers websocket.Group
	started time.Time

	// mu guards the fields below. It is held while a sample is sent, so that no viewer misses
	// a sample behind its history.
	mu      sync.Mutex
	history []sample
	before  websocket.HandlerStats // of the last sample
	at      time.Time              // of the last sample
}

func newMonitor(echoes *websocket.Handler) *monitor {
	now := time.Now()
	m := &monitor{echoes: echoes, started: now, at: now, history: []sample{}}
	m.socket = websocket.Handle(m.watch)
	return m
}

// run takes samples until ctx is done.
func (m *monitor) run(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.next()
		case <-ctx.Done():
			return
		}
	}
}

// next takes a sample and sends it to all viewers. It waits for none of them.
func (m *monitor) next() {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.take(time.Now())
	if len(m.history) == maxHistory {
		m.history = slices.Delete(m.history, 0, 1)
	}
	m.history = append(m.history, s)
	m.viewers.Broadcast(websocket.Text, m.encode(s)) // cannot fail, because JSON is valid UTF-8
}

// take returns the numbers of now. The caller holds m.mu.
func (m *monitor) take(now time.Time) sample {
	var rtts, queues []float64
	for c := range m.echoes.Conns() {
		stats := c.Stats()
		queues = append(queues, float64(stats.Queued))
		if stats.RTT > 0 { // 0 before the first pong
			rtts = append(rtts, float64(stats.RTT)/float64(time.Millisecond))
		}
	}
	stats, before, d := m.echoes.Stats(), m.before, now.Sub(m.at)
	m.before, m.at = stats, now
	return sample{
		Time:          now.UnixMilli(),
		Open:          stats.Open,
		Received:      perSecond(stats.MessagesReceived, before.MessagesReceived, d),
		Sent:          perSecond(stats.MessagesSent, before.MessagesSent, d),
		BytesReceived: perSecond(stats.BytesReceived, before.BytesReceived, d),
		BytesSent:     perSecond(stats.BytesSent, before.BytesSent, d),
		RTT:           spreadOf(rtts),
		Queued:        spreadOf(queues),
		Accepted:      stats.Accepted,
		Refused:       stats.Refused,
		Closed:        byCode(stats.Closed),
	}
}

// byCode returns the numbers of the codes that RFC 6455 and its registry define, and the sum of the
// others as "other". A client can close with any of about 2000 others. If each had a number in each
// sample, the history would not fit into the queue of a viewer.
func byCode(closed map[websocket.StatusCode]uint64) map[string]uint64 {
	numbers := make(map[string]uint64)
	for code, n := range closed {
		key := "other"
		if code < 1015 {
			key = strconv.Itoa(int(code))
		}
		numbers[key] += n
	}
	return numbers
}

// perSecond returns how much a sum has grown in a second of d. A sum of bytes may have become
// smaller, because those that a socket does not take are subtracted again.
func perSecond(now, before uint64, d time.Duration) float64 {
	if now <= before || d <= 0 {
		return 0
	}
	return float64(now-before) / d.Seconds()
}

// watch runs the connection of a viewer: it sends the history, and next sends the rest.
func (m *monitor) watch(c *websocket.Conn) error {
	if err := m.join(c); err != nil {
		return err
	}
	return c.Discard() // until the connection ends, because a viewer has nothing to say
}

func (m *monitor) join(c *websocket.Conn) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := c.TrySend(websocket.Text, m.encode(m.history...)); err != nil {
		return err
	}
	m.viewers.Join(c) // if c has ended, Discard returns why
	return nil
}

// encode returns the message with these samples.
func (m *monitor) encode(samples ...sample) []byte {
	data, err := json.Marshal(message{m.started.UnixMilli(), samples})
	if err != nil {
		panic(err) // cannot happen, because every sample can be encoded
	}
	return data
}
