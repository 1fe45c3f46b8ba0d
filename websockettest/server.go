package websockettest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/wait"
)

// A server serves one connection with a real http.Server.
type server struct {
	t       testing.TB
	handler http.Handler
	conn    *memnet.Conn
	log     *testLog

	// The goroutine of the handler has a profiler label with this value, and so have the goroutines
	// that it starts. A goroutine profile then shows which of them are left.
	label string

	called   atomic.Bool
	leftOpen bool          // the handler has returned before its connection was closed, as with Detached
	returned chan struct{} // closed when the handler has returned
}

// labelKey is the key of the profiler label.
const labelKey = "websockettest"

var labels atomic.Uint64

func newServer(t testing.TB, h http.Handler, conn *memnet.Conn) *server {
	return &server{
		t:        t,
		handler:  h,
		conn:     conn,
		log:      &testLog{t: t},
		label:    fmt.Sprint(labels.Add(1)),
		returned: make(chan struct{}),
	}
}

// start starts to serve the connection on another goroutine.
func (s *server) start() {
	srv := &http.Server{Handler: s, ErrorLog: log.New(s.log, "", 0)}
	// Serve returns, with the error of the second Accept, as soon as it has started the
	// goroutine of the connection.
	srv.Serve(&oneConn{conn: s.conn})
}

// A oneConn is a listener that accepts one connection.
type oneConn struct{ conn *memnet.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, io.EOF
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return serverAddr }

// ServeHTTP runs the handler. There is one call at most, because the client sends one
// request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.called.Store(true)
	defer close(s.returned)
	defer func() { s.leftOpen = !s.isClosed() }()
	defer s.logPanic(r)
	pprof.Do(r.Context(), pprof.Labels(labelKey, s.label), func(ctx context.Context) {
		s.handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

// logPanic logs a panic of the handler in the words of net/http, because net/http logs it
// only after the handler has returned. The test may have ended by then.
func (s *server) logPanic(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		stack := make([]byte, 64<<10)
		stack = stack[:runtime.Stack(stack, false)]
		fmt.Fprintf(s.log, "http: panic serving %v: %v\n%s", r.RemoteAddr, v, stack)
	}
	panic(http.ErrAbortHandler)
}

func (s *server) isClosed() bool {
	select {
	case <-s.conn.Closed():
		return true
	default:
		return false
	}
}

// await waits until the handler has returned and its connection is closed. It returns what has not
// happened until the deadline, as a format for the limit, or "". The client has closed its end before.
func (s *server) await(by *wait.Deadline) (missing string) {
	closed := isDone(s.conn.Closed(), by) // s.called does not change after it
	switch {
	case s.called.Load() && !isDone(s.returned, by):
		return "the handler has not returned %v after the client has closed the connection"
	case !closed && !s.isClosed():
		return "the handler has returned, but it has not closed the connection %v after the client: call Conn.Close after Upgrade"
	}
	return ""
}

// release ends what the server has for a test that ends.
func (s *server) release() {
	s.conn.Close()
	s.log.end()
}

// isDone waits until done is closed, but not longer than the deadline.
func isDone(done <-chan struct{}, by *wait.Deadline) bool {
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-by.Done():
		return false
	}
}

// libraryCode begins the names of the functions of package websocket.
var libraryCode = reflect.TypeFor[websocket.Conn]().PkgPath() + "."

// waitDetached waits until the goroutines with these labels whose outermost function is one of package
// websocket have ended. The function of a detached connection runs on such a goroutine, and no other
// event shows that it has returned. It can still run when the connection is closed.
func waitDetached(labels []string, by *wait.Deadline) bool {
	pause := time.Millisecond // grows, because an hour of a bubble's clock would be many pauses
	for slices.ContainsFunc(goroutines(labels), isLibraryGoroutine) {
		select {
		case <-by.Done():
			return false
		case <-time.After(pause):
			pause += pause / 2
		}
	}
	return true
}

// isLibraryGoroutine reports whether the outermost function of a stack is one of package
// websocket.
func isLibraryGoroutine(stack string) bool {
	lines := strings.Split(stack, "\n")
	return strings.HasPrefix(lines[max(0, len(lines)-2)], libraryCode)
}

// stacks returns the stacks of the goroutines with these labels as a text.
func stacks(labels []string) string {
	stacks := goroutines(labels)
	if len(stacks) == 0 {
		return "none of the handler's goroutines is left"
	}
	return strings.Join(stacks, "\n")
}

// goroutines returns the stacks of the goroutines with these labels.
func goroutines(labels []string) (stacks []string) {
	var profile strings.Builder
	pprof.Lookup("goroutine").WriteTo(&profile, 1)
	key := fmt.Sprintf(`%q:"`, labelKey)
	for record := range strings.SplitSeq(profile.String(), "\n\n") {
		_, value, _ := strings.Cut(record, key)
		if label, _, ok := strings.Cut(value, `"`); ok && slices.Contains(labels, label) {
			stacks = append(stacks, formatStack(record))
		}
	}
	return stacks
}

// formatStack turns a record of a goroutine profile into a stack like those of a panic. The
// lines of the record that matter have four columns: #, address, function and position. Tabs
// separate them, because a path may have spaces.
func formatStack(record string) string {
	count, _, _ := strings.Cut(record, " ")
	stack := []string{count + " goroutine(s):"}
	for line := range strings.SplitSeq(record, "\n") {
		if columns := strings.FieldsFunc(line, isTab); len(columns) == 4 && columns[0] == "#" {
			function, _, _ := strings.Cut(columns[2], "+0x")
			stack = append(stack, function, "\t"+columns[3])
		}
	}
	return strings.Join(stack, "\n")
}

func isTab(r rune) bool { return r == '\t' }

// A testLog writes to the log of a test until the test has ended. A test must not log
// later, so later lines go to standard error.
type testLog struct {
	mu sync.Mutex
	t  testing.TB // nil after the end
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t == nil {
		return os.Stderr.Write(line)
	}
	l.t.Helper()
	l.t.Log(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}
