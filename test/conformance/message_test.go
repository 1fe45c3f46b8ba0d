package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestConformance_10_4_limits(t *testing.T) {
	conform(t, []wireCase{
		{"frame at the limit", fromClient(0x82, octets(1000)), fromServer(0x82, octets(1000)), stillOpen},
		{"frame over the limit, of which only the header has come", fromClient(unfinished(0x82, "", 1001)), nil, failed(1009)},
		{"frame of 2^63-1", fromClient(wstest.Unhex("82 ff 7f ff ff ff ff ff ff ff 00 00 00 00")), nil, failed(1009)},
		{"frame over the limit after a good message", fromClient(0x81, "a", unfinished(0x81, "", 70000)), fromServer(0x81, "a"), failed(1009)},
		{"whole frame over the limit", fromClient(0x82, octets(5000)), nil, failed(1009)},
		{"message at the limit", fromClient(0x02, octets(1000), 0x80, octets(500)), fromServer(0x82, octets(1500)), stillOpen},
		{"message over the limit, of which only the header has come", fromClient(0x02, octets(1000), unfinished(0x80, "", 501)), nil, failed(1009)},
		{"the next message counts from zero", fromClient(0x82, octets(1000), 0x82, octets(1000)),
			fromServer(0x82, octets(1000), 0x82, octets(1000)), stillOpen},
		{"pings do not count", fromClient(0x02, octets(1000), 0x89, octets(100), 0x80, octets(500)),
			fromServer(0x8A, octets(100), 0x82, octets(1500)), stillOpen},
		{"fragments at the limit", fragmented(0x82, octets(4), 1), fromServer(0x82, octets(4)), stillOpen},
		{"one fragment too many", fromClient(0x02, "", 0x00, "", 0x00, "", 0x00, "", unfinished(0x00, "", 1)), nil, failed(1009)},
		{"a rule is checked before a limit", fromClient(unfinished(0xC2, "", 1001)), nil, failed(1002)},
	}, websocket.MaxFrameSize(1000), websocket.MaxMessageSize(1500), websocket.MaxFragments(4))
}

// pattern returns a text with characters that are cut by the borders of fragments, TCP
// writes and buffers of every size.
func pattern(size int) string {
	const unit = "a é € 😀 "
	return strings.Repeat(unit, size/len(unit)) + stars(size%len(unit))
}

// Messages of up to 16 MiB, in one frame and in many, in one write and in many.
func TestConformance_5_4_large_messages(t *testing.T) {
	const limit = 16 << 20
	srv := serve(t, echo, websocket.MaxFrameSize(limit), websocket.MaxMessageSize(limit))
	check := func(name string, b0 int, payload string, writes [][]byte) {
		t.Run(name, func(t *testing.T) {
			wireCase{want: fromServer(b0, payload), end: stillOpen}.exchange(t, dial(t, srv), writes, expectBytes)
		})
	}
	inFragments := func(name string, b0 int, payload string, size int) {
		name = fmt.Sprintf("%s of %d KiB in fragments of %d", name, len(payload)>>10, size)
		check(name, b0, payload, cut(slices.Concat(fragmented(b0, payload, size)...), 64<<10))
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
			check(fmt.Sprintf("%s of 256 KiB in chops of %d", name, size), b0, s, cut(wstest.ClientFrame(byte(b0), s), size))
		}
	}
	// Only text has 8 MiB and only binary has 16 MiB, because large messages take long.
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
	srv := serve(t, echo)
	for _, b0 := range []int{0x81, 0x82} {
		for _, size := range []int{0, 16, 64, 256, 1 << 10, 4 << 10} {
			t.Run(fmt.Sprintf("first byte %#x, length %d", b0, size), func(t *testing.T) {
				s := pattern(size)
				tc := wireCase{
					sent: slices.Repeat(fromClient(b0, s), n),
					want: bytes.Repeat(fromServer(b0, s), n),
					end:  stillOpen,
				}
				tc.exchange(t, dial(t, srv), tc.sent, expectBytes)
			})
		}
	}
}

// mustNotSend returns a handler that tries to send each message, and returns an error if
// a message was not refused.
func mustNotSend(refused []websocket.Message) websocket.HandlerFunc {
	return func(c *websocket.Conn) error {
		for _, m := range refused {
			if err := c.SendMessage(m.Opcode, m.Data); err == nil {
				return fmt.Errorf("%v %x was sent", m.Opcode, m.Data)
			}
		}
		return nil
	}
}

// The server does not send a message that would oblige the client to fail the
// connection.
func TestConformance_6_1_refused_to_send(t *testing.T) {
	srv := serve(t, mustNotSend([]websocket.Message{
		{Opcode: websocket.Text, Data: []byte("\xed\xa0\x80")},
		{Opcode: websocket.Text, Data: []byte("κόσμε\xce")},
		{Opcode: websocket.Ping, Data: make([]byte, 126)},
		{Opcode: websocket.Pong, Data: make([]byte, 126)},
		{Opcode: websocket.Close, Data: []byte("\x03")},
		{Opcode: websocket.Close, Data: []byte("\x03\xe8\xff")},
		{Opcode: websocket.Close, Data: []byte("\x03\xed")}, // 1005
		{Opcode: websocket.Continuation, Data: []byte("a")},
		{Opcode: websocket.Opcode(0x3)},
		{Opcode: websocket.Opcode(0xB)},
	}))
	p := dial(t, srv)
	p.ExpectBytes(fromServer(0x88, "\x03\xe8"))
}

// Two goroutines send messages in fragments with pings between them. The fragments of
// each message are together and in order.
func TestConformance_5_4_sent_fragments(t *testing.T) {
	texts := []string{strings.Repeat("κόσμε", 3000), strings.Repeat("😀", 5000)}
	srv := serve(t, func(c *websocket.Conn) error {
		sent := make(chan error, len(texts))
		for _, s := range texts {
			go func() { sent <- sendInFragments(c, s) }()
		}
		return errors.Join(<-sent, <-sent)
	})
	p := dial(t, srv)
	got := []string{readMessage(t, p), readMessage(t, p)}
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		t.Errorf("got messages of %d and %d bytes, which are not the messages that were sent", len(got[0]), len(got[1]))
	}
	p.Close()
}

func sendInFragments(c *websocket.Conn, s string) error {
	w, err := c.MessageWriter(websocket.Text)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk([]byte(s), 1001) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		if err := c.SendMessage(websocket.Ping, []byte("between")); err != nil {
			return err
		}
	}
	return w.Close()
}

// readMessage reads the frames of one text message and the pings between them. The
// client checks that the fragments are in order.
func readMessage(t *testing.T, p *wstest.Client) string {
	t.Helper()
	var message []byte
	for {
		f := p.Read()
		switch {
		case f.First == 0x89 && string(f.Payload) == "between":
			continue
		case f.IsControl(), f.Opcode() == wstest.Binary:
			t.Fatalf("got %v, want a fragment of a text", f)
		}
		message = append(message, f.Payload...)
		if f.Fin() {
			return string(message)
		}
	}
}
