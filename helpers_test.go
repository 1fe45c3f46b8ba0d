package websocket

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// This file adapts internal/wstest to the types of this package. Its second part has the
// functions with which tests use the internals of a Conn.

// A peer is a wstest.Client with the types of this package.
type peer struct {
	*wstest.Client
	t testing.TB
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	return &peer{wstest.NewClient(t, conn), t}
}

// send sends a message of one frame.
func (p *peer) send(op Opcode, payload string) {
	p.t.Helper()
	p.Send(byte(op), payload)
}

// read returns the next frame of the server.
func (p *peer) read() Frame {
	p.t.Helper()
	return toFrame(p.Read())
}

// readPastPings returns the next frame that is not a ping.
func (p *peer) readPastPings() Frame {
	p.t.Helper()
	for {
		if f := p.read(); f.Opcode != Ping {
			return f
		}
	}
}

// expect reads a frame and checks that it is a whole message with this payload.
func (p *peer) expect(op Opcode, payload string) {
	p.t.Helper()
	p.Expect(byte(op), payload)
}

// expectClose reads a close frame with code, or without one for
// StatusNoStatusReceived, and returns its reason.
func (p *peer) expectClose(code StatusCode) string {
	p.t.Helper()
	return p.ExpectClose(uint16(code))
}

// finish does the client's part of a normal close handshake, and waits for the
// handler and the end of the connection.
func (p *peer) finish(done <-chan error) {
	p.t.Helper()
	p.Close()
	<-done
}

// checkEcho checks that the connection of an echo works. It may be so old that it has got pings.
func checkEcho(p *peer) {
	p.t.Helper()
	p.send(Text, "still here")
	if f := p.readPastPings(); f.Opcode != Text || string(f.Payload) != "still here" {
		p.t.Fatalf("got a frame with opcode %v and payload %q, want the echo", f.Opcode, f.Payload)
	}
}

func resetPeer(p *peer) { p.Reset() }

// hangUp closes the peer's write side, so that the server does not wait for more bytes.
func hangUp(p *peer) { p.ShutWrite() }

// toFrame converts a frame of wstest. Length is left at zero.
func toFrame(f wstest.Frame) Frame {
	h := Header{
		Fin:    f.Fin(),
		RSV1:   f.First&0x40 != 0,
		RSV2:   f.First&0x20 != 0,
		RSV3:   f.First&0x10 != 0,
		Opcode: Opcode(f.Opcode()),
	}
	return Frame{h, f.Payload}
}

// A recorder notes the frames that the peer of a connection receives, with their times.
type recorder struct {
	*wstest.Recorder
	t testing.TB
}

// record returns a recorder of the frames that p receives. The test must not use p any
// more. With pongs, the recorder answers pings.
func record(p *peer, pongs bool) *recorder {
	return &recorder{wstest.Record(p.Client, pongs), p.t}
}

// expect compares the events so far. Binary messages are left out.
func (r *recorder) expect(want ...string) {
	r.t.Helper()
	r.Expect(r.t, want...)
}

// hangUp closes the peer's socket.
func (r *recorder) hangUp() { r.Client.Conn.Close() }

// first returns the first byte of a frame.
func first(fin bool, op Opcode) byte {
	if fin {
		return wstest.Fin | byte(op)
	}
	return byte(op)
}

// clientFrame returns a masked frame, as a client sends it.
func clientFrame(fin bool, op Opcode, payload string) []byte {
	return wstest.ClientFrame(first(fin, op), payload)
}

// clientHeader returns only the header of a client's frame of length bytes.
func clientHeader(fin bool, op Opcode, length uint64) []byte {
	return wstest.ClientHeader(first(fin, op), length)
}

// testMaskKey is the masking key of the examples in RFC 6455 section 5.7.
var testMaskKey = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// messageBurst returns n messages in one segment.
func messageBurst(n int, payload string) []byte {
	return bytes.Repeat(clientFrame(true, Binary, payload), n)
}

// withBits returns frame with these bits set in its first byte.
func withBits(bits byte, frame []byte) []byte {
	frame = bytes.Clone(frame)
	frame[0] |= bits
	return frame
}

// stars returns a text of n bytes.
func stars(n int) string { return strings.Repeat("*", n) }

func closeBody(code StatusCode, reason string) string {
	return wstest.ClosePayload(uint16(code), reason)
}

// startServer runs fn in a real http.Server until the test ends.
func startServer(t testing.TB, fn HandlerFunc, opts ...Option) *httptest.Server {
	t.Helper()
	return wstest.Serve(t, Handle(fn, opts...))
}

// dialServer connects to srv over TCP and does the handshake. headers are lines with
// their line ends.
func dialServer(t testing.TB, srv *httptest.Server, headers ...string) *peer {
	t.Helper()
	p := dialTCP(t, srv)
	p.Handshake(headers...)
	return p
}

// dialTCP connects to srv without a handshake.
func dialTCP(t testing.TB, srv *httptest.Server) *peer {
	t.Helper()
	return &peer{wstest.Dial(t, srv.Listener.Addr().String()), t}
}

// dialTLS runs fn in a TLS server and connects to it.
func dialTLS(t testing.TB, fn HandlerFunc, opts ...Option) *peer {
	t.Helper()
	srv := wstest.ServeTLS(t, Handle(fn, opts...))
	p := &peer{wstest.DialTLS(t, srv.Listener.Addr().String()), t}
	p.Handshake()
	return p
}

// newPipeConn returns a Conn on one end of a connection in memory, and its peer on the
// other end. There is no handshake. It is for tests in which time matters.
func newPipeConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	return newWrappedConn(t, func(conn net.Conn) net.Conn { return conn }, opts...)
}

// newWrappedConn is newPipeConn, but wrap wraps the server's end.
func newWrappedConn(t testing.TB, wrap func(net.Conn) net.Conn, opts ...Option) (*Conn, *peer) {
	server, client := net.Pipe()
	return newTestConn(wrap(server), nil, opts...), newPeer(t, client)
}

// newTCPConn returns a Conn on a real TCP connection, and its peer. No handler runs.
func newTCPConn(t testing.TB, opts ...Option) (*Conn, *peer) {
	t.Helper()
	client, server := tcpPair(t)
	c := newTestConn(server, nil, opts...)
	p := newPeer(t, client)
	t.Cleanup(func() {
		client.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c, p
}

// receiveAll receives messages until the connection ends, and returns the error.
func receiveAll(c *Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
	}
}

// echoAll is the echo handler of the package's documentation.
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

// waitForEnd neither receives nor sends. It returns when the connection ends.
func waitForEnd(c *Conn) error {
	<-c.Context().Done()
	return endOf(c)
}

// processors has room for the tests that compute at the same time.
var processors = make(chan struct{}, runtime.GOMAXPROCS(0))

// computes runs the rest of t beside the tests that wait for the clock. A test with parallel
// subtests must not call it, but they may. More tests that compute than processors would delay those
// that wait, and they may fail if they are late. A test that measures what the process uses, or
// that allows less than a second, must run alone, so it is not parallel at all.
func computes(t *testing.T) {
	t.Helper()
	t.Parallel()
	processors <- struct{}{}
	t.Cleanup(func() { <-processors })
}

// captureError returns a handler that runs fn, and a channel on which the test can await
// the error of fn.
func captureError(fn HandlerFunc) (HandlerFunc, <-chan error) {
	results := make(chan error, 16)
	return func(c *Conn) error {
		err := fn(c)
		results <- err
		return err
	}, results
}

// await returns the next value of ch. It fails the test if none comes.
func await[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(wstest.Patience):
		t.Fatal("no value came within wstest.Patience")
		panic("unreachable")
	}
}

// pastTime is a deadline that has passed.
var pastTime = time.Unix(1, 0)

// endOf returns the error that ended the connection, or nil while it is open.
func endOf(c *Conn) error { return context.Cause(c.Context()) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// wantError checks that err is each of the targets.
func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("got error %v, want one that is %v", err, target)
		}
	}
}

// wantMention checks that text contains all parts.
func wantMention(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got text %q, want it to mention %q", text, part)
		}
	}
}

// wantDuration checks how long an operation took, to the nanosecond, because time is fake.
func wantDuration(t testing.TB, what string, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// timedCall calls call and returns its error. The call must take want, to the nanosecond.
// If call does not return, the result is nil, and the test must make call return.
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

// errReset is the error of a socket after a reset. On Windows, it is WSAECONNRESET, and
// syscall.ECONNRESET is another number.
var errReset = func() error {
	if runtime.GOOS == "windows" {
		return syscall.Errno(10054)
	}
	return syscall.ECONNRESET
}()

// checkAllocs checks the number of allocations of f.
func checkAllocs(t *testing.T, what string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("%s: got %v allocations, want %v", what, got, want)
	}
}

// Tests use the internals of a Conn through the functions below. The exceptions are
// constants, and tests of a single function.

// newTestConn returns a Conn on conn. buffered holds the bytes that the client has sent
// after the handshake.
func newTestConn(conn net.Conn, buffered []byte, opts ...Option) *Conn {
	return newRequestConn(httptest.NewRequest("GET", "/", nil), conn, buffered, opts...)
}

func newRequestConn(r *http.Request, conn net.Conn, buffered []byte, opts ...Option) *Conn {
	cfg := &newOptions(opts).config
	var agreed agreement
	if offers := r.Header["Sec-Websocket-Extensions"]; cfg.minCompressed >= 0 && offers != nil {
		agreed = negotiate(offers)
	} else if cfg.minCompressed >= 0 {
		agreed = negotiate([]string{deflateName})
	}
	return newConn(conn, r, "", agreed, cfg, buffered)
}

// serveConn runs fn with c, as a Handler with these options does. It returns when the
// connection is closed.
func serveConn(c *Conn, fn HandlerFunc, opts ...Option) {
	h := Handle(fn, opts...)
	h.conns.begin()
	h.conns.add(c)
	h.serve(c)
}

// runHandler calls serveConn on a goroutine. The error of fn comes on the channel.
func runHandler(c *Conn, fn HandlerFunc, opts ...Option) <-chan error {
	done := make(chan error, 1)
	var result error
	go func() {
		serveConn(c, func(c *Conn) error { result = fn(c); return result }, opts...)
		done <- result
	}()
	return done
}

// runConcurrent is runHandler, but reads ahead as HandleConcurrent does.
func runConcurrent(c *Conn, fn HandlerFunc, opts ...Option) <-chan error {
	beginReadAhead(c)
	return runHandler(c, fn, opts...)
}

// runners run a function as the handlers do that have these names.
var runners = map[string]func(*Conn, HandlerFunc, ...Option) <-chan error{"Handle": runHandler, "HandleConcurrent": runConcurrent}

// beginReadAhead starts the goroutine that reads ahead for HandleConcurrent.
func beginReadAhead(c *Conn) {
	prepareReadAhead(c)
	c.inbox.readsAhead().start()
}

// readsAhead reports whether a goroutine reads ahead, as for HandleConcurrent.
func readsAhead(c *Conn) bool { return c.inbox != nil }

// wantSocketClosed checks that the socket is closed already.
func wantSocketClosed(t testing.TB, c *Conn) {
	t.Helper()
	if !c.life.closed.IsSet() {
		t.Error("the socket is still open")
	}
}

// lockInput locks the reader of c, which a poll may be using, until the function that it returns is
// called.
func lockInput(c *Conn) (unlock func()) {
	c.in.lock.Lock()
	return c.in.lock.Unlock
}

// dropUnread drops what arrived before the end of c and can still be received.
func dropUnread(c *Conn) {
	defer lockInput(c)()
	c.life.noteUnread(false)
}

// bufferSize returns the size of the read buffer that c holds. No receiving call may be waiting.
func bufferSize(c *Conn) int {
	defer lockInput(c)()
	return len(c.in.buf.buf)
}

// unused returns the bytes in the read buffer of c that were not used yet. No receiving call may be
// waiting.
func unused(c *Conn) []byte {
	defer lockInput(c)()
	return c.in.buf.bytes()
}

// unfinishedSize returns how much c keeps of a message that a deadline has interrupted.
func unfinishedSize(c *Conn) int {
	defer lockInput(c)()
	if c.in.begun == nil {
		return 0
	}
	return cap(c.in.begun.data)
}

// isInflating reports whether c is in the middle of a compressed message.
func isInflating(c *Conn) bool {
	defer lockInput(c)()
	return c.in.inflating
}

// roomForFirstFrame reads once from the socket, opens the first frame, and returns the
// capacity that a message gets for it.
func roomForFirstFrame(t testing.TB, c *Conn) int {
	t.Helper()
	defer lockInput(c)()
	if err := c.in.fill(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.next(modeMessages); err != nil {
		t.Fatal(err)
	}
	b := c.in.buf.bytes()
	return cap(c.in.incoming.growMessage(nil, min(len(b), int(c.in.incoming.left)), b))
}

// skipIfBuffered skips the test if c cannot wait without a read buffer on this platform.
func skipIfBuffered(t testing.TB, c *Conn) {
	t.Helper()
	if !c.socket.waitsWithoutBuffer() {
		t.Skip("this platform waits with a buffer")
	}
}

// pollOnce polls the socket as the keepalive does.
func pollOnce(c *Conn) {
	lockInput(c) // poll unlocks it
	c.poll(math.MaxUint8)
}

// failConn fails the connection with err, as if the peer had broken a rule.
func failConn(c *Conn, err error) {
	defer lockInput(c)()
	c.failConnection(err)
}

// parseHeader calls Header.parse and returns the Header.
func parseHeader(b []byte) (h Header, n int, err error) {
	n, err = h.parse(b)
	return h, n, err
}

// isReceiving reports whether a goroutine holds the lock of the receiving side.
func isReceiving(c *Conn) bool {
	if c.in.tryLock() {
		c.in.lock.Unlock()
		return false
	}
	return true
}

// heldByConn reports which parts c holds that an idle connection does not need.
func heldByConn(c *Conn) map[string]bool {
	return map[string]bool{
		"the user's deadlines":         c.socket.user != nil,
		"a context":                    c.life.ctx.Load() != nil,
		"a channel for its end":        isMade(&c.life.over, "over"),
		"a channel for its socket":     isMade(&c.life.closed, "over"),
		"a buffer of pending frames":   c.out.hasPending.Load(),
		"a timer for pending frames":   c.out.pending != nil,
		"a channel of waiting senders": isMade(&c.out.lock, "queue"),
	}
}

// hasTimer reports whether the keepalive has a timer.
func hasTimer(c *Conn) bool { return isMade(&c.timer.alarm, "timer") }

// isMade reports whether the field of v is set. It is for types of package wait, which make
// a channel or a timer only when it is needed.
func isMade(v any, field string) bool {
	return !reflect.ValueOf(v).Elem().FieldByName(field).IsZero()
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return socketPair(t, l)
}

// socketPair returns both ends of a connection to l, and closes l.
func socketPair(t testing.TB, l net.Listener) (client, server net.Conn) {
	t.Helper()
	defer l.Close()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// failAsync fails a connection as the keepalive does.
func failAsync(c *Conn, err error) {
	if c.beginFailing(err) {
		c.failAsync(nil)
	}
}
