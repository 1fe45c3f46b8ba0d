// Package servers holds the contestants. Each has the same services, an echo and broadcasts,
// written with one library as its documentation recommends.
package servers

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The services, by the path of the handshake.
const (
	EchoPath      = "/echo"      // sends every message back
	BroadcastPath = "/broadcast" // sends every message to all connections with this path
	QueuePath     = "/queue"     // a broadcast that waits for no connection: each has a queue
	DeflatePath   = "/deflate"   // an echo with permessage-deflate that compresses each message on its own
	TakeoverPath  = "/takeover"  // the same, but messages refer to earlier ones (context takeover)
	QuietPath     = "/quiet"     // the best of the last two that the library has, with a ping each QuietPing
	PingPath      = "/ping"      // an echo without compression, with a ping each IdlePing
	GroupPath     = "/group"     // joins a group; echoes binary messages and broadcasts text
)

// QuietPing is the time between pings in QuietPath, and IdlePing in PingPath, if the library sends
// pings. This library returns the memory for compression, and that for reading over TLS, when a
// connection has been quiet between two pings. IdlePing is longer, because PingPath has many
// connections.
const (
	QuietPing = 2 * time.Second
	IdlePing  = 8 * time.Second
)

// minDeflated is the size from which messages are compressed. All libraries get it, because some
// would not compress short messages otherwise.
const minDeflated = 64

// messageLimit leaves room for the largest message of the race, 1 MiB.
const messageLimit = 2 << 20

// KeepMessages says whether an echo reuses the buffer of a message for the next one. It is
// off when the memory of idle connections is measured, because the buffer belongs to the
// handler, not to the library, and a handler for many idle clients would not keep it.
var KeepMessages = true

// A Kind is the role of a contestant in the comparison.
type Kind int

const (
	Own      Kind = iota // this library
	Peer                 // another library
	Baseline             // a hand-written server, as a limit for what a library can reach
)

// A Mode says on which goroutine the loop that reads a connection runs.
type Mode string

const (
	InHandler Mode = "handler"  // the goroutine of ServeHTTP, which returns when the connection ends
	Detached  Mode = "detached" // another goroutine; ServeHTTP returns after the handshake
)

// A Contestant is a server in the comparison.
type Contestant struct {
	Name  string
	Kind  Kind
	Modes []Mode // the modes it can run in, the documented one first

	HTTP2          bool // the server also serves HTTP/2
	ChecksUTF8     bool // the server checks text before it echoes it
	JoinsFragments bool // the server echoes a fragmented message as one message
	Raw            bool // the server echoes bytes and does not use WebSocket

	More []string // the services beside EchoPath and BroadcastPath

	// Handler serves through net/http. It is nil if the contestant is Raw.
	Handler func(Mode) http.Handler
	// Listen serves without net/http. If it is not nil, Serve uses it instead of Handler.
	Listen func(net.Listener) error
}

// All holds the contestants in the order of the tables.
var All = []Contestant{
	own, ownLend, ownMessages, gorilla, coder, gobwas, gobwasRaw, gwsServer, nbioServer, xnet,
	rawFrame, rawBatch, rawTCP,
}

// Find returns the contestant with this name.
func Find(name string) (Contestant, error) {
	i := slices.IndexFunc(All, func(c Contestant) bool { return c.Name == name })
	if i < 0 {
		return Contestant{}, fmt.Errorf("there is no contestant %q; -list shows all of them", name)
	}
	return All[i], nil
}

// Serve serves ln until the process ends. ln must stay open.
func (c Contestant) Serve(ln net.Listener, m Mode, protocol Protocol) error {
	if c.Listen != nil {
		return c.Listen(ln)
	}
	srv := &http.Server{Handler: c.Handler(m)}
	return protocol.serve(srv, ln)
}

// run runs the loop of a connection in mode m.
func run(m Mode, loop func()) {
	if m == Detached {
		go loop()
		return
	}
	loop()
}

// Speaks reports whether c serves connections with this protocol. TLS is that of net/http.
func (c Contestant) Speaks(p Protocol) bool {
	switch p {
	case HTTP1:
		return true
	case HTTP1TLS:
		return c.Handler != nil && c.Listen == nil
	}
	return c.HTTP2
}

// Has reports whether c has the service with this path. A server without PingPath serves an echo
// there, because it sends no pings.
func (c Contestant) Has(path string) bool {
	switch path {
	case EchoPath:
		return true
	case PingPath:
		return !c.Raw
	case BroadcastPath:
		return !c.Raw
	}
	return slices.Contains(c.More, path)
}

// services holds the handlers of a contestant by their paths.
type services map[string]http.HandlerFunc

// ServeHTTP serves an unknown path as an echo.
func (s services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := s[r.URL.Path]
	if serve == nil {
		serve = s[EchoPath]
	}
	serve(w, r)
}

// A hub holds the connections of the broadcast service.
type hub[C comparable] struct {
	mu    sync.Mutex
	conns map[C]struct{}
}

func (h *hub[C]) join(c C) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		h.conns = make(map[C]struct{})
	}
	h.conns[c] = struct{}{}
}

func (h *hub[C]) leave(c C) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// each calls send for every connection. It holds the lock meanwhile.
func (h *hub[C]) each(send func(C)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		send(c)
	}
}

// SendBuffer is the size of the socket's send buffer in broadcasts. Linux gives an unread
// connection over loopback more than 2 MiB, so that a short run would never fill it.
const SendBuffer = 16 << 10

// SmallBuffers returns ln with connections that have small send buffers.
func SmallBuffers(ln net.Listener) net.Listener { return smallBuffers{ln} }

type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.(*net.TCPConn).SetWriteBuffer(SendBuffer) // fails only if the peer has reset the connection
	return c, nil
}
