package websocket

import (
	"maps"
	"net/http"
	"slices"
	"sync"
)

// A registry is the set of the connections that a Handler serves. A connection is in it from
// its handshake until its function and OnClose have returned. A nil registry is that of
// Upgrade: it holds nothing and is never shut.
type registry struct {
	mu       sync.Mutex    // guards the fields below, and is not held while anything blocks
	conns    []*Conn       // in any order; Conn.place is the index of each
	stats    HandlerStats  // of the connections that have ended, and the requests
	starting int           // connections whose handshake is being completed
	shut     bool          // Shutdown was called: no connection is added any more
	cut      bool          // the ctx of a Shutdown is done: CloseNow closes connections that are left
	reported HandlerStats  // the largest sums that were reported, see neverLess
	empty    chan struct{} // made by the first Shutdown, and closed when nothing is left
}

// retryAfter is the Retry-After of a request during Shutdown, in seconds. By then, another process
// should serve the address.
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
	accepted bool // from now on, only the response can fail
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
	r.link(c)
	shut, cut := r.shut, r.cut
	r.mu.Unlock()
	if shut {
		c.StartClose(StatusGoingAway, "")
	}
	if cut {
		c.CloseNow()
	}
}

// link adds c. r.mu is held.
func (r *registry) link(c *Conn) {
	c.place = len(r.conns)
	r.conns = append(r.conns, c)
}

// unlink removes c. The last connection gets its place. r.mu is held.
func (r *registry) unlink(c *Conn) {
	end := len(r.conns) - 1
	last := r.conns[end]
	r.conns[c.place], last.place = last, c.place
	r.conns[end] = nil // for the garbage collector
	r.conns = r.conns[:end]
}

// remove removes a connection whose function has ended, and counts it. It follows add.
func (r *registry) remove(c *Conn) {
	code, counted := CloseStatus(c.life.err()), c.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlink(c)
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
	return slices.Clone(r.conns)
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
	return slices.Clone(r.conns), r.empty
}

// cutOff returns the connections that are left; the caller closes them with CloseNow. For
// connections that come later, because their handshakes had begun before Shutdown, add does.
func (r *registry) cutOff() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	return slices.Clone(r.conns)
}

// counted returns the numbers of the connections that have ended, and the open ones, which are
// not in the sums.
func (r *registry) counted() (HandlerStats, []*Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Open = int(s.Accepted) // minus those that have ended; the client may have the response before add
	for _, n := range s.Closed {
		s.Open -= int(n)
	}
	if s.Closed = maps.Clone(s.Closed); s.Closed == nil {
		s.Closed = make(map[StatusCode]uint64)
	}
	return s, slices.Clone(r.conns)
}

// noteRefused counts a request that did not become a connection.
func (r *registry) noteRefused() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Refused++
}

// neverLess raises the sums in s to those that were reported before. What is being written counts
// already, and is taken back if the write fails. But a monitoring system takes a sum that decreases
// for a restart of the server, and adds all of it.
func (r *registry) neverLess(s *HandlerStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.reported
	m.MessagesReceived = max(m.MessagesReceived, s.MessagesReceived)
	m.MessagesSent = max(m.MessagesSent, s.MessagesSent)
	m.BytesReceived = max(m.BytesReceived, s.BytesReceived)
	m.BytesSent = max(m.BytesSent, s.BytesSent)
	s.MessagesReceived, s.MessagesSent = m.MessagesReceived, m.MessagesSent
	s.BytesReceived, s.BytesSent = m.BytesReceived, m.BytesSent
}
