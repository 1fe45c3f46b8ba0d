package conformance

import (
	"fmt"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestConformance_5_1_masking(t *testing.T) {
	conform(t, []wireCase{
		{"unmasked text", fromClient(wstest.Unhex("81 05 48 65 6c 6c 6f")), nil, failed(1002)},
		{"unmasked binary whose payload has not come", fromClient(wstest.Unhex("82 05")), nil, failed(1002)},
		{"unmasked empty text", fromClient(wstest.Unhex("81 00")), nil, failed(1002)},
		{"unmasked ping", fromClient(wstest.Unhex("89 00")), nil, failed(1002)},
		{"unmasked close", fromClient(wstest.Unhex("88 02 03 e8")), nil, failed(1002)},
		{"unmasked continuation", fromClient(0x01, "a", wstest.Unhex("80 01 62")), nil, failed(1002)},
		{"unmasked after a good message", fromClient(0x81, "a", wstest.Unhex("81 01 62")), fromServer(0x81, "a"), failed(1002)},
	})
}

func TestConformance_5_3_unmasking(t *testing.T) {
	conform(t, []wireCase{
		{"the RFC's example", fromClient(wstest.Unhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")), wstest.Unhex("81 05 48 65 6c 6c 6f"), stillOpen},
		{"key of zeros", fromClient(wstest.Unhex("81 85 00 00 00 00 48 65 6c 6c 6f")), fromServer(0x81, "Hello"), stillOpen},
		{"key of ones", fromClient(wstest.Unhex("82 83 ff ff ff ff ff fe 00")), wstest.Unhex("82 03 00 01 ff"), stillOpen},
		{"payload that is masked to zeros", fromClient(wstest.Unhex("82 84 01 02 03 04 00 00 00 00")), wstest.Unhex("82 04 01 02 03 04"), stillOpen},
		{"a new key in each frame", fromClient(
			wstest.Unhex("01 81 61 00 00 00 00"), wstest.Unhex("00 83 00 00 62 00 62 63 06"), wstest.Unhex("80 81 65 00 00 00 00"),
		), fromServer(0x81, "abcde"), stillOpen},
		{"ping with a key", fromClient(wstest.Unhex("89 85 37 fa 21 3d 7f 9f 4d 51 58")), wstest.Unhex("8a 05 48 65 6c 6c 6f"), stillOpen},
		{"close with a key", fromClient(wstest.Unhex("88 82 37 fa 21 3d 34 12")), wstest.Unhex("88 02 03 e8"), answered},
	})
}

// The lengths are on both sides of each change of their form.
func TestConformance_5_2_payload_length(t *testing.T) {
	var cases []wireCase
	for _, n := range []int{0, 1, 125, 126, 127, 128, 1000, 65535, 65536, 65537} {
		cases = append(cases,
			wireCase{fmt.Sprintf("text of %d", n), fromClient(0x81, stars(n)), fromServer(0x81, stars(n)), stillOpen},
			wireCase{fmt.Sprintf("binary of %d", n), fromClient(0x82, octets(n)), fromServer(0x82, octets(n)), stillOpen})
	}
	cases = append(cases,
		wireCase{"length in 16 bits that fits 7", fromClient(wstest.Unhex("82 fe 00 7d")), nil, failed(1002)},
		wireCase{"length 0 in 16 bits", fromClient(wstest.Unhex("81 fe 00 00")), nil, failed(1002)},
		wireCase{"length in 64 bits that fits 7", fromClient(wstest.Unhex("82 ff 00 00 00 00 00 00 00 05")), nil, failed(1002)},
		wireCase{"length in 64 bits that fits 16", fromClient(wstest.Unhex("82 ff 00 00 00 00 00 00 ff ff")), nil, failed(1002)},
		wireCase{"highest of 64 bits set", fromClient(wstest.Unhex("82 ff 80 00 00 00 00 00 00 00")), nil, failed(1002)},
		wireCase{"all of 64 bits set, of which two bytes have come", fromClient(wstest.Unhex("82 ff ff")), nil, failed(1002)},
		wireCase{"ping with a length in 16 bits", fromClient(wstest.Unhex("89 fe 00 05")), nil, failed(1002)},
	)
	conform(t, cases)
}

func TestConformance_5_2_reserved_bits(t *testing.T) {
	hello := fromServer(0x81, "Hello")
	conform(t, []wireCase{
		{"RSV3 in text", fromClient(0x91, "Hello"), nil, failed(1002)},
		{"RSV2 in text", fromClient(0xA1, "Hello"), nil, failed(1002)},
		{"RSV1 in text", fromClient(0xC1, "Hello"), nil, failed(1002)},
		{"RSV2 after a good message", fromClient(0x81, "Hello", 0xA1, "Hello", 0x89, ""), hello, failed(1002)},
		{"RSV2 and RSV3 after a good message", fromClient(0x81, "Hello", 0xB1, "Hello", 0x89, ""), hello, failed(1002)},
		{"RSV1 after a good message", fromClient(0x81, "Hello", 0xC1, "Hello", 0x89, ""), hello, failed(1002)},
		{"RSV1 and RSV3 in binary", fromClient(0xD2, octets(5)), nil, failed(1002)},
		{"RSV1 and RSV2 in ping", fromClient(0xE9, "Hello"), nil, failed(1002)},
		{"all in close", fromClient(0xF8, "\x03\xe8"), nil, failed(1002)},
		{"RSV1 in pong", fromClient(0xCA, ""), nil, failed(1002)},
		{"RSV1 in continuation", fromClient(0x01, "a", 0xC0, "b"), nil, failed(1002)},
		{"RSV1 in first fragment", fromClient(0x41, "a", 0x80, "b"), nil, failed(1002)},
		{"all in empty text", fromClient(0xF1, ""), nil, failed(1002)},
		{"RSV1 in a frame whose payload has not come", fromClient(unfinished(0xC1, "", 100)), nil, failed(1002)},
	})
}

func TestConformance_5_2_opcodes(t *testing.T) {
	hello := fromServer(0x81, "Hello")
	var cases []wireCase
	for _, op := range []int{0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF} {
		name := func(kind string) string { return fmt.Sprintf("opcode %#x %s", op, kind) }
		cases = append(cases,
			wireCase{name("empty"), fromClient(0x80|op, ""), nil, failed(1002)},
			wireCase{name("with a payload"), fromClient(0x80|op, "reserved payload"), nil, failed(1002)},
			wireCase{name("after a good message"), fromClient(0x81, "Hello", 0x80|op, "", 0x89, ""), hello, failed(1002)},
			wireCase{name("with a payload after a good message"), fromClient(0x81, "Hello", 0x80|op, "x", 0x89, ""), hello, failed(1002)},
			wireCase{name("inside a message"), fromClient(0x01, "Hel", 0x80|op, "", 0x80, "lo"), nil, failed(1002)},
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
		{"only the middle fragment is not empty", fromClient(0x01, "", 0x00, "middle", 0x80, ""), fromServer(0x81, "middle"), stillOpen},
		{"last fragment empty", fromClient(0x02, "a", 0x80, ""), fromServer(0x82, "a"), stillOpen},
		{"two messages of fragments", fromClient(0x01, "a", 0x80, "b", 0x02, "c", 0x00, "d", 0x80, "e"),
			fromServer(0x81, "ab", 0x82, "cde"), stillOpen},
		{"fragments and whole messages in turn", fromClient(0x81, "a", 0x02, "b", 0x80, "c", 0x82, "", 0x01, "", 0x80, ""),
			fromServer(0x81, "a", 0x82, "bc", 0x82, "", 0x81, ""), stillOpen},
		{"fragments of 1300", fragmented(0x81, stars(65536), 1300), fromServer(0x81, stars(65536)), stillOpen},
		{"fragments of one octet", fragmented(0x82, octets(300), 1), fromServer(0x82, octets(300)), stillOpen},

		{"continuation without a message", fromClient(0x80, "non-continuation payload", 0x81, "Hello"), nil, failed(1002)},
		{"continuation without a message, not the last", fromClient(0x00, "non-continuation payload", 0x81, "Hello"), nil, failed(1002)},
		{"empty continuation without a message", fromClient(0x80, ""), nil, failed(1002)},
		{"continuation after a whole message", fromClient(0x81, "a", 0x80, "b"), fromServer(0x81, "a"), failed(1002)},
		{"continuation after a fragmented message", fromClient(0x01, "fragment1", 0x80, "fragment2", 0x00, "x", 0x81, "Hello"), ab, failed(1002)},
		{"last continuation after a fragmented message", fromClient(0x01, "fragment1", 0x80, "fragment2", 0x80, "x"), ab, failed(1002)},
		{"continuation without a message, twice", fromClient(0x00, "a", 0x80, "b", 0x00, "c", 0x80, "d"), nil, failed(1002)},
		{"continuation of a ping", fromClient(0x89, "a", 0x80, "b"), fromServer(0x8A, "a"), failed(1002)},
		{"text inside a text", fromClient(0x01, "fragment1", 0x81, "fragment2"), nil, failed(1002)},
		{"text fragment inside a text", fromClient(0x01, "fragment1", 0x01, "fragment2"), nil, failed(1002)},
		{"binary inside a text", fromClient(0x01, "fragment1", 0x82, ""), nil, failed(1002)},
		{"text inside a binary", fromClient(0x02, "a", 0x00, "b", 0x81, "c"), nil, failed(1002)},
		{"text inside a text, of which only the header has come", fromClient(0x01, "a", unfinished(0x81, "", 50)), nil, failed(1002)},
	})
}
