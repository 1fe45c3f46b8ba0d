package deflate

import (
	"math/bits"
	"sync"
)

// These are the numbers of bits with which the tables are indexed. Longer codes have a second table
// after the first. The sizes are the largest that complete codes of 288 and 32 symbols of up to 15
// bits can need, see enough.c of zlib.
const (
	litBits  = 10
	distBits = 8
	maxBits  = 15 // of a code

	numLit  = 288
	numDist = 32
	numLens = 19 // the symbols of the code length code

	litSize  = 1334
	distSize = 402
)

type (
	litTable  [litSize]entry
	distTable [distSize]entry
)

type tables struct {
	lit  litTable
	dist distTable
}

// An entry of a table describes the code that a lookup has found:
//
//	bits 0-7    how many bits the code has, with its extra bits
//	bits 8-11   how many of them are the code; in an entry for a second table, how many bits index it
//	bits 12-15  the kind
//	bits 16-30  the literal, the least length or distance, or where the second table begins
type entry uint32

const (
	isEnd      entry = 1 << 12
	isSubtable entry = 1 << 13
	isSpecial  entry = 1 << 14 // neither a literal nor a length or distance: end of block, second table, or invalid
	isLiteral  entry = 1 << 15
)

func (e entry) bits() uint    { return uint(e & 0xff) }
func (e entry) literal() byte { return byte(e >> 16) }

// value returns the length or the distance, if b begins with its code and extra bits.
func (e entry) value(b uint64) int {
	return int(e>>16) + int(b&(1<<(e&63)-1)>>(e>>8&15))
}

// subtable returns the index of the entry in the second table, if b begins with the rest of the
// code.
func (e entry) subtable(b uint64) int {
	return int(e>>16) + int(b&(1<<(e>>8&15)-1))
}

// lookup returns the entry for the code with which b begins. skip is how many bits of the code e
// does not count, because they index the first table.
func lookup(table []entry, b uint64, indexBits uint) (e entry, skip uint) {
	e = table[b&(1<<indexBits-1)]
	if e&isSubtable == 0 {
		return e, 0
	}
	return table[e.subtable(b>>indexBits)], indexBits
}

// invalid is the entry for a code that no symbol has.
func invalid(codeBits int) entry { return isSpecial | entry(codeBits)<<8 | entry(codeBits) }

// litEntry returns the entry of a literal or length symbol, without the bits of its code.
func litEntry(symbol int) entry {
	switch {
	case symbol < 256:
		return isLiteral | entry(symbol)<<16
	case symbol == 256:
		return isSpecial | isEnd
	case symbol < 286:
		base, extra := lengthBase(symbol)
		return entry(base)<<16 | entry(extra)
	}
	return isSpecial
}

// lengthBase returns the least length of a length symbol, and the number of its extra bits.
func lengthBase(symbol int) (base, extra int) {
	v := symbol - 257
	if v < 8 {
		return v + 3, 0
	}
	if v == 28 {
		return 258, 0
	}
	extra = v/4 - 1
	return (4+v%4)<<extra + 3, extra
}

// distEntry does for a distance symbol what litEntry does for a length.
func distEntry(symbol int) entry {
	if symbol >= 30 {
		return isSpecial
	}
	if symbol < 4 {
		return entry(symbol+1) << 16
	}
	extra := symbol/2 - 1
	return entry((2+symbol%2)<<extra+1)<<16 | entry(extra)
}

// A constant has the tables that all Decoders share.
type constant struct {
	fixed       tables // the codes of a block of type 1
	litSymbols  [numLit]entry
	distSymbols [numDist]entry
	lenSymbols  [numLens]entry // of the code length code; they look like literals
}

var constants = sync.OnceValue(func() *constant {
	c := new(constant)
	lens, mem := new(codeLens), new(buildMemory)
	for i := range c.litSymbols {
		c.litSymbols[i] = litEntry(i)
		lens.set(i, fixedBits(i))
	}
	coded, all := lens.lits()
	build(c.fixed.lit[:], litBits, coded, all, c.litSymbols[:], mem)
	for i := range c.distSymbols {
		c.distSymbols[i] = distEntry(i)
		lens.set(firstDist+i, 5)
	}
	coded, all = lens.dists()
	build(c.fixed.dist[:], distBits, coded, all, c.distSymbols[:], mem)
	for i := range c.lenSymbols {
		c.lenSymbols[i] = isLiteral | entry(i)<<16
	}
	return c
})

// fixedBits returns how many bits a literal or length symbol has in a block of type 1.
func fixedBits(symbol int) uint8 {
	switch {
	case symbol < 144:
		return 8
	case symbol < 256:
		return 9
	case symbol < 280:
		return 7
	}
	return 8
}

// A fit says whether code lengths make a code.
type fit uint8

const (
	fitComplete fit = iota
	fitSingle       // one code of one bit: RFC 1951 section 3.2.7 allows it for distances
	fitEmpty        // no codes at all
	fitIncomplete
	fitOver // too many codes
)

// A codeLens has the lengths of the codes of a block. Most symbols have no code in a small message.
// So coded has a bit for each symbol that has a code, and len is not set for the others.
type codeLens struct {
	coded [firstDist/64 + 1]uint64
	len   [firstDist + numDist]uint8
}

// firstDist is the index of the first distance in a codeLens: the distances have a word of their
// own.
const firstDist = (numLit + 63) &^ 63

// set sets the length of a code. There was none before.
func (c *codeLens) set(i int, n uint8) {
	c.len[i] = n
	c.coded[i>>6] |= uint64(n+15) >> 4 << (i & 63) // n is at most 15
}

func (c *codeLens) has(i int) bool { return c.coded[i>>6]>>(i&63)&1 != 0 }

func (c *codeLens) lits() (coded []uint64, lens []uint8) {
	return c.coded[:firstDist/64], c.len[:firstDist]
}

func (c *codeLens) dists() (coded []uint64, lens []uint8) {
	return c.coded[firstDist/64:], c.len[firstDist:]
}

// A buildMemory is what build needs. It is not on the stack, because Go would have to double the
// stack.
type buildMemory struct {
	count [maxBits + 1]uint16 // how many codes of each length there are
	begin [maxBits + 2]uint16 // where the symbols with codes of each length begin in order
	order [numLit]uint16      // the symbols, by the lengths of their codes
}

// build fills the table for the code in which the symbols of the set coded have the given lengths.
// symbols has the entry of each symbol, without its code.
func build(table []entry, indexBits uint, coded []uint64, lens []uint8, symbols []entry, mem *buildMemory) fit {
	count, begin := &mem.count, &mem.begin
	clear(count[:])
	for i, set := range coded {
		for ; set != 0; set &= set - 1 {
			count[lens[i<<6+bits.TrailingZeros64(set)]&15]++
		}
	}
	free := 1
	begin[1] = 0
	for n := 1; n <= maxBits; n++ {
		free = free<<1 - int(count[n])
		if free < 0 {
			return fitOver
		}
		begin[n+1] = begin[n] + count[n]
	}
	used := int(begin[maxBits+1])
	if free > 0 && (used > 1 || used != int(count[1])) {
		return fitIncomplete
	}
	if free > 0 {
		return buildSingle(table[:1<<indexBits], coded, symbols)
	}

	// Sort the symbols by the lengths of their codes.
	for i, set := range coded {
		for ; set != 0; set &= set - 1 {
			symbol := i<<6 + bits.TrailingZeros64(set)
			n := lens[symbol] & 15
			mem.order[begin[n]] = uint16(symbol)
			begin[n]++
		}
	}
	b := builder{table: table, indexBits: indexBits, count: count, symbols: symbols, order: mem.order[:used]}
	b.first()
	b.second()
	return fitComplete
}

// buildSingle fills the table for a code of at most one symbol.
func buildSingle(table []entry, coded []uint64, symbols []entry) fit {
	result := fitEmpty
	even := invalid(1)
	for i, set := range coded {
		if set != 0 {
			even = symbols[i<<6+bits.TrailingZeros64(set)] + 1<<8 + 1
			result = fitSingle
		}
	}
	for i := 0; i < len(table); i += 2 {
		table[i], table[i+1] = even, invalid(1)
	}
	return result
}

// A builder fills the table of a complete code.
type builder struct {
	table     []entry
	indexBits uint
	count     *[maxBits + 1]uint16
	symbols   []entry
	order     []uint16 // the symbols that are left, by the lengths of their codes
	code      int      // of the next symbol; its first bit is the lowest
}

// put sets the entry of the next symbol, whose code has n bits of which skip are not counted, at
// every step-th place of t. It then computes the next code.
func (b *builder) put(t []entry, n, skip uint) {
	e := b.symbols[b.order[0]] + entry(n-skip)<<8 + entry(n-skip)
	b.order = b.order[1:]
	for i := b.code >> skip; i < len(t); i += 1 << (n - skip) {
		t[i] = e
	}
	b.code = nextCode(b.code, n)
}

// nextCode returns the code of n bits after code. It adds one to a number whose bits are in the
// opposite order: it clears the ones above the highest zero, and sets that zero to one. After the
// last code, it returns 0.
func nextCode(code int, n uint) int {
	bit := 1 << bits.Len(uint(code^(1<<n-1))) >> 1
	return code&(bit-1) | bit
}

// first fills the first table. It holds the codes of up to n bits after round n, and doubles with
// each round, because that is faster than writing the entries of short codes one by one.
func (b *builder) first() {
	next, code := 0, 0
	for n := uint(1); n <= b.indexBits; n++ {
		copy(b.table[1<<(n-1):1<<n], b.table[:1<<(n-1)])
		t, size := b.table[:1<<n], entry(n)<<8+entry(n)
		end := next + int(b.count[n])
		for _, symbol := range b.order[next:end] {
			t[code] = b.symbols[symbol] + size
			code = nextCode(code, n)
		}
		next = end
	}
	b.order, b.code = b.order[next:], code
}

// second fills the tables of the codes that are longer than indexBits: one for all codes with the
// same beginning.
func (b *builder) second() {
	end := 1 << b.indexBits
	prefix := -1
	var sub []entry
	for n := b.indexBits + 1; n <= maxBits; n++ {
		left := int(b.count[n])
		for ; left > 0; left-- {
			if p := b.code & (1<<b.indexBits - 1); p != prefix {
				prefix = p
				size := b.subBits(n, left)
				b.table[p] = isSpecial | isSubtable | entry(end)<<16 | entry(size)<<8 | entry(b.indexBits)
				sub = b.table[end : end+1<<size]
				end += 1 << size
			}
			b.put(sub, n, b.indexBits)
		}
	}
}

// subBits returns how many bits index a second table that begins with a code of n bits: so many
// that the codes fill the table. left is how many codes of n bits remain.
func (b *builder) subBits(n uint, left int) uint {
	size := n - b.indexBits
	for used := left; used < 1<<size; {
		size++
		used = used<<1 + int(b.count[b.indexBits+size])
	}
	return size
}
