//go:build !purego

package utf8

// wrongPairs lists how two bytes in a row can break UTF-8. Each line has a range for
// the first byte, a range for the second, and a bit. The lines cover all of the
// grammar except the third and the fourth byte of a character: whether a tail byte
// after a tail byte is wrong depends on the bytes before them, so validBlocks checks
// that separately.
//
// A byte is looked up by its halves. The pairs that share a bit must therefore be all
// combinations of some high halves and some low halves of the first byte with some
// high halves of the second byte. Two lines can share a bit if the combinations add
// no pair that is in neither line.
var wrongPairs = []struct {
	low1, high1 byte
	low2, high2 byte
	bit         byte
}{
	{0xC0, 0xFF, 0x00, 0x7F, 1 << 0}, // too short: a lead byte needs a tail byte
	{0xC0, 0xFF, 0xC0, 0xFF, 1 << 0}, // the same
	{0x00, 0x7F, 0x80, 0xBF, 1 << 1}, // too long: a tail byte without a lead byte
	{0xC0, 0xC1, 0x80, 0xBF, 1 << 2}, // overlong in two bytes
	{0xE0, 0xE0, 0x80, 0x9F, 1 << 3}, // overlong in three bytes
	{0xED, 0xED, 0xA0, 0xBF, 1 << 4}, // surrogates
	{0xF4, 0xFF, 0x90, 0xBF, 1 << 5}, // too large: beyond U+10FFFF
	{0xF5, 0xFF, 0x80, 0x8F, 1 << 6}, // the same
	{0xF0, 0xF0, 0x80, 0x8F, 1 << 6}, // overlong in four bytes
	{0x80, 0xBF, 0x80, 0xBF, twoTails},
}

// twoTails marks a tail byte after a tail byte. That is right where a third or a
// fourth byte belongs, and wrong elsewhere.
const twoTails = 1 << 7

// halves has the bits of wrongPairs for the high half of the first byte, for the low
// half of the first byte, and for the high half of the second byte. A bit that is set
// in all three shows how the two bytes are wrong.
type halves [3][16]byte

var wrongHalves = makeHalves()

func makeHalves() (t halves) {
	for _, wrong := range wrongPairs {
		for b := int(wrong.low1); b <= int(wrong.high1); b++ {
			t[0][b>>4] |= wrong.bit
			t[1][b&15] |= wrong.bit
		}
		for b := int(wrong.low2); b <= int(wrong.high2); b++ {
			t[2][b>>4] |= wrong.bit
		}
	}
	return t
}

// lookBack is how many bytes before a byte can decide whether it is valid: the fourth
// byte of a character depends on the first.
const lookBack = 3

// maxBlocks limits how many bytes one call of validBlocks gets, because assembly
// cannot be preempted and the garbage collector waits for it when it stops the world.
// The last call gets up to twice as many, so that the rest is never too short for
// validBlocks.
const maxBlocks = 1 << 20

// validBlocks reports whether all bytes of b[lookBack:] are valid after the bytes
// before them. b may end inside a character. It has at least 32 bytes after the
// first three. validBlocks needs AVX2.
//
//go:noescape
func validBlocks(b []byte, t *halves) bool

// checkBlocks is Check for text that is long enough for validBlocks.
//
// The states check the first three bytes, because c.state shows how the last piece ended.
// A character that continues after those bytes has its lead byte among them. So
// validBlocks needs only the text itself.
func (c *Checker) checkBlocks(b []byte) bool {
	state := uint64(c.state)
	for _, x := range b[:lookBack] {
		state = transitions[x] >> (state & 63)
	}
	valid := state&63 != invalid
	for valid && len(b) > 2*maxBlocks {
		valid = validBlocks(b[:maxBlocks], &wrongHalves)
		b = b[maxBlocks-lookBack:]
	}
	if !valid || !validBlocks(b, &wrongHalves) {
		c.state = invalid
		return false
	}
	// If b ends inside a character, the last byte that is not a tail byte begins that
	// character. If the last three bytes are tail bytes, they end a character of four.
	c.state = between
	for i := len(b) - 1; i >= len(b)-lookBack; i-- {
		if b[i]&0xC0 != 0x80 {
			return c.Check(b[i:])
		}
	}
	return true
}
