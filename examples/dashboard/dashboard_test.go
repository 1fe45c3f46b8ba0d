package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// start runs the dashboard and returns its address and a function that stops it. The dashboard
// also stops when the test ends.
func start(t *testing.T, m *monitor) (addr string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- run(ctx, l, m) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the dashboard stopped with %v, want no error", err)
		}
	})
	return l.Addr().String(), stop
}

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		want          int
	}{
		{"one", "1 xxx", 1},
		{"ten", "10 xxx", 10},
		{"the most", "100 ", 100},
		{"only a number", "7", 7},
		{"too many", "101 x", maxAnswers},
		{"far too many", "9999999 x", maxAnswers},
		{"a number that is cut", "1000000000000000000000 x", maxAnswers},
		{"none", "0 x", 1},
		{"less than none", "-5 x", 1},
		{"no number", "hello", 1},
		{"nothing", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := answers([]byte(tt.message)); got != tt.want {
				t.Errorf("answers(%q) is %d, want %d", tt.message, got, tt.want)
			}
		})
	}
}

func TestEcho(t *testing.T) {
	c := websockettest.Dial(t, newEchoes())
	for _, text := range []string{"hello", "1 hello", "3 hello"} {
		c.Send(websocket.Text, []byte(text))
		for range answers([]byte(text)) {
			if op, data := c.Receive(); op != websocket.Text || string(data) != text {
				t.Errorf("the answer to %q is %v %q, want the same text", text, op, data)
			}
		}
	}
	c.Close(websocket.StatusNormalClosure, "") // fails if there is another answer
}

// A client that does not read gets a queue, which the monitor sees. When it is full, the client
// is closed with 1013, and the others are not.
func TestEcho_SlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(newEchoes())
		slow, other := websockettest.Dial(t, m.echoes), websockettest.Dial(t, m.echoes)
		slow.StopReading()
		padding := strings.Repeat("x", 16<<10)
		longest := 0.0
		for longest < sendQueue*3/4 {
			slow.Send(websocket.Text, []byte("1 "+padding))
			synctest.Wait()
			m.next()
			s := m.history[len(m.history)-1]
			if s.Open != 2 {
				t.Fatalf("%d clients are open with a queue of %.0f bytes, want both", s.Open, longest)
			}
			longest = s.Queued.Max
		}
		if longest > sendQueue {
			t.Errorf("the queue has %.0f bytes, want %d at most", longest, sendQueue)
		}
		slow.Send(websocket.Text, []byte("100 "+padding))
		synctest.Wait()
		slow.StartReading()
		slow.WantClose(websocket.StatusTryAgainLater)
		other.Send(websocket.Text, []byte("still here"))
		if _, data := other.Receive(); string(data) != "still here" {
			t.Errorf("the other client got %q, want its message", data)
		}
	})
}

// Ctrl-C closes all connections with 1001.
func TestShutdown(t *testing.T) {
	m := newMonitor(newEchoes())
	addr, stop := start(t, m)
	client, viewer := websockettest.Dial(t, m.echoes), websockettest.Dial(t, m.socket)
	viewer.Receive()
	result := make(chan error, 1)
	go func() { result <- stop() }()
	for _, c := range []*websockettest.Client{client, viewer} {
		c.WantClose(websocket.StatusGoingAway)
	}
	if err := <-result; err != nil {
		t.Errorf("the dashboard stopped with %v, want no error", err)
	}
	if open := m.echoes.Stats().Open + m.socket.Stats().Open; open != 0 {
		t.Errorf("%d connections are open after the end, want none", open)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the dashboard still accepts connections")
	}
}

func TestPage(t *testing.T) {
	addr, _ := start(t, newMonitor(newEchoes()))
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

// Pages of other origins can neither watch the server nor open clients.
func TestOrigin(t *testing.T) {
	h := routes(newMonitor(newEchoes()))
	for _, endpoint := range []string{"/echo", "/stats"} {
		for origin, want := range map[string]int{
			"http://example.com":         http.StatusSwitchingProtocols,
			"http://elsewhere.example":   http.StatusForbidden,
			"http://example.com:8080":    http.StatusForbidden,
			"null":                       http.StatusForbidden,
			"http://example.com.evil.io": http.StatusForbidden,
		} {
			c := websockettest.Dial(t, h, websockettest.URL(endpoint), websockettest.Header("Origin", origin))
			if got := c.Response().StatusCode; got != want {
				t.Errorf("%s answers a page of %s with %d, want %d", endpoint, origin, got, want)
			}
		}
	}
}

// On the loopback address, the name of another site is refused, although its pages have the same
// origin as the request.
func TestLocalOnly(t *testing.T) {
	h := localOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"localhost":           http.StatusOK,
		"localhost:8080":      http.StatusOK,
		"127.0.0.1:8080":      http.StatusOK,
		"[::1]:8080":          http.StatusOK,
		"rebind.example:8080": http.StatusForbidden,
		"rebind.example":      http.StatusForbidden,
		"localhost.example":   http.StatusForbidden,
		"":                    http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("the Host header %q gets %d, want %d", host, w.Code, want)
		}
		if got := w.Header().Get("Connection"); want == http.StatusForbidden && got != "close" {
			t.Errorf("the refusal of the Host header %q has Connection %q, want close", host, got)
		}
	}
}

// A connection over the limit gets 503, and a place is free again when a connection ends.
func TestAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := atMost(2, newEchoes())
		first := websockettest.Dial(t, h)
		websockettest.Dial(t, h)
		res := websockettest.Dial(t, h).Response()
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "10" || !res.Close {
			t.Errorf("the third connection gets %s with Retry-After %q and close %t, want 503 with 10 and close", res.Status, res.Header.Get("Retry-After"), res.Close)
		}
		first.Close(websocket.StatusNormalClosure, "")
		synctest.Wait()
		if res := websockettest.Dial(t, h).Response(); res.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("after the first has ended, a connection gets %s, want 101", res.Status)
		}
	})
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
