package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// testTimeout limits every wait in these tests.
const testTimeout = 30 * time.Second

// start runs the chat and returns its address and a function that stops it. The chat also
// stops when the test ends.
func start(t *testing.T, h *hub) (addr string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- run(ctx, l, h) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-result
	}
	t.Cleanup(func() {
		if stopped {
			return
		}
		if err := stop(); err != nil {
			t.Errorf("the chat stopped with %v, want no error", err)
		}
	})
	return l.Addr().String(), stop
}

// unpaced returns limits with which remarks do not wait.
func unpaced() limits {
	l := defaultLimits()
	l.perMember.pace, l.byAddress.pace, l.wholeRoom.pace = 0, 0, 0
	return l
}

// A browser is a client of the chat that reads and writes frames.
type browser struct {
	t    *testing.T
	conn *net.TCPConn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *browser {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testTimeout))
	b := &browser{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
	if res := b.handshake(addr, "http://"+addr); res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake response is %s, want 101", res.Status)
	}
	return b
}

// handshake sends a handshake and returns the response.
func (b *browser) handshake(host, origin string) *http.Response {
	b.t.Helper()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(b.conn, "GET /chat HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", host, origin, key)
	res, err := http.ReadResponse(b.r, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if got, want := res.Header.Get("Sec-WebSocket-Accept"), websocket.AcceptKey(key); res.StatusCode == 101 && got != want {
		b.t.Fatalf("Sec-WebSocket-Accept is %q, want %q", got, want)
	}
	return res
}

// join connects a browser, sends its hello and returns the browser and its welcome.
func join(t *testing.T, addr, name string) (*browser, event) {
	t.Helper()
	b := dial(t, addr)
	b.send(hello{Name: name, Key: "key of " + name})
	return b, b.expect("welcome")
}

func (b *browser) send(v any) {
	b.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(websocket.Text, data)
}

func (b *browser) write(op websocket.Opcode, payload []byte) {
	b.t.Helper()
	key := [4]byte{1, 2, 3, 4}
	masked := append([]byte{}, payload...)
	websocket.Mask(masked, key, 0)
	h := websocket.Header{Fin: true, Opcode: op, Masked: true, MaskKey: key}
	if err := websocket.WriteFrame(b.conn, websocket.Frame{Header: h, Payload: masked}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) say(id, text string) {
	b.t.Helper()
	b.send(remark{ID: id, Text: text})
}

// read returns the next frame that is not a ping.
func (b *browser) read() websocket.Frame {
	b.t.Helper()
	for {
		f, err := websocket.ReadFrame(b.r, 1<<20)
		if err != nil {
			b.t.Fatalf("reading a frame: %v", err)
		}
		if f.Opcode != websocket.Ping {
			return f
		}
	}
}

// receive returns the next event.
func (b *browser) receive() (e event) {
	b.t.Helper()
	f := b.read()
	if f.Opcode != websocket.Text || json.Unmarshal(f.Payload, &e) != nil {
		b.t.Fatalf("got a %v frame with %q, want an event", f.Opcode, f.Payload)
	}
	return e
}

// expect returns the next event. Its type must be kind.
func (b *browser) expect(kind string) event {
	b.t.Helper()
	e := b.receive()
	if e.Type != kind {
		b.t.Fatalf("got event %+v, want an event of type %q", e, kind)
	}
	return e
}

// expectClose reads until the close frame, which must have this code, answers it, waits
// for the end of the connection and returns the reason.
func (b *browser) expectClose(code websocket.StatusCode) (reason string) {
	b.t.Helper()
	f := b.read()
	for f.Opcode == websocket.Text {
		f = b.read()
	}
	if f.Opcode != websocket.Close || !strings.HasPrefix(string(f.Payload), status(code)) {
		b.t.Fatalf("got a %v frame with %q, want a close frame with %v", f.Opcode, f.Payload, code)
	}
	b.write(websocket.Close, f.Payload[:2])
	if _, err := b.r.ReadByte(); err != io.EOF {
		b.t.Fatalf("after the close handshake, reading returned %v, want EOF", err)
	}
	return string(f.Payload[2:])
}

// leave closes the connection with 1000.
func (b *browser) leave() {
	b.t.Helper()
	b.write(websocket.Close, []byte(status(websocket.StatusNormalClosure)))
	if f := b.read(); f.Opcode != websocket.Close {
		b.t.Fatalf("the answer to the close frame is a %v frame, want a close frame", f.Opcode)
	}
	b.conn.Close()
}

// status returns the bytes of code in a close frame.
func status(code websocket.StatusCode) string {
	return string([]byte{byte(code >> 8), byte(code)})
}

func TestShutdown(t *testing.T) {
	t.Run("closes all connections with 1001, also before their hello", func(t *testing.T) {
		addr, stop := start(t, newHub(defaultLimits()))
		ada, _ := join(t, addr, "Ada")
		bob, _ := join(t, addr, "Bob")
		silent := dial(t, addr)
		ada.expect("joined")
		// No event says that the silent browser has entered the room. Eve connects
		// later. When Eve has the welcome, the silent browser very likely is in the room.
		eve, _ := join(t, addr, "Eve")

		result := make(chan error, 1)
		go func() { result <- stop() }()
		for _, b := range []*browser{ada, bob, silent, eve} {
			b.expectClose(websocket.StatusGoingAway)
		}
		if err := <-result; err != nil {
			t.Errorf("the chat stopped with %v, want no error", err)
		}
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Error("the chat still accepts connections")
		}
	})

	t.Run("stops waiting when the context is done", func(t *testing.T) {
		h := newHub(defaultLimits())
		h.running.Add(1) // a connection that does not end
		defer h.running.Done()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("wait returned %v, want context.Canceled", err)
		}
	})
}

func TestPage(t *testing.T) {
	addr, _ := start(t, newHub(defaultLimits()))
	files, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		want, err := os.ReadFile(path.Join("page", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Get("http://" + addr + "/" + strings.TrimPrefix(file.Name(), "index.html"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || string(got) != string(want) {
			t.Errorf("%s: %s with %d bytes and error %v, want 200 with %d bytes", file.Name(), res.Status, len(got), err, len(want))
		}
		if policy := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") {
			t.Errorf("%s: Content-Security-Policy is %q, want scripts of this server alone", file.Name(), policy)
		}
	}
}

func TestOrigin(t *testing.T) {
	addr, _ := start(t, newHub(defaultLimits()))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testTimeout))
	b := &browser{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
	if res := b.handshake(addr, "http://elsewhere.example"); res.StatusCode != http.StatusForbidden {
		t.Errorf("the response to a page of another origin is %s, want 403", res.Status)
	}
}

func TestPageURL(t *testing.T) {
	for addr, want := range map[string]string{
		"[::]:8080":       "http://localhost:8080",
		"127.0.0.1:80":    "http://localhost:80",
		"192.0.2.1:8080":  "http://192.0.2.1:8080",
		"[2001:db8::1]:1": "http://[2001:db8::1]:1",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := pageURL(tcp); got != want {
			t.Errorf("pageURL(%s) is %s, want %s", addr, got, want)
		}
	}
}
