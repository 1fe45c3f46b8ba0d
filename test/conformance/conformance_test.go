package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	_ "github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// A wireCase holds the frames of a client and the bytes that the server must send. The
// test runs it several times, with the frames cut into TCP writes in different ways.
type wireCase struct {
	name string
	sent [][]byte
	want []byte
	end  ending
}

// An ending checks what the server does after the bytes of a case.
type ending struct {
	check func(p *wstest.Client)
	over  bool // the server must ignore all later frames of the client
}

// stillOpen checks that the server still answers a ping and a close frame.
var stillOpen = ending{check: func(p *wstest.Client) {
	p.Write(slices.Concat(fromClient(0x89, "alive?", 0x88, "\x03\xe8")...))
	p.ExpectBytes(fromServer(0x8A, "alive?", 0x88, "\x03\xe8"))
	p.ExpectEOF()
}}

// answered is the ending of a case that includes both close frames. It checks that the
// server ends TCP first (section 7.1.1).
var answered = ending{check: func(p *wstest.Client) { p.ExpectEOF() }, over: true}

// failed returns an ending that checks that the server sends a close frame with code and
// any reason, and processes nothing after it (section 7.1.7).
func failed(code uint16) ending {
	return ending{check: func(p *wstest.Client) {
		p.ExpectClose(code)
		endStream(p)
		p.ExpectEOF()
	}, over: true}
}

// endStream ends the client's side of an HTTP/2 stream, because the server cannot end only its
// own. Without it, the server waits a second for the client's close frame.
func endStream(p *wstest.Client) {
	if s, ok := p.Conn.(*wstest.Stream); ok {
		s.CloseWrite()
	}
}

// fromClient returns frames of a client. parts are pairs of a first byte and a payload. A
// []byte among them is sent as it is: a frame or a part of one.
func fromClient(parts ...any) [][]byte {
	var frames [][]byte
	for i := 0; i < len(parts); i++ {
		b, ok := parts[i].([]byte)
		if !ok {
			b = wstest.ClientFrame(byte(parts[i].(int)), parts[i+1].(string))
			i++
		}
		frames = append(frames, b)
	}
	return frames
}

// fromServer returns the bytes of server frames. parts are pairs, as for fromClient.
func fromServer(parts ...any) []byte {
	var b []byte
	for i := 0; i < len(parts); i += 2 {
		b = append(b, wstest.ServerFrame(byte(parts[i].(int)), parts[i+1].(string))...)
	}
	return b
}

// unfinished returns a client's frame that declares missing more bytes than it has.
func unfinished(b0 int, payload string, missing int) []byte {
	b := wstest.ClientFrame(byte(b0), payload+strings.Repeat("?", missing))
	return b[:len(b)-missing]
}

// fragmented returns the frames of a message: at least two, each of up to size bytes.
func fragmented(b0 int, payload string, size int) [][]byte {
	n := min(size, len(payload))
	frames := fromClient(b0&^0x80, payload[:n])
	for payload = payload[n:]; len(payload) > size; payload = payload[size:] {
		frames = append(frames, wstest.ClientFrame(0x00, payload[:size]))
	}
	return append(frames, wstest.ClientFrame(0x80, payload))
}

// cut cuts b into writes of size bytes.
func cut(b []byte, size int) [][]byte { return slices.Collect(slices.Chunk(b, size)) }

// cuts returns the ways in which TCP may deliver the frames of a case. If the server must
// ignore all later frames, one of the ways has such frames at its end.
func (tc wireCase) cuts() map[string][][]byte {
	all := slices.Concat(tc.sent...)
	small := 1
	if len(all) > 1000 {
		small = 997
	}
	cuts := map[string][][]byte{"at once": {all}, fmt.Sprintf("chops of %d", small): cut(all, small)}
	if len(tc.sent) > 1 {
		cuts["frame by frame"] = tc.sent
	}
	if tc.end.over {
		cuts["with more frames"] = append([][]byte{all}, fromClient(0x81, "too late", 0x89, "too late")...)
	}
	return cuts
}

func (tc wireCase) run(t *testing.T, dial func(testing.TB) *wstest.Client, expect expectFunc) {
	for name, writes := range tc.cuts() {
		t.Run(name, func(t *testing.T) { tc.exchange(t, dial(t), writes, expect) })
	}
}

// An expectFunc checks that the server sends want.
type expectFunc func(p *wstest.Client, t *testing.T, want []byte)

func expectBytes(p *wstest.Client, t *testing.T, want []byte) {
	t.Helper()
	p.ExpectBytes(want)
}

// exchange sends and receives at the same time, because a server may stop reading while
// the client does not read its answers.
func (tc wireCase) exchange(t *testing.T, p *wstest.Client, writes [][]byte, expect expectFunc) {
	t.Helper()
	sent := make(chan error, 1)
	p.Conn.SetWriteDeadline(time.Now().Add(wstest.Patience))
	go func() { sent <- writeAll(p.Conn, writes) }()
	expect(p, t, tc.want)
	if err := <-sent; err != nil {
		t.Fatalf("the server has not read all frames: %v", err)
	}
	tc.end.check(p)
}

// expectEarlyPongs is expectBytes for HandleConcurrent, which answers a ping before the
// messages that fn has not received yet.
func expectEarlyPongs(p *wstest.Client, t *testing.T, want []byte) {
	t.Helper()
	var got, wanted [2][]string
	for decoder, left := wstest.NewDecoder(bytes.NewReader(want)), len(want); left > 0; {
		f, err := decoder.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		left -= len(wstest.ServerFrame(f.First, string(f.Payload)))
		for kind, f := range map[*[2][]string]wstest.Frame{&wanted: f, &got: p.Read()} {
			pong := 0
			if f.Opcode() == wstest.Pong {
				pong = 1
			}
			kind[pong] = append(kind[pong], f.String())
		}
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("got frames, and pongs, %v, want %v", got, wanted)
	}
}

func writeAll(w io.Writer, writes [][]byte) error {
	for _, b := range writes {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// A receiveFunc is a way to receive a message.
type receiveFunc = func(c *websocket.Conn) (websocket.Opcode, []byte, error)

// receivers are the ways to receive messages. The wire must not show which of them
// is used.
var receivers = []struct {
	name    string
	receive receiveFunc
}{
	{"ReceiveMessage", (*websocket.Conn).ReceiveMessage},
	{"ReceiveFunc", func(c *websocket.Conn) (op websocket.Opcode, data []byte, err error) {
		err = c.ReceiveFunc(func(lent websocket.Opcode, message []byte) error {
			op, data = lent, bytes.Clone(message)
			return nil
		})
		return op, data, err
	}},
	{"AppendMessage", func(c *websocket.Conn) (websocket.Opcode, []byte, error) {
		return c.AppendMessage(make([]byte, 0, 64))
	}},
	{"MessageReader", func(c *websocket.Conn) (websocket.Opcode, []byte, error) {
		op, r, err := c.MessageReader()
		if err != nil {
			return 0, nil, err
		}
		data, err := io.ReadAll(r)
		return op, data, err
	}},
	{"ReceiveFragments", func(c *websocket.Conn) (websocket.Opcode, []byte, error) {
		frames, err := c.ReceiveFragments()
		if err != nil {
			return 0, nil, err
		}
		return websocket.ProcessFragments(frames)
	}},
}

// echo echoes messages with ReceiveMessage.
var echo = echoWith((*websocket.Conn).ReceiveMessage)

func echoWith(receive receiveFunc) websocket.HandlerFunc {
	return func(c *websocket.Conn) error {
		for {
			op, data, err := receive(c)
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}
}

// receiveAll receives messages until the connection ends.
func receiveAll(c *websocket.Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
	}
}

// noPings turns pings off, so that the server sends only answers.
var noPings = websocket.PingInterval(0)

func serve(t testing.TB, fn websocket.HandlerFunc, opts ...websocket.Option) *httptest.Server {
	t.Helper()
	return wstest.Serve(t, websocket.Handle(fn, append(opts, noPings)...))
}

// dial connects to srv with a handshake.
func dial(t testing.TB, srv *httptest.Server) *wstest.Client {
	t.Helper()
	p := wstest.Dial(t, srv.Listener.Addr().String())
	p.Handshake()
	return p
}

func dialer(srv *httptest.Server) func(testing.TB) *wstest.Client {
	return func(t testing.TB) *wstest.Client { t.Helper(); return dial(t, srv) }
}

// dialerHTTP2 returns a function that opens a stream of one HTTP/2 connection to h.
func dialerHTTP2(t testing.TB, h http.Handler) func(testing.TB) *wstest.Client {
	t.Helper()
	conn := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, h).Listener.Addr().String(), 0)
	return func(t testing.TB) *wstest.Client {
		t.Helper()
		p := conn.ConnectClient(t)
		p.Conn.SetDeadline(time.Now().Add(wstest.Patience))
		return p
	}
}

// openEcho is echo for HandleMessages.
func openEcho(c *websocket.Conn) (websocket.MessageFunc, error) { return c.SendMessage, nil }

// conform runs the cases with every way to receive, and with HandleConcurrent and
// HandleMessages, which are also served over HTTP/2.
func conform(t *testing.T, cases []wireCase, opts ...websocket.Option) {
	t.Run("HandleConcurrent", func(t *testing.T) {
		dial := dialer(wstest.Serve(t, websocket.HandleConcurrent(echo, append(opts, noPings)...)))
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) { tc.run(t, dial, expectEarlyPongs) })
		}
	})
	t.Run("HandleConcurrent over HTTP/2", func(t *testing.T) {
		dial := dialerHTTP2(t, websocket.HandleConcurrent(echo, append(opts, noPings)...))
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) { tc.run(t, dial, expectEarlyPongs) })
		}
	})
	t.Run("Handle over HTTP/2", func(t *testing.T) {
		conformOn(t, dialerHTTP2(t, websocket.Handle(echo, append(opts, noPings)...)), cases)
	})
	t.Run("HandleMessages over HTTP/2", func(t *testing.T) {
		conformOn(t, dialerHTTP2(t, websocket.HandleMessages(openEcho, append(opts, noPings)...)), cases)
	})
	t.Run("HandleMessages", func(t *testing.T) {
		conformOn(t, dialer(wstest.Serve(t, websocket.HandleMessages(openEcho, append(opts, noPings)...))), cases)
	})
	t.Run("Handle over a Unix socket", func(t *testing.T) {
		conformOn(t, dialer(wstest.ServeUnix(t, websocket.Handle(echo, append(opts, noPings)...))), cases)
	})
	t.Run("HandleMessages over a Unix socket", func(t *testing.T) {
		conformOn(t, dialer(wstest.ServeUnix(t, websocket.HandleMessages(openEcho, append(opts, noPings)...))), cases)
	})
	t.Run("HandleMessages over TLS", func(t *testing.T) {
		if wstest.RaceEnabled() {
			t.Skip("the handshakes of TLS take most of the time")
		}
		srv := wstest.ServeTLS(t, websocket.HandleMessages(openEcho, append(opts, noPings)...))
		conformOn(t, func(t testing.TB) *wstest.Client {
			p := wstest.DialTLS(t, srv.Listener.Addr().String())
			p.Handshake()
			return p
		}, cases)
	})
	for _, r := range receivers {
		t.Run(r.name, func(t *testing.T) {
			conformOn(t, dialer(serve(t, echoWith(r.receive), opts...)), cases)
		})
	}
}

func conformOn(t *testing.T, dial func(testing.TB) *wstest.Client, cases []wireCase) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, dial, expectBytes) })
	}
}

func stars(n int) string { return strings.Repeat("*", n) }

func octets(n int) string { return strings.Repeat("\xfe", n) }
