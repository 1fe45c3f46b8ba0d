package websocket

import (
	"bytes"
	"errors"
	"io"
	"math"
	"sync"

	"github.com/f44ffc3b/websocket/internal/deflate"
	"github.com/f44ffc3b/websocket/internal/mask"
)

// A compressed message is inflated while it arrives, straight from the read buffer. Its decoder
// is from a pool, and goes back at the end of the message: client_no_context_takeover was
// agreed on, so no message refers to an earlier one.
var decoders = sync.Pool{New: func() any { return new(deflate.Decoder) }}

// inflates reports whether the message in progress is inflated in a mode.
func (r *reader) inflates(mode frameMode) bool { return r.incoming.compressed && mode.inflates() }

// decoderOf returns the decoder of the message in progress. For a Stream it has no limit,
// because a Stream passes the bytes on and does not keep them.
func (r *reader) decoderOf(mode frameMode) *deflate.Decoder {
	c := r.compression()
	if c.decoder == nil {
		limit := r.incoming.limits.maxMessageSize
		if mode == modeStream {
			limit = -1
		}
		c.decoder = decoders.Get().(*deflate.Decoder)
		c.decoder.Reset(limit)
	}
	return c.decoder
}

// stopInflating drops what is not inflated yet of the message in progress. It reports whether
// the message has ended.
func (r *reader) stopInflating() (ended bool) {
	c := r.compression()
	if c == nil {
		return false
	}
	c.returnDecoder()
	ended = r.inflating && !r.incoming.midMessage()
	if r.inflating = false; ended {
		r.afterMessage()
	}
	return ended
}

// returnDecoder returns the decoder to its pool. in.lock is held.
func (c *compression) returnDecoder() {
	if c.decoder != nil {
		c.decoder.Reset(-1) // it returns its window to the pool
		decoders.Put(c.decoder)
		c.decoder = nil
	}
}

// inflateMessage appends the rest of the message in progress to msg, which ends with the bytes
// that are inflated already. If msg is nil, the result has an array of its own; a message that
// fits a read buffer gets an array of its size. On an error, msg holds what is inflated.
func (r *reader) inflateMessage(msg []byte) ([]byte, error) {
	if msg != nil {
		return r.appendInflated(msg)
	}
	// Put is not deferred: a defer needs stack, and a panic may drop the scratch.
	scratch := readBuffers.Get().(*[readBufferSize]byte)
	msg, err := r.appendInflated(scratch[:0])
	if cap(msg) == readBufferSize {
		msg = bytes.Clone(msg) // larger messages have moved to an array of their own
	}
	readBuffers.Put(scratch)
	return msg, err
}

// appendInflated appends the rest of the message in progress to msg.
func (r *reader) appendInflated(msg []byte) ([]byte, error) {
	for {
		end, err := r.next(modeMessages)
		if err != nil {
			return msg, err
		}
		if end == endOfFrame {
			continue // without payload
		}
		src, last, err := r.compressed(math.MaxInt)
		if err != nil {
			return msg, err
		}
		had := len(msg)
		msg, err = r.decoderOf(modeMessages).Append(msg, src, last)
		if err == nil {
			err = r.checkInflated(msg[had:], last)
		}
		if err != nil {
			return msg, r.inflateError(err)
		}
		r.advance(len(src), modeMessages)
		if last {
			r.stopInflating()
			return msg, nil
		}
	}
}

// inflate is payload for a compressed message.
func (r *reader) inflate(p []byte, mode frameMode) (n int, end frameEnd, err error) {
	const enough = 64 // bytes, so that a read into a small p does not unmask one byte at a time
	src, last, err := r.compressed(max(len(p), enough))
	if err != nil {
		return 0, notEnd, err
	}
	n, used, err := r.decoderOf(mode).Read(p, src, last)
	done := err == io.EOF
	if err == nil || done {
		err = r.checkInflated(p[:n], done)
	}
	if err != nil {
		return 0, notEnd, r.inflateError(err)
	}
	r.mask(src[used:], used) // the rest stays in the buffer masked, as it arrived
	r.advance(used, mode)
	if done {
		r.stopInflating()
		return n, endOfMessage, nil
	}
	if r.incoming.midMessage() { // p may be full, and the next Read must not wait for the peer then
		r.inflating = n == len(p) && (r.incoming.left == 0 || r.buf.empty())
	}
	return n, notEnd, nil
}

// compressed returns the next bytes of the open frame, at most limit and at least one, and
// whether they are the last of their message. It waits for them, and unmasks them in the read
// buffer, where they stay until advance. If the decoder may have more without them, it returns none.
func (r *reader) compressed(limit int) (src []byte, last bool, err error) {
	if r.inflating {
		return nil, !r.incoming.midMessage(), nil
	}
	if r.buf.empty() {
		if err := r.fill(); err != nil {
			return nil, false, err
		}
	}
	src = r.buf.bytes()
	src = src[:min(int64(len(src)), r.incoming.left, int64(limit))]
	r.mask(src, 0)
	return src, r.incoming.header.Fin && int64(len(src)) == r.incoming.left, nil
}

// mask masks b in place, or unmasks it. b begins distance bytes after the next byte of the open
// frame.
func (r *reader) mask(b []byte, distance int) {
	h := &r.incoming.header
	mask.XOR(b, h.MaskKey, int(h.Length-r.incoming.left+int64(distance))&3)
}

// advance marks n bytes of the open frame as used.
func (r *reader) advance(n int, mode frameMode) {
	if n == 0 {
		return
	}
	r.buf.discard(n)
	end, _ := r.incoming.drop(int64(n), mode) // the text is checked by checkInflated
	r.inflating = end == endOfMessage
}

// checkInflated checks the next inflated bytes of the message, if it is text.
func (r *reader) checkInflated(b []byte, last bool) error {
	in := &r.incoming
	switch {
	case in.op != Text:
	case !in.text.Check(b):
		return errInvalidText
	case last && !in.text.Complete():
		return errIncompleteText
	}
	return nil
}

// inflateError returns the error that a connection ends with.
func (r *reader) inflateError(err error) error {
	r.compression().returnDecoder()
	var corrupt *deflate.CorruptError
	switch {
	case err == deflate.ErrTooLarge:
		return tooLarge("message exceeds MaxMessageSize %d when it is inflated", r.incoming.limits.maxMessageSize)
	case errors.As(err, &corrupt):
		return &inflateError{corrupt}
	}
	return err
}
