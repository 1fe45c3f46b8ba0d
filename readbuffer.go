package websocket

import "sync"

// A connection holds a read buffer only while there is something in it: an idle
// one on TCP waits for the socket to be readable with none. Buffers come in two
// sizes, the larger for a peer that has filled the smaller in one go.
const (
	readBufferSize      = 4 << 10
	largeReadBufferSize = 32 << 10
)

var (
	readBuffers      = sync.Pool{New: func() any { return new([readBufferSize]byte) }}
	largeReadBuffers = sync.Pool{New: func() any { return new([largeReadBufferSize]byte) }}
)

// takeBuffer makes sure that there is a buffer, of the size that the peer has
// shown to fill, with what was not yet used at its start.
func (in *receiver) takeBuffer() {
	unused := in.buffered()
	if in.buf != nil && (len(in.buf) > readBufferSize || !in.filled) {
		if in.r > 0 {
			in.w = copy(in.buf, unused)
			in.r = 0
		}
		return
	}
	var buf []byte
	if in.filled {
		buf = largeReadBuffers.Get().(*[largeReadBufferSize]byte)[:]
	} else {
		buf = readBuffers.Get().(*[readBufferSize]byte)[:]
	}
	w := copy(buf, unused)
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
// ends, or an end of 0 if that is not a masked frame that is all there. A length that is not in
// the shortest form is none, nor is one of 64 bits, for which no buffer is large enough.
func wholeFrame(b []byte) (start, end int) {
	const key = 4
	if len(b) < 2+key {
		return 0, 0
	}
	start, length := 2+key, int(b[1]^maskBit)
	if length > maxControlPayload {
		if length != length16 || len(b) < 4+key {
			return 0, 0
		}
		start, length = 4+key, int(b[2])<<8|int(b[3])
		if length <= maxControlPayload {
			return 0, 0
		}
	}
	end = start + length
	if end > len(b) {
		return 0, 0
	}
	return start, end
}
