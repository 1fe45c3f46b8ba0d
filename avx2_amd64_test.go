//go:build !purego

package websocket

import "testing"

// useAVX2 runs the rest of a test with AVX2, if there is any, or without.
func useAVX2(tb testing.TB, on bool) {
	was := hasAVX2
	tb.Cleanup(func() { hasAVX2 = was })
	hasAVX2 = on && was
}

// What utf8Blocks looks up, by halves of bytes, is what utf8Wrong says of bytes.
func TestUTF8LookupIsExact(t *testing.T) {
	for first := range 256 {
		for second := range 256 {
			var want byte
			for _, wrong := range utf8Wrong {
				if wrong.low1 <= byte(first) && byte(first) <= wrong.high1 &&
					wrong.low2 <= byte(second) && byte(second) <= wrong.high2 {
					want |= wrong.bit
				}
			}
			got := utf8Lookup[0][first>>4] & utf8Lookup[1][first&15] & utf8Lookup[2][second>>4]
			if got != want {
				t.Fatalf("%02x %02x: got %08b, want %08b", first, second, got, want)
			}
		}
	}
}
