package websocket

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// A method that does not continue a compressed message drops the rest of it.
func TestReceive_after_a_part_of_a_compressed_message(t *testing.T) {
	computes(t)
	// The bytes of the first message are all read before all of it is inflated.
	first, long := compressedMessage(Text, stars(200)), compressedMessage(Text, strings.Repeat("0123456789abcdef", 4000))
	starts := map[string]func(c *Conn) error{
		"MessageReader": func(c *Conn) error {
			_, r, err := c.MessageReader()
			if err != nil {
				return err
			}
			_, err = io.ReadFull(r, make([]byte, 10))
			return err
		},
		"Stream": func(c *Conn) error {
			_, err := io.ReadFull(c.Stream(Text), make([]byte, 10))
			return err
		},
	}
	for name, start := range starts {
		for how, pieces := range map[string][][]byte{
			"all of it is used":     segments(slices.Concat(first, compressedMessage(Text, "next"))),
			"all of it has arrived": segments(slices.Concat(long, compressedMessage(Text, "next"))),
			"the rest comes later":  segments(long[:20], slices.Concat(long[20:], compressedMessage(Text, "next"))),
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				c, _ := newScriptConn(t, pieces, Compression(0))
				if err := start(c); err != nil || isInflating(c) != (how == "all of it is used") {
					t.Fatalf("got error %v, and all bytes are used: %t", err, isInflating(c))
				}
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "next" {
					t.Errorf("got %q and error %v, want the next message", data, err)
				}
				wantNoDecoder(t, c)
			})
			t.Run(name+" and Discard "+how, func(t *testing.T) {
				c, _ := newScriptConn(t, append(pieces, nil, compressedMessage(Text, "last")), Compression(0))
				if err := start(c); err != nil {
					t.Fatal(err)
				}
				if err := c.Discard(); !isTimeout(err) {
					t.Fatalf("got error %v, want that of the deadline", err)
				}
				wantNoDecoder(t, c)
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "last" {
					t.Errorf("got %q and error %v, want the last message", data, err)
				}
			})
		}
	}
}

// The reader of a message returns what is inflated although the peer has closed the connection
// meanwhile.
func TestMessageReader_compressed_before_the_end(t *testing.T) {
	text := stars(200) // its bytes are all read before all of it is inflated
	c, p := newTCPConn(t, Compression(0))
	p.Write(slices.Concat(compressedMessage(Text, text), clientFrame(true, Close, closeBody(1000, ""))))
	_, r, err := c.MessageReader()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 10)
	if _, err := io.ReadFull(r, data); err != nil {
		t.Fatal(err)
	}
	hangUp(p)
	pollOnce(c)
	rest, err := io.ReadAll(r)
	if got := string(data) + string(rest); err != nil || got != text {
		t.Errorf("got %d bytes and error %v, want %d", len(got), err, len(text))
	}
}

// Close does not wait for a message that is not read to its end.
func TestClose_in_a_compressed_message(t *testing.T) {
	c, p := newTCPConn(t, Compression(0))
	p.Write(compressedMessage(Text, stars(200)))
	_, r, err := c.MessageReader()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if !isInflating(c) {
		t.Fatal("not all bytes on the wire are used")
	}
	done := make(chan error, 1)
	go func() { done <- c.Close(StatusNormalClosure, "") }()
	p.expectClose(StatusNormalClosure)
	p.Write(clientFrame(true, Close, closeBody(1000, "")))
	hangUp(p)
	if err := await(t, done); err != nil {
		t.Errorf("Close returned %v", err)
	}
	if _, err := r.Read(make([]byte, 10)); err == nil {
		t.Error("Read returned no error after Close")
	}
}

// The decoder may have taken all bytes that have arrived before all of them are inflated. What is left
// comes without another byte of the peer.
func TestReceive_inflated_bytes_without_waiting(t *testing.T) {
	const size, taken = 259, 100
	payload := "\x4a\x1c\x05" // a fixed block: the literal 'a', and a match of 258 bytes
	whole := withBits(rsv1Bit, clientFrame(true, Text, payload+"\x00"))
	pieces := map[string][][]byte{
		"a fragment":        segments(withBits(rsv1Bit, clientFrame(false, Text, payload)), nil, clientFrame(true, Continuation, "\x00")),
		"a part of a frame": segments(whole[:len(whole)-1], nil, whole[len(whole)-1:]),
		"a fragment in parts, before an empty one": segments(withBits(rsv1Bit, clientFrame(false, Text, payload[:2])), clientFrame(false, Continuation, payload[2:]),
			clientFrame(false, Continuation, ""), nil, clientFrame(true, Continuation, "\x00")),
	}
	for name, open := range map[string]func(c *Conn) (io.Reader, error){
		"MessageReader": func(c *Conn) (io.Reader, error) { _, r, err := c.MessageReader(); return r, err },
		"Stream":        func(c *Conn) (io.Reader, error) { return c.Stream(Text), nil },
	} {
		for how, pieces := range pieces {
			t.Run(name+", "+how, func(t *testing.T) {
				c, _ := newScriptConn(t, append(pieces, clientFrame(true, Text, "next")), Compression(0))
				r, err := open(c)
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{taken, taken, size - 2*taken} { // then the last of them fills the slice
					if n, err := io.ReadFull(r, make([]byte, n)); err != nil {
						t.Fatalf("got %d bytes and error %v, want all %d", n, err, size)
					}
				}
				if n, err := r.Read(make([]byte, size)); n != 0 || !isTimeout(err) {
					t.Errorf("got %d bytes and error %v, want an expired deadline", n, err)
				}
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "next" {
					t.Errorf("got %q and error %v, want the next message", data, err)
				}
				wantNoDecoder(t, c)
			})
			t.Run(name+", "+how+", dropped", func(t *testing.T) {
				c, _ := newScriptConn(t, append(slices.DeleteFunc(slices.Clone(pieces), func(b []byte) bool { return b == nil }), clientFrame(true, Text, "next")), Compression(0))
				r, err := open(c)
				if err != nil {
					t.Fatal(err)
				}
				io.ReadFull(r, make([]byte, taken))
				if _, data, err := c.ReceiveMessage(); err != nil || string(data) != "next" {
					t.Errorf("got %q and error %v, want the next message", data, err)
				}
				wantNoDecoder(t, c)
			})
		}
	}
}
