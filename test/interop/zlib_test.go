package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/deflate"
)

// zlibMessages returns messages of different kinds: JSON that repeats itself, and bytes that do not, up to 20 kB.
func zlibMessages(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	for i := range n {
		var b []byte
		switch i % 10 {
		case 8:
			for range r.IntN(3000) {
				b = append(b, byte(r.Uint32()))
			}
		case 9:
			for j := range r.IntN(200) {
				b = fmt.Appendf(b, `{"id":%d,"value":%.3f,"name":"sensor %d"},`, i*200+j, r.NormFloat64(), r.IntN(20))
			}
		default:
			b = fmt.Appendf(b, `{"type":"ticker","sequence":%d,"price":"%.2f","side":"%s","text":"%s"}`,
				i, r.Float64()*1000, []string{"buy", "sell"}[r.IntN(2)], strings.Repeat("ab", r.IntN(50)))
		}
		all = append(all, b)
	}
	return all
}

func appendBytes(to, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(b))), b...)
}

// runZlib runs the script of Python with the input.
func runZlib(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(python, append([]string{"clients/zlib_messages.py"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	return out
}

// zlib with a window of 2^n bytes inflates what an Encoder with the same window or a smaller one sends.
func TestZlib_inflates(t *testing.T) {
	for windowBits := deflate.MinWindowBits; windowBits <= deflate.MaxWindowBits; windowBits++ {
		var e deflate.Encoder
		e.Reset(windowBits)
		var input []byte
		count := 0
		for _, src := range zlibMessages(2000) {
			if out, ok := e.Append(nil, src); ok {
				input = appendBytes(appendBytes(input, out), src)
				count++
			}
		}
		for bits := windowBits; bits <= 15; bits++ {
			got := strings.TrimSpace(string(runZlib(t, input, "inflate", fmt.Sprint(bits))))
			if got != fmt.Sprint(count) {
				t.Errorf("window of 2^%d, zlib with %d bits: got %s messages, want %d", windowBits, bits, got, count)
			}
		}
	}
}

// A Decoder inflates what zlib sends, with each level, strategy and size of the window.
func TestZlib_deflates(t *testing.T) {
	messages := append(zlibMessages(60), nil)
	var input []byte
	for _, src := range messages {
		input = appendBytes(input, src)
	}
	out := bytes.NewReader(runZlib(t, input, "deflate"))
	var d deflate.Decoder
	for i, want := range messages {
		for way := range 10 * 5 * 3 {
			var size uint32
			if err := binary.Read(out, binary.BigEndian, &size); err != nil {
				t.Fatal(err)
			}
			src := make([]byte, size)
			if _, err := io.ReadFull(out, src); err != nil {
				t.Fatal(err)
			}
			d.Reset(int64(len(want)))
			got, err := d.Append(nil, src, true)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("message %d, way %d: got %q, %v; want %q", i, way, got, err, want)
			}
		}
	}
}
