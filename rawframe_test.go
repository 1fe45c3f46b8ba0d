package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// unmaskedFrame returns a frame as Conn.ReadFrame returns it.
func unmaskedFrame(h Header, payload string) Frame {
	h.Length = int64(len(payload))
	return Frame{h, []byte(payload)}
}

// maskedFrame returns the bytes of f as a client sends it.
func maskedFrame(f Frame) []byte {
	f.Masked, f.MaskKey = true, testMaskKey
	f.Payload = bytes.Clone(f.Payload)
	Mask(f.Payload, testMaskKey, 0)
	return AppendFrame(nil, f)
}

func equalFrames(a, b Frame) bool {
	return a.Header == b.Header && bytes.Equal(a.Payload, b.Payload)
}

// strangeFrames are frames that ReadFrame accepts. Most break rules that it does not check.
var strangeFrames = []struct {
	name  string
	frame Frame
}{
	{"text", unmaskedFrame(Header{Fin: true, Opcode: Text}, "hello")},
	{"empty binary", unmaskedFrame(Header{Fin: true, Opcode: Binary}, "")},
	{"text that is not UTF-8", unmaskedFrame(Header{Fin: true, Opcode: Text}, "\xff")},
	{"unfinished text inside a character", unmaskedFrame(Header{Opcode: Text}, "\xe2\x82")},
	{"continuation without a message", unmaskedFrame(Header{Fin: true, Opcode: Continuation}, "what?")},
	{"a new message inside the unfinished one", unmaskedFrame(Header{Opcode: Binary}, "one")},
	{"another new message inside it", unmaskedFrame(Header{Opcode: Binary}, "two")},
	{"all reserved bits", unmaskedFrame(Header{Fin: true, RSV1: true, RSV2: true, RSV3: true, Opcode: Text}, "bits")},
	{"only RSV2", unmaskedFrame(Header{RSV2: true, Opcode: Continuation}, "bit")},
	{"reserved opcode", unmaskedFrame(Header{Fin: true, Opcode: 0x3}, "three")},
	{"reserved control opcode", unmaskedFrame(Header{Fin: true, Opcode: 0xf}, "")},
	{"ping", unmaskedFrame(Header{Fin: true, Opcode: Ping}, "unanswered")},
	{"pong", unmaskedFrame(Header{Fin: true, Opcode: Pong}, "")},
	{"fragmented ping", unmaskedFrame(Header{Opcode: Ping}, "part")},
	{"long ping", unmaskedFrame(Header{Fin: true, Opcode: Ping}, strings.Repeat("p", 126))},
	{"close of one byte", unmaskedFrame(Header{Fin: true, Opcode: Close}, "\x03")},
	{"close with an invalid code", unmaskedFrame(Header{Fin: true, Opcode: Close}, "\x00\x00")},
	{"frame after a close", unmaskedFrame(Header{Fin: true, Opcode: Binary}, strings.Repeat("x", 70000))},
}

func TestConn_ReadFrame(t *testing.T) {
	t.Run("returns any frame unchanged", func(t *testing.T) {
		var wire []byte
		for _, tt := range strangeFrames {
			wire = append(wire, maskedFrame(tt.frame)...)
		}
		c, s := newScriptConn(t, slices.Collect(slices.Chunk(wire, 1000)), MaxFrameSize(1<<20), MaxMessageSize(1000), MaxFragments(1))
		for _, tt := range strangeFrames {
			got, err := c.ReadFrame()
			if err != nil || !equalFrames(got, tt.frame) {
				t.Fatalf("%s: got %+v %s and error %v, want %+v %s", tt.name, got.Header, wstest.Hex(got.Payload), err, tt.frame.Header, wstest.Hex(tt.frame.Payload))
			}
		}
		s.wantSent(t)
		f, err := c.ReadFrame()
		wantError(t, err, io.ErrUnexpectedEOF)
		if !reflect.DeepEqual(f, Frame{}) {
			t.Errorf("got frame %+v with the error", f)
		}
	})
	t.Run("returns payloads that belong to the caller", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, "one"), clientFrame(true, Text, "two"))))
		one, _ := c.ReadFrame()
		copy(one.Payload, "XXX")
		two, err := c.ReadFrame()
		if string(one.Payload) != "XXX" || string(two.Payload) != "two" || err != nil {
			t.Errorf("got %q, %q and error %v, want XXX and two", one.Payload, two.Payload, err)
		}
	})
	for _, tt := range []struct {
		name, mention string
		wire          []byte
		is            error
		code          StatusCode
	}{
		{"unmasked frame", "5.1", wstest.Unhex("81 05 48656c6c6f"), ErrProtocol, StatusProtocolError},
		{"unmasked ping", "5.1", wstest.Unhex("89 00"), ErrProtocol, StatusProtocolError},
		{"malformed length", "5.2", wstest.Unhex("82 fe 0001"), ErrProtocol, StatusProtocolError},
		{"frame over MaxFrameSize", "MaxFrameSize 1000", clientHeader(true, Text, 1001), ErrMessageTooLarge, StatusMessageTooBig},
		{"control frame over MaxFrameSize", "MaxFrameSize 1000", clientHeader(true, Pong, 1001), ErrMessageTooLarge, StatusMessageTooBig},
	} {
		t.Run("fails on "+tt.name, func(t *testing.T) {
			c, s := newScriptConn(t, segments(clientFrame(true, Ping, "before"), tt.wire, nil), MaxFrameSize(1000))
			if f, err := c.ReadFrame(); err != nil || f.Opcode != Ping {
				t.Fatalf("got %v and error %v, want the ping before", f.Opcode, err)
			}
			_, err := c.ReadFrame()
			wantError(t, err, tt.is)
			wantMention(t, fmt.Sprint(err), tt.mention)
			wantFailed(t, s, tt.code)
		})
	}
	t.Run("leaves the connection to the other methods between messages", func(t *testing.T) {
		c, s := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, "raw"), clientFrame(true, Ping, "answered"), clientFrame(true, Text, "cooked \xff"))))
		if f, err := c.ReadFrame(); err != nil || string(f.Payload) != "raw" {
			t.Fatalf("got %q and error %v, want raw", f.Payload, err)
		}
		_, _, err := c.ReceiveMessage()
		wantError(t, err, ErrInvalidUTF8)
		if frames := s.frames(t); len(frames) != 2 || frames[0].Opcode != Pong {
			t.Errorf("got frames %v, want a pong and the close", frames)
		}
	})
	t.Run("leaves the answer to a close frame to the end of the handler", func(t *testing.T) {
		fn, results := captureError(func(c *Conn) error {
			f, err := c.ReadFrame()
			if err == nil && f.Opcode != Close {
				err = errors.New("not a close frame")
			}
			return err
		})
		p := dialServer(t, startServer(t, fn, CloseTimeout(0)))
		p.Close()
		if err := await(t, results); err != nil {
			t.Error(err)
		}
	})
}

func TestConn_ReadFrame_and_the_keepalive(t *testing.T) {
	t.Run("leaves control frames alone once it was called", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(15*time.Second))
			defer c.NetConn().Close()
			go func() {
				p.send(Text, "raw")
				p.send(Ping, "for the user")
			}()
			if f, err := c.ReadFrame(); err != nil || f.Opcode != Text {
				t.Fatalf("got %v and error %v, want text", f.Opcode, err)
			}
			p.expect(Ping, "")
			time.Sleep(time.Second)
			if f, err := c.ReadFrame(); err != nil || f.Opcode != Ping || string(f.Payload) != "for the user" {
				t.Errorf("got %v %q and error %v, want the ping", f.Opcode, f.Payload, err)
			}
		})
	})
	t.Run("checks no text, also if the keepalive has read the header", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, PingInterval(15*time.Second))
			defer c.NetConn().Close()
			go p.send(Text, "not \xff text")
			p.expect(Ping, "")
			time.Sleep(time.Second)
			if f, err := c.ReadFrame(); err != nil || string(f.Payload) != "not \xff text" {
				t.Errorf("got %q and error %v, want the frame as it came", f.Payload, err)
			}
		})
	})
	t.Run("returns the frame whose header the keepalive has read", func(t *testing.T) {
		for _, r := range append(slices.Clone(receivers), rawReceiver) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(15*time.Second))
				defer c.NetConn().Close()
				go func() {
					p.send(Ping, "answered")
					p.Write(clientFrame(false, Text, strings.Repeat("κ", 5000)))
					p.Write(clientFrame(true, Continuation, "end"))
				}()
				p.expect(Pong, "answered")
				p.expect(Ping, "")
				time.Sleep(time.Second)
				var expired int
				op, data, err := r.receive(c, &expired)
				if err != nil || op != Text || string(data) != strings.Repeat("κ", 5000)+"end" {
					t.Errorf("%s: got %v %s and error %v, want the whole text", r.name, op, wstest.Hex(data), err)
				}
			})
		}
	})
}

func TestConn_low_level_with_HandleConcurrent(t *testing.T) {
	c, _ := newScriptConn(t, segments(clientFrame(true, Text, "x")))
	beginReadAhead(c)
	_, frameErr := c.ReadFrame()
	_, fragmentsErr := c.ReceiveFragments()
	for name, err := range map[string]error{"ReadFrame": frameErr, "ReceiveFragments": fragmentsErr} {
		if err == nil {
			t.Errorf("%s works with HandleConcurrent, want an error", name)
			continue
		}
		wantMention(t, err.Error(), name, "HandleConcurrent")
	}
	if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "x" {
		t.Errorf("got %q and error %v, want the message", data, err)
	}
}

func TestConn_WriteFrame(t *testing.T) {
	long := strings.Repeat("x", 70000)
	tests := []struct {
		name  string
		frame Frame
		wire  string
	}{
		{"text", Frame{Header{Fin: true, Opcode: Text}, []byte("hi")}, "\x81\x02hi"},
		{"zero frame", Frame{}, "\x00\x00"},
		{"reserved bits", Frame{Header{RSV1: true, RSV2: true, RSV3: true, Opcode: Text}, nil}, "\x71\x00"},
		{"reserved opcode", Frame{Header{Fin: true, Opcode: 0xb}, []byte("x")}, "\x8b\x01x"},
		{"text that is not UTF-8", Frame{Header{Fin: true, Opcode: Text}, []byte("\xff")}, "\x81\x01\xff"},
		{"long ping", Frame{Header{Fin: true, Opcode: Ping}, []byte(long[:126])}, "\x89\x7e\x00\x7e" + long[:126]},
		{"fragmented pong", Frame{Header{Opcode: Pong}, []byte("x")}, "\x0a\x01x"},
		{"length from the payload", Frame{Header{Fin: true, Opcode: Binary, Length: 99}, []byte("x")}, "\x82\x01x"},
		{"masked payload as it is", Frame{Header{Fin: true, Opcode: Text, Masked: true, MaskKey: testMaskKey}, []byte("as it is")}, "\x81\x88\x37\xfa\x21\x3das it is"},
		{"key of a frame that is not masked", Frame{Header{Fin: true, Opcode: Text, MaskKey: testMaskKey}, nil}, "\x81\x00"},
		{"large", Frame{Header{RSV1: true, Opcode: Binary}, []byte(long)}, "\x42\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + long},
		{"close of one byte", Frame{Header{Fin: true, Opcode: Close}, []byte{3}}, "\x88\x01\x03"},
		{"close", Frame{Header{Fin: true, Opcode: Close}, []byte("\x0f\xa0bye")}, "\x88\x05\x0f\xa0bye"},
		{"data after the close", Frame{Header{Fin: true, Opcode: Text}, []byte("late")}, "\x81\x04late"},
	}
	c, s := newScriptConn(t, nil)
	for _, tt := range tests {
		before := bytes.Clone(tt.frame.Payload)
		if err := c.WriteFrame(tt.frame); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := s.Written(); string(got) != tt.wire {
			t.Errorf("%s: got %s, want %s", tt.name, wstest.Hex(got), wstest.Hex([]byte(tt.wire)))
		}
		if !bytes.Equal(before, tt.frame.Payload) {
			t.Errorf("%s: WriteFrame changed the payload", tt.name)
		}
		s.Forget()
	}
	err := c.SendMessage(Text, nil)
	if CloseStatus(err) != StatusNoStatusReceived { // the first close frame
		t.Errorf("SendMessage after the close: got error %v, want one with that of the first", err)
	}
	s.wantSent(t)
	c.Close(StatusNormalClosure, "")
	s.wantSent(t)
}

func TestConn_WriteFrame_does_not_wait_for_a_MessageWriter(t *testing.T) {
	c, s := newScriptConn(t, nil)
	w := openWriter(t, c, Text)
	mustWrite(t, w, "gathered")
	if err := c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Binary}, "between")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.wantSent(t, sentFrame{true, Binary, "between"}, sentFrame{true, Text, "gathered"})
}

func TestReceiveFragments(t *testing.T) {
	c, s := newScriptConn(t, segments(slices.Concat(
		clientFrame(false, Text, "κό\xcf"), clientFrame(true, Ping, "p"), clientFrame(false, Continuation, ""), clientFrame(true, Pong, ""), clientFrame(true, Continuation, "\x83με"),
		clientFrame(true, Binary, "single"), clientFrame(true, Close, ""))))
	want := [][]Frame{
		{unmaskedFrame(Header{Opcode: Text}, "κό\xcf"), unmaskedFrame(Header{}, ""), unmaskedFrame(Header{Fin: true}, "\x83με")},
		{unmaskedFrame(Header{Fin: true, Opcode: Binary}, "single")},
	}
	for i := range want {
		got, err := c.ReceiveFragments()
		if err != nil || !slices.EqualFunc(got, want[i], equalFrames) {
			t.Fatalf("got frames %v and error %v, want %v", got, err, want[i])
		}
		// The frames belong to the caller.
		for _, f := range got {
			clear(f.Payload)
		}
	}
	frames, err := c.ReceiveFragments()
	if frames != nil || CloseStatus(err) != StatusNoStatusReceived {
		t.Errorf("got %v and error %v, want the peer's close", frames, err)
	}
	s.wantSent(t, sentFrame{true, Pong, "p"}, sentFrame{true, Close, ""})
}

func TestProcessFragments(t *testing.T) {
	text, more, last := Header{Opcode: Text}, Header{}, Header{Fin: true}
	whole := Header{Fin: true, Opcode: Text}
	tests := []struct {
		name    string
		frames  []Frame
		op      Opcode
		data    string
		want    error
		section string
	}{
		{"takes a single frame", []Frame{unmaskedFrame(whole, "hello")}, Text, "hello", nil, ""},
		{"takes an empty message", []Frame{unmaskedFrame(Header{Fin: true, Opcode: Binary}, "")}, Binary, "", nil, ""},
		{"joins fragments", []Frame{unmaskedFrame(text, "a\xe2"), unmaskedFrame(more, ""), unmaskedFrame(more, "\x82"), unmaskedFrame(last, "\xac")}, Text, "a€", nil, ""},
		{"does not check binary", []Frame{unmaskedFrame(Header{Opcode: Binary}, "\xff"), unmaskedFrame(last, "\xc3")}, Binary, "\xff\xc3", nil, ""},
		{"unmasks", []Frame{receivedFrame(text, "Hel"), unmaskedFrame(more, "l"), receivedFrame(last, "o")}, Text, "Hello", nil, ""},
		{"ignores Length", []Frame{{Header{Fin: true, Opcode: Text, Length: 77}, []byte("x")}}, Text, "x", nil, ""},
		{"rejects no frames", nil, 0, "", ErrProtocol, "5.4"},
		{"rejects a continuation first", []Frame{unmaskedFrame(last, "x")}, 0, "", ErrProtocol, "5.4"},
		{"rejects a ping", []Frame{unmaskedFrame(Header{Fin: true, Opcode: Ping}, "x")}, 0, "", ErrProtocol, "5.4"},
		{"rejects a reserved opcode", []Frame{unmaskedFrame(Header{Fin: true, Opcode: 3}, "x")}, 0, "", ErrProtocol, "5.4"},
		{"rejects text inside", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(whole, "y")}, 0, "", ErrProtocol, "5.4"},
		{"rejects a control frame inside", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(Header{Fin: true, Opcode: Pong}, ""), unmaskedFrame(last, "y")}, 0, "", ErrProtocol, "5.4"},
		{"rejects FIN before the end", []Frame{unmaskedFrame(whole, "x"), unmaskedFrame(last, "y")}, 0, "", ErrProtocol, "5.4"},
		{"rejects FIN inside", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(last, "y"), unmaskedFrame(last, "z")}, 0, "", ErrProtocol, "5.4"},
		{"rejects an end without FIN", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(more, "y")}, 0, "", ErrProtocol, "5.4"},
		{"rejects RSV1", []Frame{unmaskedFrame(Header{Fin: true, RSV1: true, Opcode: Text}, "x")}, 0, "", ErrProtocol, "5.2"},
		{"rejects RSV2", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(Header{Fin: true, RSV2: true}, "y")}, 0, "", ErrProtocol, "5.2"},
		{"rejects RSV3", []Frame{unmaskedFrame(Header{Fin: true, RSV3: true, Opcode: Binary}, "x")}, 0, "", ErrProtocol, "5.2"},
		{"rejects invalid text", []Frame{unmaskedFrame(text, "x"), unmaskedFrame(last, "\xff")}, 0, "", ErrInvalidUTF8, "8.1"},
		{"rejects invalid masked text", []Frame{receivedFrame(whole, "\xc0\x80")}, 0, "", ErrInvalidUTF8, "8.1"},
		{"rejects text that ends inside a character", []Frame{unmaskedFrame(whole, "\xe2\x82")}, 0, "", ErrInvalidUTF8, "8.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			op, data, err := ProcessFragments(tt.frames)
			if op != tt.op || string(data) != tt.data || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v %q and error %v, want %v %q and %v", op, data, err, tt.op, tt.data, tt.want)
			}
			if tt.want != nil {
				wantError(t, err, tt.want)
				wantMention(t, fmt.Sprint(err), "RFC 6455 section "+tt.section)
			}
		})
	}
	t.Run("does not copy a single frame", func(t *testing.T) {
		f := receivedFrame(whole, "Hello")
		frames := []Frame{f}
		_, data, err := ProcessFragments(frames)
		if err != nil || &data[0] != &f.Payload[0] || frames[0].Masked {
			t.Errorf("got %q in another array, error %v, frame masked: %t", data, err, frames[0].Masked)
		}
		// Unmasked frames stay as they are when they are processed again.
		if _, data, err := ProcessFragments(frames); err != nil || string(data) != "Hello" {
			t.Errorf("the second time: got %q and error %v, want Hello", data, err)
		}
	})
}

// receivedFrame returns a client's frame as the function ReadFrame returns it.
func receivedFrame(h Header, payload string) Frame {
	f, err := ReadFrame(bytes.NewReader(maskedFrame(unmaskedFrame(h, payload))), 1<<20)
	if err != nil {
		panic(err)
	}
	return f
}

// TestLowLevel_proxy passes all frames between a client and an echo server, also control
// frames. It uses only the functions for frames.
func TestLowLevel_proxy(t *testing.T) {
	echoes := startServer(t, echoAll, MaxMessageSize(1<<20))
	p := dialServer(t, startServer(t, func(c *Conn) error {
		up := dialServer(t, echoes)
		returned := make(chan error)
		go func() {
			for {
				f, err := ReadFrame(up.Buffer, 1<<20)
				if err == nil {
					err = c.WriteFrame(f)
				}
				if err != nil {
					returned <- err
					return
				}
			}
		}()
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return err
			}
			f.Masked, f.MaskKey = true, testMaskKey
			Mask(f.Payload, testMaskKey, 0)
			if err := WriteFrame(up.Conn, f); err != nil {
				return err
			}
			if f.Opcode == Close {
				wantError(t, <-returned, io.EOF)
				up.Conn.Close()
				return nil
			}
		}
	}))
	big := strings.Repeat("proxy ", 20000)
	p.send(Text, "hello")
	p.expect(Text, "hello")
	p.Write(slices.Concat(clientFrame(false, Binary, "frag"), clientFrame(true, Ping, "through"), clientFrame(true, Continuation, "ments")))
	p.expect(Pong, "through")
	p.expect(Binary, "fragments")
	p.send(Text, big)
	p.expect(Text, big)
	p.send(Close, closeBody(4999, "done"))
	p.expectClose(4999)
	p.ExpectEOF()
}

// TestLowLevel_protocol runs a protocol with reserved opcodes and bits: frames with opcode 3
// add numbers, and RSV1 asks for the sum.
func TestLowLevel_protocol(t *testing.T) {
	p := dialServer(t, startServer(t, func(c *Conn) error {
		for sum := byte(0); ; {
			f, err := c.ReadFrame()
			switch {
			case err != nil:
				return err
			case f.Opcode == Close:
				return nil
			case f.Opcode != 3:
				return fmt.Errorf("opcode %v is not in the protocol", f.Opcode)
			}
			for _, b := range f.Payload {
				sum += b
			}
			if f.RSV1 {
				if err := c.WriteFrame(Frame{Header{Fin: true, RSV1: true, Opcode: 4}, []byte{sum}}); err != nil {
					return err
				}
			}
		}
	}))
	p.Frames.AnyFrame = true
	p.Write(slices.Concat(maskedFrame(unmaskedFrame(Header{Opcode: 3}, "\x01\x02")), maskedFrame(unmaskedFrame(Header{RSV1: true, Opcode: 3}, "\x03"))))
	if f := p.read(); f.Opcode != 4 || !f.RSV1 || string(f.Payload) != "\x06" {
		t.Errorf("got %+v %x, want the sum 6", f.Header, f.Payload)
	}
	p.Close()
}

// WriteFrame completes the close handshake, so the library sends no second answer.
func TestReadFrame_of_a_close_that_WriteFrame_answers(t *testing.T) {
	ends := []struct {
		name string
		end  func(c *Conn, p *peer) error
		want time.Duration
	}{
		{"and a peer that hangs up", func(c *Conn, p *peer) error {
			time.AfterFunc(20*time.Second, func() { p.Conn.Close() })
			_, err := c.ReadFrame()
			return err
		}, 20 * time.Second},
		{"and a peer that stays", func(c *Conn, p *peer) error { _, err := c.ReadFrame(); return err }, time.Minute + pingPoll},
		{"and Close", func(c *Conn, p *peer) error { return c.Close(StatusNormalClosure, "") }, 0},
		{"and Close, late", func(c *Conn, p *peer) error { time.Sleep(20 * time.Second); return c.Close(StatusNormalClosure, "") }, 20 * time.Second},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(time.Minute))
				go func() {
					p.send(Close, closeBody(4001, "bye"))
					p.expectClose(4001)
				}()
				f, err := c.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.WriteFrame(f); err != nil {
					t.Fatal(err)
				}
				err = timedCall(t, "the end", tt.want, func() error { return tt.end(c, p) })
				for _, err := range []error{err, endOf(c)} {
					if errors.Is(err, ErrCloseTimeout) {
						t.Errorf("got error %v, want none, because the peer has closed", err)
					}
				}
				p.Conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestReadFrame_names_an_unfinished_MessageReader(t *testing.T) {
	c, _ := newScriptConn(t, segments(clientFrame(true, Text, "unread")))
	if _, _, err := c.MessageReader(); err != nil {
		t.Fatal(err)
	}
	_, err := c.ReadFrame()
	if err == nil {
		t.Fatal("ReadFrame returned the frame of a MessageReader")
	}
	wantMention(t, err.Error(), "ReadFrame", "MessageReader")
	if strings.Contains(err.Error(), "deadline") {
		t.Errorf("got text %q, which mentions a deadline that was not set", err)
	}
}
