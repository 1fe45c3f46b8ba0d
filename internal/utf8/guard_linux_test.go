package utf8

import (
	"os"
	"testing"
	std "unicode/utf8"

	"github.com/f44ffc3b/websocket/internal/asmtest"
)

func TestValid_stays_within_its_slice(t *testing.T) {
	asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
		for _, filling := range fillings {
			text := fill(os.Getpagesize(), filling)
			asmtest.GuardedSlices(t, func(b []byte) {
				copy(b, text)
				if got, want := Valid(b), std.Valid(b); got != want {
					t.Fatalf("%d bytes of %.4s: got %v, want %v", len(b), filling, got, want)
				}
			})
		}
	})
}
