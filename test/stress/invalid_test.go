//go:build unix

package stress

import (
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An invalidInput is something that a client must not send.
type invalidInput struct {
	name   string
	sent   []byte
	code   uint16
	kind   string
	frames bool // it is invalid for ReadFrame, too
	stream bool // it has the same code for a Stream of binary messages
}

var invalidInputs = []invalidInput{
	{"a frame that is not masked", wstest.ServerFrame(0x82, "x"), 1002, protocol, true, true},
	{"a frame over the limit", wstest.ClientHeader(0x82, maxMessageSize+1), 1009, tooLarge, true, true},
	{"a reserved bit", wstest.ClientFrame(0xC2, "x"), 1002, protocol, false, true},
	{"a reserved opcode", wstest.ClientFrame(0x83, "x"), 1002, protocol, false, true},
	{"a continuation of nothing", wstest.ClientFrame(0x80, "x"), 1002, protocol, false, true},
	{"a message inside a message", append(wstest.ClientFrame(0x01, "x"), wstest.ClientFrame(0x81, "y")...), 1002, protocol, false, false},
	{"a ping in fragments", wstest.ClientFrame(0x09, "x"), 1002, protocol, false, true},
	{"a long ping", wstest.ClientFrame(0x89, string(make([]byte, 126))), 1002, protocol, false, true},
	{"a close code that must not be sent", wstest.Message(wstest.Close, "\x03\xed"), 1002, protocol, false, true},
	{"a close frame of one byte", wstest.Message(wstest.Close, "x"), 1002, protocol, false, true},
	{"a close reason that is not UTF-8", wstest.Message(wstest.Close, "\x03\xe8\xff"), 1007, invalidText, false, true},
	{"text that is not UTF-8", wstest.Message(wstest.Text, "x\xff"), 1007, invalidText, false, false},
	{"text that ends in a character", append(wstest.ClientFrame(0x01, "x\xe2"), wstest.ClientFrame(0x80, "\x82")...), 1007, invalidText, false, false},
}

// invalid plans an invalid frame behind the messages, which are received and answered before the
// connection fails. The server drops the bytes behind it.
func invalid(s *script) {
	var fitting []invalidInput
	for _, in := range invalidInputs {
		if (s.receive != "ReadFrame" || in.frames) && (s.receive != "Stream" || in.stream) {
			fitting = append(fitting, in)
		}
	}
	in := pick(s.random, fitting...)
	s.ending += ", " + in.name
	s.code = in.code
	s.want = s.all(in.code, in.kind)
	s.lastFrame(in.sent)
	if s.oneIn(3) {
		s.frames = append(s.frames, make([]byte, s.upTo(3000)))
	}
}
