package asmtest

import (
	"os"
	"syscall"
	"testing"
)

// GuardedSlices calls visit with slices of every length from 0 to 399, and with one
// of a whole page. Each length comes twice: at the start of a page, and at its end.
// The pages before and after that page are not accessible, so a function that reads
// or writes outside its slice crashes the test.
func GuardedSlices(t *testing.T, visit func(b []byte)) {
	t.Helper()
	page := guardedPage(t)
	for size := range 400 {
		visit(page[:size])
		visit(page[len(page)-size:])
	}
	visit(page)
}

// guardedPage returns a page of memory between two pages that are not accessible.
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
