//go:build !purego

package websocket

// hasAVX2 reports whether the processor has AVX2, and an operating system that
// saves the registers it works with.
var hasAVX2 = detectAVX2()

// detectAVX2 is as Intel's manual has it, volume 1, section 14.7.1. The standard
// library's own answer is in a package that nobody else can import.
func detectAVX2() bool {
	const (
		osxsave, avx = 1 << 27, 1 << 28 // leaf 1, ECX
		avx2         = 1 << 5           // leaf 7, EBX
		xmm, ymm     = 1 << 1, 1 << 2   // XCR0: saved when another thread runs
	)
	leaves, _, _ := cpuid(0)
	_, _, ecx := cpuid(1)
	if leaves < 7 || ecx&osxsave == 0 || ecx&avx == 0 || xgetbv()&(xmm|ymm) != xmm|ymm {
		return false
	}
	_, ebx, _ := cpuid(7)
	return ebx&avx2 != 0
}

// cpuid is the instruction CPUID for a leaf, and its subleaf 0.
//
//go:noescape
func cpuid(leaf uint32) (eax, ebx, ecx uint32)

// xgetbv is the low half of XCR0. Without OSXSAVE there is no such instruction.
//
//go:noescape
func xgetbv() uint32
