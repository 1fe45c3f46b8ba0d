package websocket

import (
	"time"

	"github.com/f44ffc3b/websocket/internal/mask"
)

// endings are the ends of a connection that a poll may act on. Other ends wait, because the handler
// may still receive and answer the messages before them.
type endings struct {
	closing bool // a close frame, or the end after the last message: no method has received since the last poll
	ending  bool // a broken rule, or the end of the stream if the buffer holds all bytes before it
	gone    bool // the end of the stream behind more bytes than the buffer holds; the rest is dropped
}

// allEndings are for a connection that ends in any case.
var allEndings = endings{closing: true, ending: true, gone: true}

// poll reads what has arrived, for pingPoll (see lookAgain), while no method is receiving. It handles
// the control frames among the unread messages, which stay for the handler. It returns an
// error if the connection has to end. The lock is held.
func (r *reader) poll(may endings) error {
	until := time.Now().Add(pingPoll)
	if r.aheadEnd() != nil || !r.socket.beginPoll(until) {
		return nil
	}
	defer r.socket.endPoll()
	r.polling = true
	defer func() { r.polling = false }()
	s := controlScan{may: may}
	for {
		if err := r.scan(&s); err != nil {
			return r.endBehind(err)
		}
		if r.buf.full() && !r.growForPoll() {
			return r.pollBehind(may)
		}
		switch err := r.fillInPoll(until); {
		case err == errReadDeadline:
			return nil
		case err == errStreamEnd && !may.ending && !(may.closing && r.receivedAll()):
			return nil // the handler has time for the messages before the end
		case err != nil:
			return r.endBehind(r.closeBefore(err))
		}
	}
}

// receivedAll reports whether the handler has received all bytes that have arrived.
func (r *reader) receivedAll() bool {
	return r.incoming.left == 0 && r.buf.empty() && !r.inflating
}

// closeBefore returns why the connection ends after a read has failed with err. If the buffer holds
// the peer's close frame, which has waited for the handler, it is the reason, because it came before
// the failure (RFC 6455 section 7.1.5).
func (r *reader) closeBefore(err error) error {
	s := controlScan{may: allEndings}
	if end := r.scan(&s); end != nil {
		return end
	}
	return err
}

// endInBuffer returns the end of the connection that the buffer holds, if any.
func (r *reader) endInBuffer() error {
	r.polling = true // so that a pong does not wait for the peer
	defer func() { r.polling = false }()
	return r.closeBefore(nil)
}

// endBehind returns err, the end of the connection, and notes whether there are messages in
// front of it that the handler can still receive.
func (r *reader) endBehind(err error) error {
	r.life.noteUnread(r.holdsInput())
	return err
}

// growForPoll doubles a full buffer if the system does not report what waits in the kernel, because
// the poll could not find pongs there. It doubles, so that a connection holds at most twice what
// the peer has sent.
func (r *reader) growForPoll() bool {
	size := len(r.buf.buf)
	if _, _, ok := r.socket.behind(); ok || size >= largeReadBufferSize {
		return false
	}
	r.buf.exchange(min(2*size, largeReadBufferSize))
	return true
}

// pollBehind checks what waits in the kernel when the buffer is full. New bytes there are a sign of
// life. If the peer has ended the stream, and the handler has had time to receive, it looks for a
// close frame there, and keeps only the messages in the buffer.
func (r *reader) pollBehind(may endings) error {
	unread, ended, ok := r.socket.behind()
	if !ok {
		return nil
	}
	if unread > r.buf.behind {
		r.timer.noteRead()
	}
	r.buf.behind = unread
	if !ended || !may.gone {
		return nil
	}
	r.socket.beginLastLook(time.Now().Add(maxPoll)) // all is there, so it does not wait
	err := r.discardBehind()
	if _, ok := err.(*peerClose); !ok {
		err = errStreamEnd
	}
	return r.endBehind(err)
}

// fillInPoll is fill for a poll that ends at a time, or for Ping, which waits, if that is zero. It
// ends a poll to which a goroutine has come that wants to receive, because the net.Conn may ignore
// its deadlines.
func (r *reader) fillInPoll(until time.Time) (err error) {
	r.buf.large = false // no handler waits for these bytes
	if err := r.life.err(); err != nil {
		return err
	}
	r.showCounts()
	had := len(r.buf.bytes())
	if until.IsZero() {
		err = r.socket.fill()
	} else {
		err = r.socket.poll()
		for err != nil && r.socket.lookAgain(err, until) {
			err = r.socket.poll()
		}
	}
	if err != nil {
		r.buf.shrink()
		return r.failed(err)
	}
	r.noteRead(len(r.buf.bytes()) - had)
	if r.socket.isWanted() {
		return errReadDeadline
	}
	return nil
}

// A controlScan is the search of one poll for control frames in the read buffer.
type controlScan struct {
	may endings
	at  int // how many of the unused bytes, from the first on, are known to be data frames

	closed bool // the next frame is a close frame, which stays
}

// scan handles the complete control frames in the buffer, even after data frames, and takes them
// out. It stops at a frame that breaks a rule, or is not complete. A frame that ends the connection
// stays in the buffer, unless s.may allows acting on it.
//
// Before the first receiving call it is not known whether the handler wants messages or
// frames: then a frame that breaks a rule is left to that call.
func (r *reader) scan(s *controlScan) error {
	if r.mode == modeFrames {
		return nil
	}
	b := r.buf.bytes()
	// The first bytes belong to the open frame, which may have got more since the last call.
	s.at = max(s.at, int(min(r.incoming.left, int64(len(b)))))
	from, to := s.at, s.at // b[from:] was not examined yet, and will be moved to b[to:]
	defer func() {
		r.buf.cut(to, from)
		s.at = to
	}()
	for {
		var h Header
		n, err := h.parse(b[from:])
		if err != nil || n == 0 || r.incoming.checkAlone(&h) != nil || h.Length > int64(len(b)-from-n) {
			return r.brokenRule(b[:to], b[from:], s.may)
		}
		end := from + n + int(h.Length)
		if !h.Opcode.IsControl() {
			to += copy(b[to:], b[from:end])
			from = end
			continue
		}
		payload := append(make([]byte, 0, maxControlPayload), b[from+n:end]...) // a copy, because the frame may stay
		mask.XOR(payload, h.MaskKey, 0)
		if h.Opcode == Close {
			if ok, err := r.mayClose(b[:to], payload, s.may); !ok {
				s.closed = true
				return err
			}
			end = len(b) // bytes after a close frame are ignored
		}
		from = end
		if err := r.answer(h.Opcode, payload); err != nil {
			return err
		}
	}
}

// checkedMode is the mode whose rules count for polls, 0 before the first receiving call.
func (r *reader) checkedMode() frameMode {
	if r.mode.inMessages() {
		return r.mode
	}
	return 0
}

// brokenRule returns the error for a rule that the data frames in before break, or the frame
// that rest begins with. It returns nil while the handler still has time to receive.
func (r *reader) brokenRule(before, rest []byte, may endings) error {
	mode := r.checkedMode()
	if !may.ending || mode == 0 {
		return nil
	}
	in := r.incoming
	err := in.replay(before, mode, r.latestLimits())
	if err == nil && in.left == 0 {
		in.adopt(r.latestLimits())
		_, err = in.next(rest, mode)
	}
	return err
}

// mayClose reports whether the peer's close frame may end the connection now. If the peer has
// broken a rule before that frame or with it, mayClose returns the error for that, but only
// when the handler has had time to receive.
func (r *reader) mayClose(before, payload []byte, may endings) (bool, error) {
	_, err := ParseClose(payload)
	mode := r.checkedMode()
	if in := r.incoming; mode != 0 && may.closing {
		if earlier := in.replay(before, mode, r.latestLimits()); earlier != nil {
			err = earlier
		}
	}
	switch {
	case err == nil:
		return may.closing, nil
	case may.ending && mode != 0:
		return false, err
	}
	return false, nil
}
