package websocket

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/iotest"
)

func FuzzReadHeader(f *testing.F) {
	for _, test := range frameTests() {
		f.Add(fromHex(f, test.head))
	}
	f.Add(fromHex(f, "82 7e 007d"))
	f.Add(fromHex(f, "82 7f 0000000000007fff"))
	f.Add(fromHex(f, "82 ff 8000000000000000 37fa213d"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := ReadHeader(iotest.OneByteReader(r))
		read := len(b) - r.Len()
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		for cut := range len(b) + 1 {
			parsed, n, parseErr := parseHeader(b[:cut])
			switch {
			case cut < read || ended:
				if n != 0 || parseErr != nil {
					t.Fatalf("% x: got size %d, %v, want 0 for more bytes", b[:cut], n, parseErr)
				}
			case err != nil:
				if n != 0 || fmt.Sprint(parseErr) != err.Error() {
					t.Fatalf("% x: got size %d, %v, want %v", b[:cut], n, parseErr, err)
				}
			case n != read || parseErr != nil || parsed != h:
				t.Fatalf("% x: got %+v, size %d, %v\nwant %+v, size %d", b[:cut], parsed, n, parseErr, h, read)
			}
		}
		r.Reset(b)
		if got, gotErr := ReadHeader(r); got != h || fmt.Sprint(gotErr) != fmt.Sprint(err) {
			t.Fatalf("% x at once: got %+v, %v, want %+v, %v", b, got, gotErr, h, err)
		}
		if err != nil {
			return
		}
		if got := len(b) - r.Len(); got != read {
			t.Fatalf("% x at once: got %d bytes read, want %d", b, got, read)
		}
		if got := AppendHeader(nil, h); !bytes.Equal(got, b[:read]) {
			t.Fatalf("got % x back, want % x", got, b[:read])
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	for _, test := range frameTests() {
		if len(test.frame.Payload) < 300 {
			f.Add(test.wire(f), int64(200))
		}
	}
	f.Add(fromHex(f, "82 7f 7fffffffffffffff 00"), int64(math.MaxInt64))
	f.Add(fromHex(f, "82 00"), int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, limit int64) {
		r := bytes.NewReader(b)
		frame, err := ReadFrame(r, limit)
		slow, slowErr := ReadFrame(iotest.OneByteReader(bytes.NewReader(b)), limit)
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || !sameFrame(frame, slow) {
			t.Fatalf("% x a byte at a time: got %+v, %v, want %+v, %v", b, slow, slowErr, frame, err)
		}
		if err != nil {
			return
		}
		if frame.Length > limit || frame.Length != int64(len(frame.Payload)) {
			t.Fatalf("% x: got length %d with %d bytes, limit %d", b, frame.Length, len(frame.Payload), limit)
		}
		read := b[:len(b)-r.Len()]
		if got := AppendFrame(nil, frame); !bytes.Equal(got, read) {
			t.Fatalf("AppendFrame: got % x back, want % x", got, read)
		}
		var written bytes.Buffer
		if err := WriteFrame(&written, frame); err != nil || !bytes.Equal(written.Bytes(), read) {
			t.Fatalf("WriteFrame: got % x back, %v, want % x", written.Bytes(), err, read)
		}
		frame.Unmask()
		if frame.Masked || frame.MaskKey != [4]byte{} {
			t.Fatalf("% x unmasked: got %+v", b, frame.Header)
		}
	})
}
