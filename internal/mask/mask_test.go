package mask

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/f44ffc3b/websocket/internal/asmtest"
)

// naive masks as RFC 6455 section 5.3 defines it.
func naive(b []byte, key [4]byte, pos int) int {
	for i := range b {
		b[i] ^= key[(pos+i)&3]
	}
	return (pos + len(b)) & 3
}

// sampleKey is the key of the example in RFC 6455 section 5.7.
var sampleKey = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// counting returns n bytes in a pattern that changes from byte to byte.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestXOR(t *testing.T) {
	t.Run("RFC 6455 section 5.7", func(t *testing.T) {
		b := []byte("Hello")
		pos := XOR(b, sampleKey, 0)
		if want := []byte{0x7F, 0x9F, 0x4D, 0x51, 0x58}; !bytes.Equal(b, want) || pos != 1 {
			t.Errorf("got % x and position %d, want % x and 1", b, pos, want)
		}
	})
	t.Run("agrees with the naive loop at every size, alignment and position", func(t *testing.T) {
		asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
			for size := range 301 {
				for offset := range 33 {
					checkXOR(t, size, offset, (size+offset)&3)
				}
				for pos := range 4 {
					checkXOR(t, size, 6, pos)
				}
			}
			for _, size := range []int{511, 512, 1 << 10, 4<<10 + 3, 64<<10 - 1, 2 << 20, 3<<20 + 5} {
				checkXOR(t, size, 6, 3)
			}
		})
	})
	t.Run("takes any position mod 4", func(t *testing.T) {
		for _, pos := range []int{-1, -2, -3, -4, -5, 4, 1 << 20, math.MaxInt, math.MinInt} {
			checkXOR(t, 5, 0, pos)
			checkXOR(t, 50, 0, pos)
		}
	})
	t.Run("in pieces", func(t *testing.T) {
		for cut := range 301 {
			got, want := counting(300), counting(300)
			naive(want, sampleKey, 0)
			pos := XOR(got[:cut], sampleKey, 0)
			if end := XOR(got[cut:], sampleKey, pos); !bytes.Equal(got, want) || end != 0 {
				t.Fatalf("cut at %d: got % x and position %d, want % x and 0", cut, got, end, want)
			}
		}
	})
	t.Run("no bytes", func(t *testing.T) {
		if got := XOR(nil, sampleKey, 6); got != 2 {
			t.Errorf("got position %d, want 2", got)
		}
	})
}

// checkXOR masks size bytes that start at offset in a longer slice. The bytes before
// and after them must not change.
func checkXOR(t *testing.T, size, offset, pos int) {
	t.Helper()
	got, want := counting(offset+size+9), counting(offset+size+9)
	gotPos := XOR(got[offset:offset+size], sampleKey, pos)
	wantPos := naive(want[offset:offset+size], sampleKey, pos)
	if !bytes.Equal(got, want) || gotPos != wantPos {
		t.Fatalf("%d bytes at offset %d, position %d:\n got % x and position %d\nwant % x and position %d",
			size, offset, pos, got, gotPos, want, wantPos)
	}
}

func TestCopy(t *testing.T) {
	asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
		for size := range 301 {
			for offset := range 33 {
				checkCopy(t, size, offset, 32-offset)
			}
		}
		for _, size := range []int{511, 1 << 10, 4<<10 + 3, 64<<10 - 1, maxBlocks, maxBlocks + 1} {
			checkCopy(t, size, 6, 0)
		}
	})
}

// checkCopy copies size bytes from and to the middle of longer slices, of which nothing else may
// change.
func checkCopy(t *testing.T, size, from, to int) {
	t.Helper()
	src, dst := counting(from+size+9), make([]byte, to+size+9)
	want := bytes.Clone(dst)
	copy(want[to:], src[from:from+size])
	naive(want[to:to+size], sampleKey, 0)
	Copy(dst[to:to+size], src[from:from+size], sampleKey)
	if !bytes.Equal(dst, want) || !bytes.Equal(src, counting(from+size+9)) {
		t.Fatalf("%d bytes from %d to %d: got % x, want % x", size, from, to, dst, want)
	}
}

func TestXOR_allocates_nothing(t *testing.T) {
	for _, size := range []int{5, 125, 64 << 10} {
		b := make([]byte, size)
		if n := testing.AllocsPerRun(100, func() { XOR(b, sampleKey, 1) }); n != 0 {
			t.Errorf("%d bytes: got %v allocations, want 0", size, n)
		}
	}
}

func FuzzXOR(f *testing.F) {
	f.Add([]byte("Hello"), uint32(0x37FA213D), 0, 2)
	f.Add(counting(100), uint32(0x01020304), -3, 33)
	f.Add([]byte{}, uint32(0), math.MinInt, 0)
	f.Fuzz(func(t *testing.T, b []byte, k uint32, pos, cut int) {
		key := [4]byte(binary.BigEndian.AppendUint32(nil, k))
		cut = int(uint(cut) % uint(len(b)+1))
		want := bytes.Clone(b)
		wantPos := naive(want, key, pos)

		for _, avx2 := range []bool{true, false} {
			asmtest.UseAVX2(t, avx2)
			got := bytes.Clone(b)
			gotPos := XOR(got[cut:], key, XOR(got[:cut], key, pos))
			if !bytes.Equal(got, want) || gotPos != wantPos {
				t.Fatalf("cut at %d: got % x and position %d, want % x and %d", cut, got, gotPos, want, wantPos)
			}
			copied := make([]byte, len(b)-cut)
			if Copy(copied, b[cut:], key); XOR(copied, key, 0) < 0 || !bytes.Equal(copied, b[cut:]) {
				t.Fatalf("copied, and masked again: got % x, want % x", copied, b[cut:])
			}
			if XOR(got, key, pos); !bytes.Equal(got, b) {
				t.Fatalf("masked twice: got % x, want % x", got, b)
			}
		}
	})
}

// BenchmarkXOR compares XOR with AVX2, XOR without it, the plain loop, a loop over
// single words, and crypto/subtle. The payload is not aligned, because payloads follow
// a header of 6, 8 or 14 bytes.
func BenchmarkXOR(b *testing.B) {
	for _, size := range []int{16, 48, 64, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		buf := make([]byte, 6+size)[6:]
		for _, bench := range []struct {
			name string
			avx2 bool
			xor  func([]byte, [4]byte, int) int
		}{
			{"XOR", true, XOR}, {"no AVX2", false, XOR}, {"bytes", true, naive}, {"words", true, byWords},
			{"XORBytes", true, byXORBytes},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, bench.name), func(b *testing.B) {
				asmtest.UseAVX2(b, bench.avx2)
				b.SetBytes(int64(size))
				for b.Loop() {
					bench.xor(buf, sampleKey, 1)
				}
			})
		}
	}
}

// BenchmarkCopy compares Copy with a copy and XOR.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{16, 64, 125, 1 << 10, 4 << 10, 64 << 10} {
		dst, src := make([]byte, size), make([]byte, 6+size)[6:]
		b.Run(fmt.Sprintf("%d/Copy", size), func(b *testing.B) {
			for b.Loop() {
				Copy(dst, src, sampleKey)
			}
		})
		b.Run(fmt.Sprintf("%d/copy and XOR", size), func(b *testing.B) {
			for b.Loop() {
				copy(dst, src)
				XOR(dst, sampleKey, 0)
			}
		})
	}
}

func byWords(b []byte, key [4]byte, pos int) int {
	var twice [8]byte
	naive(twice[:], key, pos)
	word := binary.LittleEndian.Uint64(twice[:])
	next := (pos + len(b)) & 3
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= twice[i]
	}
	return next
}

func byXORBytes(b []byte, key [4]byte, pos int) int {
	var block [512]byte
	keys := block[:min(len(block), (len(b)+3)&^3)]
	for i := range min(len(keys), 4) {
		keys[i] = key[(pos+i)&3]
	}
	for done := 4; done < len(keys); done *= 2 {
		copy(keys[done:], keys[:done])
	}
	next := (pos + len(b)) & 3
	for len(b) > 0 {
		b = b[subtle.XORBytes(b, b, keys):]
	}
	return next
}
