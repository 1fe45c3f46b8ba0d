//go:build !purego

package mask

// xorBlocks masks b with word, which holds the key twice. b has at least 32 bytes.
// xorBlocks needs AVX2.
//
//go:noescape
func xorBlocks(b []byte, word uint64)
