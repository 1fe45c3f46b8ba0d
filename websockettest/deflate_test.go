package websockettest_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

// deflated returns a handler that accepts compression with these parameters by hand.
func deflated(params string, serve func(conn net.Conn, in *bufio.Reader)) http.Handler {
	return rawHandshake("Sec-WebSocket-Extensions: permessage-deflate"+params+"\r\n", serve)
}

// A message of the examples of RFC 7692 section 7.2.3, as frames of a server.
func TestCompression_receives_the_examples_of_the_RFC(t *testing.T) {
	const hello = "c1 07 f2 48 cd c9 c9 07 00"
	tests := []struct {
		name, params string
		wire         string
		want         []string
	}{
		{"one compressed block", "", hello, []string{"Hello"}},
		{"fragments", "", "41 03 f2 48 cd 80 04 c9 c9 07 00", []string{"Hello"}},
		{"a ping between fragments", "", "41 03 f2 48 cd 89 00 80 04 c9 c9 07 00", []string{"Hello"}},
		{"context takeover", "", hello + "c1 05 f2 00 11 00 00", []string{"Hello", "Hello"}},
		{"a message that is not compressed, with context takeover", "", hello + "81 01 61 c1 05 f2 00 11 00 00", []string{"Hello", "a", "Hello"}},
		{"no context takeover", "; server_no_context_takeover", hello + hello, []string{"Hello", "Hello"}},
		{"a block without compression", "", "c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00", []string{"Hello"}},
		{"a block with BFINAL", "", "c1 08 f3 48 cd c9 c9 07 00 00", []string{"Hello"}},
		{"a block with BFINAL, and takeover", "", "c1 08 f3 48 cd c9 c9 07 00 00 c1 05 f2 00 11 00 00", []string{"Hello", "Hello"}},
		{"a block behind one with BFINAL", "", "c1 0e f3 48 cd c9 c9 07 00 f2 48 cd c9 c9 07 00", []string{"HelloHello"}},
		{"two blocks", "", "c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00", []string{"Hello"}},
		{"an empty message", "", "c1 01 00", []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			handler := deflated(tt.params, func(conn net.Conn, in *bufio.Reader) {
				conn.Write(wstest.Unhex(tt.wire))
				io.Copy(io.Discard, in)
			})
			c := websockettest.Dial(t, handler, websockettest.Compression())
			for _, want := range tt.want {
				wantMessage(t, c, websocket.Text, want)
			}
		})
	}
}

func TestCompression_failures(t *testing.T) {
	const wrong = "websockettest: Dial: the handler accepted the handshake with a wrong response: Sec-WebSocket-Extensions is "
	tests := []struct {
		name, params, wire string
		want               string
	}{
		{"unknown parameter", "; x", "", wrong + `"permessage-deflate; x": the parameter "x" is unknown`},
		{"repeated parameter", "; server_no_context_takeover; server_no_context_takeover", "",
			wrong + `"permessage-deflate; server_no_context_takeover; server_no_context_takeover": the parameter "server_no_context_takeover" is sent twice`},
		{"value of a parameter without one", "; client_no_context_takeover=1", "",
			wrong + `"permessage-deflate; client_no_context_takeover=1": the parameter "client_no_context_takeover" has a value`},
		{"no number of bits", "; client_max_window_bits", "", wrong + `"permessage-deflate; client_max_window_bits": the parameter client_max_window_bits= needs a number from 8 to 15`},
		{"too many bits", "; server_max_window_bits=16", "", wrong + `"permessage-deflate; server_max_window_bits=16": the parameter server_max_window_bits=16 needs a number from 8 to 15`},
		{"a number with a zero", "; server_max_window_bits=08", "", wrong + `"permessage-deflate; server_max_window_bits=08": the parameter server_max_window_bits=08 needs a number from 8 to 15`},
		{"two extensions", ", permessage-deflate", "", wrong + `"permessage-deflate, permessage-deflate": want the offered permessage-deflate alone`},
		{"bytes that are not compressed", "", "c1 01 ff", `websockettest: Receive: got a text message that cannot be inflated (flate: corrupt input before offset 1), want a message`},
		{"context takeover that was not agreed on", "; server_no_context_takeover", "c2 07 f2 48 cd c9 c9 07 00 c2 05 f2 00 11 00 00",
			`websockettest: Receive: got a binary message that cannot be inflated (flate: corrupt input before offset 3), want a message`},
		{"text that is not UTF-8 when it is inflated", "", "c1 07 00 01 00 fe ff ff 00", `websockettest: Receive: got the text message "\xff", which is not UTF-8 (RFC 6455 section 8.1), want a message`},
		{"RSV1 in a continuation", "", "41 03 f2 48 cd c0 04 c9 c9 07 00", `websockettest: Receive: got a continuation frame with "\xc9\xc9\a\x00", which has RSV1, which only the first frame of a message may have (RFC 7692 section 6.1), want a message`},
		{"RSV1 in a ping", "", "c9 00", `websockettest: Receive: got a ping frame with "", which has RSV1, which only the first frame of a message may have (RFC 7692 section 6.1), want a message`},
		{"RSV2", "", "a1 00", `websockettest: Receive: got a text frame with "", which has reserved bits without an extension (RFC 6455 section 5.2), want a message`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			handler := deflated(tt.params, func(conn net.Conn, in *bufio.Reader) {
				conn.Write(wstest.Unhex(tt.wire))
				io.Copy(io.Discard, in)
			})
			fake := runFake(t, func(t testing.TB) {
				c := websockettest.Dial(t, handler, websockettest.Compression())
				c.Receive()
				c.Receive()
			})
			fake.wantFailure(t, tt.want)
		})
	}
}

// Messages of the client can be inflated by a server that keeps its window, and, without
// context takeover, by a server that does not.
func TestCompression_sends(t *testing.T) {
	noise := make([]byte, 3000)
	rand.NewChaCha8([32]byte{}).Read(noise)
	messages := []string{"Hello", "Hello", "", strings.Repeat("Hello", 20_000), string(noise), string(noise), "Hello"}
	for _, tt := range []struct {
		params   string
		takeover bool
	}{
		{"", true},
		{"; client_no_context_takeover", false},
		{"; server_no_context_takeover; server_max_window_bits=9", true},
		{`; client_max_window_bits=15`, true},
		{"; client_max_window_bits=8", true},
		{`; client_max_window_bits="10"; client_no_context_takeover`, false},
	} {
		t.Run(tt.params, func(t *testing.T) {
			got := make(chan string, 1)
			var stream flateStream
			handler := deflated(tt.params, func(conn net.Conn, in *bufio.Reader) {
				for {
					f, err := websocket.ReadFrame(in, 1<<20)
					if err != nil {
						return
					}
					if !f.RSV1 || !f.Fin {
						t.Errorf("got the frame %+v, want RSV1 and FIN", f.Header)
					}
					f.Unmask()
					if !tt.takeover {
						stream = flateStream{}
					}
					got <- stream.inflate(f.Payload)
				}
			})
			c := websockettest.Dial(t, handler, websockettest.Compression())
			for _, want := range messages {
				c.Send(websocket.Binary, []byte(want))
				if inflated := <-got; inflated != want {
					t.Errorf("the server got %.100q, want %.100q", inflated, want)
				}
			}
		})
	}
}

// A flateStream inflates messages as one stream, which is how context takeover works.
type flateStream struct {
	wire []byte // of all messages
	size int    // of all messages, inflated
}

func (s *flateStream) inflate(payload []byte) string {
	s.wire = append(append(s.wire, payload...), "\x00\x00\xff\xff"...)
	all, err := io.ReadAll(flate.NewReader(bytes.NewReader(s.wire)))
	if err != io.ErrUnexpectedEOF { // the stream has no last block
		return fmt.Sprint(err)
	}
	message := all[s.size:]
	s.size = len(all)
	return string(message)
}

// The client refers only to bytes in the window that the server allows.
func TestCompression_respects_the_window(t *testing.T) {
	for _, tt := range []struct {
		params           string
		distance         int // between two copies of the same bytes
		shrinks, history bool
	}{
		{"", 1000, true, true},
		{"; client_no_context_takeover", 1000, true, false},
		{"; client_max_window_bits=8", 100, true, false},
		{"; client_max_window_bits=8", 257, false, false},
		{"; client_max_window_bits=9", 513, false, false},
	} {
		t.Run(fmt.Sprint(tt.params, " ", tt.distance), func(t *testing.T) {
			sizes := make(chan int, 1)
			c := websockettest.Dial(t, deflated(tt.params, func(conn net.Conn, in *bufio.Reader) {
				for {
					f, err := websocket.ReadFrame(in, 1<<20)
					if err != nil {
						return
					}
					sizes <- len(f.Payload)
				}
			}), websockettest.Compression())
			noise := make([]byte, tt.distance)
			rand.NewChaCha8([32]byte{}).Read(noise)
			data := append(noise, noise...)
			c.Send(websocket.Binary, data)
			if size := <-sizes; size < len(data)*3/4 != tt.shrinks {
				t.Errorf("%d bytes were sent as %d, want them to shrink: %t", len(data), size, tt.shrinks)
			}
			c.Send(websocket.Binary, noise)
			if size := <-sizes; size < len(noise)/2 != tt.history {
				t.Errorf("%d bytes of the message before were sent as %d, want them to shrink: %t", len(noise), size, tt.history)
			}
		})
	}
}

// If the handler declines the offer, messages are not compressed.
func TestCompression_declined(t *testing.T) {
	got := make(chan string, 1)
	c := websockettest.Dial(t, rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
		got <- readMasked(in)
		io.WriteString(conn, frame(0x81, "plain too"))
	}), websockettest.Compression())
	c.Send(websocket.Text, []byte("plain"))
	if f := <-got; f != "text plain" {
		t.Errorf("the server got %q, want text plain", f)
	}
	wantMessage(t, c, websocket.Text, "plain too")
}

// A compressed message of SendFrame is in the window of the server, but not in that of the client.
func TestSendFrame_between_compressed_messages(t *testing.T) {
	got := make(chan string, 1)
	var stream flateStream
	c := websockettest.Dial(t, deflated("", func(conn net.Conn, in *bufio.Reader) {
		for {
			f, err := websocket.ReadFrame(in, 1<<20)
			if err != nil {
				return
			}
			f.Unmask()
			got <- stream.inflate(f.Payload)
		}
	}), websockettest.Compression())
	message := strings.Repeat("a message of Send", 10)
	for range 2 {
		c.Send(websocket.Text, []byte(message))
		if inflated := <-got; inflated != message {
			t.Errorf("the server got %q, want %q", inflated, message)
		}
		c.SendFrame(websocket.Frame{
			Header:  websocket.Header{Fin: true, RSV1: true, Opcode: websocket.Text},
			Payload: wstest.Unhex("f2 48 cd c9 c9 07 00"),
		})
		if inflated := <-got; inflated != "Hello" {
			t.Errorf("the server got %q, want Hello", inflated)
		}
	}
}

// A compressed message can refer to earlier ones, also to those of ReceiveFrame.
func TestReceive_of_compressed_messages_after_ReceiveFrame(t *testing.T) {
	const (
		hello = "c1 07 f2 48 cd c9 c9 07 00"
		again = "c1 05 f2 00 11 00 00" // refers to Hello
	)
	tests := []struct {
		name   string
		wire   string
		frames int // of ReceiveFrame
		want   string
	}{
		{"one frame", hello + again, 1, "Hello"},
		{"two messages", hello + again + again, 2, "Hello"},
		{"fragments, with a ping between them", "41 03 f2 48 cd 89 00 80 04 c9 c9 07 00" + again, 3, "Hello"},
		{"a message whose rest is dropped", "41 03 f2 48 cd 00 01 c9 80 03 c9 07 00" + again, 1, "Hello"},
		{"a message that is not compressed", hello + "81 01 61" + again, 2, "Hello"},
		{"bytes that are not compressed", hello + "c1 01 ff" + again, 2, "Hello"},
		{"a message that a new one breaks off", hello + "41 03 f2 48 cd 81 01 61" + again, 3, "Hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := websockettest.Dial(t, deflated("", func(conn net.Conn, in *bufio.Reader) {
				conn.Write(wstest.Unhex(tt.wire))
				io.Copy(io.Discard, in)
			}), websockettest.Compression())
			for range tt.frames {
				c.ReceiveFrame()
			}
			wantMessage(t, c, websocket.Text, tt.want)
		})
	}
}

// The client and the library understand each other, with and without context takeover, and with
// small windows.
func TestCompression_with_a_Handler(t *testing.T) {
	echo := func(c *websocket.Conn) error {
		for m, err := range c.Messages() {
			if err != nil {
				return err
			}
			if err := c.SendMessage(m.Opcode, m.Data); err != nil {
				return err
			}
		}
		return nil
	}
	noise := make([]byte, 3000)
	rand.NewChaCha8([32]byte{}).Read(noise)
	messages := []string{"Hello", "Hello, Hello, Hello", "", strings.Repeat("Hello", 20_000), string(noise), "Hello, Hello, Hello"}
	for _, offer := range []string{"", "permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_no_context_takeover; client_max_window_bits=9"} {
		t.Run(offer, func(t *testing.T) {
			opts := []websockettest.DialOption{websockettest.Compression()}
			if offer != "" {
				opts = append(opts, websockettest.Header("Sec-WebSocket-Extensions", offer))
			}
			c := websockettest.Dial(t, websocket.Handle(echo, websocket.Compression(0)), opts...)
			if got := c.Response().Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate; client_no_context_takeover") {
				t.Errorf("got Sec-WebSocket-Extensions %q", got)
			}
			for range 3 {
				for _, want := range messages {
					c.Send(websocket.Binary, []byte(want))
					wantMessage(t, c, websocket.Binary, want)
				}
			}
			c.SendJSON([]string{"a", "b"})
			var got []string
			if c.ReceiveJSON(&got); fmt.Sprint(got) != "[a b]" {
				t.Errorf("got %q", got)
			}
			c.Close(websocket.StatusNormalClosure, "")
		})
	}
	t.Run("compressed frames arrive compressed", func(t *testing.T) {
		c := websockettest.Dial(t, websocket.Handle(echo, websocket.Compression(100)), websockettest.Compression())
		c.Send(websocket.Text, []byte(strings.Repeat("Hello", 100)))
		if f := c.ReceiveFrame(); !f.RSV1 || len(f.Payload) > 50 {
			t.Errorf("got %+v with %d bytes, want a compressed frame", f.Header, len(f.Payload))
		}
		c.Send(websocket.Text, []byte("short"))
		if f := c.ReceiveFrame(); f.RSV1 || string(f.Payload) != "short" {
			t.Errorf("got %+v with %q, want a frame that is not compressed", f.Header, f.Payload)
		}
		c.Send(websocket.Text, []byte(strings.Repeat("Hello", 100)))
		wantMessage(t, c, websocket.Text, strings.Repeat("Hello", 100))
	})
}
