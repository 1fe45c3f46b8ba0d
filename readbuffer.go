package websocket

import (
	"encoding/binary"
	"math"
	"sync"
)

// A connection holds a read buffer only while there is something in it: an idle
// one on TCP waits for the socket to be readable with none. Buffers come in two
// sizes, the larger for a peer that sends more at once than the smaller holds: with
// 32 messages of 1 KiB in flight, that halves what each costs (BenchmarkReadBuffer).
// A message of 64 KiB fits it along with its header.
const (
	readBufferSize      = 4 << 10
	largeReadBufferSize = 72 << 10
)

var (
	readBuffers      = sync.Pool{New: func() any { return new([readBufferSize]byte) }}
	largeReadBuffers = sync.Pool{New: func() any { return new([largeReadBufferSize]byte) }}
)

// takeBuffer makes sure that there is a buffer, of the size that the peer has
// shown to need, with what was not yet used at its start.
func (in *receiver) takeBuffer() {
	size := readBufferSize
	if in.bulk {
		size = largeReadBufferSize
	}
	unused := in.w - in.r
	switch {
	case len(in.buf) != size && unused < size:
		in.exchangeBuffer(size)
	case in.r > 0:
		in.w = copy(in.buf, in.buffered())
		in.r = 0
	}
}

// shrinkBuffer holds on to as little as it can while the peer is waited for: the
// beginning of a frame, which is all that can be left over, takes no large buffer.
func (in *receiver) shrinkBuffer() {
	switch unused := in.w - in.r; {
	case unused == 0:
		in.releaseBuffer()
	case len(in.buf) > readBufferSize && unused < readBufferSize:
		in.exchangeBuffer(readBufferSize)
	}
}

// exchangeBuffer goes on with a buffer of the given size, one of the two.
func (in *receiver) exchangeBuffer(size int) {
	var buf []byte
	if size == readBufferSize {
		buf = readBuffers.Get().(*[readBufferSize]byte)[:]
	} else {
		buf = largeReadBuffers.Get().(*[largeReadBufferSize]byte)[:]
	}
	w := copy(buf, in.buffered())
	in.releaseBuffer()
	in.buf, in.w = buf, w
}

// releaseBuffer gives the buffer back, and what is in it.
func (in *receiver) releaseBuffer() {
	switch len(in.buf) {
	case readBufferSize:
		readBuffers.Put((*[readBufferSize]byte)(in.buf))
	case largeReadBufferSize:
		largeReadBuffers.Put((*[largeReadBufferSize]byte)(in.buf))
	}
	in.buf, in.r, in.w = nil, 0, 0
}

// wholeFrame returns where the payload of the frame that b begins with starts and
// ends, or an end of 0 if that is not a masked frame that is all there, or its length
// not in the shortest form. The rules are those of parseLength, to call which costs a
// message of 1 KiB a twentieth of its time.
func wholeFrame(b []byte) (start, end int) {
	const key = 4
	if len(b) < 2+key {
		return 0, 0
	}
	start, length := 2+key, int(b[1]^maskBit)
	switch {
	case length <= maxControlPayload:
	case length == length16 && len(b) >= 4+key:
		start, length = 4+key, int(binary.BigEndian.Uint16(b[2:]))
		if length <= maxControlPayload {
			return 0, 0
		}
	case length == length64 && len(b) > math.MaxUint16 && binary.BigEndian.Uint64(b[2:]) <= uint64(len(b)):
		start, length = 10+key, int(binary.BigEndian.Uint64(b[2:]))
		if length <= math.MaxUint16 {
			return 0, 0
		}
	default:
		return 0, 0
	}
	end = start + length
	if end > len(b) {
		return 0, 0
	}
	return start, end
}
