package websocket

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pings are the calls of Ping that wait. The payload of a ping is its number, added to a
// random number, so that the peer can neither confuse it with another ping nor guess it.
type pings struct {
	count atomic.Int32 // len(calls), for goroutines that lock mu only if there are calls

	mu     sync.Mutex
	random uint64
	last   uint64        // the number of the last call
	sent   uint64        // the number of the last ping that was sent
	calls  []*pingCall   // in the order of their numbers
	turn   chan struct{} // has a token if one of the calls may try to read
}

// A pingCall is a call of Ping.
type pingCall struct {
	number   uint64
	sent     time.Duration // when its ping was sent, see clock
	rtt      time.Duration // set before answered is closed
	answered chan struct{}
	reading  atomic.Bool // it reads from the connection
}

func (p *pings) begin() *pingCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn == nil {
		p.turn = make(chan struct{}, 1)
		p.random = rand.Uint64()
	}
	p.last++
	call := &pingCall{number: p.last, answered: make(chan struct{})}
	p.setCalls(append(p.calls, call))
	return call
}

func (p *pings) end(call *pingCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.calls, call); i >= 0 {
		p.setCalls(slices.Delete(p.calls, i, i+1))
	}
}

func (p *pings) setCalls(calls []*pingCall) {
	p.calls = calls
	p.count.Store(int32(len(calls)))
}

// next returns the payload of the next ping to be sent, which is sent now, or nil.
func (p *pings) next() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.calls {
		if call.number > p.sent {
			p.sent, call.sent = call.number, clock()
			return binary.BigEndian.AppendUint64(nil, p.random+call.number)
		}
	}
	return nil
}

// answer completes the calls that a pong with this payload answers: that of the ping with the same
// payload, and all before it. It returns the round trip time of that ping, if its call still waits.
func (p *pings) answer(payload []byte) (rtt time.Duration, ok bool) {
	if len(payload) != 8 {
		return 0, false
	}
	now := clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	number := binary.BigEndian.Uint64(payload) - p.random
	if number == 0 || number > p.sent {
		return 0, false
	}
	n := 0
	for _, call := range p.calls {
		if call.number > number {
			break
		}
		call.rtt = now - call.sent
		rtt, ok = call.rtt, call.number == number
		close(call.answered)
		n++
	}
	p.setCalls(slices.Delete(p.calls, 0, n))
	return rtt, ok
}

func (p *pings) pass() {
	select {
	case p.turn <- struct{}{}:
	default: // one call at a time reads
	}
}

func (c *pingCall) isAnswered() bool {
	select {
	case <-c.answered:
		return true
	default:
		return false
	}
}
