package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A kind is a way to make a handler.
type kind struct {
	name    string
	handler func(r *receiver, opts []websocket.Option) *websocket.Handler
}

// HandleMessages passes the messages to a function, so its receiver uses no method.
var kinds = []kind{
	{"Handle", func(r *receiver, opts []websocket.Option) *websocket.Handler {
		return websocket.Handle(r.receiveBy(allMethods), opts...)
	}},
	{"Detached", func(r *receiver, opts []websocket.Option) *websocket.Handler {
		return websocket.Handle(r.receiveBy(allMethods), append(opts, websocket.Detached(true))...)
	}},
	{"HandleConcurrent", func(r *receiver, opts []websocket.Option) *websocket.Handler {
		return websocket.HandleConcurrent(r.receiveBy(methods), opts...)
	}},
	{"HandleMessages", func(r *receiver, opts []websocket.Option) *websocket.Handler {
		return websocket.HandleMessages(r.open, opts...)
	}},
}

// A receiver receives the messages of a scenario and compares them.
type receiver struct {
	random
	scenario *scenario
	c        *websocket.Conn
	next     int // the message that is received next
	kept     []keptSlice
	err      error // the first difference, or the failure of a method

	// streamed is set if the previous message was read with Stream. The next one must be received
	// with another method, which drops the unread rest.
	streamed bool
}

// A keptSlice is memory that the receiver owns and keeps until the end.
type keptSlice struct {
	message   int
	got, want []byte
}

func (s *scenario) newReceiver() *receiver {
	return &receiver{random: newRandom(s.seed, 2), scenario: s}
}

// receiveBy returns a HandlerFunc that receives each message by one of the methods.
func (r *receiver) receiveBy(methods []method) websocket.HandlerFunc {
	return func(c *websocket.Conn) error {
		r.c = c
		for r.next < len(r.scenario.messages) {
			r.pause()
			m := methods[r.IntN(len(methods))]
			if m.fits != nil && !m.fits(r) {
				continue
			}
			if err := m.receive(r); err != nil {
				r.err = fmt.Errorf("%s: %w", m.name, err)
				return r.err
			}
			r.next++
			r.streamed = m.name == "Stream"
		}
		return nil
	}
}

// open is for HandleMessages. The last call of its function closes the connection.
func (r *receiver) open(c *websocket.Conn) (websocket.MessageFunc, error) {
	r.c = c
	return func(op websocket.Opcode, data []byte) error {
		if r.err = r.checkLent(op, data); r.err != nil {
			return r.err
		}
		if r.next++; r.next == len(r.scenario.messages) {
			return &websocket.CloseError{Code: websocket.StatusNormalClosure}
		}
		return nil
	}, nil
}

// result returns what is wrong after the connection has ended with err.
func (r *receiver) result(err error) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("message %d: %w", r.next, r.err)
	case r.next != len(r.scenario.messages):
		return fmt.Errorf("got %d of %d messages, and then %w", r.next, len(r.scenario.messages), err)
	case websocket.CloseStatus(err) != websocket.StatusNormalClosure:
		return fmt.Errorf("the connection ended with %w, want 1000", err)
	}
	for _, k := range r.kept {
		if !bytes.Equal(k.got, k.want) {
			return fmt.Errorf("message %d was changed after it was received: %s", k.message, difference(k.got, k.want))
		}
	}
	return nil
}

// message returns the message that is received next.
func (r *receiver) message() message { return r.scenario.messages[r.next] }

// check compares a message with the one that is received next.
func (r *receiver) check(op websocket.Opcode, data []byte) error {
	m := r.message()
	if op != m.op {
		return fmt.Errorf("got %v, want %v", op, m.op)
	}
	if !bytes.Equal(data, m.data) {
		return errors.New(difference(data, m.data))
	}
	return nil
}

// checkLent compares a message at the beginning and at the end of a function that it is lent to.
// Then it overwrites the message, as far as append can, because the function may do that.
func (r *receiver) checkLent(op websocket.Opcode, data []byte) error {
	if err := r.check(op, data); err != nil {
		return err
	}
	r.pause()
	if err := r.check(op, data); err != nil {
		return fmt.Errorf("after a pause: %w", err)
	}
	overwrite(data)
	_ = append(data, "overwritten"...)
	return nil
}

// keep checks at the end of the scenario that b has not changed. The bytes behind it belong to the
// receiver too.
func (r *receiver) keep(b []byte) {
	overwrite(b[len(b):cap(b)])
	b = b[:cap(b)]
	r.kept = append(r.kept, keptSlice{r.next, b, bytes.Clone(b)})
}

func overwrite(b []byte) {
	for i := range b {
		b[i] = 0xEE
	}
}

// difference describes the first byte in which got and want differ.
func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("got %d bytes, want %d; from %d on got %s, want %s", len(got), len(want), i, wstest.Hex(got[i:]), wstest.Hex(want[i:]))
}

// pause sometimes sleeps, so that polls read meanwhile, or calls Ping, which reads itself.
func (r *receiver) pause() {
	if r.oneIn(r.scenario.pauses.often) {
		time.Sleep(r.duration(r.scenario.pauses.handler))
	}
	if r.scenario.asks && r.oneIn(r.scenario.pauses.often) {
		ctx, cancel := context.WithTimeout(context.Background(), r.duration(r.scenario.pauses.handler))
		defer cancel()
		r.c.Ping(ctx) // may fail, because the client answers only between frames
	}
}

// retry calls f until it returns an error other than a read deadline. In some scenarios it sets
// deadlines that pass while f waits.
func (r *receiver) retry(f func() error) error {
	const mostDeadlines = 20
	for n := 0; ; n++ {
		var deadline time.Time
		if r.scenario.deadlines && n < mostDeadlines && r.oneIn(2) {
			deadline = time.Now().Add(time.Duration(r.IntN(3)) * r.duration(time.Millisecond))
		}
		if err := r.c.SetReadDeadline(deadline); err != nil {
			return err
		}
		if err := f(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		r.pause()
	}
}
