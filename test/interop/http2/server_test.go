package http2

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// clientTime limits the run of a client.
const clientTime = time.Minute

// skipMissing reports whether a missing program skips its test.
func skipMissing() bool { return os.Getenv("INTEROP_SKIP_MISSING") != "" }

// A site is the server: a page, and a WebSocket at /ws.
type site struct {
	*httptest.Server

	mu       sync.Mutex
	versions map[string]int // the WebSockets by the version of HTTP
	conns    map[string]int // and by the TCP connection
}

// startSite serves the site until the test ends, with TLS or without.
func startSite(t *testing.T, secure bool) *site {
	t.Helper()
	s := &site{versions: map[string]int{}, conns: map[string]int{}}
	ws := websocket.Handle(serve, websocket.MaxMessageSize(1<<20), websocket.Compression(64),
		websocket.OnError(func(*websocket.Conn, error) {}))
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html><title>http2</title>") })
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.versions[r.Proto]++
		s.conns[r.RemoteAddr]++
		s.mu.Unlock()
		ws.ServeHTTP(w, r)
	})
	s.Server = httptest.NewUnstartedServer(mux)
	extendedconnect.Configure(s.Config)
	s.Config.ErrorLog = wstest.NoLog
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// serve echoes messages, and ends the connection in the way that a message names.
func serve(c *websocket.Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		switch command, _, _ := strings.Cut(string(data), "\n"); command {
		case "close":
			return &websocket.CloseError{Code: 4002, Reason: "closed by the server: ✓"}
		case "fail":
			return fmt.Errorf("the client has asked for it")
		case "cut":
			return c.CloseNow()
		}
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

// wantHTTP2 checks that n WebSockets came over HTTP/2, and over one TCP connection.
func (s *site) wantHTTP2(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions["HTTP/2.0"] != n || len(s.versions) != 1 || len(s.conns) != 1 {
		t.Errorf("got WebSockets over %v, and over %d TCP connections; want %d over HTTP/2.0 and one connection", s.versions, len(s.conns), n)
	}
}
