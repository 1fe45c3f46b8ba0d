package websocket_test

import (
	"bytes"
	"fmt"

	"github.com/f44ffc3b/websocket"
)

// With ReadFrame, the program handles every frame itself, also pings and the close frame.
func ExampleConn_ReadFrame() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return err
			}
			if f.Opcode == websocket.Close {
				return nil // the library then sends the answer
			}
			fmt.Printf("%v of %d bytes, fin %t\n", f.Opcode, f.Length, f.Fin)
		}
	})
	talk(h, "hello")
	// Output:
	// text of 5 bytes, fin true
	// server closes with 1000 (normal closure) ""
}

// The frames show how the client has split a message. ReceiveMessage does not show that.
func ExampleConn_ReceiveFragments() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			frames, err := c.ReceiveFragments()
			if err != nil {
				return err
			}
			op, data, err := websocket.ProcessFragments(frames)
			if err != nil {
				return err
			}
			fmt.Printf("%v %q in %d frame(s)\n", op, data, len(frames))
		}
	})
	talk(h, "hello")
	// Output:
	// text "hello" in 1 frame(s)
	// server closes with 1000 (normal closure) ""
}

func ExampleProcessFragments() {
	frames := []websocket.Frame{
		{Header: websocket.Header{Opcode: websocket.Text}, Payload: []byte("Hel")},
		{Header: websocket.Header{Fin: true, Opcode: websocket.Continuation}, Payload: []byte("lo")},
	}
	op, data, err := websocket.ProcessFragments(frames)
	fmt.Printf("%v %q %v\n", op, data, err)

	_, _, err = websocket.ProcessFragments(frames[1:])
	fmt.Println(err)
	// Output:
	// text "Hello" <nil>
	// websocket: protocol error: message begins with a continuation frame (RFC 6455 section 5.4)
}

// A client masks its frames. A test of a server could send this frame: the masked "Hello"
// of RFC 6455 section 5.7.
func ExampleAppendFrame() {
	payload := []byte("Hello")
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	websocket.Mask(payload, key, 0)

	frame := websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: websocket.Text, Masked: true, MaskKey: key},
		Payload: payload,
	}
	fmt.Printf("% x\n", websocket.AppendFrame(nil, frame))
	// Output: 81 85 37 fa 21 3d 7f 9f 4d 51 58
}

// A payload that arrives in pieces is unmasked piece by piece.
func ExampleMask() {
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	pos := 0
	for _, piece := range [][]byte{{0x7F, 0x9F, 0x4D}, {0x51, 0x58}} {
		pos = websocket.Mask(piece, key, pos)
		fmt.Printf("%q\n", piece)
	}
	// Output:
	// "Hel"
	// "lo"
}

// ReadFrame returns the payload as it was sent. Unmask unmasks it.
func ExampleReadFrame() {
	wire := bytes.NewReader([]byte{0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58})
	frame, err := websocket.ReadFrame(wire, 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v, masked: %v, % x\n", frame.Opcode, frame.Masked, frame.Payload)
	frame.Unmask()
	fmt.Printf("%v, masked: %v, %s\n", frame.Opcode, frame.Masked, frame.Payload)
	// Output:
	// text, masked: true, 7f 9f 4d 51 58
	// text, masked: false, Hello
}

// A proxy passes a close frame on, and adds its name to the reason. A reason that is too
// long is cut.
func ExampleParseClose() {
	received := []byte("\x03\xe9maintenance")
	closed, err := websocket.ParseClose(received)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(closed.Code, closed.Reason)

	passedOn := websocket.AppendClose(nil, closed.Code, "backend: "+closed.Reason)
	fmt.Printf("%q\n", passedOn)

	_, err = websocket.ParseClose([]byte("\x03\xee"))
	fmt.Println(err)
	// Output:
	// 1001 (going away) maintenance
	// "\x03\xe9backend: maintenance"
	// websocket: protocol error: close code 1006 (abnormal closure) must not be sent (RFC 6455 section 7.4)
}

// With WriteFrame, the program builds its own close frame.
func ExampleAppendClose() {
	frame := websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: websocket.Close},
		Payload: websocket.AppendClose(nil, 4001, "enough"),
	}
	fmt.Printf("% x\n", websocket.AppendFrame(nil, frame))
	// Output: 88 08 0f a1 65 6e 6f 75 67 68
}
