package wstest

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Key and Accept are the Sec-WebSocket-Key of RFC 6455 section 1.3 and the
// Sec-WebSocket-Accept that answers it.
const (
	Key    = "dGhlIHNhbXBsZSBub25jZQ=="
	Accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// Host is the host that clients name in their handshakes.
const Host = "app.example"

// Request returns a valid handshake with some lines changed. A change "Name: value"
// replaces the lines of that name. A second change of the same name adds a line. A
// change "Name" removes the lines of that name.
func Request(changes ...string) string {
	lines := []string{
		"GET / HTTP/1.1",
		"Host: " + Host,
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Key: " + Key,
		"Sec-WebSocket-Version: 13",
	}
	changed := map[string]bool{}
	for _, change := range changes {
		name, _, hasValue := strings.Cut(change, ": ")
		if !changed[name] {
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+": ") })
			changed[name] = true
		}
		if hasValue {
			lines = append(lines, change)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// Handshake returns a valid handshake with more headers, each a line with its line
// end.
func Handshake(headers ...string) string {
	return strings.TrimSuffix(Request(), "\r\n") + strings.Join(headers, "") + "\r\n"
}

// NoLog is the ErrorLog of servers whose log the test does not check.
var NoLog = log.New(io.Discard, "", 0)

// Serve runs h in a real http.Server. At the end of the test it waits for every call of
// h to return, because httptest.Server.Close does not wait for the handlers of hijacked
// connections.
func Serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	return serve(t, h, (*httptest.Server).Start)
}

// ServeTLS is Serve over TLS.
func ServeTLS(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	return serve(t, h, (*httptest.Server).StartTLS)
}

// ListenUnix listens on a Unix socket, as a server behind a proxy on the same machine does. The caller
// closes the listener.
func ListenUnix(t testing.TB) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // not t.TempDir, because the path of a socket has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// An IdleListener is a listener without clients, in memory, for a server in a bubble of testing/synctest.
// Make it in the bubble.
type IdleListener chan struct{}

func (l IdleListener) Accept() (net.Conn, error) {
	<-l
	return nil, net.ErrClosed
}

func (l IdleListener) Close() error {
	close(l)
	return nil
}

func (l IdleListener) Addr() net.Addr { return &net.TCPAddr{} }

// ServeUnix is Serve over a Unix socket.
func ServeUnix(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	listener := ListenUnix(t)
	return serve(t, h, func(srv *httptest.Server) {
		srv.Listener.Close()
		srv.Listener = listener
		srv.Start()
	})
}

// ServeHTTP2 is Serve for HTTP/2 without TLS, and for HTTP/1.1.
func ServeHTTP2(t testing.TB, h http.Handler, configure ...func(*http.Server)) *httptest.Server {
	t.Helper()
	return serve(t, h, func(srv *httptest.Server) {
		serveHTTP2(srv.Config)
		for _, f := range configure {
			f(srv.Config)
		}
		srv.Start()
	})
}

// serveHTTP2 makes srv serve HTTP/2 without TLS, and HTTP/1.1.
func serveHTTP2(srv *http.Server) {
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
}

func serve(t testing.TB, h http.Handler, start func(*httptest.Server)) *httptest.Server {
	var running sync.RWMutex // not a WaitGroup, because a handler may begin while the test waits for others
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.RLock()
		defer running.RUnlock()
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = NoLog
	start(srv)
	t.Cleanup(func() {
		srv.Close()
		running.Lock()
		defer running.Unlock()
	})
	return srv
}

// A Hijacker is a ResponseWriter whose Hijack method returns Conn. With it, a test makes
// a WebSocket connection on any net.Conn, without a server.
type Hijacker struct {
	httptest.ResponseRecorder
	Conn   net.Conn
	Buffer *bufio.ReadWriter // may be nil
}

// Hijack returns Conn and Buffer.
func (h *Hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.Conn, h.Buffer, nil }

// ReadRequest returns the request in raw, as a server has parsed it.
func ReadRequest(raw string) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		panic(err)
	}
	return r
}

// FreeAddr returns a free address for another program. Its port is below those that systems give to
// connections and to listeners on port 0, so only a process that chooses its port can take it before
// the program listens on it.
func FreeAddr(t testing.TB) string {
	t.Helper()
	const first, ports = 20_000, 10_000
	for range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", first+latestPort.Add(1)%ports)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatalf("no port from %d to %d is free", first, first+ports-1)
	return ""
}

// latestPort begins at random, because the tests of several packages run at the same time.
var latestPort atomic.Uint32

func init() { latestPort.Store(rand.Uint32N(10_000)) }
