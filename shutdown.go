package websocket

import (
	"context"
	"iter"
	"net/http"
	"sync"
)

// A registry is the set of the connections that a Handler serves. A connection is in it from
// its handshake until its function and OnClose have returned. A nil registry is that of
// Upgrade: it holds nothing and is never shut.
type registry struct {
	mu       sync.Mutex // guards the fields below, and is not held while anything blocks
	conns    map[*Conn]struct{}
	stats    HandlerStats  // of the connections that have ended, and the requests
	starting int           // connections whose handshake is being completed
	shut     bool          // Shutdown was called: no connection is added any more
	cut      bool          // the ctx of a Shutdown is done: connections that are left are cut
	empty    chan struct{} // made by the first Shutdown, and closed when nothing is left
}

// retryAfter is the Retry-After of a request during Shutdown, in seconds. Until then, another
// process should have taken over the address.
const retryAfter = "5"

// refusal returns the refusal for a new request, or nil if it can be served.
func (r *registry) refusal() *HandshakeError {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shut {
		return nil
	}
	return shutRefusal()
}

func shutRefusal() *HandshakeError {
	return refusal(http.StatusServiceUnavailable, "this server is shutting down; connect again in %s seconds", retryAfter)
}

// begin announces a connection whose handshake is valid, so that Shutdown waits for it. It
// returns the refusal if Shutdown was called before. Otherwise add or abandon has to follow.
func (r *registry) begin() *HandshakeError {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return shutRefusal()
	}
	r.starting++
	return nil
}

// An admission is the handshake of one request.
type admission struct {
	*registry
	accepted bool // only the response can fail
}

// accept counts the connection that begin has announced.
func (a *admission) accept() {
	a.accepted = true
	r := a.registry
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Accepted++
}

// abandon takes back a call of begin, because the handshake has failed. After accept, it counts as
// a connection that was lost, because the numbers that were reported must not decrease.
func (a *admission) abandon() {
	r := a.registry
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting--
	if a.accepted {
		r.countEnd(StatusAbnormalClosure)
	}
	r.checkEmpty()
}

// countEnd counts a connection that has ended. r.mu is held.
func (r *registry) countEnd(code StatusCode) {
	if r.stats.Closed == nil {
		r.stats.Closed = make(map[StatusCode]uint64)
	}
	r.stats.Closed[code]++
}

// add adds the connection that begin has announced, before its function runs. If Shutdown was
// called meanwhile, it closes the connection.
func (r *registry) add(c *Conn) {
	r.mu.Lock()
	r.starting--
	if r.conns == nil {
		r.conns = make(map[*Conn]struct{})
	}
	r.conns[c] = struct{}{}
	shut, cut := r.shut, r.cut
	r.mu.Unlock()
	if shut {
		c.StartClose(StatusGoingAway, "")
	}
	if cut {
		c.CloseNow()
	}
}

// remove removes a connection whose function has ended, and counts it.
func (r *registry) remove(c *Conn) {
	code, counted := CloseStatus(c.life.err()), c.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.conns[c]; !ok {
		return
	}
	delete(r.conns, c)
	r.countEnd(code)
	r.stats.add(counted)
	r.checkEmpty()
}

// checkEmpty wakes the calls of Shutdown if nothing is left. r.mu is held.
func (r *registry) checkEmpty() {
	if !r.shut || len(r.conns) > 0 || r.starting > 0 {
		return
	}
	select {
	case <-r.empty:
	default:
		close(r.empty)
	}
}

// all returns the connections.
func (r *registry) all() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list()
}

// list is all with r.mu held.
func (r *registry) list() []*Conn {
	return connsOf(r.conns)
}

// shutDown refuses new connections from now on. It returns those that are left, and a channel
// that is closed when all of them have ended.
func (r *registry) shutDown() (left []*Conn, empty <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	r.checkEmpty()
	return r.list(), r.empty
}

// cutOff returns the connections that are left, for the caller to cut. Connections that come
// later, because their handshakes had begun before Shutdown, are cut by add.
func (r *registry) cutOff() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	return r.list()
}

// Shutdown closes all connections of the handler with 1001 (going away), all at the same
// time, and waits until their functions and the function of [OnClose] have returned. Each
// connection has CloseTimeout for its close handshake. From then on, new requests and those
// whose handshake is not complete are answered with 503 and a Retry-After header.
//
// If ctx is done before, Shutdown cuts the connections that are left, and returns the error of
// ctx without waiting for their functions. Methods of a cut connection return an error, so
// these functions end soon unless they wait for something else. If a function of the handler
// calls Shutdown, it waits for itself until ctx is done.
//
// [http.Server.Shutdown] neither closes nor waits for connections that were upgraded, and only
// waits for those over HTTP/2. It can start Shutdown of a handler: it calls the functions that were passed to
// [http.Server.RegisterOnShutdown].
//
// A handler that was shut down cannot be used again. Shutdown may be called several times, also
// at the same time. Connections of [Upgrade] do not belong to a handler.
func (h *Handler) Shutdown(ctx context.Context) error {
	left, empty := h.conns.shutDown()
	for _, c := range left {
		c.StartClose(StatusGoingAway, "")
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-empty:
		return nil // both have happened, and the connections have ended as they should
	default:
	}
	for _, c := range h.conns.cutOff() {
		c.CloseNow()
	}
	return ctx.Err()
}

// Conns yields the connections that the handler is serving: from the end of the handshake until
// the function and [OnClose] have returned. They are those at the time when the loop begins, in
// no particular order. The loop may do anything, such as Close, and may take any time: it holds
// no lock. So a connection may have ended before it is yielded; its methods then return an
// error. A connection that comes during the loop is not yielded.
func (h *Handler) Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, c := range h.conns.all() {
			if !yield(c) {
				return
			}
		}
	}
}
