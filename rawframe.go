package websocket

import (
	"bytes"
	"fmt"
)

// ReadFrame waits for the next frame of the peer and returns it as it arrived, but
// unmasked (Masked is false). The payload of a compressed message is not inflated: its first
// frame has RSV1, see [Compression]. Control frames are returned like any other frame and not
// answered. Reserved bits and opcodes are accepted, and the order of fragments is not
// checked. Only an unmasked frame, a malformed header and a payload over MaxFrameSize
// fail the connection. The caller may keep and change the payload.
//
// The caller has to answer pings and close frames. After the first call of ReadFrame, the
// keepalive does not answer them either. Do not mix ReadFrame with other receiving methods
// inside a message. ReadFrame cannot be used with [HandleConcurrent].
func (c *Conn) ReadFrame() (Frame, error) {
	if c.inbox != nil {
		return Frame{}, c.inbox.refuses(byReadFrame)
	}
	if err := c.in.acquire(); err != nil {
		return Frame{}, err
	}
	defer c.in.release()
	f, err := c.in.frame()
	if err != nil {
		return Frame{}, c.received(err)
	}
	return f, nil
}

// frame reads the next frame for ReadFrame.
func (r *reader) frame() (Frame, error) {
	if err := r.begin(byReadFrame); err != nil {
		return Frame{}, err
	}
	var data []byte
	if r.begun != nil {
		data = r.begun.data
	}
	data, _, err := r.appendPayload(data, 0, modeFrames)
	if err == errReadDeadline {
		return Frame{}, r.interrupt(byReadFrame, data, nil)
	}
	if err != nil {
		return Frame{}, err
	}
	r.begun = nil
	f := Frame{Header: r.incoming.unmaskedHeader(), Payload: data}
	switch f.Opcode {
	case Close:
		r.life.noteCloseReceived()
	case Pong:
		r.pong(f.Payload)
	}
	if f.Fin && !f.Opcode.IsControl() {
		r.freshMessages++
		r.showCounts()
	}
	return f, nil
}

// WriteFrame sends any frame as it is, even one that breaks the rules: it is for tests and for
// protocols that extend RFC 6455. Length is set from the payload; see [Frame] for masked frames.
// WriteFrame does not wait for an open MessageWriter, so a data frame can end up inside its
// message. The payload is not compressed; a data frame with RSV1 is taken for one that the caller
// has compressed. WriteFrame neither keeps nor changes the payload. After a Close frame, sending
// methods other than WriteFrame return an error.
func (c *Conn) WriteFrame(f Frame) (err error) {
	if err := c.out.acquire(); err != nil {
		return c.sendError(err)
	}
	defer c.finishSend(&err)
	if c.life.err() != nil {
		return c.out.ended()
	}
	if f.Opcode&opcodeBits == Close {
		return c.out.rawClose(f)
	}
	err = c.out.send(&f.Header, f.Payload)
	c.out.noteAlone(&f.Header)
	return err
}

// rawClose sends a close frame as it is. The lock is held.
func (w *writer) rawClose(f Frame) error {
	w.noteClose(f.unmaskedPayload())
	return w.sendOwn(bySender, &f.Header, f.Payload)
}

// unmaskedPayload returns the payload unmasked. The payload of a masked frame is
// copied.
func (f Frame) unmaskedPayload() []byte {
	if !f.Masked {
		return f.Payload
	}
	b := bytes.Clone(f.Payload)
	Mask(b, f.MaskKey, 0)
	return b
}

// ReceiveFragments waits for the next message and returns its frames, unmasked and in order.
// Control frames are answered and not returned. Limits apply and text is checked, as by
// ReceiveMessage. A compressed message is returned as it arrived: its first frame has RSV1,
// MaxMessageSize applies to the compressed bytes, and its text is not checked. The caller may keep
// and change the payloads; [ProcessFragments] joins them. ReceiveFragments cannot be used with
// [HandleConcurrent].
func (c *Conn) ReceiveFragments() ([]Frame, error) {
	if c.inbox != nil {
		return nil, c.inbox.refuses(byReceiveFragments)
	}
	if err := c.in.acquire(); err != nil {
		return nil, err
	}
	defer c.in.release()
	frames, err := c.in.frames()
	if err != nil {
		return nil, c.received(err)
	}
	return frames, nil
}

// frames reads the frames of the next message.
func (r *reader) frames() ([]Frame, error) {
	if err := r.begin(byReceiveFragments); err != nil {
		return nil, err
	}
	var (
		data   []byte
		frames []Frame
	)
	if r.begun != nil {
		data, frames = r.begun.data, r.begun.frames
	}
	for {
		var (
			end frameEnd
			err error
		)
		data, end, err = r.appendPayload(data, 0, modeFragments)
		if err == errReadDeadline {
			return nil, r.interrupt(byReceiveFragments, data, frames)
		}
		if err != nil {
			return nil, err
		}
		frames = append(frames, Frame{Header: r.incoming.unmaskedHeader(), Payload: data})
		data = nil
		if end == endOfMessage {
			r.begun = nil
			return frames, nil
		}
	}
}

// ProcessFragments makes a message of its frames, as [Conn.ReceiveFragments] or
// the function [ReadFrame] returned them: it unmasks those that are masked, in
// place, joins the payloads and checks text for UTF-8. The payload of a single
// frame is returned as it is, without a copy.
//
// Frames that are not one whole message of Text or Binary are [ErrProtocol], text
// that is not UTF-8 is [ErrInvalidUTF8]. A compressed message, whose first frame has RSV1, is
// ErrProtocol too, because it is not inflated: receive it with [Conn.ReceiveMessage].
func ProcessFragments(frames []Frame) (Opcode, []byte, error) {
	if err := checkFragments(frames); err != nil {
		return 0, nil, err
	}
	size := 0
	for i := range frames {
		frames[i].Unmask()
		size += len(frames[i].Payload)
	}
	op, data := frames[0].Opcode, frames[0].Payload
	if len(frames) > 1 {
		data = make([]byte, 0, size)
		for _, f := range frames {
			data = append(data, f.Payload...)
		}
	}
	if op == Text && !ValidUTF8(data) {
		return 0, nil, fmt.Errorf("%w: in a text message of %d frames (RFC 6455 section 8.1)", ErrInvalidUTF8, len(frames))
	}
	return op, data, nil
}

// checkFragments checks the frames of a message against RFC 6455 section 5.4.
func checkFragments(frames []Frame) error {
	if len(frames) == 0 {
		return protocolError("5.4", "message of no frames")
	}
	for i, f := range frames {
		first, last := i == 0, i == len(frames)-1
		switch {
		case first && f.Opcode != Text && f.Opcode != Binary:
			return protocolError("5.4", "message begins with a %v frame", f.Opcode)
		case !first && f.Opcode != Continuation:
			return protocolError("5.4", "frame %d of %d is a %v frame, want continuation", i+1, len(frames), f.Opcode)
		case f.Fin != last:
			return protocolError("5.4", "frame %d of %d has FIN %t", i+1, len(frames), f.Fin)
		case first && f.RSV1 && !f.RSV2 && !f.RSV3:
			return protocolError("5.2", "reserved bits set in frame 1 of %d: RSV1 says that the message is compressed, and ProcessFragments does not inflate it; use ReceiveMessage", len(frames))
		case f.RSV1 || f.RSV2 || f.RSV3:
			return protocolError("5.2", "reserved bits set in frame %d of %d", i+1, len(frames))
		}
	}
	return nil
}
