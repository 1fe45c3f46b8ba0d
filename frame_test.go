package websocket

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// sampleKey is the masking key of the examples in RFC 6455 section 5.7.
var sampleKey = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// counting returns n bytes in a pattern that changes from byte to byte.
func countingBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// abridged is b in hex, without the middle if b is long.
func abridged(b []byte) string {
	if len(b) > 80 {
		return fmt.Sprintf("% x … % x (%d bytes)", b[:40], b[len(b)-8:], len(b))
	}
	return fmt.Sprintf("% x", b)
}

func TestOpcode(t *testing.T) {
	for _, test := range []struct {
		op                Opcode
		control, reserved bool
		name              string
	}{
		{Continuation, false, false, "continuation"},
		{Text, false, false, "text"},
		{Binary, false, false, "binary"},
		{0x3, false, true, "reserved opcode 0x3"},
		{0x7, false, true, "reserved opcode 0x7"},
		{Close, true, false, "close"},
		{Ping, true, false, "ping"},
		{Pong, true, false, "pong"},
		{0xB, true, true, "reserved opcode 0xb"},
		{0xF, true, true, "reserved opcode 0xf"},
		{0x10, false, true, "reserved opcode 0x10"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.op.IsControl(); got != test.control {
				t.Errorf("IsControl: got %v, want %v", got, test.control)
			}
			if got := test.op.IsReserved(); got != test.reserved {
				t.Errorf("IsReserved: got %v, want %v", got, test.reserved)
			}
			if got := test.op.String(); got != test.name {
				t.Errorf("String: got %q, want %q", got, test.name)
			}
		})
	}
}

type frameTest struct {
	name  string
	head  string // in hex
	frame Frame  // Length is set by frameTests
}

// frameTests are frames whose bytes are head and then the payload.
func frameTests() []frameTest {
	hello := []byte("Hello")
	masked := []byte{0x7F, 0x9F, 0x4D, 0x51, 0x58}
	tests := []frameTest{
		{"RFC 5.7 unmasked text", "81 05", Frame{Header{Fin: true, Opcode: Text}, hello}},
		{"RFC 5.7 masked text", "81 85 37fa213d", Frame{Header{Fin: true, Opcode: Text, Masked: true, MaskKey: sampleKey}, masked}},
		{"RFC 5.7 first fragment", "01 03", Frame{Header{Opcode: Text}, hello[:3]}},
		{"RFC 5.7 last fragment", "80 02", Frame{Header{Fin: true}, hello[3:]}},
		{"RFC 5.7 ping", "89 05", Frame{Header{Fin: true, Opcode: Ping}, hello}},
		{"RFC 5.7 masked pong", "8a 85 37fa213d", Frame{Header{Fin: true, Opcode: Pong, Masked: true, MaskKey: sampleKey}, masked}},
		{"RFC 5.7 256 bytes", "82 7e 0100", Frame{Header{Fin: true, Opcode: Binary}, countingBytes(256)}},
		{"RFC 5.7 64 KiB", "82 7f 0000000000010000", Frame{Header{Fin: true, Opcode: Binary}, countingBytes(64 << 10)}},
		{"empty", "82 00", Frame{Header{Fin: true, Opcode: Binary}, nil}},
		{"empty and masked", "88 80 37fa213d", Frame{Header{Fin: true, Opcode: Close, Masked: true, MaskKey: sampleKey}, nil}},
		{"largest in 7 bits", "82 7d", Frame{Header{Fin: true, Opcode: Binary}, countingBytes(125)}},
		{"smallest in 16 bits", "82 fe 007e 37fa213d", Frame{Header{Fin: true, Opcode: Binary, Masked: true, MaskKey: sampleKey}, countingBytes(126)}},
		{"largest in 16 bits", "82 7e ffff", Frame{Header{Fin: true, Opcode: Binary}, countingBytes(65535)}},
		{"masked in 64 bits", "02 ff 0000000000020001 37fa213d", Frame{Header{Opcode: Binary, Masked: true, MaskKey: sampleKey}, countingBytes(128<<10 + 1)}},
		{"RSV1", "c1 05", Frame{Header{Fin: true, RSV1: true, Opcode: Text}, hello}},
		{"RSV2", "a1 05", Frame{Header{Fin: true, RSV2: true, Opcode: Text}, hello}},
		{"RSV3", "91 05", Frame{Header{Fin: true, RSV3: true, Opcode: Text}, hello}},
		{"long and fragmented ping", "09 7e 0080", Frame{Header{Opcode: Ping}, countingBytes(128)}},
		{"all bits", "ff 85 ffffffff", Frame{Header{Fin: true, RSV1: true, RSV2: true, RSV3: true, Opcode: 0xF, Masked: true, MaskKey: [4]byte{0xFF, 0xFF, 0xFF, 0xFF}}, hello}},
	}
	for i := range tests {
		tests[i].frame.Length = int64(len(tests[i].frame.Payload))
	}
	return tests
}

// wire is the frame as it is on the wire.
func (test frameTest) wire(t testing.TB) []byte {
	return append(fromHex(t, test.head), test.frame.Payload...)
}

func sameFrame(a, b Frame) bool {
	return a.Header == b.Header && bytes.Equal(a.Payload, b.Payload)
}

func TestReadFrame(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			wire := test.wire(t)
			for _, way := range []struct {
				name string
				wrap func(io.Reader) io.Reader
			}{
				{"at once", func(r io.Reader) io.Reader { return r }},
				{"a byte at a time", iotest.OneByteReader},
				{"in halves", iotest.HalfReader},
			} {
				behind := bytes.NewReader(append(bytes.Clone(wire), "next"...))
				got, err := ReadFrame(way.wrap(behind), math.MaxInt64)
				if err != nil || !sameFrame(got, test.frame) {
					t.Errorf("%s: got %+v, payload %s, error %v\nwant %+v, payload %s", way.name,
						got.Header, abridged(got.Payload), err, test.frame.Header, abridged(test.frame.Payload))
				}
				if behind.Len() != 4 {
					t.Errorf("%s: got %d bytes left behind the frame, want 4", way.name, behind.Len())
				}
			}
			if got, err := ReadFrame(iotest.DataErrReader(bytes.NewReader(wire)), math.MaxInt64); err != nil || !sameFrame(got, test.frame) {
				t.Errorf("with the end in the last read: got error %v", err)
			}
		})
	}
}

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
				t.Errorf("got %d bytes left behind the header, want %d", r.Len(), len("payload"))
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

// RFC 6455 section 5.2 has rules for lengths. proof is the shortest beginning of a
// header that breaks one of them. The error must come with these bytes, not earlier and
// not later.
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

func TestReadFrameLimit(t *testing.T) {
	frame := append(fromHex(t, "82 7e 0100"), countingBytes(256)...)
	for _, test := range []struct {
		name  string
		wire  []byte
		limit int64
		want  string // of the error
	}{
		{"as large as allowed", frame, 256, ""},
		{"one byte over", frame, 255, "frame of 256 bytes, the limit is 255"},
		{"nothing allowed", frame, 0, "frame of 256 bytes, the limit is 0"},
		{"empty, nothing allowed", fromHex(t, "82 00"), 0, ""},
		{"negative limit", frame, -1, "frame of 256 bytes, the limit is -1"},
		{"largest length", fromHex(t, "82 7f 7fffffffffffffff"), 1 << 20, "frame of 9223372036854775807 bytes, the limit is 1048576"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := bytes.NewReader(test.wire)
			f, err := ReadFrame(r, test.limit)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if !errors.Is(err, ErrMessageTooLarge) || !strings.Contains(err.Error(), test.want) || !sameFrame(f, Frame{}) {
				t.Errorf("got %+v, %v, want ErrMessageTooLarge with %q", f, err, test.want)
			}
			if got, want := len(test.wire)-r.Len(), headerSize(test.wire[1]); got != want {
				t.Errorf("got %d bytes read, want the %d of the header", got, want)
			}
		})
	}
}

func TestReadFrameTruncated(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range frameTests() {
		if len(test.frame.Payload) == 0 {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			wire := test.wire(t)
			head := len(wire) - len(test.frame.Payload)
			for _, cut := range []int{1, head - 1, head, head + 1, len(wire) - 1} {
				f, err := ReadFrame(bytes.NewReader(wire[:cut]), math.MaxInt64)
				if err != io.ErrUnexpectedEOF || !sameFrame(f, Frame{}) {
					t.Errorf("cut to %d bytes: got %v, want %v", cut, err, io.ErrUnexpectedEOF)
				}
				f, err = ReadFrame(io.MultiReader(bytes.NewReader(wire[:cut]), iotest.ErrReader(broken)), math.MaxInt64)
				if err != broken || !sameFrame(f, Frame{}) {
					t.Errorf("broken at %d bytes: got %v, want %v", cut, err, broken)
				}
			}
		})
	}
	if _, err := ReadFrame(iotest.ErrReader(broken), 1); err != broken {
		t.Errorf("broken at once: got %v, want %v", err, broken)
	}
}

// A hungryReader reads from data and notes the largest slice that it was called with.
type hungryReader struct {
	data  []byte
	asked int
}

func (r *hungryReader) Read(b []byte) (int, error) {
	r.asked = max(r.asked, len(b))
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

func TestReadFrameMemory(t *testing.T) {
	head := fromHex(t, "82 7f 0000000040000000") // a GiB
	for _, test := range []struct{ arrived, asked int }{
		{0, 512}, {511, 512}, {512, 32 * 512}, {16 << 10, 64 << 10}, {100 << 10, 100 << 10}, {1 << 20, 1 << 20},
	} {
		t.Run(fmt.Sprintf("%d bytes of a GiB", test.arrived), func(t *testing.T) {
			r := &hungryReader{data: append(bytes.Clone(head), make([]byte, test.arrived)...)}
			if _, err := ReadFrame(r, math.MaxInt64); err != io.ErrUnexpectedEOF {
				t.Fatalf("got %v, want %v", err, io.ErrUnexpectedEOF)
			}
			if r.asked > test.asked {
				t.Errorf("got room for %d bytes, want %d at most", r.asked, test.asked)
			}
		})
	}
	t.Run("a declared length allocates nothing", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if _, err := ReadFrame(bytes.NewReader(head), math.MaxInt64); err != io.ErrUnexpectedEOF {
				t.Fatalf("got %v, want %v", err, io.ErrUnexpectedEOF)
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 4<<10 {
			t.Errorf("got %d bytes allocated for a header, want 4 KiB at most", got)
		}
	})
	t.Run("nothing is left over", func(t *testing.T) {
		for _, size := range []int{1, 511, 512, 513, 8 << 10, 100 << 10, 1 << 20} {
			f, err := ReadFrame(bytes.NewReader(AppendFrame(nil, Frame{Payload: make([]byte, size)})), math.MaxInt64)
			if err != nil || len(f.Payload) != size || cap(f.Payload) != size {
				t.Errorf("got %d bytes in room for %d, %v, want %d in as much", len(f.Payload), cap(f.Payload), err, size)
			}
		}
	})
	t.Run("one allocation each for a small header and payload", func(t *testing.T) {
		wire := AppendFrame(nil, Frame{Payload: make([]byte, 100)})
		r := bytes.NewReader(wire)
		got := testing.AllocsPerRun(100, func() {
			r.Reset(wire)
			ReadFrame(r, 100)
		})
		if got > 2 {
			t.Errorf("got %v allocations, want 2", got)
		}
	})
}

func TestGrow(t *testing.T) {
	for _, test := range []struct {
		name    string
		b       []byte
		arrived int
		left    int64
		room    int
	}{
		{"first piece", nil, 0, 1 << 40, 512},
		{"first piece of little", nil, 0, 100, 100},
		{"nothing left", nil, 0, 0, 0},
		{"negative", nil, 0, -1, 0},
		{"spare room stays", make([]byte, 1, 2), 1, 1 << 40, 1},
		{"spare room stays, nothing left", make([]byte, 1, 9), 1, 0, 8},
		{"a few bytes", make([]byte, 10), 10, 1 << 40, 512},
		{"32 times", make([]byte, 512), 512, 1 << 40, 32 * 512},
		{"32 times, little left", make([]byte, 512), 512, 1000, 1000},
		{"of what arrived, not of what was there", make([]byte, 100<<10), 100, 1 << 40, 3200},
		{"64 KiB", make([]byte, 8<<10), 8 << 10, 1 << 40, 64 << 10},
		{"as much again", make([]byte, 100<<10), 100 << 10, 1 << 40, 100 << 10},
		{"more left than an int of 32 bits holds", make([]byte, 512), 512, math.MaxInt64, 32 * 512},
		{"as much again, little left", make([]byte, 100<<10), 100 << 10, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			copy(test.b, "payload")
			got := grow(test.b, test.arrived, test.left)
			if !bytes.Equal(got, test.b) {
				t.Errorf("got %s, want %s", abridged(got), abridged(test.b))
			}
			if room := cap(got) - len(got); room != test.room {
				t.Errorf("got room for %d bytes, want %d", room, test.room)
			}
			if len(test.b) < cap(test.b) && &got[0] != &test.b[0] {
				t.Errorf("got a copy, want b itself")
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

func BenchmarkReadFrame(b *testing.B) {
	for _, size := range frameSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			wire := AppendFrame(nil, Frame{Payload: make([]byte, size)})
			r := bytes.NewReader(wire)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(wire)
				if _, err := ReadFrame(r, 1<<20); err != nil {
					b.Fatal(err)
				}
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
