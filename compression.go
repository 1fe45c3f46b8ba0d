package websocket

import (
	"sync"
	"sync/atomic"

	"github.com/f44ffc3b/websocket/internal/deflate"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// A compressed message may refer to earlier messages, which the peer has inflated (context
// takeover). Without that, small messages do not become smaller. So the encoder of a connection
// must see the compressed messages in the order in which they are written: it is used with the lock
// of the writer held, and its result is the next message that is written. Uncompressed messages do
// not matter (RFC 7692 section 7.2.1). A message that was compressed alone, without history, is in
// the peer's window too, so the encoder learns it. If the bytes of such a message are not available
// any more, the encoder forgets its history.
//
// A message is one frame: some clients cannot read compressed fragments.

// aloneSize is the largest message of SendMessage and TrySend that is compressed with the history.
// A larger one is compressed before the lock is taken, because compressing it takes long and the
// history saves little. MessageWriter and Stream compress with the lock held, whatever the size.
const aloneSize = 16 << 10

// gatherSize is how much a MessageWriter gathers for one compressed frame.
const gatherSize = 64 << 10

// encoders hold no state of a connection. There is a pool for each size of the window, because an
// Encoder allocates when its size changes. The largest has 12 KiB.
var encoders [deflate.MaxWindowBits + 1]sync.Pool

// A compression is the permessage-deflate of one connection.
type compression struct {
	agreed  agreement
	minSize atomic.Int64 // see SetCompression

	decoder *deflate.Decoder // of the message that is being received, or nil; in.lock guards it

	// out.lock guards the following. The encoder is taken from its pool for the first message, and
	// returned when none was sent for a while.
	encoder *deflate.Encoder
	used    bool       // since the last call of returnIdle
	ordered bool       // the frame in writer.send refers to those before it
	idle    wait.Alarm // calls returnIdle if there are no pings
}

func newCompression(agreed agreement, minSize int) *compression {
	c := &compression{agreed: agreed}
	c.minSize.Store(int64(minSize))
	return c
}

// on reports whether messages are compressed now. c may be nil.
func (c *compression) on() bool { return c != nil && c.minSize.Load() >= 0 }

// wants reports whether a message of size bytes is to be compressed. c may be nil.
func (c *compression) wants(op Opcode, size int) bool {
	if c == nil || op.IsControl() {
		return false
	}
	least := c.minSize.Load()
	return least >= 0 && int64(size) >= least
}

// alone reports whether a message of size bytes is compressed without history, before the lock
// of the writer is taken.
func (c *compression) alone(size int) bool { return c.agreed.noTakeover || size > aloneSize }

// room returns an empty buffer of a pool for the compressed form of size bytes. releaseFrames
// puts it back. If more than pendingSize bytes are appended, they move to another array.
func room(size int) []byte {
	const more = maxHeaderSize + 64
	return withRoom(nil, min(size+size/8+more, pendingSize))
}

// newEncoder returns an encoder without history.
func newEncoder(windowBits uint8) *deflate.Encoder {
	e, ok := encoders[windowBits].Get().(*deflate.Encoder)
	if !ok {
		e = new(deflate.Encoder)
	}
	e.Reset(int(windowBits))
	return e
}

// releaseEncoder returns an encoder to its pool.
func releaseEncoder(e *deflate.Encoder, windowBits uint8) { encoders[windowBits].Put(e) }

// appendAlone compresses data without history and appends the result to dst. ok is false if
// the result is not smaller.
func appendAlone(dst, data []byte, windowBits uint8) (out []byte, ok bool) {
	e := newEncoder(windowBits)
	defer releaseEncoder(e, windowBits)
	return e.Append(dst, data)
}

// frameAlone compresses data without history and returns it as a whole frame, or nil if it does
// not become smaller.
func frameAlone(op Opcode, data []byte, windowBits uint8) []byte {
	payload, ok := appendAlone(room(len(data)), data, windowBits)
	defer releaseFrames(payload)
	if !ok {
		return nil
	}
	h := Header{Fin: true, RSV1: true, Opcode: op}
	return append(h.append(newFrame(maxHeaderSize+len(payload)), int64(len(payload))), payload...)
}

// An aloneFrame is a whole frame of a message that was compressed without history.
type aloneFrame struct {
	bytes   []byte
	history []byte // the end of the message, at most a window; nil if it was not kept
}

// compressedFrames are the compressed frames of a PreparedMessage, made when a connection needs
// them, because the windows of connections differ.
type compressedFrames struct {
	mu     sync.Mutex // while a frame is made
	frames [deflate.MaxWindowBits - deflate.MinWindowBits + 1]atomic.Pointer[aloneFrame]
}
