package websocket

import "encoding/binary"

// ValidUTF8 reports whether b is valid UTF-8: RFC 3629, which RFC 6455 section
// 8.1 demands of text. Surrogates, overlong forms and what is beyond U+10FFFF
// are not, nor is a character that b ends within.
func ValidUTF8(b []byte) bool {
	var u utf8Checker
	return u.check(b) && u.complete()
}

// A utf8Checker checks text that comes in pieces, which may be cut anywhere. The
// zero value is ready.
type utf8Checker struct {
	state uint8
}

// complete reports whether the text so far does not end within a character.
func (u *utf8Checker) complete() bool { return u.state == utf8Between }

// The states of a checker. Each is a shift amount, six bits apart, for the reason
// at utf8Rows.
const (
	utf8Between = 6 * iota // no character is unfinished
	utf8Tail1              // one more byte of 80 to BF
	utf8Tail2
	utf8Tail3
	utf8AfterE0 // the second byte is restricted: no overlong forms
	utf8AfterED // no surrogates
	utf8AfterF0 // no overlong forms
	utf8AfterF4 // nothing beyond U+10FFFF
	utf8Invalid // for good
	utf8End     // how many bits of a row are used
)

// utf8Grammar is the syntax of RFC 3629 section 4. What it does not list leads to
// utf8Invalid.
var utf8Grammar = []struct {
	from      int
	low, high byte
	to        int
}{
	{utf8Between, 0x00, 0x7F, utf8Between},
	{utf8Between, 0xC2, 0xDF, utf8Tail1},
	{utf8Between, 0xE0, 0xE0, utf8AfterE0},
	{utf8Between, 0xE1, 0xEC, utf8Tail2},
	{utf8Between, 0xED, 0xED, utf8AfterED},
	{utf8Between, 0xEE, 0xEF, utf8Tail2},
	{utf8Between, 0xF0, 0xF0, utf8AfterF0},
	{utf8Between, 0xF1, 0xF3, utf8Tail3},
	{utf8Between, 0xF4, 0xF4, utf8AfterF4},
	{utf8Tail1, 0x80, 0xBF, utf8Between},
	{utf8Tail2, 0x80, 0xBF, utf8Tail1},
	{utf8Tail3, 0x80, 0xBF, utf8Tail2},
	{utf8AfterE0, 0xA0, 0xBF, utf8Tail1},
	{utf8AfterED, 0x80, 0x9F, utf8Tail1},
	{utf8AfterF0, 0x90, 0xBF, utf8Tail2},
	{utf8AfterF4, 0x80, 0x8F, utf8Tail2},
}

// utf8Rows holds, for each byte, where it leads from every state: shifted right by
// a state, the low six bits are the next one. That makes a step one load, which
// does not wait for the state before it, and one shift, which alone does. Steps
// through a table that is indexed by the state would each wait for a load.
var utf8Rows = utf8Table()

func utf8Table() (rows [256]uint64) {
	for b := range rows {
		for state := utf8Between; state < utf8End; state += 6 {
			rows[b] |= utf8Invalid << state
		}
	}
	for _, rule := range utf8Grammar {
		for b := int(rule.low); b <= int(rule.high); b++ {
			rows[b] ^= uint64(utf8Invalid^rule.to) << rule.from
		}
	}
	return rows
}

// utf8Step takes state over four bytes. It leaves the bits above the low six as
// they come; the mask in a shift costs nothing, as it is what the processor does.
// Four is as many as the compiler still inlines.
func utf8Step(state uint64, b *[4]byte) uint64 {
	state = utf8Rows[b[0]] >> (state & 63)
	state = utf8Rows[b[1]] >> (state & 63)
	state = utf8Rows[b[2]] >> (state & 63)
	return utf8Rows[b[3]] >> (state & 63)
}

// The shortest text that pays for the call of checkBlocks, and the shortest that
// does even if all of it is ASCII. Blocks take a seventh of the time of the states
// (BenchmarkUTF8), and people notice: an echo of 64 KiB that is not ASCII, the work
// of the kernel included, costs the server a third of what it did.
const (
	utf8BlocksFrom      = 48
	utf8BlocksFromASCII = 1 << 10
)

// notASCII has the bits that eight bytes of ASCII have not.
const notASCII = 0x8080808080808080

// check reports whether the text can still become valid with b behind all that
// came before: it is false when b has a byte that nothing behind it can make good,
// even within an unfinished character, and for every call after that.
//
// Between characters, 16 bytes of ASCII are skipped with one test, and as long as
// there are more of them, 32. What comes then, checkBlocks takes if the processor
// can do it. Everything else goes through the states by 16 bytes: text with an
// accent here and there then stays out of them for most of its length, and text in
// another script does not pay for a branch per character.
func (u *utf8Checker) check(b []byte) bool {
	if len(b) >= utf8BlocksFromASCII && hasAVX2 {
		return u.checkBlocks(b)
	}
	state := uint64(u.state)
	// Slicing from the front costs less when the capacity is known to shrink with
	// the length, and when the result is known not to be empty (hence > 32).
	b = b[:len(b):len(b)]
	for len(b) > 32 {
		if state&63 == utf8Between && (utf8Word(b, 0)|utf8Word(b, 8))&notASCII == 0 {
			b = b[16:]
			for len(b) > 32 && (utf8Word(b, 0)|utf8Word(b, 8)|utf8Word(b, 16)|utf8Word(b, 24))&notASCII == 0 {
				b = b[32:]
			}
			continue
		}
		if len(b) >= utf8BlocksFrom && hasAVX2 {
			// No step has been taken yet: those are for what is shorter.
			return u.checkBlocks(b)
		}
		if state&63 == utf8Invalid {
			u.state = utf8Invalid
			return false
		}
		state = utf8Step(state, (*[4]byte)(b))
		state = utf8Step(state, (*[4]byte)(b[4:]))
		state = utf8Step(state, (*[4]byte)(b[8:]))
		state = utf8Step(state, (*[4]byte)(b[12:]))
		b = b[16:]
	}
	for ; len(b) >= 8; b = b[8:] {
		if state&63 == utf8Between && utf8Word(b, 0)&notASCII == 0 {
			continue
		}
		state = utf8Step(state, (*[4]byte)(b))
		state = utf8Step(state, (*[4]byte)(b[4:]))
	}
	for _, x := range b {
		state = utf8Rows[x] >> (state & 63)
	}
	u.state = uint8(state & 63)
	return u.state != utf8Invalid
}

func utf8Word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
