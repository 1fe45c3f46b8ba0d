// Package servers holds the contestants: the same two services, an echo and a chat
// room, by each library as its documentation recommends.
package servers

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
)

// The services, by the path of the handshake.
const (
	EchoPath      = "/echo"      // every message comes back
	BroadcastPath = "/broadcast" // every message goes to all who are connected here
)

// messageLimit leaves room for the largest message of the race, 1 MiB.
const messageLimit = 2 << 20

// KeepMessages is whether an echo keeps the buffer that a message was read into for
// the next one. It is off where idle connections are measured: the buffer is the
// handler's, not the library's, and one that serves many idle clients keeps none.
var KeepMessages = true

// A Kind says what a contestant is compared as.
type Kind int

const (
	Own      Kind = iota // this library
	Peer                 // another library
	Baseline             // hand-written: what could at best be reached
)

// A Mode says where the loop that reads a connection runs.
type Mode string

const (
	InHandler Mode = "handler"  // in ServeHTTP, which returns when the connection ends
	Detached  Mode = "detached" // elsewhere: ServeHTTP returns after the handshake
)

// A Contestant is a server that takes part.
type Contestant struct {
	Name  string
	Kind  Kind
	Modes []Mode // those it can run in, the documented one first

	ChecksUTF8     bool // text is checked before the server echoes it
	JoinsFragments bool // a fragmented message is one message to it
	Raw            bool // it knows nothing of WebSocket and returns the client's bytes

	// Handler serves through net/http. It is nil for Raw.
	Handler func(Mode) http.Handler
	// Listen serves in the contestant's own way. It is nil where Handler does.
	Listen func(net.Listener) error
}

// All are the contestants in the order of the tables.
var All = []Contestant{
	own, gorilla, coder, gobwas, gobwasRaw, gwsServer, nbioServer, xnet,
	rawFrame, rawBatch, rawTCP,
}

// Find returns the contestant of that name.
func Find(name string) (Contestant, error) {
	i := slices.IndexFunc(All, func(c Contestant) bool { return c.Name == name })
	if i < 0 {
		return Contestant{}, fmt.Errorf("no contestant is called %q", name)
	}
	return All[i], nil
}

// Serve serves ln, which is to stay open, for the life of the process.
func (c Contestant) Serve(ln net.Listener, m Mode) error {
	if c.Listen != nil {
		return c.Listen(ln)
	}
	return (&http.Server{Handler: c.Handler(m)}).Serve(ln)
}

// run runs the loop of a connection where the mode wants it.
func run(m Mode, loop func()) {
	if m == Detached {
		go loop()
		return
	}
	loop()
}

// routes is a handler that has each service on its path.
func routes(echo, broadcast http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == BroadcastPath {
			broadcast(w, r)
			return
		}
		echo(w, r)
	})
}

// A hub knows the connections of the chat room.
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

func (h *hub[C]) each(send func(C)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		send(c)
	}
}
