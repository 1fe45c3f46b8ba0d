//go:build !purego

#include "textflag.h"

// func xorBlocks(b []byte, word uint64)
TEXT ·xorBlocks(SB), NOSPLIT, $0-32
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVQ word+24(FP), AX
	XORL R8, R8
	JMP  blocks<>(SB)

// func copyBlocks(dst, src []byte, word uint64)
TEXT ·copyBlocks(SB), NOSPLIT, $0-56
	MOVQ dst_base+0(FP), R8
	MOVQ src_base+24(FP), SI
	MOVQ src_len+32(FP), CX
	MOVQ word+48(FP), AX
	SUBQ SI, R8
	JMP  blocks<>(SB)

// blocks masks the CX bytes at SI with the key AX, and writes the result R8 bytes behind them. It
// works like xorWords, with words of 32 bytes: the last word may overlap the word before it, so it
// is loaded and masked before the loops change its bytes. SI points to the next word, DI to the
// last one.
TEXT blocks<>(SB), NOSPLIT, $0-0
	VMOVQ AX, X0
	VPBROADCASTQ X0, Y0 // the key for all words but the last

	LEAQ -32(SI)(CX*1), DI
	SHLQ $3, CX
	RORQ CX, AX // by CX mod 8 bytes, because only the low six bits of CX count
	VMOVQ AX, X1
	VPBROADCASTQ X1, Y1 // the key for the last word
	VPXOR (DI), Y1, Y1

	LEAQ -96(DI), DX // from here on, fewer than four words come before the last one
	JMP next4

	PCALIGN $32
loop4:
	VPXOR (SI), Y0, Y2
	VPXOR 32(SI), Y0, Y3
	VPXOR 64(SI), Y0, Y4
	VPXOR 96(SI), Y0, Y5
	VMOVDQU Y2, (SI)(R8*1)
	VMOVDQU Y3, 32(SI)(R8*1)
	VMOVDQU Y4, 64(SI)(R8*1)
	VMOVDQU Y5, 96(SI)(R8*1)
	ADDQ $128, SI
next4:
	CMPQ SI, DX
	JB   loop4
	JMP  next

loop:
	VPXOR (SI), Y0, Y2
	VMOVDQU Y2, (SI)(R8*1)
	ADDQ $32, SI
next:
	CMPQ SI, DI
	JB   loop

	VMOVDQU Y1, (DI)(R8*1)
	VZEROUPPER // because SSE code is slow while the upper halves are in use
	RET
