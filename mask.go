package websocket

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// Mask masks b in place, or unmasks it, which is the same (RFC 6455 section 5.3).
// pos is where in the payload b starts: pass 0 for the first piece and what Mask
// returned for each next one. Only pos mod 4 counts, and that of the byte behind
// b is returned.
func Mask(b []byte, key [4]byte, pos int) int {
	next := (pos + len(b)) & 3
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word = bits.RotateLeft64(word|word<<32, -8*(pos&3))
	if len(b) >= 512 {
		b = maskBlocks(b, word)
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(word >> (8 * i))
	}
	return next
}

func maskBlocks(b []byte, word uint64) []byte {
	var keys [1024]byte
	n := min(len(b), len(keys)) &^ 7
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(keys[i:], word)
	}
	for len(b) >= n {
		subtle.XORBytes(b, b[:n], keys[:n])
		b = b[n:]
	}
	return b
}
