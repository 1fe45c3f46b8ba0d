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

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An inflater inflates the messages of a server as a client with context takeover does: with
// compress/flate, and with a window of exactly the agreed size.
type inflater struct {
	bits       int
	noTakeover bool
	window     []byte
}

func newInflater(c *Conn) *inflater {
	a := c.compression().agreed
	return &inflater{bits: int(a.windowBits), noTakeover: a.noTakeover}
}

// message returns the payload of a whole message.
func (in *inflater) message(f Frame) (string, error) {
	switch {
	case !f.Fin || f.RSV2 || f.RSV3:
		return "", fmt.Errorf("got the frame %+v, want one whole message", f.Header)
	case !f.RSV1:
		return string(f.Payload), nil
	}
	const end = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	r := flate.NewReaderDict(io.MultiReader(bytes.NewReader(f.Payload), strings.NewReader(end)), in.window)
	data, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("a message of %d bytes cannot be inflated: %w", len(f.Payload), err)
	}
	if len(f.Payload) >= len(data) {
		return "", fmt.Errorf("a message of %d bytes was sent as %d", len(data), len(f.Payload))
	}
	if !in.noTakeover {
		in.window = append(in.window, data...)
		in.window = slices.Clone(in.window[max(0, len(in.window)-1<<in.bits):])
	}
	return string(data), nil
}

// offering returns a Conn on a script, which has agreed to the answer for offer.
func offering(t testing.TB, offer string, opts ...Option) (*Conn, scriptSocket) {
	s := scriptSocket{wstest.NewSocket()}
	return offeringOn(t, s.Socket, offer, opts...), s
}

func offeringOn(t testing.TB, s *wstest.Socket, offer string, opts ...Option) *Conn {
	r := wstest.ReadRequest(wstest.Handshake("Sec-WebSocket-Extensions: " + offer + "\r\n"))
	opts = append([]Option{PingInterval(0), ConnectionTimeout(0), Compression(0)}, opts...)
	c := newRequestConn(r, s, nil, opts...)
	t.Cleanup(func() {
		s.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c
}

// messageSenders are the ways to send one whole message.
var messageSenders = map[string]func(c *Conn, op Opcode, data []byte) error{
	"SendMessage": (*Conn).SendMessage,
	"TrySend":     (*Conn).TrySend,
	"SendPrepared": func(c *Conn, op Opcode, data []byte) error {
		p, err := PrepareMessage(op, data)
		return errors.Join(err, c.SendPrepared(p))
	},
	"TrySendPrepared": func(c *Conn, op Opcode, data []byte) error {
		p, err := PrepareMessage(op, data)
		return errors.Join(err, c.TrySendPrepared(p))
	},
	"Broadcast": func(c *Conn, op Opcode, data []byte) error {
		return Broadcast(slices.Values([]*Conn{c}), op, data)
	},
	"MessageWriter": func(c *Conn, op Opcode, data []byte) error {
		w, err := c.MessageWriter(op)
		if err != nil {
			return err
		}
		w.Write(data[:len(data)/2])
		w.Write(data[len(data)/2:])
		return w.Close()
	},
	"Stream": func(c *Conn, op Opcode, data []byte) error {
		_, err := c.Stream(op).Write(data)
		return err
	},
}

// withHistory are those that can refer to earlier messages.
var withHistory = []string{"SendMessage", "TrySend", "MessageWriter", "Stream"}

// testOffers are the agreements that matter to an encoder.
var testOffers = map[string]string{
	"takeover":                 "permessage-deflate",
	"no takeover":              "permessage-deflate; server_no_context_takeover",
	"smallest window":          "permessage-deflate; server_max_window_bits=8",
	"no takeover, 9 bits":      "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
	"largest window of client": "permessage-deflate; server_max_window_bits=15",
}

func tick(i int) string {
	return fmt.Sprintf(`{"type":"tick","symbol":"ACME","seq":%d,"bid":%d.25,"ask":%d.75,"venue":"XETRA","currency":"EUR"}`, i, 100+i%7, 101+i%7)
}

// Each method sends a message as one compressed frame, and the next one refers to it if that
// was agreed on.
func TestSend_compressed(t *testing.T) {
	for method, send := range messageSenders {
		for name, offer := range testOffers {
			t.Run(method+" "+name, func(t *testing.T) {
				c, s := offering(t, offer)
				var sizes []int
				in := newInflater(c)
				for i, text := range []string{tick(1), tick(2), tick(3), strings.Repeat(tick(4), 20)} {
					op := []Opcode{Text, Binary}[i%2]
					if err := send(c, op, []byte(text)); err != nil {
						t.Fatal(err)
					}
					waitFlushed(t, c)
					frames := s.frames(t)
					if len(frames) != 1 || frames[0].Opcode != op {
						t.Fatalf("message %d: got the frames %v, want one", i, frames)
					}
					if got, err := in.message(frames[0]); err != nil || got != text {
						t.Fatalf("message %d: got %q and error %v, want %q", i, got, err, text)
					}
					sizes = append(sizes, len(frames[0].Payload))
				}
				refers := slices.Contains(withHistory, method) && !in.noTakeover
				if small := sizes[1] < len(tick(2))/2; small != refers {
					t.Errorf("got messages of %d bytes; want the second one to refer to the first: %t", sizes, refers)
				}
				if sizes[3] > 20*len(tick(4))/4 {
					t.Errorf("got messages of %d bytes; want the last one to shrink to a quarter of %d", sizes, 20*len(tick(4)))
				}
			})
		}
	}
}

// waitFlushed waits until nothing is left to write.
func waitFlushed(t testing.TB, c *Conn) {
	t.Helper()
	if !wstest.Eventually(func() bool {
		c.out.flushByTimer()
		c.out.lock.Lock()
		defer c.out.release(byLibrary)
		return !c.out.hasPending.Load()
	}) {
		t.Fatal("frames are pending for ever")
	}
}

// Some messages are not compressed.
func TestSend_not_compressed(t *testing.T) {
	random := make([]byte, 30_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	tests := []struct {
		name string
		op   Opcode
		data string
		min  int // SetCompression
		want bool
	}{
		{"at the minimum", Binary, stars(100), 100, true},
		{"below the minimum", Binary, stars(99), 100, false},
		{"off", Binary, stars(1000), -1, false},
		{"an empty message", Text, "", 0, false},
		{"one byte", Text, "a", 0, false},
		{"random bytes", Binary, string(random[:100]), 0, false},
		{"many random bytes", Binary, string(random), 0, false},
		{"a ping", Ping, stars(100), 0, false},
		{"a pong", Pong, stars(100), 0, false},
	}
	for _, tt := range tests {
		for method, send := range messageSenders {
			if tt.op.IsControl() && (method == "MessageWriter" || method == "Stream") || tt.data == "" && method == "Stream" {
				continue
			}
			t.Run(method+" "+tt.name, func(t *testing.T) {
				c, s := offering(t, "permessage-deflate")
				c.SetCompression(tt.min)
				if err := send(c, tt.op, []byte(tt.data)); err != nil {
					t.Fatal(err)
				}
				waitFlushed(t, c)
				var got string
				for i, f := range s.frames(t) {
					if f.RSV1 != tt.want || f.RSV1 && i > 0 || i == 0 && f.Opcode != tt.op {
						t.Errorf("got the header %+v, want RSV1 %t", f.Header, tt.want)
					}
					got += string(f.Payload)
				}
				if !tt.want && got != tt.data {
					t.Errorf("got %d bytes, want the %d of the message", len(got), len(tt.data))
				}
			})
		}
	}
}

// SetCompression has no effect without an agreement, and neither has Compression(0).
func TestSetCompression_without_an_agreement(t *testing.T) {
	c, s := newScriptConn(t, nil)
	c.SetCompression(0)
	if err := c.SendMessage(Text, []byte(stars(100))); err != nil {
		t.Fatal(err)
	}
	if f := s.frames(t)[0]; f.RSV1 || c.Extensions() != "" {
		t.Errorf("got the header %+v with the extensions %q, want none", f.Header, c.Extensions())
	}
}

// A MessageWriter gathers up to gatherSize for one compressed frame.
func TestMessageWriter_compressed(t *testing.T) {
	tests := []struct {
		name   string
		writes []int
		frames int
		rsv1   bool
	}{
		{"small writes", []int{1, 2, 3, 4}, 1, true},
		{"more than a fragment", []int{3000, 3000, 3000}, 1, true},
		{"the bound", []int{gatherSize - 1, 1}, 1, true},
		{"over the bound", []int{gatherSize - 1, 2}, 2, false},
		{"over the bound with many writes", slices.Repeat([]int{5000}, 15), 4, false},
		{"a large write", []int{gatherSize}, 2, false},
		{"a large write behind a small one", []int{10, gatherSize}, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := offering(t, "permessage-deflate")
			in := newInflater(c)
			for round := range 2 {
				w, err := c.MessageWriter(Text)
				if err != nil {
					t.Fatal(err)
				}
				total := 0
				for _, n := range tt.writes {
					if _, err := io.WriteString(w, stars(n)); err != nil {
						t.Fatal(err)
					}
					total += n
				}
				if early := len(s.Writes()); tt.rsv1 && early > 0 {
					t.Errorf("%d writes before Close", early)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				frames := s.frames(t)
				if len(frames) != tt.frames || frames[0].RSV1 != tt.rsv1 {
					t.Errorf("round %d: got %d frames with RSV1 %t, want %d with %t", round, len(frames), frames[0].RSV1, tt.frames, tt.rsv1)
				}
				if got, err := in.message(joinFragments(frames)[0]); err != nil || len(got) != total {
					t.Errorf("got %d bytes and error %v, want %d", len(got), err, total)
				}
			}
		})
	}
}

// SetCompression(-1) during a message of a MessageWriter keeps it from being compressed.
func TestMessageWriter_compression_ends(t *testing.T) {
	steps := map[string]func(c *Conn, w io.WriteCloser) error{
		"before a Write": func(c *Conn, w io.WriteCloser) error {
			c.SetCompression(-1)
			_, err := io.WriteString(w, stars(5000))
			c.SetCompression(0)
			return errors.Join(err, w.Close())
		},
		"before Close": func(c *Conn, w io.WriteCloser) error {
			c.SetCompression(-1)
			return w.Close()
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			c, s := offering(t, "permessage-deflate")
			w, err := c.MessageWriter(Text)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, stars(10_000))
			if err := step(c, w); err != nil {
				t.Fatal(err)
			}
			for _, f := range s.frames(t) {
				if f.RSV1 || strings.Trim(string(f.Payload), "*") != "" {
					t.Errorf("got the frame %+v with %d bytes, want it uncompressed", f.Header, len(f.Payload))
				}
			}
		})
	}
}
