//go:build !purego

package cpu

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The kernel lists avx2 only if the processor has it and the kernel saves its
// registers.
func TestHasAVX2_agrees_with_the_kernel(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	_, flags, found := strings.Cut(string(info), "\nflags")
	if !found {
		t.Skip("/proc/cpuinfo has no flags")
	}
	flags, _, _ = strings.Cut(flags, "\n")
	if want := slices.Contains(strings.Fields(flags), "avx2"); HasAVX2 != want {
		t.Errorf("got %v, want %v; the processor's flags%s", HasAVX2, want, flags)
	}
}
