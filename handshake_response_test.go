package websocket

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestUpgrade_keeps_headers_of_middleware(t *testing.T) {
	s := newUpgradeServer(t, withHeader(func(h http.Header) {
		h.Add("Set-Cookie", "a=1; HttpOnly")
		h.Add("Set-Cookie", "b=2")
		h.Set("X-Request-Id", "4711")
		h["x-lower"] = []string{"kept"}
		h["X-None"] = nil
		h.Set("Content-Security-Policy", "default-src 'self'")
	}), Subprotocols("chat"))
	nc, br := s.dial(t, wstest.Request("Sec-WebSocket-Protocol: chat"))
	resp, _ := readResponse(t, br)
	nc.Close()
	want := http.Header{
		"Upgrade":                 {"websocket"},
		"Connection":              {"Upgrade"},
		"Sec-Websocket-Accept":    {wstest.Accept},
		"Sec-Websocket-Protocol":  {"chat"},
		"Set-Cookie":              {"a=1; HttpOnly", "b=2"},
		"X-Request-Id":            {"4711"},
		"X-Lower":                 {"kept"},
		"Content-Security-Policy": {"default-src 'self'"},
	}
	if !reflect.DeepEqual(resp.Header, want) {
		t.Errorf("header %q, want %q", resp.Header, want)
	}
	s.result(t)
}

// Headers that middleware sets may contain text of the request. They must not change the
// handshake, add a body to the response, or end a header early.
func TestUpgrade_headers_cannot_inject_anything(t *testing.T) {
	tests := []struct {
		name string
		set  func(http.Header)
		want http.Header // in addition to those of the handshake
	}{
		{"the handshake's own headers", func(h http.Header) {
			for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Version"} {
				h.Set(name, "evil")
				h[strings.ToLower(name)] = []string{"evil"}
				h[strings.ToUpper(name)] = []string{"evil"}
				h[name] = []string{"evil"}
			}
		}, nil},
		{"a body", func(h http.Header) {
			for _, name := range []string{"Content-Length", "Transfer-Encoding", "Trailer", "TE", "Content-Type", "Content-Encoding", "Content-Range"} {
				h.Set(name, "5")
				h[strings.ToLower(name)] = []string{"5"}
				h[strings.ToUpper(name)] = []string{"5"}
			}
			h.Set(http.TrailerPrefix+"X", "5")
		}, nil},
		{"the life of the connection", func(h http.Header) {
			h.Set("Keep-Alive", "timeout=5")
			h.Set("Proxy-Connection", "close")
		}, nil},
		{"newlines in a value", func(h http.Header) {
			h.Set("X-Request-Id", "a\r\nSet-Cookie: evil=1\r\n\r\n\x81\x00")
		}, http.Header{"X-Request-Id": {"a  Set-Cookie: evil=1    \x81\x00"}}},
		{"a newline in a name", func(h http.Header) {
			h["X-A: 1\r\nSet-Cookie"] = []string{"evil=1"}
		}, nil},
		{"invalid names", func(h http.Header) {
			h[""] = []string{"evil"}
			h["X A"] = []string{"evil"}
			h["X:A"] = []string{"evil"}
			h["\u212aeep"] = []string{"evil"}
		}, nil},
		{"names with letters that are not ASCII", func(h http.Header) {
			h["sec-websoc\u212aet-accept"] = []string{"evil"}
			h["Sec-WebſSocket-Accept"] = []string{"evil"}
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			extra := http.Header{}
			test.set(extra)
			raw := appendResponse(nil, wstest.Key, "chat", agreement{}, extra)
			if n := bytes.Count(raw, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
				t.Fatalf("the header ends %d times, want once, at the end of %q", n, raw)
			}
			for line := range bytes.SplitSeq(raw, []byte("\n")) {
				if bytes.Contains(bytes.TrimSuffix(line, []byte("\r")), []byte("\r")) {
					t.Errorf("a bare CR in %q", line)
				}
			}
			want := http.Header{
				"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
				"Sec-Websocket-Accept": {wstest.Accept}, "Sec-Websocket-Protocol": {"chat"},
			}
			for name, values := range test.want {
				want[name] = values
			}
			// http.ReadResponse would refuse some of the headers that must not be there.
			got := http.Header{}
			lines := strings.Split(strings.TrimSuffix(string(raw), "\r\n\r\n"), "\r\n")
			for _, line := range lines[1:] {
				name, value, _ := strings.Cut(line, ": ")
				got.Add(name, value)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("header %q, want %q", got, want)
			}
		})
	}
}

func TestUpgrade_keeps_the_bytes_after_the_handshake(t *testing.T) {
	tests := []struct {
		name         string
		after, later string
		want         string
	}{
		{"a frame", maskedText("hello"), "", "hello"},
		{"the first byte of a frame", maskedText("hello")[:1], maskedText("hello")[1:], "hello"},
		{"a frame without its last byte", maskedText("hello")[:10], maskedText("hello")[10:], "hello"},
		{"more than net/http reads at once", maskedText(strings.Repeat("x", 10_000)), "", strings.Repeat("x", 10_000)},
		{"nothing", "", maskedText("hello"), "hello"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, nil)
			nc, br := s.dial(t, wstest.Request()+test.after)
			resp, _ := readResponse(t, br)
			if resp.StatusCode != 101 {
				t.Fatalf("status %d, want 101", resp.StatusCode)
			}
			io.WriteString(nc, test.later)
			closeFrame, err := ReadFrame(br, 125) // the handler has the message and closes
			if err != nil || closeFrame.Opcode != Close {
				t.Errorf("got frame %+v, %v, want a close", closeFrame, err)
			}
			nc.Close()
			if res := s.result(t); string(res.msg) != test.want {
				t.Errorf("received %d bytes, %v, want %d", len(res.msg), res.err, len(test.want))
			}
		})
	}
}

// The bytes of a request after the handshake are read as a frame, which is invalid.
func TestUpgrade_serves_no_request_after_the_handshake(t *testing.T) {
	s := newUpgradeServer(t, nil)
	nc, br := s.dial(t, wstest.Request()+nextRequest)
	if resp, _ := readResponse(t, br); resp.StatusCode != 101 {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	f, err := ReadFrame(br, 125)
	if err != nil || f.Opcode != Close || !bytes.HasPrefix(f.Payload, []byte{1002 >> 8, 1002 & 0xff}) {
		t.Errorf("got frame %+v, %v, want a close with 1002", f, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Errorf("got %q after the close frame, want nothing", rest)
	}
	nc.Close()
	if res := s.result(t); !errors.Is(res.err, ErrProtocol) {
		t.Errorf("ReceiveMessage returned %v, want ErrProtocol", res.err)
	}
}

// withHeader is middleware that sets headers with set.
func withHeader(set func(http.Header)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set(w.Header())
			next.ServeHTTP(w, r)
		})
	}
}

// maskedText returns a text frame as a client sends it.
func maskedText(text string) string {
	f := Frame{Header: Header{Fin: true, Opcode: Text, Masked: true, MaskKey: [4]byte{1, 2, 3, 4}}, Payload: []byte(text)}
	Mask(f.Payload, f.MaskKey, 0)
	return string(AppendFrame(nil, f))
}

func TestUpgrade_subprotocol(t *testing.T) {
	tests := []struct {
		name  string
		ours  []string
		lines []string
		want  string
	}{
		{"none spoken", nil, []string{"chat"}, ""},
		{"none offered", []string{"chat"}, nil, ""},
		{"one", []string{"chat"}, []string{"chat"}, "chat"},
		{"the server's first", []string{"v2", "v1"}, []string{"v1, v2"}, "v2"},
		{"the first in common", []string{"v3", "v2", "v1"}, []string{"v1,v2"}, "v2"},
		{"over several lines", []string{"v2", "v1"}, []string{"v0, v1", "v2"}, "v2"},
		{"whitespace and empty elements", []string{"v1"}, []string{" ,\tv1\t, "}, "v1"},
		{"other case", []string{"chat"}, []string{"Chat, CHAT"}, ""},
		{"part of a name", []string{"chat"}, []string{"chat2, superchat"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newUpgradeServer(t, nil, Subprotocols(test.ours...))
			var changes []string
			for _, line := range test.lines {
				changes = append(changes, "Sec-WebSocket-Protocol: "+line)
			}
			nc, br := s.dial(t, wstest.Request(changes...))
			resp, _ := readResponse(t, br)
			nc.Close()
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if got := resp.Header["Sec-Websocket-Protocol"]; !slices.Equal(got, want) {
				t.Errorf("Sec-WebSocket-Protocol: %q, want %q", got, want)
			}
			if res := s.result(t); res.conn == nil || res.conn.Subprotocol() != test.want {
				t.Errorf("Upgrade returned %v, %v, want a Conn of subprotocol %q", res.conn, res.err, test.want)
			}
		})
	}
}
