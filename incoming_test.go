package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testLimits returns the limits of a connection with the options.
func testLimits(opts ...Option) *limits { return &newOptions(opts).limits }

// decoded returns the outcome of a stream that incoming processes, without a connection.
func decoded(stream []byte, l *limits) (out outcome) {
	in := incoming{limits: l}
	b := bytes.Clone(stream)
	var message []byte
	for {
		n, err := in.next(b, modeMessages)
		if n == 0 {
			out.code = CloseStatus(err)
			return out
		}
		h := in.header
		if in.isControl(modeMessages) {
			if len(b) < n+int(h.Length) {
				return out
			}
			payload := b[n : n+int(h.Length)]
			b = b[n+int(h.Length):]
			Mask(payload, h.MaskKey, 0)
			switch h.Opcode {
			case Ping:
				out.pongs = append(out.pongs, string(payload))
			case Close:
				out.code = answerToClose(payload)
				return out
			}
			continue
		}
		b = b[n:]
		end, err := in.begin(modeMessages)
		for end == notEnd && err == nil && len(b) > 0 {
			piece := b[:min(len(b), 7, int(in.left))]
			b = b[len(piece):]
			end, err = in.unmask(piece, modeMessages)
			message = append(message, piece...)
		}
		switch {
		case err != nil:
			out.code = CloseStatus(err)
			return out
		case end == notEnd:
			return out
		case end == endOfMessage:
			out.messages = append(out.messages, Message{in.op, message})
			message = nil
		}
	}
}

// FuzzIncoming compares the rules with the reference, without a socket.
func FuzzIncoming(f *testing.F) {
	for _, v := range violations() {
		f.Add(v.wire)
	}
	f.Add(slices.Concat(clientFrame(false, Text, "Hel"), clientFrame(true, Ping, "p"), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "lo")))
	f.Add(slices.Concat(clientFrame(true, Binary, strings.Repeat("x", 300)), clientFrame(true, Close, closeBody(1000, ""))))
	l := testLimits(referenceLimits...)
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, want := decoded(stream, l), rfcReference(stream)
		if !slices.EqualFunc(got.messages, want.messages, equalMessages) || !slices.Equal(got.pongs, want.pongs) || got.code != want.code {
			t.Errorf("% x:\ngot  %+v\nwant %+v", stream, got, want)
		}
	})
}

func TestIncoming_checks_each_rule(t *testing.T) {
	for _, v := range violations() {
		t.Run(v.name, func(t *testing.T) {
			got, want := decoded(v.wire, testLimits()), rfcReference(v.wire)
			if want.code != StatusMessageTooBig && got.code != want.code {
				t.Errorf("got close code %v, want %v", got.code, want.code)
			}
		})
	}
}

func TestIncoming_modes(t *testing.T) {
	frames := map[string]struct {
		wire                                           []byte
		messages, frames, discarded, skipped, streamed bool // whether the mode accepts the frame
	}{
		"a message":                         {clientFrame(true, Text, "hi"), true, true, true, true, true},
		"a reserved bit":                    {withBits(0x40, clientFrame(true, Text, "hi")), false, true, true, false, false},
		"a reserved opcode":                 {clientFrame(true, 3, "hi"), false, true, true, false, false},
		"a continuation without a message":  {clientFrame(true, Continuation, "hi"), false, true, true, false, false},
		"a fragmented ping":                 {clientFrame(false, Ping, ""), false, true, true, false, false},
		"an unmasked frame":                 {[]byte{0x81, 0}, false, false, true, false, false},
		"a frame over MaxFrameSize":         {clientHeader(true, Binary, 1<<21), false, false, true, true, false},
		"a length whose highest bit is set": {[]byte("\x82\xff\x80"), false, false, false, false, false},
		"a length in a longer form":         {[]byte("\x82\xfe\x00\x05"), false, false, false, false, false},
		"a ping over 125 bytes":             {clientHeader(true, Ping, 126), false, true, true, false, false},
		"a close frame with a reason":       {clientFrame(true, Close, closeBody(1000, "bye")), true, true, true, true, true},
	}
	for name, tt := range frames {
		for mode, want := range map[frameMode]bool{modeMessages: tt.messages, modeFrames: tt.frames, modeDiscard: tt.discarded, modeSkip: tt.skipped, modeStream: tt.streamed} {
			t.Run(fmt.Sprintf("%s in mode %d", name, mode), func(t *testing.T) {
				in := incoming{limits: testLimits()}
				n, err := in.next(tt.wire, mode)
				if got := err == nil && n > 0; got != want {
					t.Errorf("got size %d and error %v, want accepted = %t", n, err, want)
				}
			})
		}
	}
}

// next only examines a frame, so that a frame that is examined again is the same.
func TestIncoming_next_changes_no_state(t *testing.T) {
	in := incoming{limits: testLimits()}
	in.next(clientFrame(false, Text, "begun"), modeMessages)
	if _, err := in.begin(modeMessages); err != nil {
		t.Fatal(err)
	}
	if _, err := in.unmask(clientFrame(false, Text, "begun")[6:], modeMessages); err != nil {
		t.Fatal(err)
	}
	size, frames, mid := in.size, in.frames, in.midMessage()
	for range 3 {
		in.next(clientFrame(true, Continuation, "more"), modeMessages)
		in.next(clientFrame(true, Text, "not allowed here"), modeMessages)
		in.next(clientFrame(true, Ping, "p"), modeMessages)
	}
	if in.size != size || in.frames != frames || in.midMessage() != mid || in.left != 0 {
		t.Errorf("next moved the place in the message from %d, %d to %d, %d", size, frames, in.size, in.frames)
	}
}

func TestIncoming_whole_leaves_the_rest_to_next(t *testing.T) {
	l := testLimits(MaxMessageSize(100))
	for name, wire := range map[string][]byte{
		"a fragment":        clientFrame(false, Text, "a"),
		"a ping":            clientFrame(true, Ping, "a"),
		"a reserved bit":    withBits(0x40, clientFrame(true, Text, "a")),
		"a reserved opcode": clientFrame(true, 3, "a"),
		"too large":         clientFrame(true, Text, strings.Repeat("a", 101)),
		"incomplete":        clientFrame(true, Text, "abc")[:8],
		"unmasked":          {0x81, 0x01, 'a', 0, 0, 0, 0, 0},
		"nothing":           nil,
	} {
		if op, _, end := (&incoming{limits: l}).whole(wire); end != 0 {
			t.Errorf("%s: got a whole message of type %v", name, op)
		}
	}
	op, start, end := (&incoming{limits: l}).whole(append(clientFrame(true, Binary, "abc"), "more"...))
	if op != Binary || start != 6 || end != 9 {
		t.Errorf("got %v from %d to %d, want binary from 6 to 9", op, start, end)
	}
}

func TestIncoming_text_ends_inside_a_character(t *testing.T) {
	in := incoming{limits: testLimits()}
	wire := clientFrame(true, Text, "\xe2\x82")
	n, _ := in.next(wire, modeMessages)
	in.begin(modeMessages)
	if _, err := in.unmask(wire[n:], modeMessages); !errors.Is(err, ErrInvalidUTF8) {
		t.Errorf("got error %v, want %v", err, ErrInvalidUTF8)
	}
}
