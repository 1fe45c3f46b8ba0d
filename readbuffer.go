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

// wholeFrame reports whether b begins with a whole frame of a client.
func wholeFrame(b []byte) bool {
	const key = 4
	if len(b) < 2+key {
		return false
	}
	switch n := int(b[1] & lengthBits); n {
	case length64:
		return false // no buffer is that large
	case length16:
		return len(b) >= 4+key+(int(b[2])<<8|int(b[3]))
	default:
		return len(b) >= 2+key+n
	}
}
