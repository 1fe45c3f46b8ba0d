package load

import (
	"encoding/binary"
	"math/rand/v2"
	"unicode/utf8"
)

// A Text is the kind of a message's payload.
type Text string

const (
	Binary    Text = "" // random bytes
	ASCII     Text = "ascii"
	MultiByte Text = "multibyte" // Latin, Cyrillic, Chinese and emoji
	JSON      Text = "json"      // different messages, see newCorpus
)

const (
	ascii     = "The quick brown fox jumps over the lazy dog. "
	multiByte = "Größe, señor, où? Съешь ещё этих мягких булок. 春眠不觉晓，处处闻啼鸟。 🦊🌍🎈 "
)

// payload returns a payload of size bytes.
func payload(t Text, size int, random *rand.Rand) []byte {
	p := make([]byte, 0, size+8)
	for len(p) < size {
		switch t {
		case ASCII:
			p = append(p, ascii...)
		case MultiByte:
			p = append(p, multiByte...)
		default:
			p = binary.LittleEndian.AppendUint64(p, random.Uint64())
		}
	}
	p = p[:size]
	// If the cut is in the middle of a character, replace its bytes with spaces.
	for i := size; t == MultiByte && !utf8.Valid(p); i-- {
		p[i-1] = ' '
	}
	return p
}

// Wire returns the bytes of n messages of w as a client sends them, and the bytes of the
// echoes. They are the same in every process.
func (w Workload) Wire(n int) (sent, echoed []byte) {
	random := rand.New(rand.NewPCG(6455, 13))
	for range n {
		p := payload(w.Text, w.Size, random)
		sent = w.appendMessage(sent, p, random)
		echoed = append(appendHeader(echoed, 0x80|w.opcode(), 0, len(p)), p...)
	}
	return sent, echoed
}

func (w Workload) opcode() byte {
	if w.Text == Binary {
		return 2
	}
	return 1
}

// appendMessage appends the message p in masked frames.
func (w Workload) appendMessage(dst, p []byte, random *rand.Rand) []byte {
	op := w.opcode()
	size := len(p)
	if w.Fragment > 0 {
		size = w.Fragment
	}
	for {
		n := min(size, len(p))
		if n == len(p) {
			op |= 0x80
		}
		dst = appendMasked(dst, op, p[:n], random.Uint32())
		p, op = p[n:], 0
		if len(p) == 0 {
			return dst
		}
	}
}

func appendMasked(dst []byte, first byte, p []byte, mask uint32) []byte {
	key := binary.LittleEndian.AppendUint32(nil, mask)
	dst = append(appendHeader(dst, first, 0x80, len(p)), key...)
	for i, b := range p {
		dst = append(dst, b^key[i&3])
	}
	return dst
}

func appendHeader(dst []byte, first, masked byte, length int) []byte {
	switch {
	case length < 126:
		return append(dst, first, masked|byte(length))
	case length <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, first, masked|126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, first, masked|127), uint64(length))
}
