//go:build !amd64 || purego

package websocket

// Without AVX2 there are no blocks, so none of this is called.
const hasAVX2 = false

func (u *utf8Checker) checkBlocks([]byte) bool { return false }

func maskBlocks([]byte, uint64) {}
