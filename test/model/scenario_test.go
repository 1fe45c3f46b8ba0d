package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A message is what the client sends and the handler must receive.
type message struct {
	op         websocket.Opcode
	data       []byte
	compressed bool
	sent       []byte // data, compressed or not, that the frames carry
	fragments  int    // how many frames carry it
}

// A scenario is one connection: what the client sends, and what the handler does besides receiving.
// It is random.
type scenario struct {
	random
	kind     kind
	seed     int
	pauses   pauses
	messages []message
	frames   [][]byte // of all messages, with control frames between them
	pings    []string // the payloads of the pings in frames; each is different

	deadlines bool // the handler sets read deadlines
	asks      bool // the handler calls Ping
	coalesces bool // the handler writes frames together
	opts      []websocket.Option
}

// pauses says how long the handler and the client pause at most, and that the handler pauses at
// one of so many occasions.
type pauses struct {
	handler, client time.Duration
	often           int
}

func newScenario(k kind, seed int, p pauses) *scenario {
	r := newRandom(seed, 0)
	s := &scenario{random: r, kind: k, seed: seed, pauses: p, deadlines: r.oneIn(2), asks: r.oneIn(3), coalesces: r.oneIn(2)}
	s.opts = []websocket.Option{
		websocket.Compression(0),
		websocket.WriteCoalescing(s.coalesces),
		websocket.CloseTimeout(30 * time.Second),
		websocket.OnError(func(*websocket.Conn, error) {}), // receiver.result reports it
	}
	var deflate *compressor
	if r.oneIn(2) {
		deflate = r.newCompressor()
	}
	small := r.oneIn(2)
	for n := 1 + r.IntN(15); n > 0; n-- {
		s.add(deflate, small && !r.oneIn(10))
	}
	return s
}

// add appends a random message and its frames. deflate is nil if all messages are uncompressed.
func (s *scenario) add(deflate *compressor, small bool) {
	m := message{op: websocket.Binary, compressed: deflate != nil && !s.oneIn(3)}
	if s.oneIn(3) {
		m.op = websocket.Text
	}
	m.data = s.payload(m.op, s.size(small))
	m.sent = m.data
	first := byte(m.op)
	if m.compressed {
		m.sent = deflate.compress(m.data)
		first |= rsv1
	}
	s.addControls()
	rest := m.sent
	for m.fragments = 1; m.fragments < 4 && s.oneIn(2); m.fragments++ {
		n := s.IntN(len(rest) + 1)
		s.frames = append(s.frames, s.frame(first, rest[:n]))
		first, rest = wstest.Continuation, rest[n:]
		s.addControls()
	}
	s.frames = append(s.frames, s.frame(wstest.Fin|first, rest))
	s.messages = append(s.messages, m)
}

// rsv1 is the bit of a frame that begins a compressed message.
const rsv1 = 0x40

// addControls appends pings, and pongs that answer no ping.
func (s *scenario) addControls() {
	for s.oneIn(5) {
		payload := fmt.Sprintf("%d %s", len(s.frames), strings.Repeat("p", s.IntN(120)))
		opcode := byte(wstest.Pong)
		if !s.oneIn(4) {
			opcode = wstest.Ping
			s.pings = append(s.pings, payload)
		}
		s.frames = append(s.frames, s.frame(wstest.Fin|opcode, []byte(payload)))
	}
}

// mayDropPongs reports whether the server may be sending on another goroutine when it receives a
// ping. Then it may answer only the latest of several pings (RFC 6455 section 5.5.3).
func (s *scenario) mayDropPongs() bool { return s.asks || s.deadlines || s.coalesces }

// wire returns all bytes that the client sends, without its answers.
func (s *scenario) wire() []byte { return slices.Concat(s.frames...) }
