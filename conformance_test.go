package websocket

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What RFC 6455 demands of a server, shown from outside: bytes go in over TCP and
// bytes come out. None of them is made or read by the code under test.
//
// Frames are written by their first byte, which is FIN, the reserved bits and the
// opcode:
//
//	0x81 text, 0x01 its first fragment    0x88 close
//	0x82 binary, 0x02 its first fragment  0x89 ping
//	0x00 continuation, 0x80 the last one  0x8A pong

// A wireCase is a client's frames and all that the server may say to them. Each is
// sent cut into TCP writes in several ways, which must make no difference.
type wireCase struct {
	name string
	sent [][]byte
	want []byte
	end  ending
}

// An ending is what the server does behind the bytes that it must send.
type ending struct {
	check func(p *peer)
	over  bool // whatever the client sends from here on is not answered
}

// stillOpen is a connection that works, and closes like every other.
var stillOpen = ending{check: func(p *peer) {
	p.t.Helper()
	p.write(join(fromClient(0x89, "alive?", 0x88, "\x03\xe8")...))
	expectBytes(p, fromServer(0x8A, "alive?", 0x88, "\x03\xe8"))
	p.expectEOF()
}}

// answered is a connection whose close frames are among the bytes of the case.
// The server ends TCP by itself, the client being there still (section 7.1.1).
var answered = ending{check: func(p *peer) { p.t.Helper(); p.expectEOF() }, over: true}

// failedWith is a close frame with code, and a reason that is the server's
// business, behind which nothing is processed (section 7.1.7).
func failedWith(code StatusCode) ending {
	return ending{check: func(p *peer) {
		p.t.Helper()
		expectFailure(p, code)
		p.expectEOF()
	}, over: true}
}

// fromClient makes frames of first bytes, each with the payload behind it; a
// []byte is a frame, or what there is of it, as it is.
func fromClient(parts ...any) [][]byte {
	var frames [][]byte
	for i := 0; i < len(parts); i++ {
		b, ok := parts[i].([]byte)
		if !ok {
			b = maskedFrame(byte(parts[i].(int)), parts[i+1].(string))
			i++
		}
		frames = append(frames, b)
	}
	return frames
}

// fromServer is the same in the other direction.
func fromServer(parts ...any) []byte {
	var b []byte
	for i := 0; i < len(parts); i += 2 {
		payload := parts[i+1].(string)
		b = appendFrameHead(b, byte(parts[i].(int)), 0, len(payload))
		b = append(b, payload...)
	}
	return b
}

func maskedFrame(b0 byte, payload string) []byte {
	// Section 5.3 wants another key for each frame; these depend on what is in it.
	key := []byte{b0 ^ 0x37, byte(len(payload)) ^ 0xFA, 0x21, 0x3D}
	head := append(appendFrameHead(nil, b0, 0x80, len(payload)), key...)
	frame := append(head, payload...)
	masked := frame[len(head):]
	subtle.XORBytes(masked, masked, bytes.Repeat(key, len(payload)/4+1))
	return frame
}

func appendFrameHead(b []byte, b0, mask byte, length int) []byte {
	switch {
	case length < 126:
		return append(b, b0, mask|byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, b0, mask|126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, b0, mask|127), uint64(length))
}

// raw is bytes in hexadecimal.
func raw(digits string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// unfinished is a frame that declares more bytes than it has.
func unfinished(b0 int, payload string, missing int) []byte {
	b := maskedFrame(byte(b0), payload+strings.Repeat("?", missing))
	return b[:len(b)-missing]
}

// fragments makes a message of fragments with size bytes each, two at least.
func fragments(b0 int, payload string, size int) [][]byte {
	n := min(size, len(payload))
	frames := fromClient(b0&^0x80, payload[:n])
	for payload = payload[n:]; len(payload) > size; payload = payload[size:] {
		frames = append(frames, maskedFrame(0x00, payload[:size]))
	}
	return append(frames, maskedFrame(0x80, payload))
}

// chops cuts b into writes of size bytes.
func chops(b []byte, size int) [][]byte { return slices.Collect(slices.Chunk(b, size)) }

// cuts are the ways in which TCP may deliver the frames of a case. Where the
// connection is over, one of them has more behind it, which must be ignored.
func (tc wireCase) cuts() map[string][][]byte {
	all := join(tc.sent...)
	small := 1
	if len(all) > 1000 {
		small = 997
	}
	cuts := map[string][][]byte{"at once": {all}, fmt.Sprintf("chops of %d", small): chops(all, small)}
	if len(tc.sent) > 1 {
		cuts["frame by frame"] = tc.sent
	}
	if tc.end.over {
		cuts["with more behind"] = append([][]byte{all}, fromClient(0x81, "too late", 0x89, "too late")...)
	}
	return cuts
}

func (tc wireCase) run(t *testing.T, dial func(testing.TB) *peer) {
	for name, writes := range tc.cuts() {
		t.Run(name, func(t *testing.T) { tc.exchange(dial(t), writes) })
	}
}

// exchange sends and receives at the same time: a server may stop reading while
// nobody takes its answers.
func (tc wireCase) exchange(p *peer, writes [][]byte) {
	p.t.Helper()
	sent := make(chan error, 1)
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	go func() { sent <- writeAll(p.conn, writes) }()
	expectBytes(p, tc.want)
	if err := <-sent; err != nil {
		p.t.Fatalf("the server does not take what it must read: %v", err)
	}
	tc.end.check(p)
}

func writeAll(w io.Writer, writes [][]byte) error {
	for _, b := range writes {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func expectBytes(p *peer, want []byte) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.br, got)
	if err != nil || !bytes.Equal(got, want) {
		p.t.Fatalf("got %s and error %v, want %s", abbreviate(got[:n]), err, abbreviate(want))
	}
}

func expectFailure(p *peer, code StatusCode) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		p.t.Fatalf("got no close frame but error %v, want %v", err, code)
	}
	if head[0] != 0x88 || head[1] < 2 || head[1] > 125 {
		p.t.Fatalf("got a frame that begins with %x, want a close frame with %v", head, code)
	}
	body := make([]byte, head[1])
	if _, err := io.ReadFull(p.br, body); err != nil {
		p.t.Fatal(err)
	}
	if got := StatusCode(binary.BigEndian.Uint16(body)); got != code || !utf8.Valid(body[2:]) {
		p.t.Fatalf("got close code %v with reason %q, want %v", got, body[2:], code)
	}
}

// echoes are the ways to receive messages that are to be told apart by nothing
// on the wire.
var echoes = []struct {
	name    string
	receive func(c *Conn) (Opcode, []byte, error)
}{
	{"ReceiveMessage", (*Conn).ReceiveMessage},
	{"AppendMessage", func(c *Conn) (Opcode, []byte, error) { return c.AppendMessage(make([]byte, 0, 64)) }},
	{"MessageReader", func(c *Conn) (Opcode, []byte, error) {
		op, r, err := c.MessageReader()
		if err != nil {
			return 0, nil, err
		}
		data, err := io.ReadAll(r)
		return op, data, err
	}},
	{"ReceiveFragments", func(c *Conn) (Opcode, []byte, error) {
		frames, err := c.ReceiveFragments()
		if err != nil {
			return 0, nil, err
		}
		return ProcessFragments(frames)
	}},
}

func echoWith(receive func(*Conn) (Opcode, []byte, error)) HandlerFunc {
	return func(c *Conn) error {
		for {
			op, data, err := receive(c)
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}
}

// unprompted keeps the server from sending what is no answer.
var unprompted = PingInterval(0)

// conform holds every way to receive against the cases.
func conform(t *testing.T, cases []wireCase, opts ...Option) {
	for _, e := range echoes {
		t.Run(e.name, func(t *testing.T) {
			srv := serve(t, echoWith(e.receive), append(opts, unprompted)...)
			conformOn(t, dialer(srv), cases)
		})
	}
}

func conformOn(t *testing.T, dial func(testing.TB) *peer, cases []wireCase) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, dial) })
	}
}

func dialer(srv *httptest.Server) func(testing.TB) *peer {
	return func(t testing.TB) *peer { return dial(t, srv) }
}

func stars(n int) string { return strings.Repeat("*", n) }

func octets(n int) string { return strings.Repeat("\xfe", n) }

func TestConformance_5_1_masking(t *testing.T) {
	conform(t, []wireCase{
		{"unmasked text", fromClient(raw("81 05 48 65 6c 6c 6f")), nil, failedWith(1002)},
		{"unmasked binary whose payload has not come", fromClient(raw("82 05")), nil, failedWith(1002)},
		{"unmasked empty text", fromClient(raw("81 00")), nil, failedWith(1002)},
		{"unmasked ping", fromClient(raw("89 00")), nil, failedWith(1002)},
		{"unmasked close", fromClient(raw("88 02 03 e8")), nil, failedWith(1002)},
		{"unmasked continuation", fromClient(0x01, "a", raw("80 01 62")), nil, failedWith(1002)},
		{"unmasked behind a good message", fromClient(0x81, "a", raw("81 01 62")), fromServer(0x81, "a"), failedWith(1002)},
	})
}

func TestConformance_5_3_unmasking(t *testing.T) {
	conform(t, []wireCase{
		{"the RFC's example", fromClient(raw("81 85 37 fa 21 3d 7f 9f 4d 51 58")), raw("81 05 48 65 6c 6c 6f"), stillOpen},
		{"key of zeros", fromClient(raw("81 85 00 00 00 00 48 65 6c 6c 6f")), fromServer(0x81, "Hello"), stillOpen},
		{"key of ones", fromClient(raw("82 83 ff ff ff ff ff fe 00")), raw("82 03 00 01 ff"), stillOpen},
		{"payload that is masked to zeros", fromClient(raw("82 84 01 02 03 04 00 00 00 00")), raw("82 04 01 02 03 04"), stillOpen},
		{"each frame its key", fromClient(
			raw("01 81 61 00 00 00 00"), raw("00 83 00 00 62 00 62 63 06"), raw("80 81 65 00 00 00 00"),
		), fromServer(0x81, "abcde"), stillOpen},
		{"ping with a key", fromClient(raw("89 85 37 fa 21 3d 7f 9f 4d 51 58")), raw("8a 05 48 65 6c 6c 6f"), stillOpen},
		{"close with a key", fromClient(raw("88 82 37 fa 21 3d 34 12")), raw("88 02 03 e8"), answered},
	})
}

// Lengths on both sides of where their form changes, as text and as binary.
func TestConformance_5_2_payload_length(t *testing.T) {
	var cases []wireCase
	for _, n := range []int{0, 1, 125, 126, 127, 128, 1000, 65535, 65536, 65537} {
		cases = append(cases,
			wireCase{fmt.Sprintf("text of %d", n), fromClient(0x81, stars(n)), fromServer(0x81, stars(n)), stillOpen},
			wireCase{fmt.Sprintf("binary of %d", n), fromClient(0x82, octets(n)), fromServer(0x82, octets(n)), stillOpen})
	}
	cases = append(cases,
		wireCase{"length in 16 bits that fits 7", fromClient(raw("82 fe 00 7d")), nil, failedWith(1002)},
		wireCase{"length 0 in 16 bits", fromClient(raw("81 fe 00 00")), nil, failedWith(1002)},
		wireCase{"length in 64 bits that fits 7", fromClient(raw("82 ff 00 00 00 00 00 00 00 05")), nil, failedWith(1002)},
		wireCase{"length in 64 bits that fits 16", fromClient(raw("82 ff 00 00 00 00 00 00 ff ff")), nil, failedWith(1002)},
		wireCase{"highest of 64 bits", fromClient(raw("82 ff 80 00 00 00 00 00 00 00")), nil, failedWith(1002)},
		wireCase{"all of 64 bits, of which one byte has come", fromClient(raw("82 ff ff")), nil, failedWith(1002)},
		wireCase{"ping with a length in 16 bits", fromClient(raw("89 fe 00 05")), nil, failedWith(1002)},
	)
	conform(t, cases)
}

func TestConformance_5_2_reserved_bits(t *testing.T) {
	hello := fromServer(0x81, "Hello")
	conform(t, []wireCase{
		{"RSV3 in text", fromClient(0x91, "Hello"), nil, failedWith(1002)},
		{"RSV2 in text", fromClient(0xA1, "Hello"), nil, failedWith(1002)},
		{"RSV1 in text", fromClient(0xC1, "Hello"), nil, failedWith(1002)},
		{"RSV2 behind a good message", fromClient(0x81, "Hello", 0xA1, "Hello", 0x89, ""), hello, failedWith(1002)},
		{"RSV2 and RSV3 behind a good message", fromClient(0x81, "Hello", 0xB1, "Hello", 0x89, ""), hello, failedWith(1002)},
		{"RSV1 behind a good message", fromClient(0x81, "Hello", 0xC1, "Hello", 0x89, ""), hello, failedWith(1002)},
		{"RSV1 and RSV3 in binary", fromClient(0xD2, octets(5)), nil, failedWith(1002)},
		{"RSV1 and RSV2 in ping", fromClient(0xE9, "Hello"), nil, failedWith(1002)},
		{"all in close", fromClient(0xF8, "\x03\xe8"), nil, failedWith(1002)},
		{"RSV1 in pong", fromClient(0xCA, ""), nil, failedWith(1002)},
		{"RSV1 in continuation", fromClient(0x01, "a", 0xC0, "b"), nil, failedWith(1002)},
		{"RSV1 in first fragment", fromClient(0x41, "a", 0x80, "b"), nil, failedWith(1002)},
		{"all in empty text", fromClient(0xF1, ""), nil, failedWith(1002)},
		{"RSV1 in a frame whose payload has not come", fromClient(unfinished(0xC1, "", 100)), nil, failedWith(1002)},
	})
}

func TestConformance_5_2_opcodes(t *testing.T) {
	hello := fromServer(0x81, "Hello")
	var cases []wireCase
	for _, op := range []int{0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF} {
		name := func(what string) string { return fmt.Sprintf("opcode %#x %s", op, what) }
		cases = append(cases,
			wireCase{name("empty"), fromClient(0x80|op, ""), nil, failedWith(1002)},
			wireCase{name("with a payload"), fromClient(0x80|op, "reserved payload"), nil, failedWith(1002)},
			wireCase{name("behind a good message"), fromClient(0x81, "Hello", 0x80|op, "", 0x89, ""), hello, failedWith(1002)},
			wireCase{name("with a payload behind a good message"), fromClient(0x81, "Hello", 0x80|op, "x", 0x89, ""), hello, failedWith(1002)},
			wireCase{name("inside a message"), fromClient(0x01, "Hel", 0x80|op, "", 0x80, "lo"), nil, failedWith(1002)},
		)
	}
	conform(t, cases)
}

func TestConformance_5_4_fragmentation(t *testing.T) {
	ab := fromServer(0x81, "fragment1fragment2")
	conform(t, []wireCase{
		{"text of two fragments", fromClient(0x01, "fragment1", 0x80, "fragment2"), ab, stillOpen},
		{"binary of two fragments", fromClient(0x02, "\x00\xff", 0x80, "\xfe"), fromServer(0x82, "\x00\xff\xfe"), stillOpen},
		{"ping between fragments", fromClient(0x01, "fragment1", 0x89, "ping", 0x80, "fragment2"),
			append(fromServer(0x8A, "ping"), ab...), stillOpen},
		{"pong between fragments", fromClient(0x01, "fragment1", 0x8A, "pong", 0x80, "fragment2"), ab, stillOpen},
		{"pings between five fragments", fromClient(0x01, "1", 0x89, "a", 0x00, "2", 0x00, "3", 0x89, "b", 0x00, "4", 0x80, "5"),
			fromServer(0x8A, "a", 0x8A, "b", 0x81, "12345"), stillOpen},
		{"ping of 125 between fragments", fromClient(0x02, octets(200), 0x89, octets(125), 0x80, octets(200)),
			fromServer(0x8A, octets(125), 0x82, octets(400)), stillOpen},
		{"close between fragments", fromClient(0x01, "fragment1", 0x88, "\x03\xe8"), fromServer(0x88, "\x03\xe8"), answered},

		{"all fragments empty", fromClient(0x01, "", 0x00, "", 0x80, ""), fromServer(0x81, ""), stillOpen},
		{"first fragment empty", fromClient(0x01, "", 0x80, "b"), fromServer(0x81, "b"), stillOpen},
		{"middle fragment alone not empty", fromClient(0x01, "", 0x00, "middle", 0x80, ""), fromServer(0x81, "middle"), stillOpen},
		{"last fragment empty", fromClient(0x02, "a", 0x80, ""), fromServer(0x82, "a"), stillOpen},
		{"two messages of fragments", fromClient(0x01, "a", 0x80, "b", 0x02, "c", 0x00, "d", 0x80, "e"),
			fromServer(0x81, "ab", 0x82, "cde"), stillOpen},
		{"fragments and whole messages in turn", fromClient(0x81, "a", 0x02, "b", 0x80, "c", 0x82, "", 0x01, "", 0x80, ""),
			fromServer(0x81, "a", 0x82, "bc", 0x82, "", 0x81, ""), stillOpen},
		{"fragments of 1300", fragments(0x81, stars(65536), 1300), fromServer(0x81, stars(65536)), stillOpen},
		{"fragments of one octet", fragments(0x82, octets(300), 1), fromServer(0x82, octets(300)), stillOpen},

		{"continuation of nothing", fromClient(0x80, "non-continuation payload", 0x81, "Hello"), nil, failedWith(1002)},
		{"continuation of nothing, not the last", fromClient(0x00, "non-continuation payload", 0x81, "Hello"), nil, failedWith(1002)},
		{"empty continuation of nothing", fromClient(0x80, ""), nil, failedWith(1002)},
		{"continuation behind a whole message", fromClient(0x81, "a", 0x80, "b"), fromServer(0x81, "a"), failedWith(1002)},
		{"continuation behind a fragmented message", fromClient(0x01, "fragment1", 0x80, "fragment2", 0x00, "x", 0x81, "Hello"), ab, failedWith(1002)},
		{"last continuation behind a fragmented message", fromClient(0x01, "fragment1", 0x80, "fragment2", 0x80, "x"), ab, failedWith(1002)},
		{"continuation of nothing, twice", fromClient(0x00, "a", 0x80, "b", 0x00, "c", 0x80, "d"), nil, failedWith(1002)},
		{"continuation of a ping", fromClient(0x89, "a", 0x80, "b"), fromServer(0x8A, "a"), failedWith(1002)},
		{"text inside a text", fromClient(0x01, "fragment1", 0x81, "fragment2"), nil, failedWith(1002)},
		{"text fragment inside a text", fromClient(0x01, "fragment1", 0x01, "fragment2"), nil, failedWith(1002)},
		{"binary inside a text", fromClient(0x01, "fragment1", 0x82, ""), nil, failedWith(1002)},
		{"text inside a binary", fromClient(0x02, "a", 0x00, "b", 0x81, "c"), nil, failedWith(1002)},
		{"text inside a text, of which the header has come", fromClient(0x01, "a", unfinished(0x81, "", 50)), nil, failedWith(1002)},
	})
}

func TestConformance_5_5_control_frames(t *testing.T) {
	var cases []wireCase
	for _, frame := range []struct {
		name   string
		b0     int
		answer int // 0 for none
	}{{"ping", 0x89, 0x8A}, {"pong", 0x8A, 0}} {
		answer := func(payload string) []byte {
			if frame.answer == 0 {
				return nil
			}
			return fromServer(frame.answer, payload)
		}
		for _, payload := range []string{"", "Hello", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", octets(125)} {
			cases = append(cases, wireCase{fmt.Sprintf("%s of %d", frame.name, len(payload)),
				fromClient(frame.b0, payload), answer(payload), stillOpen})
		}
		cases = append(cases,
			wireCase{frame.name + " of 126", fromClient(frame.b0, octets(126)), nil, failedWith(1002)},
			wireCase{frame.name + " of 126 whose payload has not come", fromClient(unfinished(frame.b0, "", 126)), nil, failedWith(1002)},
			wireCase{frame.name + " of 65536", fromClient(unfinished(frame.b0, "", 65536)), nil, failedWith(1002)},
			wireCase{frame.name + " with FIN clear", fromClient(frame.b0&^0x80, "fragment1", 0x80, "fragment2"), nil, failedWith(1002)},
			wireCase{frame.name + " with FIN clear, empty", fromClient(frame.b0&^0x80, ""), nil, failedWith(1002)},
			wireCase{frame.name + " with FIN clear inside a message", fromClient(0x01, "a", frame.b0&^0x80, "b"), nil, failedWith(1002)},
		)
	}
	conform(t, append(cases,
		wireCase{"close of 126", fromClient(0x88, "\x03\xe8"+stars(124)), nil, failedWith(1002)},
		wireCase{"close of 126 whose payload has not come", fromClient(unfinished(0x88, "", 126)), nil, failedWith(1002)},
		wireCase{"close with FIN clear", fromClient(0x08, "\x03\xe8"), nil, failedWith(1002)},
	))
}

func TestConformance_5_5_2_ping_and_pong(t *testing.T) {
	var pings [][]byte
	var pongs []byte
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		pings = append(pings, maskedFrame(0x89, payload))
		pongs = append(pongs, fromServer(0x8A, payload)...)
	}
	conform(t, []wireCase{
		{"ten pings, ten pongs in order", pings, pongs, stillOpen},
		{"ping behind a message", fromClient(0x81, "a", 0x89, "b"), fromServer(0x81, "a", 0x8A, "b"), stillOpen},
		{"ping ahead of a message", fromClient(0x89, "b", 0x81, "a"), fromServer(0x8A, "b", 0x81, "a"), stillOpen},
		{"unsolicited pong ahead of a ping", fromClient(0x8A, "unsolicited", 0x89, "ping"), fromServer(0x8A, "ping"), stillOpen},
		{"ten unsolicited pongs", slices.Repeat(fromClient(0x8A, "unsolicited"), 10), nil, stillOpen},
		{"ping behind a close", fromClient(0x88, "\x03\xe8", 0x89, "ping"), fromServer(0x88, "\x03\xe8"), answered},
	})
}

func TestConformance_5_5_1_close(t *testing.T) {
	normal := fromServer(0x88, "\x03\xe8")
	conform(t, []wireCase{
		{"nothing but a close", fromClient(0x88, "\x03\xe8"), normal, answered},
		{"message ahead of a close", fromClient(0x81, "Hello", 0x88, "\x03\xe8"), append(fromServer(0x81, "Hello"), normal...), answered},
		{"two closes", fromClient(0x88, "\x03\xe8", 0x88, "\x03\xe9"), normal, answered},
		{"text behind a close", fromClient(0x88, "\x03\xe8", 0x81, "Hello"), normal, answered},
		{"invalid frame behind a close", fromClient(0x88, "\x03\xe8", raw("ff ff ff")), normal, answered},
		{"close inside a message", fromClient(0x01, "fragment1", 0x88, "\x03\xe8", 0x80, "fragment2"), normal, answered},
		{"large message, close, ping", fromClient(0x81, stars(256<<10), 0x88, "\x03\xe8", 0x89, "ping"),
			append(fromServer(0x81, stars(256<<10)), normal...), answered},
		{"without a code", fromClient(0x88, ""), raw("88 00"), answered},
		{"of one byte", fromClient(0x88, "\x03"), nil, failedWith(1002)},
		{"with a code", fromClient(0x88, "\x03\xe8"), normal, answered},
		{"with a reason", fromClient(0x88, "\x03\xe8Hello World!"), normal, answered},
		{"with a reason that is not ASCII", fromClient(0x88, "\x03\xe8κόσμε"), normal, answered},
		{"with a reason of 123", fromClient(0x88, "\x03\xe8"+stars(123)), normal, answered},
		{"with a reason of 124", fromClient(0x88, "\x03\xe8"+stars(124)), nil, failedWith(1002)},
		{"with a reason that is not UTF-8", fromClient(0x88, "\x03\xe8κόσμε\xed\xa0\x80edited"), nil, failedWith(1007)},
		{"with a reason that ends inside a character", fromClient(0x88, "\x03\xe8\xce"), nil, failedWith(1007)},
	})
}

func TestConformance_7_4_status_codes(t *testing.T) {
	var cases []wireCase
	code := func(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, wireCase{fmt.Sprint("valid ", n), fromClient(0x88, code(n)), fromServer(0x88, code(n)), answered})
	}
	// IANA's registry, which section 11.7 founds, has given these out since.
	for _, n := range []int{1012, 1013, 1014} {
		cases = append(cases, wireCase{fmt.Sprint("registered ", n), fromClient(0x88, code(n)), fromServer(0x88, code(n)), answered})
	}
	for _, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases,
			wireCase{fmt.Sprint("invalid ", n), fromClient(0x88, code(n)), nil, failedWith(1002)},
			wireCase{fmt.Sprint("invalid with a reason ", n), fromClient(0x88, code(n)+"reason"), nil, failedWith(1002)})
	}
	conform(t, cases)
}

// stressTexts are the sequences of Markus Kuhn's UTF-8 decoder stress test, made
// anew from its description and held against RFC 3629, which knows no sequences
// of five and six bytes.
func stressTexts() (valid, invalid map[string][]string) {
	valid = map[string][]string{
		"accents":            {"Hello-µ@ßöäüàá-UTF-8!!"},
		"Greek":              {"κ", "κ\u1f79", "κ\u1f79σ", "κ\u1f79σμ", "κ\u1f79σμε"},
		"first of a length":  {"\x00", "\u0080", "\u0800", "\U00010000"},
		"last of a length":   {"\u007f", "\u07ff", "\uffff"},
		"other boundaries":   {"\ud7ff", "\ue000", "\ufffd", "\U0010ffff"},
		"noncharacters":      nonCharacters(),
		"specials":           {"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd"},
		"beyond U+FFFF":      {"\U0001f600", "\U000fffff", "\U00100000"},
		"byte order mark":    {"\ufeff"},
		"long, of one width": {strings.Repeat("ж", 100), strings.Repeat("€", 100), strings.Repeat("😀", 100)},
	}
	invalid = map[string][]string{
		"five and six bytes": {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		"beyond U+10FFFF":    {"\xf7\xbf\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"},
		"impossible bytes":   {"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		"overlong slash":     {"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		"longest overlong":   {"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		"overlong NUL":       {"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		"surrogate": {"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf",
			"\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		"surrogate pair": {"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"},
		"Greek cut short":              {"\xce", "κ\xe1", "κ\xe1\xbd", "κ\u1f79\xcf", "κ\u1f79σ\xce", "κ\u1f79σμ\xce"},
		"surrogate inside Greek":       {"κ\u1f79σμε\xed\xa0\x80edited"},
		"beyond U+10FFFF inside Greek": {"κ\u1f79σμε\xf4\x90\x80\x80edited"},
		"Latin-1":                      {"\xe4\xf6\xfc", "gr\xfcn"},
	}
	for n := 1; n <= 7; n++ {
		invalid["continuation bytes alone"] = append(invalid["continuation bytes alone"], "\x80\xbf\x80\xbf\x80\xbf\x80"[:n])
	}
	for b := 0x80; b <= 0xbf; b++ {
		invalid["continuation byte alone"] = append(invalid["continuation byte alone"], string([]byte{byte(b)}))
	}
	for b := 0xc0; b <= 0xfd; b++ {
		invalid["first byte alone"] = append(invalid["first byte alone"], string([]byte{byte(b), ' '}))
	}
	cut := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}
	invalid["last byte missing"] = append(cut, strings.Join(cut, ""))
	return valid, invalid
}

func nonCharacters() []string {
	var s []string
	for plane := rune(0); plane <= 0x10; plane++ {
		s = append(s, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	for r := rune(0xfdd0); r <= 0xfdef; r++ {
		s = append(s, string(r))
	}
	return s
}

// firstBad returns the index of the first byte of s that no byte behind it can
// make good, or the length of s if it only ends inside a character.
func firstBad(s string) int {
	end := 0
	for i := range len(s) {
		r, size := utf8.DecodeRuneInString(s[end : i+1])
		switch {
		case !utf8.FullRuneInString(s[end : i+1]): // a character that has begun
		case r == utf8.RuneError && size == 1:
			return i
		default:
			end = i + 1
		}
	}
	return len(s)
}

// failedAlone is what bad text must end in. That nothing behind it is processed is
// shown elsewhere, and need not be for each of so many texts.
var failedAlone = ending{check: failedWith(1007).check}

// textCases sends a text whole, by fragments of one octet, and inside other text
// that brings it to where a checker goes by words of many octets.
func textCases(name, s string, valid bool) []wireCase {
	before, behind := strings.Repeat("0123456789", 4)+"κ", "ό"+strings.Repeat("9876543210", 4)
	result := func(s string) ([]byte, ending) {
		if valid {
			return fromServer(0x81, s), stillOpen
		}
		return nil, failedAlone
	}
	var cases []wireCase
	add := func(how, s string, sent [][]byte) {
		want, end := result(s)
		cases = append(cases, wireCase{fmt.Sprintf("%s % x%s", name, s[:min(len(s), 12)], how), sent, want, end})
	}
	add("", s, fromClient(0x81, s))
	add(" by octets", s, fragments(0x81, s, 1))
	add(" inside text", before+s+behind, fromClient(0x81, before+s+behind))
	return cases
}

// failFastCases stop sending with the first bad byte: of the frame it is in, and
// of the message, the rest never comes.
func failFastCases(name, s string) []wireCase {
	bad := firstBad(s)
	if bad == len(s) {
		return nil
	}
	name = fmt.Sprintf("%s % x up to its byte %d", name, s[:min(len(s), 12)], bad)
	s = s[:bad+1]
	long := strings.Repeat("ж", 50)
	return []wireCase{
		{name + " in a frame", fromClient(unfinished(0x81, s, 100)), nil, failedAlone},
		{name + " across fragments", fromClient(0x01, s[:bad], unfinished(0x00, s[bad:], 100)), nil, failedAlone},
		{name + " in a large frame", fromClient(unfinished(0x81, s, 100_000)), nil, failedAlone},
		{name + " far inside a frame", fromClient(unfinished(0x81, long+s, 100)), nil, failedAlone},
		{name + " in a fragment", fromClient(0x01, "κόσμε", unfinished(0x00, s, 100)), nil, failedAlone},
		{name + " at the end of a fragment", fromClient(0x01, s), nil, failedAlone},
	}
}

// One of the ways to receive takes all the texts, and each takes one of every kind,
// sent in every way.
func TestConformance_8_1_UTF_8(t *testing.T) {
	var all, some []wireCase
	add := func(kinds map[string][]string, valid bool) {
		for name, texts := range kinds {
			for i, s := range texts {
				cases := textCases(name, s, valid)
				if !valid {
					cases = append(cases, failFastCases(name, s)...)
				}
				if i == 0 {
					some = append(some, cases...)
				} else { // all ways to send a text whole, the first two to fail fast
					all = append(all, cases[:min(len(cases), 3+2)]...)
				}
			}
		}
	}
	valid, invalid := stressTexts()
	add(valid, true)
	add(invalid, false)
	conform(t, some)
	conformOn(t, dialer(serve(t, echo, unprompted)), all)
	// Of the reader of HandleConcurrent, only what is sent with nothing before it
	// can be foretold.
	t.Run("HandleConcurrent", func(t *testing.T) {
		conformOn(t, dialer(serveHandler(t, HandleConcurrent(echo, unprompted))), some)
	})
}

// The tables above say which texts are valid; this holds them against the
// standard library, so that a typo in a table cannot pass for a rule.
func TestConformance_stress_texts(t *testing.T) {
	valid, invalid := stressTexts()
	for want, groups := range map[bool]map[string][]string{true: valid, false: invalid} {
		for name, texts := range groups {
			for _, s := range texts {
				if utf8.ValidString(s) != want {
					t.Errorf("%s: %x is listed as valid=%t", name, s, want)
				}
			}
		}
	}
}

func TestConformance_5_6_text_and_binary(t *testing.T) {
	conform(t, []wireCase{
		{"character across fragments", fromClient(0x01, "\xf0\x9f", 0x80, "\x98\x80"), fromServer(0x81, "😀"), stillOpen},
		{"character across three fragments with a ping inside", fromClient(0x01, "a\xe2", 0x00, "\x82", 0x89, "\xff", 0x80, "\xacb"),
			fromServer(0x8A, "\xff", 0x81, "a€b"), stillOpen},
		{"character across empty fragments", fromClient(0x01, "\xce", 0x00, "", 0x80, "\xba"), fromServer(0x81, "κ"), stillOpen},
		{"character that the next message would finish", fromClient(0x81, "\xce", 0x81, "\xba"), nil, failedWith(1007)},
		{"message that ends inside a character", fromClient(0x01, "κόσμε\xce", 0x80, ""), nil, failedWith(1007)},
		{"bad text behind a good one", fromClient(0x81, "κόσμε", 0x81, "\xff"), fromServer(0x81, "κόσμε"), failedWith(1007)},
		{"good text, text in fragments, bad text", fromClient(0x81, "a", 0x01, "b", 0x80, "c", 0x81, "\xc0"), fromServer(0x81, "a", 0x81, "bc"), failedWith(1007)},
		{"binary need not be UTF-8", fromClient(0x82, "\xff\xfe\xed\xa0\x80"), fromServer(0x82, "\xff\xfe\xed\xa0\x80"), stillOpen},
		{"binary in fragments need not be UTF-8", fromClient(0x02, "\xce", 0x80, "\xff"), fromServer(0x82, "\xce\xff"), stillOpen},
		{"ping and pong need not be UTF-8", fromClient(0x8A, "\xff", 0x89, "\xed\xa0\x80"), fromServer(0x8A, "\xed\xa0\x80"), stillOpen},
		{"text behind a binary is checked", fromClient(0x82, "\xff", 0x81, "\xff"), fromServer(0x82, "\xff"), failedWith(1007)},
	})
}

func TestConformance_10_4_limits(t *testing.T) {
	conform(t, []wireCase{
		{"frame at the limit", fromClient(0x82, octets(1000)), fromServer(0x82, octets(1000)), stillOpen},
		{"frame over the limit, of which the header has come", fromClient(unfinished(0x82, "", 1001)), nil, failedWith(1009)},
		{"frame of 2^63-1", fromClient(raw("82 ff 7f ff ff ff ff ff ff ff 00 00 00 00")), nil, failedWith(1009)},
		{"frame over the limit behind a good message", fromClient(0x81, "a", unfinished(0x81, "", 70000)), fromServer(0x81, "a"), failedWith(1009)},
		{"frame over the limit that comes whole", fromClient(0x82, octets(5000)), nil, failedWith(1009)},
		{"message at the limit", fromClient(0x02, octets(1000), 0x80, octets(500)), fromServer(0x82, octets(1500)), stillOpen},
		{"message over the limit, of which the header has come", fromClient(0x02, octets(1000), unfinished(0x80, "", 501)), nil, failedWith(1009)},
		{"the next message begins at nothing", fromClient(0x82, octets(1000), 0x82, octets(1000)),
			fromServer(0x82, octets(1000), 0x82, octets(1000)), stillOpen},
		{"pings do not count", fromClient(0x02, octets(1000), 0x89, octets(100), 0x80, octets(500)),
			fromServer(0x8A, octets(100), 0x82, octets(1500)), stillOpen},
		{"fragments at the limit", fragments(0x82, octets(4), 1), fromServer(0x82, octets(4)), stillOpen},
		{"one fragment too many", fromClient(0x02, "", 0x00, "", 0x00, "", 0x00, "", unfinished(0x00, "", 1)), nil, failedWith(1009)},
		{"a rule goes before a limit", fromClient(unfinished(0xC2, "", 1001)), nil, failedWith(1002)},
	}, MaxFrameSize(1000), MaxMessageSize(1500), MaxFragments(4))
}

// pattern is a text whose characters lie across the borders of fragments, chops
// and buffers of every size.
func pattern(size int) string {
	const unit = "a é € 😀 "
	return strings.Repeat(unit, size/len(unit)) + stars(size%len(unit))
}

// Messages of up to 16 MiB, in one frame and in many, in one write and in many.
func TestConformance_5_4_large_messages(t *testing.T) {
	const limit = 16 << 20
	srv := serve(t, echoWith((*Conn).ReceiveMessage), unprompted, MaxFrameSize(limit), MaxMessageSize(limit))
	check := func(name string, b0 int, payload string, writes [][]byte) {
		t.Run(name, func(t *testing.T) {
			wireCase{want: fromServer(b0, payload), end: stillOpen}.exchange(dial(t, srv), writes)
		})
	}
	inFragments := func(name string, b0 int, payload string, size int) {
		name = fmt.Sprintf("%s of %d KiB in fragments of %d", name, len(payload)>>10, size)
		check(name, b0, payload, chops(join(fragments(b0, payload, size)...), 64<<10))
	}
	for name, b0 := range map[string]int{"text": 0x81, "binary": 0x82} {
		for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			s := pattern(size)
			check(fmt.Sprintf("%s of %d KiB", name, size>>10), b0, s, fromClient(b0, s))
		}
		s := pattern(256 << 10)
		for size := 64; size <= 256<<10; size *= 4 {
			inFragments(name, b0, s, size)
		}
		for _, size := range []int{64, 128, 256, 512, 997, 1 << 10, 2 << 10} {
			check(fmt.Sprintf("%s of 256 KiB in chops of %d", name, size), b0, s, chops(maskedFrame(byte(b0), s), size))
		}
	}
	// As time goes by the byte here, text has the 8 MiB and binary the 16.
	s := pattern(limit / 2)
	check("text of 8192 KiB", 0x81, s, fromClient(0x81, s))
	s = pattern(limit)
	check("binary of 16384 KiB", 0x82, s, fromClient(0x82, s))
	s = pattern(4 << 20)
	inFragments("text", 0x81, s, 64)
	inFragments("binary", 0x82, s, 1<<20)
}

func TestConformance_6_2_many_messages(t *testing.T) {
	const n = 400
	srv := serve(t, echoWith((*Conn).ReceiveMessage), unprompted)
	for _, b0 := range []int{0x81, 0x82} {
		for _, size := range []int{0, 16, 64, 256, 1 << 10, 4 << 10} {
			t.Run(fmt.Sprintf("first byte %#x, length %d", b0, size), func(t *testing.T) {
				s := pattern(size)
				tc := wireCase{
					sent: slices.Repeat(fromClient(b0, s), n),
					want: bytes.Repeat(fromServer(b0, s), n),
					end:  stillOpen,
				}
				tc.exchange(dial(t, srv), tc.sent)
			})
		}
	}
}

// The server's own close: what each way to end a handler puts on the wire, and
// that what comes before the client's answer is dropped.
func TestConformance_7_1_2_closing_handshake(t *testing.T) {
	ends := []struct {
		name string
		fn   HandlerFunc
		want []byte
	}{
		{"return nil", func(*Conn) error { return nil }, fromServer(0x88, "\x03\xe8")},
		{"return a CloseError", func(*Conn) error { return &CloseError{4001, "κόσμε"} }, fromServer(0x88, "\x0f\xa1κόσμε")},
		{"return an error", func(*Conn) error { return errors.New("secret") }, fromServer(0x88, "\x03\xf3")},
		{"panic", func(*Conn) error { panic(http.ErrAbortHandler) }, fromServer(0x88, "\x03\xf3")},
		{"Close", func(c *Conn) error { return c.Close(StatusGoingAway, "bye") }, fromServer(0x88, "\x03\xe9bye")},
		{"Close without a code", func(c *Conn) error { return c.Close(StatusNoStatusReceived, "") }, fromServer(0x88, "")},
		{"message, then return", func(c *Conn) error { return c.SendMessage(Text, []byte("last")) }, fromServer(0x81, "last", 0x88, "\x03\xe8")},
		{"SendMessage of a close", func(c *Conn) error {
			c.SendMessage(Close, []byte("\x03\xe8"))
			if err := c.SendMessage(Text, []byte("too late")); err == nil {
				return errors.New("data was sent behind the close frame")
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
		{"answered with more behind", fromClient(0x88, "\x03\xe8", 0x81, octets(5000))},
		{"data and ping before the answer", fromClient(0x81, "dropped", 0x89, "dropped", 0x02, "x", 0x80, "y", 0x88, "\x03\xe8")},
	}
	for _, end := range ends {
		srv := serve(t, end.fn, unprompted)
		for _, answer := range answers {
			if strings.HasPrefix(end.name, "SendMessage") && strings.HasPrefix(answer.name, "data") {
				continue // the handler still receives, and so pings are still answered
			}
			t.Run(end.name+", "+answer.name, func(t *testing.T) {
				p := dial(t, srv)
				expectBytes(p, end.want)
				p.write(join(answer.sent...))
				p.expectEOF()
			})
		}
	}
}

func TestConformance_7_1_1_no_answer_to_the_close(t *testing.T) {
	srv := serve(t, func(*Conn) error { return nil }, unprompted, CloseTimeout(50*time.Millisecond))
	p := dial(t, srv)
	expectBytes(p, fromServer(0x88, "\x03\xe8"))
	p.expectEOF()
}

// A client that ends TCP without a close frame is 1006, which is never sent.
func TestConformance_7_1_5_no_close_frame(t *testing.T) {
	srv := serve(t, echo, unprompted)
	for name, sent := range map[string][][]byte{
		"between messages":   fromClient(0x81, "a"),
		"between fragments":  fromClient(0x81, "a", 0x01, "b"),
		"inside a header":    fromClient(0x81, "a", raw("82 fe 01")),
		"inside a payload":   fromClient(0x81, "a", unfinished(0x81, "b", 100)),
		"inside a ping":      fromClient(0x81, "a", unfinished(0x89, "b", 100)),
		"inside a character": fromClient(0x81, "a", 0x01, "\xce"),
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, srv)
			p.write(join(sent...))
			if err := p.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expectBytes(p, fromServer(0x81, "a"))
			p.expectEOF()
		})
	}
}

// TLS is net/http's; what is the library's is how it ends (section 7.1.1).
func TestConformance_10_6_TLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(Handle(echo, unprompted))
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	t.Cleanup(srv.Close)
	config := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = nil
	config.ServerName = "example.com"
	dialTLS := func(t testing.TB) *peer {
		conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, conn)
		p.handshake()
		return p
	}
	s := pattern(100 << 10)
	conformOn(t, dialTLS, []wireCase{
		{"messages", fromClient(0x81, "Hello", 0x89, "ping", 0x02, "a", 0x80, "b"), fromServer(0x81, "Hello", 0x8A, "ping", 0x82, "ab"), stillOpen},
		{"large message", fromClient(0x81, s), fromServer(0x81, s), stillOpen},
		{"close", fromClient(0x88, "\x03\xe8bye"), fromServer(0x88, "\x03\xe8"), answered},
		{"failure", fromClient(0x81, "Hello", unfinished(0x81, "\xff", 1000)), fromServer(0x81, "Hello"), failedWith(1007)},
	})
}

// handshakeRequest is the RFC's example request with lines replaced by name, or
// taken out by "-Name".
func handshakeRequest(changes ...string) string {
	lines := []string{"GET /chat HTTP/1.1", "Host: example.test", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	for _, change := range changes {
		name, _, _ := strings.Cut(strings.TrimPrefix(change, "-"), ":")
		if !strings.HasPrefix(change, "+") {
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") })
		}
		if !strings.HasPrefix(change, "-") {
			lines = append(lines, strings.TrimPrefix(change, "+"))
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestConformance_4_2_2_accepted_handshake(t *testing.T) {
	const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	srv := serve(t, echo, unprompted, Subprotocols("superchat", "chat"))
	for _, tc := range []struct {
		name    string
		changes []string
		extra   string
	}{
		{"the RFC's example", nil, ""},
		{"names and tokens in other case", []string{"-Upgrade", "uPGRADE: WebSocket", "-Connection", "CONNECTION: keep-alive, upgrade"}, ""},
		{"unknown headers", []string{"X-Unknown: ?", "Cookie: a=b"}, ""},
		{"no Origin", nil, ""},
		{"Origin of the host", []string{"Origin: http://example.test"}, ""},
		{"extensions are not agreed to", []string{"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, foo"}, ""},
		{"subprotocol of both", []string{"Sec-WebSocket-Protocol: mqtt, chat"}, "Sec-WebSocket-Protocol: chat\r\n"},
		{"subprotocols on two lines", []string{"Sec-WebSocket-Protocol: mqtt", "+Sec-WebSocket-Protocol: chat"}, "Sec-WebSocket-Protocol: chat\r\n"},
		{"no subprotocol of both", []string{"Sec-WebSocket-Protocol: mqtt, CHAT"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := dialRaw(t, srv)
			// The first frame in the same segment: the connection is open for it
			// as soon as the request has ended.
			p.write(append([]byte(handshakeRequest(tc.changes...)), join(fromClient(0x81, "early")...)...))
			expectBytes(p, append([]byte(accepted+tc.extra+"\r\n"), fromServer(0x81, "early")...))
			stillOpen.check(p)
		})
	}
}

func TestConformance_4_2_1_refused_handshake(t *testing.T) {
	srv := serve(t, echo, unprompted, Subprotocols("chat"))
	post := strings.Replace(handshakeRequest(), "GET", "POST", 1)
	post = strings.Replace(post, "\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1)
	for _, tc := range []struct {
		name, request string
		status        int
		header        string // that the answer must have
	}{
		{"POST", post, 405, "Allow: GET"},
		{"HTTP/1.0", strings.Replace(handshakeRequest(), "HTTP/1.1", "HTTP/1.0", 1), 426, "Upgrade: websocket"},
		{"no Host", handshakeRequest("-Host"), 400, ""},
		{"no Upgrade", handshakeRequest("-Upgrade"), 426, "Upgrade: websocket"},
		{"Upgrade to another protocol", handshakeRequest("Upgrade: websockets"), 426, "Upgrade: websocket"},
		{"no Connection", handshakeRequest("-Connection"), 426, "Upgrade: websocket"},
		{"Connection without the token", handshakeRequest("Connection: keep-alive"), 426, "Upgrade: websocket"},
		{"no key", handshakeRequest("-Sec-WebSocket-Key"), 400, ""},
		{"empty key", handshakeRequest("Sec-WebSocket-Key: "), 400, ""},
		{"key of 15 bytes", handshakeRequest("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, ""},
		{"key of 17 bytes", handshakeRequest("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, ""},
		{"key that is not base64", handshakeRequest("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q=="), 400, ""},
		{"two keys", handshakeRequest("+Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400, ""},
		{"no version", handshakeRequest("-Sec-WebSocket-Version"), 426, "Sec-WebSocket-Version: 13"},
		{"version 8", handshakeRequest("Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version: 13"},
		{"version 25", handshakeRequest("Sec-WebSocket-Version: 25"), 426, "Sec-WebSocket-Version: 13"},
		{"version 013", handshakeRequest("Sec-WebSocket-Version: 013"), 426, "Sec-WebSocket-Version: 13"},
		{"versions as a list", handshakeRequest("Sec-WebSocket-Version: 13, 8"), 426, "Sec-WebSocket-Version: 13"},
		{"two versions", handshakeRequest("+Sec-WebSocket-Version: 13"), 426, "Sec-WebSocket-Version: 13"},
		{"another origin", handshakeRequest("Origin: http://evil.test"), 403, ""},
		{"subprotocol that is no token", handshakeRequest("Sec-WebSocket-Protocol: chat, a b"), 400, ""},
		{"subprotocols without one", handshakeRequest("Sec-WebSocket-Protocol: "), 400, ""},
		{"extension that is no token", handshakeRequest("Sec-WebSocket-Extensions: permessage deflate"), 400, ""},
		{"extension without a name", handshakeRequest("Sec-WebSocket-Extensions: ; a=b"), 400, ""},
		{"extension parameter without a name", handshakeRequest("Sec-WebSocket-Extensions: foo; =1"), 400, ""},
		{"extension parameter without its value", handshakeRequest("Sec-WebSocket-Extensions: foo; a="), 400, ""},
		{"extension parameter quoted to no token", handshakeRequest(`Sec-WebSocket-Extensions: foo; a="b c"`), 400, ""},
		{"extension parameter whose quote is open", handshakeRequest(`Sec-WebSocket-Extensions: foo; a="b`), 400, ""},
		{"extensions without one", handshakeRequest("Sec-WebSocket-Extensions: "), 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := dialRaw(t, srv)
			p.conn.SetReadDeadline(time.Now().Add(patience))
			p.write([]byte(tc.request))
			resp, err := http.ReadResponse(p.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.status {
				t.Errorf("answered with %s, want %d", resp.Status, tc.status)
			}
			if name, value, _ := strings.Cut(tc.header, ": "); resp.Header.Get(name) != value {
				t.Errorf("answered with %s %q, want %q", name, resp.Header.Get(name), value)
			}
			if accept := resp.Header.Get("Sec-WebSocket-Accept"); accept != "" {
				t.Errorf("refused with Sec-WebSocket-Accept %q", accept)
			}
		})
	}
}

// mustNotSend is a handler that tries to send each message, and returns an error if
// one that must be refused is not.
func mustNotSend(refused []Message) HandlerFunc {
	return func(c *Conn) error {
		for _, m := range refused {
			if err := c.SendMessage(m.Opcode, m.Data); err == nil {
				return fmt.Errorf("%v %x was sent", m.Opcode, m.Data)
			}
		}
		return nil
	}
}

// What a client would have to fail the connection for never gets on the wire.
func TestConformance_6_1_refused_to_send(t *testing.T) {
	srv := serve(t, mustNotSend([]Message{
		{Text, []byte("\xed\xa0\x80")},
		{Text, []byte("κόσμε\xce")},
		{Ping, make([]byte, 126)},
		{Pong, make([]byte, 126)},
		{Close, []byte("\x03")},
		{Close, []byte("\x03\xe8\xff")},
		{Close, []byte("\x03\xed")}, // 1005
		{Continuation, []byte("a")},
		{Opcode(0x3), nil},
		{Opcode(0xB), nil},
	}), unprompted)
	p := dial(t, srv)
	expectBytes(p, fromServer(0x88, "\x03\xe8"))
}

func TestConformance_7_4_1_codes_never_sent(t *testing.T) {
	for _, code := range []StatusCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		t.Run(fmt.Sprint(uint16(code)), func(t *testing.T) {
			srv := serve(t, func(*Conn) error { return &CloseError{code, "reason"} }, unprompted)
			expectBytes(dial(t, srv), fromServer(0x88, "\x03\xf3"))
		})
	}
}

// Messages that the server sends in fragments, by two goroutines at once and with
// pings between them: the fragments of each are together and in order.
func TestConformance_5_4_sent_fragments(t *testing.T) {
	texts := []string{strings.Repeat("κόσμε", 3000), strings.Repeat("😀", 5000)}
	srv := serve(t, func(c *Conn) error {
		sent := make(chan error, len(texts))
		for _, s := range texts {
			go func() { sent <- sendInPieces(c, s) }()
		}
		return errors.Join(<-sent, <-sent)
	}, unprompted)
	p := dial(t, srv)
	got := []string{readMessage(p), readMessage(p)}
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		t.Errorf("messages of %d and %d bytes are not what was sent", len(got[0]), len(got[1]))
	}
	p.close()
}

func sendInPieces(c *Conn, s string) error {
	w, err := c.MessageWriter(Text)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk([]byte(s), 1001) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		if err := c.SendMessage(Ping, []byte("between")); err != nil {
			return err
		}
	}
	return w.Close()
}

// readMessage reads the frames of one text message and the pings between them.
func readMessage(p *peer) string {
	p.t.Helper()
	var message []byte
	for want := byte(0x01); ; {
		b0, payload := readWireFrame(p)
		switch {
		case b0 == 0x89 && string(payload) == "between":
			continue
		case b0 == want, b0 == want|0x80:
			message = append(message, payload...)
		default:
			p.t.Fatalf("got a frame with the first byte %#x, want %#x or that with FIN", b0, want)
		}
		if b0&0x80 != 0 {
			return string(message)
		}
		want = 0x00
	}
}

// readWireFrame reads a frame and makes sure that its header is the very one that
// its length calls for, without a mask.
func readWireFrame(p *peer) (b0 byte, payload []byte) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, 2, 10)
	_, err := io.ReadFull(p.br, head)
	length := int(head[1] & 0x7F)
	if size := map[int]int{126: 2, 127: 8}[length]; err == nil && size > 0 {
		extended := head[2 : 2+size]
		_, err = io.ReadFull(p.br, extended)
		length = 0
		for _, b := range extended {
			length = length<<8 | int(b)
		}
		head = head[:2+size]
	}
	if want := appendFrameHead(nil, head[0], 0, length); err != nil || !bytes.Equal(head, want) {
		p.t.Fatalf("got the header %x and error %v, want %x", head, err, want)
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		p.t.Fatal(err)
	}
	return head[0], payload
}

// The matrix of requirements names code and tests; it must not outlive them.
func TestRequirementsMatrix(t *testing.T) {
	text, err := os.ReadFile("docs/rfc6455.md")
	if err != nil {
		t.Fatal(err)
	}
	src := parseSources(t)
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "section" || strings.HasPrefix(cells[0], "-") {
			continue
		}
		if len(cells) != 4 {
			t.Errorf("line %d has %d cells, want section, requirement, where, shown by", i+1, len(cells))
			continue
		}
		for _, problem := range src.check(cells[2], cells[3]) {
			t.Errorf("line %d, section %s: %s", i+1, cells[0], problem)
		}
	}
	for test := range src.tests {
		if strings.HasPrefix(test, "TestConformance_") && !strings.Contains(string(text), test) {
			t.Errorf("%s shows no requirement", test)
		}
	}
}

// sources is what the Go files of the package declare. Of the internal packages, it
// has the tests only.
type sources struct {
	declared map[string][]string // name, or Type.method, by file
	tests    map[string]bool
	literals map[string]bool // the strings of the tests, which are names of cases too
}

func parseSources(t *testing.T) sources {
	src := sources{map[string][]string{}, map[string]bool{}, map[string]bool{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	internal, err := filepath.Glob("internal/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, internal...)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			src.addTests(parsed)
			continue
		}
		for _, decl := range parsed.Decls {
			src.declared[file] = append(src.declared[file], declaredNames(decl)...)
		}
	}
	return src
}

func (src sources) addTests(file *ast.File) {
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
			src.tests[f.Name.Name] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				src.literals[s] = true
			}
		}
		return true
	})
}

func declaredNames(decl ast.Decl) []string {
	var names []string
	switch d := decl.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			recv := d.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			name = recv.(*ast.Ident).Name + "." + name
		}
		names = append(names, name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// check returns what is wrong with a row: "where" names a file, then what it
// declares; "shown by" names tests, with their cases behind slashes.
func (src sources) check(where, shownBy string) (problems []string) {
	file := ""
	for _, name := range codeSpans(where) {
		switch _, isFile := src.declared[name]; {
		case isFile:
			file = name
		case !slices.Contains(src.declared[file], name):
			problems = append(problems, fmt.Sprintf("%q is not declared in %q", name, file))
		}
	}
	for _, name := range codeSpans(shownBy) {
		test, cases, _ := strings.Cut(name, "/")
		if !src.tests[test] {
			problems = append(problems, fmt.Sprintf("there is no test %q", test))
		}
		if cases != "" && !src.literals[cases] {
			problems = append(problems, fmt.Sprintf("%s has no case %q", test, cases))
		}
	}
	return problems
}

// codeSpans returns what stands between backquotes.
func codeSpans(cell string) []string {
	var spans []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			spans = append(spans, part)
		}
	}
	return spans
}
