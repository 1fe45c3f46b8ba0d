package deflate

import (
	"io"
	"math"
)

// A Decoder inflates one message after the other. The zero value is ready for a message: Reset is
// needed only before the next one, or to set a limit. A Decoder is not safe for use by several
// goroutines at the same time.
//
// After an error, only Reset may be called.
type Decoder struct {
	limited bool
	max     int64 // the limit of the message
	total   int64 // how many bytes of the message have been inflated
	taken   int64 // how many bytes of the compressed message have been taken

	// The bits that have been taken from the message and not used yet. The next one is the lowest.
	// The bits above the first nbits are 0, except inside Decoder.fast.
	bits  uint64
	nbits uint

	step   step
	final  bool // the block has BFINAL
	tail   int  // how many bytes of messageTail have been taken
	length int  // the rest of a match, or of a stored block
	dist   int  // the distance of the match
	window *window

	lit    *litTable // the codes of the block: those in own, or the fixed ones
	codes  *distTable
	own    tables
	header header
}

// Reset begins a message that may have max bytes when it is inflated; a max below 0 means no limit.
// The Decoder keeps nothing of the earlier message.
func (d *Decoder) Reset(max int64) {
	d.forget()
	d.limited, d.max = max >= 0, max
	d.total, d.taken = 0, 0
	d.bits, d.nbits = 0, 0
	d.step, d.final, d.tail = stepHeader, false, 0
	d.length, d.dist = 0, 0
}

// Append inflates src, the next bytes of the compressed message, and appends the result to dst. The
// message may be split anywhere, and src may be empty. With last, src is the end of the message.
//
// The end of dst must be the bytes of the message so far, because the rest of the message refers to
// them. Bytes before them are not touched. Bytes between the length and the capacity of dst may be
// overwritten.
//
// Append returns ErrTooLarge if the message is larger than its limit. dst grows by at most a factor
// of two or a small multiple of src, and not beyond the limit. If Append returns an error, the
// result has the bytes before it.
func (d *Decoder) Append(dst, src []byte, last bool) ([]byte, error) {
	s := stream{src: src}
	for {
		room := min(int64(cap(dst)-len(dst)), d.left())
		s.out, s.pos, s.start = dst[:len(dst)+int(room)], len(dst), len(dst)-int(d.total)
		status, err := d.advance(&s, last)
		d.total += int64(s.pos - len(dst))
		dst = s.out[:s.pos]
		if err != nil {
			return dst, err
		}
		if status != needsRoom {
			return dst, nil
		}
		if d.left() == 0 {
			return dst, ErrTooLarge
		}
		dst = d.grow(dst, len(src)-s.next)
	}
}

// left returns how many more bytes the message may have.
func (d *Decoder) left() int64 {
	if !d.limited {
		return math.MaxInt64
	}
	return d.max - d.total
}

// grow returns dst with more room. rest is the number of bytes of the input that are left.
func (d *Decoder) grow(dst []byte, rest int) []byte {
	// Few messages shrink to less than a quarter. So most of them need only one allocation.
	more := min(max(d.total, 4*int64(rest), 64), d.left())
	grown := make([]byte, len(dst), len(dst)+int(more))
	copy(grown, dst)
	return grown
}

// Read inflates src, the next bytes of the compressed message, into p. It returns the number of
// bytes that it wrote to p and the number of bytes that it has taken from src. With last, src is
// the end of the message. Read stops when p is full or src is used up; call it again with the rest
// of src. The error is io.EOF when the message is complete, and n may be more than 0 then. It is
// ErrTooLarge if the message is larger than its limit.
//
// The Decoder borrows a window of 32 KiB for a message that needs more than one call, because p
// belongs to the caller. Reset, the end of the message and an error give it back. Do not use Read
// and Append for the same message.
func (d *Decoder) Read(p, src []byte, last bool) (n, used int, err error) {
	s := stream{src: src, out: p[:min(int64(len(p)), d.left())], history: d.total}
	status, corrupt := d.advance(&s, last)
	d.total += int64(s.pos)
	switch {
	case corrupt != nil:
		err = corrupt
	case status == complete:
		err = io.EOF
	case status == needsRoom && d.left() == 0:
		err = ErrTooLarge
	default:
		d.remember(p[:s.pos])
		return s.pos, s.next, nil
	}
	d.forget()
	return s.pos, s.next, err
}

// messageTail are the bytes that a sender removes from the end of a message (RFC 7692 section
// 7.2.1).
const messageTail = "\x00\x00\xff\xff"

// advance inflates the rest of s.src. With last, it adds messageTail and returns complete at its
// end.
func (d *Decoder) advance(s *stream, last bool) (status, *CorruptError) {
	got, err := d.count(s)
	if err != nil || got != needsInput || !last {
		return got, err
	}
	if d.tail == 0 && d.step == stepHeader && d.nbits < 3 && d.bits < 2 {
		// The message ends with a block, without the whole header of the empty block after it. RFC
		// 7692 does not allow that, but receivers with zlib do, and some senders compress an empty
		// message to nothing.
		return complete, nil
	}
	return d.finish(s)
}

// finish inflates the messageTail. It is not part of advance, because the copy of s would make the
// stack of every step deeper.
func (d *Decoder) finish(s *stream) (status, *CorruptError) {
	size := d.taken - int64(d.tail)
	end := *s
	end.src, end.next = []byte(messageTail)[d.tail:], 0
	got, err := d.count(&end)
	d.tail += end.next
	s.pos = end.pos
	if err == nil && got == needsInput {
		if d.step == stepHeader && d.nbits == 0 {
			return complete, nil
		}
		err = &CorruptError{size, "the message ends inside a block"}
	}
	if err != nil {
		err.Offset = min(err.Offset, size)
	}
	return got, err
}

// count calls run. It counts the input, and sets the offset of an error.
func (d *Decoder) count(s *stream) (status, *CorruptError) {
	before := s.next
	got, reason := d.run(s)
	d.taken += int64(s.next - before)
	if reason != "" {
		return got, &CorruptError{d.taken - int64(d.nbits/8), reason}
	}
	return got, nil
}
