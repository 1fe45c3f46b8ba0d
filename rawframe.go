package websocket

import (
	"bytes"
	"fmt"
)

// ReadFrame waits for the next frame of the peer and returns it as it came, but
// unmasked (Masked is false). Control frames are returned like any other and not
// answered, reserved bits and opcodes are let through, and the order of fragments
// is the caller's to check; only an unmasked frame, a malformed header and a
// payload over MaxFrameSize fail the connection. The payload is the caller's.
//
// Once ReadFrame has been called the keepalive leaves control frames alone too.
// Do not mix it with the receiving methods inside a message.
func (c *Conn) ReadFrame() (Frame, error) {
	if c.inbox != nil {
		return Frame{}, errInbox(byReadFrame)
	}
	if err := c.lockReceiver(); err != nil {
		return Frame{}, err
	}
	defer c.in.lock.Unlock()
	if err := c.claim(byReadFrame); err != nil {
		return Frame{}, err
	}
	in := &c.in
	in.raw = true
	if err := c.openRawFrame(); err != nil {
		return Frame{}, err
	}
	in.owner, in.isText = byReadFrame, false
	var err error
	if in.partial, err = c.readPayload(in.partial, 0, 0); err != nil {
		return Frame{}, err
	}
	f := Frame{Header: in.plainHeader(), Payload: in.partial}
	in.open = false
	in.endMessage()
	if f.Opcode == Close {
		in.closeReceived.Store(true)
	}
	return f, nil
}

// openRawFrame opens the next frame, unless the keepalive has on its own search
// for control frames.
func (c *Conn) openRawFrame() error {
	if c.in.open {
		return nil
	}
	n, err := c.nextHeader()
	if err != nil {
		return err
	}
	h := &c.in.header
	if !h.Masked {
		return c.fail(unmasked(h))
	}
	if err := c.checkFrameSize(h); err != nil {
		return c.fail(err)
	}
	c.in.r += n
	c.in.openFrame()
	return nil
}

// plainHeader is the header of the open frame once its payload is unmasked.
func (in *receiver) plainHeader() Header {
	h := in.header
	h.Masked, h.MaskKey = false, [4]byte{}
	return h
}

// WriteFrame sends any frame as it is, also one that breaks the rules: that is
// what it is for. Length is set from the payload; see [Frame] for masked ones.
// It waits for no MessageWriter, so a data frame can end up inside its message.
// After a Close frame, sending methods other than WriteFrame return an error.
func (c *Conn) WriteFrame(f Frame) error {
	if err := c.lockSender(); err != nil {
		return err
	}
	defer c.unlockSender()
	if c.err() != nil {
		return c.endOfSending()
	}
	if f.Opcode&opcodeBits == Close {
		c.noteCloseSent(f.plain())
		return c.writeOwn(&f.Header, f.Payload)
	}
	return c.write(&f.Header, f.Payload)
}

// plain is the payload unmasked; that of a masked frame is copied.
func (f Frame) plain() []byte {
	if !f.Masked {
		return f.Payload
	}
	b := bytes.Clone(f.Payload)
	Mask(b, f.MaskKey, 0)
	return b
}

// ReceiveFragments waits for the next message and returns the frames that it
// came in, unmasked, in order. Control frames are answered and left out, limits
// hold and text is checked, as for ReceiveMessage. The payloads are the caller's;
// [ProcessFragments] joins them.
func (c *Conn) ReceiveFragments() ([]Frame, error) {
	if c.inbox != nil {
		return nil, errInbox(byReceiveFragments)
	}
	if err := c.lockReceiver(); err != nil {
		return nil, err
	}
	defer c.in.lock.Unlock()
	if err := c.claim(byReceiveFragments); err != nil {
		return nil, err
	}
	in := &c.in
	for {
		if err := c.advance(); err != nil {
			return nil, err
		}
		in.owner = byReceiveFragments
		var err error
		if in.partial, err = c.readPayload(in.partial, 0, 0); err != nil {
			return nil, err
		}
		in.frags = append(in.frags, Frame{Header: in.plainHeader(), Payload: in.partial})
		in.partial = nil
		frames := in.frags
		last, err := c.endFrame()
		if err != nil {
			return nil, err
		}
		if last {
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
// that is not UTF-8 is [ErrInvalidUTF8].
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

// checkFragments holds the frames of a message against RFC 6455 section 5.4.
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
		case f.RSV1 || f.RSV2 || f.RSV3:
			return protocolError("5.2", "reserved bits set in frame %d of %d", i+1, len(frames))
		}
	}
	return nil
}
