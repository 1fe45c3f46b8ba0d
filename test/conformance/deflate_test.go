package conformance

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// These are the tests of docs/rfc7692.md.

// conformDeflate runs the cases with every way to receive that inflates, after compression was
// agreed on. The answers of the server are too small for it to compress them.
func conformDeflate(t *testing.T, cases []wireCase, opts ...websocket.Option) {
	opts = append(opts, noPings, websocket.Compression(1<<20))
	run := func(name string, h *websocket.Handler, expect expectFunc) {
		srv := wstest.Serve(t, h)
		dial := func(t testing.TB) *wstest.Client { return dialDeflate(t, srv.Listener.Addr().String()) }
		t.Run(name, func(t *testing.T) {
			for _, tc := range cases {
				t.Run(tc.name, func(t *testing.T) { tc.run(t, dial, expect) })
			}
		})
	}
	run("HandleConcurrent", websocket.HandleConcurrent(echo, opts...), expectEarlyPongs)
	run("HandleMessages", websocket.HandleMessages(openEcho, opts...), expectBytes)
	for _, r := range receivers {
		if r.name != "ReceiveFragments" {
			run(r.name, websocket.Handle(echoWith(r.receive), opts...), expectBytes)
		}
	}
}

// dialDeflate connects as a browser does.
func dialDeflate(t testing.TB, addr string) *wstest.Client {
	t.Helper()
	p := wstest.Dial(t, addr)
	p.Handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
	return p
}

// hello is "Hello" compressed, the example of RFC 7692 section 7.2.3.1.
const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"

// compressed compresses a message as clients do.
func compressed(data string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	io.WriteString(w, data)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func TestDeflate_6_1_the_compressed_bit(t *testing.T) {
	echoed := fromServer(0x81, "Hello")
	conformDeflate(t, []wireCase{
		{"compressed text", fromClient(0xC1, hello), echoed, stillOpen},
		{"compressed binary", fromClient(0xC2, hello), fromServer(0x82, "Hello"), stillOpen},
		{"text that is not compressed", fromClient(0x81, "Hello"), echoed, stillOpen},
		{"both in turn", fromClient(0x81, "Hello", 0xC1, hello, 0x82, "a", 0xC1, hello), fromServer(0x81, "Hello", 0x81, "Hello", 0x82, "a", 0x81, "Hello"), stillOpen},
		{"fragments", fromClient(0x41, hello[:3], 0x80, hello[3:]), echoed, stillOpen},
		{"three fragments with a ping", fromClient(0x41, hello[:1], 0x89, "p", 0x00, hello[1:5], 0x80, hello[5:]), append(fromServer(0x8A, "p"), echoed...), stillOpen},
		{"empty fragments", fromClient(0x41, "", 0x00, hello, 0x00, "", 0x80, ""), echoed, stillOpen},
		{"in a continuation", fromClient(0x41, hello[:3], 0xC0, hello[3:]), nil, failed(1002)},
		{"in a continuation of text that is not compressed", fromClient(0x01, "a", 0xC0, "b"), nil, failed(1002)},
		{"in a ping", fromClient(0xC9, ""), nil, failed(1002)},
		{"in a pong", fromClient(0xCA, "a"), nil, failed(1002)},
		{"in a close", fromClient(0xC8, "\x03\xe8"), nil, failed(1002)},
		{"in a ping between fragments", fromClient(0x41, hello[:3], 0xC9, ""), nil, failed(1002)},
		{"in a frame with a reserved opcode", fromClient(0xC3, hello), nil, failed(1002)},
		{"with RSV2", fromClient(0xE1, hello), nil, failed(1002)},
		{"with RSV3", fromClient(0xD1, hello), nil, failed(1002)},
		{"RSV2 alone", fromClient(0xA1, "Hello"), nil, failed(1002)},
		{"in a frame that is not masked", fromClient(wstest.Unhex("c1 07 f2 48 cd c9 c9 07 00")), nil, failed(1002)},
		{"compressed text inside a compressed text", fromClient(0x41, hello[:3], 0xC1, hello), nil, failed(1002)},
	})
}

func TestDeflate_6_1_without_an_agreement(t *testing.T) {
	conform(t, []wireCase{
		{"compressed text", fromClient(0xC1, hello), nil, failed(1002)},
		{"compressed binary", fromClient(0xC2, hello), nil, failed(1002)},
	}, websocket.Compression(0)) // the client of conform does not offer it
}

func TestDeflate_7_2_2_inflating(t *testing.T) {
	one := fromServer(0x82, "Hello")
	large := strings.Repeat("The quick brown föx jumps. ", 3000)
	conformDeflate(t, []wireCase{
		{"one compressed block", fromClient(0xC2, hello), one, stillOpen},
		{"a stored block", fromClient(0xC2, "\x00\x05\x00\xfa\xffHello\x00"), one, stillOpen},
		{"a block with BFINAL", fromClient(0xC2, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), one, stillOpen},
		{"two blocks", fromClient(0xC2, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), one, stillOpen},
		{"an empty message", fromClient(0xC2, "\x00"), fromServer(0x82, ""), stillOpen},
		{"an empty message in two frames", fromClient(0x42, "\x00", 0x80, ""), fromServer(0x82, ""), stillOpen},
		{"an empty message in a fixed block", fromClient(0xC2, "\x02\x00"), fromServer(0x82, ""), stillOpen},
		{"a large message", fromClient(0xC1, compressed(large)), fromServer(0x81, large), stillOpen},
		{"a large message in fragments", fragmented(0xC1, compressed(large), 100), fromServer(0x81, large), stillOpen},
		{"an invalid block type", fromClient(0xC2, "\x07"), nil, failed(1007)},
		{"a stored block with a wrong length", fromClient(0xC2, "\x00\x05\x00\x00\x00Hello\x00"), nil, failed(1007)},
		{"a distance before the message", fromClient(0xC2, hello, 0xC2, "\xf2\x00\x11\x00\x00"), one, failed(1007)},
		{"the end inside a block", fromClient(0xC2, hello[:4]), nil, failed(1007)},
		{"bytes that are not compressed", fromClient(0xC2, "Hello"), nil, failed(1007)},
	})
}

func TestDeflate_8_1_UTF_8_is_checked_when_it_is_inflated(t *testing.T) {
	conformDeflate(t, []wireCase{
		{"valid", fromClient(0xC1, compressed("κόσμε")), fromServer(0x81, "κόσμε"), stillOpen},
		{"a character over two frames", fragmented(0xC1, compressed("κόσμε"), 3), fromServer(0x81, "κόσμε"), stillOpen},
		{"compressed bytes that are valid UTF-8 themselves", fromClient(0xC1, "\x00\x01\x00\xfe\xff\xff\x00"), nil, failed(1007)},
		{"an invalid byte", fromClient(0xC1, compressed("a\xffb")), nil, failed(1007)},
		{"the end inside a character", fromClient(0xC1, compressed("a\xce")), nil, failed(1007)},
		{"an invalid byte in the first frame of an unfinished message", fromClient(0x41, compressed("\xff"+stars(100))+"\x00\x00\xff\xff"), nil, failed(1007)},
		{"binary may have any bytes", fromClient(0xC2, compressed("a\xffb")), fromServer(0x82, "a\xffb"), stillOpen},
	})
}

func TestDeflate_10_4_limits(t *testing.T) {
	tooLarge := failed(1009)
	conformDeflate(t, []wireCase{
		{"MaxMessageSize", fromClient(0xC2, compressed(stars(2000))), fromServer(0x82, stars(2000)), stillOpen},
		{"one byte more", fromClient(0xC2, compressed(stars(2001))), nil, tooLarge},
		{"far more", fromClient(0xC2, compressed(stars(10<<20))), nil, tooLarge},
		{"far more in fragments", fragmented(0xC2, compressed(stars(1<<20)), 50), nil, tooLarge},
		{"in a message that has not ended", fromClient(0x42, compressed(stars(10_000))+"\x00\x00\xff\xff"), nil, tooLarge},
		{"a frame that declares too much", fromClient(unfinished(0xC2, "", 3000)), nil, tooLarge},
	}, websocket.MaxMessageSize(2000))
}

// The agreement is in the response, and the messages that the server sends keep it.
func TestDeflate_7_1_agreements(t *testing.T) {
	srv := wstest.Serve(t, websocket.Handle(echo, noPings, websocket.Compression(0)))
	tests := []struct{ name, offer, want string }{
		{"nothing offered", "", ""},
		{"a browser's offer", "permessage-deflate; client_max_window_bits", "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"},
		{"a small window", "permessage-deflate; server_max_window_bits=8", "permessage-deflate; client_no_context_takeover; server_max_window_bits=8"},
		{"no takeover", "permessage-deflate; server_no_context_takeover", "permessage-deflate; client_no_context_takeover; server_max_window_bits=12; server_no_context_takeover"},
		{"an unknown parameter", "permessage-deflate; foo", ""},
		{"a second offer", "permessage-deflate; foo, permessage-deflate", "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"},
		{"a value that is not allowed", "permessage-deflate; server_max_window_bits=7", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := ""
			if tt.offer != "" {
				header = "Sec-WebSocket-Extensions: " + tt.offer + "\r\n"
			}
			p := wstest.Dial(t, srv.Listener.Addr().String())
			io.WriteString(p.Conn, wstest.Handshake(header))
			if got := responseHeader(t, p, "Sec-WebSocket-Extensions"); got != tt.want {
				t.Errorf("got Sec-WebSocket-Extensions %q for %q, want %q", got, tt.offer, tt.want)
			}
			p.Frames.AnyFrame = true
			message := strings.Repeat("Hello, Hello. ", 10)
			var first string
			for i := range 3 {
				p.Send(wstest.Text, message)
				f := p.Read()
				if wantBit := tt.want != ""; f.First != 0x81 && !wantBit || f.First != 0xC1 && wantBit {
					t.Fatalf("got the first byte %#x", f.First)
				}
				if i == 0 {
					first = string(f.Payload)
				}
				if same := string(f.Payload) == first; i > 0 && same != (tt.want == "" || strings.Contains(tt.want, "server_no")) {
					t.Errorf("message %d is compressed as the first: %t", i, same)
				}
			}
			p.Close()
		})
	}
}

// responseHeader reads a response and returns the value of a header.
func responseHeader(t *testing.T, p *wstest.Client, name string) string {
	t.Helper()
	value := ""
	for {
		line, err := p.Buffer.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line = strings.TrimSpace(line); line == "" {
			return value
		}
		if n, v, ok := strings.Cut(line, ": "); ok && strings.EqualFold(n, name) {
			value += v
		}
	}
}

// What the server compresses: messages as one frame with RSV1, and no control frames.
func TestDeflate_7_2_1_sending(t *testing.T) {
	text := strings.Repeat("Hello, Hello. ", 1000)
	srv := wstest.Serve(t, websocket.Handle(func(c *websocket.Conn) error {
		w, err := c.MessageWriter(websocket.Text)
		if err != nil {
			return err
		}
		for _, part := range strings.SplitAfter(text, " ") {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		if err := c.SendMessage(websocket.Ping, []byte(stars(100))); err != nil {
			return err
		}
		return c.SendMessage(websocket.Binary, nil)
	}, noPings, websocket.Compression(0)))
	p := dialDeflate(t, srv.Listener.Addr().String())
	p.Frames.AnyFrame = true
	f := p.Read()
	r := flate.NewReader(strings.NewReader(string(f.Payload) + "\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	if got, err := io.ReadAll(r); f.First != 0xC1 || err != nil || string(got) != text {
		t.Errorf("got the first byte %#x, %d bytes and error %v, want one compressed frame with %d", f.First, len(got), err, len(text))
	}
	for _, want := range []string{fmt.Sprint(0x89, " ", stars(100)), fmt.Sprint(0x82, " ")} {
		if f := p.Read(); fmt.Sprint(f.First, " ", string(f.Payload)) != want {
			t.Errorf("got %v, want %s", f, want)
		}
	}
	p.ExpectClose(1000)
}
