package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A peer inflates the messages of one Encoder as a client does that has agreed to a window: one stream with
// compress/flate, and a decoder of its own that checks each distance.
type peer struct {
	windowBits int
	in         bytes.Buffer
	flate      io.Reader
	history    []byte
}

func newPeer(windowBits int) *peer {
	p := &peer{windowBits: windowBits}
	p.flate = flate.NewReader(&p.in)
	return p
}

// receive returns an error if the message is not want, or refers to bytes that the peer does not have any more.
func (p *peer) receive(msg, want []byte) error {
	p.in.Write(msg)
	p.in.WriteString(messageTail)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.flate, got); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("compress/flate: got %d bytes with a difference at %d, %v", len(got), difference(got, want), err)
	}
	before := len(p.history)
	var err error
	if p.history, err = strictInflate(p.history, msg, 1<<p.windowBits); err != nil {
		return fmt.Errorf("strict decoder: %w", err)
	}
	if !bytes.Equal(p.history[before:], want) {
		got := p.history[before:]
		return fmt.Errorf("strict decoder: got %d bytes with a difference at %d; want %d", len(got), difference(got, want), len(want))
	}
	if window := 1 << p.windowBits; len(p.history) > window {
		p.history = append(p.history[:0], p.history[len(p.history)-window:]...)
	}
	return nil
}

// difference returns where a and b differ.
func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// strictInflate appends the message to history. It is the simplest decoder that there is: it shares no code with
// Decoder, except its tables of lengths.
func strictInflate(history, msg []byte, window int) ([]byte, error) {
	b := &bitReader{in: append(bytes.Clone(msg), messageTail...)}
	for b.pos < 8*len(b.in) {
		if b.take(1) == 1 {
			return history, errors.New("BFINAL")
		}
		var lit, dist *prefixCode
		switch b.take(2) {
		case 0:
			b.pos = (b.pos + 7) &^ 7
			n := b.take(16)
			if b.take(16) != n^0xffff {
				return history, errors.New("the length of a stored block")
			}
			for range n {
				history = append(history, byte(b.take(8)))
			}
			continue
		case 1:
			lit, dist = fixedPrefixCodes()
		case 2:
			lit, dist = b.header()
		default:
			return history, errors.New("block type 3")
		}
		var err error
		if history, err = b.symbols(history, lit, dist, window); err != nil {
			return history, err
		}
	}
	return history, nil
}

// symbols appends what the symbols of a block stand for.
func (b *bitReader) symbols(history []byte, lit, dist *prefixCode, window int) ([]byte, error) {
	for {
		symbol := b.symbol(lit)
		switch {
		case symbol < 0 || symbol > 285:
			return history, errors.New("a literal or length code")
		case symbol < 256:
			history = append(history, byte(symbol))
			continue
		case symbol == 256:
			return history, nil
		}
		n, extra := lengthBase(symbol)
		n += b.take(extra)
		d := b.symbol(dist)
		if d < 0 || d > 29 {
			return history, errors.New("a distance code")
		}
		if d >= 4 {
			d = (2+d%2)<<(d/2-1) + b.take(d/2-1)
		}
		if d+1 > window || d+1 > len(history) {
			return history, fmt.Errorf("distance %d with a window of %d and a history of %d", d+1, window, len(history))
		}
		for range n {
			history = append(history, history[len(history)-d-1])
		}
	}
}

var fixedPrefixCodes = sync.OnceValues(func() (lit, dist *prefixCode) {
	var lens [numLit]int
	for i := range lens {
		lens[i] = int(fixedBits(i))
	}
	lit = newPrefixCode(lens[:])
	for i := range numDist {
		lens[i] = 5
	}
	return lit, newPrefixCode(lens[:numDist])
})

// A bitReader reads bits; behind the end of its input they are 0.
type bitReader struct {
	in  []byte
	pos int
}

func (b *bitReader) take(n int) (v int) {
	for i := range n {
		if at := b.pos / 8; at < len(b.in) {
			v |= int(b.in[at]>>(b.pos%8)&1) << i
		}
		b.pos++
	}
	return v
}

// A prefixCode has how many codes of each length there are, and the symbols in the order of their codes.
type prefixCode struct {
	count   [maxBits + 1]int
	symbols []int
}

func newPrefixCode(lens []int) *prefixCode {
	c := new(prefixCode)
	for n := 1; n <= maxBits; n++ {
		for symbol, l := range lens {
			if l == n {
				c.count[n]++
				c.symbols = append(c.symbols, symbol)
			}
		}
	}
	return c
}

// symbol returns the next symbol, or -1 if there is none with this code.
func (b *bitReader) symbol(c *prefixCode) int {
	code, first, index := 0, 0, 0
	for n := 1; n <= maxBits; n++ {
		code |= b.take(1)
		if code-first < c.count[n] {
			return c.symbols[index+code-first]
		}
		index += c.count[n]
		first = (first + c.count[n]) << 1
		code <<= 1
	}
	return -1
}

func (b *bitReader) header() (lit, dist *prefixCode) {
	lits, dists, lens := b.take(5)+257, b.take(5)+1, b.take(4)+4
	var first [numLens]int
	for i := range lens {
		first[lensOrder[i]] = b.take(3)
	}
	codes := newPrefixCode(first[:])
	var all []int
	for len(all) < lits+dists {
		symbol := b.symbol(codes)
		n, value := 1, symbol
		switch symbol {
		case -1:
			return new(prefixCode), new(prefixCode)
		case 16:
			n, value = 3+b.take(2), all[len(all)-1]
		case 17:
			n, value = 3+b.take(3), 0
		case 18:
			n, value = 11+b.take(7), 0
		}
		for range n {
			all = append(all, value)
		}
	}
	return newPrefixCode(all[:lits]), newPrefixCode(all[lits:])
}
