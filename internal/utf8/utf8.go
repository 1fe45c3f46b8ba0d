// Package utf8 checks UTF-8 text that arrives in pieces. The standard library's package
// unicode/utf8 checks only complete text.
package utf8

import (
	"encoding/binary"

	"github.com/f44ffc3b/websocket/internal/cpu"
)

// Valid reports whether b is valid UTF-8 (RFC 3629). Surrogates, overlong forms and
// values beyond U+10FFFF are invalid, and so is text that ends inside a character.
func Valid(b []byte) bool {
	var c Checker
	return c.Check(b) && c.Complete()
}

// A Checker checks text that arrives in pieces, which may be cut anywhere. The zero
// value is ready to use. A copy continues from the same place as the original.
type Checker struct {
	state uint8
}

// Complete reports whether the text so far ends between two characters. It is false
// for invalid text.
func (c *Checker) Complete() bool { return c.state == between }

// The states of a Checker. Each is a shift amount, and they are six bits apart,
// because a row of transitions packs the next states into one word.
const (
	between = 6 * iota // no character is unfinished
	tail1              // one more byte of 80 to BF
	tail2              // two more
	tail3              // three more
	afterE0            // the second byte is restricted: no overlong forms
	afterED            // no surrogates
	afterF0            // no overlong forms
	afterF4            // nothing beyond U+10FFFF
	invalid            // no byte leads out of this state
	rowBits            // how many bits of a row are used
)

// grammar is the syntax of RFC 3629 section 4. Every transition that it does not list
// leads to invalid.
var grammar = []struct {
	from      int
	low, high byte
	to        int
}{
	{between, 0x00, 0x7F, between},
	{between, 0xC2, 0xDF, tail1},
	{between, 0xE0, 0xE0, afterE0},
	{between, 0xE1, 0xEC, tail2},
	{between, 0xED, 0xED, afterED},
	{between, 0xEE, 0xEF, tail2},
	{between, 0xF0, 0xF0, afterF0},
	{between, 0xF1, 0xF3, tail3},
	{between, 0xF4, 0xF4, afterF4},
	{tail1, 0x80, 0xBF, between},
	{tail2, 0x80, 0xBF, tail1},
	{tail3, 0x80, 0xBF, tail2},
	{afterE0, 0xA0, 0xBF, tail1},
	{afterED, 0x80, 0x9F, tail1},
	{afterF0, 0x90, 0xBF, tail2},
	{afterF4, 0x80, 0x8F, tail2},
}

// transitions has a row for each byte. The row holds the next state for every state:
// after a shift to the right by the state, its low six bits are the next state.
//
// A step is then one load and one shift. Only the shift waits for the step before,
// because the row depends on the byte alone. In a table that is indexed by the state,
// every load would wait for the load before.
var transitions = makeTransitions()

func makeTransitions() (rows [256]uint64) {
	for b := range rows {
		for state := between; state < rowBits; state += 6 {
			rows[b] |= invalid << state
		}
	}
	for _, rule := range grammar {
		for b := int(rule.low); b <= int(rule.high); b++ {
			rows[b] ^= uint64(invalid^rule.to) << rule.from
		}
	}
	return rows
}

// step returns the state after four bytes. The bits above the low six of the result
// have no meaning. The mask in each shift is free, because the processor's shift
// instruction masks its operand too. With more than four bytes, the compiler would
// not inline step.
func step(state uint64, b *[4]byte) uint64 {
	state = transitions[b[0]] >> (state & 63)
	state = transitions[b[1]] >> (state & 63)
	state = transitions[b[2]] >> (state & 63)
	return transitions[b[3]] >> (state & 63)
}

// blocksFrom is the length from which a call of checkBlocks is faster than the states.
// blocksFromASCII is that length for text that is all ASCII. checkBlocks takes a seventh
// of the time of the states (BenchmarkChecker). For an
// echo over TCP of 64 KiB that are not ASCII, it cuts the server's whole time to a
// third, including the kernel's work.
const (
	blocksFrom      = 48
	blocksFromASCII = 1 << 10
)

// notASCII has the bits that are zero in eight bytes of ASCII.
const notASCII = 0x8080808080808080

// Check adds b to the text and reports whether the text can still become valid. It
// returns false as soon as b has a byte that no later byte can make valid, even if
// that byte is inside an unfinished character. From then on it always returns false.
//
// Check uses the fastest way for each part of the text. Between characters, one test
// skips 16 bytes of ASCII, and after those, one test skips 32. From the first other
// byte on, checkBlocks does the rest if the processor has AVX2 and the rest is long
// enough. Otherwise the states take 16 bytes at a time. Text with few accents then
// skips most of its bytes as ASCII, and text in another script has no branch for each
// character.
func (c *Checker) Check(b []byte) bool {
	if len(b) >= blocksFromASCII && cpu.HasAVX2 {
		return c.checkBlocks(b)
	}
	state := uint64(c.state)
	// Slicing from the front is cheaper if the compiler knows that the capacity
	// shrinks with the length, and that the result is not empty (hence > 32).
	b = b[:len(b):len(b)]
	for len(b) > 32 {
		if state&63 == between && (word(b, 0)|word(b, 8))&notASCII == 0 {
			b = b[16:]
			for len(b) > 32 && (word(b, 0)|word(b, 8)|word(b, 16)|word(b, 24))&notASCII == 0 {
				b = b[32:]
			}
			continue
		}
		if len(b) >= blocksFrom && cpu.HasAVX2 {
			// c.state is still right here, because all bytes so far were skipped:
			// this loop takes steps only if checkBlocks is not used.
			return c.checkBlocks(b)
		}
		if state&63 == invalid {
			c.state = invalid
			return false
		}
		state = step(state, (*[4]byte)(b))
		state = step(state, (*[4]byte)(b[4:]))
		state = step(state, (*[4]byte)(b[8:]))
		state = step(state, (*[4]byte)(b[12:]))
		b = b[16:]
	}
	for ; len(b) >= 8; b = b[8:] {
		if state&63 == between && word(b, 0)&notASCII == 0 {
			continue
		}
		state = step(state, (*[4]byte)(b))
		state = step(state, (*[4]byte)(b[4:]))
	}
	for _, x := range b {
		state = transitions[x] >> (state & 63)
	}
	c.state = uint8(state & 63)
	return c.state != invalid
}

func word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
