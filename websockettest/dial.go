// Package websockettest tests WebSocket handlers, as net/http/httptest tests HTTP handlers.
//
// [Dial] serves one client with a handler, over a connection in memory. The methods of the
// [Client] send and receive. A method that cannot succeed fails the test and says what
// arrived instead:
//
//	func TestGreet(t *testing.T) {
//		c := websockettest.Dial(t, websocket.Handle(greet))
//		c.Send(websocket.Text, []byte("Ada"))
//		if _, data := c.Receive(); string(data) != "Hello, Ada" {
//			t.Errorf("got %q, want a greeting", data)
//		}
//		c.Close(websocket.StatusNormalClosure, "")
//	}
//
// The handler can be everything that an [http.Server] can serve: a [websocket.Handler], an
// [http.ServeMux], or either of them in middleware. A real http.Server serves it, so
// cookies, panics, hijacking and [websocket.Detached] work as in production. The log of the
// server is in the log of the test. To test several clients, call Dial several times with the
// same handler.
//
// # Time
//
// A test of timeouts runs in a bubble of [testing/synctest], whose clock is fake: an hour
// passes as soon as all goroutines of the bubble wait. Call Dial inside the bubble, with the t of
// the bubble.
//
// A method fails the test if it has waited for 10 seconds or, inside a bubble, for 48 hours
// of the fake clock. These hours take about a second, and they leave time for every timeout
// that a handler can reasonably have. With a PingInterval of a second or less they take
// longer, because the client answers every ping.
//
// The fake clock stands still while a goroutine of the bubble is busy. So a method also
// fails the test when it has read 250,000 frames, because a handler may send without a
// pause. A handler that is busy for ever and sends nothing blocks its test. So does a goroutine of
// the bubble that waits for a sync.Mutex, or for something outside of the bubble, such as a file or
// a network connection: see "Blocking" in the documentation of testing/synctest.
//
// # The client
//
// The client is strict. A frame, a message or a handshake that breaks RFC 6455 fails the
// test. [Client.ReceiveFrame] and [Client.SendFrame] are for tests of such frames.
//
// Between two calls, the client does nothing: it does not answer pings or close frames. It
// accepts up to 4 MiB that the test has not received yet, so a handler seldom waits for
// the test. [Client.StopReading] makes it a client that does not read.
//
// The methods of a Client must be called by the goroutine of the test, because only that
// goroutine can fail a test. Abort, StopReading, StartReading and Response may be called by
// any goroutine.
package websockettest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/memnet"
)

// How long a method waits for something that must happen.
const (
	waitLimit   = 10 * time.Second
	bubbleLimit = 48 * time.Hour

	// A handler that does not receive may notice the end of its connection only when it
	// sends the next ping, which is 15 s later by default.
	endLimit = 20 * time.Second
)

// How many unread bytes each side may have sent. The client reads all the time, as a browser does,
// so that many bytes wait in its memory.
const (
	readBuffer    = 4 << 20
	stoppedBuffer = 64 << 10 // after StopReading
	sendBuffer    = 4 << 20
)

// host is the host of requests whose URL names none. httptest.NewRequest has the same.
const host = "example.com"

// A DialOption changes the handshake that [Dial] sends.
type DialOption func(*dialer)

// A dialer holds the settings of a call of Dial.
type dialer struct {
	url          string
	header       http.Header
	subprotocols []string
	compression  bool
}

// URL sets the path of the request, with its query if it has one: "/chat?room=1". The
// default is "/". "ws://app.example/chat" also sets the Host header, which is example.com
// otherwise.
func URL(path string) DialOption {
	return func(d *dialer) { d.url = path }
}

// Header adds a header to the request, such as an Origin, a cookie or a token. By default
// the request has no Origin header, so it is not that of a browser. If Dial sends a header
// of this name itself, such as Sec-WebSocket-Version, the first Header of that name replaces
// it. The name Host sets the host. Dial fails the test if net/http does not send the header as it is,
// such as Content-Length.
func Header(name, value string) DialOption {
	return func(d *dialer) {
		d.header[http.CanonicalHeaderKey(name)] = append(d.header[http.CanonicalHeaderKey(name)], value)
	}
}

// Subprotocols offers these subprotocols, the preferred one first. If the handler chooses
// another one, Dial fails the test. By default no subprotocol is offered.
func Subprotocols(names ...string) DialOption {
	names = slices.Clone(names)
	return func(d *dialer) { d.subprotocols = names }
}

// Compression offers permessage-deflate (RFC 7692), as browsers do. If the handler accepts
// it, Send and SendJSON compress every message, and Receive, ReceiveJSON and WantClose
// inflate messages. SendFrame and ReceiveFrame leave payloads as they are. By default it is
// not offered.
func Compression() DialOption {
	return func(d *dialer) { d.compression = true }
}

// Dial sends a handshake to h and returns the client of the connection. The client and h
// are connected in memory. Inside a testing/synctest bubble, Dial must be called by a
// goroutine of the bubble, with the t of the bubble, and the connection belongs to the bubble.
//
// If h refuses the handshake, Dial returns too. [Client.Response] has the refusal, and
// methods that send or receive fail the test. Dial fails the test if h sends no response, or
// one that is not valid.
//
// When the test ends, the client closes its side of the connection without a close frame, as
// a browser that is closed does. The test then waits until the handler has returned and has
// closed the connection. If that takes 20 seconds, or 48 hours of the clock of a bubble, the
// test fails with the stacks of the handler's goroutines. If the handler waits for something
// that the test does, do it before the test function returns, for example with defer. If there are
// several clients, each of them closes when its cleanup runs, the last one first. But if its handler
// has not returned after a twentieth of that time, all clients close, because the handler may wait for
// one of them.
func Dial(t testing.TB, h http.Handler, opts ...DialOption) *Client {
	t.Helper()
	if h == nil {
		t.Fatalf("websockettest: Dial: the handler is nil")
	}
	d := &dialer{url: "/", header: http.Header{}}
	for i, opt := range opts {
		if opt == nil {
			t.Fatalf("websockettest: Dial: option %d is nil: leave it out", i+1)
		}
		opt(d)
	}
	req, err := d.request()
	if err != nil {
		t.Fatalf("websockettest: Dial: %v", err)
	}
	wire, err := d.encode(req)
	if err != nil {
		t.Fatalf("websockettest: Dial: %v", err)
	}
	limit, end := waitLimit, endLimit
	if inBubble() {
		limit, end = bubbleLimit, bubbleLimit
	}
	near, far := memnet.Pipe(nextAddr(), serverAddr)
	near.SetReadBuffer(readBuffer)
	far.SetReadBuffer(sendBuffer)
	c := &Client{t: t, conn: near, in: bufio.NewReader(near), limit: limit, server: newServer(t, h, far)}
	clients := addClient(t, c)
	t.Cleanup(func() { clients.end(c, end) })
	c.server.start()
	c.handshake(d, req, wire)
	return c
}

var serverAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}

var dials atomic.Uint32

// nextAddr returns an address for a client: one of those that are reserved for
// documentation, and a port that the last clients do not have.
func nextAddr() *net.TCPAddr {
	const first, ports = 49152, 1 << 14
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: first + int(dials.Add(1)%ports)}
}

// inBubble reports whether the calling goroutine is in a bubble of testing/synctest. There is no
// function for it: synctest.Wait panics outside a bubble, but inside it would wait. The first line
// of a stack shows it. If another release of Go words that line differently, waits in a bubble end
// after waitLimit of its clock.
func inBubble() bool {
	var buf [128]byte
	line, _, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte("\n"))
	return bytes.Contains(line, []byte("synctest bubble"))
}

// request returns the handshake.
func (d *dialer) request() (*http.Request, error) {
	u, err := parseURL(d.url)
	if err != nil {
		return nil, fmt.Errorf("URL(%q): %w", d.url, err)
	}
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = d.defaults()
	for name, values := range d.header {
		if name == "Host" {
			req.Host = values[len(values)-1]
			continue
		}
		req.Header[name] = values
	}
	return req, nil
}

// parseURL returns the URL of a request for a path or an address.
func parseURL(s string) (*url.URL, error) {
	s, _, _ = strings.Cut(s, "#")
	if strings.HasPrefix(s, "/") {
		s = "ws://" + host + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "ws" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("want a path that begins with /, or ws://host/path")
	}
	u.Scheme = "http"
	return u, nil
}

// defaults returns the headers of a valid handshake.
func (d *dialer) defaults() http.Header {
	key := make([]byte, 16)
	rand.Read(key)
	h := http.Header{
		"Upgrade":               {"websocket"},
		"Connection":            {"Upgrade"},
		"Sec-Websocket-Key":     {base64.StdEncoding.EncodeToString(key)},
		"Sec-Websocket-Version": {"13"},
		"User-Agent":            {"websockettest"},
	}
	if len(d.subprotocols) > 0 {
		h["Sec-Websocket-Protocol"] = []string{strings.Join(d.subprotocols, ", ")}
	}
	if d.compression {
		h["Sec-Websocket-Extensions"] = []string{deflateOffer}
	}
	return h
}

// encode returns the bytes of the request. It refuses headers that net/http changes or leaves out.
func (d *dialer) encode(req *http.Request) ([]byte, error) {
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		return nil, err
	}
	sent, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire.Bytes())))
	if err != nil {
		return nil, err
	}
	sent.Header["Host"] = []string{sent.Host}
	for name, values := range d.header {
		if got := sent.Header[name]; !slices.Equal(got, values) {
			return nil, fmt.Errorf("Header(%q): net/http would send the values %q, not %q", name, got, values)
		}
	}
	return wire.Bytes(), nil
}

// handshake sends the request and reads the response.
func (c *Client) handshake(d *dialer, req *http.Request, wire []byte) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(c.limit))
	if _, err := c.conn.Write(wire); err != nil {
		c.t.Fatalf("websockettest: Dial: the handler has ended the connection before a response: %v", err)
	}
	res, err := c.readResponse(req)
	if isTimeout(err) {
		c.t.Fatalf("websockettest: Dial: the handler has sent no whole response in %v\n%s", c.limit, stacks([]string{c.server.label}))
	}
	if err != nil {
		c.t.Fatalf("websockettest: Dial: want a response to the handshake: %v", err)
	}
	c.response = res
	if res.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	if err := c.accept(d, req, res.Header); err != nil {
		c.t.Fatalf("websockettest: Dial: the handler accepted the handshake with a wrong response: %v", err)
	}
}

// readResponse reads a response and its body. It skips responses such as 103 Early Hints.
func (c *Client) readResponse(req *http.Request) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, fmt.Errorf("the body of the response %s: %w", res.Status, err)
		}
		if res.StatusCode >= 200 {
			c.refusal = res.Status + ": " + cut(body)
			res.Body = io.NopCloser(bytes.NewReader(body))
			return res, nil
		}
	}
}

// accept checks the headers of a 101 response (RFC 6455 section 4.1).
func (c *Client) accept(d *dialer, req *http.Request, h http.Header) error {
	key := req.Header.Get("Sec-WebSocket-Key")
	protocol := h.Values("Sec-WebSocket-Protocol")
	switch {
	case !strings.EqualFold(h.Get("Upgrade"), "websocket"):
		return fmt.Errorf("the header Upgrade is %q, want websocket", h.Get("Upgrade"))
	case !slices.ContainsFunc(strings.Split(h.Get("Connection"), ","), isUpgrade):
		return fmt.Errorf("the header Connection is %q, want Upgrade", h.Get("Connection"))
	case h.Get("Sec-WebSocket-Accept") != websocket.AcceptKey(key):
		return fmt.Errorf("Sec-WebSocket-Accept is %q, want %q for the key %q", h.Get("Sec-WebSocket-Accept"), websocket.AcceptKey(key), key)
	case len(protocol) > 1:
		return fmt.Errorf("Sec-WebSocket-Protocol is sent %d times", len(protocol))
	case len(protocol) == 1 && !offers(req.Header["Sec-Websocket-Protocol"], protocol[0]):
		return fmt.Errorf("Sec-WebSocket-Protocol is %q, want one of the offered %q", protocol[0], req.Header["Sec-Websocket-Protocol"])
	}
	extensions := strings.Join(h.Values("Sec-WebSocket-Extensions"), ", ")
	if extensions == "" {
		return nil
	}
	if len(req.Header["Sec-Websocket-Extensions"]) == 0 {
		return fmt.Errorf("Sec-WebSocket-Extensions is %q, but no extension was offered", extensions)
	}
	if !d.compression {
		return nil // the test has offered its own extension with Header
	}
	agreed, err := parseDeflate(extensions)
	if err != nil {
		return fmt.Errorf("Sec-WebSocket-Extensions is %q: %w", extensions, err)
	}
	c.deflate = agreed
	return nil
}

func isUpgrade(token string) bool { return strings.EqualFold(strings.TrimSpace(token), "upgrade") }

// offers reports whether the values of a header list contain name.
func offers(values []string, name string) bool {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(element) == name {
				return true
			}
		}
	}
	return false
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
