package websocket

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// An expiry in the middle of a message keeps what has arrived, without a copy.
func TestReadDeadline_costs_no_allocation(t *testing.T) {
	const expiries = 300
	large := clientFrame(true, Binary, strings.Repeat("x", 1<<20))
	wires := map[string][]byte{
		"1 MiB without its last byte": large[:len(large)-1],
		"a fragment":                  clientFrame(false, Text, strings.Repeat("x", 5000)),
		"a part of a small message":   clientFrame(true, Text, "small")[:8],
		"a part of a header":          large[:3],
	}
	receivers := map[string]func(c *Conn, dst []byte) error{
		"ReceiveMessage":                    func(c *Conn, _ []byte) error { _, _, err := c.ReceiveMessage(); return err },
		"AppendMessage":                     func(c *Conn, dst []byte) error { _, _, err := c.AppendMessage(dst); return err },
		"ReadFrame":                         func(c *Conn, _ []byte) error { _, err := c.ReadFrame(); return err },
		"ReceiveFragments":                  func(c *Conn, _ []byte) error { _, err := c.ReceiveFragments(); return err },
		"MessageReader":                     nil,
		"ReceiveMessage in a MessageReader": nil,
	}
	for wireName, wire := range wires {
		for name, receive := range receivers {
			t.Run(fmt.Sprintf("%s of %s", name, wireName), func(t *testing.T) {
				pieces := segments(wire)
				for range expiries {
					pieces = append(pieces, nil)
				}
				c, _ := newScriptConn(t, pieces)
				if name == "ReceiveMessage in a MessageReader" {
					if _, _, err := c.MessageReader(); err != nil {
						return // the header is not complete
					}
					receive = receivers["ReceiveMessage"]
				}
				if name == "MessageReader" {
					_, r, err := c.MessageReader()
					if err == nil {
						b := make([]byte, 1<<20)
						receive = func(*Conn, []byte) error { _, err := r.Read(b); return err }
					} else {
						receive = func(c *Conn, _ []byte) error { _, _, err := c.MessageReader(); return err }
					}
				}
				dst := make([]byte, 10, 100)
				receiveUntilExpiry := func() {
					for {
						if err := receive(c, dst); err == errReadDeadline {
							return
						} else if err != nil {
							t.Fatal(err)
						}
					}
				}
				receiveUntilExpiry() // these two make room for the message
				receiveUntilExpiry()
				checkAllocs(t, "an expiry", 0, receiveUntilExpiry)
			})
		}
	}
}

// The first expiry of ReceiveMessage copies nothing either.
func TestReadDeadline_first_expiry_copies_nothing(t *testing.T) {
	message := clientFrame(true, Binary, strings.Repeat("x", 1<<20))
	receive := func(pieces [][]byte) uint64 {
		c, _ := newScriptConn(t, pieces)
		return allocated(func() {
			for {
				if _, data, err := c.ReceiveMessage(); err == nil && len(data) == 1<<20 {
					return
				} else if err != errReadDeadline {
					t.Fatalf("got %d bytes and error %v", len(data), err)
				}
			}
		})
	}
	rest := len(message) - 1
	whole, expired := receive(segments(message)), receive(segments(message[:rest], nil, message[rest:]))
	if expired > whole+100_000 {
		t.Errorf("got %d bytes allocated with an expiry and %d without", expired, whole)
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
