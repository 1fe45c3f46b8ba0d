//go:build !purego

package websocket

// utf8Wrong is how two bytes in a row can break UTF-8: each line a range for the
// one, a range for the other, and a bit. Together they are all there is to the
// syntax at utf8Grammar but for the third and the fourth byte of a character:
// whether two tail bytes in a row are too many depends on what is in front of
// them, which utf8Blocks looks at.
//
// A byte is looked up by its halves, so what a bit stands for must be a set of
// high halves of the first byte, combined with any of a set of low halves, and any
// of a set of high halves of the second. Two lines can share a bit when that adds
// no pair that neither has.
var utf8Wrong = []struct {
	low1, high1 byte
	low2, high2 byte
	bit         byte
}{
	{0xC0, 0xFF, 0x00, 0x7F, 1 << 0}, // too short: a lead byte wants a tail byte
	{0xC0, 0xFF, 0xC0, 0xFF, 1 << 0}, // the same
	{0x00, 0x7F, 0x80, 0xBF, 1 << 1}, // too long: a tail byte without a lead byte
	{0xC0, 0xC1, 0x80, 0xBF, 1 << 2}, // overlong in two bytes
	{0xE0, 0xE0, 0x80, 0x9F, 1 << 3}, // overlong in three bytes
	{0xED, 0xED, 0xA0, 0xBF, 1 << 4}, // surrogates
	{0xF4, 0xFF, 0x90, 0xBF, 1 << 5}, // too large: beyond U+10FFFF
	{0xF5, 0xFF, 0x80, 0x8F, 1 << 6}, // the same
	{0xF0, 0xF0, 0x80, 0x8F, 1 << 6}, // overlong in four bytes
	{0x80, 0xBF, 0x80, 0xBF, utf8TwoTails},
}

// utf8TwoTails is right where a third or a fourth byte belongs, and wrong elsewhere.
const utf8TwoTails = 1 << 7

// utf8Halves has the bits of utf8Wrong for the high half of the first byte, the low
// half of the first byte, and the high half of the second. What all three have in
// common is wrong with the two bytes.
type utf8Halves [3][16]byte

var utf8Lookup = utf8LookupTable()

func utf8LookupTable() (t utf8Halves) {
	for _, wrong := range utf8Wrong {
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

// utf8Before is how far back a byte can depend on others: the fourth of a character
// on the first.
const utf8Before = 3

// utf8Blocks reports whether nothing in b[utf8Before:] is wrong, given the bytes in
// front of it; that b ends within a character is not. It takes 32 bytes behind the
// first three or more, and needs AVX2.
//
//go:noescape
func utf8Blocks(b []byte, t *utf8Halves) bool

// checkBlocks is check by utf8Blocks, for as many bytes as that takes.
//
// The first three bytes go through the states, which know what the piece before
// ended with. Any character that goes on behind them has its lead byte among them,
// so from there on the text itself is all that utf8Blocks has to know.
func (u *utf8Checker) checkBlocks(b []byte) bool {
	state := uint64(u.state)
	for _, x := range b[:utf8Before] {
		state = utf8Rows[x] >> (state & 63)
	}
	valid := state&63 != utf8Invalid
	for valid && len(b) > 2*maxBlocks {
		valid = utf8Blocks(b[:maxBlocks], &utf8Lookup)
		b = b[maxBlocks-utf8Before:]
	}
	if !valid || !utf8Blocks(b, &utf8Lookup) {
		u.state = utf8Invalid
		return false
	}
	// If b ends within a character, that begins with the last byte that is no tail
	// byte. Three tail bytes are the end of a character of four.
	u.state = utf8Between
	for i := len(b) - 1; i >= len(b)-utf8Before; i-- {
		if b[i]&0xC0 != 0x80 {
			return u.check(b[i:])
		}
	}
	return true
}
