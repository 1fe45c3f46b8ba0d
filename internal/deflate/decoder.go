package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math"
)

// A Decoder inflates one message after the other. The zero value is ready for a message of any size. It is not safe for
// use by several goroutines at the same time.
type Decoder struct {
	max    int64
	in     []byte
	out    []byte
	closed bool
}

// Reset begins a message that may have max bytes when it is inflated; less than 0 means no limit. The Decoder keeps
// nothing of the message before.
func (d *Decoder) Reset(max int64) {
	if max < 0 {
		max = math.MaxInt64
	}
	*d = Decoder{max: max, in: d.in[:0], out: d.out[:0]}
}

// Append inflates src, the next bytes of the compressed message, and appends the result to dst. The message may be cut
// anywhere, and src may be empty. The inflated bytes of the message so far must be the end of dst, because the rest of
// the message refers to them; bytes before them are not touched. With last, src is the end of the message.
//
// Append returns ErrTooLarge if the message is larger than its limit. dst grows by doubling, and never has room
// for more than the limit. After an error, only Reset may be called.
func (d *Decoder) Append(dst, src []byte, last bool) ([]byte, error) {
	d.in = append(d.in, src...)
	if !last {
		return dst, nil
	}
	r := flate.NewReader(io.MultiReader(bytes.NewReader(d.in), bytes.NewReader([]byte("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	b, err := io.ReadAll(io.LimitReader(r, min(d.max, math.MaxInt64-1)+1))
	if int64(len(b)) > d.max {
		return dst, ErrTooLarge
	}
	if err != nil {
		var c flate.CorruptInputError
		errors.As(err, &c)
		return dst, &CorruptError{int64(c), "bad data"}
	}
	return append(dst, b...), nil
}

// Read inflates src, the next bytes of the compressed message, into p. It returns the number of bytes that it wrote to
// p and the number of bytes that it has taken from src. With last, src is the end of the message. It stops when p is
// full or src is used up; call it again with the rest of src. The error is io.EOF when the message is
// complete; n may be more than 0 then. It is ErrTooLarge if the message is larger than its limit.
//
// The Decoder keeps a copy of up to 32 KiB of what it wrote, because p belongs to the caller. Do not use Read and Append for the
// same message.
func (d *Decoder) Read(p, src []byte, last bool) (n, used int, err error) {
	if !d.closed {
		d.out, err = d.Append(d.out, src, last)
		used = len(src)
		if err != nil {
			return 0, used, err
		}
		d.closed = last
	}
	n = copy(p, d.out)
	d.out = d.out[n:]
	if d.closed && len(d.out) == 0 {
		err = io.EOF
	}
	return n, used, err
}
