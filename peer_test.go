package websocket

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come. It is never waited for
// in full by a test that passes.
const patience = 20 * time.Second

// A peer is a client made of bytes: it sends what it is told, and the test reads
// what comes back frame by frame.
type peer struct {
	t    testing.TB
	conn net.Conn
	br   *bufio.Reader
}

const testHandshake = "GET / HTTP/1.1\r\nHost: example.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"

// serve runs fn behind a real http.Server until the test ends.
func serve(t testing.TB, fn HandlerFunc, opts ...Option) *httptest.Server {
	return serveHandler(t, Handle(fn, opts...))
}

// serveHandler runs h behind a real http.Server. When the test ends, it waits
// for every handler to return.
func serveHandler(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	// httptest.Server.Close does not wait for the handlers of hijacked connections.
	var handlers sync.WaitGroup
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = quiet
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		handlers.Wait()
	})
	return srv
}

// dial connects to srv over TCP and does the handshake. headers are lines with
// their line ends.
func dial(t testing.TB, srv *httptest.Server, headers ...string) *peer {
	t.Helper()
	p := dialRaw(t, srv)
	p.handshake(headers...)
	return p
}

// dialRaw only connects.
func dialRaw(t testing.TB, srv *httptest.Server) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, conn)
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	t.Cleanup(func() { conn.Close() })
	return &peer{t: t, conn: conn, br: bufio.NewReader(conn)}
}

func (p *peer) handshake(headers ...string) {
	p.t.Helper()
	p.write([]byte(fmt.Sprintf(testHandshake, strings.Join(headers, ""))))
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("handshake answered with %s", resp.Status)
	}
}

// write sends bytes as they are.
func (p *peer) write(b []byte) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("writing %s: %v", abbreviate(b), err)
	}
}

// send sends a message of one frame.
func (p *peer) send(op Opcode, payload string) {
	p.t.Helper()
	p.write(clientFrame(true, op, payload))
}

// read returns the next frame of the server, which must not be masked.
func (p *peer) read() Frame {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	f, err := ReadFrame(p.br, 1<<30)
	if err != nil {
		p.t.Fatalf("reading a frame: %v", err)
	}
	if f.Masked {
		p.t.Fatalf("frame of the server is masked: %+v", f.Header)
	}
	return f
}

// expect reads a frame and compares it.
func (p *peer) expect(op Opcode, payload string) {
	p.t.Helper()
	f := p.read()
	if !f.Fin || f.RSV1 || f.RSV2 || f.RSV3 || f.Opcode != op || string(f.Payload) != payload {
		p.t.Fatalf("got frame %v fin=%t %s, want %v %s", f.Opcode, f.Fin, abbreviate(f.Payload), op, abbreviate([]byte(payload)))
	}
}

// expectClose reads a close frame with code, or with none for
// StatusNoStatusReceived, and returns its reason.
func (p *peer) expectClose(code StatusCode) string {
	p.t.Helper()
	f := p.read()
	if f.Opcode != Close {
		p.t.Fatalf("got frame %v %s, want close %v", f.Opcode, abbreviate(f.Payload), code)
	}
	got, err := parseClosePayload(f.Payload)
	if err != nil {
		p.t.Fatalf("close frame of the server: %v", err)
	}
	if got.Code != code {
		p.t.Fatalf("server closed with %v %q, want %v", got.Code, got.Reason, code)
	}
	return got.Reason
}

// expectEOF makes sure that the server sends nothing more and shuts its side down
// in an orderly way: without a reset, which destroys what is on its way.
func (p *peer) expectEOF() {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(p.br)
	if err != nil || len(rest) > 0 {
		p.t.Fatalf("got %s and error %v, want an orderly end of the connection", abbreviate(rest), err)
	}
}

// expectNothing makes sure that the server has sent nothing more by the time it
// answers a ping.
func (p *peer) expectNothing() {
	p.t.Helper()
	p.send(Ping, "anything else?")
	p.expect(Pong, "anything else?")
}

// close does the client's part of a normal close handshake.
func (p *peer) close() {
	p.t.Helper()
	p.send(Close, "\x03\xe8")
	p.expectClose(StatusNormalClosure)
	p.expectEOF()
	p.conn.Close()
}

var peerKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// clientFrame is a frame as a client sends it: masked.
func clientFrame(fin bool, op Opcode, payload string) []byte {
	b := []byte(payload)
	Mask(b, peerKey, 0)
	return AppendFrame(nil, Frame{Header{Fin: fin, Opcode: op, Masked: true, MaskKey: peerKey}, b})
}

// join makes one segment of several frames.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func closeBody(code StatusCode, reason string) string {
	return string([]byte{byte(code >> 8), byte(code)}) + reason
}

func abbreviate(b []byte) string {
	if len(b) > 64 {
		return fmt.Sprintf("%s… (%d bytes)", hex.EncodeToString(b[:64]), len(b))
	}
	return fmt.Sprintf("%s (%q)", hex.EncodeToString(b), b)
}

// receiveAll is a handler that receives until the end, and returns it.
func receiveAll(c *Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
	}
}

// echo is the handler of the package's documentation.
func echo(c *Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

// result is a handler that leaves fn's error for the test, which gets it with
// await.
func result(fn HandlerFunc) (HandlerFunc, <-chan error) {
	results := make(chan error, 16)
	return func(c *Conn) error {
		err := fn(c)
		results <- err
		return err
	}, results
}

// await takes a value that must come.
func await[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}

// wantError checks that err is each of the targets.
func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("got error %v, want one that is %v", err, target)
		}
	}
}

// pipe is a Conn on one end of a connection in memory, for tests in which time
// matters, and its peer on the other. The handshake is left out.
func pipe(t testing.TB, opts ...Option) (*Conn, *peer) {
	server, client := net.Pipe()
	r := httptest.NewRequest("GET", "/", nil)
	return newConn(server, r, "", newOptions(opts), nil), newPeer(t, client)
}

// serveConn runs fn with c as a Handler does, and returns a channel that gives
// its error once all is over.
func serveConn(c *Conn, fn HandlerFunc) <-chan error {
	done := make(chan error, 1)
	var result error
	go func() {
		c.serve(func(c *Conn) error { result = fn(c); return result })
		done <- result
	}()
	return done
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
