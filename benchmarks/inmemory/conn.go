// Package inmemory runs the contestants on connections in memory, so that the figures do
// not include the network code of the kernel.
package inmemory

import (
	"io"
	"net"
	"sync"
	"time"
)

// A conn is a connection whose peer sends messages without a pause and accepts everything
// that is written. Deadlines have no effect, for all contestants.
type conn struct {
	wire    []byte // whole messages, sent again and again
	ends    []int  // where each message in wire ends
	batched bool   // a read gets several messages, up to its length, not one

	pos   int // the offset in wire of the next read
	next  int // the message in wire of the next read, unless batched
	sent  int // bytes read so far
	start int // the length of the warm-up in bytes
	total int // Read returns io.EOF after this many bytes

	onStart   func(sent int) // called when the warm-up is over
	onEnd     func()         // called before io.EOF
	sink      io.Writer      // if not nil, gets the bytes that are written
	started   bool
	endOnce   sync.Once
	closeOnce sync.Once
	closed    chan struct{}
}

// window is the largest number of bytes in one read, because a socket buffer is limited
// too. (Go copies more than 1 MiB at once past the cache, at a third of the speed. That
// would slow down only the contestants that read a large message at once.)
const window = 256 << 10

func (c *conn) Read(p []byte) (int, error) {
	if !c.started && c.sent >= c.start {
		c.started = true
		c.onStart(c.sent)
	}
	if c.sent == c.total {
		c.endOnce.Do(c.onEnd)
		return 0, io.EOF
	}
	available := len(c.wire) - c.pos
	if !c.batched {
		available = c.ends[c.next] - c.pos
	}
	n := copy(p, c.wire[c.pos:][:min(available, window, c.total-c.sent)])
	if !c.batched && n == available {
		c.next = (c.next + 1) % len(c.ends)
	}
	c.pos = (c.pos + n) % len(c.wire)
	c.sent += n
	return n, nil
}

func (c *conn) Write(p []byte) (int, error) {
	if c.sink != nil {
		return c.sink.Write(p)
	}
	return len(p), nil
}

func (c *conn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return nil
}

var addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}

func (c *conn) LocalAddr() net.Addr              { return addr }
func (c *conn) RemoteAddr() net.Addr             { return addr }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
