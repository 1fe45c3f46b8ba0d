package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/f44ffc3b/websocket/internal/deflate"
)

// A PreparedMessage is a message that is checked, framed and compressed once and sent to many
// connections, by [Conn.SendPrepared] and [Conn.TrySendPrepared]. [Broadcast] prepares its
// message itself. A PreparedMessage never changes, and any goroutine may use it.
type PreparedMessage struct {
	header Header
	frame  []byte // header and payload
	start  int    // of the payload

	compressed compressedFrames
}

// PrepareMessage prepares a message: Text, Binary, Ping or Pong. It copies data. The errors
// are those of [Conn.SendMessage] for an argument that it refuses.
func PrepareMessage(op Opcode, data []byte) (*PreparedMessage, error) {
	if err := checkTry(op, data); err != nil {
		return nil, err
	}
	p := &PreparedMessage{header: Header{Fin: true, Opcode: op, Length: int64(len(data))}}
	b := p.header.append(newFrame(maxHeaderSize+len(data)), int64(len(data)))
	p.start = len(b)
	p.frame = append(b, data...)
	return p, nil
}

// check refuses nil and the zero value, which are no messages.
func (p *PreparedMessage) check() error {
	if p == nil || len(p.frame) == 0 {
		return fmt.Errorf("%w: this PreparedMessage is empty; make it with PrepareMessage", ErrInvalidOpcode)
	}
	return nil
}

// checkTry returns an error if TrySend cannot send the message.
func checkTry(op Opcode, data []byte) error {
	if op == Close {
		return fmt.Errorf("%w: a close frame cannot be queued; use StartClose, or Group.Close", ErrInvalidOpcode)
	}
	return checkMessage(op, data)
}

// SendPrepared is [Conn.SendMessage] of a prepared message.
func (c *Conn) SendPrepared(p *PreparedMessage) (err error) {
	if err := p.check(); err != nil {
		return err
	}
	if err := c.out.check(); err != nil {
		return c.sendError(err)
	}
	acquire := c.out.acquireForMessage
	if p.header.Opcode.IsControl() {
		acquire = c.out.acquire
	}
	if err := acquire(); err != nil {
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	if err := c.out.check(); err != nil {
		return err
	}
	if own := c.compression(); own != nil {
		return c.out.sendFrameAlone(p.frameFor(own))
	}
	return c.out.send(&p.header, p.frame[p.start:])
}

// TrySend sends a message, as [Conn.SendMessage] does, but never waits for the peer. If the socket
// does not take the message at once, the message waits in the queue of the connection. The messages
// of all sending methods keep their order. The queue holds at most [SendQueue] bytes. If the
// message does not fit, TrySend returns [ErrSendQueueFull] and sends nothing of it. A nil error
// means that the message was accepted, not that the peer has read it.
//
// op is Text, Binary, Ping or Pong; to close without waiting, use [Conn.StartClose]. TrySend does
// not use data after it has returned. The write deadline does not apply to the queue; WriteTimeout
// does. While a MessageWriter is open, messages wait in the queue. If the connection is closed
// before that writer is, they are dropped, because a close frame cannot come after half a message
// and before them.
//
// If a write has failed, TrySend returns the error of that write immediately, and does not wait to
// learn whether the peer has sent a close frame before. [Conn.Context] and [OnClose] have the
// reason of the end.
func (c *Conn) TrySend(op Opcode, data []byte) error {
	if err := c.out.check(); err != nil {
		return err
	}
	if err := checkTry(op, data); err != nil {
		return err
	}
	h := Header{Fin: true, Opcode: op}
	own := c.compression()
	compress := own.wants(op, len(data))
	if compress && own.alone(len(data)) {
		if frame := frameAlone(op, data, own.agreed.windowBits); frame != nil {
			return c.out.try(queuedFrame{bytes: frame, shared: true, alone: &notLearned})
		}
		compress = false
	}
	if maxHeaderSize+len(data) > frameBufferSize {
		frame := append(h.append(newFrame(maxHeaderSize+len(data)), int64(len(data))), data...)
		return c.out.try(queuedFrame{bytes: frame, shared: true, compress: compress})
	}
	buffer := frameBuffers.Get().(*[frameBufferSize]byte)
	defer frameBuffers.Put(buffer)
	return c.out.try(queuedFrame{bytes: append(h.append(buffer[:0], int64(len(data))), data...), compress: compress})
}

// notLearned is for frames of which the encoder has to learn nothing but that they were sent.
var notLearned aloneFrame

// TrySendPrepared is [Conn.TrySend] of a prepared message. Queues share its bytes.
func (c *Conn) TrySendPrepared(p *PreparedMessage) error {
	if err := p.check(); err != nil {
		return err
	}
	if err := c.out.check(); err != nil {
		return err
	}
	return c.out.try(p.frameFor(c.compression()))
}

// Broadcast sends a message, Text, Binary, Ping or Pong, to all conns. It checks and frames
// the message once, and waits for no peer: if a socket does not take the message at once, it
// waits in the queue of the connection, see [SendQueue]. A connection whose queue is full is
// closed with 1013 and [ErrSendQueueFull], after the frames in its queue and within
// CloseTimeout; while a MessageWriter is open, the queue is dropped. The others get the message.
// Connections that have ended are left out. None may be nil.
//
// The messages of one goroutine arrive in order. If [Conn.SendMessage] would refuse the message,
// Broadcast returns the same error and sends the message to no connection. Broadcast does not use
// data after it has returned.
func Broadcast(conns iter.Seq[*Conn], op Opcode, data []byte) error {
	p, err := PrepareMessage(op, data)
	if err != nil {
		return err
	}
	list := connLists.Get().(*[]*Conn)
	for c := range conns {
		if c == nil { // not on a goroutine of broadcast, where a panic ends the process
			panic("websocket: Broadcast to a *Conn that is nil")
		}
		*list = append(*list, c)
	}
	broadcast(*list, p)
	releaseList(list)
	return nil
}

// connLists holds lists of connections for one Broadcast each.
var connLists = sync.Pool{New: func() any { return new([]*Conn) }}

func releaseList(list *[]*Conn) {
	clear(*list) // so that the pool keeps no connection
	*list = (*list)[:0]
	connLists.Put(list)
}

// broadcastShare is the least number of connections for one goroutine. Starting a goroutine
// costs less than a tenth of that many writes.
const broadcastShare = 64

// broadcast sends p to conns, on as many goroutines as can run at the same time.
func broadcast(conns []*Conn, p *PreparedMessage) {
	workers := min(runtime.GOMAXPROCS(0), len(conns)/broadcastShare)
	if workers < 2 {
		deliver(conns, p)
		return
	}
	var running sync.WaitGroup
	share := (len(conns) + workers - 1) / workers
	for len(conns) > share {
		part := conns[:share]
		running.Go(func() { deliver(part, p) })
		conns = conns[share:]
	}
	deliver(conns, p)
	running.Wait()
}

func deliver(conns []*Conn, p *PreparedMessage) {
	for _, c := range conns {
		if c.out.check() != nil {
			continue
		}
		f := p.frameFor(c.compression())
		f.toAll = true
		if err := c.out.try(f); err != nil {
			c.fellBehind(err)
		}
	}
}

// fellBehind closes a connection whose queue is full. It does so on a goroutine, because the close
// frame is sent after the queue.
func (c *Conn) fellBehind(err error) {
	if !errors.Is(err, ErrSendQueueFull) {
		return
	}
	if err = (slowPeerError{err}); c.beginFailing(err) {
		c.timer.run(func() { c.failAsync(failPayload(err)) })
	}
}

// A slowPeerError is the ErrSendQueueFull that a connection has ended with. It is net.ErrClosed too,
// because a program that goes on after an ErrSendQueueFull of TrySend has to notice the end.
type slowPeerError struct{ error }

func (e slowPeerError) Unwrap() error   { return e.error }
func (slowPeerError) Is(err error) bool { return err == net.ErrClosed }

// A Group is a set of connections that get the same messages. The zero value is an empty
// group. A connection that ends leaves all its groups. All methods may be called from any
// goroutine. A Group must not be copied.
type Group struct {
	mu      sync.Mutex
	members connSet
	closed  bool
	closing []*Conn // the members when Close was called, until it returns
}

// Join adds c to the group. It returns false if c has ended, or if the group is closed. A
// member may join again, which changes nothing.
func (g *Group) Join(c *Conn) bool {
	s := c.seldomUsed()
	s.mu.Lock()
	joined := g.add(c)
	if joined && !slices.Contains(s.groups, g) {
		s.groups = append(s.groups, g)
	}
	s.mu.Unlock()
	if joined && c.life.err() != nil { // Conn.end may have run before s.groups contained g
		g.Leave(c)
		return false
	}
	return joined
}

func (g *Group) add(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.members.add(c)
	return true
}

// Leave removes c from the group, if it is a member.
func (g *Group) Leave(c *Conn) {
	s := c.seldomUsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	g.remove(c)
	if i := slices.Index(s.groups, g); i >= 0 {
		s.groups = slices.Delete(s.groups, i, i+1)
	}
}

func (g *Group) remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members.remove(c)
}

// Len returns the number of members.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members.list)
}

// All yields the members at the time when the loop begins, in no order. Connections may join and
// leave meanwhile.
func (g *Group) All() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		list := g.list()
		defer releaseList(list)
		for _, c := range *list {
			if !yield(c) {
				return
			}
		}
	}
}

func (g *Group) list() *[]*Conn {
	list := connLists.Get().(*[]*Conn)
	g.mu.Lock()
	defer g.mu.Unlock()
	*list = append(*list, g.members.list...)
	return list
}

// Broadcast is the function [Broadcast] for the members of the group.
func (g *Group) Broadcast(op Opcode, data []byte) error {
	p, err := PrepareMessage(op, data)
	if err != nil {
		return err
	}
	list := g.list()
	broadcast(*list, p)
	releaseList(list)
	return nil
}

// Close closes the group for good, and the connections of all members at the same time, as
// [Conn.StartClose] does. It waits until their sockets are closed: for CloseTimeout at most, and a
// second more for peers that do not close their side. If CloseTimeout is 0, only ConnectionTimeout
// and ctx end the wait. If ctx is done first, Close closes the remaining connections as
// [Conn.CloseNow] does, and returns the error of ctx, unless none remained. It does not wait for
// HandlerFuncs, nor for connections that had begun to close before, because they have left the
// group. [Handler.Shutdown] waits for all of them.
//
// Afterwards the group is empty, and Join returns false. A second call waits for the same
// connections. If the code must not be sent, Close returns [ErrProtocol] and closes nothing.
func (g *Group) Close(ctx context.Context, code StatusCode, reason string) error {
	if _, err := closePayload(code, reason); err != nil {
		return err
	}
	left := g.beginClose()
	defer g.endClose()
	for _, c := range left {
		c.StartClose(code, reason)
	}
	return closeAll(ctx, left)
}

// closeAll waits until the sockets of conns are closed. If ctx is done first, it closes the
// remaining sockets, and returns the error of ctx unless none remained.
func closeAll(ctx context.Context, conns []*Conn) error {
	for i, c := range conns {
		select {
		case <-c.life.closed.Done():
			continue
		case <-ctx.Done():
		}
		var err error
		for _, c := range conns[i:] {
			if c.CloseNow() == nil {
				err = ctx.Err()
			}
		}
		return err
	}
	return nil
}

// beginClose closes the group, and returns the connections that Close has to wait for.
func (g *Group) beginClose() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		g.closing = slices.Clone(g.members.list)
	}
	return g.closing
}

// endClose forgets these connections, so that they become garbage.
func (g *Group) endClose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing = nil
	g.members = connSet{} // a member may have ended on a goroutine that has not removed it yet
}

// A connSet is a set of connections in the order in which they were added, except that the last one
// takes the place of a removed one. Connections that were accepted one after the other are close to
// each other in memory, in the kernel too. So a broadcast in this order takes less processor time
// than in the order of a map: 0.65 times as much in the rows broadcast-*-2000c of benchmarks/.
type connSet struct {
	list []*Conn
	at   map[*Conn]int // the index of each in list
}

func (s *connSet) add(c *Conn) {
	if _, ok := s.at[c]; ok {
		return
	}
	if s.at == nil {
		s.at = make(map[*Conn]int)
	}
	s.at[c] = len(s.list)
	s.list = append(s.list, c)
}

func (s *connSet) remove(c *Conn) {
	i, ok := s.at[c]
	if !ok {
		return
	}
	last := len(s.list) - 1
	moved := s.list[last]
	s.list[i], s.at[moved] = moved, i
	s.list[last] = nil // so that it becomes garbage
	s.list = s.list[:last]
	delete(s.at, c)
}

// leaveGroups removes a connection that has ended from its groups. More than one call is possible.
func (c *Conn) leaveGroups() {
	s := c.seldom.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	groups := s.groups
	s.groups = nil
	s.mu.Unlock()
	for _, g := range groups {
		g.remove(c)
	}
}

// frameFor returns the frame for a connection with compression c, which may be nil.
func (p *PreparedMessage) frameFor(c *compression) queuedFrame {
	plain := queuedFrame{bytes: p.frame, shared: true}
	if !c.wants(p.header.Opcode, len(p.frame)-p.start) {
		return plain
	}
	made := &p.compressed.frames[c.agreed.windowBits-deflate.MinWindowBits]
	frame := made.Load()
	if frame == nil {
		frame = p.compress(made, c.agreed.windowBits)
	}
	if frame.bytes == nil {
		return plain
	}
	return queuedFrame{bytes: frame.bytes, shared: true, alone: frame}
}

// compress sets made to the compressed frame, unless another goroutine has done that. The frame
// has no bytes if it does not become smaller.
func (p *PreparedMessage) compress(made *atomic.Pointer[aloneFrame], windowBits uint8) *aloneFrame {
	p.compressed.mu.Lock()
	defer p.compressed.mu.Unlock()
	if frame := made.Load(); frame != nil {
		return frame
	}
	frame := &aloneFrame{bytes: frameAlone(p.header.Opcode, p.frame[p.start:], windowBits)}
	if frame.bytes != nil {
		frame.history = p.frame[p.start:]
		if more := len(frame.history) - 1<<windowBits; more > 0 { // so that queues do not keep the rest
			frame.history = bytes.Clone(frame.history[more:])
		}
	}
	made.Store(frame)
	return frame
}
