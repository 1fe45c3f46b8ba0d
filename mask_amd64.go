//go:build !purego

package websocket

// maskBlocks masks the 32 bytes or more of b with word, the key twice over. It needs
// AVX2.
//
//go:noescape
func maskBlocks(b []byte, word uint64)
