package load

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Generator holds the connections of a workload.
//
// One goroutine handles the connections in turn: it reads the answer on one, sends on it
// again and goes to the next. With many connections the answer has usually arrived before
// it is read, so the generator does little besides the system calls.
type Generator struct {
	workload Workload
	addr     string
	streams  []*stream
	slow     []net.Conn // connections that are not read
	dialer   *dialer

	latencies []time.Duration // of the deliveries of the last run
	progress  atomic.Int64    // the complete broadcasts
}

// ErrBlocked means that a broadcast waits for connections that are not read, so that the
// others get no messages either.
var ErrBlocked = errors.New("the broadcast waits for connections that are not read")

// A Limit ends a run after a number of messages or, if that is 0, after a duration.
type Limit struct {
	Messages int
	Duration time.Duration
}

// stop returns a function that reports whether a run that has sent n messages is over.
func (l Limit) stop() func(n int) bool {
	if l.Messages > 0 {
		return func(n int) bool { return n >= l.Messages }
	}
	end := time.Now().Add(l.Duration)
	return func(int) bool { return !time.Now().Before(end) }
}

// Connect opens the connections of w to the server at addr. A raw server expects no
// handshake and echoes the bytes that it reads.
func Connect(w Workload, addr string, raw bool) (*Generator, error) {
	g := &Generator{workload: w, addr: addr}
	if w.Kind == Handshake {
		return g, nil
	}
	path := w.path()
	var sent, echoed []byte
	var messages *corpus
	if w.Text == JSON {
		messages = newCorpus(w.Size)
	} else {
		sent, echoed = w.Wire(w.Burst)
	}
	if raw {
		path, echoed = "", sent
	}
	buf := make([]byte, min(len(echoed), 256<<10))
	d := &dialer{addr: addr, path: path, protocol: w.Protocol}
	g.dialer = d
	for range w.Conns {
		c, err := d.dial()
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("connection %d: %w", len(g.streams)+1, err)
		}
		if len(g.streams) < w.readers() {
			s := newStream(c, sent, echoed, buf)
			s.pings = path == servers.PingPath
			if messages != nil {
				s.compressed = newCompressed(messages, c, path)
			}
			g.streams = append(g.streams, s)
		} else {
			c.(*net.TCPConn).SetReadBuffer(slowBuffer)
			g.slow = append(g.slow, c)
		}
		if path == servers.EchoPath || path == servers.PingPath || raw || messages != nil {
			continue
		}
		if err := awaitPong(c); err != nil {
			g.Close()
			return nil, err
		}
	}
	if err := g.fill(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// A connection that is not read holds up to 82 KiB on Linux: in the client's buffer, and in the
// server's, see servers.SendBuffer. The messages that fill them are large, because that takes
// less time.
const (
	slowBuffer = 16 << 10
	fillSize   = 16 << 10
	fills      = 6
)

// fill broadcasts until the sockets of the connections that are not read are full.
func (g *Generator) fill() error {
	if len(g.slow) == 0 {
		return nil
	}
	w := g.workload
	w.Size = fillSize
	large := &Generator{workload: w}
	sent, echoed := w.Wire(1)
	buf := make([]byte, len(echoed))
	for _, s := range g.streams {
		large.streams = append(large.streams, newStream(s.conn, sent, echoed, buf))
	}
	_, err := large.Run(Limit{Messages: fills * len(g.streams)}, true)
	return err
}

// Close closes the connections.
func (g *Generator) Close() {
	for _, s := range g.streams {
		s.close()
	}
	for _, c := range g.slow {
		c.Close()
	}
	if g.dialer != nil {
		g.dialer.close()
	}
}

// Run runs the workload up to the limit, and until all messages are answered. It returns
// the number of answered messages, or of handshakes. With verify it compares each answer
// byte for byte; otherwise it only counts the bytes.
func (g *Generator) Run(l Limit, verify bool) (int, error) {
	for _, s := range g.streams {
		s.verify = verify
		s.conn.SetDeadline(time.Now().Add(timeout + l.Duration))
	}
	switch g.workload.Kind {
	case Broadcast:
		return g.broadcast(l)
	case Handshake:
		return g.handshakes(l)
	case Idle:
		// One echo at a time, so that 10,000 handlers do not run at once.
		n, err := g.once()
		for i := 1; i < g.workload.Echoes && err == nil; i++ {
			_, err = g.once()
		}
		if err == nil && g.workload.Service == servers.GroupPath {
			err = g.broadcastText()
		}
		return n, err
	}
	return g.echo(l)
}

// echo sends a burst on each connection again as soon as the last one is answered.
func (g *Generator) echo(l Limit) (int, error) {
	n, burst := 0, g.workload.Burst
	for _, s := range g.streams {
		s.send()
		n += burst
	}
	for stop := l.stop(); !stop(n); {
		for _, s := range g.streams {
			if err := s.receive(); err != nil {
				return n, err
			}
			s.send()
			n += burst
		}
	}
	return n, g.receiveAll()
}

// receiveAll reads the answers on all connections.
func (g *Generator) receiveAll() error {
	for _, s := range g.streams {
		if err := s.receive(); err != nil {
			return err
		}
	}
	return nil
}

// broadcast sends a message on the first connection, receives it on all of them, and begins
// again. So one message is under way, whatever queues the server has.
func (g *Generator) broadcast(l Limit) (int, error) {
	if g.workload.Stall > 0 {
		defer g.watch(g.workload.Stall)()
	}
	if g.workload.Shuffle {
		read := g.streams[1:]
		rand.Shuffle(len(read), func(i, j int) { read[i], read[j] = read[j], read[i] })
	}
	g.latencies = g.latencies[:0]
	for stop := l.stop(); len(g.latencies) == 0 || !stop(len(g.latencies)); {
		start := time.Now()
		g.streams[0].send()
		for _, s := range g.streams {
			err := s.receive()
			if g.workload.Stall > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("%w: after %d deliveries there was none for %v", ErrBlocked, len(g.latencies), g.workload.Stall)
			}
			if err != nil {
				return len(g.latencies), err
			}
			g.latencies = append(g.latencies, time.Since(start))
		}
		g.progress.Add(1)
	}
	return len(g.latencies), nil
}

// watch ends all reads and writes when no broadcast was complete for a time between d and 2d.
// To set the deadlines of all connections for every broadcast would cost more than the reads.
// The returned function ends the watch.
func (g *Generator) watch(d time.Duration) func() {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for last := int64(-1); ; {
			select {
			case <-ended:
				return
			case <-time.After(d):
			}
			now := g.progress.Load()
			if now != last {
				last = now
				continue
			}
			for _, s := range g.streams {
				s.conn.SetDeadline(time.Now())
			}
			return
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// P99 returns the time in which 99 of 100 deliveries of the last run were read, from the
// sending of their message. It is 0 if the run was no broadcast.
func (g *Generator) P99() time.Duration {
	if len(g.latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(g.latencies))
	return sorted[(len(sorted)-1)*99/100]
}

// broadcastText sends a text on the first connection and receives it on all of them.
func (g *Generator) broadcastText() error {
	w := g.workload
	w.Text = ASCII
	sent, echoed := w.Wire(1)
	text := &Generator{workload: w}
	for _, s := range g.streams {
		text.streams = append(text.streams, newStream(s.conn, sent, echoed, s.buf))
	}
	_, err := text.broadcast(Limit{Messages: 1})
	return err
}

// once does one echo on each connection, one after the other.
func (g *Generator) once() (int, error) {
	for i, s := range g.streams {
		s.send()
		if err := s.receive(); err != nil {
			return i, err
		}
	}
	return len(g.streams), nil
}

// handshakes connects, does the handshake and closes, on several connections at once.
func (g *Generator) handshakes(l Limit) (int, error) {
	var done atomic.Int64
	var wg sync.WaitGroup
	stop := l.stop()
	errs := make([]error, g.workload.Conns)
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil && !stop(int(done.Load())) {
				errs[i] = connectAndClose(g.addr)
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load()), errors.Join(errs...)
}

// A stream is one connection. It sends the same bytes again and again, or the messages of a
// corpus.
type stream struct {
	conn         net.Conn
	sent, echoed []byte
	buf          []byte // shared by all streams, because the received bytes are not kept
	verify       bool
	pings        bool        // the server sends pings, which are not answered
	compressed   *compressed // not nil if the messages are compressed; then sent and echoed are not used

	err error // the error of the last write

	// A client that writes more than the socket buffers hold must read at the same
	// time. Otherwise an echo server that answers before it has the whole message
	// blocks for ever. Such a stream writes on another goroutine: a value in writes
	// starts a write, and its error is sent to wrote. For smaller writes both are nil.
	writes chan struct{}
	wrote  chan error
}

// asyncFrom is the size from which a stream writes on another goroutine. It is more than
// socket buffers hold with certainty.
const asyncFrom = 128 << 10

func newStream(c net.Conn, sent, echoed, buf []byte) *stream {
	s := &stream{conn: c, sent: sent, echoed: echoed, buf: buf}
	if len(sent) >= asyncFrom {
		s.writes, s.wrote = make(chan struct{}, 1), make(chan error, 1)
		go s.writeLoop()
	}
	return s
}

func (s *stream) writeLoop() {
	for range s.writes {
		_, err := s.conn.Write(s.sent)
		s.wrote <- err
	}
}

// send sends the messages of the workload once. Call receive before the next send.
func (s *stream) send() {
	if s.writes != nil {
		s.writes <- struct{}{}
		return
	}
	sent := s.sent
	if s.compressed != nil {
		sent = s.compressed.frame()
	}
	_, s.err = s.conn.Write(sent)
}

// receive reads the answer to the last send.
func (s *stream) receive() error {
	if s.err != nil {
		return s.err
	}
	if s.compressed != nil {
		return s.compressed.receive(s.verify)
	}
	for n := 0; n < len(s.echoed); {
		k, err := s.conn.Read(s.buf[:min(len(s.buf), len(s.echoed)-n)])
		if err != nil {
			return fmt.Errorf("after %d of %d bytes of an echo: %w", n, len(s.echoed), err)
		}
		if s.pings && n == 0 {
			k = dropPings(s.buf[:k])
		}
		if s.verify && !bytes.Equal(s.buf[:k], s.echoed[n:n+k]) {
			return fmt.Errorf("the echo differs from the message after byte %d of %d", n, len(s.echoed))
		}
		n += k
	}
	if s.writes != nil {
		return <-s.wrote
	}
	return nil
}

// dropPings removes the pings without payload that b begins with, and returns what is left. A
// server writes each frame as a whole.
func dropPings(b []byte) int {
	rest := b
	for bytes.HasPrefix(rest, []byte{0x89, 0}) {
		rest = rest[2:]
	}
	return copy(b, rest)
}

func (s *stream) close() {
	if s.writes != nil {
		close(s.writes)
	}
	s.conn.Close()
}
