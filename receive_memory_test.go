package websocket

import (
	"fmt"
	"testing"
	"unsafe"
)

// See newPayload. The runtime allocates such large objects at the beginning of a page.
func TestReceive_large_message_lies_in_memory_as_in_its_frame(t *testing.T) {
	methods := map[string]func(c *Conn) ([]byte, error){
		"ReceiveMessage": func(c *Conn) ([]byte, error) { _, data, err := c.ReceiveMessage(); return data, err },
		"ReceiveFunc": func(c *Conn) (data []byte, err error) {
			err = c.ReceiveFunc(func(_ Opcode, lent []byte) error { data = lent; return nil })
			return data, err
		},
	}
	for name, receive := range methods {
		for _, size := range []int{64<<10 - 1, 64 << 10, 100_000, 1 << 20, 40 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				c, _ := newScriptConn(t, segments(clientFrame(true, Binary, string(make([]byte, size)))), MaxMessageSize(MaxSize))
				data, err := receive(c)
				if err != nil || len(data) != size {
					t.Fatalf("got %d bytes and error %v, want %d", len(data), err, size)
				}
				h := Header{Fin: true, Opcode: Binary}
				want := 0
				if header := h.append(nil, int64(size)); size > 1<<16-1 {
					want = len(header)
				}
				if name == "ReceiveFunc" && size <= largeReadBufferSize {
					return // it lies in the read buffer
				}
				if got := int(uintptr(unsafe.Pointer(&data[0])) % 64); got != want {
					t.Errorf("the message begins at byte %d of a cache line, want %d", got, want)
				}
			})
		}
	}
}
