package websocket

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A handler has received a part of a frame, and more of it arrives while a poll or Ping reads. The
// payload may look like a control frame, but it is payload.
func TestPoll_leaves_the_payload_of_an_open_frame(t *testing.T) {
	// The handler receives the first 60 bytes. A poll reads 45 bytes each time, so the five pings in
	// them could be taken for frames.
	payload := slices.Concat(bytes.Repeat([]byte("x"), 52), bytes.Repeat(clientFrame(true, Ping, "png"), 10),
		clientFrame(true, Close, closeBody(4001, "")))
	frame := append([]byte{0x82, 0x80 | 126, 0, byte(len(payload)), 0, 0, 0, 0}, payload...) // the key 0 changes nothing
	part := func(r io.Reader, between func()) ([]byte, error) {
		b := make([]byte, len(payload))
		if _, err := io.ReadFull(r, b[:5]); err != nil {
			return nil, err
		}
		between()
		_, err := io.ReadFull(r, b[5:])
		return b, err
	}
	receive := map[string]func(c *Conn, between func()) ([]byte, error){
		"MessageReader": func(c *Conn, between func()) ([]byte, error) {
			_, r, err := c.MessageReader()
			if err != nil {
				return nil, err
			}
			return part(r, between)
		},
		"Stream": func(c *Conn, between func()) ([]byte, error) { return part(c.Stream(Binary), between) },
		"ReceiveMessage": func(c *Conn, between func()) ([]byte, error) {
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, b, err := c.ReceiveMessage(); err == nil {
				t.Errorf("got the message %q before its end", b)
			}
			c.SetReadDeadline(time.Time{})
			between()
			_, b, err := c.ReceiveMessage()
			return b, err
		},
	}
	reads := map[string]func(c *Conn){
		"a poll": func(*Conn) { time.Sleep(3 * time.Second) },
		"Ping": func(c *Conn) {
			ctx, cancel := context.WithTimeout(c.Context(), time.Second)
			defer cancel()
			c.Ping(ctx) // has no answer, because the peer writes the rest of the frame meanwhile
		},
	}
	for name, receive := range receive {
		for by, read := range reads {
			t.Run(name+"/"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					w := record(p, false)
					received := make(chan struct{})
					go func() {
						w.Send(frame[:60])
						<-received
						for rest := frame[60:]; len(rest) > 0; { // each part waits for a read of the server
							n := min(len(rest), 45)
							w.Send(rest[:n])
							rest = rest[n:]
						}
					}()
					got, err := receive(c, func() { close(received); read(c) })
					if err != nil || !bytes.Equal(got, payload) {
						t.Errorf("got %d bytes %q and error %v, want %d bytes %q", len(got), got, err, len(payload), payload)
					}
					synctest.Wait()
					for _, e := range w.Events() {
						if strings.Contains(e, "pong") || strings.Contains(e, "close") {
							t.Errorf("the server has answered a frame in the payload: %v", e)
						}
					}
					w.hangUp()
					c.CloseNow()
				})
			})
		}
	}
}
