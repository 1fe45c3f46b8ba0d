package deflate

import "sync"

const windowSize = 32 << 10 // the largest distance of RFC 1951

// A window keeps the last inflated bytes of a message for Read, because the slices that Read has
// filled belong to its caller. It is a ring buffer.
type window struct {
	next int // where the next byte goes
	buf  [windowSize]byte
}

var windows = sync.Pool{New: func() any { return new(window) }}

// remember adds p to the window.
func (d *Decoder) remember(p []byte) {
	if len(p) == 0 {
		return
	}
	if d.window == nil {
		d.window = windows.Get().(*window)
		d.window.next = 0
	}
	w := d.window
	if len(p) >= windowSize {
		copy(w.buf[:], p[len(p)-windowSize:])
		w.next = 0
		return
	}
	n := copy(w.buf[w.next:], p)
	copy(w.buf[:], p[n:])
	w.next = (w.next + len(p)) % windowSize
}

// forget returns the window to its pool.
func (d *Decoder) forget() {
	if d.window != nil {
		windows.Put(d.window)
		d.window = nil
	}
}

// copyTo copies bytes of the window to p and returns how many it has copied. The argument behind is
// the distance of the first byte from the end of the window.
func (w *window) copyTo(p []byte, behind int) int {
	from := w.next - behind
	if from >= 0 {
		return copy(p, w.buf[from:w.next])
	}
	n := copy(p, w.buf[from+windowSize:])
	return n + copy(p[n:], w.buf[:w.next])
}
