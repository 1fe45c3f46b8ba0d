package websocket

import (
	"bytes"
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

// countingBytes returns n bytes in a pattern that changes from byte to byte.
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

// abridged returns b in hex, without its middle if b is long.
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

// frameTests returns frames. The bytes of each are head and then the payload.
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

// wire returns the bytes of the frame on the wire.
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
				{"in one read", func(r io.Reader) io.Reader { return r }},
				{"a byte at a time", iotest.OneByteReader},
				{"in halves", iotest.HalfReader},
			} {
				after := bytes.NewReader(append(bytes.Clone(wire), "next"...))
				got, err := ReadFrame(way.wrap(after), math.MaxInt64)
				if err != nil || !sameFrame(got, test.frame) {
					t.Errorf("%s: got %+v, payload %s, error %v\nwant %+v, payload %s", way.name,
						got.Header, abridged(got.Payload), err, test.frame.Header, abridged(test.frame.Payload))
				}
				if after.Len() != 4 {
					t.Errorf("%s: got %d bytes left after the frame, want 4", way.name, after.Len())
				}
			}
			if got, err := ReadFrame(iotest.DataErrReader(bytes.NewReader(wire)), math.MaxInt64); err != nil || !sameFrame(got, test.frame) {
				t.Errorf("with io.EOF in the last read: got error %v", err)
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

// A hungryReader reads from data and notes the length of the longest slice that it gets.
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
	t.Run("the payload has no spare capacity", func(t *testing.T) {
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
		{"first piece, little left", nil, 0, 100, 100},
		{"nothing left", nil, 0, 0, 0},
		{"negative", nil, 0, -1, 0},
		{"spare room stays", make([]byte, 1, 2), 1, 1 << 40, 1},
		{"spare room stays, nothing left", make([]byte, 1, 9), 1, 0, 8},
		{"a few bytes", make([]byte, 10), 10, 1 << 40, 512},
		{"32 times", make([]byte, 512), 512, 1 << 40, 32 * 512},
		{"32 times, little left", make([]byte, 512), 512, 1000, 1000},
		{"32 times the bytes that arrived, not all bytes", make([]byte, 100<<10), 100, 1 << 40, 3200},
		{"64 KiB", make([]byte, 8<<10), 8 << 10, 1 << 40, 64 << 10},
		{"as many bytes again", make([]byte, 100<<10), 100 << 10, 1 << 40, 100 << 10},
		{"more left than an int of 32 bits holds", make([]byte, 512), 512, math.MaxInt64, 32 * 512},
		{"as many bytes again, little left", make([]byte, 100<<10), 100 << 10, 1, 1},
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
				t.Errorf("got a copy of b, want b")
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
