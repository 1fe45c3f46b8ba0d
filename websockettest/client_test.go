package websockettest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func echo(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}

// capture returns a handler that runs fn, and a channel with its error.
func capture(fn websocket.HandlerFunc, opts ...websocket.Option) (*websocket.Handler, <-chan error) {
	result := make(chan error, 1)
	return websocket.Handle(func(c *websocket.Conn) error {
		err := fn(c)
		result <- err
		return err
	}, opts...), result
}

func receiveAll(c *websocket.Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
	}
}

// sendWhenAsked sends 1 MiB after the first message.
func sendWhenAsked(c *websocket.Conn) error {
	if _, _, err := c.ReceiveMessage(); err != nil {
		return err
	}
	return c.SendMessage(websocket.Binary, make([]byte, 1<<20))
}

func wantMessage(t testing.TB, c *websockettest.Client, op websocket.Opcode, want string) {
	t.Helper()
	if got, data := c.Receive(); got != op || string(data) != want {
		t.Errorf("got the %v message %.100q, want the %v message %.100q", got, data, op, want)
	}
}

// inAndOut runs a test in real time and in a bubble.
func inAndOut(t *testing.T, test func(t *testing.T)) {
	t.Run("in real time", test)
	t.Run("in a bubble", func(t *testing.T) { synctest.Test(t, test) })
}

func TestClient_messages(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		handler, result := capture(echo, websocket.MaxFrameSize(4<<20), websocket.MaxMessageSize(4<<20))
		c := websockettest.Dial(t, handler)
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 3 << 20} {
			text := strings.Repeat("x", size)
			c.Send(websocket.Text, []byte(text))
			wantMessage(t, c, websocket.Text, text)
			c.Send(websocket.Binary, []byte(text))
			wantMessage(t, c, websocket.Binary, text)
		}

		c.SendJSON(map[string]int{"a": 1})
		var v map[string]int
		if c.ReceiveJSON(&v); v["a"] != 1 {
			t.Errorf("got %v, want a:1", v)
		}

		for range 100 {
			c.Send(websocket.Text, bytes.Repeat([]byte("x"), 10_000)) // no Receive between them
		}
		for range 100 {
			c.Receive()
		}

		c.Close(websocket.StatusNormalClosure, "bye")
		var closed *websocket.CloseError
		if err := <-result; !errors.As(err, &closed) || closed.Code != 1000 || closed.Reason != "bye" {
			t.Errorf("the handler got %v, want 1000 and bye", err)
		}
	})
}

func TestClient_fragments_and_control_frames(t *testing.T) {
	answers := make(chan string, 1)
	handler := rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
		io.WriteString(conn, frame(0x01, "Hel")+frame(0x89, "ping 1")+frame(0x8A, "pong")+frame(0x00, "")+frame(0x80, "lo")+frame(0x82, ""))
		answers <- readMasked(in)
	})
	c := websockettest.Dial(t, handler)
	wantMessage(t, c, websocket.Text, "Hello")
	wantMessage(t, c, websocket.Binary, "")
	if got := <-answers; got != "pong ping 1" {
		t.Errorf("the answer to the ping is %q, want a pong with its payload", got)
	}
}

// readMasked reads a masked frame of a client.
func readMasked(in *bufio.Reader) string {
	f, err := websocket.ReadFrame(in, 1<<20)
	if err != nil {
		return err.Error()
	}
	if !f.Masked {
		return "not masked"
	}
	f.Unmask()
	return f.Opcode.String() + " " + string(f.Payload)
}

func TestSendFrame(t *testing.T) {
	got := make(chan websocket.Frame, 10)
	c := websockettest.Dial(t, rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
		defer close(got)
		for {
			f, err := websocket.ReadFrame(in, 1<<20)
			if err != nil {
				return
			}
			got <- f
		}
	}))
	payload := []byte("payload")
	send := func(h websocket.Header) websocket.Frame {
		c.SendFrame(websocket.Frame{Header: h, Payload: payload})
		return <-got
	}
	key := [4]byte{1, 2, 3, 4}
	if f := send(websocket.Header{RSV2: true, Opcode: 0xB, Masked: true, MaskKey: key}); f.Fin || !f.RSV2 || f.Opcode != 0xB || f.MaskKey != key || string(f.Payload) != "payload" {
		t.Errorf("got %+v, want the frame as it was given", f)
	}

	keys := map[[4]byte]bool{}
	for range 5 {
		f := send(websocket.Header{Fin: true, Opcode: websocket.Text, Length: 99})
		keys[f.MaskKey] = true
		if f.Unmask(); string(f.Payload) != "payload" || f.Length != 7 {
			t.Errorf("got the payload %q and the length %d, want payload and 7", f.Payload, f.Length)
		}
	}
	if len(keys) < 4 {
		t.Errorf("got %d different keys in 5 frames, want a random key in each", len(keys))
	}
	if string(payload) != "payload" {
		t.Errorf("SendFrame has changed the payload to %q", payload)
	}
}

func TestReceiveFrame_returns_frames_as_they_are(t *testing.T) {
	c := websockettest.Dial(t, rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
		io.WriteString(conn, frame(0x71, "a")+"\x89\x81\x01\x02\x03\x04a"+frame(0x03, "b")+closing(1000, ""))
		if rest, _ := io.ReadAll(in); len(rest) > 0 {
			t.Errorf("the client has answered with %x, want nothing", rest)
		}
	}))
	want := []websocket.Header{
		{RSV1: true, RSV2: true, RSV3: true, Opcode: websocket.Text, Length: 1},
		{Fin: true, Opcode: websocket.Ping, Masked: true, MaskKey: [4]byte{1, 2, 3, 4}, Length: 1},
		{Opcode: 3, Length: 1},
		{Fin: true, Opcode: websocket.Close, Length: 2},
	}
	for _, want := range want {
		if f := c.ReceiveFrame(); f.Header != want {
			t.Errorf("got %+v, want %+v", f.Header, want)
		}
	}
}

// A message that ReceiveFrame has begun to read does not get in the way of other methods.
func TestReceive_after_ReceiveFrame(t *testing.T) {
	c := websockettest.Dial(t, sends(frame(0x01, "a"), frame(0x00, "b"), frame(0x80, "c"), frame(0x81, "next")))
	c.ReceiveFrame()
	wantMessage(t, c, websocket.Text, "next")
}

func TestWantClose(t *testing.T) {
	tests := []struct {
		name   string
		sent   string // by the server
		code   websocket.StatusCode
		reason string
		answer string
	}{
		{"with a reason", closing(1008, "bad hello"), 1008, "bad hello", "close \x03\xf0"},
		{"without a code", frame(0x88, ""), 1005, "", "close "},
		{"behind messages and a ping", frame(0x81, "a") + frame(0x02, "b") + frame(0x89, "p") + frame(0x80, "c") + closing(4999, ""), 4999, "", "pong p, close \x13\x87"},
		{"inside a message", frame(0x01, "a") + closing(1001, ""), 1001, "", "close \x03\xe9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answers := make(chan string, 1)
			c := websockettest.Dial(t, rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
				io.WriteString(conn, tt.sent)
				answers <- readMaskedAll(in)
			}))
			if reason := c.WantClose(tt.code); reason != tt.reason {
				t.Errorf("got the reason %q, want %q", reason, tt.reason)
			}
			if got := <-answers; got != tt.answer {
				t.Errorf("the client has answered %q, want %q and the end", got, tt.answer)
			}
		})
	}
}

// readMaskedAll reads the frames of a client until it ends its side of the connection.
func readMaskedAll(in *bufio.Reader) string {
	var all []string
	for {
		f := readMasked(in)
		if f == io.EOF.Error() {
			return strings.Join(all, ", ")
		}
		all = append(all, f)
	}
}

// After WantClose and Close the server does not have to wait for the client.
func TestClient_closes_without_delay(t *testing.T) {
	tests := []struct {
		name   string
		fn     websocket.HandlerFunc
		client func(c *websockettest.Client)
	}{
		{"WantClose of a returning handler", func(*websocket.Conn) error { return nil }, wantClose(1000)},
		{"WantClose of Close", func(c *websocket.Conn) error { return c.Close(4000, "") }, wantClose(4000)},
		{"WantClose of a broken rule", receiveAll, func(c *websockettest.Client) {
			c.SendFrame(websocket.Frame{Header: websocket.Header{Fin: true, Opcode: 3}})
			c.WantClose(websocket.StatusProtocolError)
		}},
		{"WantClose of the answer", receiveAll, func(c *websockettest.Client) {
			c.Send(websocket.Close, []byte("\x0f\xa0my reason"))
			c.WantClose(4000)
		}},
		{"Close", receiveAll, close1000},
		{"Close without a code", receiveAll, func(c *websockettest.Client) { c.Close(websocket.StatusNoStatusReceived, "") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler := websocket.Handle(tt.fn)
				start := time.Now()
				returned := make(chan struct{})
				c := websockettest.Dial(t, wrap(handler, func() { close(returned) }))
				tt.client(c)
				if <-returned; time.Since(start) != 0 {
					t.Errorf("the handler returned after %v, want no time", time.Since(start))
				}
			})
		})
	}
}

func TestWantClose_1006(t *testing.T) {
	for name, handler := range map[string]func(conn net.Conn, in *bufio.Reader){
		"the end":                func(conn net.Conn, in *bufio.Reader) { io.WriteString(conn, frame(0x81, "a")) },
		"the end inside a frame": func(conn net.Conn, in *bufio.Reader) { io.WriteString(conn, "\x81") },
	} {
		t.Run(name, func(t *testing.T) {
			c := websockettest.Dial(t, rawHandshake("", handler))
			if reason := c.WantClose(websocket.StatusAbnormalClosure); reason != "" {
				t.Errorf("got the reason %q, want none", reason)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		handler, result := capture(func(c *websocket.Conn) error {
			err := receiveAll(c)
			if sendErr := c.SendMessage(websocket.Text, nil); !errors.Is(sendErr, syscall.ECONNRESET) {
				t.Errorf("SendMessage returned %v, want a reset", sendErr)
			}
			return err
		})
		c := websockettest.Dial(t, handler)
		c.Abort()
		if err := <-result; !errors.Is(err, syscall.ECONNRESET) || websocket.CloseStatus(err) != websocket.StatusAbnormalClosure {
			t.Errorf("the handler got %v, want a reset and 1006", err)
		}
	})
}

func TestAbort_ends_a_write_that_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler, result := capture(sendWhenAsked)
		c := websockettest.Dial(t, handler)
		c.StopReading()
		c.Send(websocket.Text, nil)
		synctest.Wait()
		c.Abort()
		if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("SendMessage returned %v, want a reset", err)
		}
	})
}

func TestStopReading(t *testing.T) {
	const chunk = 16 << 10
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Duration // when each message was sent
		start := time.Now()
		handler, result := capture(func(c *websocket.Conn) error {
			c.ReceiveMessage()
			for range 8 {
				if err := c.SendMessage(websocket.Binary, make([]byte, chunk)); err != nil {
					return err
				}
				sent = append(sent, time.Since(start))
			}
			return nil
		})
		c := websockettest.Dial(t, handler)
		c.StopReading()
		c.StopReading()
		c.Send(websocket.Text, nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		// 64 KiB are four messages, but their frames have headers.
		if got := len(sent); got != 3 {
			t.Errorf("%d messages of 16 KiB were sent while the client did not read, want 3", got)
		}
		c.StartReading()
		for range 8 {
			wantMessage(t, c, websocket.Binary, string(make([]byte, chunk)))
		}
		c.WantClose(websocket.StatusNormalClosure)
		if err := <-result; err != nil {
			t.Errorf("the handler returned %v, want nil", err)
		}
		if sent[7] != 30*time.Second {
			t.Errorf("the last message was sent after %v, want 30s", sent[7])
		}
	})
}

// A client that does not read is cut off after WriteTimeout.
func TestStopReading_reaches_WriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler, result := capture(sendWhenAsked, websocket.WriteTimeout(10*time.Second))
		c := websockettest.Dial(t, handler)
		c.StopReading()
		c.Send(websocket.Text, nil)
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("SendMessage returned %v, want a timeout", err)
		}
		c.StartReading()
		c.WantClose(websocket.StatusAbnormalClosure)
	})
}

// Bytes that had arrived before StopReading do not take room in the buffers of the network.
func TestStopReading_after_unread_messages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make(chan error, 1)
		c := websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
			c.SendMessage(websocket.Binary, make([]byte, 1<<20))
			c.ReceiveMessage()
			sent <- c.SendMessage(websocket.Binary, make([]byte, 60<<10))
			return nil
		}))
		synctest.Wait()
		c.StopReading()
		c.Send(websocket.Text, nil)
		synctest.Wait()
		select {
		case err := <-sent:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("sending 60 KiB waits for the client, want that 64 KiB fit the network")
		}
		c.StartReading()
		c.WantClose(websocket.StatusNormalClosure)
	})
}

// A client that does not receive answers no pings. One that receives answers them, however
// long it takes.
func TestClient_and_ConnectionTimeout(t *testing.T) {
	const timeout = time.Minute
	t.Run("a client that is silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			handler, result := capture(receiveAll, websocket.ConnectionTimeout(timeout))
			c := websockettest.Dial(t, handler)
			start := time.Now()
			err := <-result
			if !errors.Is(err, websocket.ErrConnectionTimeout) || time.Since(start).Round(time.Second) != timeout {
				t.Errorf("the handler got %v after %v, want ErrConnectionTimeout after %v", err, time.Since(start), timeout)
			}
			for range 3 {
				if f := c.ReceiveFrame(); f.Opcode != websocket.Ping {
					t.Errorf("got a %v frame, want a ping", f.Opcode)
				}
			}
			c.WantClose(websocket.StatusGoingAway)
		})
	})
	t.Run("a client that receives for six hours", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
				wait, cancel := context.WithTimeout(c.Context(), 6*time.Hour)
				defer cancel()
				<-wait.Done()
				return c.SendMessage(websocket.Text, []byte("hello"))
			}, websocket.ConnectionTimeout(timeout)))
			wantMessage(t, c, websocket.Text, "hello")
			c.WantClose(websocket.StatusNormalClosure)
		})
	})
}

// The recorder of wstest and the client agree about what the server sends.
func TestReceiveFrame_is_byte_exact(t *testing.T) {
	wire := []string{frame(0x81, "a"), frame(0x89, strings.Repeat("p", 125)), frame(0x82, strings.Repeat("x", 70_000))}
	c := websockettest.Dial(t, raw(wire...))
	var got []string
	for range wire {
		f := c.ReceiveFrame()
		got = append(got, string(websocket.AppendFrame(nil, f)))
	}
	if !slices.Equal(got, wire) {
		t.Errorf("got %s, want the frames as they were sent", wstest.Hex([]byte(got[0])))
	}
}
