//go:build !purego

package asmtest

import (
	"testing"

	"github.com/f44ffc3b/websocket/internal/cpu"
)

// UseAVX2 switches AVX2 off, or back on if the processor has it, until the test or
// benchmark ends.
func UseAVX2(tb testing.TB, on bool) {
	was := cpu.HasAVX2
	tb.Cleanup(func() { cpu.HasAVX2 = was })
	cpu.HasAVX2 = on && was
}
