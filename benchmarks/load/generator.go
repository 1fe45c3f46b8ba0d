package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
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
}

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
	path := servers.EchoPath
	if w.Kind == Broadcast {
		path = servers.BroadcastPath
	}
	sent, echoed := w.Wire(w.Burst)
	if raw {
		path, echoed = "", sent
	}
	buf := make([]byte, min(len(echoed), 256<<10))
	for range w.Conns {
		c, err := dial(addr, path)
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("connection %d: %w", len(g.streams)+1, err)
		}
		g.streams = append(g.streams, newStream(c, sent, echoed, buf))
		if w.Kind != Broadcast {
			continue
		}
		if err := awaitPong(c); err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

// Close closes the connections.
func (g *Generator) Close() {
	for _, s := range g.streams {
		s.close()
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
		return g.once()
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

// broadcast sends a message on the first connection and receives it on all of them.
func (g *Generator) broadcast(l Limit) (int, error) {
	n := 0
	for stop := l.stop(); n == 0 || !stop(n); {
		g.streams[0].send()
		if err := g.receiveAll(); err != nil {
			return n, err
		}
		n += len(g.streams)
	}
	return n, nil
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

// A stream is one connection. It sends the same bytes again and again.
type stream struct {
	conn         net.Conn
	sent, echoed []byte
	buf          []byte // shared by all streams, because the received bytes are not kept
	verify       bool

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
	_, s.err = s.conn.Write(s.sent)
}

// receive reads the answer to the last send.
func (s *stream) receive() error {
	if s.err != nil {
		return s.err
	}
	for n := 0; n < len(s.echoed); {
		k, err := s.conn.Read(s.buf[:min(len(s.buf), len(s.echoed)-n)])
		if err != nil {
			return fmt.Errorf("after %d of %d bytes of an echo: %w", n, len(s.echoed), err)
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

func (s *stream) close() {
	if s.writes != nil {
		close(s.writes)
	}
	s.conn.Close()
}
