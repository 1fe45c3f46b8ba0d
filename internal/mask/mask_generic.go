//go:build !amd64 || purego

package mask

// xorBlocks is never called, because cpu.HasAVX2 is false.
func xorBlocks([]byte, uint64) {}

// copyBlocks is never called either.
func copyBlocks(_, _ []byte, _ uint64) {}
