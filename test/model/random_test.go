package model

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A random makes the random choices of one goroutine.
type random struct{ *rand.Rand }

// newRandom returns the random of a seed. The goroutines of a scenario use different values of use.
func newRandom(seed, use int) random {
	return random{rand.New(rand.NewPCG(uint64(seed), uint64(use)))}
}

// oneIn reports true once in n calls.
func (r random) oneIn(n int) bool { return r.IntN(n) == 0 }

// upTo returns a number from 1 to n. Small ones are more frequent.
func (r random) upTo(n int) int { return 1 + r.IntN(1+r.IntN(n)) }

// duration returns a duration of less than d.
func (r random) duration(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// sizes are the sizes at which the code of a frame, a buffer or a copy changes.
var sizes = []int{
	0, 125, 127, 1000, // the length has 7 or 16 bits
	4082, 4088, 4092, 4096, 8181, 8192, 16384, // the read buffer is full, with or without the header
	32768, 65522, 65536, // the length has 64 bits
	73714, 73720, 73728, 131072, // the largest read buffer, and size classes of the allocator
}

// size returns the size of a message.
func (r random) size(small bool) int {
	switch {
	case small:
		return r.IntN(300)
	case r.oneIn(3):
		return r.IntN(140_000)
	}
	return max(0, sizes[r.IntN(len(sizes))]+r.IntN(5)-2)
}

// payload returns a message of n bytes.
func (r random) payload(op websocket.Opcode, n int) []byte {
	switch {
	case op == websocket.Text:
		return r.text(n)
	case r.oneIn(5):
		return r.choose(n, "abcd")
	case r.oneIn(5):
		return r.bytes(n)
	}
	return r.choose(n, looksLikeFrames)
}

// looksLikeFrames are bytes that begin control frames and data frames and their masked lengths.
// Where a frame is searched in them, there often is one.
const looksLikeFrames = "\x80\x81\x82\x88\x89\x8a"

func (r random) choose(n int, from string) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from[r.IntN(len(from))]
	}
	return b
}

func (r random) bytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// text returns n bytes of UTF-8, with characters of all lengths.
func (r random) text(n int) []byte {
	characters := []string{"é", "€", "𐍈", "\x7f", "\U0010ffff", "\ud7ff", "\ue000"}
	b := make([]byte, 0, n)
	for len(b) < n {
		c := "x"
		if r.oneIn(4) {
			c = characters[r.IntN(len(characters))]
		}
		if len(b)+len(c) > n {
			c = "z"
		}
		b = append(b, c...)
	}
	return b
}

// A compressor compresses the messages of a scenario. It is reused, because a new flate.Writer takes
// much memory.
type compressor struct {
	random
	w   *flate.Writer
	out bytes.Buffer
}

func (r random) newCompressor() *compressor {
	levels := []int{flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.HuffmanOnly}
	c := &compressor{random: r}
	c.w, _ = flate.NewWriter(&c.out, levels[r.IntN(len(levels))]) // fails only for an invalid level
	return c
}

// compress returns b compressed, in random blocks (RFC 7692 section 7.2.1). The last block may
// have BFINAL (section 7.2.3.4).
func (c *compressor) compress(b []byte) []byte {
	c.out.Reset()
	c.w.Reset(&c.out)
	for len(b) > 0 {
		n := c.upTo(len(b))
		c.w.Write(b[:n])
		b = b[n:]
		if c.oneIn(3) {
			c.w.Flush()
		}
	}
	if c.oneIn(4) {
		c.w.Close()
		return append(bytes.Clone(c.out.Bytes()), 0)
	}
	c.w.Flush()
	return bytes.Clone(bytes.TrimSuffix(c.out.Bytes(), []byte{0, 0, 0xff, 0xff}))
}

// frame returns a frame of the client. The masking key is often 0, because then a payload that
// looks like frames also looks like them on the wire.
func (r random) frame(first byte, payload []byte) []byte {
	var key [4]byte
	if r.oneIn(2) {
		binary.LittleEndian.PutUint32(key[:], r.Uint32())
	}
	b := append(wstest.AppendHeader(nil, first, 0x80, uint64(len(payload))), key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}
