package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestNewHandler(t *testing.T) {
	for _, way := range []string{"messages", "detached", "handle"} {
		t.Run(way, func(t *testing.T) {
			h, err := newHandler(way, newCloser())
			if err != nil {
				t.Fatal(err)
			}
			m := newMeter(h)
			const clients = 3
			for range clients {
				c := websockettest.Dial(t, h)
				c.Send(websocket.Text, []byte("hello"))
				if _, got := c.Receive(); string(got) != "hello" {
					t.Errorf("got %q, want hello", got)
				}
			}
			f := m.measure()
			if f.open != clients || f.opened <= 0 || f.received <= 0 || f.sent <= 0 || f.memory == 0 {
				t.Errorf("got the figures %+v, want %d connections and their messages", f, clients)
			}
			page := httptest.NewRecorder()
			m.ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
			if got := page.Body.String(); got != f.String()+"\n" || !strings.Contains(got, " 3 connections") {
				t.Errorf("the page has %q, want %q", got, f)
			}
		})
	}
	if _, err := newHandler("fast", nil); err == nil || !strings.Contains(err.Error(), `"fast"`) {
		t.Errorf("got the error %v, want one that names the wrong value", err)
	}
}

// run prints figures until it is stopped. Then the clients get a close frame.
func TestRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closing := newCloser()
	h, err := newHandler("messages", closing)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines := make(lineWriter, 100)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l, h, closing, time.Millisecond, lines) }()
	for range 3 {
		<-lines
	}
	res, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("got the status %s, want 200", res.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The close handshakes of many connections are not all in progress at the same time.
func TestCloseAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing := make(closer, 2)
		h, err := newHandler("messages", closing)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			websockettest.Dial(t, h) // and does not answer the close frame
		}
		synctest.Wait() // until the handler has all of them
		start := time.Now()
		closing.closeAll(t.Context(), h)
		const closeTimeout = 5 * time.Second // the default
		if took := time.Since(start); took < 2*closeTimeout {
			t.Errorf("5 close handshakes began within %v, want 2 at a time", took)
		}
	})
}

// A lineWriter passes lines on until it is full.
type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	select {
	case w <- string(bytes.TrimSpace(p)):
	default:
	}
	return len(p), nil
}
