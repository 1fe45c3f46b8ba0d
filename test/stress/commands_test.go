//go:build unix

package stress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/f44ffc3b/websocket"
)

// commandPrefix begins a message that is not sent back. A name and a value follow.
const (
	commandPrefix = "do:"
	maxCommand    = 100
)

func (s *session) do(name, value string) error {
	n, _ := strconv.Atoi(value)
	code := websocket.StatusCode(n)
	switch name {
	case "StartClose":
		s.StartClose(code, "")
	case "Close":
		s.Close(code, "")
	case "CloseNow":
		s.CloseNow()
	case "SendClose":
		s.SendMessage(websocket.Close, websocket.AppendClose(nil, code, ""))
	case "return":
		return &websocket.CloseError{Code: code}
	case "stop":
		return errStop
	case "fail":
		return errors.New("the script wants this error")
	case "panic":
		panic("the script wants this panic")
	case "sleep":
		s.slept = true
		time.Sleep(time.Duration(n) * time.Millisecond)
	case "large":
		return s.send(websocket.Binary, make([]byte, n))
	case "push":
		return s.push(time.Duration(n)*time.Millisecond, s.send)
	case "try":
		return s.push(time.Duration(n)*time.Millisecond, s.TrySend) // its error may not be that of the connection
	}
	return nil
}

// push sends numbers with a method and receives nothing, until the connection ends.
func (s *session) push(interval time.Duration, send func(websocket.Opcode, []byte) error) error {
	for n := uint64(0); ; n++ {
		if err := send(websocket.Binary, binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-s.Context().Done():
			return send(websocket.Text, nil) // its error is that of the connection
		}
	}
}

// The kinds of errors.
const (
	peerClosed   = "the peer has closed"
	closedHere   = "closed here"
	closeTimeOut = "ErrCloseTimeout"
	silence      = "ErrConnectionTimeout"
	protocol     = "ErrProtocol"
	invalidText  = "ErrInvalidUTF8"
	tooLarge     = "ErrMessageTooLarge"
	slowWrite    = "a write has timed out"
	network      = "an error of the network"
)

// kindOf returns the kind of an error of the library. An error of a connection has one kind only.
func kindOf(err error) string {
	var closed *websocket.CloseError
	switch {
	case err == nil:
		return "nil"
	case errors.Is(err, websocket.ErrConnectionTimeout):
		return silence
	case errors.Is(err, websocket.ErrCloseTimeout):
		return closeTimeOut
	case errors.Is(err, websocket.ErrInvalidUTF8):
		return invalidText
	case errors.Is(err, websocket.ErrMessageTooLarge):
		return tooLarge
	case errors.Is(err, websocket.ErrProtocol):
		return protocol
	case errors.Is(err, net.ErrClosed):
		return closedHere
	case errors.As(err, &closed):
		return peerClosed
	case os.IsTimeout(err):
		return slowWrite
	case websocket.CloseStatus(err) == websocket.StatusAbnormalClosure || errors.Is(err, io.EOF):
		return network
	}
	return fmt.Sprintf("unknown: %T", err)
}
