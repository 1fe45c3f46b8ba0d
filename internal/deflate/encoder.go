package deflate

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync"
)

const (
	minMatch = 4 // a shorter match saves almost nothing, because its distance costs up to 15 bits
	maxMatch = 258

	// lazyMatch is the length from which a match is taken without trying the next byte.
	lazyMatch = 32
	slack     = 8 // bytes at the end of the buffer, so that eight bytes can be loaded at each place
)

// An Encoder compresses messages for one peer. It keeps the last bytes that it has compressed,
// because the next message may refer to them (context takeover). Call Reset before the first
// message. An Encoder is not safe for use by several goroutines at the same time.
//
// It holds three bytes for each byte of its window: 12 KiB for 12 bits.
type Encoder struct {
	buf  []byte // the window, then new bytes; twice as large as the window, so that bytes are moved rarely
	size int    // of the window
	n    int    // where the history ends in buf

	// table has the position of the last four bytes with a hash. A position is an index of buf plus
	// base, modulo 1<<16. An entry may be wrong, so every match is checked, and no entry needs to
	// be removed.
	table []uint16
	base  uint16
	shift uint8 // of a hash
	late  int   // how many bytes before n are not in the table yet, because Learn leaves that to Append
}

// Reset forgets everything and sets the size of the window: no distance is larger than
// 1<<windowBits. It panics if windowBits is less than MinWindowBits or more than MaxWindowBits.
func (e *Encoder) Reset(windowBits int) {
	if windowBits < MinWindowBits || windowBits > MaxWindowBits {
		panic(fmt.Sprintf("deflate: the window has %d bits; want %d to %d", windowBits, MinWindowBits, MaxWindowBits))
	}
	if size := 1 << windowBits; size != e.size {
		e.size = size
		e.buf = make([]byte, 2*size)     // with slack in it, because a little more would be a larger size class
		e.table = make([]uint16, size/2) // more entries find few more matches
		e.shift = uint8(32 - (windowBits - 1))
	}
	e.n, e.base, e.late = 0, 0, 0
	clear(e.table)
}

// Forget forgets the messages so far: the next message does not refer to them.
func (e *Encoder) Forget() {
	e.slide(0)
	e.late = 0
}

// Learn adds p to the history: the next message may refer to it. The peer must have inflated p
// after the messages so far, for example from a message that was compressed without this Encoder.
// Learn only copies: the next call of Append adds what is still in the window to the table.
func (e *Encoder) Learn(p []byte) {
	p = p[max(0, len(p)-e.size):]
	if len(p) > len(e.buf)-slack-e.n {
		e.slide(e.size - len(p))
	}
	e.n += copy(e.buf[e.n:], p)
	e.late += len(p)
}

// catchUp adds to the table what Learn has copied. Every second position is enough, because most
// matches are longer.
func (e *Encoder) catchUp() {
	for i := max(0, e.n-e.late, e.n-e.size); i+minMatch <= e.n; i += 2 {
		replace(e.table, binary.LittleEndian.Uint32(e.buf[i:]), e.shift, e.base+uint16(i))
	}
	e.late = 0
}

// Append compresses the message src and appends the result to dst. It returns false if the
// compressed message is not smaller than src. The caller then sends src uncompressed, and the
// peer's window does not change: dst is returned as it was, and the next call of Append refers to
// the messages before this one.
//
// Bytes between the length and the capacity of dst may be overwritten. Append needs room for an
// eighth more than the bytes of src, or for a block of 40 kB, whichever is less; dst grows if there
// is less.
func (e *Encoder) Append(dst, src []byte) (out []byte, ok bool) {
	s := scratches.Get().(*scratch)
	if space := len(e.buf) - slack - e.n; len(src) > space {
		e.slide(e.size)
	}
	if e.late > 0 {
		e.catchUp()
	}
	before := *e
	moves := len(src) > len(e.buf)-slack-e.n
	if moves {
		copy(s.saved[:], e.buf[max(0, e.n-e.size):e.n])
	}
	out, ok = e.deflate(dst, src, s)
	if !ok {
		*e = before
		if moves {
			copy(e.buf[max(0, e.n-e.size):e.n], s.saved[:])
		}
		if len(src) > e.size/8 {
			e.rebuild()
		}
		out = dst
	}
	scratches.Put(s)
	return out, ok
}

// slide moves the last bytes of the history, at most keep, to the beginning of the buffer, and
// forgets those before.
func (e *Encoder) slide(keep int) {
	from := max(0, e.n-keep)
	e.n = copy(e.buf, e.buf[from:e.n])
	e.base += uint16(from)
}

// rebuild sets the table to the positions of the history, after a message that is not sent has
// changed it. A small message does not need it: it replaces few entries, and they do no harm,
// because every match is checked.
func (e *Encoder) rebuild() {
	clear(e.table)
	for i := max(0, e.n-e.size); i+minMatch <= e.n; i++ {
		replace(e.table, binary.LittleEndian.Uint32(e.buf[i:]), e.shift, e.base+uint16(i))
	}
}

// A scratch is the memory for one call of Append.
type scratch struct {
	blockSplitter
	saved [1 << MaxWindowBits]byte // the history, for a message that is larger than the buffer
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// A sequence is a number of literals and the match after them.
type sequence struct {
	literals uint32
	length   uint16 // 0 at the end of a block
	dist     uint16
}

// maxSequences and maxBlock end a block. A stored block has at most 65535 bytes.
const (
	maxSequences = 4096
	maxBlock     = 32 << 10
)

// A blockSplitter has the sequences of one block.
type blockSplitter struct {
	n        int
	literals int // after the last sequence
	// dynamicFrom is the size from which a block has codes of its own, if they make it smaller.
	dynamicFrom int
	seqs        [maxSequences + 1]sequence
	codes       blockCodes
	huffman     huffman
}

// deflate compresses src, one block after the other.
func (e *Encoder) deflate(dst, src []byte, s *scratch) ([]byte, bool) {
	w := bitBuffer{out: dst, pos: len(dst)}
	limit := len(dst) + len(src)
	s.dynamicFrom = dynamicWithHistory
	if e.n == 0 {
		s.dynamicFrom = dynamicWithout
	}
	for rest := src; len(rest) > 0; {
		s.n, s.literals = 0, 0
		size := 0
		for len(rest) > size && size < maxBlock {
			if e.n == len(e.buf)-slack {
				e.slide(e.size)
			}
			k := copy(e.buf[e.n:len(e.buf)-slack], rest[size:])
			e.n += k
			taken := e.find(&s.blockSplitter, e.n-k)
			e.n -= k - taken
			size += taken
			if taken < k {
				break // there is no room for another sequence
			}
		}
		s.seqs[s.n] = sequence{literals: uint32(s.literals)}
		s.n++
		w.block(&s.blockSplitter, rest[:size])
		rest = rest[size:]
		if w.pos >= limit {
			break
		}
	}
	out := w.endMessage()
	return out, len(out) < limit
}

// find divides buf[i:n] into sequences. It returns how many bytes it has taken: all, unless there
// are too many sequences.
func (e *Encoder) find(s *blockSplitter, i int) int {
	begin, end := i, e.n
	b, table, base, shift, size := e.buf, e.table, e.base, e.shift, uint(e.size)
	done := i - s.literals // the bytes before done are in sequences
	low := i               // no match begins before low
	for i+minMatch <= end {
		v := binary.LittleEndian.Uint32(b[i:])
		from := int(replace(table, v, shift, base+uint16(i)) - base)
		if load(b, from) != v || uint(i-from-1) >= size {
			// Try fewer positions of a message that does not repeat itself.
			i += 1 + (i-low)>>6
			continue
		}
		n := matchLength(b, i, from, min(end-i, maxMatch))
		for n < lazyMatch && i+1+minMatch <= end {
			// A match that begins with the next byte is often longer.
			v := binary.LittleEndian.Uint32(b[i+1:])
			next := int(replace(table, v, shift, base+uint16(i+1)) - base)
			if load(b, next) != v || uint(i-next) >= size {
				break
			}
			m := matchLength(b, i+1, next, min(end-i-1, maxMatch))
			if m <= n {
				break
			}
			i, n, from = i+1, m, next
		}
		dist := i - from
		for i > low && i > dist && n < maxMatch && b[i-1] == b[i-1-dist] {
			i--
			n++
		}
		if s.n == maxSequences {
			s.literals = i - done
			return i - begin
		}
		s.seqs[s.n] = sequence{literals: uint32(i - done), length: uint16(n), dist: uint16(dist)}
		s.n++
		i += n
		done, low = i, i
		// Adding these two positions of the match finds the most later matches for the time that it
		// takes.
		if i+minMatch <= end {
			replace(table, binary.LittleEndian.Uint32(b[i-n+2:]), shift, base+uint16(i-n+2))
			replace(table, binary.LittleEndian.Uint32(b[i-1:]), shift, base+uint16(i-1))
		}
	}
	s.literals = end - done
	return end - begin
}

// replace stores the position of the four bytes v, and returns the position that was stored for
// their hash before.
func replace(table []uint16, v uint32, shift uint8, at uint16) (last uint16) {
	entry := &table[v*0x9e3779b1>>(shift&31)]
	last, *entry = *entry, at
	return last
}

// load returns the four bytes at b[i:], or others if i is not in the buffer. That costs less than a
// branch, because entries of the table are often too old, and the processor cannot predict which.
func load(b []byte, i int) uint32 {
	return binary.LittleEndian.Uint32(b[min(i, len(b)-slack):])
}

// matchLength returns for how many bytes, at most limit, b[i:] equals b[from:].
func matchLength(b []byte, i, from, limit int) int {
	for n := 0; n < limit; n += 8 {
		x := binary.LittleEndian.Uint64(b[i+n:]) ^ binary.LittleEndian.Uint64(b[from+n:])
		if x != 0 {
			return min(limit, n+bits.TrailingZeros64(x)/8)
		}
	}
	return limit
}

// A bitBuffer appends bits to out. The lowest n of its bits are not in out yet.
type bitBuffer struct {
	out  []byte // up to its capacity
	pos  int
	bits uint64
	n    uint
}

// reserve makes room for size more bytes, and for the eight that flush writes.
func (w *bitBuffer) reserve(size int) {
	w.out = slices.Grow(w.out[:w.pos], size+16)
	w.out = w.out[:cap(w.out)]
}

// put adds n bits. At most 64 may be added before flush is called.
func (w *bitBuffer) put(v uint64, n uint) {
	w.bits |= v << (w.n & 63)
	w.n += n
}

// flush writes the whole bytes.
func (w *bitBuffer) flush() {
	binary.LittleEndian.PutUint64(w.out[w.pos:], w.bits)
	w.pos += int(w.n >> 3)
	w.bits >>= w.n &^ 7 & 63
	w.n &= 7
}

// align adds the header of an empty stored block and goes to the next byte.
func (w *bitBuffer) align() {
	w.n = (w.n + 3 + 7) &^ 7
	w.flush()
}

// endMessage ends the message with the header of an empty stored block.
func (w *bitBuffer) endMessage() []byte {
	w.reserve(0)
	w.align()
	return w.out[:w.pos]
}
