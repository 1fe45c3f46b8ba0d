package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// allMethods are the methods that return the error of an ended connection.
var allMethods = map[string]func(c *Conn) error{
	"ReceiveMessage":    func(c *Conn) error { _, _, err := c.ReceiveMessage(); return err },
	"AppendMessage":     func(c *Conn) error { _, _, err := c.AppendMessage(nil); return err },
	"MessageReader":     func(c *Conn) error { _, _, err := c.MessageReader(); return err },
	"Messages":          messagesErr,
	"ReceiveJSON":       func(c *Conn) error { return c.ReceiveJSON(new(any)) },
	"ReadFrame":         func(c *Conn) error { _, err := c.ReadFrame(); return err },
	"ReceiveFragments":  func(c *Conn) error { _, err := c.ReceiveFragments(); return err },
	"ReceiveFunc":       func(c *Conn) error { return c.ReceiveFunc(func(Opcode, []byte) error { return nil }) },
	"Discard":           func(c *Conn) error { return c.Discard() },
	"SendMessage/Text":  func(c *Conn) error { return c.SendMessage(Text, nil) },
	"SendMessage/Ping":  func(c *Conn) error { return c.SendMessage(Ping, nil) },
	"SendMessage/Close": func(c *Conn) error { return c.SendMessage(Close, nil) },
	"Ping":              func(c *Conn) error { _, err := c.Ping(context.Background()); return err },
	"SendJSON":          func(c *Conn) error { return c.SendJSON(1) },
	"MessageWriter":     func(c *Conn) error { _, err := c.MessageWriter(Text); return err },
	"WriteFrame":        func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Text}}) },
	"SetReadDeadline":   func(c *Conn) error { return c.SetReadDeadline(time.Time{}) },
	"SetWriteDeadline":  func(c *Conn) error { return c.SetWriteDeadline(time.Time{}) },
	"SetMaxMessageSize": func(c *Conn) error { return c.SetMaxMessageSize(1) },
	"Close":             func(c *Conn) error { return c.Close(StatusNormalClosure, "") },
	"StartClose":        func(c *Conn) error { return c.StartClose(StatusNormalClosure, "") },
	"Context":           func(c *Conn) error { return context.Cause(c.Context()) },
}

// receivingMethods are those of allMethods that wait for the peer.
var receivingMethods = []string{"ReceiveMessage", "AppendMessage", "MessageReader", "Messages", "ReceiveJSON", "ReadFrame", "ReceiveFragments", "ReceiveFunc", "Discard"}

// frameMethods are the receivingMethods that cannot be used with HandleConcurrent.
var frameMethods = []string{"ReadFrame", "ReceiveFragments"}

// sendingMethods are those of allMethods that send.
var sendingMethods = []string{"SendMessage/Text", "SendMessage/Ping", "SendMessage/Close", "SendJSON", "MessageWriter", "WriteFrame"}

func messagesErr(c *Conn) error {
	for _, err := range c.Messages() {
		if err != nil {
			return err
		}
	}
	return errors.New("Messages ended without an error")
}

// wantSticky checks that every method returns the error that ended the connection, again
// and again.
func wantSticky(t testing.TB, c *Conn, want error) {
	t.Helper()
	for range 2 {
		for name, call := range allMethods {
			if readsAhead(c) && slices.Contains(frameMethods, name) {
				continue
			}
			got := call(c)
			if got != want && slices.Contains(sendingMethods, name) {
				got = errors.Unwrap(got) // a sending method may add that a deadline has passed
			}
			if got != want || got == nil {
				t.Errorf("%s: got error %v, want the sticky error: %v", name, got, want)
			}
		}
	}
}

// receiveOnce has the ways to receive one message, or one frame.
var receiveOnce = map[string]func(c *Conn) (string, error){
	"ReceiveMessage": func(c *Conn) (string, error) { _, b, err := c.ReceiveMessage(); return string(b), err },
	"AppendMessage":  func(c *Conn) (string, error) { _, b, err := c.AppendMessage(nil); return string(b), err },
	"AppendMessage with a dst": func(c *Conn) (string, error) {
		_, b, err := c.AppendMessage([]byte("x"))
		return strings.TrimPrefix(string(b), "x"), err
	},
	"MessageReader": func(c *Conn) (string, error) {
		_, r, err := c.MessageReader()
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(r)
		return string(b), err
	},
	"Messages": func(c *Conn) (string, error) {
		for m, err := range c.Messages() {
			return string(m.Data), err
		}
		return "", errors.New("Messages yielded nothing")
	},
	"ReceiveFragments": func(c *Conn) (string, error) {
		frames, err := c.ReceiveFragments()
		if err != nil {
			return "", err
		}
		_, b, err := ProcessFragments(frames)
		return string(b), err
	},
	"ReceiveFunc": func(c *Conn) (got string, err error) {
		err = c.ReceiveFunc(func(_ Opcode, data []byte) error { got = string(data); return nil })
		return got, err
	},
	"ReadFrame": func(c *Conn) (string, error) { f, err := c.ReadFrame(); return string(f.Payload), err },
}

// A receiveFunc receives one message in one of several ways. It counts the deadlines
// that expire meanwhile, and continues after them.
type receiveFunc func(c *Conn, expired *int) (Opcode, []byte, error)

type namedReceiver struct {
	name    string
	receive receiveFunc
}

// rawReceiver is the way to receive that enforces only the rules for headers.
var rawReceiver = namedReceiver{"ReadFrame", viaReadFrame}

// receivers are the ways to receive that enforce all rules.
var receivers = []namedReceiver{
	{"ReceiveMessage", viaReceiveMessage},
	{"AppendMessage", viaAppendMessage},
	{"MessageReader", viaMessageReader},
	{"ReceiveFragments", viaReceiveFragments},
	{"ReceiveFunc", viaReceiveFunc},
}

func retryExpired(expired *int, try func() error) error {
	for {
		err := try()
		if !isTimeout(err) {
			return err
		}
		*expired++
	}
}

func viaReceiveMessage(c *Conn, expired *int) (op Opcode, data []byte, err error) {
	err = retryExpired(expired, func() error {
		op, data, err = c.ReceiveMessage()
		return err
	})
	return op, data, err
}

func viaAppendMessage(c *Conn, expired *int) (op Opcode, data []byte, err error) {
	dst := append(make([]byte, 0, 100), "before:"...)
	err = retryExpired(expired, func() error {
		op, data, err = c.AppendMessage(dst)
		if err != nil && (string(data) != "before:" || &data[0] != &dst[0]) {
			return fmt.Errorf("AppendMessage returned dst as %q together with error %w", data, err)
		}
		return err
	})
	data, ok := bytes.CutPrefix(data, []byte("before:"))
	if !ok {
		return 0, nil, errors.New("AppendMessage changed what was in dst")
	}
	return op, data, err
}

func viaMessageReader(c *Conn, expired *int) (op Opcode, data []byte, err error) {
	var r io.Reader
	err = retryExpired(expired, func() error {
		op, r, err = c.MessageReader()
		return err
	})
	if err != nil {
		return op, nil, err
	}
	p := make([]byte, 100)
	for {
		var n int
		err := retryExpired(expired, func() error {
			n, err = r.Read(p)
			return err
		})
		data = append(data, p[:n]...)
		if err == io.EOF {
			return op, data, nil
		}
		if err != nil {
			return op, nil, err
		}
	}
}

func viaReceiveFragments(c *Conn, expired *int) (Opcode, []byte, error) {
	var frames []Frame
	err := retryExpired(expired, func() (err error) {
		frames, err = c.ReceiveFragments()
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return ProcessFragments(frames)
}

func viaReceiveFunc(c *Conn, expired *int) (op Opcode, data []byte, err error) {
	err = retryExpired(expired, func() error {
		return c.ReceiveFunc(func(lent Opcode, message []byte) error {
			op, data = lent, bytes.Clone(message)
			for i := range message {
				message[i] = '!' // which must not change what comes next
			}
			return nil
		})
	})
	return op, data, err
}

// viaReadFrame receives a message frame by frame. It checks no rules itself.
func viaReadFrame(c *Conn, expired *int) (Opcode, []byte, error) {
	var frames []Frame
	for {
		var f Frame
		err := retryExpired(expired, func() (err error) {
			f, err = c.ReadFrame()
			return err
		})
		switch {
		case err != nil:
			return 0, nil, err
		case f.Opcode.IsControl():
			continue
		}
		if frames = append(frames, f); f.Fin {
			return ProcessFragments(frames)
		}
	}
}
