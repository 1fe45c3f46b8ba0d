package websocket

import (
	"bytes"
	"testing"
)

// FuzzReceiveCompressed receives a compressed message of any bytes in every way, in frames and
// segments of any size, with deadlines in between. All ways must have the same outcome.
func FuzzReceiveCompressed(f *testing.F) {
	for _, text := range compressedTexts() {
		if payload := deflated(text); len(payload) < 1000 { // fuzzing takes long to shorten larger ones
			f.Add([]byte(payload), []byte{1, 0, 200}, byte(100), true)
		}
	}
	f.Add([]byte("\x00\x05\x00\xfa\xffHello\x00"), []byte{3}, byte(1), false)
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00"), []byte{255}, byte(0), true)
	f.Add([]byte(deflated("a\xffb")), []byte{1}, byte(2), true)
	f.Add([]byte{}, []byte{9}, byte(0), true)
	f.Fuzz(func(t *testing.T, payload, sizes []byte, frame byte, isText bool) {
		const limit = 50_000
		op := Binary
		if isText {
			op = Text
		}
		wire := compressedFragments(op, string(payload), int(frame)+1)
		wire = append(wire, clientFrame(true, Text, "end")...)
		var first []byte
		var firstCode StatusCode
		for i, r := range inflatingReceivers {
			c, _ := newScriptConn(t, cutBySizes(wire, sizes), Compression(0), MaxMessageSize(limit))
			expired := 0
			_, data, err := r.receive(c, &expired)
			code := CloseStatus(err)
			if err == nil {
				if _, end, err := r.receive(c, &expired); err != nil || string(end) != "end" {
					t.Errorf("%s: got %q and error %v behind the message", r.name, end, err)
				}
				wantNoDecoder(t, c)
			} else {
				data = nil
			}
			if len(data) > limit {
				t.Errorf("%s: got %d bytes, want %d at most", r.name, len(data), limit)
			}
			if i == 0 {
				first, firstCode = data, code
				continue
			}
			// A message can be both too large and not valid.
			if bothFailed := code != 0 && firstCode != 0; !bothFailed && (code != firstCode || !bytes.Equal(data, first)) {
				t.Errorf("%s: got %d bytes and the code %v; %s: %d bytes and the code %v", r.name, len(data), code, inflatingReceivers[0].name, len(first), firstCode)
			}
		}
	})
}
