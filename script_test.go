package websocket

import (
	"bytes"
	"slices"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A scriptSocket is the socket of a Conn whose client sends what is in a script.
type scriptSocket struct{ *wstest.Socket }

// newScriptConn is a Conn whose client sends the segments. The keepalive is off
// unless opts turn it on.
func newScriptConn(t testing.TB, segments [][]byte, opts ...Option) (*Conn, scriptSocket) {
	s := scriptSocket{wstest.NewSocket(segments...)}
	return newSocketConn(t, s.Socket, opts...), s
}

// newRepeatConn is a Conn whose client sends wire for ever. Neither side of it
// allocates.
func newRepeatConn(t testing.TB, wire []byte) *Conn {
	return newSocketConn(t, wstest.Repeat(wire), MaxFrameSize(1<<24), MaxMessageSize(1<<24))
}

func newSocketConn(t testing.TB, socket *wstest.Socket, opts ...Option) *Conn {
	c := newTestConn(socket, nil, append([]Option{PingInterval(0), ConnectionTimeout(0)}, opts...)...)
	t.Cleanup(func() {
		socket.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c
}

// frames returns what was written since the last call.
func (s scriptSocket) frames(t testing.TB) []Frame {
	t.Helper()
	r := bytes.NewReader(s.Written())
	s.Forget()
	decoder := wstest.NewDecoder(r)
	decoder.AnyFrame = true
	var frames []Frame
	for r.Len() > 0 {
		f, err := decoder.ReadFrame()
		if err != nil {
			t.Fatalf("what was written is not a frame: %v", err)
		}
		frames = append(frames, toFrame(f))
	}
	return frames
}

// A sentFrame is a frame of the server as a test writes it down.
type sentFrame struct {
	fin     bool
	op      Opcode
	payload string
}

func (f sentFrame) String() string {
	return wstest.Frame{First: first(f.fin, f.op), Payload: []byte(f.payload)}.String()
}

// wantSent checks what was written since the last call.
func (s scriptSocket) wantSent(t testing.TB, want ...sentFrame) {
	t.Helper()
	var got []sentFrame
	for _, f := range s.frames(t) {
		if f.RSV1 || f.RSV2 || f.RSV3 {
			t.Errorf("got the header %+v, want no reserved bits", f.Header)
		}
		got = append(got, sentFrame{f.Fin, f.Opcode, string(f.Payload)})
	}
	if !slices.Equal(got, want) {
		t.Errorf("got frames %v, want %v", got, want)
	}
}

// wantFailed checks that a close frame with code was written, nothing after it,
// and the socket closed.
func wantFailed(t testing.TB, s scriptSocket, code StatusCode) {
	t.Helper()
	frames := s.frames(t)
	if len(frames) == 0 || frames[len(frames)-1].Opcode != Close {
		t.Fatalf("got frames %v, want a close frame in the end", frames)
	}
	if got := closeCode(t, frames[len(frames)-1]); got != code {
		t.Errorf("got a close frame with %v, want %v", got, code)
	}
	if !s.Closed() {
		t.Error("the socket was left open")
	}
}

// closeCode returns the code of a close frame.
func closeCode(t testing.TB, f Frame) StatusCode {
	t.Helper()
	code, _, err := wstest.Frame{First: first(f.Fin, f.Opcode), Payload: f.Payload}.CloseCode()
	if err != nil {
		t.Error(err)
	}
	return StatusCode(code)
}

// segments are what a client sends, as successive reads find it. An empty one is a
// read deadline that expires.
func segments(b ...[]byte) [][]byte { return b }

// oneByOne cuts b into bytes.
func oneByOne(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 1)) }
