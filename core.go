package websocket

import (
	"sync"
	"sync/atomic"
)

// A core is what both directions of a connection share.
type core struct {
	socket socket    // the only part that touches the network
	life   life      // from the handshake to the end
	timer  keepalive // pings and limits
	out    writer    // the sending side, which the receiving side answers with

	seldom atomic.Pointer[seldom] // nil until one of its parts is needed
}

// A seldom is the state of methods that most connections never call. The members of a Group
// have one, so what they do not need is allocated on demand, too.
type seldom struct {
	mu     sync.Mutex             // serializes SetMaxMessageSize, guards groups and acks
	limits atomic.Pointer[limits] // of the messages that begin from now on, nil for those of the options
	pings  atomic.Pointer[pings]  // the calls of Ping that wait, nil before the first
	groups []*Group               // of which the connection is a member
	queue  sendQueue              // what TrySend and Broadcast have accepted

	compression *compression // nil if it was not agreed on; does not change
	overflow    *overflow    // of the counts of both directions, see tally; nil before the first

	rare atomic.Pointer[rare] // nil until one of its parts is needed
}

// A rare is the state that most connections never have.
type rare struct {
	acks     acks      // at the latest ackStep; guarded by seldom.mu
	write    slowWrite // the latest one; guarded by timer.mu
	aheadEnd error     // the error that HandleConcurrent will end the connection with; guarded by in.lock

	overdue atomic.Pointer[error] // of Close, if a limit has ended the close handshake
}

// used returns what p points to. It allocates that for the first use.
func used[T any](p *atomic.Pointer[T]) *T {
	if p.Load() == nil {
		p.CompareAndSwap(nil, new(T))
	}
	return p.Load()
}

// seldomUsed returns the state of methods that are seldom called, and allocates it for the first of
// them.
func (c *core) seldomUsed() *seldom { return used(&c.seldom) }

// rareIf returns the state that most connections never have, or nil if this one has none.
func (c *core) rareIf() *rare {
	if s := c.seldom.Load(); s != nil {
		return s.rare.Load()
	}
	return nil
}

// rareUsed is rareIf, but allocates the state.
func (c *core) rareUsed() *rare { return used(&c.seldomUsed().rare) }

// canRest reports whether a read can be interrupted to wait without a buffer.
func (c *core) canRest() bool { return c.socket.overTLS() != nil }

// slowWrite returns the latest slow write, or nil if no write was slow.
func (c *core) slowWrite() *slowWrite {
	if r := c.rareIf(); r != nil {
		return &r.write
	}
	return nil
}

// slowWriteUsed is slowWrite, but allocates it.
func (c *core) slowWriteUsed() *slowWrite { return &c.rareUsed().write }

// add adds a packed number. It is for the goroutine that holds the lock of direction d.
func (t *tally) add(packed uint64, c *core, d direction) {
	if t.packed.Load()&halfFull != 0 {
		c.moveToOverflow(t, d)
	}
	t.packed.Store(t.packed.Load() + packed)
}

func (c *core) moveToOverflow(t *tally, d direction) {
	c.life.mu.Lock() // so that no goroutine sees the counts at neither place, or at both
	defer c.life.mu.Unlock()
	s := c.seldomUsed()
	if s.overflow == nil {
		s.overflow = new(overflow)
	}
	s.overflow[d].add(t.packed.Swap(0))
}

// countsOf returns the counts of t.
func (c *core) countsOf(t *tally, d direction) (sum counts) {
	c.life.mu.Lock()
	defer c.life.mu.Unlock()
	if s := c.seldom.Load(); s != nil && s.overflow != nil {
		sum = s.overflow[d]
	}
	sum.add(t.packed.Load())
	return sum
}

// pingsUsed returns the pings, and allocates them for the first call of Ping.
func (c *core) pingsUsed() *pings { return used(&c.seldomUsed().pings) }

// waitingPings returns the pings if a call of Ping waits, or nil.
func (c *core) waitingPings() *pings {
	s := c.seldom.Load()
	if s == nil {
		return nil
	}
	if p := s.pings.Load(); p != nil && p.count.Load() > 0 {
		return p
	}
	return nil
}

// compression returns the permessage-deflate of the connection, or nil if it was not agreed on.
func (c *core) compression() *compression {
	if s := c.seldom.Load(); s != nil {
		return s.compression
	}
	return nil
}
