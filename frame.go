package websocket

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"

	"github.com/f44ffc3b/websocket/internal/mask"
	"github.com/f44ffc3b/websocket/internal/utf8"
)

// An Opcode says what the payload of a frame is (RFC 6455 section 5.2). It has four
// bits on the wire. The upper four bits of an Opcode are never written.
type Opcode byte

// The opcodes of RFC 6455. Close, Ping and Pong are those of control frames.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// IsControl reports whether op is the opcode of a control frame, including the opcodes
// that are reserved for further control frames (RFC 6455 section 5.5). A control frame
// may come between the fragments of a message.
func (op Opcode) IsControl() bool { return op&0x8 != 0 }

// IsReserved reports whether op has no meaning in RFC 6455. A peer that sends such a frame
// breaks section 5.2.
func (op Opcode) IsReserved() bool { return op > Binary && op < Close || op > Pong }

// String returns the name that RFC 6455 has for op, as in "text" or "ping".
func (op Opcode) String() string {
	switch op {
	case Continuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Close:
		return "close"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return fmt.Sprintf("reserved opcode %#x", byte(op))
}

// The two bytes that every header starts with (RFC 6455 section 5.2).
const (
	finBit     = 0x80
	rsv1Bit    = 0x40
	rsv2Bit    = 0x20
	rsv3Bit    = 0x10
	opcodeBits = 0x0F

	maskBit    = 0x80
	lengthBits = 0x7F
)

const (
	// maxControlPayload is the largest payload of a control frame (RFC 6455 section
	// 5.5). It is also the largest length that fits the second byte of a header. The two
	// values above it say that the length follows in 16 or 64 bits.
	maxControlPayload = 125
	length16          = 126
	length64          = 127

	// maxHeaderSize counts two bytes, a length of 64 bits and a masking key.
	maxHeaderSize = 2 + 8 + 4
)

// A Header is a frame without its payload (RFC 6455 section 5.2). It can hold every
// header: the rules about reserved bits, opcodes and the size of control frames are not
// checked.
type Header struct {
	Fin              bool // the last frame of its message
	RSV1, RSV2, RSV3 bool // for extensions to define
	Opcode           Opcode
	Masked           bool    // true for every frame of a client, and false for every frame of a server
	MaskKey          [4]byte // zero when not Masked
	Length           int64   // of the payload, in bytes
}

// A Frame is a header and its payload.
//
// Payload holds the bytes as they are on the wire: if Masked is set, they are masked with
// MaskKey. [Frame.Unmask] unmasks them. A client masks the payload with [Mask] before it
// sends the frame. A masked frame that was read can be written unchanged: its bytes are
// the same.
type Frame struct {
	Header
	Payload []byte // when the frame is written, the length of Payload counts and Length is ignored
}

// A Message is what [Conn.Messages] yields.
type Message struct {
	Opcode Opcode // Text or Binary
	Data   []byte // the caller may keep and change it
}

// Unmask unmasks the payload in place and clears Masked and MaskKey. It does nothing if
// the frame is not masked, so a second call changes nothing. Copies of a Frame share one
// payload: unmask only one of them.
func (f *Frame) Unmask() {
	if !f.Masked {
		return
	}
	Mask(f.Payload, f.MaskKey, 0)
	f.Masked, f.MaskKey = false, [4]byte{}
}

// Mask masks b in place, or unmasks it, because both are the same operation (RFC 6455
// section 5.3). pos is the position of b in the payload: 0 for the first piece, and
// for each next piece the position that Mask returned for the piece before. Only pos
// mod 4 counts, and the returned position is from 0 to 3.
func Mask(b []byte, key [4]byte, pos int) int { return mask.XOR(b, key, pos) }

// ValidUTF8 reports whether b is valid UTF-8 (RFC 3629), as RFC 6455 section 8.1
// requires of text. Surrogates, overlong forms and values beyond U+10FFFF are
// invalid, and so is text that ends inside a character.
func ValidUTF8(b []byte) bool { return utf8.Valid(b) }

// ReadHeader reads the header of a frame from r, and no byte after it.
//
// The error is [io.EOF] if r ends before the first byte, [io.ErrUnexpectedEOF] if it
// ends within the header, and otherwise the error of r. RFC 6455 section 5.2 forbids a
// length whose highest of 64 bits is set, and a length that fits a shorter form: they are
// [ErrProtocol], which is returned at the first byte that proves it.
func ReadHeader(r io.Reader) (Header, error) {
	var (
		h   Header
		buf [maxHeaderSize]byte
	)
	for have, want := 0, 2; ; {
		n, err := io.ReadAtLeast(r, buf[have:want], 1)
		have += n
		if err != nil {
			if err == io.EOF && have > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Header{}, err
		}
		size, err := h.parse(buf[:have])
		if err != nil {
			return Header{}, err
		}
		if size > 0 {
			return h, nil
		}
		if have == 2 {
			want = headerSize(buf[1])
		}
	}
}

// headerSize returns the size of a header from its second byte, which says how
// long the length is and whether there is a masking key.
func headerSize(b1 byte) int {
	n := 2
	switch b1 & lengthBits {
	case length16:
		n += 2
	case length64:
		n += 8
	}
	if b1&maskBit != 0 {
		n += 4
	}
	return n
}

// parse parses the header that b begins with into h, and returns its size n, or 0 if
// more bytes are needed. h means something only if n is not 0. An error comes as soon
// as the bytes that prove it have arrived, because the peer may send no more.
//
// parse fills in h instead of returning a Header, because a returned Header is stored
// field by field and then copied word by word. Those loads stall on the narrower
// stores for longer than parsing takes (BenchmarkParseHeader).
func (h *Header) parse(b []byte) (n int, err error) {
	if len(b) < 2 {
		return 0, nil
	}
	b0, b1 := b[0], b[1]
	length, n := uint64(b1&lengthBits), 2
	if length > maxControlPayload {
		if length, n, err = parseLength(b); n == 0 {
			return 0, err
		}
	}
	h.Masked, h.MaskKey = b1&maskBit != 0, [4]byte{}
	if h.Masked {
		if len(b) < n+4 {
			return 0, nil
		}
		h.MaskKey = [4]byte(b[n : n+4])
		n += 4
	}
	h.Fin = b0&finBit != 0
	h.RSV1 = b0&rsv1Bit != 0
	h.RSV2 = b0&rsv2Bit != 0
	h.RSV3 = b0&rsv3Bit != 0
	h.Opcode = Opcode(b0 & opcodeBits)
	h.Length = int64(length)
	return n, nil
}

// parseWhole returns where the payload of the frame that b begins with starts and
// ends. end is 0 if the frame is not masked or not complete, or if its length is not
// in the shortest form. It follows the rules of parse. It does not call parse, because
// that takes a twentieth of the time of a message of 1 KiB.
func parseWhole(b []byte) (start, end int) {
	const key = 4
	if len(b) < 2+key {
		return 0, 0
	}
	start, length := 2+key, int(b[1]^maskBit)
	switch {
	case length <= maxControlPayload:
	case length == length16 && len(b) >= 4+key:
		start, length = 4+key, int(binary.BigEndian.Uint16(b[2:]))
		if length <= maxControlPayload {
			return 0, 0
		}
	case length == length64 && len(b) > math.MaxUint16 && binary.BigEndian.Uint64(b[2:]) <= uint64(len(b)):
		start, length = 10+key, int(binary.BigEndian.Uint64(b[2:]))
		if length <= math.MaxUint16 {
			return 0, 0
		}
	default:
		return 0, 0
	}
	if end = start + length; end > len(b) {
		return 0, 0
	}
	return start, end
}

// parseLength parses a length of 16 or 64 bits and returns where it ends. The length must
// be in the shortest form, and the highest of 64 bits must be 0.
func parseLength(b []byte) (length uint64, n int, err error) {
	if b[1]&lengthBits == length16 {
		if len(b) < 4 {
			return 0, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(b[2:]))
		if length <= maxControlPayload {
			return 0, 0, protocolError("5.2", "length %d in 16 bits, which fits 7", length)
		}
		return length, 4, nil
	}
	if len(b) > 2 && b[2] >= 0x80 {
		return 0, 0, protocolError("5.2", "length with the highest of its 64 bits set")
	}
	if len(b) < 8 {
		return 0, 0, nil
	}
	// If the first six bytes are zero, the length fits 16 bits whatever the last two are.
	if binary.BigEndian.Uint64(b)<<16 == 0 {
		return 0, 0, protocolError("5.2", "length in 64 bits, which fits 16")
	}
	if len(b) < 10 {
		return 0, 0, nil
	}
	return binary.BigEndian.Uint64(b[2:]), 10, nil
}

// ReadFrame reads a frame from r, and no byte after it. The payload is as it is on the wire (see
// [Frame]). The caller may keep and change it.
//
// If the payload has more than maxPayload bytes, the error is [ErrMessageTooLarge], and
// none of the payload is read. Memory is allocated as the payload arrives, not for the
// declared length. The other errors are those of [ReadHeader]; if r ends within the
// payload, the error is [io.ErrUnexpectedEOF].
func ReadFrame(r io.Reader, maxPayload int64) (Frame, error) {
	h, err := ReadHeader(r)
	if err != nil {
		return Frame{}, err
	}
	// On a system of 32 bits, a slice cannot be larger than math.MaxInt.
	if limit := min(maxPayload, math.MaxInt); h.Length > limit {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes, the limit is %d", ErrMessageTooLarge, h.Length, limit)
	}
	payload, err := readPayload(r, h.Length)
	if err != nil {
		return Frame{}, err
	}
	return Frame{Header: h, Payload: payload}, nil
}

func readPayload(r io.Reader, length int64) ([]byte, error) {
	var b []byte
	for left := length; left > 0; left = length - int64(len(b)) {
		b = grow(b, len(b), left)
		n, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// grow returns b with capacity for the next bytes of a payload. arrived is how many bytes of
// the payload b ends with, and left is how many are still to come.
//
// The capacity depends on the bytes that have arrived, not on the declared length, so
// that a header alone does not make the receiver allocate. See pieceSize. It is never
// larger than left, because the bytes behind the payload belong to the next frame.
func grow(b []byte, arrived int, left int64) []byte {
	if len(b) < cap(b) || left <= 0 {
		return b
	}
	// The comparison is of int64, because left may not fit an int.
	return extend(b, int(min(int64(pieceSize(arrived)), left)))
}

// minPiece is the least size of a piece, except the last.
const minPiece = 512

// pieceSize returns the room for the next piece of a payload of which arrived bytes are there.
// The first piece has 512 bytes. The next ones have 32 times the bytes that have arrived, up to
// 64 KiB, so that a payload of that size that fills the read buffer is allocated once. Then a
// piece has as many bytes as have arrived, so that each byte is copied about once.
func pieceSize(arrived int) int {
	const leap = 64 << 10
	return max(minPiece, min(32*min(arrived, leap), leap), arrived)
}

// extend returns b, which is full, with capacity for room more bytes.
func extend(b []byte, room int) []byte {
	size := len(b) + room
	if len(b) == 0 && size <= math.MaxUint16 {
		// The lines below would do this too, but they need more stack. Without this case, the
		// stack of every eighth detached connection grew to 4 KiB (TestConn_stack_stays_small).
		return make([]byte, 0, room)
	}
	grown := newPayload(size)
	copy(grown, b)
	return grown[:len(b)]
}

// newPayload returns memory for a payload. A payload of 64 KiB or more follows a header of ten
// bytes, and may be sent again from this memory. It then begins where it will begin in the memory of
// the kernel, because a copy between different offsets in a word takes almost twice as long: an echo
// of 1 MiB takes 0.64 times the processor time (echo-1M-1c in benchmarks/). The price is a page of 8
// KiB more for a size that fills its pages.
func newPayload(size int) []byte {
	if size <= math.MaxUint16 {
		return make([]byte, size)
	}
	return make([]byte, payloadOffset+size)[payloadOffset:]
}

// payloadOffset is the size of the header of a frame of 64 KiB or more that a server sends.
const payloadOffset = 10

// AppendHeader appends h to dst as it is on the wire, with the length in the shortest
// form, and returns the extended slice. A negative Length is written as 0. MaskKey is
// written only if Masked is set.
func AppendHeader(dst []byte, h Header) []byte {
	return h.append(dst, max(h.Length, 0))
}

// append is AppendHeader for a given length. It does not copy h.
func (h *Header) append(dst []byte, length int64) []byte {
	b0 := byte(h.Opcode) & opcodeBits
	if h.Fin {
		b0 |= finBit
	}
	if h.RSV1 {
		b0 |= rsv1Bit
	}
	if h.RSV2 {
		b0 |= rsv2Bit
	}
	if h.RSV3 {
		b0 |= rsv3Bit
	}
	var b1 byte
	if h.Masked {
		b1 = maskBit
	}
	switch {
	case length <= maxControlPayload:
		dst = append(dst, b0, b1|byte(length))
	case length <= math.MaxUint16:
		dst = append(dst, b0, b1|length16, byte(length>>8), byte(length))
	default:
		dst = append(dst, b0, b1|length64)
		dst = binary.BigEndian.AppendUint64(dst, uint64(length))
	}
	if h.Masked {
		dst = append(dst, h.MaskKey[:]...)
	}
	return dst
}

// AppendFrame appends f to dst as it is on the wire and returns the extended slice. The
// payload is not masked or unmasked (see [Frame]). Its length is written, and Length is
// ignored.
func AppendFrame(dst []byte, f Frame) []byte {
	return append(f.append(dst, int64(len(f.Payload))), f.Payload...)
}

// maxCopied is the largest payload that is copied after its header. On TCP, copying is faster than
// writev up to about 16 KiB; 8 KiB keeps the pooled buffers small.
const maxCopied = 8 << 10

// A frame buffer has room for a header and a payload that is copied after it.
const frameBufferSize = maxHeaderSize + maxCopied

var frameBuffers = sync.Pool{New: func() any { return new([frameBufferSize]byte) }}

// WriteFrame writes f to w. It is AppendFrame without the slice: a small frame is
// one call of Write. Of a large payload only the beginning is copied, which is
// written together with the header: that makes two calls, or one writev if w is a
// [*net.TCPConn].
//
// The frame may break the rules of RFC 6455. Errors are those of w. Callers must not
// write to w at the same time, because their frames could mix.
func WriteFrame(w io.Writer, f Frame) error {
	buf := frameBuffers.Get().(*[frameBufferSize]byte)
	defer frameBuffers.Put(buf)
	head := f.append(buf[:0], int64(len(f.Payload)))
	if len(f.Payload) <= maxCopied {
		_, err := writeWhole(w, append(head, f.Payload...))
		return err
	}
	_, err := writeBoth(w, head, f.Payload)
	return err
}

// writeBoth writes head and then payload. It may use the free capacity of head.
func writeBoth(w io.Writer, head, payload []byte) (int, error) {
	if conn, ok := w.(*net.TCPConn); ok {
		return writev(conn, head, payload)
	}
	// The header is written with the beginning of the payload, because otherwise the
	// header alone would be a packet or a TLS record.
	copied := min(maxCopied, len(payload), cap(head)-len(head))
	n, err := writeWhole(w, append(head, payload[:copied]...))
	if err != nil {
		return n, err
	}
	m, err := writeWhole(w, payload[copied:])
	return n + m, err
}

// A vector is two slices for writev. They are pooled, because net.Buffers would
// allocate them for each call.
type vector struct {
	array   [2][]byte
	buffers net.Buffers
}

var vectors = sync.Pool{New: func() any { return new(vector) }}

// writev writes head and payload in one system call.
func writev(conn *net.TCPConn, head, payload []byte) (int, error) {
	v := vectors.Get().(*vector)
	v.array = [2][]byte{head, payload}
	v.buffers = v.array[:]
	n, err := v.buffers.WriteTo(conn)
	v.array, v.buffers = [2][]byte{}, nil
	vectors.Put(v)
	return int(n), err
}

// writeWhole is w.Write, and returns io.ErrShortWrite if that writes less than b
// without an error.
func writeWhole(w io.Writer, b []byte) (int, error) {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}
