package wstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// The types of HTTP/2 frames, and their flags (RFC 9113 section 6).
const (
	h2Data, h2Headers, h2Reset, h2Settings, h2Ping, h2GoAway, h2Window = 0, 1, 3, 4, 6, 7, 8

	h2EndStream, h2Ack, h2EndHeaders, h2Padded = 0x1, 0x1, 0x4, 0x8
)

// Error codes of RFC 9113 section 7.
const (
	H2NoError       = 0x0
	H2InternalError = 0x2
	H2Cancel        = 0x8
)

const h2FrameSize = 16 << 10 // of the frames that both sides may send

// An HTTP2 is an HTTP/2 connection of a client that a test controls, with any number of streams.
// A goroutine reads from it until it is closed.
type HTTP2 struct {
	Conn net.Conn

	writing sync.Mutex // held for one frame
	done    chan struct{}

	mu              sync.Mutex
	changed         *sync.Cond
	streams         map[uint32]*Stream
	last            uint32 // the number of the newest stream
	window          int64  // how much data the client may still send
	streamWindow    int64  // of new streams
	granted         int64  // the window of new streams for the server
	taken           int64  // of all streams, see take
	settled         bool   // the settings of the server have arrived
	extendedConnect bool
	handedOut       int // see opened
	goAway          bool
	holding         bool // see HoldWindow
	err             error
}

// NewHTTP2 begins HTTP/2 on conn, and waits for the settings of the server. window is how much
// the server may send on a new stream, 0 for 1 MiB.
func NewHTTP2(conn net.Conn, window uint32) (*HTTP2, error) {
	c := &HTTP2{Conn: conn, done: make(chan struct{}), streams: map[uint32]*Stream{}, window: 65535, streamWindow: 65535}
	c.changed = sync.NewCond(&c.mu)
	if window == 0 {
		window = 1 << 20
	}
	c.granted = int64(window)
	settings := []byte{0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4} // HEADER_TABLE_SIZE and ENABLE_PUSH 0
	settings = binary.BigEndian.AppendUint32(settings, window)
	_, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if err == nil {
		err = c.writeFrame(h2Settings, 0, 0, settings)
	}
	if err == nil {
		err = c.grant(0, 1<<30)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	go c.run()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.settled && c.err == nil {
		c.changed.Wait()
	}
	return c, c.err
}

// DialHTTP2 begins HTTP/2 without TLS on a TCP connection to addr, and closes it when the test
// ends.
func DialHTTP2(t testing.TB, addr string, window uint32) *HTTP2 {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewHTTP2(conn, window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Close closes the connection, and waits for its goroutine.
func (c *HTTP2) Close() {
	c.Conn.Close()
	<-c.done
}

// ExtendedConnect reports whether the server offers extended CONNECT.
func (c *HTTP2) ExtendedConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extendedConnect
}

// Err returns why the connection has ended, or nil.
func (c *HTTP2) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// HoldWindow keeps back the WINDOW_UPDATE frames of all streams from now on.
func (c *HTTP2) HoldWindow(hold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = hold
}

// Streams returns how many streams are open.
func (c *HTTP2) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// opened returns how often it was called: how many streams of the connection a Load has opened.
func (c *HTTP2) opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handedOut++
	return c.handedOut
}

func (c *HTTP2) writeFrame(kind, flags byte, stream uint32, payload []byte) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(append(b, payload...))
	return err
}

// GoAway tells the server that the client opens no more streams.
func (c *HTTP2) GoAway() error {
	return c.writeFrame(h2GoAway, 0, 0, make([]byte, 8)) // the last stream is 0, and there is no error
}

// grant lets the server send n bytes more on a stream, or on the connection for stream 0.
func (c *HTTP2) grant(stream, n uint32) error {
	return c.writeFrame(h2Window, 0, stream, binary.BigEndian.AppendUint32(nil, n))
}

// run reads frames until the connection ends.
func (c *HTTP2) run() {
	defer close(c.done)
	for {
		head := make([]byte, 9)
		_, err := io.ReadFull(c.Conn, head)
		if err == nil {
			payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err = io.ReadFull(c.Conn, payload); err == nil {
				err = c.handle(head[3], head[4], binary.BigEndian.Uint32(head[5:]), payload)
			}
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *HTTP2) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("the HTTP/2 connection has ended: %w", err)
	for id, s := range c.streams {
		s.err = c.err
		delete(c.streams, id)
	}
	c.changed.Broadcast()
}

func (c *HTTP2) handle(kind, flags byte, id uint32, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := c.streams[id]
	switch {
	case kind == h2Settings && flags&h2Ack == 0:
		c.adopt(payload)
		return c.writeFrame(h2Settings, h2Ack, 0, nil)
	case kind == h2Ping && flags&h2Ack == 0:
		return c.writeFrame(h2Ping, h2Ack, 0, payload)
	case kind == h2GoAway:
		c.goAway = true
	case kind == h2Window && id == 0:
		c.window += int64(binary.BigEndian.Uint32(payload))
	case s == nil:
	case kind == h2Window:
		s.window += int64(binary.BigEndian.Uint32(payload))
	case kind == h2Headers && flags&h2EndHeaders == 0:
		return errors.New("the client of wstest does not read CONTINUATION frames")
	case kind == h2Headers:
		if err := s.respond(payload); err != nil {
			return err
		}
	case kind == h2Data:
		s.data = append(s.data, payload...)
		s.Frames++
	case kind == h2Reset:
		code := binary.BigEndian.Uint32(payload)
		s.ResetCode = &code
		if !s.ended {
			s.err = fmt.Errorf("the server has reset the stream with the code %d", code)
		}
		delete(c.streams, id)
	}
	if s != nil && (kind == h2Data || kind == h2Headers) && flags&h2EndStream != 0 {
		s.ended = true
		if s.shut {
			delete(c.streams, id)
		}
	}
	return nil
}

// adopt takes over the settings of the server.
func (c *HTTP2) adopt(settings []byte) {
	c.settled = true
	for ; len(settings) >= 6; settings = settings[6:] {
		value := binary.BigEndian.Uint32(settings[2:])
		switch binary.BigEndian.Uint16(settings) {
		case 4: // INITIAL_WINDOW_SIZE
			for _, s := range c.streams {
				s.window += int64(value) - c.streamWindow
			}
			c.streamWindow = int64(value)
		case 8: // ENABLE_CONNECT_PROTOCOL
			c.extendedConnect = value == 1
		}
	}
}

// Request opens a stream with these header fields, without waiting for the response. end sets
// END_STREAM.
func (c *HTTP2) Request(end bool, fields ...[2]string) (*Stream, error) {
	var block []byte
	for _, f := range fields {
		block = appendField(block, f[0], f[1])
	}
	flags := byte(h2EndHeaders)
	if end {
		flags |= h2EndStream
	}
	c.mu.Lock()
	defer c.mu.Unlock() // the numbers must come in order
	if c.err != nil {
		return nil, c.err
	}
	c.last += 2
	s := &Stream{ID: c.last - 1, c: c, window: c.streamWindow, shut: end}
	c.streams[s.ID] = s
	return s, c.writeFrame(h2Headers, flags, s.ID, block)
}

// Connect opens a stream for a WebSocket and waits for the response. A change "name: value"
// replaces the field of that name, or adds one, and a change "name" removes it.
func (c *HTTP2) Connect(changes ...string) (*Stream, error) {
	fields := [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"},
		{":authority", Host}, {"sec-websocket-version", "13"}}
	for _, change := range changes {
		name, value, has := strings.Cut(change, ": ")
		kept := fields[:0:0]
		for _, f := range fields {
			switch {
			case f[0] != name:
				kept = append(kept, f)
			case has:
				kept, has = append(kept, [2]string{name, value}), false
			}
		}
		if fields = kept; has {
			fields = append(fields, [2]string{name, value})
		}
	}
	s, err := c.Request(false, fields...)
	if err != nil {
		return nil, err
	}
	return s, s.AwaitResponse()
}

// ConnectClient opens a stream for a WebSocket, and returns a client on it.
func (c *HTTP2) ConnectClient(t testing.TB, changes ...string) *Client {
	t.Helper()
	s, err := c.Connect(changes...)
	if err == nil && s.Status != 200 {
		err = fmt.Errorf("got the status %d, want 200", s.Status)
	}
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, s)
}

// take notes that n bytes of s were read. It returns how much more the server may send, on s and
// in all: as other clients do, it waits until half of a window is used. c.mu is held.
func (c *HTTP2) take(s *Stream, n int64) (grant, all int64) {
	if c.holding {
		return 0, 0
	}
	s.taken, c.taken = s.taken+n, c.taken+n
	if s.taken > c.granted/2 && !s.ended && s.err == nil {
		grant, s.taken = s.taken, 0
	}
	if c.taken > 1<<29 {
		all, c.taken = c.taken, 0
	}
	return grant, all
}
