package websocket

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMessageReader(t *testing.T) {
	t.Run("streams before the message is complete", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(clientFrame(false, Text, "one"), nil, clientFrame(true, Continuation, "two")[:7], nil, clientFrame(true, Continuation, "two")[7:]))
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
	t.Run("follows the rules of io.Reader", func(t *testing.T) {
		text := strings.Repeat(unicodeText, 200)
		c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(false, Text, text[:5]), clientFrame(false, Continuation, ""), clientFrame(false, Continuation, text[5:]), clientFrame(true, Continuation, ""))))
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
		c, _ := newScriptConn(t, segments(clientFrame(true, Binary, "")))
		op, r, err := c.MessageReader()
		if err != nil || op != Binary {
			t.Fatalf("got %v and error %v, want binary", op, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("got %d bytes and error %v, want EOF", n, err)
		}
	})
	t.Run("fails invalid text in mid-stream", func(t *testing.T) {
		c, s := newScriptConn(t, segments(clientFrame(false, Text, "good"), clientFrame(true, Continuation, "b\xffd")))
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
		c, _ := newScriptConn(t, segments(clientFrame(false, Text, "begun"), clientFrame(true, Close, closeBody(StatusGoingAway, "bye"))))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if string(data) != "begun" || CloseStatus(err) != StatusGoingAway {
			t.Errorf("got %q and error %v, want begun and the close", data, err)
		}
		// A caller would take io.EOF itself for the end of a complete message.
		if err == io.EOF {
			t.Error("a message that was cut short ended with io.EOF itself")
		}
	})
	t.Run("each of two readers has its message", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, "one"), clientFrame(true, Text, "two"))))
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
		c, _ := newScriptConn(t, segments(clientFrame(true, Text, "hello")))
		beginReadAhead(c)
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
		"of fragments":       slices.Concat(clientFrame(false, Text, long), clientFrame(true, Ping, "p"), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, long)),
		"of an empty frame":  clientFrame(true, Binary, ""),
		"of empty fragments": slices.Concat(clientFrame(false, Text, ""), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "")),
	}
	for name, message := range messages {
		for _, read := range []int{0, 3, 5000, len(long), 2 * len(long)} {
			for _, r := range receivers {
				t.Run(fmt.Sprintf("%s after %d bytes for %s", name, read, r.name), func(t *testing.T) {
					c, s := newScriptConn(t, segments(message[:len(message)/2], nil, message[len(message)/2:], clientFrame(true, Text, "next")))
					expired := 0
					var stale io.Reader
					err := retryExpired(&expired, func() (err error) {
						_, stale, err = c.MessageReader()
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
					// Short messages end earlier, and deadlines expire.
					io.CopyN(io.Discard, stale, int64(read))
					op, data, err := r.receive(c, &expired)
					if err != nil || op != Text || string(data) != "next" {
						t.Fatalf("got %v %s and error %v, want text next", op, wstest.Hex(data), err)
					}
					if n, err := stale.Read(make([]byte, 10)); n > 0 || err == nil || isTimeout(err) {
						t.Errorf("stale reader: got %d bytes and error %v, want an error", n, err)
					}
					if strings.Contains(name, " fragments") && len(message) > len(long) {
						s.wantSent(t, sentFrame{true, Pong, "p"})
					}
				})
			}
		}
	}
	t.Run("also after a deadline has interrupted that", func(t *testing.T) {
		wire := clientFrame(true, Text, long)
		c, _ := newScriptConn(t, segments(wire[:100], nil, wire[100:], clientFrame(true, Text, "next")))
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
			t.Errorf("got %s and error %v, want next", wstest.Hex(data), err)
		}
	})
	t.Run("and fails a text that is not UTF-8", func(t *testing.T) {
		c, s := newScriptConn(t, segments(clientFrame(true, Text, "not \xff text")))
		if _, _, err := c.MessageReader(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInvalidPayload)
	})
	t.Run("and fails a text that ends inside a character", func(t *testing.T) {
		c, s := newScriptConn(t, segments(clientFrame(true, Text, "\xe2\x82")))
		if _, _, err := c.MessageReader(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrInvalidUTF8)
		wantFailed(t, s, StatusInvalidPayload)
	})
}
