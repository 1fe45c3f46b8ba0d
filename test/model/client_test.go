package model

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A client sends the frames of a scenario and checks what the server sends: a pong for each ping of
// the scenario, pings, and a close frame with 1000 at the end.
type client struct {
	random
	scenario *scenario
	conn     *wstest.Client
	answered int // how many of the pings are answered

	mu    sync.Mutex
	pongs []byte // answers to the server's pings, to be sent between two frames
}

func (s *scenario) newClient(conn *wstest.Client) *client {
	return &client{random: newRandom(s.seed, 1), scenario: s, conn: conn}
}

// run sends the frames without the first early bytes, which the server has already. It returns when
// the server has ended the connection.
func (c *client) run(early int) error {
	read := make(chan error, 1)
	go func() {
		err := c.read()
		if err != nil {
			c.conn.Conn.Close() // so that write does not wait for the server
		}
		read <- err
	}()
	err := c.write(early)
	return errors.Join(<-read, err)
}

// write sends the frames, a random number of them at once, and answers pings between them. It sends
// nothing after the last message, because the server then closes the connection.
func (c *client) write(early int) error {
	total := len(c.scenario.wire())
	longest := []int{1 + total/1000, 100 + total/100, 20_000, total}[c.IntN(4)]
	for frames := c.scenario.frames; len(frames) > 0; {
		n := c.upTo(len(frames))
		b := slices.Concat(frames[:n]...)
		frames = frames[n:]
		skip := min(early, len(b))
		early -= skip
		b = b[skip:]
		if skip == 0 { // otherwise b may begin inside a frame
			b = append(c.takePongs(), b...)
		}
		if err := c.writePieces(b, longest); err != nil {
			return err
		}
	}
	return nil
}

// writePieces writes b in pieces of at most longest bytes.
func (c *client) writePieces(b []byte, longest int) error {
	for len(b) > 0 {
		n := min(len(b), c.upTo(longest))
		if _, err := c.conn.Conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		if d := c.scenario.pauses.client; d > 0 && c.oneIn(3) {
			time.Sleep(c.duration(d))
		}
	}
	return nil
}

func (c *client) takePongs() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.pongs
	c.pongs = nil
	return b
}

// read reads and checks all frames, and answers the close frame.
func (c *client) read() error {
	for {
		f, err := c.conn.ReadFrame()
		if err != nil {
			return fmt.Errorf("after %d of %d pongs: %w", c.answered, len(c.scenario.pings), err)
		}
		switch f.Opcode() {
		case wstest.Ping:
			c.mu.Lock()
			c.pongs = append(c.pongs, wstest.Message(wstest.Pong, string(f.Payload))...)
			c.mu.Unlock()
		case wstest.Pong:
			err = c.checkPong(string(f.Payload))
		case wstest.Close:
			return c.readEnd(f)
		default:
			err = fmt.Errorf("got %v, want only control frames", f)
		}
		if err != nil {
			return err
		}
	}
}

// checkPong checks that a pong answers the next ping, or a later one if the server may drop pongs.
func (c *client) checkPong(payload string) error {
	unanswered := c.scenario.pings[c.answered:]
	i := slices.Index(unanswered, payload)
	if i < 0 || i > 0 && !c.scenario.mayDropPongs() {
		return fmt.Errorf("got a pong %q, want one for the first of %q", payload, unanswered)
	}
	c.answered += i + 1
	return nil
}

// readEnd checks the close frame, answers it, and reads the end of the stream.
func (c *client) readEnd(f wstest.Frame) error {
	if code, reason, err := f.CloseCode(); err != nil || code != 1000 {
		return fmt.Errorf("got a close frame with %d %q and error %v, want 1000", code, reason, err)
	}
	if rest := c.scenario.pings[c.answered:]; len(rest) > 0 {
		return fmt.Errorf("the server has not answered the pings %q", rest)
	}
	if _, err := c.conn.Conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1000, ""))); err != nil {
		return err
	}
	if _, err := c.conn.ReadFrame(); err != io.EOF {
		return fmt.Errorf("got error %v after the close frame, want EOF", err)
	}
	return nil
}
