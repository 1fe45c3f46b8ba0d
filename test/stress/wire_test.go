//go:build unix

package stress

import (
	"fmt"
	"slices"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A message is one that a client sends.
type message struct {
	op   byte
	text string
}

// A part is what a client writes at once, after a delay.
type part struct {
	delay time.Duration
	bytes []byte
	whole bool // it ends with a frame, so that a pong may follow
}

// framesOf returns a message in frames, with pings between them. It adds those pings to s.pings.
func (s *script) framesOf(m message) (frames [][]byte) {
	first, rest := m.op, m.text
	for s.oneIn(4) && len(frames) < 8 {
		n := s.IntN(len(rest) + 1) // a character may be cut
		frames = append(frames, wstest.ClientFrame(first, rest[:n]))
		first, rest = wstest.Continuation, rest[n:]
		if s.oneIn(3) {
			frames = append(frames, s.ping())
		}
	}
	frames = append(frames, wstest.ClientFrame(wstest.Fin|first, rest))
	if s.oneIn(5) {
		frames = append(frames, s.ping())
	}
	return frames
}

// ping returns a ping whose payload is its number.
func (s *script) ping() []byte {
	payload := fmt.Sprintf("ping %d", len(s.pings))
	s.pings = append(s.pings, payload)
	return wstest.Message(wstest.Ping, payload)
}

// The ways to cut what a client sends.
const (
	inOnePart   = "in one part"
	frameParts  = "frame by frame"
	byteParts   = "byte by byte"
	randomParts = "cut at random"
)

const (
	maxByteParts = 400                    // bytes, because each is a system call
	maxDelay     = 150 * time.Millisecond // less than half of connectionTimeout: a client may not send a pong inside a frame
)

// cut returns the frames in parts.
func (s *script) cut(frames [][]byte) []part {
	all := slices.Concat(frames...)
	var ends []int // of the frames
	for _, f := range frames {
		end := len(f)
		if len(ends) > 0 {
			end += ends[len(ends)-1]
		}
		ends = append(ends, end)
	}
	s.how = pick(s.random, inOnePart, inOnePart, frameParts, byteParts, randomParts, randomParts)
	if s.how == byteParts && len(all) > maxByteParts || s.how != inOnePart && s.fewParts {
		s.how = randomParts
	}
	at := s.cuts(len(all), ends)
	var parts []part
	from := 0
	for _, to := range at {
		p := part{bytes: all[from:to], whole: slices.Contains(ends, to)}
		if s.how == randomParts && from > 0 && s.oneIn(2) {
			p.delay = s.between(0, maxDelay)
		}
		parts, from = append(parts, p), to
	}
	return parts
}

// cuts returns where the parts end.
func (s *script) cuts(size int, ends []int) (at []int) {
	switch s.how {
	case frameParts:
		return ends
	case byteParts:
		for i := range size {
			at = append(at, i+1)
		}
		return at
	case randomParts:
		for range s.upTo(6) {
			at = append(at, 1+s.IntN(size))
		}
	}
	at = append(at, size)
	slices.Sort(at)
	return slices.Compact(at)
}
