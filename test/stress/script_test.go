//go:build unix

package stress

import (
	"fmt"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A script is what one client does, and what a correct server does then.
type script struct {
	random
	id int // in the headers of the handshake and in the report

	server, receive, transport string
	proxied                    bool
	work                       time.Duration // of the function, for each message

	messages []message // what the client sends, with the commands
	answers  []message // what the function sends
	pings    []string  // the payloads of its pings
	frames   [][]byte  // all of that, as frames
	how      string    // the frames are cut
	parts    []part    // the frames cut
	ending   string
	code     uint16          // of the ending, if it needs one
	act      func(c *client) // after the parts; nil for nothing
	want     outcome

	closes   bool // the parts end with the last frame of the client
	fewParts bool // the kernel sends all of them at once: with more, it may wait for acknowledgements
	noAnswer bool // the client does not answer the close frame of the server
	narrow   bool // the client's socket has a small buffer
}

const (
	overTCP   = "TCP"
	overTLS   = "TLS"
	overHTTP2 = "HTTP/2"
)

// newScript draws the script with the number id. Its ending is one of those given.
func newScript(seed uint64, id int, endings []ending) *script {
	s := &script{random: newRandom(seed, id), id: id}
	end := pick(s.random, endings...)
	s.drawServer()
	for end.fits != nil && !end.fits(s) {
		s.drawServer()
	}
	s.ending = end.name
	s.drawBody(end.small)
	end.plan(s)
	if len(s.frames) > 0 {
		s.parts = s.cut(s.frames)
	}
	return s
}

// drawServer draws how the client connects and is served.
func (s *script) drawServer() {
	s.server = pick(s.random, "Handle", "Handle", "Detached", "HandleConcurrent", "HandleMessages", "HandleMessages")
	s.receive = "ReceiveMessage"
	switch s.server {
	case "Handle", "Detached":
		s.receive = pick(s.random, "ReceiveMessage", "AppendMessage", "ReceiveFunc", "MessageReader", "ReceiveFragments", "ReadFrame", "Stream", "read deadlines")
	case "HandleConcurrent":
		s.receive = pick(s.random, "ReceiveMessage", "AppendMessage", "ReceiveFunc", "MessageReader", "Stream", "read deadlines")
	}
	s.transport = pick(s.random, overTCP, overTCP, overTLS, overHTTP2)
	s.proxied = s.oneIn(4)
}

// maxBusy limits the messages for a function that works for each. HandleConcurrent receives no more
// than 16, and the function has closeTimeout to answer them after the end of the stream: see docs/handlers.md.
const (
	maxBusy = 8
	maxWork = 30 * time.Millisecond
)

// drawBody draws the messages before the ending. They are small if all of them must fit into the read
// buffer of the server, or into the send buffer of a client that then resets the connection.
func (s *script) drawBody(small bool) {
	n := pick(s.random, 0, 1, s.upTo(4), s.upTo(20))
	if s.receive != "Stream" && s.oneIn(3) { // a Stream may return a message in many pieces
		s.work, n = s.between(time.Millisecond, maxWork), min(n, maxBusy)
	}
	if s.oneIn(8) {
		s.frames = append(s.frames, s.ping())
	}
	for range n {
		most := 80_000
		if small {
			most = 200
		}
		op := byte(wstest.Binary)
		if s.receive != "Stream" && s.oneIn(2) {
			op = wstest.Text
		}
		s.add(message{op, s.text(s.size(most))})
	}
}

// text returns up to n bytes of UTF-8. It begins with the numbers of the script and of the message, unless
// n is smaller, so that no two messages are equal.
func (s *script) text(n int) string {
	start := fmt.Sprintf("%d.%d ", s.id, len(s.messages))
	letters := strings.Repeat(pick(s.random, "abcdefgh", "ä€𐍈x", "\x00\x7f"), 1+n/2)
	text := (start + letters)[:n]
	return strings.ToValidUTF8(text, "") // without a part of a character
}

// add adds a message to the script.
func (s *script) add(m message) {
	s.messages = append(s.messages, m)
	s.answers = append(s.answers, m)
	s.frames = append(s.frames, s.framesOf(m)...)
}

// command adds a message that makes the function do something.
func (s *script) command(name string, value int) {
	m := message{wstest.Text, fmt.Sprintf("%s%s %d", commandPrefix, name, value)}
	s.messages = append(s.messages, m)
	s.frames = append(s.frames, wstest.Message(m.op, m.text))
}

// behind adds a message that the function does not answer any more.
func (s *script) behind(m message) {
	answers := s.answers
	s.add(m)
	s.answers = answers
}

// lastFrame adds a frame after which the client sends nothing.
func (s *script) lastFrame(f []byte) {
	s.frames = append(s.frames, f)
	s.closes = true
}

// String describes the script for a failure text.
func (s *script) String() string {
	text := fmt.Sprintf("%s: %s with %s over %s", s.ending, s.server, s.receive, s.transport)
	if s.proxied {
		text += " through the proxy"
	}
	text += fmt.Sprintf(", %d messages %s, %d pings, %v of work for each message", len(s.messages), s.how, len(s.pings), s.work)
	if s.code != 0 {
		text += fmt.Sprintf(", code %d", s.code)
	}
	text += "\nthe client sends"
	for _, m := range s.messages {
		text += fmt.Sprintf(" %.16q (%d)", m.text, len(m.text))
	}
	return text
}
