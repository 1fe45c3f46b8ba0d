package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// The load generator opens its connections, gets its messages back, answers pings, and notices
// connections that the server closes.
func TestRun(t *testing.T) {
	var served sync.WaitGroup
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		return c.SendMessage, nil
	}, websocket.PingInterval(20*time.Millisecond))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		defer served.Done()
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	lines := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "ws"+strings.TrimPrefix(srv.URL, "http"), options{conns: 20, opening: 1000, rate: 1000, size: 8}, writer{ctx, lines}, 20*time.Millisecond)
	}()
	awaitLine(t, lines, `^ +20 connections, 0 failed, 0 lost; [1-9]\d* messages/s sent, [1-9]\d* answered, [1-9]\d* pings/s; answers after `)
	go h.Shutdown(ctx)
	awaitLine(t, lines, `^ +0 connections, 0 failed, 20 lost; .*1001`)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	served.Wait()
}

// awaitLine waits for a line that matches want.
func awaitLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	pattern, last := regexp.MustCompile(want), ""
	for limit := time.After(20 * time.Second); ; {
		select {
		case last = <-lines:
			if pattern.MatchString(last) {
				return
			}
		case <-limit:
			t.Fatalf("got the line %q, want one like %q", last, want)
		}
	}
}

// A writer passes lines on until ctx is done.
type writer struct {
	ctx   context.Context
	lines chan<- string
}

func (w writer) Write(p []byte) (int, error) {
	select {
	case w.lines <- string(p):
	case <-w.ctx.Done():
	}
	return len(p), nil
}

func TestRun_refuses_bad_flags(t *testing.T) {
	good := options{conns: 1, opening: 1, size: 8}
	tests := []struct {
		name, url string
		change    func(*options)
		want      string
	}{
		{"no port", "ws://localhost/ws", func(*options) {}, "host:port"},
		{"another scheme", "http://localhost:80/ws", func(*options) {}, "ws://"},
		{"no connections", "ws://localhost:80/ws", func(o *options) { o.conns = 0 }, "-n is 0"},
		{"a negative rate", "ws://localhost:80/ws", func(o *options) { o.rate = -1 }, "-rate is -1"},
		{"a small size", "ws://localhost:80/ws", func(o *options) { o.size = 7 }, "-size is 7"},
		{"a name as an address", "ws://localhost:80/ws", func(o *options) { o.from = []string{"localhost"} }, "-from"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := good
			tt.change(&o)
			if err := run(t.Context(), tt.url, o, nil, time.Second); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// The server does not answer the handshake. The end does not wait for it.
func TestRun_ends_during_handshakes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "ws://"+l.Addr().String(), options{conns: 1, opening: 1000, size: 8}, io.Discard, time.Hour)
	}()
	conn, err := l.Accept() // and nothing else
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(timeout / 2):
		t.Error("the handshake still waits")
	}
}
