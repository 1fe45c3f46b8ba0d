package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/f44ffc3b/websocket"
)

// A method is a way to receive the next message.
type method struct {
	name    string
	fits    func(r *receiver) bool // whether it can be used now; nil for always
	receive func(r *receiver) error
}

// methods are all methods that HandleConcurrent allows, and allMethods those that Handle allows.
var (
	methods = []method{
		{"ReceiveMessage", nil, (*receiver).receiveMessage},
		{"AppendMessage", nil, (*receiver).appendMessage},
		{"ReceiveFunc", nil, (*receiver).receiveFunc},
		{"MessageReader", nil, (*receiver).readMessage},
		{"MessageReader and the next method", (*receiver).canDrop, (*receiver).readPart},
		{"Stream", (*receiver).canStream, (*receiver).readStream},
	}
	allMethods = slices.Concat(methods, []method{{"ReceiveFragments", nil, (*receiver).receiveFragments}})
)

// canDrop reports whether another message follows, whose receiving method drops the rest of this one.
func (r *receiver) canDrop() bool { return r.next+1 < len(r.scenario.messages) }

// canStream reports whether Stream can be used. It does not show where a message ends, so it reads
// only messages that are not empty, and not two of them in turn.
func (r *receiver) canStream() bool { return r.canDrop() && !r.streamed && len(r.message().data) > 0 }

func (r *receiver) receiveMessage() error {
	return r.retry(func() error {
		op, data, err := r.c.ReceiveMessage()
		if err != nil {
			return err
		}
		if data == nil {
			return errors.New("got nil, want a slice")
		}
		defer r.keep(data)
		return r.check(op, data)
	})
}

func (r *receiver) appendMessage() error {
	dst := r.bytes(r.IntN(40))
	dst = slices.Grow(dst, r.IntN(2)*r.IntN(5000))
	prefix := bytes.Clone(dst)
	return r.retry(func() error {
		op, data, err := r.c.AppendMessage(dst)
		switch {
		case !bytes.HasPrefix(data, prefix):
			return fmt.Errorf("the bytes before the message were changed: %s", difference(data, prefix))
		case err != nil:
			return err
		}
		defer r.keep(data)
		return r.check(op, data[len(prefix):])
	})
}

func (r *receiver) receiveFunc() error {
	return r.retry(func() error { return r.c.ReceiveFunc(r.checkLent) })
}

// messageReader begins to read a message.
func (r *receiver) messageReader() (op websocket.Opcode, body io.Reader, err error) {
	err = r.retry(func() (err error) { op, body, err = r.c.MessageReader(); return err })
	return op, body, err
}

// readAtMost reads n bytes, or less if the reader ends earlier: then the error is io.EOF.
func (r *receiver) readAtMost(from io.Reader, n int) ([]byte, error) {
	var data []byte
	for len(data) < n {
		r.pause()
		p := make([]byte, min(n-len(data), r.upTo(10_000)))
		got := 0
		err := r.retry(func() (err error) { got, err = from.Read(p); return err })
		data = append(data, p[:got]...)
		if err != nil {
			return data, err
		}
	}
	return data, nil
}

// readMessage reads a message to its end.
func (r *receiver) readMessage() error {
	op, body, err := r.messageReader()
	if err != nil {
		return err
	}
	data, err := r.readAtMost(body, len(r.message().data)+1)
	if err != io.EOF {
		return fmt.Errorf("got error %w after %d bytes, want EOF after %d", err, len(data), len(r.message().data))
	}
	return r.check(op, data)
}

// readPart reads a part of a message.
func (r *receiver) readPart() error {
	op, body, err := r.messageReader()
	if err != nil {
		return err
	}
	data, err := r.readAtMost(body, r.IntN(len(r.message().data)+1))
	if err != nil {
		return err
	}
	return r.checkPart(op, data)
}

// readStream reads a message, or a part of it.
func (r *receiver) readStream() error {
	m := r.message()
	n := len(m.data)
	if r.oneIn(2) {
		n = 1 + r.IntN(n)
	}
	data, err := r.readAtMost(r.c.Stream(m.op), n)
	if err != nil {
		return err
	}
	return r.checkPart(m.op, data)
}

// checkPart compares the beginning of a message.
func (r *receiver) checkPart(op websocket.Opcode, data []byte) error {
	return r.check(op, append(data, r.message().data[len(data):]...))
}

func (r *receiver) receiveFragments() error {
	return r.retry(func() error {
		frames, err := r.c.ReceiveFragments()
		if err != nil {
			return err
		}
		return r.checkFragments(frames)
	})
}

// checkFragments compares the frames of a message, whose payloads are compressed if the message is.
func (r *receiver) checkFragments(frames []websocket.Frame) error {
	m := r.message()
	if len(frames) != m.fragments || frames[0].Opcode != m.op || frames[0].RSV1 != m.compressed {
		return fmt.Errorf("got %d frames that begin with %+v, want %d frames of %v", len(frames), frames[0].Header, m.fragments, m.op)
	}
	var sent []byte
	for _, f := range frames {
		sent = append(sent, f.Payload...)
		r.keep(f.Payload)
	}
	if !bytes.Equal(sent, m.sent) {
		return errors.New(difference(sent, m.sent))
	}
	if m.compressed {
		return nil
	}
	op, data, err := websocket.ProcessFragments(frames)
	if err != nil {
		return err
	}
	return r.check(op, data)
}
