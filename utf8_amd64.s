//go:build !purego

#include "textflag.h"

// This is the lookup algorithm of J. Keiser and D. Lemire, "Validating UTF-8 In Less
// Than One Instruction Per Byte" (2021), with AVX2: it looks at 32 bytes at once,
// each with the three in front of it. Here, those come from memory by loads that
// overlap, where the paper shifts them in from the block before: loads have units
// of their own, and the only one for shuffles is busy with looking up.

#define ERRORS Y15  // not zero once something is wrong
#define HIGH1  Y14  // utf8Halves[0], in both lanes: VPSHUFB looks up lane by lane
#define LOW1   Y13  // utf8Halves[1]
#define HIGH2  Y12  // utf8Halves[2]
#define LOW4   Y11  // 0F in every byte
#define THIRD  Y10  // E0-80 in every byte
#define FOURTH Y9   // F0-80 in every byte
#define BIT7   Y8   // 80 in every byte

// BROADCAST fills a register with four bytes over and over.
#define BROADCAST(x, reg) \
	MOVL $x, AX; \
	VMOVD AX, X0; \
	VPBROADCASTD X0, reg

// CHECK checks the 32 bytes at off(SI).
//
// First the pairs of a byte and the one in front of it: a bit that the lookups of
// all three halves have in common is a way in which the two are wrong (utf8Wrong
// says why). There is no shift of bytes, only of words of 16 bits, which brings in
// bits of the neighbour; hence the mask behind it.
//
// Then the tails. A third byte of a character has E0 or more two in front of it,
// and a fourth one F0 or more three in front. E0-80 taken from the former leaves
// bit 7 if it was E0 or more and otherwise less, as the subtraction stops at zero;
// so does F0-80 with the latter. Bit 7 of the pairs says that here is a tail byte
// behind a tail byte (utf8TwoTails). Where the two differ, there is either a tail
// byte too many, or none where there should be one.
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

// func utf8Blocks(b []byte, t *utf8Halves) bool
//
// SI is where the next block is, DI is the end. What is wrong is gathered and looked
// at once, behind all of it: valid text is the case to be fast in.
TEXT ·utf8Blocks(SB), NOSPLIT, $0-33
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), DI
	MOVQ t+24(FP), DX
	ADDQ SI, DI // the end
	ADDQ $3, SI // the first byte that has three before it
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

	// ASCII behind ASCII is never wrong: there is nothing to look up in 64 bytes of
	// it behind three of it.
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

	// More of it, 128 bytes a turn.
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

	// Fewer than 64 bytes are left. The last 32 of all may overlap what has been
	// checked, which spares a loop over odd bytes.
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
	VZEROUPPER // or everybody else's SSE would be slow
	RET
