package websocket

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"unicode/utf8"
)

// guardedPage returns a page of memory with nothing in front of it and nothing
// behind: whoever touches either is killed.
func guardedPage(t *testing.T) []byte {
	t.Helper()
	size := os.Getpagesize()
	pages, err := syscall.Mmap(-1, 0, 3*size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(pages); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{pages[:size], pages[2*size:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return pages[size : 2*size : 2*size]
}

// Neither the checker nor the mask looks past its bytes.
func TestBlocksStayWithinMemory(t *testing.T) {
	page := guardedPage(t)
	forEach := func(visit func(b []byte)) {
		for size := range 400 {
			visit(page[:size])
			visit(page[len(page)-size:])
		}
		visit(page)
	}
	withAndWithoutAVX2(t, func(t *testing.T) {
		for _, filling := range utf8Fillings {
			text := fillUTF8(len(page), filling)
			forEach(func(b []byte) {
				copy(b, text)
				if got, want := ValidUTF8(b), utf8.Valid(b); got != want {
					t.Fatalf("%d bytes of %.4s: got %v, want %v", len(b), filling, got, want)
				}
			})
		}
		forEach(func(b []byte) {
			copy(b, counting(len(b)))
			want := bytes.Clone(b)
			naiveMask(want, sampleKey, 1)
			if Mask(b, sampleKey, 1); !bytes.Equal(b, want) {
				t.Fatalf("%d bytes: got % x, want % x", len(b), b, want)
			}
		})
	})
}
