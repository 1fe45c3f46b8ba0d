package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

type violation struct {
	name    string
	wire    []byte
	is      error
	code    StatusCode
	section string
}

// violations returns frames of clients, each of which breaks a rule.
func violations() []violation {
	hello := clientFrame(true, Text, "Hello")
	begun := clientFrame(false, Text, "Hel")
	list := []violation{
		{name: "rejects unmasked frame", wire: wstest.Unhex("81 05 48656c6c6f"), section: "5.1"},
		{name: "rejects unmasked empty frame", wire: wstest.Unhex("82 00"), section: "5.1"},
		{name: "rejects unmasked ping", wire: wstest.Unhex("89 00"), section: "5.1"},
		{name: "rejects unmasked close", wire: wstest.Unhex("88 02 03e8"), section: "5.1"},
		{name: "rejects unmasked continuation", wire: slices.Concat(begun, wstest.Unhex("80 02 6c6f")), section: "5.1"},
		{name: "rejects fragmented ping", wire: clientFrame(false, Ping, "x"), section: "5.5"},
		{name: "rejects fragmented pong", wire: clientFrame(false, Pong, ""), section: "5.5"},
		{name: "rejects fragmented close", wire: clientFrame(false, Close, "\x03\xe8"), section: "5.5"},
		{name: "rejects ping over 125 bytes", wire: clientHeader(true, Ping, 126), section: "5.5"},
		{name: "rejects pong over 125 bytes", wire: clientHeader(true, Pong, 126), section: "5.5"},
		{name: "rejects close over 125 bytes", wire: clientHeader(true, Close, 65536), section: "5.5"},
		{name: "rejects continuation without a message", wire: clientFrame(true, Continuation, "x"), section: "5.4"},
		{name: "rejects continuation after a whole message", wire: slices.Concat(hello, clientFrame(true, Continuation, "")), section: "5.4"},
		{name: "rejects text inside a message", wire: slices.Concat(begun, hello), section: "5.4"},
		{name: "rejects binary inside a message", wire: slices.Concat(begun, clientFrame(false, Continuation, ""), clientFrame(false, Binary, "x")), section: "5.4"},
		{name: "rejects 16-bit length 0", wire: wstest.Unhex("82 fe 0000"), section: "5.2"},
		{name: "rejects 16-bit length 125", wire: wstest.Unhex("82 fe 007d"), section: "5.2"},
		{name: "rejects 64-bit length 65535", wire: wstest.Unhex("82 ff 000000000000ffff"), section: "5.2"},
		{name: "rejects 64-bit length at its sixth zero", wire: wstest.Unhex("82 ff 000000000000"), section: "5.2"},
		{name: "rejects 64-bit length with the top bit", wire: wstest.Unhex("82 ff 8000000000000000"), section: "5.2"},
		{name: "rejects 64-bit length of -1", wire: wstest.Unhex("82 ff ffffffffffffffff 37fa213d"), section: "5.2"},
		{name: "rejects top bit of the length at its byte", wire: wstest.Unhex("82 ff 80"), section: "5.2"},
		{name: "rejects long length of a ping", wire: wstest.Unhex("89 fe 0005 37fa213d 0000000000"), section: "5.2"},
	}
	for i, bits := range []byte{rsv1Bit, rsv2Bit, rsv3Bit, rsv1Bit | rsv2Bit | rsv3Bit} {
		for name, wire := range map[string][]byte{
			"text":         withBits(bits, hello),
			"ping":         withBits(bits, clientFrame(true, Ping, "")),
			"close":        withBits(bits, clientFrame(true, Close, "")),
			"continuation": slices.Concat(begun, withBits(bits, clientFrame(true, Continuation, "lo"))),
		} {
			list = append(list, violation{name: fmt.Sprintf("rejects RSV%d in %s", i+1, name), wire: wire, section: "5.2"})
		}
	}
	for _, op := range []Opcode{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		list = append(list,
			violation{name: fmt.Sprintf("rejects opcode %x", byte(op)), wire: clientFrame(true, op, "x"), is: ErrInvalidOpcode, section: "5.2"},
			violation{name: fmt.Sprintf("rejects opcode %x inside a message", byte(op)), wire: slices.Concat(begun, clientFrame(false, op, "")), is: ErrInvalidOpcode, section: "5.2"})
	}
	for i := range list {
		list[i].code = StatusProtocolError
		if list[i].is == nil {
			list[i].is = ErrProtocol
		}
	}
	return list
}

func TestReceiveMessage(t *testing.T) {
	computes(t)
	fn, results := captureError(echoAll)
	srv := startServer(t, fn, PingInterval(0), ConnectionTimeout(0)) // it may last long on a slow machine
	healthy := dialServer(t, srv)
	flood := bytes.Repeat(clientFrame(true, Binary, strings.Repeat("x", 1000)), 1000)
	for _, v := range violations() {
		for _, after := range [][]byte{nil, flood} {
			name := v.name
			if after != nil {
				name += " in a flood"
			}
			t.Run(name, func(t *testing.T) {
				p := dialServer(t, srv)
				p.Write(v.wire)
				if after != nil {
					p.Write(after)
				}
				if strings.HasSuffix(v.name, "after a whole message") {
					p.expect(Text, "Hello")
				}
				wantMention(t, p.expectClose(v.code), "section "+v.section)
				p.ExpectEOF()
				p.Conn.Close()
				err := await(t, results)
				wantError(t, err, ErrProtocol, v.is)
				wantMention(t, err.Error(), "RFC 6455 section "+v.section)
				if got := CloseStatus(err); got != v.code {
					t.Errorf("got close status %v, want %v", got, v.code)
				}
			})
		}
	}
	checkEcho(healthy)
}

// TestReceivers checks every receiving method with every violation, in memory.
func TestReceivers(t *testing.T) {
	computes(t)
	for _, r := range receivers {
		for _, v := range violations() {
			t.Run(r.name+" "+v.name, func(t *testing.T) {
				// The receiver must not wait for more bytes than those that break the rule.
				c, s := newScriptConn(t, segments(v.wire, nil))
				expired := 0
				_, _, err := r.receive(c, &expired)
				if strings.HasSuffix(v.name, "after a whole message") {
					if err != nil {
						t.Fatalf("the message before: %v", err)
					}
					_, _, err = r.receive(c, &expired)
				}
				wantError(t, err, ErrProtocol, v.is)
				if expired > 0 {
					t.Error("the receiver waited for more bytes than those that break the rule")
				}
				wantFailed(t, s, v.code)
				_, _, again := r.receive(c, &expired)
				if again != err {
					t.Errorf("the second call returned %v, want %v again", again, err)
				}
			})
		}
	}
}

// unicodeText has UTF-8 sequences of every length, and both ends of each range.
const unicodeText = "a\x00\x7f \u0080\u07ff \u0800\ufffd\uffff \ud7ff\ue000 \U00010000\U0010ffff κόσμε – 𝄞"

func TestReceiveMessage_text(t *testing.T) {
	computes(t)
	for _, r := range receivers {
		check := func(t *testing.T, pieces [][]byte, want string) {
			t.Helper()
			c, _ := newScriptConn(t, pieces)
			var expired int
			op, data, err := r.receive(c, &expired)
			if err != nil || op != Text || string(data) != want {
				t.Fatalf("got %v %s and error %v, want text %s", op, wstest.Hex(data), err, wstest.Hex([]byte(want)))
			}
		}
		t.Run(r.name+" accepts characters split over fragments", func(t *testing.T) {
			for i := range len(unicodeText) + 1 {
				check(t, segments(clientFrame(false, Text, unicodeText[:i]), clientFrame(true, Continuation, unicodeText[i:])), unicodeText)
			}
		})
		t.Run(r.name+" accepts characters split over segments", func(t *testing.T) {
			frame := clientFrame(true, Text, unicodeText)
			for i := 1; i < len(frame); i++ {
				check(t, segments(frame[:i], frame[i:]), unicodeText)
			}
			check(t, oneByOne(frame), unicodeText)
		})
		t.Run(r.name+" accepts a fragment for each byte with pings between", func(t *testing.T) {
			wire := clientFrame(false, Text, "")
			for i := range len(unicodeText) {
				wire = slices.Concat(wire, clientFrame(false, Continuation, unicodeText[i:i+1]), clientFrame(true, Ping, "\xff"))
			}
			wire = slices.Concat(wire, clientFrame(true, Continuation, ""))
			check(t, segments(wire), unicodeText)
			check(t, oneByOne(wire), unicodeText)
		})
		t.Run(r.name+" accepts a long text that is cut inside characters", func(t *testing.T) {
			long := strings.Repeat(unicodeText, 3000)
			check(t, slices.Collect(slices.Chunk(clientFrame(true, Text, long), 4097)), long)
			check(t, segments(clientFrame(false, Text, long[:70001]), clientFrame(true, Continuation, long[70001:])), long)
		})
		t.Run(r.name+" accepts empty text", func(t *testing.T) {
			check(t, segments(clientFrame(true, Text, "")), "")
			check(t, segments(clientFrame(false, Text, ""), clientFrame(false, Continuation, ""), clientFrame(true, Continuation, "")), "")
		})
	}
}

// invalidTexts are texts of which only the last byte is invalid.
var invalidTexts = []struct{ name, text string }{
	{"lone tail byte", "a\x80"},
	{"overlong of two bytes", "ab\xc0"},
	{"overlong slash", "\xc1"},
	{"overlong of three bytes", "\xe0\x9f"},
	{"overlong of four bytes", "κ\xf0\x8f"},
	{"surrogate", "κόσμε\xed\xa0"},
	{"above U+10FFFF", "\xf4\x90"},
	{"five bytes", "\xf8"},
	{"byte that is never valid", "0123456789012345678901234567890123456789\xff"},
	{"character without its last byte", "𝄞\xf0\x9d\x84a"},
	{"letter for a tail byte", "\xc3("},
	{"new character inside another", "\xe2\x82\xc3"},
}

// wantInvalidText checks that the connection is failed with 1007, after exactly this
// number of deadlines, which expire while the text can still become valid.
func wantInvalidText(t *testing.T, c *Conn, s scriptSocket, receive receiveFunc, expiries int) {
	t.Helper()
	expired := 0
	_, data, err := receive(c, &expired)
	wantError(t, err, ErrInvalidUTF8)
	if err == nil {
		t.Fatalf("got text %s", wstest.Hex(data))
	}
	wantMention(t, err.Error(), "RFC 6455 section 8.1")
	if expired != expiries {
		t.Errorf("failed after %d deadlines, want %d", expired, expiries)
	}
	wantFailed(t, s, StatusInvalidPayload)
}

func TestReceiveMessage_invalid_text(t *testing.T) {
	for _, r := range receivers {
		for _, tt := range invalidTexts {
			good, bad := len(tt.text)-1, len(tt.text)
			// The frame declares more bytes than come.
			frame := clientFrame(true, Text, tt.text+"the rest that never comes")
			start := len(frame) - len("the rest that never comes") - bad
			t.Run(r.name+" fails at the first bad byte of "+tt.name, func(t *testing.T) {
				c, s := newScriptConn(t, segments(frame[:start+good], nil, nil, frame[start+good:start+bad], nil))
				wantInvalidText(t, c, s, r.receive, 2)
			})
			t.Run(r.name+" fails across fragments at "+tt.name, func(t *testing.T) {
				wire := clientFrame(false, Text, "")
				for i := range good {
					wire = slices.Concat(wire, clientFrame(false, Continuation, tt.text[i:i+1]), clientFrame(true, Ping, ""))
				}
				last := clientFrame(true, Continuation, tt.text[good:]+"more")
				c, s := newScriptConn(t, segments(wire, nil, last[:len(last)-len("more")], nil))
				wantInvalidText(t, c, s, r.receive, 1)
			})
		}
		for _, text := range []string{"\xc3", "a\xe2\x82", "κ\xf0\x9d\x84", strings.Repeat("x", 5000) + "\xf0"} {
			t.Run(fmt.Sprintf("%s fails a text that ends with %x", r.name, text[max(0, len(text)-4):]), func(t *testing.T) {
				c, s := newScriptConn(t, segments(clientFrame(true, Text, text), nil))
				wantInvalidText(t, c, s, r.receive, 0)
				c, s = newScriptConn(t, segments(clientFrame(false, Text, text), nil, clientFrame(true, Continuation, ""), nil))
				wantInvalidText(t, c, s, r.receive, 1)
			})
		}
	}
}

func TestReceiveMessage_invalid_text_on_the_network(t *testing.T) {
	fn, results := captureError(echoAll)
	srv := startServer(t, fn)
	healthy := dialServer(t, srv)
	for _, tt := range invalidTexts {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			p := dialServer(t, srv)
			frame := clientFrame(true, Text, tt.text+strings.Repeat("y", 100000))
			p.Write(frame[:len(frame)-100000])
			wantMention(t, p.expectClose(StatusInvalidPayload), "section 8.1")
			p.ExpectEOF()
			p.Conn.Close()
			wantError(t, await(t, results), ErrInvalidUTF8)
		})
	}
	checkEcho(healthy)
}

func TestReceiveMessage_binary_is_not_checked(t *testing.T) {
	for _, r := range receivers {
		for _, tt := range invalidTexts {
			c, _ := newScriptConn(t, segments(clientFrame(false, Binary, tt.text), clientFrame(true, Continuation, tt.text)))
			var expired int
			op, data, err := r.receive(c, &expired)
			if err != nil || op != Binary || string(data) != tt.text+tt.text {
				t.Errorf("%s: got %v %s and error %v, want binary %x twice", r.name, op, wstest.Hex(data), err, tt.text)
			}
		}
	}
}

// fragmented returns a message of n frames, with the payload in the first frame.
func fragmented(n int, payload string) []byte {
	wire := clientFrame(n == 1, Binary, payload)
	for i := 1; i < n; i++ {
		wire = slices.Concat(wire, clientFrame(i == n-1, Continuation, ""))
	}
	return wire
}

func TestLimits(t *testing.T) {
	computes(t)
	x := strings.Repeat("x", 1000)
	tests := []struct {
		name    string
		opts    []Option
		passes  []byte // exactly at the limit; and its size
		size    int
		wire    []byte // exceeds it with its last header
		mention []string
	}{
		{"MaxFrameSize", []Option{MaxFrameSize(1000)},
			clientFrame(true, Binary, x), 1000,
			clientHeader(true, Binary, 1001), []string{"frame of 1001 bytes", "MaxFrameSize 1000"}},
		{"MaxFrameSize of a continuation", []Option{MaxFrameSize(1000)},
			slices.Concat(clientFrame(false, Binary, x), clientFrame(true, Continuation, x)), 2000,
			slices.Concat(clientFrame(false, Binary, x), clientHeader(true, Continuation, 1001)), []string{"MaxFrameSize 1000"}},
		{"default MaxFrameSize", nil,
			clientFrame(true, Binary, strings.Repeat("x", 1<<20)), 1 << 20,
			clientHeader(true, Binary, 1<<20+1), []string{"MaxFrameSize 1048576"}},
		{"largest possible length", nil,
			clientFrame(true, Binary, x), 1000,
			clientHeader(true, Binary, 1<<63-1), []string{"message of 9223372036854775807 bytes", "MaxMessageSize 1048576", "MaxFrameSize 1048576"}},
		{"largest length in a continuation", []Option{MaxFrameSize(1 << 30), MaxMessageSize(1 << 30)},
			clientFrame(true, Binary, x), 1000,
			slices.Concat(clientFrame(false, Binary, x), clientHeader(true, Continuation, 1<<63-1)), []string{"MaxFrameSize 1073741824"}},
		{"MaxMessageSize in one frame", []Option{MaxMessageSize(1000)},
			clientFrame(true, Binary, x), 1000,
			clientHeader(true, Binary, 1001), []string{"message of 1001 bytes", "MaxMessageSize 1000"}},
		{"MaxMessageSize over fragments", []Option{MaxMessageSize(2000)},
			slices.Concat(clientFrame(false, Binary, x), clientFrame(false, Continuation, x), clientFrame(true, Continuation, "")), 2000,
			slices.Concat(clientFrame(false, Binary, x), clientFrame(false, Continuation, x), clientHeader(false, Continuation, 1)),
			[]string{"message of 2001 bytes", "MaxMessageSize 2000"}},
		{"MaxFragments", []Option{MaxFragments(3)},
			fragmented(3, x), 1000,
			slices.Concat(clientFrame(false, Binary, x), clientFrame(false, Continuation, x), clientFrame(false, Continuation, x), clientHeader(true, Continuation, 5)),
			[]string{"MaxFragments 3"}},
		{"MaxFragments of empty frames", []Option{MaxFragments(3)},
			fragmented(3, ""), 0,
			slices.Concat(fragmented(4, "")), []string{"MaxFragments 3"}},
		{"MaxFragments of one", []Option{MaxFragments(1)},
			fragmented(1, x), 1000,
			fragmented(2, x), []string{"MaxFragments 1"}},
	}
	for _, tt := range tests {
		for _, r := range receivers {
			t.Run(r.name+" "+tt.name, func(t *testing.T) {
				// The message is received twice, because a limit begins anew with each
				// message.
				c, s := newScriptConn(t, segments(tt.passes, tt.passes, tt.wire, nil), tt.opts...)
				expired := 0
				for range 2 {
					if _, data, err := r.receive(c, &expired); err != nil || len(data) != tt.size {
						t.Fatalf("at the limit: got %d bytes and error %v, want %d bytes", len(data), err, tt.size)
					}
				}
				_, _, err := r.receive(c, &expired)
				wantError(t, err, ErrMessageTooLarge)
				if err == nil || expired > 0 {
					t.Fatalf("got error %v after %d deadlines, want the error directly after the header", err, expired)
				}
				wantMention(t, err.Error(), append(tt.mention, "RFC 6455 section 10.4")...)
				wantFailed(t, s, StatusMessageTooBig)
			})
		}
		t.Run("on the network "+tt.name, func(t *testing.T) {
			fn, results := captureError(receiveAll)
			p := dialServer(t, startServer(t, fn, tt.opts...))
			p.Write(tt.wire)
			wantMention(t, p.expectClose(StatusMessageTooBig), tt.mention...)
			p.ExpectEOF()
			p.Conn.Close()
			err := await(t, results)
			wantError(t, err, ErrMessageTooLarge)
			if got := CloseStatus(err); got != StatusMessageTooBig {
				t.Errorf("got close status %v, want %v", got, StatusMessageTooBig)
			}
		})
	}
}

func TestLimits_control_frames_do_not_count(t *testing.T) {
	wire := clientFrame(false, Binary, "1234")
	for range 10 {
		wire = slices.Concat(wire, clientFrame(true, Ping, "five5"), clientFrame(true, Pong, "five5"))
	}
	wire = slices.Concat(wire, clientFrame(true, Continuation, "5678"))
	for _, r := range receivers {
		c, _ := newScriptConn(t, segments(wire), MaxFrameSize(4), MaxMessageSize(8), MaxFragments(2))
		var expired int
		if _, data, err := r.receive(c, &expired); err != nil || string(data) != "12345678" {
			t.Errorf("%s: got %q and error %v, want 12345678", r.name, data, err)
		}
	}
}

func TestReceiveMessage_control_frames(t *testing.T) {
	fn, results := captureError(echoAll)
	srv := startServer(t, fn)

	t.Run("answers a ping between fragments before the message is complete", func(t *testing.T) {
		p := dialServer(t, srv)
		p.Write(clientFrame(false, Text, "Hel"))
		for _, payload := range []string{"", "ping\xff\x00", strings.Repeat("p", 125)} {
			p.send(Ping, payload)
			p.expect(Pong, payload)
		}
		p.Write(clientFrame(true, Continuation, "lo"))
		p.expect(Text, "Hello")
		p.Close()
		wantError(t, await(t, results), io.EOF)
	})
	t.Run("ignores pongs", func(t *testing.T) {
		p := dialServer(t, srv)
		p.Write(slices.Concat(clientFrame(true, Pong, "unasked for"), clientFrame(false, Binary, "a"), clientFrame(true, Pong, ""), clientFrame(true, Continuation, "b")))
		p.expect(Binary, "ab")
		p.ExpectNothing()
		p.Close()
		wantError(t, await(t, results), io.EOF)
	})
	t.Run("takes a close between fragments", func(t *testing.T) {
		p := dialServer(t, srv)
		p.Write(slices.Concat(clientFrame(false, Text, "never finished"), clientFrame(true, Close, closeBody(4321, "enough"))))
		p.expectClose(4321)
		p.ExpectEOF()
		p.Conn.Close()
		var closed *CloseError
		if err := await(t, results); !errors.As(err, &closed) || *closed != (CloseError{4321, "enough"}) {
			t.Errorf("got error %v, want the peer's close", err)
		}
	})
	t.Run("takes a close while a fragment is unfinished text", func(t *testing.T) {
		p := dialServer(t, srv)
		p.Write(slices.Concat(clientFrame(false, Text, "\xe2\x82"), clientFrame(true, Close, "")))
		p.expectClose(StatusNoStatusReceived)
		p.ExpectEOF()
		p.Conn.Close()
		wantError(t, await(t, results), io.EOF)
	})
}

func TestReceiveMessage_streams_answer_pings(t *testing.T) {
	fn, results := captureError(func(c *Conn) error {
		_, r, err := c.MessageReader()
		if err != nil {
			return err
		}
		return iotest.TestReader(r, []byte("onetwo"))
	})
	p := dialServer(t, startServer(t, fn))
	p.Write(slices.Concat(clientFrame(false, Text, "one"), clientFrame(true, Ping, "between")))
	p.expect(Pong, "between")
	p.Write(clientFrame(true, Continuation, "two"))
	if err := await(t, results); err != nil {
		t.Errorf("reading the stream: %v", err)
	}
	p.expectClose(StatusNormalClosure)
}

func TestReceiveMessage_drops_incoming_pings(t *testing.T) {
	p := dialServer(t, startServer(t, echoAll, DropIncomingPings(true)))
	p.Write(slices.Concat(clientFrame(true, Ping, "a"), clientFrame(false, Text, "x"), clientFrame(true, Ping, "b"), clientFrame(true, Continuation, "y")))
	p.expect(Text, "xy")
	p.Close()
}
