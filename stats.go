package websocket

import (
	"maps"
	"sync/atomic"
	"time"
)

// Stats are the statistics of one connection. Messages are those of Text and Binary, without
// control frames. Bytes are those of all frames with their headers, as they are before TLS.
type Stats struct {
	Opened           time.Time     // when the handshake was done
	MessagesReceived uint64        // read to their end; with HandleConcurrent, also those that are read ahead
	MessagesSent     uint64        // given to the kernel, or being written to it; those that wait, also in the queue, are counted when they are written
	BytesReceived    uint64        // read from the socket
	BytesSent        uint64        // given to the kernel, or being written to it
	RTT              time.Duration // from a ping of the keepalive or of Ping to the pong, in whole microseconds; 0 before the first pong
	Queued           int           // bytes that wait in the queue, as SendQueue counts them
}

// HandlerStats are the statistics of a Handler. The sums include connections that have ended.
type HandlerStats struct {
	Open             int    // connections that are being served: whose function has not returned
	Accepted         uint64 // connections so far: those that are open and those in Closed
	Refused          uint64 // requests that did not become a connection
	MessagesReceived uint64
	MessagesSent     uint64
	BytesReceived    uint64
	BytesSent        uint64
	Closed           map[StatusCode]uint64 // connections that have ended, by the code that OnClose gets; 1006 if the handshake response could not be sent
}

// Stats returns the statistics of the connection, also after it has ended. It does not wait, and
// costs less than a microsecond.
func (c *Conn) Stats() Stats {
	now := time.Now()
	received, sent := c.in.counted(), c.out.counted()
	return Stats{
		Opened:           now.Add(c.timer.opened - now.Sub(epoch)), // not from epoch on, because the wall clock may have been set since
		MessagesReceived: received.messages,
		MessagesSent:     sent.messages,
		BytesReceived:    received.bytes,
		BytesSent:        sent.bytes,
		RTT:              c.timer.roundTrip(),
		Queued:           c.out.queued(),
	}
}

// Stats returns the statistics of the handler. It takes less than a microsecond for each open
// connection. The numbers of different connections may be from different moments.
func (h *Handler) Stats() HandlerStats {
	s, open := h.conns.counted()
	for _, c := range open {
		s.add(c.Stats())
	}
	return s
}

// add adds the numbers of one connection to the sums.
func (s *HandlerStats) add(c Stats) {
	s.MessagesReceived += c.MessagesReceived
	s.MessagesSent += c.MessagesSent
	s.BytesReceived += c.BytesReceived
	s.BytesSent += c.BytesSent
}

// counted returns the numbers of the connections that have ended, and the open ones, which are
// not in the sums.
func (r *registry) counted() (HandlerStats, []*Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Open = int(s.Accepted) // less those that have ended; the client may have the response before add
	for _, n := range s.Closed {
		s.Open -= int(n)
	}
	if s.Closed = maps.Clone(s.Closed); s.Closed == nil {
		s.Closed = make(map[StatusCode]uint64)
	}
	return s, r.list()
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

// A tally counts the messages and the bytes of one direction for goroutines that hold no lock.
// An atomic operation for each message would make small messages slower. So the goroutine that
// holds the lock of the direction counts with plain numbers, and adds them to the tally once for
// each system call.
//
// One atomic store has to show both counts, so they are packed into one number: the bytes into
// the lower 40 bits, and the messages above. When one of them is half full, both are moved to
// overflow.
type tally struct{ packed atomic.Uint64 }

const (
	oneMessage = 1 << 40        // one message in a packed number
	bytesMask  = oneMessage - 1 // the bytes in it
	halfFull   = 1<<63 | 1<<39  // set if one of the counts is half full
)

// add adds a packed number. It is for the goroutine that holds the lock of direction d.
func (t *tally) add(packed uint64, c *core, d direction) {
	if t.packed.Load()&halfFull != 0 {
		c.moveToOverflow(t, d)
	}
	t.packed.Store(t.packed.Load() + packed)
}

// A direction is an index of overflow.
type direction byte

const (
	receiving direction = iota
	sending
)

// overflow holds what did not fit into the tallies of a connection. life.mu guards it.
type overflow [2]counts

// counts are numbers that are not packed.
type counts struct{ messages, bytes uint64 }

func (c *counts) add(packed uint64) {
	c.messages += packed / oneMessage
	c.bytes += packed & bytesMask
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

// noteRead notes that n bytes have arrived. The lock is held.
func (r *reader) noteRead(n int) {
	r.socket.freshBytes += uint32(n)
	r.timer.noteRead()
}

// showCounts makes the counts visible, before the read of a socket that may wait, and with the
// last message before one, because the peer may get its answer and ask for Stats elsewhere.
func (r *reader) showCounts() {
	if fresh := r.fresh(); fresh > 0 {
		r.tally.add(fresh, r.core, receiving)
		r.freshMessages, r.socket.freshBytes = 0, 0
	}
}

// fresh returns the counts that the tally does not show, as a packed number.
func (r *reader) fresh() uint64 {
	return uint64(r.freshMessages)*oneMessage + uint64(r.socket.freshBytes)
}

// counted returns what was received. While a goroutine is receiving, it has shown its counts,
// unless it is about to. Otherwise more messages may be in the buffer, and the counts are not
// shown.
func (r *reader) counted() counts {
	r.socket.mu.Lock() // so that tryLock does not fail because of this
	defer r.socket.mu.Unlock()
	if !r.lock.TryLock() {
		return r.countsOf(&r.tally, receiving)
	}
	defer r.lock.Unlock()
	sum := r.countsOf(&r.tally, receiving)
	sum.add(r.fresh())
	return sum
}

// tryLock locks the reader, unless a goroutine is receiving.
func (r *reader) tryLock() bool {
	r.socket.mu.Lock()
	defer r.socket.mu.Unlock()
	return r.lock.TryLock()
}

// count counts a frame that is about to be written, or to become pending. The lock is held.
func (w *writer) count(h *Header) {
	if h.Fin && !h.Opcode.IsControl() {
		w.unsent++
	}
}

// endsMessage reports whether a frame that begins with b ends a message, which then counts.
func endsMessage(b []byte) bool { return b[0]&0x80 != 0 && !Opcode(b[0]&opcodeBits).IsControl() }

// showCounts makes the counts visible before n bytes are written, because their peer may ask for
// Stats elsewhere before the write returns. If all of them are written, the caller has to clear
// unsent, and otherwise call takeBack.
func (w *writer) showCounts(n int) {
	w.tally.add(uint64(w.unsent)*oneMessage+uint64(n), w.core, sending)
}

// takeBack takes back n bytes that could not be written, and the messages that were in the write.
func (w *writer) takeBack(n int) {
	w.tally.packed.Store(w.tally.packed.Load() - uint64(w.unsent)*oneMessage - uint64(n))
}

func (w *writer) counted() counts { return w.countsOf(&w.tally, sending) }

// roundTrip returns the latest round trip time.
func (k *keepalive) roundTrip() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Duration(k.rtt) * time.Microsecond
}

// notePong measures the round trip of a ping of the keepalive. Its pong is the first one
// without payload after it. A round trip may take longer than PingInterval, so this is the first
// ping that has no pong yet.
//
// It reports whether there was such a ping.
func (k *keepalive) notePong() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.awaitsPong {
		return false
	}
	k.awaitsPong = false
	k.setRTT(clock() - k.pingSent)
	return true
}

// noteRTT notes the round trip time of a ping of Ping.
func (k *keepalive) noteRTT(rtt time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setRTT(rtt)
}

// setRTT is noteRTT with mu held. More than an hour counts as an hour.
func (k *keepalive) setRTT(rtt time.Duration) {
	k.rtt = uint32(min(rtt, time.Hour) / time.Microsecond)
}
