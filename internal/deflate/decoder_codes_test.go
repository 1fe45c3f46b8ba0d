package deflate

import (
	"errors"
	"strings"
	"testing"
)

func TestDecoder_legal_messages(t *testing.T) {
	tests := []struct {
		name string
		hex  string
		want string
	}{
		{"RFC 7692 7.2.3.1: one block", "f248cdc9c90700", "Hello"},
		{"RFC 7692 7.2.3.3: a stored block", "000500faff48656c6c6f00", "Hello"},
		{"RFC 7692 7.2.3.4: a block with BFINAL", "f348cdc9c9070000", "Hello"},
		{"RFC 7692 7.2.3.5: two blocks", "f248050000 00ffff cac9c90700", "Hello"},
		{"two blocks with BFINAL", "f348cdc9c90700 f348cdc9c90700 00", "HelloHello"},
		{"a block with BFINAL and another one without", "f348cdc9c90700 f248cdc9c90700", "HelloHello"},
		{"a stored block with BFINAL and more", "010500faff48656c6c6f f248cdc9c90700", "HelloHello"},
		{"RFC 7692 7.2.3.6: empty, a stored block", "00", ""},
		{"empty, a fixed block and a stored block", "0200", ""},
		{"empty, a block with BFINAL and a stored block", "030000", ""},
		{"empty, a stored block with BFINAL", "01", ""},
		{"empty, many stored blocks", "000000ffff 000000ffff 000000ffff 00", ""},
		{"empty, compressed to nothing", "", ""},
		{"no empty block behind a block with BFINAL", "f348cdc9c90700", "Hello"},
		{"no empty block behind a stored block", "000500faff48656c6c6f", "Hello"},
		{"only a part of the header of the empty block", "32410580", strings.Repeat("4", 15)},
		{"padding that is not 0 behind BFINAL", "f348cdc9c907f8 00", "Hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := unhex(t, tt.hex)
			got, err := inflate(src, int64(len(tt.want)))
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			got, err = inflateStream(src, int64(len(tt.want)), 1, 1)
			if err != nil || string(got) != tt.want {
				t.Errorf("streaming: got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// A bitWriter makes streams that no encoder makes.
type bitWriter struct {
	out []byte
	b   uint64
	n   int
}

// bits writes the lowest n bits of v, the lowest first.
func (b *bitWriter) bits(v uint64, n int) {
	for i := range n {
		b.b |= v >> i & 1 << b.n
		b.n++
		if b.n == 8 {
			b.out = append(b.out, byte(b.b))
			b.b, b.n = 0, 0
		}
	}
}

// code writes a code of n bits, the highest first.
func (b *bitWriter) code(v, n int) {
	for i := n - 1; i >= 0; i-- {
		b.bits(uint64(v>>i), 1)
	}
}

// literal writes a literal of less than 144 in a fixed block.
func (b *bitWriter) literal(c byte) { b.code(0x30+int(c), 8) }

// match writes a match of up to 10 bytes, with a distance of up to 4, in a fixed block.
func (b *bitWriter) match(length, dist int) {
	b.code(length-2, 7)
	b.code(dist-1, 5)
}

func (b *bitWriter) done() []byte {
	if b.n > 0 {
		b.bits(0, 8-b.n)
	}
	return b.out
}

// The lengths of literals and distances are one sequence: a repetition may begin in the first and end in the second.
func TestDecoder_repeated_lengths_cross_to_the_distances(t *testing.T) {
	lengths := dynamicHeader(0, 3, map[int]uint64{2: 1, 16: 2, 18: 2})
	for _, zeros := range []uint64{138, 115} {
		lengths.code(3, 2)
		lengths.bits(zeros-11, 7)
	}
	lengths.code(0, 1) // that of literal 253
	lengths.code(2, 2) // and those of 254 to 256 and of three distances
	lengths.bits(3, 2)
	lengths.code(0, 1)
	for symbol := range 4 {
		lengths.code(symbol, 2)
	}

	zeros := dynamicHeader(29, 2, map[int]uint64{1: 2, 2: 2, 16: 2, 18: 2})
	zero := func(n uint64) {
		zeros.code(3, 2)
		zeros.bits(n-11, 7)
	}
	zero('a')
	zeros.code(1, 2)
	zero(138)
	zero(255 - 'a' - 138)
	zeros.code(1, 2) // the end of the block
	zeros.code(0, 2) // a match of 3 bytes
	zero(26)
	zeros.code(2, 2) // three more zeros: two of the other matches, and the distance 1
	zeros.bits(0, 2)
	zeros.code(0, 2)
	zeros.code(0, 2)
	zeros.code(2, 2) // two literals
	zeros.code(2, 2)
	zeros.code(0, 2) // a match at the distance 2
	zeros.code(3, 2)

	tests := []struct {
		name string
		src  *bitWriter
		want string
	}{
		{"a repeated length", lengths, "\xfd\xfe\xff"},
		{"zeros", zeros, "aaaaa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.src.bits(0, 3)
			src := tt.src.done()
			got, err := inflate(src, 100)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			got, err = inflateStream(src, 100, 1, 1)
			if err != nil || string(got) != tt.want {
				t.Errorf("streaming: got %q, %v; want %q", got, err, tt.want)
			}
			agree(t, src, 1, 1)
		})
	}
}

// dynamicHeader writes a header with the given lengths of the code length code and 5 bits for HLIT and HDIST.
func dynamicHeader(hlit, hdist uint64, lens map[int]uint64) *bitWriter {
	b := new(bitWriter)
	b.bits(4, 3)
	b.bits(hlit, 5)
	b.bits(hdist, 5)
	b.bits(15, 4)
	for _, symbol := range lensOrder {
		b.bits(lens[int(symbol)], 3)
	}
	return b
}

func TestDecoder_corrupt_messages(t *testing.T) {
	fixed := func(f func(b *bitWriter)) []byte {
		b := new(bitWriter)
		b.bits(2, 3)
		f(b)
		b.code(0, 7)
		b.bits(0, 3)
		return b.done()
	}
	// The codes of these have one bit: 0 for the first symbol, 1 for the second.
	lengths := func(hlit, hdist uint64, first, second int, codes func(b *bitWriter)) []byte {
		b := dynamicHeader(hlit, hdist, map[int]uint64{first: 1, second: 1})
		codes(b)
		b.bits(0, 64-8)
		b.bits(0, 64-8)
		return b.done()
	}
	tests := []struct {
		name string
		src  []byte
		want string
	}{
		{"the reserved block type", unhex(t, "0600"), "reserved type 3"},
		{"the length of a stored block", unhex(t, "000500fafe48656c6c6f00"), "complement"},
		{"a message that ends in a stored block", unhex(t, "000900f6ff4865"), "ends inside"},
		{"a message that ends in a fixed block", unhex(t, "f248cdc9"), "ends inside"},
		{"a message that ends in the header of a fixed block", func() []byte {
			b := new(bitWriter)
			b.bits(2, 3)
			for range 4 {
				b.code(0x190, 9)
			}
			b.code(0, 7)
			b.bits(2, 2)
			return b.done()
		}(), "ends inside"},
		{"a message that ends in the length of a stored block", unhex(t, "0005"), "complement"},
		{"a distance before the message", fixed(func(b *bitWriter) { b.literal('a'); b.match(3, 2) }), "beyond the beginning"},
		{"literal or length code 286", fixed(func(b *bitWriter) { b.code(0xc6, 8) }), "literal or length code"},
		{"literal or length code 287", fixed(func(b *bitWriter) { b.code(0xc7, 8) }), "literal or length code"},
		{"distance code 30", fixed(func(b *bitWriter) { b.literal('a'); b.code(1, 7); b.code(30, 5) }), "distance code"},
		{"distance code 31", fixed(func(b *bitWriter) { b.literal('a'); b.code(1, 7); b.code(31, 5) }), "distance code"},
		{"287 literal and length codes", lengths(30, 0, 0, 1, func(*bitWriter) {}), "too many codes"},
		{"31 distance codes", lengths(0, 30, 0, 1, func(*bitWriter) {}), "too many codes"},
		{"no code length codes", dynamicHeader(0, 0, nil).done(), "code length code"},
		{"an incomplete code length code", dynamicHeader(0, 0, map[int]uint64{1: 2, 2: 2}).done(), "code length code"},
		{"a single code length code", dynamicHeader(0, 0, map[int]uint64{1: 1}).done(), "code length code"},
		{"too many code length codes", dynamicHeader(0, 0, map[int]uint64{1: 1, 2: 1, 3: 1}).done(), "code length code"},
		{"a repeat before the first length", lengths(0, 0, 1, 16, func(b *bitWriter) { b.bits(1, 1) }), "before the first"},
		{"more lengths than codes", lengths(0, 0, 1, 18, func(b *bitWriter) {
			b.bits(1, 1)
			b.bits(127, 7)
			b.bits(1, 1)
			b.bits(127, 7)
		}), "more code lengths"},
		{"no code for the end of the block", lengths(0, 0, 1, 18, func(b *bitWriter) {
			b.bits(0, 1)
			b.bits(0, 1) // the literals 0 and 1
			b.bits(1, 1)
			b.bits(127, 7)
			b.bits(1, 1)
			b.bits(118-11, 7) // 2 to 257
		}), "code for its end"},
		{"too many literal codes", lengths(0, 0, 1, 18, func(b *bitWriter) {
			for range 258 {
				b.bits(0, 1)
			}
		}), "literal and length code"},
		{"an incomplete literal code", lengths(0, 0, 2, 18, func(b *bitWriter) {
			b.bits(1, 1)
			b.bits(127, 7)
			b.bits(1, 1)
			b.bits(117-11, 7) // 0 to 254
			b.bits(0, 1)
			b.bits(0, 1) // 255 and 256
			b.bits(0, 1)
		}), "literal and length code"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range []func() ([]byte, error){
				func() ([]byte, error) { return inflate(tt.src, -1) },
				func() ([]byte, error) { return inflateStream(tt.src, -1, 1, 1) },
			} {
				_, err := d()
				var corrupt *CorruptError
				if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want a CorruptError with %q", err, tt.want)
				}
				if corrupt.Offset < 0 || corrupt.Offset > int64(len(tt.src)) {
					t.Errorf("got offset %d of %d bytes", corrupt.Offset, len(tt.src))
				}
			}
		})
	}
}

// A block with one distance code of one bit is legal, and so is one without distance codes (RFC 1951 section 3.2.7).
func TestDecoder_single_distance_code(t *testing.T) {
	// The literal and length codes: 0 for 'a', 10 for the end of the block, 11 for the length 3.
	block := func(distance uint64, symbols func(b *bitWriter)) []byte {
		// The codes of the code lengths: 00 for 0, 01 for 1, 10 for 2, 11 for 18.
		b := dynamicHeader(1, 0, map[int]uint64{18: 2, 0: 2, 1: 2, 2: 2})
		zeros := func(n uint64) { b.code(3, 2); b.bits(n-11, 7) }
		zeros(97)
		b.code(1, 2)
		zeros(138)
		zeros(20)
		b.code(2, 2)
		b.code(2, 2)
		b.code(int(distance), 2)
		symbols(b)
		b.code(2, 2)
		b.bits(0, 3)
		return b.done()
	}
	match := func(code uint64) func(b *bitWriter) {
		return func(b *bitWriter) { b.bits(0, 1); b.code(3, 2); b.bits(code, 1) }
	}
	literal := func(b *bitWriter) { b.bits(0, 1) }
	tests := []struct {
		name     string
		distance uint64 // how many bits the only distance code has
		symbols  func(b *bitWriter)
		want     string
		reason   string
	}{
		{"a code of one bit", 1, match(0), "aaaa", ""},
		{"the code that does not exist beside a code of one bit", 1, match(1), "", "distance code"},
		{"no code, and no match", 0, literal, "a", ""},
		{"no code, and a match", 0, match(0), "", "distance code"},
		{"a code of two bits", 2, literal, "", "invalid distance code"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := block(tt.distance, tt.symbols)
			got, err := inflate(src, -1)
			if tt.reason == "" && (err != nil || string(got) != tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if tt.reason != "" && (err == nil || !strings.Contains(err.Error(), tt.reason)) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tt.reason)
			}
			agree(t, src, 1, 1)
		})
	}
}
