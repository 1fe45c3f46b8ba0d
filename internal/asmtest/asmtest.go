// Package asmtest helps to test the packages that have assembly. Both mask and utf8
// must be tested with and without AVX2, and on memory that ends where their data
// ends. The package is imported by tests only.
package asmtest

import (
	"testing"

	"github.com/f44ffc3b/websocket/internal/cpu"
)

// WithAndWithoutAVX2 runs test twice: with AVX2 and without. On a processor without
// AVX2, the first run is skipped.
func WithAndWithoutAVX2(t *testing.T, test func(t *testing.T)) {
	t.Run("AVX2", func(t *testing.T) {
		if !cpu.HasAVX2 {
			t.Skip("no AVX2")
		}
		test(t)
	})
	t.Run("no AVX2", func(t *testing.T) {
		UseAVX2(t, false)
		test(t)
	})
}
