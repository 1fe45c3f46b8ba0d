package websocket

import (
	"math/bits"
	"sync"
	"unsafe"
)

// A connection holds a read buffer only while there are bytes in it: an idle
// connection on TCP waits for the socket to be readable without a buffer. Buffers
// have two sizes. The larger one is for a peer that sends more at once than the
// smaller one holds: with 32 messages of 1 KiB in flight it halves the cost of each
// (BenchmarkReadBuffer). It has room for a message of 64 KiB and its header. Only the buffers
// of polls have sizes between them, see reader.growForPoll.
const (
	readBufferSize      = 4 << 10
	largeReadBufferSize = 72 << 10
)

var (
	readBuffers      = sync.Pool{New: func() any { return new([readBufferSize]byte) }}
	largeReadBuffers = sync.Pool{New: func() any { return new([largeReadBufferSize]byte) }}
)

// An inbuf holds the bytes that were read from the socket and not yet used. It
// knows nothing about frames. The zero value is empty and holds no memory.
type inbuf struct {
	buf    []byte
	r, w   int32 // buf[r:w] was not yet used; a buffer is far smaller than 2 GiB
	behind int32 // bytes that a poll has seen in the socket, when the buffer was full
	large  bool  // the next buffer is a large one, because the last read filled a small one
	short  bool  // the last read has left free space, so the socket had no more
	noWait bool  // reads of a TCP connection do not wait; see eventTransport
}

// load puts bytes that were read before the connection existed into the buffer,
// however many they are.
func (b *inbuf) load(bytes []byte) {
	if len(bytes) == 0 {
		return
	}
	b.buf = make([]byte, max(readBufferSize, len(bytes)))
	b.r, b.w = 0, int32(copy(b.buf, bytes))
}

// bytes returns the unused bytes. The slice is valid until the next call of space,
// shrink or release.
func (b *inbuf) bytes() []byte { return b.buf[b.r:b.w] }

func (b *inbuf) empty() bool { return b.r == b.w }

// full reports whether no byte more fits into the buffer.
func (b *inbuf) full() bool { return b.buf != nil && b.unused() == len(b.buf) }

func (b *inbuf) unused() int { return int(b.w - b.r) }

// cut removes the unused bytes from i to j.
func (b *inbuf) cut(i, j int) {
	unused := b.bytes()
	b.w = b.r + int32(i+copy(unused[i:], unused[j:]))
}

// discard marks the first n of the unused bytes as used.
func (b *inbuf) discard(n int) { b.r += int32(n) }

// space returns free space to read into. filled says how much of it was used.
func (b *inbuf) space() []byte {
	b.take()
	return b.buf[b.w:]
}

// take makes sure that there is a buffer, large if the last read filled a
// small one, with the unused bytes at its start.
func (b *inbuf) take() {
	size := readBufferSize
	if b.large {
		size = largeReadBufferSize
	}
	switch {
	case len(b.buf) != size && b.unused() < size:
		b.exchange(size)
	case b.r > 0:
		b.w = int32(copy(b.buf, b.bytes()))
		b.r = 0
	}
}

// filled adds n bytes that were read into space. waitsWithoutBuffer
// is true if the transport takes a buffer only when bytes have arrived.
func (b *inbuf) filled(n int, waitsWithoutBuffer bool) {
	b.w += int32(n)
	b.short = int(b.w) < len(b.buf)
	b.large = n > 0 && (int(b.w) == len(b.buf) || n >= readBufferSize && waitsWithoutBuffer)
	if !b.large && b.w > b.r {
		b.shrink() // the handler may take long before it receives these few bytes
	}
}

// shrink keeps as little memory as possible while the peer is waited for. The
// unused bytes are then the beginning of a frame, which needs no large buffer.
func (b *inbuf) shrink() {
	switch unused := b.unused(); {
	case unused == 0:
		b.release()
	case len(b.buf) > readBufferSize && unused <= readBufferSize:
		b.exchange(readBufferSize)
		b.large = b.large || b.full() // a read into a full buffer would look like the end of the stream
	}
}

// exchange moves the unused bytes into a buffer of the given size. Only the two usual sizes
// have a pool.
func (b *inbuf) exchange(size int) {
	var buf []byte
	switch size {
	case readBufferSize:
		buf = readBuffers.Get().(*[readBufferSize]byte)[:]
	case largeReadBufferSize:
		buf = largeReadBuffers.Get().(*[largeReadBufferSize]byte)[:]
	default:
		buf = make([]byte, size)
	}
	w := copy(buf, b.bytes())
	b.release()
	b.buf, b.w = buf, int32(w)
}

// release returns the buffer to its pool and drops the unused bytes.
func (b *inbuf) release() {
	buf := b.buf
	b.buf, b.r, b.w = nil, 0, 0
	releaseInput(buf)
}

// give gives the buffer to the caller. The unused bytes, which are few, stay in a new one.
func (b *inbuf) give() []byte {
	given, unused := b.buf, b.bytes()
	b.buf, b.r, b.w = nil, 0, 0
	if len(unused) > 0 {
		if len(unused) <= readBufferSize {
			b.exchange(readBufferSize)
		} else {
			b.exchange(max(largeReadBufferSize, len(unused))) // more arrived with the handshake
		}
		b.w = int32(copy(b.buf, unused))
	}
	return given
}

// releaseIfLarge returns an empty large buffer. The handler may not receive again
// for a while.
func (b *inbuf) releaseIfLarge() {
	if b.r == b.w && len(b.buf) > readBufferSize {
		b.release()
	}
}

// inputBuffers hold buffers for lent messages that do not lie in a read buffer. The sizes are
// powers of two from 8 KiB to 16 MiB. Each pool holds pointers to the first byte of buffers of
// its size, because a slice in a pool would have to be allocated.
var inputBuffers [12]sync.Pool

// minInputShift is the binary logarithm of the smallest size in inputBuffers.
const minInputShift = 13

// takeInput returns a buffer of at least n bytes. A larger one than those of the pools is
// allocated.
func takeInput(n int) []byte {
	if n <= readBufferSize {
		return readBuffers.Get().(*[readBufferSize]byte)[:]
	}
	class := bits.Len(uint(n-1)) - minInputShift
	if class >= len(inputBuffers) {
		return newPayload(n)
	}
	size := 1 << (minInputShift + class)
	if first, ok := inputBuffers[class].Get().(*byte); ok {
		return unsafe.Slice(first, size)
	}
	return newPayload(size)
}

// releaseInput returns a buffer of takeInput, or a read buffer, to its pool. A buffer of
// another size is left to the garbage collector, as is one that is nil.
func releaseInput(b []byte) {
	switch size := len(b); {
	case size == readBufferSize:
		readBuffers.Put((*[readBufferSize]byte)(b))
	case size == largeReadBufferSize:
		largeReadBuffers.Put((*[largeReadBufferSize]byte)(b))
	case size >= 1<<minInputShift && size&(size-1) == 0:
		if class := bits.Len(uint(size)) - 1 - minInputShift; class < len(inputBuffers) {
			inputBuffers[class].Put(&b[0])
		}
	}
}
