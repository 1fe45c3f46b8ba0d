// Package mask applies the masking key of a frame to its payload.
package mask

import (
	"encoding/binary"
	"math/bits"

	"github.com/f44ffc3b/websocket/internal/cpu"
)

// XOR masks b in place, or unmasks it, because both are the same operation (RFC 6455
// section 5.3). pos is the position of b[0] in the payload. XOR returns the position
// after b, which is the pos of the next piece. Only pos mod 4 counts, and the
// returned position is from 0 to 3.
func XOR(b []byte, key [4]byte, pos int) int {
	next := (pos + len(b)) & 3
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word = bits.RotateLeft64(word|word<<32, -8*(pos&3))
	if len(b) >= blocksFrom && cpu.HasAVX2 {
		for len(b) > 2*maxBlocks {
			xorBlocks(b[:maxBlocks], word)
			b = b[maxBlocks:]
		}
		xorBlocks(b, word)
		return next
	}
	if len(b) >= 8 {
		xorWords(b, word)
		return next
	}
	for i := range b {
		b[i] ^= byte(word >> (8 * i))
	}
	return next
}

// Copy copies a payload from src to dst, and masks it from position 0 on. dst has the length of src,
// and they do not overlap. With AVX2, the copy costs almost nothing (BenchmarkCopy), because each
// byte is read and written once. A payload for more than one call of assembly is copied first, see
// maxBlocks.
func Copy(dst, src []byte, key [4]byte) {
	if len(src) > maxBlocks || len(src) >= blocksFrom && !cpu.HasAVX2 {
		copy(dst, src)
		XOR(dst, key, 0)
		return
	}
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	switch {
	case len(src) >= blocksFrom:
		copyBlocks(dst, src, word)
	case len(src) >= 8:
		copyWords(dst, src, word)
	default:
		for i := range src {
			dst[i] = src[i] ^ byte(word>>(8*i))
		}
	}
}

// copyWords is copyBlocks for at least 8 bytes, without AVX2. The last word may overlap the word
// before it. xorWords is not a call of it, because a second slice takes a third longer there.
func copyWords(dst, src []byte, word uint64) {
	last := binary.LittleEndian.Uint64(src[len(src)-8:]) ^ bits.RotateLeft64(word, -8*(len(src)&3))
	binary.LittleEndian.PutUint64(dst[len(src)-8:], last)
	for len(src) > 8 && len(dst) > 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^word)
		dst, src = dst[8:], src[8:]
	}
}

// blocksFrom is the length from which xorBlocks is measurably faster than xorWords.
// From 1 KiB on, xorBlocks takes 40 % of the time of xorWords. For an echo of 64 KiB in
// memory, that saves a third of the whole time.
const blocksFrom = 64

// maxBlocks limits how many bytes one call of xorBlocks gets, because assembly cannot
// be preempted and the garbage collector waits for it when it stops the world. The
// last call gets up to twice as many, so that the rest is never too short for
// xorBlocks.
const maxBlocks = 1 << 20

// xorWords masks b with word, which holds the key twice. b has at least 8 bytes.
//
// A loop over four words at a time is the fastest one in Go. At every size that fits
// the processor's cache, it is faster than crypto/subtle.XORBytes, because that
// function needs a block of repeated keys first (BenchmarkXOR measures both).
func xorWords(b []byte, word uint64) {
	// The last word may overlap the word before it, so that no loop over single bytes
	// is needed. It must be loaded before the loops change its bytes.
	last := b[len(b)-8:]
	end := binary.LittleEndian.Uint64(last) ^ bits.RotateLeft64(word, -8*(len(b)&3))
	for len(b) > 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^word)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^word)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^word)
		b = b[32:]
	}
	for len(b) > 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	binary.LittleEndian.PutUint64(last, end)
}
