package websocket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// sent is a frame of the server as a test writes it down.
type sent struct {
	fin     bool
	op      Opcode
	payload string
}

func (f sent) String() string {
	return fmt.Sprintf("{%v fin=%t %s}", f.op, f.fin, abbreviate([]byte(f.payload)))
}

// wantSent checks what was written since the last look.
func (s *tape) wantSent(t testing.TB, want ...sent) {
	t.Helper()
	var got []sent
	for _, f := range s.frames(t) {
		if f.Masked || f.RSV1 || f.RSV2 || f.RSV3 {
			t.Errorf("header %+v of a server", f.Header)
		}
		got = append(got, sent{f.Fin, f.Opcode, string(f.Payload)})
	}
	if !slices.Equal(got, want) {
		t.Errorf("got frames %v, want %v", got, want)
	}
}

func TestReceiveMessage_owns_its_slice(t *testing.T) {
	c, _ := play(t, pieces(join(clientFrame(true, Text, "first"), clientFrame(true, Text, "other"), clientFrame(true, Binary, ""))))
	_, first, _ := c.ReceiveMessage()
	copy(first, "XXXXX")
	_, other, _ := c.ReceiveMessage()
	if string(first) != "XXXXX" || string(other) != "other" {
		t.Errorf("got %q and %q, want slices of their own", first, other)
	}
	if _, empty, err := c.ReceiveMessage(); empty == nil || len(empty) > 0 || err != nil {
		t.Errorf("empty message: got %v and error %v, want an empty slice", empty, err)
	}
	if op, data, err := c.ReceiveMessage(); op != 0 || data != nil || err == nil {
		t.Errorf("got %v, %v and error %v, want an error and nothing else", op, data, err)
	}
}

func TestAppendMessage(t *testing.T) {
	wire := join(clientFrame(false, Text, "one"), clientFrame(true, Continuation, "two"), clientFrame(true, Binary, "three"), clientFrame(true, Binary, ""))

	t.Run("appends within the capacity", func(t *testing.T) {
		c, _ := play(t, pieces(wire))
		room := make([]byte, 4, 100)
		copy(room, "keep")
		op, data, err := c.AppendMessage(room)
		if err != nil || op != Text || string(data) != "keeponetwo" || &data[0] != &room[0] {
			t.Errorf("got %v %q and error %v, want keeponetwo in the same array", op, data, err)
		}
		op, data, err = c.AppendMessage(data)
		if err != nil || op != Binary || string(data) != "keeponetwothree" || &data[0] != &room[0] {
			t.Errorf("got %v %q and error %v, want keeponetwothree in the same array", op, data, err)
		}
		if _, data, err = c.AppendMessage(data[:0]); err != nil || len(data) > 0 {
			t.Errorf("got %q and error %v, want nothing appended", data, err)
		}
	})
	t.Run("grows beyond the capacity", func(t *testing.T) {
		c, _ := play(t, pieces(wire))
		small := []byte("keep")[:4:4]
		_, data, err := c.AppendMessage(small)
		if err != nil || string(data) != "keeponetwo" || string(small) != "keep" {
			t.Errorf("got %q and error %v, want keeponetwo", data, err)
		}
	})
	t.Run("leaves what is behind the message alone", func(t *testing.T) {
		c, _ := play(t, pieces(clientFrame(true, Binary, "new")))
		room := []byte("0123456789")
		if _, _, err := c.AppendMessage(room[:2]); err != nil {
			t.Fatal(err)
		}
		if string(room) != "01new56789" {
			t.Errorf("got %q, want 01new56789", room)
		}
	})
	t.Run("returns dst on an error", func(t *testing.T) {
		for name, c := range map[string]*Conn{"Handle": endedConn(t, false), "HandleConcurrent": endedConn(t, true)} {
			dst := []byte("dst")
			op, data, err := c.AppendMessage(dst)
			if err == nil || op != 0 || string(data) != "dst" {
				t.Errorf("%s: got %v, %q and error %v, want dst and an error", name, op, data, err)
			}
		}
	})
}

// endedConn is a Conn whose peer has gone.
func endedConn(t *testing.T, concurrent bool) *Conn {
	c, _ := play(t, nil)
	if concurrent {
		c.readAhead()
	}
	return c
}

// An endless is a socket whose peer sends the same for ever and takes everything.
// It allocates nothing.
type endless struct {
	tape
	wire []byte
	pos  int
}

func (s *endless) Write(p []byte) (int, error) { return len(p), nil }

func (s *endless) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, io.EOF
	}
	n := copy(p, s.wire[s.pos:])
	s.pos = (s.pos + n) % len(s.wire)
	return n, nil
}

// playForEver is a Conn whose client repeats wire.
func playForEver(t testing.TB, wire []byte) *Conn {
	c, _ := play(t, nil, MaxFrameSize(1<<24), MaxMessageSize(1<<24))
	c.conn = &endless{wire: wire}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// raceEnabled reports whether this is a build with the race detector, which
// makes a sync.Pool forget.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestAllocations(t *testing.T) {
	if raceEnabled() {
		t.Skip("the race detector allocates")
	}
	for _, size := range []int{0, 16, 1 << 10, 4096, 64 << 10} {
		for _, op := range []Opcode{Text, Binary} {
			data := strings.Repeat("x", size)
			c := playForEver(t, clientFrame(true, op, data))
			buf := make([]byte, 0, size)
			checkAllocs(t, fmt.Sprintf("AppendMessage and SendMessage of %d bytes of %v", size, op), 0, func() {
				op, got, err := c.AppendMessage(buf[:0])
				if err == nil {
					err = c.SendMessage(op, got)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			checkAllocs(t, fmt.Sprintf("ReceiveMessage of %d bytes of %v", size, op), min(1, float64(size)), func() {
				if _, _, err := c.ReceiveMessage(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Run("fragments and pings", func(t *testing.T) {
		c := playForEver(t, join(clientFrame(true, Ping, "ping"), clientFrame(false, Text, "one"), clientFrame(true, Continuation, "two")))
		buf := make([]byte, 0, 16)
		checkAllocs(t, "AppendMessage", 0, func() { c.AppendMessage(buf) })
	})
}

func checkAllocs(t *testing.T, what string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("%s: got %v allocations, want %v", what, got, want)
	}
}

func TestMessageReader(t *testing.T) {
	t.Run("streams before the message is complete", func(t *testing.T) {
		c, _ := play(t, pieces(clientFrame(false, Text, "one"), nil, clientFrame(true, Continuation, "two")[:7], nil, clientFrame(true, Continuation, "two")[7:]))
		op, r, err := c.MessageReader()
		if err != nil || op != Text {
			t.Fatalf("got %v and error %v, want text", op, err)
		}
		p := make([]byte, 100)
		for _, want := range []string{"one", "", "t", "", "wo"} {
			n, err := r.Read(p)
			if string(p[:n]) != want || isTimeout(err) != (want == "") {
				t.Errorf("got %q and error %v, want %q", p[:n], err, want)
			}
		}
		for range 2 {
			if n, err := r.Read(p); n != 0 || err != io.EOF {
				t.Errorf("got %d bytes and error %v, want EOF for ever", n, err)
			}
		}
		c.Close(StatusNormalClosure, "")
		if n, err := r.Read(p); n != 0 || err != io.EOF {
			t.Errorf("after the end of the connection: got %d bytes and error %v, want EOF", n, err)
		}
	})
	t.Run("keeps to the rules of io.Reader", func(t *testing.T) {
		text := strings.Repeat(unicodeText, 200)
		c, _ := play(t, pieces(join(clientFrame(false, Text, text[:5]), clientFrame(false, Continuation, ""), clientFrame(false, Continuation, text[5:]), clientFrame(true, Continuation, ""))))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil): got %d and error %v", n, err)
		}
		if err := iotest.TestReader(r, []byte(text)); err != nil {
			t.Error(err)
		}
	})
	t.Run("reads an empty message", func(t *testing.T) {
		c, _ := play(t, pieces(clientFrame(true, Binary, "")))
		op, r, err := c.MessageReader()
		if err != nil || op != Binary {
			t.Fatalf("got %v and error %v, want binary", op, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("got %d bytes and error %v, want EOF", n, err)
		}
	})
	t.Run("fails invalid text in mid-stream", func(t *testing.T) {
		c, s := play(t, pieces(clientFrame(false, Text, "good"), clientFrame(true, Continuation, "b\xffd")))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if string(data) != "good" {
			t.Errorf("got %q before the error, want good", data)
		}
		wantError(t, err, ErrInvalidUTF8)
		if _, again := r.Read(make([]byte, 1)); again != err {
			t.Errorf("got error %v, want %v again", again, err)
		}
		wantFailed(t, s, StatusInvalidPayload)
	})
	t.Run("returns the end of the connection in mid-message", func(t *testing.T) {
		c, _ := play(t, pieces(clientFrame(false, Text, "begun"), clientFrame(true, Close, closeBody(StatusGoingAway, "bye"))))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if string(data) != "begun" || CloseStatus(err) != StatusGoingAway {
			t.Errorf("got %q and error %v, want begun and the close", data, err)
		}
		// This io.EOF must not be taken for the end of a whole message.
		if err == io.EOF {
			t.Error("a message that was cut short ended with io.EOF itself")
		}
	})
	t.Run("of two readers each has its message", func(t *testing.T) {
		c, _ := play(t, pieces(join(clientFrame(true, Text, "one"), clientFrame(true, Text, "two"))))
		for _, want := range []string{"one", "two"} {
			_, r, err := c.MessageReader()
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); string(data) != want || err != nil {
				t.Errorf("got %q and error %v, want %q", data, err, want)
			}
		}
	})
	t.Run("works with HandleConcurrent", func(t *testing.T) {
		c, _ := play(t, pieces(clientFrame(true, Text, "hello")))
		c.readAhead()
		op, r, err := c.MessageReader()
		if err != nil || op != Text {
			t.Fatalf("got %v and error %v, want text", op, err)
		}
		if data, err := io.ReadAll(r); string(data) != "hello" || err != nil {
			t.Errorf("got %q and error %v, want hello", data, err)
		}
		_, _, err = c.MessageReader()
		wantError(t, err, io.ErrUnexpectedEOF)
	})
}

func TestMessageReader_drops_the_rest(t *testing.T) {
	long := strings.Repeat("dropped ", 2000)
	messages := map[string][]byte{
		"of a frame":         clientFrame(true, Text, long),
		"of fragments":       join(clientFrame(false, Text, long), clientFrame(true, Ping, "p"), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, long)),
		"of an empty frame":  clientFrame(true, Binary, ""),
		"of empty fragments": join(clientFrame(false, Text, ""), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "")),
	}
	for name, message := range messages {
		for _, read := range []int{0, 3, 5000, len(long), 2 * len(long)} {
			for _, r := range receivers {
				t.Run(fmt.Sprintf("%s after %d bytes for %s", name, read, r.name), func(t *testing.T) {
					c, s := play(t, pieces(message[:len(message)/2], nil, message[len(message)/2:], clientFrame(true, Text, "next")))
					expired := 0
					var stale io.Reader
					err := persist(&expired, func() (err error) {
						_, stale, err = c.MessageReader()
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
					// Short messages end before that, and deadlines expire.
					io.CopyN(io.Discard, stale, int64(read))
					op, data, err := r.receive(c, &expired)
					if err != nil || op != Text || string(data) != "next" {
						t.Fatalf("got %v %s and error %v, want text next", op, abbreviate(data), err)
					}
					if n, err := stale.Read(make([]byte, 10)); n > 0 || err == nil || isTimeout(err) {
						t.Errorf("stale reader: got %d bytes and error %v, want an error", n, err)
					}
					if strings.Contains(name, " fragments") && len(message) > len(long) {
						s.wantSent(t, sent{true, Pong, "p"})
					}
				})
			}
		}
	}
	t.Run("for good, also when a deadline cuts that short", func(t *testing.T) {
		wire := clientFrame(true, Text, long)
		c, _ := play(t, pieces(wire[:100], nil, wire[100:], clientFrame(true, Text, "next")))
		_, stale, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.ReceiveMessage()
		wantError(t, err, os.ErrDeadlineExceeded)
		if n, err := stale.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("stale reader: got %d bytes and error %v, want an error", n, err)
		}
		if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "next" {
			t.Errorf("got %s and error %v, want next", abbreviate(data), err)
		}
	})
	t.Run("and fails it all the same if it is no text", func(t *testing.T) {
		c, s := play(t, pieces(clientFrame(true, Text, "not \xff text")))
		if _, _, err := c.MessageReader(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInvalidPayload)
	})
	t.Run("and fails a text that ends inside a character", func(t *testing.T) {
		c, s := play(t, pieces(clientFrame(true, Text, "\xe2\x82")))
		if _, _, err := c.MessageReader(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInvalidPayload)
	})
}

func TestMessages(t *testing.T) {
	c, _ := play(t, pieces(join(clientFrame(true, Text, "a"), clientFrame(true, Binary, "b"), clientFrame(true, Text, "c"), clientFrame(true, Close, closeBody(StatusGoingAway, "")))))
	var got []string
	for m, err := range c.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %s", m.Opcode, m.Data))
		if len(got) == 2 {
			break
		}
	}
	var last error
	for m, err := range c.Messages() {
		if last != nil {
			t.Error("something came behind the error")
		}
		if last = err; err != nil {
			if m.Opcode != 0 || m.Data != nil {
				t.Errorf("got message %v with the error", m)
			}
			continue
		}
		got = append(got, fmt.Sprintf("%v %s", m.Opcode, m.Data))
	}
	if want := []string{"text a", "binary b", "text c"}; !slices.Equal(got, want) {
		t.Errorf("got messages %q, want %q", got, want)
	}
	if CloseStatus(last) != StatusGoingAway {
		t.Errorf("got last error %v, want the peer's close", last)
	}
}

func TestJSON(t *testing.T) {
	type point struct{ X, Y int }
	c, s := play(t, pieces(join(
		clientFrame(true, Text, `{"X":1,"Y":2}`),
		clientFrame(true, Text, `{"X":`),
		clientFrame(true, Text, `{"X":"a text"}`),
		clientFrame(true, Text, ""),
		clientFrame(true, Binary, `{"X":3,"Y":4}`))))
	var p point
	if err := c.ReceiveJSON(&p); err != nil || p != (point{1, 2}) {
		t.Errorf("got %v and error %v, want {1 2}", p, err)
	}
	var syntax *json.SyntaxError
	err := c.ReceiveJSON(&p)
	if !errors.As(err, &syntax) || CloseStatus(err) != 0 {
		t.Errorf("got error %v, want a JSON syntax error", err)
	}
	wantMention(t, fmt.Sprint(err), "5 bytes", "*websocket.point")
	var mismatch *json.UnmarshalTypeError
	if err := c.ReceiveJSON(&p); !errors.As(err, &mismatch) {
		t.Errorf("got error %v, want a JSON type error", err)
	}
	if err := c.ReceiveJSON(&p); err == nil {
		t.Error("an empty message was taken for JSON")
	}
	if err := c.ReceiveJSON(&p); err != nil || p != (point{3, 4}) {
		t.Errorf("after bad JSON: got %v and error %v, want {3 4}", p, err)
	}
	if err := c.SendJSON(func() {}); err == nil {
		t.Error("a func was sent as JSON")
	}
	s.wantSent(t)
	if err := c.SendJSON(p); err != nil {
		t.Error(err)
	}
	s.wantSent(t, sent{true, Text, `{"X":3,"Y":4}`})
	wantError(t, c.ReceiveJSON(&p), io.ErrUnexpectedEOF)
	wantError(t, c.SendJSON(p), io.ErrUnexpectedEOF)
}

func TestMessageWriter(t *testing.T) {
	full, big := strings.Repeat("f", fragmentSize), strings.Repeat("x", 100000)
	tests := []struct {
		name   string
		op     Opcode
		writes []string
		want   []sent
	}{
		{"sends an empty message", Text, nil, []sent{{true, Text, ""}}},
		{"sends an empty write", Binary, []string{""}, []sent{{true, Binary, ""}}},
		{"sends one small write as one frame", Text, []string{"hello"}, []sent{{true, Text, "hello"}}},
		{"gathers small writes", Binary, []string{"a", "", "bc", "d"}, []sent{{true, Binary, "abcd"}}},
		{"gathers as much as makes one write", Text, slices.Collect(splitString(full, 1000)), []sent{{true, Text, full}}},
		{"begins a frame with what is over", Text, append(slices.Collect(splitString(full, 1000)), "over"), []sent{{false, Text, full}, {true, Continuation, "over"}}},
		{"writes large pieces as they are", Binary, []string{big, big}, []sent{{false, Binary, big}, {false, Continuation, big}, {true, Continuation, ""}}},
		{"keeps the order of small and large", Binary, []string{"abc", big, "def"}, []sent{
			{false, Binary, "abc" + big[:fragmentSize-3]}, {false, Continuation, big[fragmentSize-3:]}, {true, Continuation, "def"}}},
		{"takes characters that are split", Text, slices.Collect(splitString(unicodeText, 1)), []sent{{true, Text, unicodeText}}},
		{"splits characters itself", Text, []string{"abc", strings.Repeat("κ", fragmentSize)}, []sent{
			{false, Text, "abc" + strings.Repeat("κ", fragmentSize)[:fragmentSize-3]},
			{false, Continuation, strings.Repeat("κ", fragmentSize)[fragmentSize-3:]}, {true, Continuation, ""}}},
		{"does not check binary", Binary, []string{"\xff", "\xc3"}, []sent{{true, Binary, "\xff\xc3"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := play(t, nil)
			for range 2 {
				w := openWriter(t, c, tt.op)
				for _, text := range tt.writes {
					mustWrite(t, w, text)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				s.wantSent(t, tt.want...)
			}
		})
	}
}

// splitString yields s in pieces of n bytes.
func splitString(s string, n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for b := range slices.Chunk([]byte(s), n) {
			if !yield(string(b)) {
				return
			}
		}
	}
}

func openWriter(t testing.TB, c *Conn, op Opcode) io.WriteCloser {
	t.Helper()
	w, err := c.MessageWriter(op)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// mustWrite writes text and makes sure that the writer neither changes nor keeps
// the slice.
func mustWrite(t testing.TB, w io.Writer, text string) {
	t.Helper()
	p := []byte(text)
	if n, err := w.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write: got %d and error %v, want %d", n, err, len(p))
	}
	if string(p) != text {
		t.Fatal("Write changed what it was given")
	}
	clear(p)
}

func TestMessageWriter_refusals(t *testing.T) {
	long := strings.Repeat("κ", 10000)

	t.Run("opcodes that are no message's", func(t *testing.T) {
		c, s := play(t, nil)
		for op := range Opcode(16) {
			if op == Text || op == Binary {
				continue
			}
			_, err := c.MessageWriter(op)
			wantError(t, err, ErrInvalidOpcode)
		}
		s.wantSent(t)
	})
	t.Run("text that is not UTF-8", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		for _, step := range []struct {
			text string
			ok   bool
		}{{"ok", true}, {"\xff", false}, {long + "\xed\xa0\x80", false}, {"\xce", true}, {"x", false}, {"\xba", true}, {"\xba", false}, {"", true}} {
			n, err := w.Write([]byte(step.text))
			if step.ok && (err != nil || n != len(step.text)) {
				t.Errorf("%x: got %d and error %v", step.text, n, err)
			}
			if !step.ok && (!errors.Is(err, ErrInvalidUTF8) || n != 0) {
				t.Errorf("%x: got %d and error %v, want %v", step.text, n, err, ErrInvalidUTF8)
			}
		}
		s.wantSent(t)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sent{true, Text, "okκ"})
	})
	t.Run("a close inside a character before anything was sent", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, "begun\xe2\x82")
		wantError(t, w.Close(), ErrInvalidUTF8)
		s.wantSent(t)
		wantError(t, w.Close(), io.ErrClosedPipe)
		if err := c.SendMessage(Text, []byte("alive")); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sent{true, Text, "alive"})
	})
	t.Run("a close inside a character after something was sent", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		mustWrite(t, w, long+"\xe2\x82")
		err := w.Close()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInternalError)
		for _, again := range []error{c.SendMessage(Text, nil), w.Close(), c.Close(StatusNormalClosure, "")} {
			if status := CloseStatus(again); status != StatusInternalError {
				t.Errorf("got close status %v, want %v, as it was sent", status, StatusInternalError)
			}
		}
	})
	t.Run("everything after Close", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		// Also while another message is open, which is none of its business.
		other := openWriter(t, c, Text)
		n, err := w.Write([]byte("late"))
		if n != 0 {
			t.Errorf("wrote %d bytes to a closed message", n)
		}
		wantError(t, err, io.ErrClosedPipe)
		wantError(t, w.Close(), io.ErrClosedPipe)
		mustWrite(t, other, "other")
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		s.wantSent(t, sent{true, Text, ""}, sent{true, Text, "other"})
	})
	t.Run("everything on a connection that has ended", func(t *testing.T) {
		c, s := play(t, nil)
		w := openWriter(t, c, Binary)
		mustWrite(t, w, "gathered")
		c.Close(StatusGoingAway, "")
		_, writeErr := w.Write([]byte("more"))
		_, openErr := c.MessageWriter(Text)
		for _, err := range []error{writeErr, openErr, w.Close(), c.SendMessage(Binary, nil), c.SendMessage(Ping, nil), c.WriteFrame(Frame{})} {
			wantError(t, err, net.ErrClosed)
		}
		s.wantSent(t, sent{true, Close, closeBody(StatusGoingAway, "")})
	})
}

func TestMessageWriter_goes_on_after_a_deadline(t *testing.T) {
	for _, size := range []int{1, 100, fragmentSize - 1, fragmentSize, fragmentSize + 1, 3*fragmentSize + 7, 100000} {
		for _, op := range []Opcode{Text, Binary} {
			t.Run(fmt.Sprintf("%d bytes of %v", size, op), func(t *testing.T) {
				c, s := play(t, nil)
				want := strings.Repeat("€", 10000)
				w := openWriter(t, c, op)
				for rest := []byte(want); len(rest) > 0; {
					p := rest[:min(size, len(rest))]
					c.SetWriteDeadline(past)
					n, err := w.Write(p)
					rest = rest[n:]
					c.SetWriteDeadline(time.Time{})
					if n == len(p) && err == nil {
						continue
					}
					wantError(t, err, os.ErrDeadlineExceeded)
					mustWrite(t, w, string(p[n:]))
					rest = rest[len(p)-n:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				frames := s.frames(t)
				gotOp, got, err := ProcessFragments(frames)
				if err != nil || gotOp != op || string(got) != want {
					t.Errorf("got %v %s and error %v in %d frames, want the whole message", gotOp, abbreviate(got), err, len(frames))
				}
			})
		}
	}
}

func TestMessageWriter_lets_control_frames_between(t *testing.T) {
	pings := make(chan struct{})
	fn, results := result(func(c *Conn) error {
		w, err := c.MessageWriter(Text)
		if err != nil {
			return err
		}
		part := strings.Repeat("x", fragmentSize)
		for range 3 {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
			if err := c.SendMessage(Ping, []byte("own")); err != nil {
				return err
			}
			<-pings
		}
		if err := c.SendMessage(Close, []byte(closeBody(StatusGoingAway, ""))); err != nil {
			return err
		}
		_, err = io.WriteString(w, part)
		wantError(t, err, net.ErrClosed)
		wantError(t, w.Close(), net.ErrClosed)
		return receiveAll(c)
	})
	srv := serve(t, func(c *Conn) error {
		go receiveAll(c)
		return fn(c)
	})
	p := dial(t, srv)
	for i := range 3 {
		if f := p.read(); f.Fin || len(f.Payload) != fragmentSize || (f.Opcode == Text) != (i == 0) {
			t.Fatalf("got header %+v, want fragment %d", f.Header, i+1)
		}
		p.expect(Ping, "own")
		p.send(Ping, "yours")
		p.expect(Pong, "yours")
		pings <- struct{}{}
	}
	p.expectClose(StatusGoingAway)
	p.send(Close, closeBody(StatusGoingAway, ""))
	p.expectEOF()
	p.conn.Close()
	wantError(t, await(t, results), net.ErrClosed)
}

func TestMessageWriter_makes_others_wait(t *testing.T) {
	waiters := map[string]func(c *Conn) error{
		"SendMessage":   func(c *Conn) error { return c.SendMessage(Binary, []byte("waited")) },
		"SendJSON":      func(c *Conn) error { return c.SendJSON("waited") },
		"MessageWriter": func(c *Conn) error { w, err := c.MessageWriter(Binary); return errors.Join(err, closeIf(w)) },
	}
	ends := map[string]struct {
		end  func(c *Conn, p *peer, w io.Closer)
		want error
	}{
		"for its Close": {func(c *Conn, p *peer, w io.Closer) { w.Close() }, nil},
		"until the write deadline": {func(c *Conn, p *peer, w io.Closer) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			time.Sleep(time.Second)
		}, os.ErrDeadlineExceeded},
		"until a write deadline in the past": {func(c *Conn, p *peer, w io.Closer) { c.SetWriteDeadline(past) }, os.ErrDeadlineExceeded},
		"until Close of the connection":      {func(c *Conn, p *peer, w io.Closer) { c.Close(StatusGoingAway, "") }, net.ErrClosed},
		"until the peer's close": {func(c *Conn, p *peer, w io.Closer) {
			go p.send(Close, "")
			receiveAll(c)
		}, io.EOF},
		"until a close frame is sent": {func(c *Conn, p *peer, w io.Closer) { c.SendMessage(Close, nil) }, net.ErrClosed},
		"until the network dies": {func(c *Conn, p *peer, w io.Closer) {
			p.conn.Close()
			receiveAll(c)
		}, io.ErrUnexpectedEOF},
	}
	for waiting, wait := range waiters {
		for ending, tt := range ends {
			t.Run(waiting+" waits "+ending, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := pipe(t, PingInterval(0), ConnectionTimeout(0))
					go io.Copy(io.Discard, p.conn)
					w := openWriter(t, c, Text)
					errs := make(chan error)
					for range 2 {
						go func() { errs <- wait(c) }()
					}
					synctest.Wait()
					select {
					case err := <-errs:
						t.Fatalf("did not wait: %v", err)
					default:
					}
					began := time.Now()
					tt.end(c, p, w)
					for range 2 {
						if err := <-errs; !errors.Is(err, tt.want) {
							t.Errorf("got error %v, want %v", err, tt.want)
						}
					}
					if late := time.Since(began); late > 10*time.Second {
						t.Errorf("waited for %v", late)
					}
					c.conn.Close()
					receiveAll(c)
				})
			})
		}
	}
}

// closeIf closes w if there is one.
func closeIf(w io.Closer) error {
	if w == nil {
		return nil
	}
	return w.Close()
}

// TestSendMessage_never_interleaves lets many goroutines send in every way at
// once; each message says who sent it, in every byte.
func TestSendMessage_never_interleaves(t *testing.T) {
	const senders, messages = 8, 20
	send := func(c *Conn, id byte, rnd *rand.Rand) error {
		data := bytes.Repeat([]byte{id}, rnd.IntN(20000)+1)
		if id%2 == 0 {
			return c.SendMessage(Binary, data)
		}
		w, err := c.MessageWriter(Binary)
		if err != nil {
			return err
		}
		for p := range slices.Chunk(data, rnd.IntN(8000)+1) {
			if _, err := w.Write(p); err != nil {
				return err
			}
			if err := c.SendMessage(Ping, []byte{id}); err != nil {
				return err
			}
		}
		return w.Close()
	}
	p := dial(t, serve(t, func(c *Conn) error {
		errs := make(chan error, senders)
		for id := range byte(senders) {
			go func() {
				rnd := rand.New(rand.NewPCG(1, uint64(id)))
				var err error
				for i := 0; i < messages && err == nil; i++ {
					err = send(c, id, rnd)
				}
				errs <- err
			}()
		}
		for range senders {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		return nil
	}))
	counts := map[byte]int{}
	var open []Frame
	for len(counts) < senders || !allEqual(counts, messages) {
		f := p.read()
		if f.Opcode == Ping {
			continue
		}
		if open = append(open, f); !f.Fin {
			continue
		}
		_, data, err := ProcessFragments(open)
		if err != nil {
			t.Fatalf("fragments of two messages are mixed: %v", err)
		}
		if len(data) == 0 || bytes.Count(data, data[:1]) != len(data) {
			t.Fatalf("message %s has more than one sender", abbreviate(data))
		}
		counts[data[0]]++
		open = nil
	}
	p.expectClose(StatusNormalClosure)
}

func allEqual(counts map[byte]int, n int) bool {
	for _, count := range counts {
		if count != n {
			return false
		}
	}
	return true
}

func TestReceiveMessage_many_goroutines(t *testing.T) {
	const readers, messages = 8, 400
	var mu sync.Mutex
	counts := map[byte]int{}
	fn, results := result(func(c *Conn) error {
		var wg sync.WaitGroup
		for i := range readers {
			wg.Go(func() {
				for {
					var expired int
					_, data, err := receivers[i%2].receive(c, &expired)
					if err != nil {
						return
					}
					mu.Lock()
					if bytes.Count(data, data[:1]) == len(data) {
						counts[data[0]]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		_, _, err := c.ReceiveMessage()
		return err
	})
	p := dial(t, serve(t, fn))
	var wire []byte
	for i := range messages {
		id := string([]byte{byte(i % 100)})
		wire = append(wire, clientFrame(false, Binary, strings.Repeat(id, 1+i*7%5000))...)
		wire = append(wire, clientFrame(true, Continuation, strings.Repeat(id, 10))...)
	}
	p.write(wire)
	p.close()
	wantError(t, await(t, results), io.EOF)
	if len(counts) != 100 || !allEqual(counts, messages/100) {
		t.Errorf("got %v whole messages, want %d of each of 100", counts, messages/100)
	}
}

// TestConn_everything_at_once closes a connection in the midst of everything else.
func TestConn_everything_at_once(t *testing.T) {
	ends := map[string]func(c *Conn, p *peer){
		"closed here": func(c *Conn, p *peer) { c.Close(StatusGoingAway, "") },
		"closed by the peer": func(c *Conn, p *peer) {
			p.conn.Write(clientFrame(true, Close, closeBody(StatusNormalClosure, "")))
		},
		"a rule broken":  func(c *Conn, p *peer) { p.conn.Write(unhex("81 00")) },
		"network broken": func(c *Conn, p *peer) { p.conn.Close() },
	}
	loops := []func(c *Conn) error{
		func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
		func(c *Conn) error {
			_, r, err := c.MessageReader()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			// The reader of a message that another goroutine dropped.
			if errors.Is(err, errMessageDropped) {
				err = nil
			}
			return err
		},
		func(c *Conn) error { return c.SendMessage(Text, []byte("text")) },
		func(c *Conn) error { return c.SendMessage(Ping, nil) },
		func(c *Conn) error {
			w, err := c.MessageWriter(Binary)
			if err == nil {
				w.Write(make([]byte, 5000))
				err = w.Close()
			}
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ready := make(chan *Conn)
			fn, results := result(func(c *Conn) error {
				ready <- c
				var wg sync.WaitGroup
				for _, loop := range loops {
					wg.Go(func() {
						for loop(c) == nil {
						}
					})
				}
				wg.Wait()
				return c.SendMessage(Text, nil)
			})
			p := dial(t, serve(t, fn, CloseTimeout(100*time.Millisecond)))
			c := await(t, ready)
			p.send(Text, "begin")
			p.read()
			go func() {
				io.Copy(io.Discard, p.conn)
				p.conn.Close()
			}()
			go func() {
				for {
					if _, err := p.conn.Write(clientFrame(true, Binary, strings.Repeat("x", 3000))); err != nil {
						return
					}
				}
			}()
			end(c, p)
			if err := await(t, results); err == nil {
				t.Error("sending goes on after the end")
			}
			p.conn.Close()
		})
	}
}

// referenceLimits keep the streams of the fuzzer near the limits.
var referenceLimits = []Option{MaxFrameSize(500), MaxMessageSize(800), MaxFragments(4)}

// An outcome is what comes of the bytes that a client sent before it left.
type outcome struct {
	messages []Message
	pongs    []string
	code     StatusCode // of the close frame; 0 for none
}

// reference is RFC 6455 for a server, slowly: section by section over the whole
// stream, with no regard for memory.
func reference(b []byte) (out outcome) {
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

// brokenLength reports whether the bytes that are there of a header cannot
// become one with its length in the shortest form.
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

// brokenHeader returns the close code for a header, 0 if nothing is wrong with it.
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

// answerToClose returns the code of the close frame that answers one.
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

// couldBecomeText reports whether b is UTF-8 so far, and if it is complete, UTF-8.
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

// FuzzReceiveMessage feeds a stream in pieces of any size, with deadlines that
// expire in between, to each way of receiving, and compares what comes of it with
// the reference.
func FuzzReceiveMessage(f *testing.F) {
	for _, v := range violations() {
		f.Add(v.wire, []byte{200}, byte(0))
	}
	for _, tt := range invalidTexts {
		f.Add(clientFrame(true, Text, tt.text), []byte{1, 0}, byte(1))
	}
	stream, _ := receivedStream("small")
	f.Add(stream, []byte{1}, byte(2))
	f.Add(join(fragmented(4, "4 frames"), fragmented(5, "5 frames")), []byte{7}, byte(3))
	f.Fuzz(func(t *testing.T, stream, sizes []byte, way byte) {
		want := reference(stream)
		r := receivers[int(way)%len(receivers)]
		c, s := play(t, cutBySizes(stream, sizes), referenceLimits...)
		got := observe(t, c, s, r.receive)
		if !slices.EqualFunc(got.messages, want.messages, equalMessages) {
			t.Errorf("%s: got messages %v, want %v", r.name, got.messages, want.messages)
		}
		if !slices.Equal(got.pongs, want.pongs) {
			t.Errorf("%s: got pongs %q, want %q", r.name, got.pongs, want.pongs)
		}
		if got.code != want.code {
			t.Errorf("%s: closed with %v, want %v", r.name, got.code, want.code)
		}
		if len(c.in.buf) > readBufferSize {
			t.Errorf("%s: read buffer of %d bytes", r.name, len(c.in.buf))
		}
	})
}

func equalMessages(a, b Message) bool {
	return a.Opcode == b.Opcode && bytes.Equal(a.Data, b.Data)
}

// cutBySizes cuts stream into pieces of the sizes, over and over; 0 is a deadline
// that expires.
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

// observe receives until the end and sorts what happened.
func observe(t *testing.T, c *Conn, s *tape, receive receiveFunc) (out outcome) {
	var end error
	for expired := 0; ; {
		op, data, err := receive(c, &expired)
		if err != nil {
			end = err
			break
		}
		out.messages = append(out.messages, Message{op, data})
	}
	if !s.closed.Load() {
		t.Error("the socket is open after the end")
	}
	for _, f := range s.frames(t) {
		switch {
		case out.code != 0:
			t.Errorf("frame %v behind the close frame", f.Opcode)
		case f.Opcode == Pong:
			out.pongs = append(out.pongs, string(f.Payload))
		case f.Opcode == Close:
			closed, err := parseClosePayload(f.Payload)
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
