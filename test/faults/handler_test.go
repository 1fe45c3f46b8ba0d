package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/f44ffc3b/websocket"
)

// A session is the use of one connection, from the handshake to the end.
type session struct {
	name     string
	handle   func(websocket.HandlerFunc, ...websocket.Option) *websocket.Handler
	end      clientEnd
	receives bool // the handler receives everything that the client sends
	fn       func(c *websocket.Conn, l *log) error
	message  func(c *websocket.Conn, l *log, op websocket.Opcode, data []byte) error // with HandleMessages, instead of handle and fn
	opts     []websocket.Option
}

// serve serves a connection with HandleMessages, or with handle. It returns the result of the
// function when the connection has ended.
func (s session) serve(w http.ResponseWriter, r *http.Request, l *log) (result error) {
	opts := append(s.opts, websocket.OnError(func(*websocket.Conn, error) {}))
	if s.message == nil {
		s.handle(func(c *websocket.Conn) error {
			result = s.fn(c, l)
			return result
		}, opts...).ServeHTTP(w, r)
		return result
	}
	opened, ended := false, make(chan error, 1)
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		opened = true
		return func(op websocket.Opcode, data []byte) error { return s.message(c, l, op, data) }, nil
	}, append(opts, websocket.OnClose(func(_ *websocket.Conn, err error) { ended <- err }))...)
	h.ServeHTTP(w, r)
	if !opened {
		return nil // the response could not be sent
	}
	return <-ended
}

// oneByOne is for sessions that send and receive on different goroutines. Otherwise an accepted
// message may wait for the next one while the connection breaks.
var oneByOne = []websocket.Option{websocket.WriteCoalescing(false)}

var sessions = []session{
	{name: "ReceiveMessage and SendMessage", handle: websocket.Handle, end: closeAtOnce, receives: true, fn: echo(receiveMessage)},
	{name: "MessageReader and SendMessage", handle: websocket.Handle, end: closeAtOnce, receives: true, fn: echo(readMessage)},
	{name: "ReceiveFragments and SendMessage", handle: websocket.Handle, end: closeAtOnce, receives: true, fn: echo(receiveFragments)},
	{name: "ReceiveFunc and SendMessage", handle: websocket.Handle, end: closeAtOnce, receives: true, fn: echo(receiveLent)},
	{name: "HandleMessages", end: closeAtOnce, receives: true, message: echoMessage},
	{name: "HandleConcurrent", handle: websocket.HandleConcurrent, end: closeWhenEchoed, receives: true, fn: echo(receiveMessage), opts: oneByOne},
	{name: "MessageWriter and Close", handle: websocket.Handle, fn: sendAndClose},
	{name: "SendMessage beside a receiver, closed by the return of the handler", handle: websocket.Handle, receives: true, fn: sendBesideReceiver,
		opts: oneByOne},
}

// A log holds the results that the handler of a session got.
type log struct {
	received     []websocket.Message
	attempted    []websocket.Message // given to a sending method
	acknowledged int                 // for how many of these the method returned nil
}

// retry calls try, and again if it returns a deadline that the handler has not set.
func retry(c *websocket.Conn, try func() error) error {
	for {
		if err := try(); !errors.Is(err, os.ErrDeadlineExceeded) || context.Cause(c.Context()) != nil {
			return err
		}
	}
}

func (l *log) send(c *websocket.Conn, op websocket.Opcode, data []byte) error {
	l.attempted = append(l.attempted, websocket.Message{Opcode: op, Data: data})
	err := retry(c, func() error { return c.SendMessage(op, data) })
	if err == nil {
		l.acknowledged++
	}
	return err
}

func (l *log) stream(c *websocket.Conn, op websocket.Opcode, parts ...string) error {
	var w io.WriteCloser
	l.attempted = append(l.attempted, websocket.Message{Opcode: op, Data: []byte(strings.Join(parts, ""))})
	err := retry(c, func() (err error) { w, err = c.MessageWriter(op); return err })
	for i := 0; err == nil && i < len(parts); i++ {
		rest := []byte(parts[i])
		err = retry(c, func() error {
			n, err := w.Write(rest)
			rest = rest[n:]
			return err
		})
	}
	if err == nil {
		err = retry(c, func() error { return w.Close() })
	}
	if err == nil {
		l.acknowledged++
	}
	return err
}

func receiveMessage(c *websocket.Conn) (op websocket.Opcode, data []byte, err error) {
	err = retry(c, func() error { op, data, err = c.ReceiveMessage(); return err })
	return op, data, err
}

func readMessage(c *websocket.Conn) (op websocket.Opcode, data []byte, err error) {
	var r io.Reader
	err = retry(c, func() error { op, r, err = c.MessageReader(); return err })
	if err != nil {
		return 0, nil, err
	}
	data = []byte{}
	err = retry(c, func() error {
		more, err := io.ReadAll(r)
		data = append(data, more...)
		return err
	})
	return op, data, err
}

func receiveFragments(c *websocket.Conn) (websocket.Opcode, []byte, error) {
	var frames []websocket.Frame
	err := retry(c, func() (err error) { frames, err = c.ReceiveFragments(); return err })
	if err != nil {
		return 0, nil, err
	}
	return websocket.ProcessFragments(frames)
}

func receiveLent(c *websocket.Conn) (op websocket.Opcode, data []byte, err error) {
	err = retry(c, func() error {
		return c.ReceiveFunc(func(lent websocket.Opcode, message []byte) error {
			op, data = lent, bytes.Clone(message)
			return nil
		})
	})
	return op, data, err
}

func echoMessage(c *websocket.Conn, l *log, op websocket.Opcode, data []byte) error {
	data = bytes.Clone(data)
	l.received = append(l.received, websocket.Message{Opcode: op, Data: data})
	return l.send(c, op, data)
}

func echo(receive func(c *websocket.Conn) (websocket.Opcode, []byte, error)) func(*websocket.Conn, *log) error {
	return func(c *websocket.Conn, l *log) error {
		for {
			op, data, err := receive(c)
			if err != nil {
				return err
			}
			l.received = append(l.received, websocket.Message{Opcode: op, Data: data})
			if err := l.send(c, op, data); err != nil {
				return err
			}
		}
	}
}

func sendAndClose(c *websocket.Conn, l *log) error {
	err := errors.Join(
		l.stream(c, websocket.Text, "a ", longText, "b "),
		l.send(c, websocket.Binary, []byte("between")),
		l.stream(c, websocket.Binary, longText, longText))
	if err == nil {
		err = c.Close(4000, "that was all")
	}
	return err
}

func sendBesideReceiver(c *websocket.Conn, l *log) error {
	received := make(chan error, 1)
	go func() {
		for range clientMessages {
			op, data, err := receiveMessage(c)
			if err != nil {
				received <- err
				return
			}
			l.received = append(l.received, websocket.Message{Opcode: op, Data: data})
		}
		received <- nil
	}()
	var err error
	for i := 0; i < 5 && err == nil; i++ {
		err = l.send(c, websocket.Text, []byte(longText[:1<<(3*i)]))
	}
	return errors.Join(err, <-received)
}
