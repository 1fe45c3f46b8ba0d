//go:build !purego

#include "textflag.h"

// This is the lookup algorithm of J. Keiser and D. Lemire, "Validating UTF-8 In Less
// Than One Instruction Per Byte" (2021), with AVX2: it checks 32 bytes at once, each
// with the three bytes before it. The paper shifts those three in from the block
// before. Here they are loaded from memory, by loads that overlap, because loads have
// execution units of their own and the only unit for shuffles is busy with lookups.

#define ERRORS Y15  // not zero if something is wrong
#define HIGH1  Y14  // halves[0] in both lanes, because VPSHUFB looks up lane by lane
#define LOW1   Y13  // halves[1]
#define HIGH2  Y12  // halves[2]
#define LOW4   Y11  // 0F in every byte
#define THIRD  Y10  // E0-80 in every byte
#define FOURTH Y9   // F0-80 in every byte
#define BIT7   Y8   // 80 in every byte

// BROADCAST fills a register with copies of four bytes.
#define BROADCAST(x, reg) \
	MOVL $x, AX; \
	VMOVD AX, X0; \
	VPBROADCASTD X0, reg

// CHECK checks the 32 bytes at off(SI).
//
// First it checks each byte together with the byte before. The halves of both are
// looked up, and a bit that all three results have tells how the two bytes are wrong
// (see wrongPairs). AVX2 shifts no bytes, only words of 16 bits. Such a shift brings
// in bits of the neighbouring byte, so LOW4 masks them out.
//
// Then it checks the tail bytes. If a byte is the third of a character, the byte two
// places before is E0 or more. If it is the fourth, the byte three places before is
// F0 or more. E0-80 is subtracted from the byte two places before: bit 7 of the result
// is set exactly if that byte is E0 or more, because the subtraction stops at zero.
// F0-80 and the byte three places before work in the same way. Bit 7 of the lookups
// (twoTails) is set for a tail byte behind a tail byte. If the two bits differ, there
// is a tail byte too many, or a tail byte is missing.
#define CHECK(off) \
	VMOVDQU off-1(SI), Y0; \
	VMOVDQU off-2(SI), Y1; \
	VMOVDQU off-3(SI), Y2; \
	VPSRLW $4, Y0, Y3; \
	VPAND LOW4, Y3, Y3; \
	VPSHUFB Y3, HIGH1, Y3; \
	VPAND LOW4, Y0, Y0; \
	VPSHUFB Y0, LOW1, Y0; \
	VMOVDQU off(SI), Y4; \
	VPSRLW $4, Y4, Y4; \
	VPAND LOW4, Y4, Y4; \
	VPSHUFB Y4, HIGH2, Y4; \
	VPAND Y3, Y0, Y0; \
	VPAND Y4, Y0, Y0; \
	VPSUBUSB THIRD, Y1, Y1; \
	VPSUBUSB FOURTH, Y2, Y2; \
	VPOR Y1, Y2, Y2; \
	VPAND BIT7, Y2, Y2; \
	VPXOR Y0, Y2, Y2; \
	VPOR Y2, ERRORS, ERRORS

// func validBlocks(b []byte, t *halves) bool
//
// SI points to the next block, DI to the end of the text. The errors of all blocks are
// collected and tested once, at the end, because valid text is the case that must be
// fast.
TEXT ·validBlocks(SB), NOSPLIT, $0-33
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), DI
	MOVQ t+24(FP), DX
	ADDQ SI, DI // the end
	ADDQ $3, SI // the first byte with three bytes before it
	VPXOR ERRORS, ERRORS, ERRORS
	VBROADCASTI128 (DX), HIGH1
	VBROADCASTI128 16(DX), LOW1
	VBROADCASTI128 32(DX), HIGH2
	BROADCAST(0x0F0F0F0F, LOW4)
	BROADCAST(0x60606060, THIRD)
	BROADCAST(0x70707070, FOURTH)
	BROADCAST(0x80808080, BIT7)
	JMP next

	PCALIGN $32
check:
	CHECK(0)
	CHECK(32)
	ADDQ $64, SI

	// If the next 64 bytes and the three bytes before them are ASCII, they need no
	// lookups, because ASCII behind ASCII is never wrong.
next:
	LEAQ 64(SI), DX
	CMPQ DX, DI
	JA   rest
	VMOVDQU (SI), Y0
	VPOR 32(SI), Y0, Y0
	VPOR -3(SI), Y0, Y0
	VPMOVMSKB Y0, AX
	TESTL AX, AX
	JNZ  check
	ADDQ $64, SI

	// More ASCII, 128 bytes a turn.
ascii:
	LEAQ 128(SI), DX
	CMPQ DX, DI
	JA   next
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VPOR 64(SI), Y0, Y0
	VPOR 96(SI), Y1, Y1
	VPOR Y0, Y1, Y1
	VPMOVMSKB Y1, AX
	TESTL AX, AX
	JNZ  next
	ADDQ $128, SI
	JMP  ascii

	// Fewer than 64 bytes are left. The last 32 bytes may overlap bytes that have
	// been checked already, so that no loop over single bytes is needed.
rest:
	LEAQ 32(SI), DX
	CMPQ DX, DI
	JA   last
	CHECK(0)
	ADDQ $32, SI
last:
	CMPQ SI, DI
	JEQ  done
	LEAQ -32(DI), SI
	CHECK(0)
done:
	VPTEST ERRORS, ERRORS
	SETEQ ret+32(FP)
	VZEROUPPER // because SSE code is slow while the upper halves are in use
	RET
