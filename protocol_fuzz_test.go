package websocket

import (
	"bytes"
	"slices"
	"testing"
	"unicode/utf8"
)

// referenceLimits are so low that the streams of the fuzzer reach them.
var referenceLimits = []Option{MaxFrameSize(500), MaxMessageSize(800), MaxFragments(4)}

// An outcome is the result of all bytes that a client has sent.
type outcome struct {
	messages []Message
	pongs    []string
	code     StatusCode // of the close frame; 0 for none
}

// rfcReference returns the outcome of b, as RFC 6455 defines it for a server. It is slow and
// works on the whole stream at once.
func rfcReference(b []byte) (out outcome) {
	var op Opcode // of the message in progress
	var message []byte
	frames := 0
	for {
		if brokenLength(b) { // 5.2
			out.code = StatusProtocolError
			return out
		}
		r := bytes.NewReader(b)
		h, err := ReadHeader(r)
		if err != nil {
			return out
		}
		b = b[len(b)-r.Len():]
		if op == 0 {
			message, frames = nil, 0
		}
		if out.code = brokenHeader(h, op, len(message), frames); out.code != 0 {
			return out
		}
		payload := bytes.Clone(b[:min(len(b), int(h.Length))])
		b = b[len(payload):]
		for i := range payload { // 5.3
			payload[i] ^= h.MaskKey[i%4]
		}
		whole := len(payload) == int(h.Length)
		if h.Opcode.IsControl() {
			if !whole {
				return out
			}
			switch h.Opcode {
			case Ping: // 5.5.2
				out.pongs = append(out.pongs, string(payload))
			case Close: // 5.5.1
				out.code = answerToClose(payload)
				return out
			}
			continue
		}
		if h.Opcode != Continuation {
			op = h.Opcode
		}
		message = append(message, payload...)
		frames++
		if op == Text && !couldBecomeText(message, whole && h.Fin) { // 8.1
			out.code = StatusInvalidPayload
			return out
		}
		if !whole {
			return out
		}
		if h.Fin {
			out.messages = append(out.messages, Message{op, message})
			op = 0
		}
	}
}

// brokenLength reports whether no header with its length in the shortest form begins
// with b.
func brokenLength(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	var size, least int
	switch b[1] & 0x7f {
	case 126:
		size, least = 2, 126
	case 127:
		size, least = 8, 65536
	}
	length := b[2:min(len(b), 2+size)]
	if len(length) > 0 && size == 8 && length[0] >= 0x80 {
		return true
	}
	most := uint64(0)
	for i := range size {
		next := byte(0xff)
		if i < len(length) {
			next = length[i]
		}
		most = most<<8 | uint64(next)
	}
	return most < uint64(least)
}

// brokenHeader returns the close code for a header that breaks a rule, or 0.
func brokenHeader(h Header, op Opcode, size, frames int) StatusCode {
	switch {
	case h.RSV1 || h.RSV2 || h.RSV3, // 5.2
		!slices.Contains([]Opcode{Continuation, Text, Binary, Close, Ping, Pong}, h.Opcode), // 5.2
		!h.Masked, // 5.1
		h.Opcode.IsControl() && (!h.Fin || h.Length > 125): // 5.5
		return StatusProtocolError
	case h.Opcode.IsControl():
		return 0
	case (h.Opcode == Continuation) == (op == 0): // 5.4
		return StatusProtocolError
	case h.Length > 500, int64(size)+h.Length > 800, frames == 4: // 10.4
		return StatusMessageTooBig
	}
	return 0
}

// answerToClose returns the code of the answer to a close frame with payload.
func answerToClose(payload []byte) StatusCode {
	if len(payload) == 0 {
		return StatusNoStatusReceived
	}
	if len(payload) == 1 {
		return StatusProtocolError
	}
	code := StatusCode(payload[0])<<8 | StatusCode(payload[1])
	reserved := []StatusCode{1004, 1005, 1006}
	if code < 1000 || code > 1014 && code < 3000 || code > 4999 || slices.Contains(reserved, code) { // 7.4
		return StatusProtocolError
	}
	if !utf8.Valid(payload[2:]) {
		return StatusInvalidPayload
	}
	return code
}

// couldBecomeText reports whether b is valid UTF-8. If b is not complete, it reports whether
// b can become valid UTF-8.
func couldBecomeText(b []byte, complete bool) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			return !complete && !utf8.FullRune(b)
		}
		b = b[size:]
	}
	return true
}

// FuzzReceiveMessage receives a stream in every way, and compares the outcomes with
// rfcReference. The stream comes in segments of any size, with deadlines that expire in
// between.
func FuzzReceiveMessage(f *testing.F) {
	for _, v := range violations() {
		f.Add(v.wire, []byte{200}, byte(0))
	}
	for _, tt := range invalidTexts {
		f.Add(clientFrame(true, Text, tt.text), []byte{1, 0}, byte(1))
	}
	stream, _ := receivedStream("small")
	f.Add(stream, []byte{1}, byte(2))
	f.Add(slices.Concat(fragmented(4, "4 frames"), fragmented(5, "5 frames")), []byte{7}, byte(3))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, way byte) {
		want := rfcReference(stream)
		r := receivers[int(way)%len(receivers)]
		c, s := newScriptConn(t, cutBySizes(stream, sizes), referenceLimits...)
		got := observeConn(t, c, s, r.receive)
		if !slices.EqualFunc(got.messages, want.messages, equalMessages) {
			t.Errorf("%s: got messages %v, want %v", r.name, got.messages, want.messages)
		}
		if !slices.Equal(got.pongs, want.pongs) {
			t.Errorf("%s: got pongs %q, want %q", r.name, got.pongs, want.pongs)
		}
		if got.code != want.code {
			t.Errorf("%s: closed with %v, want %v", r.name, got.code, want.code)
		}
		if bufferSize(c) > readBufferSize {
			t.Errorf("%s: read buffer of %d bytes", r.name, bufferSize(c))
		}
	})
}

func equalMessages(a, b Message) bool {
	return a.Opcode == b.Opcode && bytes.Equal(a.Data, b.Data)
}

// cutBySizes cuts stream into segments of the sizes, again and again. The size 0 is a
// deadline that expires.
func cutBySizes(stream, sizes []byte) (pieces [][]byte) {
	if bytes.Count(sizes, []byte{0}) == len(sizes) {
		sizes = []byte{255}
	}
	for i := 0; len(stream) > 0; i = (i + 1) % len(sizes) {
		n := min(int(sizes[i]), len(stream))
		if n == 0 {
			pieces = append(pieces, nil)
			continue
		}
		pieces = append(pieces, stream[:n])
		stream = stream[n:]
	}
	return pieces
}

// observeConn receives until the end and returns the outcome.
func observeConn(t *testing.T, c *Conn, s scriptSocket, receive receiveFunc) (out outcome) {
	var end error
	for expired := 0; ; {
		op, data, err := receive(c, &expired)
		if err != nil {
			end = err
			break
		}
		out.messages = append(out.messages, Message{op, data})
	}
	if !s.Closed() {
		t.Error("the socket is open after the end")
	}
	for _, f := range s.frames(t) {
		switch {
		case out.code != 0:
			t.Errorf("frame %v after the close frame", f.Opcode)
		case f.Opcode == Pong:
			out.pongs = append(out.pongs, string(f.Payload))
		case f.Opcode == Close:
			closed, err := ParseClose(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			out.code = closed.Code
		default:
			t.Errorf("unexpected frame %v", f.Opcode)
		}
	}
	if status := CloseStatus(end); status != out.code && (status != StatusAbnormalClosure || out.code != 0) {
		t.Errorf("closed with %v, but the error is %v, status %v", out.code, end, status)
	}
	return out
}
