package websocket

import (
	"time"

	"github.com/f44ffc3b/websocket/internal/mask"
)

// control waits for the whole of a control frame, whose header is the next n bytes
// of the buffer, and answers it. It returns a *peerClose for a close frame.
func (r *reader) control(n int) error {
	h := &r.incoming.header
	end := n + int(h.Length)
	for len(r.buf.bytes()) < end {
		if err := r.fill(); err != nil {
			return err
		}
	}
	payload := r.buf.bytes()[n:end]
	r.buf.discard(end)
	mask.XOR(payload, h.MaskKey, 0)
	return r.answer(h.Opcode, payload)
}

// answer handles a control frame, whose payload is unmasked.
func (r *reader) answer(op Opcode, payload []byte) error {
	switch {
	case op == Close:
		r.life.noteCloseReceived()
		peer := new(peerClose)
		peer.closed, peer.fault = parseClose(payload)
		peer.size = copy(peer.code[:], payload)
		return peer
	case op == Ping && !r.dropPings && r.mode != modeDiscard:
		if !r.polling {
			_, next := parseWhole(r.buf.bytes())
			r.out.noteBuffered(next > 0) // pings that come together are answered together
		}
		r.showCounts() // before the peer has the answer
		r.out.pong(r.caller(), payload)
	case op == Pong:
		r.pong(payload)
	}
	return nil
}

// caller returns which kind of call reads.
func (r *reader) caller() caller {
	if r.polling {
		return byPoll
	}
	return byReceiver
}

// peerClose is the error of a reader that has read the peer's close frame.
type peerClose struct {
	closed CloseError
	fault  error // why the payload of the frame is not valid, or nil

	code [2]byte // as in the frame
	size int     // 0 if the frame has no code
}

// answer returns the payload of the answer, which has the same code.
func (p *peerClose) answer() []byte { return p.code[:p.size] }

func (*peerClose) Error() string { return "websocket: the peer has sent a close frame" }

// look reads what arrives until the read deadline, and handles the control frames among the unread
// messages, as a poll does. It reports whether the next frame is a close frame, which stays in the
// buffer.
func (r *reader) look() (closeIsNext bool, err error) {
	r.polling = true
	defer func() { r.polling = false }()
	var s controlScan
	for {
		if err := r.scan(&s); err != nil || s.closed || r.buf.full() && !r.growForPoll() {
			return s.closed && s.at == 0, err
		}
		r.buf.large = false // no handler waits for these bytes
		if err := r.fill(); err == errReadDeadline {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
}

// lastLook reads what has arrived, after a write has failed, for pingPoll (see lookAgain). It
// returns a *peerClose if the peer's close frame is there, else the error of the reads, or
// nil. Unless it is final, it leaves input that the handler can receive where it is. Otherwise it
// also looks for a close frame behind the buffer, and drops what is there. The messages in the
// buffer stay in any case, because the handler may be busy.
func (r *reader) lastLook(final bool) error {
	if end := r.aheadEnd(); end != nil {
		return end
	}
	if r.life.closeReceived() {
		return nil // ReadFrame has returned the close frame, and its bytes are gone
	}
	r.bufferOnly = r.socket.beginLastLook(time.Now().Add(pingPoll)) != nil
	defer r.socket.endPoll()
	closeIsNext, err := r.look()
	if final || closeIsNext || !r.holdsInput() {
		if end := r.endInBuffer(); end != nil {
			return r.endBehind(end)
		}
	}
	if !final && (err != nil || r.holdsInput()) {
		return err
	}
	return r.endBehind(r.discardBehind())
}

// closeBehind returns the peer's close frame if it is behind a full buffer, and drops what is in front
// of it there. It is for a connection that ends in any case.
func (r *reader) closeBehind() error {
	if r.buf.full() {
		if peer, ok := r.lastLook(true).(*peerClose); ok {
			return peer
		}
	}
	return nil
}

// discardBehind is discard, but keeps what is in the buffer.
func (r *reader) discardBehind() error {
	kept, before := append([]byte(nil), r.buf.bytes()...), r.incoming
	mode, inflating := r.mode, r.inflating
	err := r.discard()
	r.buf.release()
	r.buf.load(kept)
	r.incoming, r.mode, r.inflating = before, mode, inflating
	return err
}

// holdsInput reports whether there is something for the next receiving call in the buffer, a
// piece of the open frame or a complete frame, or in the decoder.
func (r *reader) holdsInput() bool {
	if r.incoming.left > 0 || r.inflating {
		return r.inflating || !r.buf.empty()
	}
	_, end := parseWhole(r.buf.bytes())
	return end > 0
}

// discard drops everything up to the peer's close frame and returns a *peerClose
// then. The rules do not apply to what is dropped, because the connection is over.
func (r *reader) discard() error {
	if r.life.closeReceived() {
		return &peerClose{}
	}
	defer r.showCounts() // the connection may end next, and OnClose may ask for them
	r.mode, r.inflating = modeDiscard, false
	for {
		if r.incoming.left > 0 {
			if _, err := r.dropFrame(modeDiscard); err != nil {
				return err
			}
		}
		if _, err := r.next(modeDiscard); err != nil {
			return err
		}
	}
}

// drain drops what arrives until a read fails.
func (r *reader) drain() {
	if !r.life.hasUnread() {
		r.buf.release()
	}
	p := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(p)
	for {
		r.showCounts()
		n, err := r.socket.Read(p[:])
		if err != nil {
			return
		}
		r.socket.freshBytes += uint32(n)
	}
}

// passTurn lets a call of Ping read, if one is waiting. It is called when the lock has been
// free for a moment.
func (r *reader) passTurn() {
	if p := r.waitingPings(); p != nil {
		p.pass()
	}
}

// pong handles the payload of a pong.
func (r *reader) pong(payload []byte) {
	if len(payload) == 0 { // as the keepalive's pings
		if r.timer.notePong() {
			r.socket.noteQuiet()
		}
		return
	}
	if p := r.waitingPings(); p != nil {
		if rtt, ok := p.answer(payload); ok {
			r.timer.noteRTT(rtt)
		}
	}
}

// aheadEnd returns the error that HandleConcurrent will end the connection with, or nil. The
// lock is held.
func (r *reader) aheadEnd() error {
	if s := r.rareIf(); s != nil {
		return s.aheadEnd
	}
	return nil
}
