package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// TestServe checks that the server echoes messages, compressed ones too, and that it closes the
// connection with 1001 when it stops.
func TestServe(t *testing.T) {
	t.Run("Handle", func(t *testing.T) { testServe(t, false) })
	t.Run("HandleConcurrent", func(t *testing.T) { testServe(t, true) })
}

func testServe(t *testing.T, concurrent bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l, newHandler(concurrent, websocket.Compression(100))) }()

	conn, br := dial(t, l.Addr().String())
	hello := websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: websocket.Text, Masked: true},
		Payload: []byte("hello"),
	}
	compressed := hello
	compressed.RSV1, compressed.Payload = true, []byte("\xca\x48\xcd\xc9\xc9\x07\x00")
	for _, f := range []websocket.Frame{hello, compressed, hello} {
		if err := websocket.WriteFrame(conn, f); err != nil {
			t.Fatal(err)
		}
		expectFrame(t, br, websocket.Text, "hello")
	}

	stop()
	expectFrame(t, br, websocket.Close, "\x03\xe9")
	answer := websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: websocket.Close, Masked: true},
		Payload: []byte("\x03\xe9"),
	}
	if err := websocket.WriteFrame(conn, answer); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
		t.Errorf("after the close frame got %x (error %v), want EOF", rest, err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve returned %v, want no error", err)
	}
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := []string{"GET / HTTP/1.1", "Host: " + addr, "Origin: http://elsewhere.test", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "", ""}
	if _, err := io.WriteString(conn, strings.Join(request, "\r\n")); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake response is %s, want 101", resp.Status)
	}
	return conn, br
}

func expectFrame(t *testing.T, br *bufio.Reader, op websocket.Opcode, payload string) {
	t.Helper()
	f, err := websocket.ReadFrame(br, 1<<20)
	if err != nil || f.Opcode != op || string(f.Payload) != payload {
		t.Fatalf("got a %v frame with %q (error %v), want a %v frame with %q", f.Opcode, f.Payload, err, op, payload)
	}
}
