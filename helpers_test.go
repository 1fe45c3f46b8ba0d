package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
func startServer(t testing.TB, fn HandlerFunc, opts ...Option) *httptest.Server {
	return startHandler(t, Handle(fn, opts...))
}

// serveHandler runs h behind a real http.Server. When the test ends, it waits
// for every handler to return.
func startHandler(t testing.TB, h http.Handler) *httptest.Server {
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
func dialServer(t testing.TB, srv *httptest.Server, headers ...string) *peer {
	t.Helper()
	p := dialTCP(t, srv)
	p.handshake(headers...)
	return p
}

// dialRaw only connects.
func dialTCP(t testing.TB, srv *httptest.Server) *peer {
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

var testMaskKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// clientFrame is a frame as a client sends it: masked.
func clientFrame(fin bool, op Opcode, payload string) []byte {
	b := []byte(payload)
	Mask(b, testMaskKey, 0)
	return AppendFrame(nil, Frame{Header{Fin: fin, Opcode: op, Masked: true, MaskKey: testMaskKey}, b})
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
func echoAll(c *Conn) error {
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
func captureError(fn HandlerFunc) (HandlerFunc, <-chan error) {
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
func newPipeConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	server, client := net.Pipe()
	r := httptest.NewRequest("GET", "/", nil)
	return newConn(server, r, "", newOptions(opts), nil), newPeer(t, client)
}

// serveConn runs fn with c as a Handler does, and returns a channel that gives
// its error once all is over.
func runHandler(c *Conn, fn HandlerFunc) <-chan error {
	done := make(chan error, 1)
	var result error
	go func() {
		c.serve(func(c *Conn) error { result = fn(c); return result })
		done <- result
	}()
	return done
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// dialConn is a Conn on a real TCP connection that no handler runs, and its peer.
func newTCPConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(server, httptest.NewRequest("GET", "/", nil), "", newOptions(opts), nil)
	p := newPeer(t, client)
	t.Cleanup(func() {
		client.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c, p
}

// dialTLS runs fn behind a TLS server and connects to it.
func dialTLS(t testing.TB, fn HandlerFunc, opts ...Option) *peer {
	t.Helper()
	srv := httptest.NewUnstartedServer(Handle(fn, opts...))
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	t.Cleanup(srv.Close)
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, conn)
	p.handshake()
	return p
}

// finish does the client's part of a normal close handshake and waits until the
// handler and all that is behind it is over.
func (p *peer) finish(done <-chan error) {
	p.t.Helper()
	p.close()
	<-done
}

// serveConcurrent is serveConn for a HandleConcurrent.
func runConcurrent(c *Conn, fn HandlerFunc) <-chan error {
	c.readAhead()
	return runHandler(c, fn)
}

// idle is a handler that neither receives nor sends.
func waitForEnd(c *Conn) error {
	<-c.Context().Done()
	return context.Cause(c.Context())
}

// feed is a handler that only sends, every second.
func sendEverySecond(c *Conn) error {
	for {
		select {
		case <-c.Context().Done():
			return context.Cause(c.Context())
		case <-time.After(time.Second):
		}
		if err := c.SendMessage(Binary, []byte("tick")); err != nil {
			return err
		}
	}
}

// A witness is a peer that reads everything all the time, notes what came when,
// and sends without waiting: on a connection in memory a write takes as long as
// the other side takes to read it.
type recorder struct {
	p       *peer
	start   time.Time
	queue   chan []byte
	pongs   bool // answers pings
	ended   chan struct{}
	mu      sync.Mutex
	journal []string
}

func (w *recorder) read() {
	defer close(w.ended)
	for {
		f, err := ReadFrame(w.p.br, 1<<30)
		if err != nil {
			w.note("end")
			return
		}
		switch f.Opcode {
		case Ping:
			w.note("ping")
			if w.pongs {
				w.send(clientFrame(true, Pong, string(f.Payload)))
			}
		case Close:
			got, err := parseClosePayload(f.Payload)
			if err != nil {
				w.note(err.Error())
				continue
			}
			w.note(fmt.Sprintf("close %d", got.Code))
		case Pong:
			w.note("pong " + string(f.Payload))
		case Text:
			w.note("text " + string(f.Payload))
		}
	}
}

func (w *recorder) write() {
	for {
		select {
		case b := <-w.queue:
			if _, err := w.p.conn.Write(b); err != nil {
				return
			}
		case <-w.ended:
			return
		}
	}
}

func (w *recorder) send(b []byte) { w.queue <- b }

func (w *recorder) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, fmt.Sprintf("%v %s", time.Since(w.start), what))
}

// expect compares what came so far. Binary messages are left out.
func (w *recorder) expect(want ...string) {
	w.p.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.journal, want) {
		w.p.t.Errorf("the peer saw\n %q, want\n %q", w.journal, want)
	}
}

// witnessed makes a witness of p, which is not to be used any more.
func record(p *peer, pongs bool) *recorder {
	p.conn.SetDeadline(time.Time{})
	w := &recorder{p: p, start: time.Now(), queue: make(chan []byte, 1000), pongs: pongs, ended: make(chan struct{})}
	go w.read()
	go w.write()
	return w
}

// took checks how long something took, to the nanosecond: time is fake.
func wantDuration(t testing.TB, what string, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// timed is what call returns, which must take want to the nanosecond, and nil for
// what does not end: the caller then closes what it waits for.
func timedCall(t testing.TB, what string, want time.Duration, call func() error) error {
	t.Helper()
	start, done := time.Now(), make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		wantDuration(t, what, start, want)
		return err
	case <-time.After(want + time.Hour):
		t.Errorf("%s still waits an hour after the %v that it should take", what, want)
		return nil
	}
}

// wantGone checks that the socket is closed, not about to be.
func wantSocketClosed(t testing.TB, c *Conn) {
	t.Helper()
	if !c.gone.IsSet() {
		t.Error("the socket is still open")
	}
}

// A tape is a socket in memory. It plays what a client sends, piece by piece as
// successive reads find it, and records what the server writes. A nil piece is a
// read deadline that expires; the end of the tape is the end of the connection.
// Write deadlines hold, so a test can let one expire before anything is written.
type scriptSocket struct {
	pieces        [][]byte
	writes        [][]byte
	writeDeadline time.Time
	writeErr      error
	closed        atomic.Bool
}

// writeSizes is how many frames each write since the last look had.
func (s *scriptSocket) framesPerWrite(t testing.TB) (counts []int) {
	t.Helper()
	for _, b := range s.writes {
		n := 0
		for r := bytes.NewReader(b); r.Len() > 0; n++ {
			if _, err := ReadFrame(r, 1<<30); err != nil {
				t.Fatalf("write of %s is not whole frames: %v", abbreviate(b), err)
			}
		}
		counts = append(counts, n)
	}
	return counts
}

func (s *scriptSocket) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 || s.closed.Load() {
		return 0, io.EOF
	}
	if s.pieces[0] == nil {
		s.pieces = s.pieces[1:]
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

// wantSent checks what was written since the last look.
func (s *scriptSocket) wantSent(t testing.TB, want ...sentFrame) {
	t.Helper()
	var got []sentFrame
	for _, f := range s.frames(t) {
		if f.Masked || f.RSV1 || f.RSV2 || f.RSV3 {
			t.Errorf("header %+v of a server", f.Header)
		}
		got = append(got, sentFrame{f.Fin, f.Opcode, string(f.Payload)})
	}
	if !slices.Equal(got, want) {
		t.Errorf("got frames %v, want %v", got, want)
	}
}

func (s *scriptSocket) Write(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, net.ErrClosed
	}
	if s.writeErr != nil {
		return 0, s.writeErr
	}
	if t := s.writeDeadline; !t.IsZero() && !time.Now().Before(t) {
		return 0, os.ErrDeadlineExceeded
	}
	s.writes = append(s.writes, bytes.Clone(p))
	return len(p), nil
}

func (s *scriptSocket) Close() error { s.closed.Store(true); return nil }

func (s *scriptSocket) LocalAddr() net.Addr { return &net.TCPAddr{} }

func (s *scriptSocket) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (s *scriptSocket) SetDeadline(t time.Time) error { return s.SetWriteDeadline(t) }

func (s *scriptSocket) SetReadDeadline(time.Time) error { return nil }

func (s *scriptSocket) SetWriteDeadline(t time.Time) error { s.writeDeadline = t; return nil }

// frames parses what was written since the last call.
func (s *scriptSocket) frames(t testing.TB) []Frame {
	t.Helper()
	r := bytes.NewReader(bytes.Join(s.writes, nil))
	s.writes = nil
	var frames []Frame
	for r.Len() > 0 {
		f, err := ReadFrame(r, 1<<30)
		if err != nil {
			t.Fatalf("what was written is no frame: %v", err)
		}
		frames = append(frames, f)
	}
	return frames
}

// play is a Conn whose client is a tape. The keepalive is off unless opts turn
// it on.
func newScriptConn(t testing.TB, pieces [][]byte, opts ...Option) (*Conn, *scriptSocket) {
	s := &scriptSocket{pieces: slices.Clone(pieces)}
	opts = append([]Option{PingInterval(0), ConnectionTimeout(0)}, opts...)
	c := newConn(s, httptest.NewRequest("GET", "/", nil), "", newOptions(opts), nil)
	t.Cleanup(func() { c.Close(StatusNormalClosure, "") })
	return c, s
}

func segments(b ...[]byte) [][]byte { return b }

// oneByOne cuts b into bytes.
func oneByOne(b []byte) (cut [][]byte) {
	for i := range b {
		cut = append(cut, b[i:i+1])
	}
	return cut
}

// unhex is the bytes of a frame as RFC 6455 would print them.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// with sets bits of a frame's first byte.
func withBits(bits byte, frame []byte) []byte {
	frame = bytes.Clone(frame)
	frame[0] |= bits
	return frame
}

// headerOf is the header alone of a client's frame of length bytes.
func clientHeader(fin bool, op Opcode, length int64) []byte {
	return AppendHeader(nil, Header{Fin: fin, Opcode: op, Masked: true, MaskKey: testMaskKey, Length: length})
}

// wantMention checks that a text for people says what they need.
func wantMention(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got text %q, want it to mention %q", text, part)
		}
	}
}

// sent is a frame of the server as a test writes it down.
type sentFrame struct {
	fin     bool
	op      Opcode
	payload string
}

func (f sentFrame) String() string {
	return fmt.Sprintf("{%v fin=%t %s}", f.op, f.fin, abbreviate([]byte(f.payload)))
}

// wantFailed checks that a close frame with code was written, nothing behind it,
// and the socket closed.
func wantFailed(t testing.TB, s *scriptSocket, code StatusCode) {
	t.Helper()
	frames := s.frames(t)
	if len(frames) == 0 || frames[len(frames)-1].Opcode != Close {
		t.Fatalf("got frames %v, want a close frame in the end", frames)
	}
	got, err := parseClosePayload(frames[len(frames)-1].Payload)
	if err != nil || got.Code != code {
		t.Errorf("got close frame %v (%v), want code %v", got, err, code)
	}
	if !s.closed.Load() {
		t.Error("the socket was left open")
	}
}

// An endless is a socket whose peer sends the same for ever and takes everything.
// It allocates nothing.
type endless struct {
	scriptSocket
	wire []byte
	pos  int
}

func (s *endless) Write(p []byte) (int, error) { return len(p), nil }

func (s *endless) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, io.EOF
	}
	n := copy(p, s.wire[s.pos:])
	s.pos = (s.pos + n) % len(s.wire)
	return n, nil
}

// playForEver is a Conn whose client repeats wire.
func newRepeatConn(t testing.TB, wire []byte) *Conn {
	c, _ := newScriptConn(t, nil, MaxFrameSize(1<<24), MaxMessageSize(1<<24))
	c.conn = &endless{wire: wire}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// raceEnabled reports whether this is a build with the race detector, which
// makes a sync.Pool forget.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func checkAllocs(t *testing.T, what string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("%s: got %v allocations, want %v", what, got, want)
	}
}

// upgraded reads the response to a handshake.
func (p *peer) upgraded() {
	p.t.Helper()
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("got response %v, error %v, want 101", resp, err)
	}
}

// A bystander is another connection to the same server, which must not notice
// what happens to the others.
func checkEcho(p *peer) {
	p.t.Helper()
	p.send(Text, "still here")
	p.expect(Text, "still here")
}

// quiet is the ErrorLog of servers whose log is not what is tested.
var quiet = log.New(io.Discard, "", 0)

func resetPeer(p *peer) {
	p.conn.(*net.TCPConn).SetLinger(0)
	p.conn.Close()
}

// hangUp ends the peer's side, so that the server need not wait for more.
func hangUp(p *peer) { p.conn.(*net.TCPConn).CloseWrite() }

// made reports whether a field of a type of another package is set. These types make
// a channel or a timer only when it is needed.
func made(v any, field string) bool {
	return !reflect.ValueOf(v).Elem().FieldByName(field).IsZero()
}

// burst is n messages in one segment.
func messageBurst(n int, payload string) []byte {
	return bytes.Repeat(clientFrame(true, Binary, payload), n)
}
