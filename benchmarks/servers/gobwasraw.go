package servers

import (
	"bytes"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
)

// gobwasRaw is gobwas/ws without its package wsutil: a hand-written loop that uses only the
// header codec and the cipher. It has no limits and does not check text.
var gobwasRaw = Contestant{
	Name:           "gobwas-raw",
	Kind:           Peer,
	Modes:          []Mode{Detached, InHandler},
	JoinsFragments: true,
	Handler:        gobwasRawHandler,
}

func gobwasRawHandler(m Mode) http.Handler {
	room := new(hub[net.Conn])
	echo := func(c net.Conn, frame []byte) { c.Write(frame) }
	chat := func(_ net.Conn, frame []byte) { room.each(func(c net.Conn) { c.Write(frame) }) }
	return services{
		EchoPath: gobwasServe(m, func(c net.Conn, br io.Reader) { gobwasRawLoop(c, br, echo) }),
		BroadcastPath: gobwasServe(m, func(c net.Conn, br io.Reader) {
			room.join(c)
			defer room.leave(c)
			gobwasRawLoop(c, br, chat)
		}),
	}
}

// gobwasRawLoop reads messages and calls send with the frame of the answer to each.
func gobwasRawLoop(c net.Conn, br io.Reader, send func(net.Conn, []byte)) {
	buf := make([]byte, ws.MaxHeaderSize) // room for the header, then the payload
	out := new(bytes.Buffer)
	var op ws.OpCode
	for {
		h, err := ws.ReadHeader(br)
		if err != nil {
			return
		}
		switch h.OpCode {
		case ws.OpClose:
			c.Write(ws.CompiledCloseNormalClosure)
			return
		case ws.OpPing: // the load generator sends only empty pings
			c.Write(ws.CompiledPong)
			continue
		}
		if h.OpCode != ws.OpContinuation {
			op, buf = h.OpCode, buf[:ws.MaxHeaderSize]
		}
		if buf, err = gobwasRawPayload(br, h, buf); err != nil {
			return
		}
		if h.Fin {
			send(c, gobwasRawFrame(out, op, buf))
			if !KeepMessages {
				buf = make([]byte, ws.MaxHeaderSize)
			}
		}
	}
}

// gobwasRawPayload appends the payload that follows h to buf.
func gobwasRawPayload(br io.Reader, h ws.Header, buf []byte) ([]byte, error) {
	start, end := len(buf), len(buf)+int(h.Length)
	if end > cap(buf) {
		buf = append(make([]byte, 0, 2*end), buf...)
	}
	buf = buf[:end]
	_, err := io.ReadFull(br, buf[start:])
	ws.Cipher(buf[start:], h.Mask, 0)
	return buf, err
}

// gobwasRawFrame writes the header before the payload and returns both.
func gobwasRawFrame(out *bytes.Buffer, op ws.OpCode, buf []byte) []byte {
	h := ws.Header{Fin: true, OpCode: op, Length: int64(len(buf) - ws.MaxHeaderSize)}
	start := ws.MaxHeaderSize - ws.HeaderSize(h)
	*out = *bytes.NewBuffer(buf[start:start])
	ws.WriteHeader(out, h)
	return buf[start:]
}
