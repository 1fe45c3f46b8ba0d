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
	"how long idle connections are; from a minute on with the defaults of the library and of the proxies")

// patience is how long proxies and the server bear silence in the idle tests. A
// process that waits for its turn on a busy machine must not look dead.
const patience = 3 * time.Second

// byDefault reports whether the idle tests are about the defaults.
func byDefault() bool { return *idleFor >= time.Minute }

// keepalive is what the idle connections have: several pings, and the server's
// time-out, within -idle.
func keepalive() []websocket.Option {
	if byDefault() {
		return nil
	}
	return []websocket.Option{websocket.PingInterval(patience / 10), websocket.ConnectionTimeout(patience)}
}

// What is agreed on between the server and all clients: the scripts have copies.
const (
	subprotocol  = "chat.v1"
	clientCode   = 4001
	clientReason = "the client has had enough: ✓"
	serverCode   = 4002
	serverReason = "the server has had enough: ✓"
)

// An app is the server's side of every case, at /RUN/CASE, where RUN is up to the
// client, and it remembers how each connection ended.
type app struct {
	mux http.ServeMux
	log syncBuffer

	mu   sync.Mutex
	ends map[string]chan error
}

func newApp() *app {
	a := &app{ends: map[string]chan error{}}
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
	a.mux.HandleFunc("GET /{run}/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>interop</title>")
	})
	a.mux.HandleFunc("GET /{run}/cases.mjs", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "clients/cases.mjs")
	})
	return a
}

// handle serves /RUN/name and tells how each connection ended: nil is that the
// server closed it and the client answered.
func (a *app) handle(name string, fn websocket.HandlerFunc, opts ...websocket.Option) {
	a.mux.HandleFunc("GET /{run}/"+name, func(w http.ResponseWriter, r *http.Request) {
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

// end is where the ends of the connections to /run/name go.
func (a *app) end(run, name string) chan error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := run + "/" + name
	if a.ends[key] == nil {
		a.ends[key] = make(chan error, 1)
	}
	return a.ends[key]
}

// server wraps the app as net/http serves it. What net/http and the library have
// to complain about is kept.
func (a *app) server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(&a.log, "", 0)}
}

// expectNoComplaints is for when every connection has ended.
func (a *app) expectNoComplaints(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(a.log.String()) {
		// Browsers open connections ahead and drop them again.
		dropped := strings.Contains(line, "TLS handshake error") || strings.Contains(line, "error reading preface")
		if !dropped {
			t.Errorf("the server logged: %s", line)
		}
	}
}

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

func tellSubprotocol(c *websocket.Conn) error {
	if err := c.SendMessage(websocket.Text, []byte(c.Subprotocol())); err != nil {
		return err
	}
	return echo(c)
}

// fragmentSize is above what a MessageWriter gathers, so that each write is a
// frame.
const fragmentSize = 5000

// countFragments answers each message with how many frames it came in, itself
// and a filling, in several frames.
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

func filling(b byte) string { return string(bytes.Repeat([]byte{b}, fragmentSize)) }

// pingThenEcho waits for the pong to a ping of its own before anything else.
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

// idle receives in vain for half of the time, and does not even receive for the
// other half.
func idle(c *websocket.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(*idleFor / 2)); err != nil {
		return err
	}
	if _, _, err := c.ReceiveMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("while idle: %w", err)
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
