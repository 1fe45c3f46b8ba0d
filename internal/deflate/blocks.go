package deflate

import "math/bits"

// A code has the bits of a symbol in its lowest 27 bits, beginning with the lowest, and their
// number above them.
type code uint32

func newCode(bits, n int) code { return code(bits) | code(n)<<codeShift }

const codeShift = 27

func (c code) bits() uint64 { return uint64(c & (1<<codeShift - 1)) }
func (c code) len() uint    { return uint(c >> codeShift) }

// blockCodes has the codes of a block.
type blockCodes struct {
	lit    [256]code
	end    code
	length [maxMatch + 1]code   // of a length, with its extra bits
	dist   [numDistSymbols]code // without extra bits

	symbols [numLit]code // for set; it is too large for the stack
}

// fixedCodes are the codes of a block of type 1.
var fixedCodes = newFixedCodes()

func newFixedCodes() *blockCodes {
	var lens [numLit]uint8 // with the symbols that are not used, because they take part in assigning the codes
	var dists [numDistSymbols]uint8
	for i := range lens {
		lens[i] = fixedBits(i)
	}
	for i := range dists {
		dists[i] = 5
	}
	c := new(blockCodes)
	c.set(lens[:], dists[:])
	return c
}

// set computes the codes from their lengths.
func (c *blockCodes) set(lens, dists []uint8) {
	symbols := c.symbols[:]
	canonical(symbols, lens)
	copy(c.lit[:], symbols[:256])
	c.end = symbols[256]
	for symbol := 257; symbol < numSymbols; symbol++ {
		base, extra := lengthBase(symbol)
		s := symbols[symbol]
		for i := 0; i < 1<<extra && base+i <= maxMatch; i++ {
			c.length[base+i] = newCode(int(s.bits())|i<<s.len(), int(s.len())+extra)
		}
	}
	canonical(c.dist[:], dists)
}

// canonical assigns codes to symbols (RFC 1951 section 3.2.2).
func canonical(codes []code, lens []uint8) {
	var next, count [maxBits + 1]uint16
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	value := uint16(0)
	for n := 1; n <= maxBits; n++ {
		value = (value + count[n-1]) << 1
		next[n] = value
	}
	for symbol, n := range lens {
		codes[symbol] = 0
		if n > 0 {
			codes[symbol] = newCode(reversed(int(next[n]), int(n)), int(n))
			next[n]++
		}
	}
}

// distSymbol returns the symbol of a distance, and its extra bits.
func distSymbol(dist int) (symbol int, extra uint64, n uint) {
	v := uint(dist - 1)
	if v < 4 {
		return int(v), 0, 0
	}
	n = uint(bits.Len(v)) - 2
	return int(2*n + v>>n), uint64(v & (1<<n - 1)), n
}

// These are the sizes from which a block may have codes of its own (type 2). Their header has about
// 60 bytes, and it takes about 5 µs to compute them. With a history, a message of 1 KiB would take
// twice the time to save a seventh of its bytes. Without a history, most of a message is literals,
// and a message of 240 bytes saves as much.
const (
	dynamicWithHistory = 1500
	dynamicWithout     = 100
)

// block writes a block for the sequences of src: with the fixed codes, with codes of its own, or
// stored.
func (w *bitBuffer) block(s *blockSplitter, src []byte) {
	w.reserve(len(src) + len(src)/8 + 8)
	seqs := s.seqs[:s.n]
	if len(src) < s.dynamicFrom {
		w.put(2, 3)
		w.symbols(fixedCodes, seqs, src)
		return
	}
	h := &s.huffman
	h.count(seqs, src)
	fixed := h.fixedSize()
	own := h.build()
	stored := 8*len(src) + 3 + 7 + 32
	switch {
	case stored <= min(own, fixed):
		w.stored(src)
	case own < fixed:
		h.writeHeader(w)
		s.codes.set(h.lens[:numSymbols], h.lens[numSymbols:])
		w.symbols(&s.codes, seqs, src)
	default:
		w.put(2, 3)
		w.symbols(fixedCodes, seqs, src)
	}
}

// stored writes a stored block. src has at most 65535 bytes.
func (w *bitBuffer) stored(src []byte) {
	w.align()
	w.put(uint64(len(src))|uint64(^uint16(len(src)))<<16, 32)
	w.flush()
	w.pos += copy(w.out[w.pos:], src)
}

// symbols writes the sequences of src and the end of the block.
func (w *bitBuffer) symbols(c *blockCodes, seqs []sequence, src []byte) {
	b := *w
	for _, q := range seqs {
		k := int(q.literals)
		lits := src[:k]
		for len(lits) >= 3 {
			x, y, z := c.lit[lits[0]], c.lit[lits[1]], c.lit[lits[2]]
			b.put(x.bits(), x.len())
			b.put(y.bits(), y.len())
			b.put(z.bits(), z.len())
			b.flush()
			lits = lits[3:]
		}
		for _, l := range lits {
			b.put(c.lit[l].bits(), c.lit[l].len())
		}
		b.flush()
		src = src[k:]
		if q.length == 0 {
			break
		}
		src = src[q.length:]
		l := c.length[q.length]
		b.put(l.bits(), l.len())
		symbol, extra, n := distSymbol(int(q.dist))
		d := c.dist[symbol]
		b.put(d.bits(), d.len())
		b.put(extra, n)
		b.flush()
	}
	b.put(c.end.bits(), c.end.len())
	b.flush()
	*w = b
}
