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

// A Generator has the connections of a workload.
//
// One goroutine serves them in turn: read what came back on one, send on it again,
// go to the next. With many connections the answer is mostly there when its turn
// comes, so that the generator spends little but the system calls.
type Generator struct {
	workload Workload
	addr     string
	streams  []*stream
}

// A Limit ends a run after a number of messages or some time, whatever it has.
type Limit struct {
	Messages int
	Duration time.Duration
}

// stop returns a function that reports whether a run that has sent n is over.
func (l Limit) stop() func(n int) bool {
	if l.Messages > 0 {
		return func(n int) bool { return n >= l.Messages }
	}
	end := time.Now().Add(l.Duration)
	return func(int) bool { return !time.Now().Before(end) }
}

// Connect opens the connections of w to the server at addr, which is raw if it
// takes no handshake and returns the bytes as they are.
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

// Run runs the workload up to the limit and until nothing is in flight any more. It
// returns how many messages were answered, or handshakes done; verify compares each
// answer byte for byte, otherwise only their bytes are counted.
func (g *Generator) Run(l Limit, verify bool) (int, error) {
	for _, s := range g.streams {
		s.verify = verify
		s.conn.SetDeadline(time.Now().Add(patience + l.Duration))
	}
	switch g.workload.Kind {
	case Broadcast:
		return g.broadcast(l)
	case Handshake:
		return g.handshakes(l)
	case Idle:
		// One each, so that it is the connections that are measured, not 10,000
		// handlers at once.
		return g.once()
	}
	return g.echo(l)
}

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

func (g *Generator) receiveAll() error {
	for _, s := range g.streams {
		if err := s.receive(); err != nil {
			return err
		}
	}
	return nil
}

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

func (g *Generator) once() (int, error) {
	for i, s := range g.streams {
		s.send()
		if err := s.receive(); err != nil {
			return i, err
		}
	}
	return len(g.streams), nil
}

func (g *Generator) handshakes(l Limit) (int, error) {
	var done atomic.Int64
	var wg sync.WaitGroup
	stop := l.stop()
	errs := make([]error, g.workload.Conns)
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil && !stop(int(done.Load())) {
				errs[i] = visit(g.addr)
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load()), errors.Join(errs...)
}

// A stream is one connection: it sends the same bytes over and over.
type stream struct {
	conn         net.Conn
	sent, echoed []byte
	buf          []byte // one for all streams: what is received is only looked at
	verify       bool

	err error // of the last write

	// Who writes more than the socket buffers hold must read at the same time, or
	// an echo server that does not wait for the whole message waits for ever. Then
	// a goroutine does the writing.
	outbox chan struct{}
	wrote  chan error
}

// outboxFrom is more than socket buffers are certain to hold.
const outboxFrom = 128 << 10

func newStream(c net.Conn, sent, echoed, buf []byte) *stream {
	s := &stream{conn: c, sent: sent, echoed: echoed, buf: buf}
	if len(sent) >= outboxFrom {
		s.outbox, s.wrote = make(chan struct{}, 1), make(chan error, 1)
		go s.writeLoop()
	}
	return s
}

func (s *stream) writeLoop() {
	for range s.outbox {
		_, err := s.conn.Write(s.sent)
		s.wrote <- err
	}
}

// send sends what receive then waits for: both in turn.
func (s *stream) send() {
	if s.outbox != nil {
		s.outbox <- struct{}{}
		return
	}
	_, s.err = s.conn.Write(s.sent)
}

// receive reads the answer to what was sent last.
func (s *stream) receive() error {
	if s.err != nil {
		return s.err
	}
	for n := 0; n < len(s.echoed); {
		k, err := s.conn.Read(s.buf[:min(len(s.buf), len(s.echoed)-n)])
		if err != nil {
			return fmt.Errorf("%d of %d bytes of an echo: %w", n, len(s.echoed), err)
		}
		if s.verify && !bytes.Equal(s.buf[:k], s.echoed[n:n+k]) {
			return fmt.Errorf("an echo differs behind byte %d of %d", n, len(s.echoed))
		}
		n += k
	}
	if s.outbox != nil {
		return <-s.wrote
	}
	return nil
}

func (s *stream) close() {
	if s.outbox != nil {
		close(s.outbox)
	}
	s.conn.Close()
}
