package websocket

import "encoding/binary"

// ValidUTF8 reports whether b is valid UTF-8 as RFC 3629 has it.
func ValidUTF8(b []byte) bool {
	var c utf8Checker
	return c.check(b) && c.complete()
}

const (
	utf8Between = 6 * iota
	utf8Tail1
	utf8Tail2
	utf8Tail3
	utf8AfterE0
	utf8AfterED
	utf8AfterF0
	utf8AfterF4
	utf8Invalid
)

var utf8Grammar = []struct {
	from   int
	lo, hi byte
	to     int
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

var utf8Rows = func() (rows [256]uint64) {
	for b := range rows {
		for state := utf8Between; state <= utf8Invalid; state += 6 {
			rows[b] |= utf8Invalid << state
		}
	}
	for _, rule := range utf8Grammar {
		for b := int(rule.lo); b <= int(rule.hi); b++ {
			rows[b] ^= uint64(utf8Invalid^rule.to) << rule.from
		}
	}
	return rows
}()

// A utf8Checker checks text that comes in pieces. The zero value is at the start.
type utf8Checker struct {
	state uint64
}

// complete reports whether the text so far does not end within a character.
func (c *utf8Checker) complete() bool { return c.state == utf8Between }

// check reports whether the text can still be valid with b behind what came before.
func (c *utf8Checker) check(b []byte) bool {
	state := c.state
	for len(b) >= 32 {
		if state&63 == utf8Between {
			w := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
				binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
			if w&0x8080808080808080 == 0 {
				b = b[32:]
				continue
			}
		}
		for i := 0; i < 32; i += 8 {
			state = utf8Rows[b[i]] >> (state & 63)
			state = utf8Rows[b[i+1]] >> (state & 63)
			state = utf8Rows[b[i+2]] >> (state & 63)
			state = utf8Rows[b[i+3]] >> (state & 63)
			state = utf8Rows[b[i+4]] >> (state & 63)
			state = utf8Rows[b[i+5]] >> (state & 63)
			state = utf8Rows[b[i+6]] >> (state & 63)
			state = utf8Rows[b[i+7]] >> (state & 63)
		}
		b = b[32:]
	}
	for _, x := range b {
		state = utf8Rows[x] >> (state & 63)
	}
	c.state = state & 63
	return c.state != utf8Invalid
}
