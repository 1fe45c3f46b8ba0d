package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// deflated compresses a message as a client does (RFC 7692 section 7.2.1).
func deflated(data string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	io.WriteString(w, data)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// compressedMessage returns a compressed message of a client in one frame.
func compressedMessage(op Opcode, data string) []byte {
	return withBits(rsv1Bit, clientFrame(true, op, deflated(data)))
}

// compressedFragments is compressedMessage in frames of up to size bytes.
func compressedFragments(op Opcode, payload string, size int) []byte {
	wire := withBits(rsv1Bit, clientFrame(false, op, payload[:min(size, len(payload))]))
	for payload = payload[min(size, len(payload)):]; len(payload) > size; payload = payload[size:] {
		wire = append(wire, clientFrame(false, Continuation, payload[:size])...)
	}
	return append(wire, clientFrame(true, Continuation, payload)...)
}

// inflatingReceivers are the receivers that inflate.
var inflatingReceivers = slices.DeleteFunc(slices.Clone(receivers), func(r namedReceiver) bool { return r.name == "ReceiveFragments" })

// streamReceiver reads from a Stream until it has a whole message of these tests, which ends
// with a newline.
func streamReceiver(c *Conn, expired *int) (Opcode, []byte, error) {
	s := c.Stream(Text)
	var data []byte
	p := make([]byte, 7)
	for !bytes.HasSuffix(data, []byte("\n")) {
		n := 0
		if err := retryExpired(expired, func() (err error) { n, err = s.Read(p); return err }); err != nil {
			return Text, nil, err
		}
		data = append(data, p[:n]...)
	}
	return Text, data, nil
}

// compressedTexts are messages for all kinds of blocks.
func compressedTexts() map[string]string {
	random := make([]byte, 20_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	return map[string]string{
		"short":          "Hello, wörld\n",
		"JSON":           strings.Repeat(`{"id":17,"name":"Ada","tags":["a","b"],"price":12.50}`, 30) + "\n",
		"long run":       stars(100_000) + "\n",
		"incompressible": fmt.Sprintf("%x\n", random),
		"far repeats":    fmt.Sprintf("%x%s%x\n", random[:3000], strings.Repeat("é€😀", 2000), random[:3000]),
	}
}

// Every method inflates messages, however they are cut into frames and segments, and in
// whatever order with others. Deadlines may expire everywhere.
func TestReceive_compressed(t *testing.T) {
	t.Parallel()
	cutters := map[string]func(wire []byte) [][]byte{
		"at once": func(wire []byte) [][]byte { return segments(wire) },
		"chops":   func(wire []byte) [][]byte { return cutBySizes(wire, []byte{1, 0, 200, 3, 250, 0, 0, 97}) },
	}
	for name, text := range compressedTexts() {
		payload := deflated(text)
		wire := slices.Concat(
			compressedMessage(Text, text),
			clientFrame(true, Text, "plain\n"),
			compressedFragments(Text, payload, max(1, len(payload)/3)),
			clientFrame(true, Ping, "p"),
			compressedFragments(Text, payload, len(payload)), // the last frame is empty
			compressedMessage(Text, "\n"),
			clientFrame(true, Text, "end\n"),
		)
		want := []string{text, "plain\n", text, text, "\n", "end\n"}
		for how, cut := range cutters {
			for _, r := range append(inflatingReceivers, namedReceiver{"Stream", streamReceiver}) {
				t.Run(fmt.Sprintf("%s %s %s", r.name, name, how), func(t *testing.T) {
					computes(t)
					c, _ := newScriptConn(t, cut(wire), Compression(0))
					expired := 0
					for i, text := range want {
						op, data, err := r.receive(c, &expired)
						if err != nil || op != Text || string(data) != text {
							t.Fatalf("message %d: got %v of %d bytes and error %v, want text of %d", i+1, op, len(data), err, len(text))
						}
						if cap(data) > 2*len(data) && r.name == "ReceiveMessage" {
							t.Errorf("message %d: got a capacity of %d for %d bytes", i+1, cap(data), len(data))
						}
					}
					if got := c.Stats().MessagesReceived; got != 6 {
						t.Errorf("got %d messages received, want 6", got)
					}
					wantNoDecoder(t, c)
				})
			}
		}
	}
}

// wantNoDecoder checks that c has returned its decoder.
func wantNoDecoder(t *testing.T, c *Conn) {
	t.Helper()
	if isInflating(c) || c.compression().decoder != nil {
		t.Error("the connection holds a decoder between messages")
	}
}

// A compressed message that is cut at each of its bytes, with a deadline there.
func TestReceive_compressed_cut_everywhere(t *testing.T) {
	text := strings.Repeat("The quick brown föx. ", 20) + "\n"
	wire := slices.Concat(compressedFragments(Text, deflated(text), 40), clientFrame(true, Text, "end\n"))
	for _, r := range append(inflatingReceivers, namedReceiver{"Stream", streamReceiver}) {
		t.Run(r.name, func(t *testing.T) {
			for i := range len(wire) {
				c, _ := newScriptConn(t, segments(wire[:i:i], nil, wire[i:]), Compression(0))
				expired := 0
				for _, want := range []string{text, "end\n"} {
					if _, data, err := r.receive(c, &expired); err != nil || string(data) != want {
						t.Fatalf("cut at %d: got %q and error %v, want %q", i, data, err, want)
					}
				}
			}
		})
	}
}

// All legal forms of a message (RFC 7692 section 7.2.3).
func TestReceive_compressed_forms(t *testing.T) {
	tests := []struct {
		name, payload, want string
	}{
		{"one block", "f2 48 cd c9 c9 07 00", "Hello"},
		{"a stored block", "00 05 00 fa ff 48 65 6c 6c 6f 00", "Hello"},
		{"a block with BFINAL", "f3 48 cd c9 c9 07 00 00", "Hello"},
		{"two blocks", "f2 48 05 00 00 00 ff ff ca c9 c9 07 00", "Hello"},
		{"a block behind one with BFINAL", "f3 48 cd c9 c9 07 00 f2 48 cd c9 c9 07 00", "HelloHello"},
		{"empty", "00", ""},
		{"empty with a fixed block", "02 00", ""},
		{"empty with BFINAL", "03 00 00", ""},
		{"no payload, which zlib accepts", "", ""},
	}
	for _, tt := range tests {
		for _, r := range inflatingReceivers {
			t.Run(r.name+" "+tt.name, func(t *testing.T) {
				payload := string(wstest.Unhex(tt.payload))
				c, _ := newScriptConn(t, segments(slices.Concat(
					withBits(rsv1Bit, clientFrame(true, Binary, payload)),
					compressedFragments(Text, payload, 1),
					clientFrame(true, Text, "end"))), Compression(0))
				expired := 0
				for _, want := range []Message{{Binary, []byte(tt.want)}, {Text, []byte(tt.want)}, {Text, []byte("end")}} {
					op, data, err := r.receive(c, &expired)
					if err != nil || op != want.Opcode || string(data) != string(want.Data) || data == nil && r.name == "ReceiveMessage" {
						t.Errorf("got %v %q and error %v, want %v %q", op, data, err, want.Opcode, want.Data)
					}
				}
			})
		}
	}
}

// Rules about RSV1, and what is wrong inside a compressed message.
func TestReceive_compressed_refused(t *testing.T) {
	hello := deflated("Hello")
	tests := []struct {
		name    string
		wire    []byte
		code    StatusCode
		is      error
		mention string
	}{
		{"RSV1 in a continuation", slices.Concat(withBits(rsv1Bit, clientFrame(false, Text, hello[:3])), withBits(rsv1Bit, clientFrame(true, Continuation, hello[3:]))),
			StatusProtocolError, ErrProtocol, "RSV1 set in a continuation frame"},
		{"RSV1 in a continuation of a message that is not compressed", slices.Concat(clientFrame(false, Text, "a"), withBits(rsv1Bit, clientFrame(true, Continuation, "b"))),
			StatusProtocolError, ErrProtocol, "RFC 7692 section 6.1"},
		{"RSV1 in a ping", withBits(rsv1Bit, clientFrame(true, Ping, "")), StatusProtocolError, ErrProtocol, "RSV1 set in a ping frame"},
		{"RSV1 in a pong", withBits(rsv1Bit, clientFrame(true, Pong, "")), StatusProtocolError, ErrProtocol, "RSV1 set in a pong frame"},
		{"RSV1 in a close", withBits(rsv1Bit, clientFrame(true, Close, "\x03\xe8")), StatusProtocolError, ErrProtocol, "RSV1 set in a close frame"},
		{"RSV1 with a reserved opcode", withBits(rsv1Bit, clientFrame(true, 3, hello)), StatusProtocolError, ErrProtocol, "RSV1 set in a reserved opcode 0x3 frame"},
		{"RSV2", withBits(rsv2Bit, clientFrame(true, Text, "a")), StatusProtocolError, ErrProtocol, "RSV2 or RSV3 set in a text frame"},
		{"RSV1 and RSV3", withBits(rsv1Bit|rsv3Bit, clientFrame(true, Text, hello)), StatusProtocolError, ErrProtocol, "RSV2 or RSV3"},
		{"an invalid block type", withBits(rsv1Bit, clientFrame(true, Text, "\xff\xff")), StatusInvalidPayload, ErrProtocol, "a compressed message cannot be inflated"},
		{"bad data in the second frame", slices.Concat(withBits(rsv1Bit, clientFrame(false, Binary, hello)), clientFrame(false, Continuation, "\x01\x02\x03\x04")),
			StatusInvalidPayload, ErrProtocol, "RFC 7692 section 7.2.2"},
		{"a message that ends inside a block", withBits(rsv1Bit, clientFrame(true, Text, hello[:4])), StatusInvalidPayload, ErrProtocol, "cannot be inflated"},
		{"a reference to the message before", slices.Concat(withBits(rsv1Bit, clientFrame(true, Text, hello)), withBits(rsv1Bit, clientFrame(true, Text, "\xf2\x00\x11\x00\x00"))),
			StatusInvalidPayload, ErrProtocol, "cannot be inflated"},
		{"text that is not UTF-8", compressedMessage(Text, "a\xffb"), StatusInvalidPayload, ErrInvalidUTF8, "in a text message"},
		{"text that is not UTF-8 in the first of two frames", compressedFragments(Text, deflated("\xff"+stars(900)), 5), StatusInvalidPayload, ErrInvalidUTF8, "in a text message"},
		{"text that ends inside a character", compressedMessage(Text, "a\xc3"), StatusInvalidPayload, ErrInvalidUTF8, "inside a character"},
		{"more than MaxMessageSize", compressedMessage(Binary, stars(1001)), StatusMessageTooBig, ErrMessageTooLarge, "MaxMessageSize 1000 when it is inflated"},
		{"more than MaxMessageSize in fragments", compressedFragments(Binary, deflated(stars(100_000)), 50), StatusMessageTooBig, ErrMessageTooLarge, "MaxMessageSize 1000"},
		{"a frame of more than an eighth above MaxMessageSize", withBits(rsv1Bit, clientHeader(true, Binary, 1000+1000/8+65)), StatusMessageTooBig, ErrMessageTooLarge, "compressed frame of 1190 bytes exceeds MaxFrameSize 1189"},
		{"too many fragments", compressedFragments(Binary, deflated(stars(100)), 1), StatusMessageTooBig, ErrMessageTooLarge, "MaxFragments 4"},
	}
	for _, tt := range tests {
		for _, r := range inflatingReceivers {
			t.Run(r.name+" "+tt.name, func(t *testing.T) {
				c, s := newScriptConn(t, segments(tt.wire), Compression(0), MaxMessageSize(1000), MaxFragments(4))
				expired := 0
				var err error
				for range 3 {
					if _, _, err = r.receive(c, &expired); err != nil {
						break
					}
				}
				wantError(t, err, tt.is)
				if err == nil || CloseStatus(err) != tt.code {
					t.Fatalf("got error %v with status %v, want %v", err, CloseStatus(err), tt.code)
				}
				wantMention(t, err.Error(), tt.mention)
				wantFailed(t, s, tt.code)
				if c.compression().decoder != nil && strings.Contains(tt.mention, "inflate") {
					t.Error("the connection holds a decoder after its end")
				}
			})
		}
	}
}

// Without an agreement, RSV1 breaks a rule.
func TestReceive_RSV1_without_compression(t *testing.T) {
	for _, r := range append(receivers, namedReceiver{"Discard", func(c *Conn, _ *int) (Opcode, []byte, error) { return 0, nil, c.Discard() }}) {
		t.Run(r.name, func(t *testing.T) {
			c, s := newScriptConn(t, segments(compressedMessage(Text, "Hello")))
			expired := 0
			_, _, err := r.receive(c, &expired)
			wantError(t, err, ErrProtocol)
			wantMention(t, err.Error(), "no extension was agreed on")
			wantFailed(t, s, StatusProtocolError)
		})
	}
}

// At the limits, messages are received.
func TestReceive_compressed_at_the_limits(t *testing.T) {
	random := make([]byte, 1000)
	rand.NewChaCha8([32]byte{}).Read(random)
	stored := string(random)
	var wire []byte
	for i := range 1000 { // blocks of eight bytes, because a stored block for each byte would be too large
		if i%8 == 0 {
			wire = append(wire, 0, 8, 0, 0xf7, 0xff)
		}
		wire = append(wire, stored[i])
	}
	payload := string(append(wire, 0))
	for _, tt := range []struct {
		name string
		wire []byte
		opts []Option
	}{
		{"MaxMessageSize", compressedMessage(Binary, stored), []Option{MaxMessageSize(1000)}},
		{"more bytes on the wire than MaxMessageSize", compressedFragments(Binary, payload, 900), []Option{MaxMessageSize(1000)}},
		{"MaxFrameSize on the wire", compressedMessage(Binary, strings.Repeat(stored[:10], 100)), []Option{MaxFrameSize(40)}},
		{"MaxFrameSize above MaxMessageSize", withBits(rsv1Bit, clientFrame(true, Binary, payload)), []Option{MaxMessageSize(1000), MaxFrameSize(int64(len(payload)))}},
	} {
		for _, r := range inflatingReceivers {
			t.Run(r.name+" "+tt.name, func(t *testing.T) {
				c, _ := newScriptConn(t, segments(tt.wire), append(tt.opts, Compression(0))...)
				expired := 0
				if _, data, err := r.receive(c, &expired); err != nil || len(data) != 1000 {
					t.Errorf("got %d bytes and error %v, want 1000", len(data), err)
				}
			})
		}
	}
	t.Run("MaxFrameSize that is given", func(t *testing.T) {
		c, s := newScriptConn(t, segments(withBits(rsv1Bit, clientHeader(true, Binary, 41))), Compression(0), MaxFrameSize(40))
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrMessageTooLarge)
		wantFailed(t, s, StatusMessageTooBig)
	})
}

// The limit of a connection applies to the messages that begin after it is set.
func TestSetMaxMessageSize_compressed(t *testing.T) {
	text := stars(2000)
	wire := slices.Concat(compressedMessage(Text, text), compressedMessage(Text, text))
	c, _ := newScriptConn(t, segments(wire), Compression(0))
	if _, data, err := c.ReceiveMessage(); err != nil || len(data) != 2000 {
		t.Fatalf("got %d bytes and error %v", len(data), err)
	}
	c.SetMaxMessageSize(1999)
	_, _, err := c.ReceiveMessage()
	wantError(t, err, ErrMessageTooLarge)
}

// ReadFrame and ReceiveFragments return frames as they came.
func TestReceive_compressed_frames(t *testing.T) {
	payload := deflated("Hello")
	wire := compressedFragments(Text, payload, 3)
	check := func(t *testing.T, frames []Frame, err error) {
		t.Helper()
		if err != nil || len(frames) < 2 || !frames[0].RSV1 || frames[1].RSV1 || string(frames[0].Payload) != payload[:3] {
			t.Fatalf("got frames %v and error %v, want them as they came", frames, err)
		}
		_, _, err = ProcessFragments(frames)
		wantError(t, err, ErrProtocol)
		wantMention(t, err.Error(), "compressed", "ReceiveMessage")
	}
	t.Run("ReceiveFragments", func(t *testing.T) {
		// Invalid text is not seen, because it is not inflated.
		c, _ := newScriptConn(t, segments(slices.Concat(wire, compressedMessage(Text, "\xff"), clientFrame(true, Text, "end"))), Compression(0))
		frames, err := c.ReceiveFragments()
		check(t, frames, err)
		if frames, err := c.ReceiveFragments(); err != nil || len(frames) != 1 {
			t.Errorf("got %v and error %v", frames, err)
		}
		if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "end" {
			t.Errorf("got %q and error %v", data, err)
		}
	})
	t.Run("ReadFrame", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(wire), Compression(0))
		var frames []Frame
		for !slices.ContainsFunc(frames, func(f Frame) bool { return f.Fin }) {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, f)
		}
		check(t, frames, nil)
	})
	t.Run("MaxMessageSize of ReceiveFragments", func(t *testing.T) {
		c, s := newScriptConn(t, segments(compressedFragments(Text, payload, 3)), Compression(0), MaxMessageSize(5), MaxFrameSize(5))
		_, err := c.ReceiveFragments()
		wantError(t, err, ErrMessageTooLarge)
		wantFailed(t, s, StatusMessageTooBig)
	})
}

// Discard does not inflate, so what is inside a message does not matter.
func TestDiscard_compressed(t *testing.T) {
	c, _ := newScriptConn(t, segments(
		slices.Concat(compressedMessage(Text, "\xff"), withBits(rsv1Bit, clientFrame(false, Binary, "\xff\xff"))), nil,
		slices.Concat(clientFrame(true, Continuation, "\xff"), compressedMessage(Text, "next")), nil,
	), Compression(0))
	for range 2 {
		if err := c.Discard(); !isTimeout(err) {
			t.Fatalf("got error %v, want that of the deadline", err)
		}
	}
	if c.compression().decoder != nil {
		t.Error("Discard has inflated")
	}
}

// The other receiving methods, and HandleConcurrent, inflate too.
func TestReceive_compressed_everywhere(t *testing.T) {
	computes(t)
	wire := compressedMessage(Text, `{"name":"Ada"}`)
	t.Run("ReceiveJSON", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(wire), Compression(0))
		var v struct{ Name string }
		if err := c.ReceiveJSON(&v); err != nil || v.Name != "Ada" {
			t.Errorf("got %v and error %v", v, err)
		}
	})
	t.Run("Messages", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(wire), Compression(0))
		for m, err := range c.Messages() {
			if err != nil || string(m.Data) != `{"name":"Ada"}` {
				t.Errorf("got %v and error %v", m, err)
			}
			break
		}
	})
	t.Run("HandleConcurrent", func(t *testing.T) {
		srv := wstest.Serve(t, HandleConcurrent(func(c *Conn) error {
			c.SetReadDeadline(time.Now().Add(time.Minute))
			for want := range 20 {
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != fmt.Sprint("message ", want) {
					return fmt.Errorf("got %q and error %v", data, err)
				}
			}
			return c.SendMessage(Text, nil)
		}, Compression(0)))
		p := dialServer(t, srv, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
		for i := range 20 {
			p.Write(compressedMessage(Text, fmt.Sprint("message ", i)))
		}
		p.expect(Text, "")
	})
}

// The error can be told apart from others, and is sticky.
func TestInflateError(t *testing.T) {
	c, _ := newScriptConn(t, segments(withBits(rsv1Bit, clientFrame(true, Text, "\xff"))), Compression(0))
	_, _, err := c.ReceiveMessage()
	if !errors.Is(err, ErrProtocol) || errors.Is(err, ErrInvalidUTF8) || CloseStatus(err) != StatusInvalidPayload {
		t.Errorf("got error %v with status %v", err, CloseStatus(err))
	}
	wantSticky(t, c, err)
}
