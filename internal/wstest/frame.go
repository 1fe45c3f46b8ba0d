package wstest

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// The opcodes of RFC 6455 section 5.2. They are untyped, so that they can be used
// as a byte and as an opcode of the package under test.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xA
)

// Fin is the bit in the first byte of the last frame of a message.
const Fin = 0x80

// reservedBits are RSV1, RSV2 and RSV3 in the first byte of a frame.
const reservedBits = 0x70

// A Frame is a frame that a server has sent. First is its first byte: FIN, the
// reserved bits and the opcode.
type Frame struct {
	First   byte
	Payload []byte
}

// Fin reports whether f is the last frame of its message.
func (f Frame) Fin() bool { return f.First&Fin != 0 }

// Opcode returns the opcode of f.
func (f Frame) Opcode() byte { return f.First & 0x0F }

// IsControl reports whether f is a close, ping or pong frame.
func (f Frame) IsControl() bool { return f.First&0x08 != 0 }

// String describes f for a failure text.
func (f Frame) String() string { return fmt.Sprintf("frame %#02x %s", f.First, Hex(f.Payload)) }

// CloseCode returns the status code and the reason of a close frame: 1005 if the
// frame has no code.
func (f Frame) CloseCode() (code uint16, reason string, err error) {
	switch {
	case f.Opcode() != Close:
		return 0, "", fmt.Errorf("got %v, want a close frame", f)
	case len(f.Payload) == 0:
		return 1005, "", nil
	case len(f.Payload) == 1:
		return 0, "", errors.New("got a close frame with a payload of one byte")
	}
	code = binary.BigEndian.Uint16(f.Payload)
	if reserved := code == 1004 || code == 1005 || code == 1006; reserved || code < 1000 || code > 1014 && code < 3000 || code > 4999 {
		return 0, "", fmt.Errorf("got a close frame with the code %d, which must not be sent", code)
	}
	if !utf8.Valid(f.Payload[2:]) {
		return 0, "", fmt.Errorf("got a close frame with a reason that is not UTF-8: %x", f.Payload[2:])
	}
	return code, string(f.Payload[2:]), nil
}

// ClosePayload returns the payload of a close frame.
func ClosePayload(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// ClientFrame returns a frame as a client sends it: masked, with a key that
// depends on first and on the length. first is the first byte of the frame.
func ClientFrame(first byte, payload string) []byte {
	frame := appendClientHeader(make([]byte, 0, 14+len(payload)), first, uint64(len(payload)))
	start := len(frame)
	frame = append(frame, payload...)
	mask(frame[start:], frame[start-4:start])
	return frame
}

// ClientHeader returns the header of a frame that ClientFrame would make for a
// payload of length bytes.
func ClientHeader(first byte, length uint64) []byte {
	return appendClientHeader(nil, first, length)
}

func appendClientHeader(b []byte, first byte, length uint64) []byte {
	// RFC 6455 section 5.3 requires a new key in each frame.
	return append(AppendHeader(b, first, 0x80, length), first^0x37, byte(length)^0xFA, 0x21, 0x3D)
}

// Message returns a message of one frame as a client sends it.
func Message(opcode byte, payload string) []byte { return ClientFrame(Fin|opcode, payload) }

// ServerFrame returns a frame as a server sends it: not masked.
func ServerFrame(first byte, payload string) []byte {
	return append(AppendHeader(nil, first, 0, uint64(len(payload))), payload...)
}

// AppendHeader appends a frame header without a masking key. The length has the
// shortest form. maskBit is 0x80 for a client's frame and 0 for a server's.
func AppendHeader(b []byte, first, maskBit byte, length uint64) []byte {
	switch {
	case length < 126:
		return append(b, first, maskBit|byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, maskBit|126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, first, maskBit|127), length)
}

// mask applies RFC 6455 section 5.3 to b.
func mask(b, key []byte) {
	var block [256]byte
	for i := range block {
		block[i] = key[i%4]
	}
	for len(b) > 0 {
		n := subtle.XORBytes(b, b, block[:])
		b = b[n:]
	}
}

// maxPayload is the largest payload that a Decoder accepts.
const maxPayload = 1 << 28

// A Decoder reads the frames of a server. It accepts only what a server may send:
// frames that are not masked, lengths in their shortest form, whole control frames
// of at most 125 bytes, known opcodes without reserved bits, fragments of one
// message at a time, and nothing after a close frame.
type Decoder struct {
	// AnyFrame accepts every frame that is not masked. It is for tests of
	// WriteFrame, which sends frames that break the other rules.
	AnyFrame bool

	r      io.Reader
	begun  bool // a message has begun and has not ended
	closed bool // a close frame was read
}

// NewDecoder returns a Decoder of the bytes in r.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: r} }

// ReadFrame reads the next frame. The error is io.EOF only if the stream ends between two
// frames.
func (d *Decoder) ReadFrame() (Frame, error) {
	first, length, err := d.readHeader()
	if err != nil {
		return Frame{}, err
	}
	f := Frame{First: first, Payload: make([]byte, length)}
	if _, err := io.ReadFull(d.r, f.Payload); err != nil {
		return Frame{}, unexpected(err)
	}
	if !d.AnyFrame {
		if err := d.check(f); err != nil {
			return Frame{}, err
		}
	}
	return f, nil
}

// readHeader reads a header and checks its form.
func (d *Decoder) readHeader() (first byte, length uint64, err error) {
	header := make([]byte, 2, 10)
	if _, err := io.ReadFull(d.r, header); err != nil {
		return 0, 0, err
	}
	length = uint64(header[1] & 0x7F)
	if size := map[uint64]int{126: 2, 127: 8}[length]; size > 0 {
		header = header[:2+size]
		if _, err := io.ReadFull(d.r, header[2:]); err != nil {
			return 0, 0, unexpected(err)
		}
		length = 0
		for _, b := range header[2:] {
			length = length<<8 | uint64(b)
		}
	}
	if want := AppendHeader(nil, header[0], 0, length); string(header) != string(want) {
		return 0, 0, fmt.Errorf("got the frame header %x, want %x: not masked, and with the shortest form of the length", header, want)
	}
	if length > maxPayload {
		return 0, 0, fmt.Errorf("got a frame of %d bytes, want at most %d", length, maxPayload)
	}
	return header[0], length, nil
}

// check checks f against the rules for its place in the stream.
func (d *Decoder) check(f Frame) error {
	switch {
	case d.closed:
		return fmt.Errorf("got %v after a close frame", f)
	case f.First&reservedBits != 0:
		return fmt.Errorf("got %v with a reserved bit", f)
	case f.IsControl():
		if f.Opcode() > Pong || !f.Fin() || len(f.Payload) > 125 {
			return fmt.Errorf("got %v, which is not a valid control frame", f)
		}
		d.closed = f.Opcode() == Close
		return nil
	case f.Opcode() > Binary:
		return fmt.Errorf("got %v with a reserved opcode", f)
	case (f.Opcode() == Continuation) != d.begun:
		return fmt.Errorf("got %v in the wrong place, inside a message: %t", f, d.begun)
	}
	d.begun = !f.Fin()
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Hex formats the beginning of b for a failure text.
func Hex(b []byte) string {
	if len(b) > 64 {
		return fmt.Sprintf("%s… (%d bytes)", hex.EncodeToString(b[:64]), len(b))
	}
	return fmt.Sprintf("%s (%q)", hex.EncodeToString(b), b)
}

// Unhex returns the bytes that digits stand for. Spaces are ignored.
func Unhex(digits string) []byte {
	var compact []byte
	for i := range len(digits) {
		if digits[i] != ' ' {
			compact = append(compact, digits[i])
		}
	}
	b, err := hex.DecodeString(string(compact))
	if err != nil {
		panic(err)
	}
	return b
}
