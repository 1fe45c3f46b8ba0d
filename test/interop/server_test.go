package interop

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

var idleFor = flag.Duration("idle", 6*time.Second,
	"how long connections are idle; with a minute or more, the library and the proxies use their default timeouts")

// idleTimeout is the timeout of the proxies and of the server in the idle tests. It is
// long enough for a process that waits for a core on a busy machine.
const idleTimeout = 3 * time.Second

// byDefault reports whether the idle tests use the default timeouts.
func byDefault() bool { return *idleFor >= time.Minute }

// keepalive returns the options of idle connections. If byDefault is false, connections
// send several pings, and have a timeout that is shorter than -idle.
func keepalive() []websocket.Option {
	if byDefault() {
		return nil
	}
	return []websocket.Option{websocket.PingInterval(idleTimeout / 10), websocket.ConnectionTimeout(idleTimeout)}
}

// The server and all clients use these values. The scripts have copies of them.
const (
	subprotocol  = "chat.v1"
	clientCode   = 4001
	clientReason = "closed by the client: ✓"
	serverCode   = 4002
	serverReason = "closed by the server: ✓"
)

// An app is the server. It serves each case at /RUN/CASE, where RUN is a name that the
// client chooses, and records how each connection ended.
type app struct {
	mux http.ServeMux
	log syncBuffer

	mu      sync.Mutex
	ends    map[string]chan error
	origins map[string][]string // the Origin headers of each run
}

func newApp() *app {
	a := &app{ends: map[string]chan error{}, origins: map[string][]string{}}
	for _, name := range []string{"echo", "text", "binary", "large", "client-ping", "client-close"} {
		a.handle(name, echo)
	}
	a.handle("send-fragments", countFragments)
	a.handle("receive-fragments", countFragments)
	a.handle("server-ping", pingThenEcho)
	a.handle("subprotocol", tellSubprotocol, websocket.Subprotocols("chat.v2", subprotocol))
	a.handle("server-close", func(*websocket.Conn) error {
		return &websocket.CloseError{Code: serverCode, Reason: serverReason}
	})
	a.handle("idle", idle, keepalive()...)
	a.handle("quiet", echo, websocket.PingInterval(0), websocket.ConnectionTimeout(0))
	a.handleHabits()
	a.mux.HandleFunc("GET /{run}/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>interop</title>")
	})
	a.mux.HandleFunc("GET /{run}/cases.mjs", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "clients/cases.mjs")
	})
	return a
}

// handle serves /RUN/name with fn, and sends the error that ended each connection to its
// channel. nil means that the server closed the connection and the client answered.
func (a *app) handle(name string, fn websocket.HandlerFunc, opts ...websocket.Option) {
	a.mux.HandleFunc("GET /{run}/"+name, func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.origins[r.PathValue("run")] = r.Header["Origin"]
		a.mu.Unlock()
		upgraded := false
		var end error
		opts := append(opts[:len(opts):len(opts)],
			websocket.PropagateCommonErrors(true),
			websocket.OnError(func(_ *websocket.Conn, err error) { end = err }))
		websocket.Handle(func(c *websocket.Conn) error {
			upgraded = true
			return fn(c)
		}, opts...).ServeHTTP(w, r)
		if upgraded {
			a.end(r.PathValue("run"), name) <- end
		}
	})
}

// end returns the channel for the errors that ended the connections to /run/name.
func (a *app) end(run, name string) chan error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := run + "/" + name
	if a.ends[key] == nil {
		a.ends[key] = make(chan error, 1)
	}
	return a.ends[key]
}

// server returns an http.Server for h. Errors of net/http and the library are written to
// a.log.
func (a *app) server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(&a.log, "", 0)}
}

// expectEmptyLog checks that the server has logged no errors. Every connection must have
// ended.
func (a *app) expectEmptyLog(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(a.log.String()) {
		// Browsers open connections that they do not use, and close them again.
		unused := strings.Contains(line, "TLS handshake error") || strings.Contains(line, "error reading preface")
		if !unused {
			t.Errorf("the server logged: %s", line)
		}
	}
}

// echo sends every message back.
func echo(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}

// tellSubprotocol sends the subprotocol and then echoes.
func tellSubprotocol(c *websocket.Conn) error {
	if err := c.SendMessage(websocket.Text, []byte(c.Subprotocol())); err != nil {
		return err
	}
	return echo(c)
}

// fragmentSize is larger than the buffer of a MessageWriter, so that each write is a frame.
const fragmentSize = 5000

// countFragments answers each message with the number of its frames, the message and some
// filling text. The answer has several frames.
func countFragments(c *websocket.Conn) error {
	for {
		frames, err := c.ReceiveFragments()
		if err != nil {
			return err
		}
		op, data, err := websocket.ProcessFragments(frames)
		if err != nil {
			return err
		}
		w, err := c.MessageWriter(op)
		if err != nil {
			return err
		}
		for _, part := range []string{fmt.Sprintf("%d: %s", len(frames), data), filling('a'), filling('b')} {
			if _, err := w.Write([]byte(part)); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
}

// filling returns a text of fragmentSize bytes.
func filling(b byte) string { return string(bytes.Repeat([]byte{b}, fragmentSize)) }

// pingThenEcho sends a ping, waits for its pong, reports that in a message and then echoes.
func pingThenEcho(c *websocket.Conn) error {
	const payload = "are you there?"
	if err := c.SendMessage(websocket.Ping, []byte(payload)); err != nil {
		return err
	}
	f, err := c.ReadFrame()
	if err != nil {
		return err
	}
	f.Unmask()
	if f.Opcode != websocket.Pong || string(f.Payload) != payload {
		return fmt.Errorf("got %v %q, want the pong to %q", f.Opcode, f.Payload, payload)
	}
	if err := c.SendMessage(websocket.Text, []byte("pong")); err != nil {
		return err
	}
	return echo(c)
}

// idle receives for half of the time, during which no message comes, and does not receive
// for the other half. Then it sends a message and echoes.
func idle(c *websocket.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(*idleFor / 2)); err != nil {
		return err
	}
	if _, _, err := c.ReceiveMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("while receiving from an idle client: %w, want os.ErrDeadlineExceeded", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case <-time.After(*idleFor / 2):
	case <-c.Context().Done():
		return context.Cause(c.Context())
	}
	if err := c.SendMessage(websocket.Text, []byte("awake")); err != nil {
		return err
	}
	return echo(c)
}

// A syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
