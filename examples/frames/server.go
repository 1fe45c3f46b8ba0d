package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"log"
	"os"
	"path/filepath"

	"github.com/f44ffc3b/websocket"
)

// tellEvery is how many bytes there are between two text frames of progress.
const tellEvery = 1 << 20

// A receiver takes the files of one connection, one after the other.
type receiver struct {
	conn  *websocket.Conn
	dir   string
	limit int64

	// The file whose message has begun and not ended; nil between messages.
	file *os.File
	hash hash.Hash
	size int64
	told int64 // the size at the last progress
}

// receive reads frames until the connection ends. What it returns is how the
// connection is closed.
func (r *receiver) receive() error {
	for {
		f, err := r.conn.ReadFrame()
		if err != nil {
			return err
		}
		if err := r.check(f); err != nil {
			return err
		}
		if err := r.take(f); err != nil {
			return err
		}
	}
}

// check holds a frame against the rules of RFC 6455 that ReadFrame leaves to its
// caller, and against those of this protocol.
func (r *receiver) check(f websocket.Frame) error {
	switch {
	case f.RSV1 || f.RSV2 || f.RSV3 || f.Opcode.IsReserved():
		return refuse(websocket.StatusProtocolError, "nothing reserved was agreed on")
	case f.Opcode.IsControl() && (!f.Fin || len(f.Payload) > 125):
		return refuse(websocket.StatusProtocolError, "want control frames of at most 125 bytes in one piece")
	case f.Opcode.IsControl():
		return nil
	case f.Opcode == websocket.Text:
		return refuse(websocket.StatusUnsupportedData, "want a file in a binary message")
	case f.Opcode == websocket.Continuation && r.file == nil:
		return refuse(websocket.StatusProtocolError, "there is no message to continue")
	case f.Opcode == websocket.Binary && r.file != nil:
		return refuse(websocket.StatusProtocolError, "the last message has not ended")
	case int64(len(f.Payload)) > r.limit-r.size:
		return refuse(websocket.StatusMessageTooBig, "want a file of at most %d bytes", r.limit)
	}
	return nil
}

func refuse(code websocket.StatusCode, format string, args ...any) error {
	return &websocket.CloseError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// take acts on a frame that is in order.
func (r *receiver) take(f websocket.Frame) error {
	switch f.Opcode {
	case websocket.Ping:
		return r.write(websocket.Pong, f.Payload)
	case websocket.Pong:
		return nil // to the keepalive, which needs no more than that something came
	case websocket.Close:
		return r.goodbye()
	case websocket.Binary:
		if err := r.begin(); err != nil {
			return err
		}
	}
	return r.store(f)
}

// goodbye answers a close frame. With that the handshake is done, and closing the
// connection sends no second one.
func (r *receiver) goodbye() error {
	if err := r.write(websocket.Close, nil); err != nil {
		return err
	}
	return &websocket.CloseError{Code: websocket.StatusNormalClosure}
}

func (r *receiver) write(op websocket.Opcode, payload []byte) error {
	return r.conn.WriteFrame(websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: op},
		Payload: payload,
	})
}

// begin makes the file of a message that begins.
func (r *receiver) begin() (err error) {
	r.hash, r.size, r.told = sha256.New(), 0, 0
	r.file, err = os.CreateTemp(r.dir, "*.part")
	return err
}

// store appends a fragment to the file, and the last one ends it.
func (r *receiver) store(f websocket.Frame) error {
	if _, err := r.file.Write(f.Payload); err != nil {
		return err
	}
	r.hash.Write(f.Payload)
	r.size += int64(len(f.Payload))
	if f.Fin {
		return r.finish()
	}
	if r.size-r.told < tellEvery {
		return nil
	}
	r.told = r.size
	return r.tell(progress{Received: r.size})
}

// finish gives the file its name, which is its SHA-256.
func (r *receiver) finish() error {
	sum := hex.EncodeToString(r.hash.Sum(nil))
	file := r.file
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(r.dir, sum)); err != nil {
		return err
	}
	r.file = nil
	log.Printf("%v uploaded %d bytes: %s", r.conn.RemoteAddr(), r.size, sum)
	done := progress{Received: r.size, SHA256: sum}
	r.size = 0
	return r.tell(done)
}

func (r *receiver) tell(p progress) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return r.write(websocket.Text, text)
}

// discard removes the file of a message that will not end.
func (r *receiver) discard() {
	if r.file == nil {
		return
	}
	r.file.Close()
	os.Remove(r.file.Name())
}
