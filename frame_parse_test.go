package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadHeader(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			head := fromHex(t, test.head)
			r := bytes.NewReader(append(bytes.Clone(head), "payload"...))
			got, err := ReadHeader(r)
			if err != nil || got != test.frame.Header {
				t.Errorf("got %+v, %v, want %+v", got, err, test.frame.Header)
			}
			if r.Len() != len("payload") {
				t.Errorf("got %d bytes left after the header, want %d", r.Len(), len("payload"))
			}
			for cut := range len(head) {
				want := io.ErrUnexpectedEOF
				if cut == 0 {
					want = io.EOF
				}
				if got, err := ReadHeader(bytes.NewReader(head[:cut])); err != want || got != (Header{}) {
					t.Errorf("cut to % x: got %+v, %v, want %v", head[:cut], got, err, want)
				}
			}
		})
	}
}

func TestParseHeader(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			head := fromHex(t, test.head)
			for cut := range len(head) {
				if _, n, err := parseHeader(head[:cut]); n != 0 || err != nil {
					t.Errorf("% x: got size %d, %v, want 0 for more bytes", head[:cut], n, err)
				}
			}
			for _, more := range []string{"", "x", "more than a header can be"} {
				b := append(bytes.Clone(head), more...)
				h, n, err := parseHeader(b)
				if err != nil || n != len(head) || h != test.frame.Header {
					t.Errorf("% x: got %+v, size %d, %v\nwant %+v, size %d", b, h, n, err, test.frame.Header, len(head))
				}
			}
			if got := headerSize(head[1]); got != len(head) {
				t.Errorf("headerSize(%#x): got %d, want %d", head[1], got, len(head))
			}
		})
	}
}

// RFC 6455 section 5.2 has rules for lengths. proof is the shortest beginning of a header
// that breaks one of them. The parser must return the error when it has these bytes, not
// earlier and not later.
func TestHeaderRejectsLength(t *testing.T) {
	for _, test := range []struct{ name, proof, text string }{
		{"0 in 16 bits", "82 7e 0000", "length 0 in 16 bits"},
		{"125 in 16 bits", "82 7e 007d", "length 125 in 16 bits"},
		{"125 in 16 bits, masked", "82 fe 007d", "length 125 in 16 bits"},
		{"65535 in 64 bits", "82 7f 000000000000", "64 bits, which fits 16"},
		{"125 in 64 bits, masked", "82 ff 000000000000", "64 bits, which fits 16"},
		{"highest of 64 bits set", "82 7f 80", "highest of its 64 bits"},
		{"all of 64 bits set, masked", "82 ff ff", "highest of its 64 bits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			proof := fromHex(t, test.proof)
			if _, n, err := parseHeader(proof[:len(proof)-1]); n != 0 || err != nil {
				t.Errorf("% x: got size %d, %v, want 0 for more bytes", proof[:len(proof)-1], n, err)
			}
			whole := append(bytes.Clone(proof), bytes.Repeat([]byte{0xFF}, maxHeaderSize)...)
			for _, b := range [][]byte{proof, whole} {
				_, n, err := parseHeader(b)
				if n != 0 || !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), test.text) {
					t.Errorf("% x: got size %d, %v, want ErrProtocol with %q", b, n, err, test.text)
				}
			}
			// The reader must not wait for more bytes than the proof.
			trickle := io.MultiReader(iotest.OneByteReader(bytes.NewReader(proof)), iotest.ErrReader(errors.New("read on")))
			if h, err := ReadHeader(trickle); !errors.Is(err, ErrProtocol) || h != (Header{}) {
				t.Errorf("ReadHeader: got %+v, %v, want ErrProtocol", h, err)
			}
			if f, err := ReadFrame(bytes.NewReader(whole), math.MaxInt64); !errors.Is(err, ErrProtocol) || !sameFrame(f, Frame{}) {
				t.Errorf("ReadFrame: got %+v, %v, want ErrProtocol", f, err)
			}
		})
	}
}

// BenchmarkParseHeader compares a parser that fills in a header with one that returns
// it.
func BenchmarkParseHeader(b *testing.B) {
	for _, length := range []int64{125, 1 << 10, 1 << 20} {
		wire := AppendHeader(nil, Header{Fin: true, Opcode: Text, Masked: true, MaskKey: sampleKey, Length: length})
		b.Run(fmt.Sprintf("%d/parse", length), func(b *testing.B) {
			var sum int64
			for b.Loop() {
				var h Header
				if n, err := h.parse(wire); n == 0 || err != nil {
					b.Fatal(n, err)
				}
				sum += h.Length + int64(h.MaskKey[0])
			}
		})
		b.Run(fmt.Sprintf("%d/parseHeader", length), func(b *testing.B) {
			var sum int64
			for b.Loop() {
				h, n, err := parseHeader(wire)
				if n == 0 || err != nil {
					b.Fatal(n, err)
				}
				sum += h.Length + int64(h.MaskKey[0])
			}
		})
	}
}

func TestWholeFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 70000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			frame := clientFrame(true, Binary, strings.Repeat("x", size))
			for n := range len(frame) {
				if _, end := parseWhole(frame[:n]); end > 0 {
					t.Fatalf("%d of %d bytes are a whole frame", n, len(frame))
				}
			}
			if _, end := parseWhole(append(frame, 0)); end != len(frame) {
				t.Errorf("got the end %d of a whole frame of %d bytes", end, len(frame))
			}
		})
	}
	none := map[string]string{
		"unmasked":                     "\x82\x00\x00\x00\x00\x00\x00",
		"5 bytes, in 16 bits":          "\x82\xFE\x00\x05abcdhello",
		"5 bytes, in 64 bits":          "\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x05abcdhello",
		"more than there is":           "\x82\x86abcdhello",
		"more than there is by a byte": "\x82\xFE\x01\x00abcd" + strings.Repeat("x", 255),
	}
	for name, b := range none {
		t.Run(name, func(t *testing.T) {
			if start, end := parseWhole([]byte(b)); start != 0 || end != 0 {
				t.Errorf("got a payload from %d to %d, want none", start, end)
			}
		})
	}
}

// The two parsers accept the same headers, in every form of the length.
func TestWholeFrame_agrees_with_parse(t *testing.T) {
	forms := map[byte]int{0: 0, length16: 2, length64: 8} // bytes of the length
	room := make([]byte, 14+1<<17)
	for _, maskBit := range []byte{0, maskBit} {
		for form, size := range forms {
			for _, length := range []uint64{0, 1, 125, 126, 127, 65535, 65536, 1 << 17, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
				header := []byte{0x82, maskBit | form}
				switch size {
				case 0:
					header[1] |= byte(length & 0x7F % 126)
				case 2:
					header = binary.BigEndian.AppendUint16(header, uint16(length))
				case 8:
					header = binary.BigEndian.AppendUint64(header, length)
				}
				copy(room, header)
				for _, n := range []int{2, len(header), len(header) + 4, len(header) + 4 + int(length&0x3FFFF) - 1, len(header) + 4 + int(length&0x3FFFF), len(room)} {
					b := room[:min(max(n, 0), len(room))]
					h, start, err := parseHeader(b)
					end := start + int(h.Length)
					if err != nil || start == 0 || !h.Masked || h.Length > int64(len(b)-start) {
						start, end = 0, 0
					}
					if gotStart, gotEnd := parseWhole(b); gotEnd != end || end > 0 && gotStart != start {
						t.Errorf("%x and more, %d bytes: got a payload from %d to %d, want from %d to %d", header, len(b), gotStart, gotEnd, start, end)
					}
				}
			}
		}
	}
}
