package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket"
)

type options struct {
	conns, opening, rate, size int
	from                       []string
	insecure                   bool
}

func (o options) check() error {
	switch {
	case o.conns < 1 || o.opening < 1:
		return fmt.Errorf("-n is %d and -opening %d, want at least 1", o.conns, o.opening)
	case o.rate < 0:
		return fmt.Errorf("-rate is %d, want at least 0", o.rate)
	case o.size < 8 || o.size > maxMessage:
		return fmt.Errorf("-size is %d, want 8 to %d", o.size, maxMessage)
	}
	return nil
}

// maxMessage is the largest message of the server that is read.
const maxMessage = 64 << 10

// openers is how many goroutines open connections.
const openers = 64

// A holder holds the connections.
type holder struct {
	options
	dialer  *dialer
	started time.Time
	readers sync.WaitGroup

	failed, sent, received, pings atomic.Int64

	mu        sync.Mutex // guards the fields below
	clients   []*client
	closed    bool
	lost      int
	lastError error           // why the last connection failed or was lost
	latencies []time.Duration // of the answers since the last line
}

// run holds connections until ctx is done, and writes a line of figures to out each interval.
func run(ctx context.Context, rawURL string, o options, out io.Writer, interval time.Duration) error {
	d, err := newDialer(rawURL, o)
	if err := errors.Join(err, o.check()); err != nil {
		return err
	}
	h := &holder{options: o, dialer: d, started: time.Now()}
	var workers sync.WaitGroup
	workers.Go(func() { h.open(ctx) })
	workers.Go(func() { h.send(ctx) })
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
			fmt.Fprintln(out, h.line(interval))
		case <-ctx.Done():
			h.close()
			workers.Wait()
			h.readers.Wait()
			return nil
		}
	}
}

// open opens all connections, and no more than options.opening in a second.
func (h *holder) open(ctx context.Context) {
	turns := make(chan struct{})
	var workers sync.WaitGroup
	for range openers {
		workers.Go(func() {
			for range turns {
				h.openOne(ctx)
			}
		})
	}
	atRate(ctx, h.opening, h.conns, func() { turns <- struct{}{} })
	close(turns)
	workers.Wait()
}

func (h *holder) openOne(ctx context.Context) {
	c, err := h.dialer.dial(ctx)
	if err != nil {
		h.failed.Add(1)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.lastError = err
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		c.conn.Close()
		return
	}
	c.index = len(h.clients)
	h.clients = append(h.clients, c)
	h.readers.Go(func() { h.lose(c, h.read(c)) })
}

// atRate calls f n times, or for ever if n is 0, and no more than rate times in a second. It
// catches up after a pause.
func atRate(ctx context.Context, rate, n int, f func()) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	start := time.Now()
	for done := 0; n == 0 || done < n; {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		for due := int(time.Since(start).Seconds() * float64(rate)); done < due && (n == 0 || done < n); done++ {
			f()
		}
	}
}

// send sends messages over connections that it chooses at random.
func (h *holder) send(ctx context.Context) {
	if h.rate == 0 {
		return
	}
	payload := make([]byte, h.size)
	atRate(ctx, h.rate, 0, func() {
		c := h.any()
		if c == nil {
			return
		}
		binary.BigEndian.PutUint64(payload, uint64(time.Since(h.started)))
		if c.write(websocket.Binary, payload) == nil {
			h.sent.Add(1)
		}
	})
}

func (h *holder) any() *client {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) == 0 {
		return nil
	}
	return h.clients[rand.IntN(len(h.clients))]
}

// read handles the frames of the server until the connection ends.
func (h *holder) read(c *client) error {
	for {
		f, err := websocket.ReadFrame(c.r, maxMessage)
		if err != nil {
			return err
		}
		switch f.Opcode {
		case websocket.Ping:
			h.pings.Add(1)
			err = c.write(websocket.Pong, f.Payload)
		case websocket.Close:
			c.write(websocket.Close, f.Payload)
			closed, err := websocket.ParseClose(f.Payload)
			if err != nil {
				return err
			}
			return closed
		case websocket.Binary:
			h.answered(f.Payload)
		}
		if err != nil {
			return err
		}
	}
}

// answered counts a message that the server has sent back.
func (h *holder) answered(payload []byte) {
	h.received.Add(1)
	if len(payload) < 8 {
		return
	}
	took := time.Since(h.started) - time.Duration(binary.BigEndian.Uint64(payload))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latencies = append(h.latencies, took)
}

// lose forgets a connection that has ended with err.
func (h *holder) lose(c *client, err error) {
	c.conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.lost++
	h.lastError = err
	last := h.clients[len(h.clients)-1]
	h.clients[c.index], last.index = last, c.index
	h.clients = h.clients[:len(h.clients)-1]
}

// line returns the figures since the last line, which was written an interval ago.
func (h *holder) line(interval time.Duration) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	rate := func(n *atomic.Int64) float64 { return float64(n.Swap(0)) / interval.Seconds() }
	s := fmt.Sprintf("%7d connections, %d failed, %d lost; %.0f messages/s sent, %.0f answered, %.0f pings/s",
		len(h.clients), h.failed.Load(), h.lost, rate(&h.sent), rate(&h.received), rate(&h.pings))
	if n := len(h.latencies); n > 0 {
		slices.Sort(h.latencies)
		s += fmt.Sprintf("; answers after %v (median), %v (99 %%)",
			h.latencies[n/2].Round(time.Microsecond), h.latencies[n*99/100].Round(time.Microsecond))
		h.latencies = h.latencies[:0]
	}
	if h.lastError != nil {
		s += fmt.Sprintf("; last error: %v", h.lastError)
	}
	return s
}

// close ends all connections, without the close handshake: there may be a million.
func (h *holder) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, c := range h.clients {
		c.conn.Close()
	}
}

// A client is one connection. It has no buffers, because most of them are idle.
type client struct {
	conn  net.Conn
	r     io.Reader // conn, with what has arrived with the handshake
	index int       // in holder.clients
}

// write sends a frame with one call of Write, so those of several goroutines do not mix.
func (c *client) write(op websocket.Opcode, payload []byte) error {
	h := websocket.Header{Fin: true, Opcode: op, Masked: true}
	binary.BigEndian.PutUint32(h.MaskKey[:], rand.Uint32())
	masked := slices.Clone(payload)
	websocket.Mask(masked, h.MaskKey, 0)
	c.conn.SetWriteDeadline(time.Now().Add(timeout))
	_, err := c.conn.Write(websocket.AppendFrame(nil, websocket.Frame{Header: h, Payload: masked}))
	return err
}
