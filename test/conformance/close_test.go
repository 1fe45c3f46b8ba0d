package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// Each way to end a handler sends its close frame. The server drops the frames that
// come before the client's answer.
func TestConformance_7_1_2_closing_handshake(t *testing.T) {
	ends := []struct {
		name string
		fn   websocket.HandlerFunc
		want []byte
	}{
		{"return nil", func(*websocket.Conn) error { return nil }, fromServer(0x88, "\x03\xe8")},
		{"return a CloseError", func(*websocket.Conn) error { return &websocket.CloseError{Code: 4001, Reason: "κόσμε"} }, fromServer(0x88, "\x0f\xa1κόσμε")},
		{"return an error", func(*websocket.Conn) error { return errors.New("secret") }, fromServer(0x88, "\x03\xf3")},
		{"panic", func(*websocket.Conn) error { panic(http.ErrAbortHandler) }, fromServer(0x88, "\x03\xf3")},
		{"Close", func(c *websocket.Conn) error { return c.Close(websocket.StatusGoingAway, "bye") }, fromServer(0x88, "\x03\xe9bye")},
		{"Close without a code", func(c *websocket.Conn) error { return c.Close(websocket.StatusNoStatusReceived, "") }, fromServer(0x88, "")},
		{"message, then return", func(c *websocket.Conn) error { return c.SendMessage(websocket.Text, []byte("last")) }, fromServer(0x81, "last", 0x88, "\x03\xe8")},
		{"SendMessage of a close", func(c *websocket.Conn) error {
			c.SendMessage(websocket.Close, []byte("\x03\xe8"))
			if err := c.SendMessage(websocket.Text, []byte("too late")); err == nil {
				return errors.New("data was sent after the close frame")
			}
			return receiveAll(c)
		}, fromServer(0x88, "\x03\xe8")},
	}
	answers := []struct {
		name string
		sent [][]byte
	}{
		{"answered", fromClient(0x88, "\x03\xe8")},
		{"answered without a code", fromClient(0x88, "")},
		{"closed by the client at the same time", fromClient(0x88, "\x03\xe9")},
		{"answered, then more frames", fromClient(0x88, "\x03\xe8", 0x81, octets(5000))},
		{"data and ping before the answer", fromClient(0x81, "dropped", 0x89, "dropped", 0x02, "x", 0x80, "y", 0x88, "\x03\xe8")},
	}
	for _, end := range ends {
		srv := serve(t, end.fn)
		for _, answer := range answers {
			if strings.HasPrefix(end.name, "SendMessage") && strings.HasPrefix(answer.name, "data") {
				continue // the handler still receives, and so pings are still answered
			}
			t.Run(end.name+", "+answer.name, func(t *testing.T) {
				p := dial(t, srv)
				p.ExpectBytes(end.want)
				p.Write(slices.Concat(answer.sent...))
				p.ExpectEOF()
			})
		}
	}
}

func TestConformance_7_1_1_no_answer_to_the_close(t *testing.T) {
	srv := serve(t, func(*websocket.Conn) error { return nil }, websocket.CloseTimeout(50*time.Millisecond))
	p := dial(t, srv)
	p.ExpectBytes(fromServer(0x88, "\x03\xe8"))
	p.ExpectEOF()
}

// If a client ends TCP without a close frame, the status is 1006, which is never sent.
func TestConformance_7_1_5_no_close_frame(t *testing.T) {
	srv := serve(t, echo)
	for name, sent := range map[string][][]byte{
		"between messages":   fromClient(0x81, "a"),
		"between fragments":  fromClient(0x81, "a", 0x01, "b"),
		"inside a header":    fromClient(0x81, "a", wstest.Unhex("82 fe 01")),
		"inside a payload":   fromClient(0x81, "a", unfinished(0x81, "b", 100)),
		"inside a ping":      fromClient(0x81, "a", unfinished(0x89, "b", 100)),
		"inside a character": fromClient(0x81, "a", 0x01, "\xce"),
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, srv)
			p.Write(slices.Concat(sent...))
			if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			p.ExpectBytes(fromServer(0x81, "a"))
			p.ExpectEOF()
		})
	}
}

func TestConformance_7_4_1_codes_never_sent(t *testing.T) {
	for _, code := range []websocket.StatusCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		t.Run(fmt.Sprint(uint16(code)), func(t *testing.T) {
			srv := serve(t, func(*websocket.Conn) error { return &websocket.CloseError{Code: code, Reason: "reason"} })
			dial(t, srv).ExpectBytes(fromServer(0x88, "\x03\xf3"))
		})
	}
}
