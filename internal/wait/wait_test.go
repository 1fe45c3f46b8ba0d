package wait

import (
	"math/bits"
	"reflect"
	"testing"
)

// Every connection has all of these, so each byte counts.
func TestSizes(t *testing.T) {
	if bits.UintSize != 64 {
		t.Skip("the sizes are those of 64-bit processors")
	}
	for _, tt := range []struct {
		value any
		most  uintptr
	}{
		{Lock{}, 16},
		{Event{}, 8},
		{Alarm{}, 24},
		{Deadline{}, 56},
	} {
		if typ := reflect.TypeOf(tt.value); typ.Size() > tt.most {
			t.Errorf("%v has %d bytes, want at most %d", typ, typ.Size(), tt.most)
		}
	}
}
