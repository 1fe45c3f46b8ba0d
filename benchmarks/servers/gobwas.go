package servers

import (
	"bytes"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

var gobwas = Contestant{
	Name:           "gobwas",
	Kind:           Peer,
	Modes:          []Mode{Detached, InHandler},
	ChecksUTF8:     true,
	JoinsFragments: true,
	More:           []string{QueuePath},
	Handler:        gobwasHandler,
}

func gobwasHandler(m Mode) http.Handler {
	room := new(hub[net.Conn])
	queues := new(hub[*writer[[]byte]])
	return services{
		EchoPath:      gobwasServe(m, gobwasEcho),
		BroadcastPath: gobwasServe(m, func(c net.Conn, br io.Reader) { gobwasChat(room, c, br) }),
		QueuePath:     gobwasServe(m, func(c net.Conn, br io.Reader) { gobwasQueue(queues, c, br) }),
	}
}

// gobwasServe reads through net/http's buffer. The buffer may hold bytes of the first
// frame, and saves a read of the socket for each header. When memory is measured, it reads
// from the socket, as the documentation of gobwas/ws does, so that the buffer can be freed.
func gobwasServe(m Mode, fn func(net.Conn, io.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, rw, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		var src io.Reader = rw.Reader
		if !KeepMessages && rw.Reader.Buffered() == 0 {
			src = c
		}
		run(m, func() {
			defer c.Close()
			fn(c, src)
		})
	}
}

// gobwasReader returns a reader of messages with limits that checks text.
func gobwasReader(c net.Conn, br io.Reader) *wsutil.Reader {
	return &wsutil.Reader{
		Source:         br,
		State:          ws.StateServerSide,
		CheckUTF8:      true,
		MaxFrameSize:   messageLimit,
		MaxMessageSize: messageLimit,
		OnIntermediate: wsutil.ControlFrameHandler(c, ws.StateServerSide),
	}
}

// gobwasNext reads the next message into buf, and answers control frames.
func gobwasNext(r *wsutil.Reader, buf *bytes.Buffer) (ws.OpCode, error) {
	for {
		h, err := r.NextFrame()
		if err != nil {
			return 0, err
		}
		if h.OpCode.IsControl() {
			if err := r.OnIntermediate(h, r); err != nil {
				return 0, err
			}
			continue
		}
		buf.Reset()
		_, err = buf.ReadFrom(r)
		return h.OpCode, err
	}
}

func gobwasEcho(c net.Conn, br io.Reader) {
	r := gobwasReader(c, br)
	var buf bytes.Buffer
	for {
		op, err := gobwasNext(r, &buf)
		if err != nil {
			return
		}
		if wsutil.WriteServerMessage(c, op, buf.Bytes()) != nil {
			return
		}
		if !KeepMessages {
			buf = bytes.Buffer{}
		}
	}
}

func gobwasChat(room *hub[net.Conn], c net.Conn, br io.Reader) {
	room.join(c)
	defer room.leave(c)
	gobwasCompile(c, br, func(frame []byte) {
		room.each(func(c net.Conn) { c.Write(frame) })
	})
}

// gobwasQueue has gorilla's queue, because gobwas has no example of a broadcast.
func gobwasQueue(room *hub[*writer[[]byte]], c net.Conn, br io.Reader) {
	w := newWriter(queueLength, func(frame []byte) error {
		_, err := c.Write(frame)
		return err
	}, func() { c.Close() })
	w.member(room, func() {
		gobwasCompile(c, br, func(frame []byte) {
			room.each(func(w *writer[[]byte]) { w.send(frame) })
		})
	})
}

// gobwasCompile reads messages and calls send with the frame of each.
func gobwasCompile(c net.Conn, br io.Reader, send func(frame []byte)) {
	r := gobwasReader(c, br)
	var buf bytes.Buffer
	for {
		op, err := gobwasNext(r, &buf)
		if err != nil {
			return
		}
		send(ws.MustCompileFrame(ws.NewFrame(op, true, buf.Bytes())))
	}
}
