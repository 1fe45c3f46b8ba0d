package deflate

// A header holds what has been read so far about the codes of a block of type 2 (RFC 1951 section
// 3.2.7).
type header struct {
	lits, dists int      // how many code lengths of each kind there are
	lens        int      // how many lengths of the code length code there are
	have        int      // how many lengths have been read
	last        uint8    // the last of them, which may be repeated
	codes       codeLens // before stepCodes, the lengths of the code length code, in the place of those of literals
	build       buildMemory
}

// lensBits is the length of the longest code of the code length code.
const lensBits = 7

// lensOrder is the order of the lengths of the code length code.
var lensOrder = [numLens]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (d *Decoder) counts(s *stream) (status, string) {
	if !d.fill(s, 14) {
		return needsInput, ""
	}
	h := &d.header
	h.lits, h.dists, h.lens = d.take(5)+257, d.take(5)+1, d.take(4)+4
	if h.lits > 286 || h.dists > 30 {
		return proceed, "a block has too many codes"
	}
	h.have = 0
	clear(h.codes.coded[:])
	d.step = stepLengths
	return proceed, ""
}

func (d *Decoder) codeLengths(s *stream) (status, string) {
	h := &d.header
	for ; h.have < h.lens; h.have++ {
		if !d.fill(s, 3) {
			return needsInput, ""
		}
		h.codes.set(int(lensOrder[h.have]), uint8(d.take(3)))
	}
	// The table of the distances is free until the last step, and large enough.
	coded, lens := h.codes.lits()
	if build(d.own.dist[:], lensBits, coded, lens, constants().lenSymbols[:], &h.build) != fitComplete {
		return proceed, "a block has an invalid code length code"
	}
	clear(h.codes.coded[:])
	h.have = 0
	d.step = stepCodes
	return proceed, ""
}

func (d *Decoder) symbolLengths(s *stream) (status, string) {
	h := &d.header
	all := h.lits + h.dists
	for h.have < all {
		d.fill(s, lensBits+7)
		e := d.own.dist[d.bits&(1<<lensBits-1)]
		if e.bits() > d.nbits {
			return needsInput, ""
		}
		symbol := e.literal()
		if symbol < 16 {
			d.take(e.bits())
			h.add(symbol)
			continue
		}
		extra, least, value := uint(7), 11, uint8(0)
		switch symbol {
		case 16:
			if h.have == 0 {
				return proceed, "a block repeats a code length before the first one"
			}
			extra, least, value = 2, 3, h.last
		case 17:
			extra, least = 3, 3
		}
		if e.bits()+extra > d.nbits {
			return needsInput, ""
		}
		d.take(e.bits())
		n := least + d.take(extra)
		if h.have+n > all {
			return proceed, "a block has more code lengths than codes"
		}
		h.last = value
		if value == 0 {
			h.have += n
			continue
		}
		for ; n > 0; n-- {
			h.add(value)
		}
	}
	return d.buildCodes()
}

// add adds the next length.
func (h *header) add(n uint8) {
	i := h.have
	if i >= h.lits {
		i += firstDist - h.lits
	}
	h.codes.set(i, n)
	h.last = n
	h.have++
}

// buildCodes builds the tables of a block. It accepts what zlib accepts: each code is complete, or
// has a single symbol of one bit. A block without matches may have no distance code at all.
func (d *Decoder) buildCodes() (status, string) {
	h, c := &d.header, constants()
	if !h.codes.has(256) {
		return proceed, "a block has no code for its end"
	}
	coded, lens := h.codes.lits()
	if f := build(d.own.lit[:], litBits, coded, lens, c.litSymbols[:], &h.build); f > fitSingle {
		return proceed, "a block has an invalid literal and length code"
	}
	coded, lens = h.codes.dists()
	if f := build(d.own.dist[:], distBits, coded, lens, c.distSymbols[:], &h.build); f > fitEmpty {
		return proceed, "a block has an invalid distance code"
	}
	d.lit, d.codes = &d.own.lit, &d.own.dist
	d.step = stepSymbols
	return proceed, ""
}
