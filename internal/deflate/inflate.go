package deflate

import "encoding/binary"

// A stream is what one call of the Decoder works on.
type stream struct {
	src  []byte
	next int // the next byte of src

	out     []byte
	pos     int   // where the next byte of out goes
	start   int   // where the bytes of the message begin in out
	history int64 // how many bytes of the message were before them; the last ones are in the window
}

// A step is a place in a block where the input may end.
type step uint8

const (
	stepHeader  step = iota // before the three bits of a header
	stepSize                // before LEN and NLEN of a stored block
	stepStored              // in the bytes of a stored block
	stepCounts              // before HLIT, HDIST and HCLEN
	stepLengths             // before a code length of the code length code
	stepCodes               // before a code length of the other codes
	stepSymbols             // before a literal or a length, or inside of a match
)

// A status is the reason why the Decoder stops.
type status uint8

const (
	needsInput status = iota
	needsRoom
	complete // the end of the message
	proceed  // this step is done
)

// run inflates s.src until it is used up or s.out is full. reason says what is wrong with the data,
// "" if nothing is.
func (d *Decoder) run(s *stream) (got status, reason string) {
	for {
		switch d.step {
		case stepHeader:
			got, reason = d.blockHeader(s)
		case stepSize:
			got, reason = d.storedSize(s)
		case stepStored:
			got = d.stored(s)
		case stepCounts:
			got, reason = d.counts(s)
		case stepLengths:
			got, reason = d.codeLengths(s)
		case stepCodes:
			got, reason = d.symbolLengths(s)
		case stepSymbols:
			got, reason = d.symbols(s)
		}
		if got != proceed || reason != "" {
			return got, reason
		}
	}
}

// fill takes bytes of the input until there are k bits, or 56 and more if they are there.
func (d *Decoder) fill(s *stream, k uint) bool {
	if d.nbits >= k {
		return true
	}
	for d.nbits < 56 && s.next < len(s.src) {
		d.bits |= uint64(s.src[s.next]) << d.nbits
		d.nbits += 8
		s.next++
	}
	return d.nbits >= k
}

// take removes k bits and returns them.
func (d *Decoder) take(k uint) int {
	v := d.bits & (1<<k - 1)
	d.bits >>= k
	d.nbits -= k
	return int(v)
}

func (d *Decoder) blockHeader(s *stream) (status, string) {
	if !d.fill(s, 3) {
		return needsInput, ""
	}
	d.final = d.take(1) == 1
	switch d.take(2) {
	case 0:
		d.take(d.nbits % 8)
		d.step = stepSize
	case 1:
		fixed := &constants().fixed
		d.lit, d.codes = &fixed.lit, &fixed.dist
		d.step = stepSymbols
	case 2:
		d.step = stepCounts
	default:
		return proceed, "a block has the reserved type 3"
	}
	return proceed, ""
}

// endBlock ends a block. After one with BFINAL, the next block begins with the next byte (RFC 7692
// section 7.2.1).
func (d *Decoder) endBlock() status {
	if d.final {
		d.take(d.nbits % 8)
	}
	d.step = stepHeader
	return proceed
}

func (d *Decoder) storedSize(s *stream) (status, string) {
	if !d.fill(s, 32) {
		return needsInput, ""
	}
	d.length = d.take(16)
	if d.take(16) != d.length^0xffff {
		return proceed, "the length of a stored block does not match its complement"
	}
	d.step = stepStored
	return proceed, ""
}

func (d *Decoder) stored(s *stream) status {
	for d.length > 0 && d.nbits > 0 && s.pos < len(s.out) {
		s.out[s.pos] = byte(d.take(8))
		s.pos++
		d.length--
	}
	if d.nbits == 0 {
		n := copy(s.out[s.pos:], s.src[s.next:min(len(s.src), s.next+d.length)])
		s.pos += n
		s.next += n
		d.length -= n
	}
	switch {
	case d.length == 0:
		return d.endBlock()
	case s.pos == len(s.out):
		return needsRoom
	}
	return needsInput
}

// symbols decodes the symbols of a block.
func (d *Decoder) symbols(s *stream) (status, string) {
	if d.length > 0 && !d.copyMatch(s) {
		return needsRoom, ""
	}
	for {
		if len(s.src)-s.next >= 8 && len(s.out)-s.pos >= fastRoom {
			d.fast(s)
		}
		if got, reason := d.symbol(s); got != proceed || d.step != stepSymbols {
			return got, reason
		}
	}
}

// symbol decodes one symbol, with all checks. If the input ends inside of it, its bits stay where
// they are, because the 48 bits of the longest symbol fit into d.bits.
func (d *Decoder) symbol(s *stream) (status, string) {
	d.fill(s, 48)
	e, skip := lookup(d.lit[:], d.bits, litBits)
	used := skip + e.bits()
	if used > d.nbits {
		return needsInput, ""
	}
	switch {
	case e&isLiteral != 0:
		if s.pos == len(s.out) {
			return needsRoom, ""
		}
		s.out[s.pos] = e.literal()
		s.pos++
		d.take(used)
		return proceed, ""
	case e&isSpecial == 0:
	case e&isEnd != 0:
		d.take(used)
		return d.endBlock(), ""
	default:
		return needsRoom, "a block has a literal or length code that does not exist"
	}

	length := e.value(d.bits >> skip)
	f, skip := lookup(d.codes[:], d.bits>>used, distBits)
	if used+skip+f.bits() > d.nbits {
		return needsInput, ""
	}
	if f&isSpecial != 0 {
		return needsRoom, "a block has a distance code that does not exist"
	}
	d.dist = f.value(d.bits >> (used + skip))
	if int64(d.dist) > int64(s.pos-s.start)+s.history {
		return needsRoom, "a distance goes beyond the beginning of the message"
	}
	d.take(used + skip + f.bits())
	d.length = length
	if !d.copyMatch(s) {
		return needsRoom, ""
	}
	return proceed, ""
}

// copyMatch copies the match, or as much of it as there is room for. It returns whether it is
// complete.
func (d *Decoder) copyMatch(s *stream) bool {
	for d.length > 0 && s.pos < len(s.out) {
		p := s.out[s.pos:min(len(s.out), s.pos+d.length)]
		var n int
		if behind := d.dist - (s.pos - s.start); behind > 0 {
			n = d.window.copyTo(p, behind)
		} else {
			n = len(p)
			copyLong(p, s.out[s.pos-d.dist:], d.dist)
		}
		s.pos += n
		d.length -= n
	}
	return d.length == 0
}

// fastRoom is the room for literals that Decoder.fast needs: at most 16 literals, with codes of one
// bit, between two checks.
const fastRoom = 16

// fast decodes symbols as long as that is possible without the checks of symbol. It stops before
// the end of the block and before unusual symbols, and leaves these to symbol.
func (d *Decoder) fast(s *stream) {
	lit, codes := d.lit, d.codes
	src, next := s.src, s.next
	out, pos := s.out, s.pos
	bits, n := d.bits, d.nbits

loop:
	for len(src)-next >= 8 && len(out)-pos >= fastRoom {
		// Take as many whole bytes as there is room for. The bits above the first n belong to bytes
		// that the next round takes. It sets them again to the same values.
		bits |= binary.LittleEndian.Uint64(src[next:]) << (n & 63)
		next += int((63 - n) >> 3)
		n |= 56

		e := lit[bits&(1<<litBits-1)]
		for e&isLiteral != 0 {
			out[pos] = e.literal()
			pos++
			bits >>= e & 63
			n -= uint(e & 63)
			if n < 48 {
				continue loop
			}
			e = lit[bits&(1<<litBits-1)]
		}

		b, left := bits, n
		if e&isSubtable != 0 {
			b, left = b>>litBits, left-litBits
			e = lit[e.subtable(b)]
		}
		if e&(isSpecial|isLiteral) != 0 {
			break
		}
		length := e.value(b)
		b, left = b>>(e&63), left-uint(e&63)

		f := codes[b&(1<<distBits-1)]
		if f&isSubtable != 0 {
			b, left = b>>distBits, left-distBits
			f = codes[f.subtable(b)]
		}
		dist := f.value(b)
		if f&isSpecial != 0 || dist > pos-s.start || length+16 > len(out)-pos {
			break
		}
		bits, n = b>>(f&63), left-uint(f&63)
		from, to := out[pos-dist:], out[pos:pos+length+16]
		pos += length
		if dist < 8 || length > 64 {
			copyLong(to[:length], from, dist)
			continue
		}
		// Most matches have at most 16 bytes, so that many are copied without a branch.
		binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(from))
		binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(from[8:]))
		for i := 16; i < length; i += 8 {
			binary.LittleEndian.PutUint64(to[i:], binary.LittleEndian.Uint64(from[i:]))
		}
	}
	d.bits, d.nbits = bits&(1<<n-1), n
	s.next, s.pos = next, pos
}

// copyLong copies a match to the slice to, which begins dist bytes after from in the same array. If
// the match overlaps itself, its source grows with each copy.
func copyLong(to, from []byte, dist int) {
	for n := 0; n < len(to); {
		n += copy(to[n:], from[:dist+n])
	}
}
