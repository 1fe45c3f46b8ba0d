package websocket

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A scriptSocket is the socket of a Conn whose client sends a script.
type scriptSocket struct{ *wstest.Socket }

// newScriptConn returns a Conn whose client sends the segments, and its socket. The
// keepalive is off unless opts turn it on.
func newScriptConn(t testing.TB, segments [][]byte, opts ...Option) (*Conn, scriptSocket) {
	s := scriptSocket{wstest.NewSocket(segments...)}
	return newSocketConn(t, s.Socket, opts...), s
}

// newRepeatConn returns a Conn whose client sends wire again and again. Neither side of the
// connection allocates.
func newRepeatConn(t testing.TB, wire []byte) *Conn {
	return newSocketConn(t, wstest.Repeat(wire), MaxFrameSize(1<<24), MaxMessageSize(1<<24))
}

func newSocketConn(t testing.TB, socket *wstest.Socket, opts ...Option) *Conn {
	c := newTestConn(socket, nil, append([]Option{PingInterval(0), ConnectionTimeout(0)}, opts...)...)
	c.socket.transport.(*netTransport).known = true // as TCP, which a script stands for
	t.Cleanup(func() {
		socket.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c
}

// newHookedConn is newPipeConn, but the server's end is a socket that set prepares, for example with
// a Hook.
func newHookedConn(t testing.TB, set func(s *wstest.Socket), opts ...Option) (*Conn, *peer) {
	return newWrappedConn(t, func(conn net.Conn) net.Conn {
		s := wstest.Wrap(conn)
		set(s)
		return s
	}, opts...)
}

// frames returns the frames that were written since the last call.
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
			t.Fatalf("the server has written bytes that are not a frame: %v", err)
		}
		frames = append(frames, toFrame(f))
	}
	return frames
}

// A sentFrame is a frame that a test expects from the server.
type sentFrame struct {
	fin     bool
	op      Opcode
	payload string
}

func (f sentFrame) String() string {
	return wstest.Frame{First: first(f.fin, f.op), Payload: []byte(f.payload)}.String()
}

// wantSent checks the frames that were written since the last call.
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

// wantFailed checks that the server has written a close frame with code and nothing after
// it, and has closed the socket.
func wantFailed(t testing.TB, s scriptSocket, code StatusCode) {
	t.Helper()
	frames := s.frames(t)
	if len(frames) == 0 || frames[len(frames)-1].Opcode != Close {
		t.Fatalf("got frames %v, want a close frame at the end", frames)
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

// segments returns its arguments: the bytes that successive reads of the server return. An
// empty segment is a read deadline that expires.
func segments(b ...[]byte) [][]byte { return b }

// oneByOne cuts b into segments of one byte.
func oneByOne(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 1)) }
