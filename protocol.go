package websocket

import (
	"fmt"
	"math"

	"github.com/f44ffc3b/websocket/internal/mask"
	"github.com/f44ffc3b/websocket/internal/utf8"
)

// MaxSize is the largest value of [MaxFrameSize], [MaxMessageSize] and [SendQueue], in bytes: 1 GiB.
// It fits an int on every platform.
const MaxSize = 1 << 30

// limits are the sizes that a connection accepts of its peer.
type limits struct {
	maxFrameSize   int64
	maxMessageSize int64
	maxFragments   int
	frameSizeGiven bool // MaxFrameSize was given, so it does not follow SetMaxMessageSize
}

// A frameMode decides which rules the frames of the peer are checked against.
type frameMode byte

const (
	// modeMessages: all rules of RFC 6455 and all limits.
	modeMessages frameMode = 1 + iota

	// modeFrames: only what ReadFrame documents. Control frames are frames like any
	// other, and the order of frames is not checked.
	modeFrames

	// modeDiscard: the connection is over, and only a close frame matters. No rule is
	// checked, as long as it is clear where a frame ends.
	modeDiscard

	// modeSkip: the rules of RFC 6455 for frames, but no limits, and text is not checked.
	// The payload is dropped, so it takes no memory.
	modeSkip

	// modeStream: all rules of RFC 6455, but only one limit, MaxFrameSize, because a Stream
	// passes on the payload as it arrives.
	modeStream

	// modeFragments: as modeMessages, but compressed messages are passed on as they arrived. So
	// their text is not checked, and the limits count their bytes on the wire.
	modeFragments
)

// inMessages reports whether the frames are parts of messages.
func (m frameMode) inMessages() bool {
	return m == modeMessages || m == modeSkip || m == modeStream || m == modeFragments
}

// checksText reports whether text has to be UTF-8.
func (m frameMode) checksText() bool { return m.inflates() || m == modeFragments }

// inflates reports whether compressed messages are inflated.
func (m frameMode) inflates() bool { return m == modeMessages || m == modeStream }

// A frameEnd says whether a frame, or a message, ends with a piece of payload.
type frameEnd byte

const (
	notEnd frameEnd = iota
	endOfFrame
	endOfMessage
)

// incoming checks the frames of a client against RFC 6455 section 5, and knows the place of
// the next byte in its message. It does no I/O.
type incoming struct {
	limits *limits

	// The frame whose header was used last. It is open while left is not 0.
	header Header
	left   int64 // bytes of its payload that are still to come

	// The message that the frame is part of.
	size   int64 // the payload lengths of its frames so far
	frames int32
	text   utf8.Checker
	op     Opcode // Text or Binary; between messages, that of the last one

	compressed  bool // the message is; between messages, the last one was
	mayCompress bool // compression was agreed on
}

// midMessage reports whether a message has begun and not ended.
func (in *incoming) midMessage() bool { return in.frames > 0 }

// next examines the frame that b begins with; no frame is open. It returns the size n
// of the header, or 0 if b ends within it. It does not use the header yet: begin
// does that for a data frame, and a control frame is used as a whole or not at all.
//
// An error says which rule the peer broke. The steps are those of RFC 6455 section
// 5.2: length, reserved bits, opcode, mask, then what the opcode allows.
func (in *incoming) next(b []byte, mode frameMode) (n int, err error) {
	h := &in.header
	n, err = h.parse(b)
	if n == 0 || err != nil {
		return 0, err
	}
	switch {
	case mode.inMessages():
		err = in.check(h, mode)
	case mode == modeFrames:
		err = in.checkRaw(h)
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// check applies all rules to a header, and the limits of the mode, before any of its payload
// is waited for.
func (in *incoming) check(h *Header, mode frameMode) error {
	if err := in.checkAlone(h); err != nil || h.Opcode.IsControl() {
		return err
	}
	switch {
	case h.Opcode == Continuation && !in.midMessage():
		return protocolError("5.4", "continuation frame with no message to continue")
	case h.Opcode != Continuation && in.midMessage():
		return protocolError("5.4", "%v frame in the middle of a fragmented message", h.Opcode)
	case mode == modeSkip:
		return nil
	case mode == modeStream:
		return in.checkFrameSize(h, mode)
	}
	return in.checkLimits(h, mode)
}

// checkAlone applies the rules that do not depend on the frames before.
func (in *incoming) checkAlone(h *Header) error {
	if h.RSV1 || h.RSV2 || h.RSV3 {
		if err := in.checkReserved(h); err != nil {
			return err
		}
	}
	switch {
	case h.Opcode.IsReserved():
		return fmt.Errorf("%w: %w", ErrInvalidOpcode, protocolError("5.2", "%v", h.Opcode))
	case !h.Masked:
		return unmaskedError(h)
	case h.Opcode.IsControl():
		return checkControl(h)
	}
	return nil
}

// checkReserved applies the rules for a header with reserved bits. RSV1 says that the message
// is compressed, if that was agreed on, and only its first frame may have it (RFC 7692 section
// 6).
func (in *incoming) checkReserved(h *Header) error {
	switch {
	case !in.mayCompress:
		return protocolError("5.2", "reserved bits set in a %v frame, and no extension was agreed on", h.Opcode)
	case h.RSV2 || h.RSV3:
		return protocolError("5.2", "RSV2 or RSV3 set in a %v frame, and no extension that uses them was agreed on", h.Opcode)
	case h.Opcode != Text && h.Opcode != Binary:
		return fmt.Errorf("%w: RSV1 set in a %v frame; only the first frame of a compressed message may have it (RFC 7692 section 6.1)", ErrProtocol, h.Opcode)
	}
	return nil
}

// checkRaw applies the rules that hold for ReadFrame, too.
func (in *incoming) checkRaw(h *Header) error {
	if !h.Masked {
		return unmaskedError(h)
	}
	return in.checkFrameSize(h, modeFrames)
}

func unmaskedError(h *Header) error {
	return protocolError("5.1", "unmasked %v frame from a client", h.Opcode)
}

func checkControl(h *Header) error {
	if !h.Fin {
		return protocolError("5.5", "fragmented %v frame", h.Opcode)
	}
	if h.Length > maxControlPayload {
		return protocolError("5.5", "%v frame of %d bytes exceeds %d", h.Opcode, h.Length, maxControlPayload)
	}
	return nil
}

// inflatedFrame reports whether h is that of a frame whose payload is inflated in a mode. The
// frame is not open yet.
func (in *incoming) inflatedFrame(h *Header, mode frameMode) bool {
	return mode.inflates() && (h.RSV1 || in.compressed && h.Opcode == Continuation)
}

func (in *incoming) checkLimits(h *Header, mode frameMode) error {
	if err := in.checkFrameSize(h, mode); err != nil {
		return err
	}
	// Neither side can overflow, because size is at most maxMessageSize here. Of a compressed
	// message, the decoder counts the inflated bytes.
	if h.Length > in.limits.maxMessageSize-in.size && !in.inflatedFrame(h, mode) {
		return tooLarge("message of %d bytes exceeds MaxMessageSize %d", in.size+h.Length, in.limits.maxMessageSize)
	}
	if int(in.frames) >= in.limits.maxFragments {
		return tooLarge("message of more frames than MaxFragments %d", in.limits.maxFragments)
	}
	return nil
}

// checkFrameSize names both options if they have the same value, because MaxFrameSize
// follows MaxMessageSize unless it is given.
func (in *incoming) checkFrameSize(h *Header, mode frameMode) error {
	limit := in.limits.maxFrameSize
	switch {
	case h.Length <= limit:
		return nil
	case in.inflatedFrame(h, mode):
		return in.checkCompressedFrame(h)
	case limit == in.limits.maxMessageSize:
		return tooLarge("message of %d bytes exceeds MaxMessageSize %d and MaxFrameSize %d", uint64(in.size)+uint64(h.Length), limit, limit)
	}
	return tooLarge("frame of %d bytes exceeds MaxFrameSize %d", h.Length, limit)
}

// checkCompressedFrame is checkFrameSize for a compressed frame that exceeds MaxFrameSize. If
// that was not given, the frame may be larger by an eighth, and by some bytes, because a message
// of MaxMessageSize that cannot be compressed grows: fixed Huffman codes have nine bits at most.
func (in *incoming) checkCompressedFrame(h *Header) error {
	limit := in.limits.maxFrameSize
	if !in.limits.frameSizeGiven {
		limit += limit/8 + 64
	}
	if h.Length <= limit {
		return nil
	}
	return tooLarge("compressed frame of %d bytes exceeds MaxFrameSize %d", h.Length, limit)
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s (RFC 6455 section 10.4)", ErrMessageTooLarge, fmt.Sprintf(format, args...))
}

// isControl reports whether next has found a control frame, which does not belong
// to the message. In modeFrames no frame counts as one. In modeDiscard a control frame
// that is too large is dropped like a data frame.
func (in *incoming) isControl(mode frameMode) bool {
	return mode != modeFrames && in.header.Opcode.IsControl() && in.header.Length <= maxControlPayload
}

// begin opens the frame that next has found. A frame without payload ends at once.
func (in *incoming) begin(mode frameMode) (frameEnd, error) {
	in.left = in.header.Length
	if mode.inMessages() {
		if op := in.header.Opcode; op != Continuation {
			in.op = op
			in.text = utf8.Checker{}
			in.compressed = in.header.RSV1
		}
		if mode == modeFragments || mode == modeMessages && !in.compressed {
			in.size += in.header.Length
		}
		in.frames = min(in.frames, math.MaxInt32-1) + 1 // without a limit, it could overflow
	}
	if in.left > 0 {
		return notEnd, nil
	}
	return in.end(mode)
}

// The faults of a text message of the peer.
var (
	errInvalidText    = fmt.Errorf("%w: in a text message (RFC 6455 section 8.1)", ErrInvalidUTF8)
	errIncompleteText = fmt.Errorf("%w: text message ends inside a character (RFC 6455 section 8.1)", ErrInvalidUTF8)
)

// unmask unmasks p, the next bytes of the open frame, in place, and checks it if it
// is text. It checks the bytes while they are in the processor's cache. Compressed text is
// checked when it is inflated, see reader.checkInflated.
func (in *incoming) unmask(p []byte, mode frameMode) (frameEnd, error) {
	mask.XOR(p, in.header.MaskKey, int(in.header.Length-in.left)&3)
	in.left -= int64(len(p))
	if mode.checksText() && in.op == Text && !in.compressed && !in.text.Check(p) {
		return notEnd, errInvalidText
	}
	if in.left > 0 {
		return notEnd, nil
	}
	return in.end(mode)
}

// adopt sets the limits of the next message, unless l is nil. It changes nothing in the middle of a
// message.
func (in *incoming) adopt(l *limits) {
	if l != nil && !in.midMessage() {
		in.limits = l
	}
}

// replay checks b, the rest of the open frame and then data frames, without changing b. It is
// called on a copy of the incoming of a connection, which is behind b afterwards. latest are the
// limits of the messages that begin in b, or nil if they have not changed.
func (in *incoming) replay(b []byte, mode frameMode, latest *limits) error {
	var scratch [512]byte
	for len(b) > 0 {
		var err error
		n := 0
		if in.left == 0 {
			in.adopt(latest)
			if n, err = in.next(b, mode); n > 0 {
				_, err = in.begin(mode)
			}
		} else {
			n = copy(scratch[:min(in.left, int64(len(scratch)))], b)
			_, err = in.unmask(scratch[:n], mode)
		}
		if err != nil || n == 0 {
			return err
		}
		b = b[n:]
	}
	return nil
}

// drop is unmask for the next n bytes of a frame whose payload is dropped.
func (in *incoming) drop(n int64, mode frameMode) (frameEnd, error) {
	in.left -= n
	if in.left > 0 {
		return notEnd, nil
	}
	return in.end(mode)
}

// end says what has ended with the frame, of which nothing is left.
func (in *incoming) end(mode frameMode) (frameEnd, error) {
	switch {
	case !mode.inMessages() || !in.header.Fin:
		return endOfFrame, nil
	case mode.checksText() && in.op == Text && !in.text.Complete() && !in.compressed:
		return endOfFrame, errIncompleteText
	}
	in.size, in.frames = 0, 0
	return endOfMessage, nil
}

// unmaskedHeader returns the header of the last frame, whose payload was unmasked.
func (in *incoming) unmaskedHeader() Header {
	h := in.header
	h.Masked, h.MaskKey = false, [4]byte{}
	return h
}

// remaining is how many bytes of the message may follow the open frame.
func (in *incoming) remaining() int64 {
	if in.header.Fin {
		return 0
	}
	return in.limits.maxMessageSize - in.size
}

// growMessage is grow for a message that further frames may continue. The caller of
// ReceiveMessage may keep the message, so its capacity is at most twice its length, except
// for a few bytes, which reader.finish copies. The room is as large as what has arrived, or
// larger if the headers have declared so many bytes, see pieceSize. If buffered, the bytes of
// the read buffer, holds the rest of the message, the room is exact.
func (in *incoming) growMessage(msg []byte, arrived int, buffered []byte) []byte {
	if in.header.Fin || len(msg) < cap(msg) {
		return grow(msg, arrived, in.left)
	}
	more, complete := in.continuation(buffered)
	declared := in.left + int64(more)
	if complete {
		return extend(msg, int(declared))
	}
	arrived += more
	room := max(min(int64(pieceSize(arrived)), declared), minPiece, int64(arrived))
	return extend(msg, int(min(room, in.left+in.remaining())))
}

// continuation returns how many bytes of the message follow the open frame in b, and
// whether they are the rest of the message.
func (in *incoming) continuation(b []byte) (size int, complete bool) {
	if int64(len(b)) <= in.left {
		return 0, false
	}
	for b = b[in.left:]; ; {
		start, end := parseWhole(b)
		switch {
		case end == 0:
			return size, false
		case b[0]&^finBit == byte(Continuation):
			size += end - start
			if b[0]&finBit != 0 {
				return size, true
			}
		case !Opcode(b[0] & opcodeBits).IsControl():
			return size, false // it is not the next frame of this message: the peer breaks a rule
		}
		b = b[end:]
	}
}

// whole returns the message that b begins with and where in b its payload is, if it
// is one complete frame within the limits that breaks no rule; the text is not
// checked. end is 0 otherwise. No message has begun.
func (in *incoming) whole(b []byte) (op Opcode, start, end int) {
	start, end = parseWhole(b)
	size := int64(end - start)
	if end == 0 || size > in.limits.maxFrameSize || size > in.limits.maxMessageSize {
		return 0, 0, 0
	}
	switch b[0] { // FIN set, no reserved bits
	case finBit | byte(Text):
		return Text, start, end
	case finBit | byte(Binary):
		return Binary, start, end
	}
	return 0, 0, 0
}
