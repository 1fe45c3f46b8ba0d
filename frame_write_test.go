package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
)

func TestAppendHeader(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			if got, want := AppendHeader([]byte{0xAA}, test.frame.Header), append([]byte{0xAA}, fromHex(t, test.head)...); !bytes.Equal(got, want) {
				t.Errorf("got % x, want % x", got, want)
			}
		})
	}
	for _, test := range []struct {
		name string
		h    Header
		want string
	}{
		{"negative length", Header{Length: -1}, "00 00"},
		{"lowest length", Header{Length: math.MinInt64}, "00 00"},
		{"highest length", Header{Length: math.MaxInt64}, "00 7f 7fffffffffffffff"},
		{"length in Length", Header{Length: 65536}, "00 7f 0000000000010000"},
		{"opcode of more than four bits", Header{Opcode: 0xF2}, "02 00"},
		{"key of a frame that is not masked", Header{MaskKey: sampleKey}, "00 00"},
		{"key of zeros", Header{Masked: true}, "00 80 00000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, want := AppendHeader(nil, test.h), fromHex(t, test.want); !bytes.Equal(got, want) {
				t.Errorf("got % x, want % x", got, want)
			}
		})
	}
}

func TestAppendFrame(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			f := test.frame
			f.Length = -77
			f.Payload = bytes.Clone(f.Payload)
			got, want := AppendFrame([]byte{0xAA}, f), append([]byte{0xAA}, test.wire(t)...)
			if !bytes.Equal(got, want) {
				t.Errorf("got %s, want %s", abridged(got), abridged(want))
			}
			if !bytes.Equal(f.Payload, test.frame.Payload) {
				t.Errorf("the payload was changed to %s", abridged(f.Payload))
			}
			if n := testing.AllocsPerRun(10, func() { AppendFrame(got[:0], f) }); n != 0 {
				t.Errorf("with room in dst: got %v allocations, want 0", n)
			}
		})
	}
}

func TestWriteFrame(t *testing.T) {
	for _, test := range frameTests() {
		t.Run(test.name, func(t *testing.T) {
			f := test.frame
			f.Length = 1 << 40
			var got bytes.Buffer
			if err := WriteFrame(&got, f); err != nil || !bytes.Equal(got.Bytes(), test.wire(t)) {
				t.Errorf("got %s, %v, want %s", abridged(got.Bytes()), err, abridged(test.wire(t)))
			}
		})
	}
	t.Run("small frames in one write", func(t *testing.T) {
		for _, size := range []int{0, 1, 125, 126, 4 << 10, maxCopied} {
			w := &writeRecorder{}
			if err := WriteFrame(w, Frame{Payload: make([]byte, size)}); err != nil || len(w.writes) != 1 {
				t.Errorf("%d bytes: got %d writes, %v, want 1", size, len(w.writes), err)
			}
		}
	})
	t.Run("large payloads are not copied, but for their beginning", func(t *testing.T) {
		w := &writeRecorder{}
		payload := countingBytes(3 * maxCopied)
		if err := WriteFrame(w, Frame{Payload: payload}); err != nil || len(w.writes) != 2 {
			t.Fatalf("got %d writes, %v, want 2", len(w.writes), err)
		}
		rest := payload[maxCopied:]
		if got := w.writes[1]; len(got) != len(rest) || &got[0] != &rest[0] {
			t.Errorf("got a copy of %d bytes, want the last %d of the payload itself", len(got), len(rest))
		}
	})
	t.Run("an error ends it", func(t *testing.T) {
		broken := errors.New("broken")
		for _, size := range []int{1, maxCopied + 1} {
			w := &writeRecorder{err: broken}
			if err := WriteFrame(w, Frame{Payload: make([]byte, size)}); err != broken || len(w.writes) != 1 {
				t.Errorf("%d bytes: got %d writes, %v, want 1, %v", size, len(w.writes), err, broken)
			}
		}
	})
	t.Run("an error in the second write too", func(t *testing.T) {
		broken := errors.New("broken")
		w := &writeRecorder{}
		failing := writerFunc(func(b []byte) (int, error) {
			if len(w.writes) == 1 {
				w.err = broken
			}
			return w.Write(b)
		})
		if err := WriteFrame(failing, Frame{Payload: make([]byte, maxCopied+1)}); err != broken || len(w.writes) != 2 {
			t.Errorf("got %d writes, %v, want 2, %v", len(w.writes), err, broken)
		}
	})
	t.Run("a short write without an error is one", func(t *testing.T) {
		for _, size := range []int{1, maxCopied + 1} {
			writes := 0
			short := writerFunc(func(b []byte) (int, error) { writes++; return len(b) - 1, nil })
			if err := WriteFrame(short, Frame{Payload: make([]byte, size)}); err != io.ErrShortWrite || writes != 1 {
				t.Errorf("%d bytes: got %d writes, %v, want 1, %v", size, writes, err, io.ErrShortWrite)
			}
		}
	})
	t.Run("without allocations", func(t *testing.T) {
		for _, size := range []int{1, maxCopied, maxCopied + 1, 1 << 20} {
			f := Frame{Payload: make([]byte, size)}
			if n := testing.AllocsPerRun(100, func() { WriteFrame(io.Discard, f) }); n != 0 {
				t.Errorf("%d bytes: got %v allocations, want 0", size, n)
			}
		}
	})
	t.Run("over TCP", func(t *testing.T) {
		client, server := tcpPair(t)
		for _, size := range []int{100, maxCopied, maxCopied + 1, 3 << 20} {
			want := Frame{Header{Fin: true, Opcode: Binary, Length: int64(size)}, countingBytes(size)}
			errs := make(chan error, 1)
			go func() { errs <- WriteFrame(client, want) }()
			got, err := ReadFrame(server, int64(size))
			if err != nil || !sameFrame(got, want) {
				t.Errorf("got %+v, payload %s, %v", got.Header, abridged(got.Payload), err)
			}
			if err := <-errs; err != nil {
				t.Errorf("WriteFrame: got %v", err)
			}
		}
	})
}

func TestFrameUnmask(t *testing.T) {
	t.Run("in place, once", func(t *testing.T) {
		f, err := ReadFrame(bytes.NewReader(fromHex(t, "81 85 37fa213d 7f9f4d5158")), 5)
		if err != nil {
			t.Fatal(err)
		}
		payload := f.Payload
		for range 2 {
			f.Unmask()
			want := Header{Fin: true, Opcode: Text, Length: 5}
			if string(payload) != "Hello" || f.Header != want {
				t.Fatalf("got % x, %+v, want % x, %+v", payload, f.Header, "Hello", want)
			}
		}
	})
	t.Run("not masked", func(t *testing.T) {
		f := Frame{Header{MaskKey: sampleKey}, []byte("Hello")}
		if f.Unmask(); string(f.Payload) != "Hello" || f.MaskKey != sampleKey {
			t.Errorf("got % x, key % x, want nothing changed", f.Payload, f.MaskKey)
		}
	})
	t.Run("read and written again is the same", func(t *testing.T) {
		for _, test := range frameTests() {
			wire := test.wire(t)
			f, err := ReadFrame(bytes.NewReader(wire), math.MaxInt64)
			if err != nil {
				t.Fatal(err)
			}
			if got := AppendFrame(nil, f); !bytes.Equal(got, wire) {
				t.Errorf("%s: got %s, want %s", test.name, abridged(got), abridged(wire))
			}
		}
	})
}

// A writeRecorder keeps every slice that is written to it.
type writeRecorder struct {
	writes [][]byte
	err    error
}

func (w *writeRecorder) Write(b []byte) (int, error) {
	w.writes = append(w.writes, b)
	if w.err != nil {
		return 0, w.err
	}
	return len(b), nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var frameSizes = []int{125, 1 << 10, 16 << 10, 1 << 20}

func BenchmarkAppendFrame(b *testing.B) {
	for _, size := range frameSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := Frame{Header{Fin: true, Opcode: Binary}, make([]byte, size)}
			dst := make([]byte, 0, maxHeaderSize+size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				AppendFrame(dst, f)
			}
		})
	}
}

// BenchmarkWriteFrame compares WriteFrame with one write of a copy, on a TCP connection.
// maxCopied is the size at which both take the same time.
func BenchmarkWriteFrame(b *testing.B) {
	for _, size := range []int{125, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		f := Frame{Header{Fin: true, Opcode: Binary}, make([]byte, size)}
		buf := make([]byte, 0, maxHeaderSize+size)
		for _, bench := range []struct {
			name  string
			write func(io.Writer) error
		}{
			{"WriteFrame", func(w io.Writer) error { return WriteFrame(w, f) }},
			{"copy", func(w io.Writer) error { _, err := w.Write(AppendFrame(buf, f)); return err }},
			{"buffers", func(w io.Writer) error {
				_, err := (&net.Buffers{AppendHeader(buf, f.Header), f.Payload}).WriteTo(w)
				return err
			}},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, bench.name), func(b *testing.B) {
				client, server := tcpPair(b)
				go io.Copy(io.Discard, server)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := bench.write(client); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
