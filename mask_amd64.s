//go:build !purego

#include "textflag.h"

// func maskBlocks(b []byte, word uint64)
//
// It is maskWords with words of 32 bytes: the last of them may overlap the one
// before it, and is loaded and unmasked before all others. SI is where the next
// word is, DI where the last one is.
TEXT ·maskBlocks(SB), NOSPLIT, $0-32
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVQ word+24(FP), AX
	VMOVQ AX, X0
	VPBROADCASTQ X0, Y0 // the key, from the start

	LEAQ -32(SI)(CX*1), DI
	SHLQ $3, CX
	RORQ CX, AX // only the low six bits count, so by len(b) mod 8 bytes
	VMOVQ AX, X1
	VPBROADCASTQ X1, Y1 // the key, from the last word
	VPXOR (DI), Y1, Y1

	LEAQ -96(DI), DX // from here on, there are no four words before the end
	JMP next4

	PCALIGN $32
loop4:
	VPXOR (SI), Y0, Y2
	VPXOR 32(SI), Y0, Y3
	VPXOR 64(SI), Y0, Y4
	VPXOR 96(SI), Y0, Y5
	VMOVDQU Y2, (SI)
	VMOVDQU Y3, 32(SI)
	VMOVDQU Y4, 64(SI)
	VMOVDQU Y5, 96(SI)
	ADDQ $128, SI
next4:
	CMPQ SI, DX
	JB   loop4
	JMP  next

loop:
	VPXOR (SI), Y0, Y2
	VMOVDQU Y2, (SI)
	ADDQ $32, SI
next:
	CMPQ SI, DI
	JB   loop

	VMOVDQU Y1, (DI)
	VZEROUPPER // or everybody else's SSE would be slow
	RET
