package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/f44ffc3b/websocket"
)

// reportEvery is the number of bytes between two reports of progress.
const reportEvery = 1 << 20

// maxFiles is how many files a connection can upload. A file of one byte takes a block of the disk and
// a line of the log, so without a limit they would be cheap for a client and not for the server.
const maxFiles = 100

// A receiver stores the files of one connection, one after the other.
type receiver struct {
	conn     *websocket.Conn
	dir      string
	limit    int64
	patience time.Duration // for a whole file, from the end of the last one

	files    int      // how many have begun
	file     *os.File // the file of the message in progress; nil between messages
	hash     hash.Hash
	size     int64 // bytes stored so far
	reported int64 // the size in the last report
}

// receive reads frames until the connection ends or the client breaks a rule. The
// library closes the connection as the error says.
func (r *receiver) receive() error {
	r.expectFile()
	for {
		f, err := r.conn.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return refuse(websocket.StatusPolicyViolation, "want a whole file within %v", r.patience)
		}
		if err != nil {
			return err
		}
		if err := r.check(f); err != nil {
			return err
		}
		if err := r.handle(f); err != nil {
			return err
		}
	}
}

// expectFile sets the deadline for the end of the next file. Without it, a client that
// sends one byte a minute would hold a connection and an unfinished file for ever.
func (r *receiver) expectFile() {
	r.conn.SetReadDeadline(time.Now().Add(r.patience))
}

// check returns an error if a frame breaks a rule of RFC 6455 that ReadFrame does not
// check, or a rule of this protocol.
func (r *receiver) check(f websocket.Frame) error {
	switch {
	case f.RSV1 || f.RSV2 || f.RSV3 || f.Opcode.IsReserved():
		return refuse(websocket.StatusProtocolError, "reserved bits and opcodes need an extension")
	case f.Opcode.IsControl() && (!f.Fin || len(f.Payload) > 125):
		return refuse(websocket.StatusProtocolError, "want control frames of at most 125 bytes that are not fragmented")
	case f.Opcode.IsControl():
		return nil
	case f.Opcode == websocket.Text:
		return refuse(websocket.StatusUnsupportedData, "want a file in a binary message")
	case f.Opcode == websocket.Continuation && r.file == nil:
		return refuse(websocket.StatusProtocolError, "a continuation frame needs a message to continue")
	case f.Opcode == websocket.Binary && r.file != nil:
		return refuse(websocket.StatusProtocolError, "a new message begins before the last one has ended")
	case f.Opcode == websocket.Binary && r.files == maxFiles:
		return refuse(websocket.StatusPolicyViolation, "want at most %d files", maxFiles)
	case int64(len(f.Payload)) > r.limit-r.size:
		return refuse(websocket.StatusMessageTooBig, "want a file of at most %d bytes", r.limit)
	}
	return nil
}

func refuse(code websocket.StatusCode, format string, args ...any) error {
	return &websocket.CloseError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// handle answers or stores a checked frame.
func (r *receiver) handle(f websocket.Frame) error {
	switch f.Opcode {
	case websocket.Ping:
		return r.write(websocket.Pong, f.Payload)
	case websocket.Pong:
		return nil // the answer to a ping of the keepalive, which has noticed it
	case websocket.Close:
		return r.answerClose()
	case websocket.Binary:
		if err := r.begin(); err != nil {
			return err
		}
	}
	return r.store(f)
}

// answerClose answers the client's close frame. Its error ends receive; the library then
// closes the connection and does not send a second close frame.
func (r *receiver) answerClose() error {
	if err := r.write(websocket.Close, nil); err != nil {
		return err
	}
	return &websocket.CloseError{Code: websocket.StatusNormalClosure}
}

// write sends a frame that is not fragmented.
func (r *receiver) write(op websocket.Opcode, payload []byte) error {
	return r.conn.WriteFrame(websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: op},
		Payload: payload,
	})
}

// begin creates the file for a message that begins.
func (r *receiver) begin() (err error) {
	r.files++
	r.hash, r.size, r.reported = sha256.New(), 0, 0
	r.file, err = os.CreateTemp(r.dir, "*.part")
	return err
}

// store appends the payload of a frame to the file. The last frame of the message
// finishes the file.
func (r *receiver) store(f websocket.Frame) error {
	if _, err := r.file.Write(f.Payload); err != nil {
		return err
	}
	r.hash.Write(f.Payload)
	r.size += int64(len(f.Payload))
	if f.Fin {
		return r.finish()
	}
	if r.size-r.reported < reportEvery {
		return nil
	}
	r.reported = r.size
	return r.report(progress{Received: r.size})
}

// finish renames the file to its SHA-256 and reports it to the client.
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
	r.expectFile()
	return r.report(done)
}

// report sends a report of progress.
func (r *receiver) report(p progress) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return r.write(websocket.Text, text)
}

// discard removes the file of a message that has not ended, if there is one.
func (r *receiver) discard() {
	if r.file == nil {
		return
	}
	r.file.Close()
	os.Remove(r.file.Name())
}
