//go:build !purego

package cpu

// HasAVX2 reports whether the processor has AVX2 and the operating system saves the
// registers that AVX2 uses. It is a variable so that tests can switch AVX2 off.
var HasAVX2 = detectAVX2()

// detectAVX2 follows Intel's Software Developer's Manual, volume 1, section 14.7.1.
// The standard library detects AVX2 too, but in a package that other modules cannot
// import.
func detectAVX2() bool {
	const (
		osxsave, avx = 1 << 27, 1 << 28 // leaf 1, ECX
		avx2         = 1 << 5           // leaf 7, EBX
		xmm, ymm     = 1 << 1, 1 << 2   // XCR0: the operating system saves these registers
	)
	leaves, _, _ := cpuid(0)
	_, _, ecx := cpuid(1)
	if leaves < 7 || ecx&osxsave == 0 || ecx&avx == 0 || xgetbv()&(xmm|ymm) != xmm|ymm {
		return false
	}
	_, ebx, _ := cpuid(7)
	return ebx&avx2 != 0
}

// cpuid executes CPUID for the given leaf and subleaf 0.
//
//go:noescape
func cpuid(leaf uint32) (eax, ebx, ecx uint32)

// xgetbv returns the low half of XCR0. The instruction XGETBV exists only if CPUID
// reports OSXSAVE.
//
//go:noescape
func xgetbv() uint32
