package mask

import (
	"bytes"
	"testing"

	"github.com/f44ffc3b/websocket/internal/asmtest"
)

func TestXOR_and_Copy_stay_within_their_slices(t *testing.T) {
	asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
		asmtest.GuardedSlices(t, func(b []byte) {
			copy(b, counting(len(b)))
			want := bytes.Clone(b)
			naive(want, sampleKey, 1)
			if XOR(b, sampleKey, 1); !bytes.Equal(b, want) {
				t.Fatalf("%d bytes: got % x, want % x", len(b), b, want)
			}
			other := make([]byte, len(b))
			Copy(b, other, sampleKey)
			Copy(other, b, sampleKey)
		})
	})
}
