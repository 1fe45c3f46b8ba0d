//go:build unix

package stress

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// noteData notes a frame of a message, or a number of a function that only sends. c.mu is held.
func (c *client) noteData(f wstest.Frame) {
	got := &c.got
	if !c.s.want.pushed || len(got.messages) < len(c.s.answers) {
		got.messages = append(got.messages, message{f.First &^ wstest.Fin, string(f.Payload)})
		got.bytes += len(f.Payload)
		return
	}
	if number := binary.BigEndian.AppendUint64(nil, got.pushed); !bytes.Equal(f.Payload, number) {
		got.broken = fmt.Sprintf("got the number %x from the function, want %x", f.Payload, number)
	}
	got.pushed++
}

// writeParts writes the parts of the script. No pong is sent inside a frame.
func (c *client) writeParts() {
	inFrame := false
	for i, p := range c.s.parts {
		time.Sleep(p.delay)
		if !inFrame {
			c.writing.Lock()
		}
		c.mark = time.Now()
		c.closed = i == len(c.s.parts)-1 && c.s.closes
		c.conn.Conn.Write(p.bytes) // the read says why it fails
		if inFrame = !p.whole; !inFrame {
			c.writing.Unlock()
		}
	}
	if inFrame { // the script ends with a part of a frame
		c.writing.Unlock()
	}
}

// send sends a frame, and sendLast sends the last frame of the client.
func (c *client) send(frame []byte) { c.write(frame, false) }

func (c *client) sendLast(frame []byte) { c.write(frame, true) }

func (c *client) write(frame []byte, last bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return
	}
	c.mark, c.closed = time.Now(), last
	c.conn.Conn.Write(frame)
}

// await waits until ready returns true, and reports whether it did before the connection ended.
func (c *client) await(ready func(*result) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !ready(&c.got) && c.got.err == nil && c.got.code == 0 {
		c.changed.Wait()
	}
	return ready(&c.got)
}

// awaitAnswers waits for n answers. Those of a Stream can be in other messages.
func (c *client) awaitAnswers(n int) bool {
	size := 0
	for _, m := range c.s.answers[:n] {
		size += len(m.text)
	}
	return c.await(func(r *result) bool {
		if c.s.receive == "Stream" {
			return r.bytes >= size
		}
		return len(r.messages) >= n
	})
}

// stays waits for d while the client answers pings, and reports whether the connection is still open.
func (c *client) stays(d time.Duration) bool {
	timer := time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	until := time.Now().Add(d)
	return c.await(func(*result) bool { return !time.Now().Before(until) })
}

// pingWithin sends a ping, and checks that its pong comes within a time.
func (c *client) pingWithin(payload string, d time.Duration) bool {
	began := time.Now()
	c.send(wstest.Message(wstest.Ping, payload))
	ok := c.await(func(r *result) bool { return slices.Contains(r.pongs, payload) })
	if took := time.Since(began); ok && took > d+c.p.allowance(began, time.Now()) {
		c.fail("the answer to a ping has taken %v, want at most %v", took, d)
	}
	return ok
}

// fail notes that the script has failed.
func (c *client) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.broken = fmt.Sprintf(format, args...)
}

// shutWrite ends the client's direction of a TCP connection.
func (c *client) shutWrite() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mark, c.closed = time.Now(), true
	c.tcp.CloseWrite()
}

// reset breaks the TCP connection, or the stream of HTTP/2.
func (c *client) reset() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mark, c.closed = time.Now(), true
	if stream, ok := c.flow.Conn.(*wstest.Stream); ok {
		stream.Reset(wstest.H2Cancel)
		return
	}
	c.tcp.SetLinger(0)
	c.tcp.Close()
}

// fallSilent lets the client read on, but send nothing.
func (c *client) fallSilent() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.silent = true
}

// pace sets the time that each read waits.
func (c *client) pace(d time.Duration) { c.flow.wait.Store(int64(d)) }

// awaitReport waits for the report of the server, unless it has come.
func (c *client) awaitReport() {
	if c.got.report == nil { // only this goroutine sets it
		c.got.report = c.p.awaitReport(c.s.id)
		c.got.reportedAt = time.Now()
	}
}
