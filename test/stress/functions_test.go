//go:build unix

package stress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
)

// newHandlers returns the handlers, by the name that a client gives in serverHeader.
func (c *child) newHandlers() map[string]*websocket.Handler {
	opts := []websocket.Option{
		websocket.PingInterval(pingInterval), websocket.ConnectionTimeout(connectionTimeout),
		websocket.WriteTimeout(writeTimeout), websocket.CloseTimeout(closeTimeout),
		websocket.MaxMessageSize(maxMessageSize),
		websocket.OnError(func(*websocket.Conn, error) {}),
		websocket.OnClose(c.ended),
	}
	run := func(conn *websocket.Conn) error { return c.newSession(conn).run() }
	return map[string]*websocket.Handler{
		"Handle":           websocket.Handle(run, opts...),
		"Detached":         websocket.Handle(run, append(opts, websocket.Detached(true))...),
		"HandleConcurrent": websocket.HandleConcurrent(run, opts...),
		"HandleMessages": websocket.HandleMessages(func(conn *websocket.Conn) (websocket.MessageFunc, error) {
			s := c.newSession(conn)
			return func(op websocket.Opcode, data []byte) error {
				err := s.answer(op, data)
				if err == errStop {
					err = &websocket.CloseError{Code: websocket.StatusNormalClosure} // nil would not stop it
				}
				return err
			}, nil
		}, opts...),
	}
}

// A session is the function of one connection, with what it reports. One goroutine uses it.
type session struct {
	*websocket.Conn
	receive string
	work    time.Duration // for each message
	report  report
	stream  net.Conn // of receiveStream
	slept   bool
}

// errStop makes the function return nil.
var errStop = errors.New("stop")

// receivers are the ways to receive, by the name that a client gives in receiveHeader.
var receivers = map[string]func(s *session) (websocket.Opcode, []byte, error){
	"ReceiveMessage":   func(s *session) (websocket.Opcode, []byte, error) { return s.ReceiveMessage() },
	"AppendMessage":    func(s *session) (websocket.Opcode, []byte, error) { return s.AppendMessage(nil) },
	"read deadlines":   (*session).receiveWithDeadlines,
	"ReceiveFunc":      (*session).receiveFunc,
	"MessageReader":    (*session).receiveReader,
	"ReceiveFragments": (*session).receiveFragments,
	"ReadFrame":        (*session).receiveFrames,
	"Stream":           (*session).receiveStream,
}

func (s *session) run() error {
	receive := receivers[s.receive]
	for {
		op, data, err := receive(s)
		if err != nil {
			s.note(err)
			return err
		}
		switch err := s.answer(op, data); {
		case err == errStop:
			return nil
		case err != nil && !s.slept: // after that, messages from before the end may be left
			return err
		}
	}
}

// note notes the first error that a method has returned to the function.
func (s *session) note(err error) {
	if s.report.Result == "none" {
		s.report.Result = kindOf(err)
	}
}

const lookInterval = 3 * time.Millisecond

// receiveWithDeadlines receives as a function does that has other work: it looks for a message now and then.
func (s *session) receiveWithDeadlines() (op websocket.Opcode, data []byte, err error) {
	for {
		s.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		op, data, err = s.ReceiveMessage()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return op, data, err
		}
		time.Sleep(lookInterval)
	}
}

func (s *session) receiveFunc() (op websocket.Opcode, data []byte, err error) {
	err = s.ReceiveFunc(func(lentOp websocket.Opcode, lent []byte) error {
		op, data = lentOp, bytes.Clone(lent)
		return nil
	})
	return op, data, err
}

func (s *session) receiveReader() (websocket.Opcode, []byte, error) {
	op, r, err := s.MessageReader()
	if err != nil {
		return 0, nil, err
	}
	data, err := io.ReadAll(r)
	return op, data, err
}

func (s *session) receiveFragments() (websocket.Opcode, []byte, error) {
	frames, err := s.ReceiveFragments()
	if err != nil {
		return 0, nil, err
	}
	return websocket.ProcessFragments(frames)
}

// receiveFrames receives a message as frames. It has to handle the control frames itself.
func (s *session) receiveFrames() (op websocket.Opcode, data []byte, err error) {
	for {
		f, err := s.ReadFrame()
		if err != nil {
			return 0, nil, err
		}
		switch f.Opcode {
		case websocket.Ping:
			err = s.SendMessage(websocket.Pong, f.Payload)
		case websocket.Close:
			if err = s.SendMessage(websocket.Close, f.Payload); err == nil {
				err = io.EOF // the close frame was sent, so this result does not matter
			}
		case websocket.Text, websocket.Binary:
			op = f.Opcode
		}
		if err != nil {
			return 0, nil, err
		}
		if f.Opcode.IsControl() {
			continue
		}
		if data = append(data, f.Payload...); f.Fin {
			return op, data, nil
		}
	}
}

// receiveStream receives what has arrived of the stream, which does not show where messages end.
func (s *session) receiveStream() (websocket.Opcode, []byte, error) {
	if s.stream == nil {
		s.stream = s.Stream(websocket.Binary)
	}
	data := make([]byte, 4096)
	n, err := s.stream.Read(data)
	return websocket.Binary, data[:n], err
}

// answer sends a message back, or does what it says.
func (s *session) answer(op websocket.Opcode, data []byte) error {
	s.report.Received++
	s.report.Sum = checksum(s.report.Sum, byte(op), data)
	command, isCommand := strings.CutPrefix(string(data[:min(len(data), maxCommand)]), commandPrefix)
	var err error
	if op == websocket.Text && isCommand {
		name, value, _ := strings.Cut(command, " ")
		err = s.do(name, value)
	} else {
		time.Sleep(s.work)
		err = s.send(op, data)
	}
	return err
}

func (s *session) send(op websocket.Opcode, data []byte) error {
	err := s.SendMessage(op, data)
	if err != nil {
		s.note(err)
	}
	return err
}

// checksum adds a message to the sum of the messages before it.
func checksum(sum uint64, op byte, data []byte) uint64 {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64([]byte{op}, sum))
	h.Write(data)
	return h.Sum64()
}
