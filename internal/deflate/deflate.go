// Package deflate compresses and inflates the messages of permessage-deflate (RFC 7692).
//
// A message is a series of DEFLATE blocks (RFC 1951) without a zlib header. Its last block is an
// empty stored block, of which the last four bytes, 00 00 ff ff, are not sent (RFC 7692 section
// 7.2.1).
//
// The Encoder keeps a window of a few kilobytes between messages, because small messages become
// smaller only if they can refer to the messages before them. The Decoder keeps nothing between
// messages: the peer must have agreed to client_no_context_takeover.
package deflate

import (
	"errors"
	"fmt"
)

// These are the sizes of the Encoder's window that Reset accepts, as powers of two. RFC 7692 allows
// 8 to 15. More than 12 gains little for small messages and costs much memory.
const (
	MinWindowBits = 8
	MaxWindowBits = 12
)

// ErrTooLarge means that a message is larger than its limit.
var ErrTooLarge = errors.New("the inflated message is larger than its limit")

// A CorruptError means that a message is not valid DEFLATE data.
type CorruptError struct {
	Offset int64  // about where in the compressed message, in bytes
	Reason string // what is wrong there
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the compressed data is corrupt at byte %d: %s", e.Offset, e.Reason)
}
