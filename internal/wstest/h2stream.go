package wstest

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// A Stream is a stream of an HTTP2 as a net.Conn.
type Stream struct {
	ID        uint32
	Status    int         // of the response
	Header    [][2]string // of the response
	Frames    int         // DATA frames that have arrived
	ResetCode *uint32     // of the server's RST_STREAM, nil for none

	c             *HTTP2
	window        int64
	taken         int64 // read since the last WINDOW_UPDATE
	data          []byte
	ended, shut   bool // END_STREAM was received, and sent
	err           error
	read, written h2Deadline
}

// AwaitResponse waits for the header of the response.
func (s *Stream) AwaitResponse() error {
	s.SetReadDeadline(time.Now().Add(Patience))
	defer s.SetReadDeadline(time.Time{})
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.wait(&s.read, func() bool { return s.Status != 0 })
}

// respond takes over the header of the response, or its trailer.
func (s *Stream) respond(block []byte) (err error) {
	all, err := fields(block)
	if status := value(all, ":status"); status != "" && err == nil {
		s.Header = all
		s.Status, err = strconv.Atoi(status)
	}
	return err
}

// HeaderValue returns a field of the response.
func (s *Stream) HeaderValue(name string) string { return value(s.Header, name) }

// wait waits until ready returns true. c.mu is held.
func (s *Stream) wait(d *h2Deadline, ready func() bool) error {
	for !ready() {
		switch {
		case s.err != nil:
			return s.err
		case d.passed:
			return os.ErrDeadlineExceeded
		}
		s.c.changed.Wait()
	}
	return nil
}

func (s *Stream) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	err := s.wait(&s.read, func() bool { return len(s.data) > 0 || s.ended })
	n := copy(p, s.data)
	s.data = s.data[n:]
	grant, all := c.take(s, int64(n))
	c.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	case grant > 0:
		c.grant(s.ID, uint32(grant))
	}
	if all > 0 {
		c.grant(0, uint32(all))
	}
	return n, nil
}

// Grant lets the server send n bytes more on the stream, for tests that hold the window.
func (s *Stream) Grant(n uint32) error { return s.c.grant(s.ID, n) }

func (s *Stream) Write(p []byte) (written int, err error) {
	c := s.c
	for len(p) > 0 {
		c.mu.Lock()
		err := s.wait(&s.written, func() bool { return s.window > 0 && c.window > 0 && s.err == nil })
		n := int(min(int64(len(p)), s.window, c.window, h2FrameSize))
		if err == nil {
			s.window -= int64(n)
			c.window -= int64(n)
		}
		c.mu.Unlock()
		if err == nil {
			err = c.writeFrame(h2Data, 0, s.ID, p[:n])
		}
		if err != nil {
			return written, err
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

// WritePadded sends p in one DATA frame, with pad bytes behind it. It does not look at the window.
func (s *Stream) WritePadded(p []byte, pad byte) error {
	payload := append([]byte{pad}, p...)
	return s.c.writeFrame(h2Data, h2Padded, s.ID, append(payload, make([]byte, pad)...))
}

// CloseWrite ends the client's side of the stream.
func (s *Stream) CloseWrite() error {
	s.c.mu.Lock()
	shut := s.shut || s.err != nil
	s.shut = true
	if s.ended {
		delete(s.c.streams, s.ID)
	}
	s.c.mu.Unlock()
	if shut {
		return nil
	}
	return s.c.writeFrame(h2Data, h2EndStream, s.ID, nil)
}

// Trailer ends the client's side of the stream with a header block.
func (s *Stream) Trailer(name, value string) error {
	s.c.mu.Lock()
	s.shut = true
	s.c.mu.Unlock()
	return s.c.writeFrame(h2Headers, h2EndHeaders|h2EndStream, s.ID, appendField(nil, name, value))
}

// Reset resets the stream.
func (s *Stream) Reset(code uint32) error {
	s.c.mu.Lock()
	_, open := s.c.streams[s.ID]
	delete(s.c.streams, s.ID)
	s.err = net.ErrClosed
	s.c.changed.Broadcast()
	s.c.mu.Unlock()
	if !open {
		return nil
	}
	return s.c.writeFrame(h2Reset, 0, s.ID, binary.BigEndian.AppendUint32(nil, code))
}

// Close ends the stream, and resets it if the server has not ended its side.
func (s *Stream) Close() error {
	s.CloseWrite()
	s.SetDeadline(time.Time{})
	return s.Reset(H2Cancel)
}

func (s *Stream) LocalAddr() net.Addr { return s.c.Conn.LocalAddr() }

func (s *Stream) RemoteAddr() net.Addr { return s.c.Conn.RemoteAddr() }

func (s *Stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

func (s *Stream) SetReadDeadline(t time.Time) error { return s.read.set(s.c, t) }

func (s *Stream) SetWriteDeadline(t time.Time) error { return s.written.set(s.c, t) }

// An h2Deadline wakes the methods that wait when it passes.
type h2Deadline struct {
	timer  *time.Timer
	passed bool // c.mu guards it
}

func (d *h2Deadline) set(c *HTTP2, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
	if t.IsZero() {
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d.timer == timer {
			d.passed = true
			c.changed.Broadcast()
		}
	})
	d.timer = timer
	return nil
}
