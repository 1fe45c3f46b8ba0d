//go:build !purego

package mask

// xorBlocks masks b with word, which holds the key twice. b has at least 32 bytes.
// xorBlocks needs AVX2.
//
//go:noescape
func xorBlocks(b []byte, word uint64)

// copyBlocks writes src, masked with word, to dst. Both have the same length, of at least 32 bytes,
// and do not overlap. copyBlocks needs AVX2.
//
//go:noescape
func copyBlocks(dst, src []byte, word uint64)
