package websocket

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestUpgrade_through_wrapped_ResponseWriters(t *testing.T) {
	s := newUpgradeServer(t, wrapWriter(func(w http.ResponseWriter) http.ResponseWriter {
		return unwrapper{unwrapper{w}}
	}))
	nc, br := s.dial(t, wstest.Request())
	resp, _ := readResponse(t, br)
	nc.Close()
	if resp.StatusCode != 101 {
		t.Errorf("status %d, want 101", resp.StatusCode)
	}
	if res := s.result(t); res.conn == nil {
		t.Errorf("Upgrade returned %v", res.err)
	}
}

func TestUpgrade_names_the_ResponseWriter_that_cannot_be_hijacked(t *testing.T) {
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
			"a wrapper in a wrapper with Unwrap",
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
			_, br := s.dial(t, wstest.Request()+nextRequest)
			resp, body := readRefusal(t, br)
			if resp.StatusCode != 500 || body != test.want+"\n" {
				t.Errorf("got %d %q, want 500 %q", resp.StatusCode, body, test.want)
			}
			checkRefusal(t, s.result(t), 500, test.want)
		})
	}
}

// A plainWrapper is a ResponseWriter of middleware without a Hijack and an Unwrap method.
type plainWrapper struct{ http.ResponseWriter }

// An unwrapper has an Unwrap method.
type unwrapper struct{ http.ResponseWriter }

func (w unwrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A hijackWrapper has a Hijack method.
type hijackWrapper struct {
	http.ResponseWriter
	hijack func() (net.Conn, *bufio.ReadWriter, error)
}

func (w hijackWrapper) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

// wrapWriter is middleware that replaces the ResponseWriter.
func wrapWriter(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

func TestTakeOver_copies_then_releases_the_buffers(t *testing.T) {
	nc := wstest.NewSocket()
	br := bufio.NewReader(strings.NewReader("first frame"))
	bw := bufio.NewWriter(io.Discard)
	if _, err := br.Peek(1); err != nil {
		t.Fatal(err)
	}
	inside, _ := br.Peek(br.Buffered())
	buffered, err := takeOver(nc, bufio.NewReadWriter(br, bw), []byte("response"), time.Minute)
	if err != nil || string(buffered) != "first frame" || string(nc.Written()) != "response" {
		t.Fatalf("takeOver = %q, %v and wrote %q", buffered, err, string(nc.Written()))
	}
	clear(inside)
	if string(buffered) != "first frame" {
		t.Error("takeOver returned a part of net/http's buffer, want a copy")
	}
	if br.Size() != 0 || bw.Size() != 0 {
		t.Errorf("buffers of %d and %d bytes are still held, want 0", br.Size(), bw.Size())
	}
	// A wrapper that keeps the buffers in a pool would use them again in this way.
	br.Reset(strings.NewReader("next"))
	if got, err := io.ReadAll(br); string(got) != "next" || err != nil {
		t.Errorf("after Reset the Reader gave %q, %v", got, err)
	}
}

func TestTakeOver_deadlines(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		want    []wstest.DeadlineCall
	}{
		{"with a timeout", time.Minute, []wstest.DeadlineCall{{Which: "both", Set: false}, {Which: "write", Set: true}, {Which: "write", Set: false}}},
		{"without", 0, []wstest.DeadlineCall{{Which: "both", Set: false}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nc := wstest.NewSocket()
			if _, err := takeOver(nc, &bufio.ReadWriter{}, []byte("response"), test.timeout); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(nc.Deadlines(), test.want) {
				t.Errorf("deadlines: %v, want %v", nc.Deadlines(), test.want)
			}
			if len(nc.Writes()) != 1 {
				t.Errorf("%d writes, want 1", len(nc.Writes()))
			}
		})
	}
}

// A deadline that has passed before the write begins would cut off the response, and a long
// timeout must not overflow.
func TestUpgrade_limits_the_writing_of_the_response(t *testing.T) {
	tests := []struct {
		name          string
		timeout       time.Duration
		reads         time.Duration // when the peer reads
		want          error
		answeredAfter time.Duration
	}{
		{"shortest timeout", 1, 999 * time.Millisecond, nil, 999 * time.Millisecond},
		{"shortest timeout, and a peer that reads too late", 1, time.Hour, os.ErrDeadlineExceeded, time.Second},
		{"7 s", 7 * time.Second, 6 * time.Second, nil, 6 * time.Second},
		{"7 s, and a peer that reads too late", 7 * time.Second, time.Hour, os.ErrDeadlineExceeded, 7 * time.Second},
		{"longest timeout", math.MaxInt64, time.Hour, nil, time.Hour},
		{"no limit", 0, time.Hour, nil, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				go func() {
					time.Sleep(tt.reads)
					io.Copy(io.Discard, client)
				}()
				start := time.Now()
				c, err := Upgrade(&wstest.Hijacker{Conn: server}, wstest.ReadRequest(wstest.Request()), WriteTimeout(tt.timeout))
				wantDuration(t, "Upgrade", start, tt.answeredAfter)
				if !errors.Is(err, tt.want) || (c == nil) != (tt.want != nil) {
					t.Errorf("Upgrade returned %v, %v, want error %v", c, err, tt.want)
				}
				client.Close()
				if c != nil {
					c.Close(StatusNormalClosure, "")
				}
				time.Sleep(time.Hour) // until the peer has read
			})
		})
	}
}

func TestTakeOver_first_sends_the_bytes_that_a_wrapper_has_buffered(t *testing.T) {
	nc := wstest.NewSocket()
	brw := &bufio.ReadWriter{Writer: bufio.NewWriter(nc)}
	brw.WriteString("HTTP/1.1 103 Early Hints\r\n\r\n")
	if _, err := takeOver(nc, brw, []byte("response"), 0); err != nil {
		t.Fatal(err)
	}
	if got := string(nc.Written()); got != "HTTP/1.1 103 Early Hints\r\n\r\nresponse" {
		t.Errorf("wrote %q", got)
	}
}

// The Hijack method of a wrapper may return no buffers, or only one.
func TestUpgrade_without_buffers(t *testing.T) {
	for _, brw := range []*bufio.ReadWriter{nil, {}, {Reader: &bufio.Reader{}}, {Writer: &bufio.Writer{}}} {
		w := &wstest.Hijacker{Conn: wstest.NewSocket(), Buffer: brw}
		c, err := Upgrade(w, wstest.ReadRequest(wstest.Request()))
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
		nc := wstest.NewSocket()
		nc.FailWrites(os.ErrDeadlineExceeded)
		c, err := Upgrade(&wstest.Hijacker{Conn: nc, Buffer: buffers(nc)}, wstest.ReadRequest(wstest.Request()))
		if c != nil {
			t.Error("Upgrade returned a Conn and an error")
		}
		if !nc.Closed() {
			t.Error("the connection was left open")
		}
		var refused *HandshakeError
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &refused) {
			t.Errorf("Upgrade returned %v, want os.ErrDeadlineExceeded without a HandshakeError", err)
		}
		if got := CloseStatus(err); got != StatusAbnormalClosure {
			t.Errorf("CloseStatus = %v, want 1006", got)
		}
	}
}

// The deadlines of the http.Server do not apply after the handshake.
func TestUpgrade_outlives_the_timeouts_of_the_server(t *testing.T) {
	readable := make(chan error, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server with a ReadTimeout sets this deadline, and so can middleware.
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
	nc, br := server.dial(t, wstest.Request())
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
