package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

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

// A browser is a client of the chat, in memory.
type browser struct {
	*websockettest.Client
	t *testing.T
}

// dial connects a browser to the room.
func dial(t *testing.T, h *hub) *browser {
	t.Helper()
	c := websockettest.Dial(t, routes(h), websockettest.URL("/chat"), websockettest.Header("Origin", "http://example.com"))
	return &browser{c, t}
}

// join connects a browser, sends its hello and returns the browser and its welcome.
func join(t *testing.T, h *hub, name string) (*browser, event) {
	t.Helper()
	b := dial(t, h)
	b.SendJSON(hello{Name: name, Key: "key of " + name})
	return b, b.expect("welcome")
}

func (b *browser) say(id, text string) {
	b.t.Helper()
	b.SendJSON(remark{ID: id, Text: text})
}

// receive returns the next event.
func (b *browser) receive() (e event) {
	b.t.Helper()
	b.ReceiveJSON(&e)
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

// Ctrl-C closes all connections with 1001, also before their hello.
func TestShutdown(t *testing.T) {
	h := newHub(defaultLimits())
	addr, stop := start(t, h)
	ada, _ := join(t, h, "Ada")
	bob, _ := join(t, h, "Bob")
	silent := dial(t, h)
	ada.expect("joined")
	// No event says that the silent browser has entered the room. Eve connects
	// later. When Eve has the welcome, the silent browser very likely is in the room.
	eve, _ := join(t, h, "Eve")

	result := make(chan error, 1)
	go func() { result <- stop() }()
	for _, b := range []*browser{ada, bob, silent, eve} {
		b.WantClose(websocket.StatusGoingAway)
	}
	if err := <-result; err != nil {
		t.Errorf("the chat stopped with %v, want no error", err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the chat still accepts connections")
	}
}

// A page notices a failure of the network because an event comes every 20 seconds otherwise.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(defaultLimits())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		begin := time.Now()
		go func() { ended <- run(ctx, make(wstest.IdleListener), h) }()
		ada, _ := join(t, h, "Ada")
		for i := range 3 {
			ada.expect("alive")
			if got, want := time.Since(begin), time.Duration(i+1)*20*time.Second; got != want {
				t.Errorf("event %d came after %v, want %v", i+1, got, want)
			}
		}
		stop()
		ada.WantClose(websocket.StatusGoingAway)
		if err := <-ended; err != nil {
			t.Errorf("the chat stopped with %v, want no error", err)
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
	c := websockettest.Dial(t, routes(newHub(defaultLimits())), websockettest.URL("/chat"), websockettest.Header("Origin", "http://elsewhere.example"))
	if res := c.Response(); res.StatusCode != http.StatusForbidden {
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
