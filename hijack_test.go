package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUpgrade_through_wrapped_ResponseWriters(t *testing.T) {
	s := newUpgradeServer(t, wrapWriter(func(w http.ResponseWriter) http.ResponseWriter {
		return unwrapper{unwrapper{w}}
	}))
	nc, br := s.dial(t, rawHandshake())
	resp, _ := readResponse(t, br)
	nc.Close()
	if resp.StatusCode != 101 {
		t.Errorf("status %d, want 101", resp.StatusCode)
	}
	if res := s.result(t); res.conn == nil {
		t.Errorf("Upgrade returned %v", res.err)
	}
}

func TestUpgrade_names_what_cannot_be_hijacked(t *testing.T) {
	noConn := func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }
	failing := func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("not today") }
	tests := []struct {
		name       string
		middleware func(http.Handler) http.Handler
		want       string
	}{
		{
			"http.TimeoutHandler",
			func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") },
			"*http.timeoutWriter cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"a wrapper",
			wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return &plainWrapper{w} }),
			"*websocket.plainWrapper cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"a wrapper in one that can be looked through",
			wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return unwrapper{plainWrapper{w}} }),
			"websocket.unwrapper around websocket.plainWrapper cannot be hijacked: middleware that wraps the http.ResponseWriter needs a Hijack or an Unwrap method",
		},
		{
			"an error",
			wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return hijackWrapper{w, failing} }),
			"hijacking the connection from websocket.hijackWrapper: not today",
		},
		{
			"no connection and no error",
			wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return hijackWrapper{w, noConn} }),
			"hijacking the connection from websocket.hijackWrapper: its Hijack method returned no connection",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, test.middleware)
			nc, br := s.dial(t, rawHandshake())
			resp, body := readResponse(t, br)
			if resp.StatusCode != 500 || body != test.want+"\n" {
				t.Errorf("got %d %q, want 500 %q", resp.StatusCode, body, test.want)
			}
			checkRefusal(t, s.result(t), 500, test.want)
			checkAlive(t, nc, br)
		})
	}
}

// plainWrapper is middleware's ResponseWriter that knows nothing of hijacking.
type plainWrapper struct{ http.ResponseWriter }

// unwrapper can at least be looked through.
type unwrapper struct{ http.ResponseWriter }

func (w unwrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hijackWrapper has a Hijack method of its own.
type hijackWrapper struct {
	http.ResponseWriter
	hijack func() (net.Conn, *bufio.ReadWriter, error)
}

func (w hijackWrapper) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

// wrapped is middleware that replaces the ResponseWriter.
func wrapWriter(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

// memoryConn is a connection without a network: it takes what is written and
// has nothing to read.
type memoryConn struct {
	written   bytes.Buffer
	writes    int
	writeErr  error
	deadlines []deadlineCall
	closed    bool
}

func (c *memoryConn) Read([]byte) (int, error) { return 0, io.EOF }

func (c *memoryConn) Write(p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	c.writes++
	return c.written.Write(p)
}

func (c *memoryConn) Close() error {
	c.closed = true
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr { return &net.TCPAddr{} }

func (c *memoryConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (c *memoryConn) SetDeadline(t time.Time) error { return c.note("both", t) }

func (c *memoryConn) SetReadDeadline(t time.Time) error { return c.note("read", t) }

func (c *memoryConn) SetWriteDeadline(t time.Time) error { return c.note("write", t) }

func (c *memoryConn) note(which string, t time.Time) error {
	c.deadlines = append(c.deadlines, deadlineCall{which, !t.IsZero()})
	return nil
}

// deadlineCall is one of SetDeadline, SetReadDeadline and SetWriteDeadline, and
// whether it set a deadline or took it away.
type deadlineCall struct {
	which string
	set   bool
}

// memoryHijacker is a ResponseWriter that hands out a memoryConn.
type memoryHijacker struct {
	httptest.ResponseRecorder
	conn *memoryConn
	brw  *bufio.ReadWriter
}

func (h *memoryHijacker) Header() http.Header { return nil }

func (h *memoryHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.brw, nil }

// upgradeRequest is the request of RFC 6455 section 1.2.
func upgradeRequest(t testing.TB) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(rawHandshake())))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTakeOver_copies_then_releases_the_buffers(t *testing.T) {
	nc := &memoryConn{}
	br := bufio.NewReader(strings.NewReader("first frame"))
	bw := bufio.NewWriter(io.Discard)
	if _, err := br.Peek(1); err != nil {
		t.Fatal(err)
	}
	inside, _ := br.Peek(br.Buffered())
	buffered, err := takeOver(nc, bufio.NewReadWriter(br, bw), []byte("response"), time.Minute)
	if err != nil || string(buffered) != "first frame" || nc.written.String() != "response" {
		t.Fatalf("takeOver = %q, %v and wrote %q", buffered, err, nc.written.String())
	}
	clear(inside)
	if string(buffered) != "first frame" {
		t.Error("what takeOver returned is a view into the buffer of net/http")
	}
	if br.Size() != 0 || bw.Size() != 0 {
		t.Errorf("buffers of %d and %d bytes are still held, want 0", br.Size(), bw.Size())
	}
	// As a wrapper that keeps them in a pool would use them again.
	br.Reset(strings.NewReader("next"))
	if got, err := io.ReadAll(br); string(got) != "next" || err != nil {
		t.Errorf("after Reset the Reader gave %q, %v", got, err)
	}
}

func TestTakeOver_deadlines(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		want    []deadlineCall
	}{
		{"with a timeout", time.Minute, []deadlineCall{{"both", false}, {"write", true}, {"write", false}}},
		{"without", 0, []deadlineCall{{"both", false}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc := &memoryConn{}
			if _, err := takeOver(nc, &bufio.ReadWriter{}, []byte("response"), test.timeout); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(nc.deadlines, test.want) {
				t.Errorf("deadlines: %v, want %v", nc.deadlines, test.want)
			}
			if nc.writes != 1 {
				t.Errorf("%d writes, want 1", nc.writes)
			}
		})
	}
}

func TestTakeOver_sends_first_what_a_wrapper_has_buffered(t *testing.T) {
	nc := &memoryConn{}
	brw := &bufio.ReadWriter{Writer: bufio.NewWriter(nc)}
	brw.WriteString("HTTP/1.1 103 Early Hints\r\n\r\n")
	if _, err := takeOver(nc, brw, []byte("response"), 0); err != nil {
		t.Fatal(err)
	}
	if got := nc.written.String(); got != "HTTP/1.1 103 Early Hints\r\n\r\nresponse" {
		t.Errorf("wrote %q", got)
	}
}

// Bare Hijack methods return no buffers, or not both.
func TestUpgrade_without_buffers(t *testing.T) {
	for _, brw := range []*bufio.ReadWriter{nil, {}, {Reader: &bufio.Reader{}}, {Writer: &bufio.Writer{}}} {
		w := &memoryHijacker{conn: &memoryConn{}, brw: brw}
		c, err := Upgrade(w, upgradeRequest(t))
		if err != nil {
			t.Errorf("Upgrade returned %v", err)
			continue
		}
		c.Close(StatusNormalClosure, "")
	}
}

func TestUpgrade_when_the_response_cannot_be_sent(t *testing.T) {
	pending := func(nc net.Conn) *bufio.ReadWriter {
		brw := &bufio.ReadWriter{Writer: bufio.NewWriter(nc)}
		brw.WriteByte('x')
		return brw
	}
	for _, buffers := range []func(net.Conn) *bufio.ReadWriter{
		func(net.Conn) *bufio.ReadWriter { return nil },
		pending,
	} {
		nc := &memoryConn{writeErr: os.ErrDeadlineExceeded}
		c, err := Upgrade(&memoryHijacker{conn: nc, brw: buffers(nc)}, upgradeRequest(t))
		if c != nil {
			t.Error("Upgrade returned a Conn and an error")
		}
		if !nc.closed {
			t.Error("the connection was left open")
		}
		var refused *HandshakeError
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &refused) {
			t.Errorf("Upgrade returned %v, want os.ErrDeadlineExceeded, and no HandshakeError", err)
		}
		if got := CloseStatus(err); got != StatusAbnormalClosure {
			t.Errorf("CloseStatus = %v, want 1006", got)
		}
	}
}

// The deadlines of the http.Server end with the handshake.
func TestUpgrade_outlives_the_timeouts_of_the_server(t *testing.T) {
	readable := make(chan error, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What a server with a ReadTimeout does, or middleware.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Minute))
		past := hijackWrapper{w, func() (net.Conn, *bufio.ReadWriter, error) {
			nc, brw, err := http.NewResponseController(w).Hijack()
			if err == nil {
				nc.SetDeadline(time.Unix(1, 0))
			}
			return nc, brw, err
		}}
		c, err := Upgrade(past, r)
		if err != nil {
			readable <- err
			return
		}
		_, _, err = c.ReceiveMessage()
		c.Close(StatusNormalClosure, "")
		readable <- err
	}))
	s.Start()
	defer s.Close()
	server := &upgradeServer{Server: s}
	nc, br := server.dial(t, rawHandshake())
	if resp, _ := readResponse(t, br); resp.StatusCode != 101 {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	io.WriteString(nc, maskedText("hello"))
	if f, err := ReadFrame(br, 125); err != nil || f.Opcode != Close {
		t.Errorf("got frame %+v, %v, want a close", f, err)
	}
	nc.Close()
	if err := <-readable; err != nil {
		t.Errorf("ReceiveMessage returned %v", err)
	}
}
