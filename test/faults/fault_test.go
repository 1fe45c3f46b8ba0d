package faults

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A fault is one way in which an operation of a socket goes wrong.
type fault struct {
	name string
	do   func(f *faultSocket, op *wstest.Op) (int, error) // nil for no fault

	// A session must survive the fault, with everything delivered, in a read or in a
	// write.
	harmlessRead, harmlessWrite bool
	deadline                    bool // the fault is a deadline that expires
}

var faults = []fault{
	{name: "only one byte", harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) { return some(op, 1) }},
	{name: "only half", harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) { return some(op, len(op.P)/2) }},
	{name: "at most 300 bytes from now on", harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) {
		return f.fromNowOn(op, func(op *wstest.Op) (int, error) { return some(op, 300) })
	}},
	{name: "neither a byte nor an error", harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) { return 0, nil }},
	{name: "neither a byte nor an error for ever", do: func(f *faultSocket, op *wstest.Op) (int, error) {
		return f.fromNowOn(op, func(*wstest.Op) (int, error) { return 0, nil })
	}},
	{name: "a deadline", deadline: true, harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) {
		return 0, os.ErrDeadlineExceeded
	}},
	{name: "a byte and a deadline", deadline: true, harmlessRead: true, do: func(f *faultSocket, op *wstest.Op) (int, error) {
		n, _ := some(op, 1)
		return n, os.ErrDeadlineExceeded
	}},
	{name: "a timeout of the network", do: func(f *faultSocket, op *wstest.Op) (int, error) { return 0, f.breakOff(syscall.ETIMEDOUT) }},
	{name: "a reset", do: func(f *faultSocket, op *wstest.Op) (int, error) { return 0, f.breakOff(syscall.ECONNRESET) }},
	{name: "half and a reset", do: func(f *faultSocket, op *wstest.Op) (int, error) {
		n, _ := some(op, len(op.P)/2)
		return n, f.breakOff(syscall.ECONNRESET)
	}},
	{name: "all and a reset", do: func(f *faultSocket, op *wstest.Op) (int, error) {
		n, _ := op.Do(op.P)
		return n, f.breakOff(syscall.ECONNRESET)
	}},
	{name: "the end of the stream", do: func(f *faultSocket, op *wstest.Op) (int, error) { return 0, f.breakOff(io.EOF) }},
	{name: "all and the end of the stream", do: func(f *faultSocket, op *wstest.Op) (int, error) {
		n, _ := op.Do(op.P)
		return n, f.breakOff(io.EOF)
	}},
	{name: "a closed socket", do: func(f *faultSocket, op *wstest.Op) (int, error) { return 0, f.breakOff(net.ErrClosed) }},
	{name: "a delay of 400 ms", harmlessRead: true, harmlessWrite: true, do: func(f *faultSocket, op *wstest.Op) (int, error) {
		return late(op, op.P, 400*time.Millisecond)
	}},
	{name: "a delay of an hour", do: func(f *faultSocket, op *wstest.Op) (int, error) { return late(op, op.P, time.Hour) }},
	{name: "half and a delay of an hour", do: func(f *faultSocket, op *wstest.Op) (int, error) {
		n, err := some(op, len(op.P)/2)
		if err != nil {
			return n, err
		}
		rest, err := late(op, op.P[n:], time.Hour)
		return n + rest, err
	}},
}

// some does op with at most n bytes. Only a broken net.Conn returns a short write
// without an error.
func some(op *wstest.Op, n int) (int, error) {
	return op.Do(op.P[:min(max(n, 1), len(op.P))])
}

// late does op with p after d, unless the deadline or Close comes first.
func late(op *wstest.Op, p []byte, d time.Duration) (int, error) {
	if err := op.Wait(d); err != nil {
		return 0, err
	}
	return op.Do(p)
}

// A faultSocket is a socket on which one operation goes wrong: the read or the
// write with the number at, counted from the end of the handshake.
type faultSocket struct {
	*wstest.Socket
	conn    net.Conn
	fault   fault
	inWrite bool
	at      int

	mu       sync.Mutex
	broken   error // of every operation from now on
	replaced func(op *wstest.Op) (int, error)
}

// handshakeWrites is how many writes the response to the handshake takes. It takes
// no read.
const handshakeWrites = 1

func newFaultSocket(conn net.Conn, f fault, inWrite bool, at int) *faultSocket {
	if inWrite {
		at += handshakeWrites
	}
	s := &faultSocket{Socket: wstest.Wrap(conn), conn: conn, fault: f, inWrite: inWrite, at: at}
	s.Hook = s.run
	return s
}

// run does an operation, or the fault in its place.
func (f *faultSocket) run(op *wstest.Op) (int, error) {
	f.mu.Lock()
	broken, replaced := f.broken, f.replaced
	f.mu.Unlock()
	switch {
	case broken != nil:
		return 0, broken
	case op.Write != f.inWrite:
	case replaced != nil:
		return replaced(op)
	case op.Number == f.at && f.fault.do != nil:
		return f.fault.do(f, op)
	}
	return op.Do(op.P)
}

// breakOff makes every operation from now on return err.
func (f *faultSocket) breakOff(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
	f.conn.Close()
	return err
}

// fromNowOn does every operation of the same kind with do, beginning with op.
func (f *faultSocket) fromNowOn(op *wstest.Op, do func(*wstest.Op) (int, error)) (int, error) {
	f.mu.Lock()
	f.replaced = do
	f.mu.Unlock()
	return do(op)
}
