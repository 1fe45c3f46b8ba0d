package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

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
			wireCase{frame.name + " of 126", fromClient(frame.b0, octets(126)), nil, failed(1002)},
			wireCase{frame.name + " of 126 whose payload has not come", fromClient(unfinished(frame.b0, "", 126)), nil, failed(1002)},
			wireCase{frame.name + " of 65536", fromClient(unfinished(frame.b0, "", 65536)), nil, failed(1002)},
			wireCase{frame.name + " with FIN clear", fromClient(frame.b0&^0x80, "fragment1", 0x80, "fragment2"), nil, failed(1002)},
			wireCase{frame.name + " with FIN clear, empty", fromClient(frame.b0&^0x80, ""), nil, failed(1002)},
			wireCase{frame.name + " with FIN clear inside a message", fromClient(0x01, "a", frame.b0&^0x80, "b"), nil, failed(1002)},
		)
	}
	conform(t, append(cases,
		wireCase{"close of 126", fromClient(0x88, "\x03\xe8"+stars(124)), nil, failed(1002)},
		wireCase{"close of 126 whose payload has not come", fromClient(unfinished(0x88, "", 126)), nil, failed(1002)},
		wireCase{"close with FIN clear", fromClient(0x08, "\x03\xe8"), nil, failed(1002)},
	))
}

func TestConformance_5_5_2_ping_and_pong(t *testing.T) {
	var pings [][]byte
	var pongs []byte
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		pings = append(pings, wstest.ClientFrame(0x89, payload))
		pongs = append(pongs, fromServer(0x8A, payload)...)
	}
	conform(t, []wireCase{
		{"ten pings, ten pongs in order", pings, pongs, stillOpen},
		{"ping after a message", fromClient(0x81, "a", 0x89, "b"), fromServer(0x81, "a", 0x8A, "b"), stillOpen},
		{"ping ahead of a message", fromClient(0x89, "b", 0x81, "a"), fromServer(0x8A, "b", 0x81, "a"), stillOpen},
		{"unsolicited pong ahead of a ping", fromClient(0x8A, "unsolicited", 0x89, "ping"), fromServer(0x8A, "ping"), stillOpen},
		{"ten unsolicited pongs", slices.Repeat(fromClient(0x8A, "unsolicited"), 10), nil, stillOpen},
		{"ping after a close", fromClient(0x88, "\x03\xe8", 0x89, "ping"), fromServer(0x88, "\x03\xe8"), answered},
	})
}

func TestConformance_5_5_1_close(t *testing.T) {
	normal := fromServer(0x88, "\x03\xe8")
	conform(t, []wireCase{
		{"nothing but a close", fromClient(0x88, "\x03\xe8"), normal, answered},
		{"message ahead of a close", fromClient(0x81, "Hello", 0x88, "\x03\xe8"), append(fromServer(0x81, "Hello"), normal...), answered},
		{"two closes", fromClient(0x88, "\x03\xe8", 0x88, "\x03\xe9"), normal, answered},
		{"text after a close", fromClient(0x88, "\x03\xe8", 0x81, "Hello"), normal, answered},
		{"invalid frame after a close", fromClient(0x88, "\x03\xe8", wstest.Unhex("ff ff ff")), normal, answered},
		{"close inside a message", fromClient(0x01, "fragment1", 0x88, "\x03\xe8", 0x80, "fragment2"), normal, answered},
		{"large message, close, ping", fromClient(0x81, stars(256<<10), 0x88, "\x03\xe8", 0x89, "ping"),
			append(fromServer(0x81, stars(256<<10)), normal...), answered},
		{"without a code", fromClient(0x88, ""), wstest.Unhex("88 00"), answered},
		{"of one byte", fromClient(0x88, "\x03"), nil, failed(1002)},
		{"with a code", fromClient(0x88, "\x03\xe8"), normal, answered},
		{"with a reason", fromClient(0x88, "\x03\xe8Hello World!"), normal, answered},
		{"with a reason that is not ASCII", fromClient(0x88, "\x03\xe8κόσμε"), normal, answered},
		{"with a reason of 123", fromClient(0x88, "\x03\xe8"+stars(123)), normal, answered},
		{"with a reason of 124", fromClient(0x88, "\x03\xe8"+stars(124)), nil, failed(1002)},
		{"with a reason that is not UTF-8", fromClient(0x88, "\x03\xe8κόσμε\xed\xa0\x80edited"), nil, failed(1007)},
		{"with a reason that ends inside a character", fromClient(0x88, "\x03\xe8\xce"), nil, failed(1007)},
	})
}

func TestConformance_7_4_status_codes(t *testing.T) {
	var cases []wireCase
	code := func(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, wireCase{fmt.Sprint("valid ", n), fromClient(0x88, code(n)), fromServer(0x88, code(n)), answered})
	}
	// IANA has registered these codes later (section 11.7).
	for _, n := range []int{1012, 1013, 1014} {
		cases = append(cases, wireCase{fmt.Sprint("registered ", n), fromClient(0x88, code(n)), fromServer(0x88, code(n)), answered})
	}
	for _, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases,
			wireCase{fmt.Sprint("invalid ", n), fromClient(0x88, code(n)), nil, failed(1002)},
			wireCase{fmt.Sprint("invalid with a reason ", n), fromClient(0x88, code(n)+"reason"), nil, failed(1002)})
	}
	conform(t, cases)
}
