package deflate

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

const hashBits = 11

// An Encoder compresses messages for one peer. It keeps the last bytes that it has compressed, because the next message may
// refer to them (context takeover). Call Reset before the first message. It is not safe for use by several goroutines
// at the same time.
type Encoder struct {
	size  int // of the window
	buf   []byte
	n     int // the bytes in buf
	old   int // where the history begins in buf
	base  uint16
	table [1 << hashBits]uint16
}

// Reset forgets everything and sets the size of the window: no distance is larger than 1<<windowBits. It panics if
// windowBits is less than MinWindowBits or more than MaxWindowBits.
func (e *Encoder) Reset(windowBits int) {
	if windowBits < MinWindowBits || windowBits > MaxWindowBits {
		panic(fmt.Sprintf("deflate: the window has %d bits; want %d to %d", windowBits, MinWindowBits, MaxWindowBits))
	}
	e.size = 1 << windowBits
	if len(e.buf) < 2*e.size {
		e.buf = make([]byte, 2*e.size)
	}
	e.n, e.old = 0, 0
	clear(e.table[:])
}

// Forget forgets the messages so far: the next message does not refer to them.
func (e *Encoder) Forget() { e.old = e.n }

// Append compresses the message src and appends the result to dst. It returns false if the compressed message is not
// smaller than src. The caller then sends src uncompressed, and the peer's window does not change; dst is
// returned as it was, and the next call of Append behaves as if this one had not been.
func (e *Encoder) Append(dst, src []byte) (out []byte, ok bool) {
	saved := append([]byte(nil), e.buf[e.old:e.n]...)
	w := &writer{out: dst}
	w.bits(2, 3)
	for rest := src; len(rest) > 0; {
		if e.n == len(e.buf) {
			keep := min(e.size, e.n-e.old)
			copy(e.buf, e.buf[e.n-keep:e.n])
			e.base += uint16(e.n - keep)
			e.n, e.old = keep, 0
		}
		k := copy(e.buf[e.n:], rest)
		rest = rest[k:]
		e.n += k
		e.encode(w, e.n-k)
	}
	w.bits(0, 7)
	w.bits(0, 3)
	if w.n > 0 {
		w.bits(0, 8-w.n)
	}
	if len(w.out)-len(dst) >= len(src) {
		e.n, e.old = copy(e.buf, saved), 0
		clear(e.table[:])
		return dst, false
	}
	return w.out, true
}

func (e *Encoder) encode(w *writer, i int) {
	b := e.buf[:e.n]
	for i < len(b) {
		if i+4 > len(b) {
			w.literal(b[i])
			i++
			continue
		}
		v := binary.LittleEndian.Uint32(b[i:])
		h := v * 0x9e3779b1 >> (32 - hashBits)
		at := e.base + uint16(i)
		dist := int(at - e.table[h])
		e.table[h] = at
		if dist == 0 || dist > min(e.size, i-e.old) || binary.LittleEndian.Uint32(b[i-dist:]) != v {
			w.literal(b[i])
			i++
			continue
		}
		n := 4
		for n < 258 && i+n < len(b) && b[i+n-dist] == b[i+n] {
			n++
		}
		w.match(n, dist)
		i += n
	}
}

type writer struct {
	out []byte
	b   uint64
	n   int
}

func (w *writer) bits(v uint64, n int) {
	w.b |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.b))
		w.b >>= 8
		w.n -= 8
	}
}

func (w *writer) code(v, n int) { w.bits(uint64(bits.Reverse16(uint16(v))>>(16-n)), n) }

func (w *writer) literal(c byte) {
	if c < 144 {
		w.code(0x30+int(c), 8)
	} else {
		w.code(0x190+int(c)-144, 9)
	}
}

func (w *writer) match(n, dist int) {
	sym, base, extra := 285, 258, 0
	if n < 258 {
		if v := n - 3; v < 8 {
			sym, base = 257+v, n
		} else {
			extra = bits.Len(uint(v)) - 3
			sym, base = 257+4*extra+v>>extra, v>>extra<<extra+3
		}
	}
	if sym < 280 {
		w.code(sym-256, 7)
	} else {
		w.code(0xc0+sym-280, 8)
	}
	w.bits(uint64(n-base), extra)
	if v := dist - 1; v < 4 {
		w.code(v, 5)
	} else {
		k := bits.Len(uint(v)) - 2
		w.code(2*k+v>>k, 5)
		w.bits(uint64(v&(1<<k-1)), k)
	}
}
