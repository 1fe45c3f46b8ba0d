package websocket

import (
	"os"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// An eventTransport is the transport of a TCP connection or Unix socket that the event loop serves.
// While the event loop runs the connection, inbuf.noWait is set, and reads return
// os.ErrDeadlineExceeded when nothing has arrived. At other times it works as the transport in it: for
// a poll, for Ping, and for the goroutine that ends the connection.
//
// A new deadline, or the end of the socket, makes a blocked read return. Here no goroutine is
// blocked in a read, so both wake the connection in the event loop instead.
type eventTransport struct {
	rawSocket
	messages *messages
}

// A rawSocket is a transport with a rawTransport in it.
type rawSocket interface {
	transport
	rawPart() *rawTransport
}

func (t *rawTransport) rawPart() *rawTransport { return t }

// isDrained reports whether a read would find nothing, because the last read has left free space
// in the buffer. Bytes that have arrived since then cause an event. The end of the stream may
// come with the last bytes, in one event. A read from a Unix socket also ends where the peer has
// passed a descriptor, so it says nothing.
func (t *eventTransport) isDrained() bool {
	buf := t.rawPart().buf
	if !buf.noWait || !buf.short || t.messages.source.Ended() {
		return false
	}
	_, isTCP := t.rawSocket.(*tcpTransport)
	return isTCP
}

func (t *eventTransport) fill() error {
	if t.isDrained() {
		return os.ErrDeadlineExceeded
	}
	err := t.rawSocket.fill()
	if t.removesDeadline(err) {
		err = t.rawSocket.fill()
	}
	return err
}

// removesDeadline reports whether err is that of a deadline that somebody else has set on the net.Conn,
// while the event loop runs the connection. Then it removes the deadline, and the read has to be
// repeated: it has not looked, and no event would come for bytes that have arrived.
func (t *eventTransport) removesDeadline(err error) bool {
	c := t.messages.conn
	if !hasNotLooked(err) || !t.rawPart().buf.noWait || c.life.current() >= phaseLost {
		return false
	}
	c.socket.restoreRead()
	return true
}

func (t *eventTransport) Read(p []byte) (int, error) {
	part := t.rawPart()
	switch {
	case !part.buf.noWait:
		return t.rawSocket.Read(p)
	case t.isDrained():
		return 0, os.ErrDeadlineExceeded
	}
	n, err := part.readDirect(p)
	if t.removesDeadline(err) {
		n, err = part.readDirect(p)
	}
	part.buf.short = n > 0 && n < len(p)
	return n, err
}

// readDirect reads once into p, without waiting.
func (t *rawTransport) readDirect(p []byte) (int, error) {
	r := directReads.Get().(*directRead)
	r.p, r.n, r.err = p, 0, nil
	err := t.raw.Read(r.callback)
	n, readErr := max(r.n, 0), r.err
	r.p, r.err = nil, nil
	directReads.Put(r)
	if err == nil && n == 0 {
		err = emptyRead(readErr)
	}
	return n, err
}

// A directRead is a call of eventTransport.Read. It is pooled, as largeWrite is.
type directRead struct {
	p        []byte
	n        int
	err      error
	callback func(fd uintptr) bool
}

var directReads = sync.Pool{New: func() any {
	r := new(directRead)
	r.callback = r.read
	return r
}}

func (r *directRead) read(fd uintptr) bool {
	for r.n, r.err = sock.Read(fd, r.p); sock.Interrupted(r.err); {
		r.n, r.err = sock.Read(fd, r.p)
	}
	return true
}

func (t *eventTransport) SetReadDeadline(d time.Time) error {
	err := t.rawSocket.SetReadDeadline(d)
	if !d.IsZero() {
		t.messages.source.Wake()
	}
	return err
}

func (t *eventTransport) cut(told bool) {
	t.messages.source.Unwatch() // before the number of the descriptor can be used again
	t.rawSocket.cut(told)
	t.messages.source.Wake()
}
