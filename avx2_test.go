package websocket

import "testing"

// withAndWithoutAVX2 runs a test for both. Where there is no AVX2, it is skipped.
func withAndWithoutAVX2(t *testing.T, test func(t *testing.T)) {
	t.Run("AVX2", func(t *testing.T) {
		if !hasAVX2 {
			t.Skip("no AVX2")
		}
		test(t)
	})
	t.Run("no AVX2", func(t *testing.T) {
		useAVX2(t, false)
		test(t)
	})
}
