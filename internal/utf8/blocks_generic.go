//go:build !amd64 || purego

package utf8

// checkBlocks is never called, because cpu.HasAVX2 is false.
func (c *Checker) checkBlocks([]byte) bool { return false }
