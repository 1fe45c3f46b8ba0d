package deflate

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
		var e Encoder
		var d Decoder
		e.Reset(windowBits)
		for i := range 1000 {
			e.Forget()
			src := []byte(fmt.Sprintf(`{"event":"tick","id":%d,"price":%d,"text":%q}`, i, i*i*7919%10007, bytes.Repeat([]byte("ab"), i)))
			out, ok := e.Append(nil, src)
			if !ok {
				continue
			}
			d.Reset(int64(len(src)))
			got, err := d.Append([]byte("x"), out, true)
			if err != nil || string(got) != "x"+string(src) {
				t.Fatalf("%d bits, message %d: %q, %v", windowBits, i, got, err)
			}
			d.Reset(int64(len(src)))
			p := make([]byte, len(src))
			n, used, err := d.Read(p, out, true)
			if err != io.EOF || used != len(out) || string(p[:n]) != string(src) {
				t.Fatalf("%d bits, message %d: %q, %v", windowBits, i, p[:n], err)
			}
		}
	}
}
