package websocket

import "sync/atomic"

// A tally has the counts of the messages and bytes of one direction, for goroutines that do not
// hold the lock of that direction. An atomic operation for each message would make small messages
// slower. So the goroutine that holds the lock counts with plain numbers, and adds them to the
// tally once for each system call.
//
// One atomic store has to show both counts, so they are packed into one number: the bytes into
// the lower 40 bits, and the messages above. When one of them is half full, both are moved to
// overflow.
type tally struct{ packed atomic.Uint64 }

const (
	oneMessage = 1 << 40        // one message in a packed number
	bytesMask  = oneMessage - 1 // the bytes in it
	halfFull   = 1<<63 | 1<<39  // set if one of the counts is half full
)

// A direction is an index of overflow.
type direction byte

const (
	receiving direction = iota
	sending
)

// overflow holds the counts that were moved out of the tallies of a connection. life.mu guards it.
type overflow [2]counts

// counts are numbers that are not packed.
type counts struct{ messages, bytes uint64 }

func (c *counts) add(packed uint64) {
	c.messages += packed / oneMessage
	c.bytes += packed & bytesMask
}

// endsMessage reports whether a frame that begins with b ends a message, which then counts.
func endsMessage(b []byte) bool { return b[0]&0x80 != 0 && !Opcode(b[0]&opcodeBits).IsControl() }
