package websocket

import (
	"bytes"
	"testing"
)

// fillWith reads b into buf as a transport does, in pieces as large as the space. It returns
// the rest of b that does not fit.
func fillWith(buf *inbuf, b []byte) []byte {
	n := copy(buf.space(), b)
	buf.filled(n, true)
	return b[n:]
}

func TestInbuf_keeps_bytes_in_order(t *testing.T) {
	var buf inbuf
	stream := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	rest, used := stream, 0
	for step := 1; used < len(stream); step = step*7%4099 + 1 {
		if len(rest) > 0 && !buf.full() {
			rest = fillWith(&buf, rest)
		}
		n := min(step, len(buf.bytes()))
		if !bytes.Equal(buf.bytes()[:n], stream[used:used+n]) {
			t.Fatalf("wrong bytes at %d", used)
		}
		buf.discard(n)
		used += n
	}
	if !buf.empty() {
		t.Errorf("%d bytes too many", len(buf.bytes()))
	}
}

func TestInbuf_holds_as_little_as_possible(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *inbuf)
		want int
	}{
		{"nothing at first", func(b *inbuf) {}, 0},
		{"a small buffer for a few bytes", func(b *inbuf) { fillWith(b, make([]byte, 10)) }, readBufferSize},
		{"nothing after a wait without bytes", func(b *inbuf) { b.space(); b.filled(0, true); b.shrink() }, 0},
		{"a large buffer after a small buffer that was filled", func(b *inbuf) {
			fillWith(b, make([]byte, readBufferSize))
			b.discard(readBufferSize)
			b.space()
		}, largeReadBufferSize},
		{"nothing when a large buffer is empty", func(b *inbuf) {
			fillWith(b, make([]byte, readBufferSize))
			b.discard(readBufferSize)
			b.space()
			b.releaseIfLarge()
		}, 0},
		{"a small buffer for the beginning of a frame", func(b *inbuf) {
			fillWith(b, make([]byte, readBufferSize))
			b.discard(readBufferSize)
			fillWith(b, make([]byte, 7))
		}, readBufferSize},
		{"the bytes after the handshake, of any size", func(b *inbuf) { b.load(make([]byte, 10_000)) }, 10_000},
		{"nothing if no bytes came after the handshake", func(b *inbuf) { b.load(nil) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var buf inbuf
			tt.do(&buf)
			if got := len(buf.buf); got != tt.want {
				t.Errorf("got a buffer of %d bytes, want %d", got, tt.want)
			}
		})
	}
}

// A small buffer can be full after shrink. The next read needs free space, because a read of no bytes
// would look like the end of the stream.
func TestInbuf_has_space_after_shrink(t *testing.T) {
	for _, unused := range []int{0, 1, readBufferSize - 1, readBufferSize, readBufferSize + 1} {
		var b inbuf
		b.large = true
		b.filled(copy(b.space(), make([]byte, unused)), true)
		b.large = false
		b.shrink()
		if len(b.bytes()) != unused || unused <= readBufferSize && len(b.buf) > readBufferSize {
			t.Errorf("%d unused bytes: got %d in a buffer of %d bytes", unused, len(b.bytes()), len(b.buf))
		}
		if len(b.space()) == 0 {
			t.Errorf("%d unused bytes: there is no space for a read", unused)
		}
	}
}
