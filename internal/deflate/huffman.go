package deflate

import "math/bits"

const (
	numSymbols     = 286 // literals, the end of the block, and lengths
	numDistSymbols = 30
)

// lengthSymbols has the symbol of each length, and the number of its extra bits above the lowest 9
// bits.
var lengthSymbols = func() (t [maxMatch + 1]uint16) {
	for symbol := 257; symbol < numSymbols; symbol++ {
		base, extra := lengthBase(symbol)
		for i := base; i < base+1<<extra && i <= maxMatch; i++ {
			t[i] = uint16(symbol | extra<<9)
		}
	}
	return t
}()

// A huffman computes the codes of a block of type 2.
type huffman struct {
	freq  [numSymbols + numDistSymbols]uint32
	lens  [numSymbols + numDistSymbols]uint8
	extra int // how many extra bits the lengths and distances have

	// The header. A token is a symbol of the code length code, and its extra bits above the lowest
	// 5 bits.
	lits, dists, first int
	tokens             [numSymbols + numDistSymbols]uint16
	numTokens          int
	tokenFreq          [numLens]uint32
	tokenLens          [numLens]uint8

	// The memory of codeLengths. It is not on the stack, because Go would have to double the stack.
	keys   [numSymbols]uint32
	depths [numSymbols]uint32
	sizes  [maxBits + 1]uint16 // how many codes of each length there are
}

// count counts the symbols of a block.
func (h *huffman) count(seqs []sequence, src []byte) {
	clear(h.freq[:])
	h.extra = 0
	h.freq[256] = 1
	for _, q := range seqs {
		for _, c := range src[:q.literals] {
			h.freq[c]++
		}
		if q.length == 0 {
			break
		}
		src = src[int(q.literals)+int(q.length):]
		length := lengthSymbols[q.length]
		h.freq[length&511]++
		symbol, _, n := distSymbol(int(q.dist))
		h.freq[numSymbols+symbol]++
		h.extra += int(length>>9) + int(n)
	}
}

// fixedSize returns the size of the block in bits with the fixed codes.
func (h *huffman) fixedSize() int {
	size := 3 + h.extra
	for i, n := range h.freq[:numSymbols] {
		size += int(n) * int(fixedBits(i))
	}
	for _, n := range h.freq[numSymbols:] {
		size += 5 * int(n)
	}
	return size
}

// build computes the codes and returns the size of the block in bits.
func (h *huffman) build() int {
	// Some decoders need two distance codes, even if the block uses fewer.
	dists := h.freq[numSymbols:]
	for i := 0; i < 2; i++ {
		dists[i] = max(dists[i], 1)
	}
	h.codeLengths(h.freq[:numSymbols], h.lens[:numSymbols], maxBits)
	h.codeLengths(dists, h.lens[numSymbols:], maxBits)
	size := h.extra + h.buildHeader()
	for i, n := range h.freq[:] { // a range of the array would copy it to the stack
		size += int(n) * int(h.lens[i])
	}
	return size
}

// codeLengths computes the lengths of the codes of symbols with these frequencies. No code has more
// than limit bits.
func (h *huffman) codeLengths(freq []uint32, lens []uint8, limit int) {
	keys := h.keys[:0]
	for symbol, n := range freq {
		lens[symbol] = 0
		if n > 0 {
			keys = append(keys, n<<9|uint32(symbol))
		}
	}
	sortKeys(keys)
	if len(keys) == 1 {
		lens[keys[0]&511] = 1
		return
	}
	depths := h.depths[:len(keys)]
	for i, k := range keys {
		depths[i] = k >> 9
	}
	codeDepths(depths)

	count := h.sizes[:limit+1]
	clear(count)
	for _, n := range depths {
		count[min(int(n), limit)]++
	}
	limitLengths(count, limit)
	symbol := len(keys)
	for n := 1; n <= limit; n++ {
		for range count[n] {
			symbol--
			lens[keys[symbol]&511] = uint8(n)
		}
	}
}

// sortKeys is Shell's sort. Unlike slices.Sort, it needs no stack, and there are few keys.
func sortKeys(keys []uint32) {
	for _, gap := range [...]int{57, 23, 10, 4, 1} {
		for i := gap; i < len(keys); i++ {
			k, j := keys[i], i
			for ; j >= gap && keys[j-gap] > k; j -= gap {
				keys[j] = keys[j-gap]
			}
			keys[j] = k
		}
	}
}

// codeDepths replaces frequencies, the lowest first, by the lengths of their codes. It is the
// algorithm of Moffat and Katajainen, "In-place calculation of minimum-redundancy codes", which
// needs no other memory.
func codeDepths(a []uint32) {
	n := len(a)
	// Make the inner nodes of the tree: a[i] is the weight of node i, and later the index of its
	// parent.
	root, leaf := 0, 0
	for next := range n - 1 {
		var sum uint32
		for range 2 {
			if leaf >= n || root < next && a[root] < a[leaf] {
				sum += a[root]
				a[root] = uint32(next)
				root++
			} else {
				sum += a[leaf]
				leaf++
			}
		}
		a[next] = sum
	}
	// Replace the parents by the depths of the inner nodes.
	a[n-2] = 0
	for i := n - 3; i >= 0; i-- {
		a[i] = a[a[i]] + 1
	}
	// Compute the depths of the leaves: those places of a depth that are not inner nodes.
	places, depth := 1, uint32(0)
	for inner, to := n-2, n-1; places > 0; depth++ {
		used := 0
		for inner >= 0 && a[inner] == depth {
			used++
			inner--
		}
		for ; places > used; places-- {
			a[to] = depth
			to--
		}
		places = 2 * used
	}
}

// limitLengths changes the counts of lengths to those of a complete code, after longer codes were
// shortened to the limit.
func limitLengths(count []uint16, limit int) {
	total := 0
	for n := 1; n <= limit; n++ {
		total += int(count[n]) << (limit - n)
	}
	for ; total > 1<<limit; total-- {
		// Remove one of the longest codes, and replace a shorter code by two codes that are one bit
		// longer: for its symbol and for that of the removed code.
		count[limit]--
		for n := limit - 1; n > 0; n-- {
			if count[n] > 0 {
				count[n]--
				count[n+1] += 2
				break
			}
		}
	}
}

// buildHeader computes the header and returns its size in bits.
func (h *huffman) buildHeader() int {
	h.lits, h.dists = numSymbols, numDistSymbols
	for h.lits > 257 && h.lens[h.lits-1] == 0 {
		h.lits--
	}
	for h.dists > 1 && h.lens[numSymbols+h.dists-1] == 0 {
		h.dists--
	}
	clear(h.tokenFreq[:])
	h.numTokens = 0
	h.repeats(h.lens[:h.lits])
	h.repeats(h.lens[numSymbols : numSymbols+h.dists])
	h.codeLengths(h.tokenFreq[:], h.tokenLens[:], lensBits)
	h.first = numLens
	for h.first > 4 && h.tokenLens[lensOrder[h.first-1]] == 0 {
		h.first--
	}
	size := 3 + 14 + 3*h.first
	for i, n := range h.tokenFreq[:] {
		size += int(n) * (int(h.tokenLens[i]) + tokenExtra(i))
	}
	return size
}

// tokenExtra returns the number of the extra bits of a symbol of the code length code.
func tokenExtra(symbol int) int {
	switch symbol {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	}
	return 0
}

// repeats adds the tokens for the lengths of codes.
func (h *huffman) repeats(lens []uint8) {
	for i := 0; i < len(lens); {
		value := lens[i]
		run := 1
		for i+run < len(lens) && lens[i+run] == value {
			run++
		}
		i += run
		if value != 0 {
			h.token(int(value), 0)
			run--
		}
		for run > 0 {
			n := 1
			switch {
			case value == 0 && run >= 11:
				n = min(run, 138)
				h.token(18, n-11)
			case value == 0 && run >= 3:
				n = run
				h.token(17, n-3)
			case value != 0 && run >= 3:
				n = min(run, 6)
				h.token(16, n-3)
			default:
				h.token(int(value), 0)
			}
			run -= n
		}
	}
}

func (h *huffman) token(symbol, extra int) {
	h.tokens[h.numTokens] = uint16(symbol | extra<<5)
	h.numTokens++
	h.tokenFreq[symbol]++
}

// writeHeader writes the header of the block.
func (h *huffman) writeHeader(w *bitBuffer) {
	w.put(4, 3)
	w.put(uint64(h.lits-257), 5)
	w.put(uint64(h.dists-1), 5)
	w.put(uint64(h.first-4), 4)
	w.flush()
	for _, symbol := range lensOrder[:h.first] {
		w.put(uint64(h.tokenLens[symbol]), 3)
		w.flush()
	}
	var codes [numLens]code
	canonical(codes[:], h.tokenLens[:])
	for _, t := range h.tokens[:h.numTokens] {
		c := codes[t&31]
		w.put(c.bits(), c.len())
		w.put(uint64(t>>5), uint(tokenExtra(int(t&31))))
		w.flush()
	}
}

// reversed returns the n lowest bits of v in the opposite order.
func reversed(v, n int) int { return int(bits.Reverse16(uint16(v)) >> (16 - n)) }
