//go:build !purego

package utf8

import "testing"

// validBlocks looks bytes up by their halves. The lookups must find exactly the pairs
// that wrongPairs lists.
func TestLookups_find_exactly_the_wrong_pairs(t *testing.T) {
	for first := range 256 {
		for second := range 256 {
			var want byte
			for _, wrong := range wrongPairs {
				if wrong.low1 <= byte(first) && byte(first) <= wrong.high1 &&
					wrong.low2 <= byte(second) && byte(second) <= wrong.high2 {
					want |= wrong.bit
				}
			}
			got := wrongHalves[0][first>>4] & wrongHalves[1][first&15] & wrongHalves[2][second>>4]
			if got != want {
				t.Fatalf("%02x %02x: got %08b, want %08b", first, second, got, want)
			}
		}
	}
}
