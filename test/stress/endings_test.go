//go:build unix

package stress

import (
	"runtime"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An ending is a way in which the connection of a script ends.
type ending struct {
	name  string
	small bool                 // the messages before it are small
	fits  func(s *script) bool // nil fits all scripts
	plan  func(s *script)      // completes the script: its last frames, its last act, and its outcome
}

var endings = []ending{
	{name: "a close frame behind the messages", plan: closeBehind},
	{name: "a close frame behind few bytes", small: true, plan: closeBehind},
	{name: "a close frame after the answers", plan: closeAfterAnswers},
	{name: "a pause of the client", plan: closeAfterPause},
	{name: "the end of the stream behind the messages", fits: directTCP, plan: finBehind},
	{name: "a reset", fits: direct, plan: resetAfterSome},
	{name: "a reset behind a close frame", small: true, fits: direct, plan: closeAndReset},
	{name: "silence", plan: silent},
	{name: "a large message that is not read", fits: directCommand, plan: stalled},
	{name: "a large message that is read slowly", fits: directCommand, plan: slow},
	{name: "an invalid frame", plan: invalid},
	{name: "a close of the server", fits: takesCommands, plan: serverCloses},
	{name: "a close of the server without an answer", fits: takesCommands, plan: unanswered},
	{name: "a close of both sides", fits: takesCommands, plan: bothClose},
	{name: "a function that sleeps", small: true, fits: pollsControls, plan: sleeps},
	{name: "a close frame while the function sleeps", small: true, fits: pollsControls, plan: closeInSleep},
	{name: "a function that only sends", fits: pollsControls, plan: pushes},
}

// The proxy hides a reset, and takes what a client does not read.
func direct(s *script) bool { return !s.proxied }

// Over TLS and HTTP/2 the end of the client's direction is a message of that protocol.
func directTCP(s *script) bool { return s.transport == overTCP }

// A Stream does not show where a command begins.
func takesCommands(s *script) bool { return s.receive != "Stream" }

func directCommand(s *script) bool { return direct(s) && takesCommands(s) }

// After ReadFrame, the library leaves control frames to the function.
func pollsControls(s *script) bool { return takesCommands(s) && s.receive != "ReadFrame" }

// closeCode draws the code of a close frame: 1005 is a frame without a code.
func (s *script) closeCode() uint16 {
	return pick(s.random, 1000, 1001, 1005, 3000, 4000+uint16(s.IntN(1000)))
}

func closeFrame(code uint16) []byte {
	if code == 1005 {
		return wstest.Message(wstest.Close, "")
	}
	return wstest.Message(wstest.Close, wstest.ClosePayload(code, "the script ends"))
}

// all is the outcome in which all messages are received and answered, and the connection ends with
// a close frame that has code.
func (s *script) all(code uint16, kind string) outcome {
	return outcome{codes: []uint16{code}, kinds: []string{kind}, answers: len(s.answers), received: len(s.messages), pongs: len(s.pings)}
}

// peerCloses is all for a close frame of the client. A function that uses ReadFrame answers it itself.
func (s *script) peerCloses() outcome {
	if s.receive == "ReadFrame" {
		return s.all(s.code, closedHere)
	}
	return s.all(s.code, peerClosed)
}

// If a function receives from time to time, the close frame is answered after the messages in front
// of it, so that their answers are still sent: see docs/handlers.md.
func closeBehind(s *script) {
	s.code = s.closeCode()
	s.want = s.peerCloses()
	s.lastFrame(closeFrame(s.code))
}

func closeAfterAnswers(s *script) {
	s.code = s.closeCode()
	s.want = s.peerCloses()
	s.act = func(c *client) {
		if c.awaitAnswers(len(s.answers)) {
			c.sendLast(closeFrame(s.code))
		}
	}
}

// A healthy client is never disconnected, however long it sends only pongs.
func closeAfterPause(s *script) {
	closeAfterAnswers(s)
	pause, finish := s.between(0, 3*connectionTimeout), s.act
	s.act = func(c *client) {
		if c.stays(pause) {
			finish(c)
		}
	}
}

// Answers that were accepted are written before the end, because the client has ended only its own
// direction.
func finBehind(s *script) {
	s.want = s.all(0, network)
	s.act = (*client).shutWrite
}

func resetAfterSome(s *script) {
	n := s.IntN(len(s.answers) + 1)
	s.want = outcome{blind: true, ended: []uint16{1006}, kinds: []string{network}, answers: n, received: n, within: pollInterval}
	s.act = func(c *client) {
		if c.awaitAnswers(n) {
			c.reset()
		}
	}
}

// The function works, so that its answers fail. The messages that it has not received then may be lost.
func closeAndReset(s *script) {
	if s.receive != "Stream" {
		s.work = max(s.work, s.between(0, maxWork/3))
	}
	s.code = s.closeCode()
	s.want = s.closedAndReset()
	s.lastFrame(closeFrame(s.code))
	s.fewParts = true
	s.act = (*client).reset
}

// closedAndReset is the outcome of a close frame with a reset behind it. If a close frame has arrived, it
// is the reason why the connection has ended (RFC 6455 section 7.1.5).
func (s *script) closedAndReset() outcome {
	want := outcome{blind: true, ended: []uint16{s.code}, kinds: []string{peerClosed}, within: pollInterval}
	switch {
	case s.receive == "ReadFrame": // the function may find that it cannot answer
		want.kinds = append(want.kinds, closedHere)
	case s.transport == overHTTP2: // the library looks for 10 ms, and cannot see whether it has to look again
	case runtime.GOOS != "linux": // the system may drop what has arrived before a reset
	default:
		return want
	}
	want.ended, want.kinds = append(want.ended, 1006), append(want.kinds, network)
	return want
}

// silenceLimit is the documented time until a silent client is disconnected, see docs/options.md:
// ConnectionTimeout, a tenth of it if the client has sent much, half of it if bytes wait for the
// client, and a second if no method is receiving.
const silenceLimit = connectionTimeout + connectionTimeout/10 + connectionTimeout/2 + pollInterval

func silent(s *script) {
	s.want = s.all(1001, silence)
	s.want.notBefore, s.want.within = connectionTimeout, silenceLimit
	s.act = (*client).fallSilent
}

const (
	stalledSize = 12 << 20 // more than the kernels and the window of HTTP/2 take
	slowSize    = 3 << 20
)

// The write reaches WriteTimeout, or the client counts as silent, because it answers no pings.
func stalled(s *script) {
	s.narrow = true
	answers := len(s.answers)
	message := s.large(stalledSize)
	s.want = outcome{blind: true, ended: []uint16{1006, 1001}, kinds: []string{slowWrite, silence}, answers: answers, received: len(s.messages)}
	s.want.within = 2*writeTimeout + silenceLimit + closeTimeout // the close frame after the silence waits, too
	s.act = func(c *client) {
		if c.awaitAnswers(answers) {
			c.pace(stopped)
			c.sendLast(message)
			c.awaitReport()
			c.close()
		}
	}
}

// A client that reads steadily is never cut off.
func slow(s *script) {
	s.narrow = true
	answers := len(s.answers)
	message := s.large(slowSize)
	s.code = s.closeCode()
	s.want = s.peerCloses()
	duration := s.between(writeTimeout/2, 2*writeTimeout)
	s.act = func(c *client) {
		if !c.awaitAnswers(answers) {
			return
		}
		c.pace(duration * slowPiece / slowSize)
		c.send(message)
		if c.awaitAnswers(answers + 1) {
			c.pace(0)
			c.sendLast(closeFrame(s.code))
		}
	}
}

// large adds a command that lets the function send a message of n bytes. It returns the frame of the
// command, which the act of the ending sends.
func (s *script) large(n int) []byte {
	s.command("large", n)
	s.answers = append(s.answers, message{wstest.Binary, zeros[:n]})
	last := s.frames[len(s.frames)-1]
	s.frames = s.frames[:len(s.frames)-1]
	return last
}

var zeros = string(make([]byte, stalledSize))
