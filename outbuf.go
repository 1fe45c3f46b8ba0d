package websocket

import "sync"

// pendingSize is how many bytes of frames may wait to be written together.
const pendingSize = 64 << 10

// pendingBuffers are for more frames than one of frameBuffers holds. A small frame does
// not take one, because a blocked write must not hold 64 KiB for it.
var pendingBuffers = sync.Pool{New: func() any { return new([pendingSize]byte) }}

// withRoom returns the pending frames b with capacity for size bytes more. If the total is
// more than pendingSize, the caller's append has to allocate.
func withRoom(b []byte, size int) []byte {
	need := len(b) + size
	switch {
	case need <= cap(b):
		return b
	case need <= frameBufferSize:
		small := append(frameBuffers.Get().(*[frameBufferSize]byte)[:0], b...)
		releaseFrames(b)
		return small
	}
	larger := append(pendingBuffers.Get().(*[pendingSize]byte)[:0], b...)
	releaseFrames(b)
	return larger
}

// releaseFrames returns a buffer of withRoom to its pool.
func releaseFrames(b []byte) {
	switch cap(b) {
	case frameBufferSize:
		frameBuffers.Put((*[frameBufferSize]byte)(b[:cap(b)]))
	case pendingSize:
		pendingBuffers.Put((*[pendingSize]byte)(b[:cap(b)]))
	}
}
