package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"

	"github.com/f44ffc3b/websocket"
)

// The cases of TestCompression. In each, a client sends deflateMessages different messages and
// compares the echoes byte for byte.
const (
	deflateDefault  = "deflate-default"  // the client's own settings
	deflateTakeover = "deflate-takeover" // context takeover, for a client whose default is none
	deflateAlone    = "deflate-alone"    // no context takeover in either direction
	deflateWindow   = "deflate-window"   // windows of 512 bytes
)

const deflateMessages = 2000 // the scripts have copies of it

// deflateClients holds the clients that have permessage-deflate, with the cases for which they
// have a setting and what the server agrees on in each.
var deflateClients = map[string]map[string]string{
	"chromium":   {deflateDefault: takeover},
	"firefox":    {deflateDefault: takeover},
	"ws":         {deflateDefault: takeover, deflateAlone: alone, deflateWindow: window},
	"undici":     {deflateDefault: takeover},
	"websockets": {deflateDefault: takeover, deflateAlone: alone, deflateWindow: window},
	"aiohttp":    {deflateDefault: takeover, deflateWindow: window},
	// gorilla/websocket has no context takeover, and gws only on request.
	"gorilla-websocket": {deflateDefault: alone},
	"coder-websocket":   {deflateDefault: takeover, deflateAlone: alone},
	"lxzan-gws":         {deflateDefault: alone, deflateTakeover: takeover, deflateWindow: window},
}

// inflatesOnly holds the clients that do not compress what they send.
var inflatesOnly = []string{"undici"}

// The agreements. The encoder of the server has a window of 2^12 bytes at most, and asks clients
// not to refer to earlier messages.
const (
	takeover = "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"
	alone    = "permessage-deflate; client_no_context_takeover; server_max_window_bits=12; server_no_context_takeover"
	window   = "permessage-deflate; client_no_context_takeover; server_max_window_bits=9"
)

// TestCompression sends thousands of compressed messages in each direction, for Handle and
// HandleConcurrent.
func TestCompression(t *testing.T) {
	a := newApp()
	records := a.handleCompressed()
	p := makeCertificate(t).path("direct", serveCounted(t, a.server(&a.mux)), false)
	all := append([]client{chromium(t), firefoxClient(t)}, scripts...)
	for _, c := range append(all, deflateGoClients...) {
		cases := deflateClients[c.name]
		if cases == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c)
			for _, handler := range []string{"Handle", concurrently} {
				for name, agreed := range cases {
					t.Run(handler+"/"+name, func(t *testing.T) {
						run := c.name + "-" + handler
						if err := <-start(t.Context(), c, p, run, name, caseTime); err != nil {
							t.Fatal(err)
						}
						a.expectEnd(t, run, name)
						records.get(run, name).check(t, agreed, !slices.Contains(inflatesOnly, c.name))
					})
				}
			}
		})
	}
	t.Cleanup(func() { a.expectEmptyLog(t) })
}

// concurrently ends the name of a run with HandleConcurrent.
const concurrently = "HandleConcurrent"

// A record holds what the server has seen of a connection with compression.
type record struct {
	agreed          string
	messages        int
	payload         int64 // the bytes of the messages, which are the same in both directions
	received, wrote int64 // the bytes on the wire
}

// check checks that the connection was agreed on as the case requires, and that the server and,
// if compresses is true, the client have compressed. The messages shrink to less than half then.
func (r *record) check(t *testing.T, agreed string, compresses bool) {
	t.Helper()
	t.Logf("%d messages with %d bytes, %d received and %d sent on the wire", r.messages, r.payload, r.received, r.wrote)
	if r.agreed != agreed {
		t.Errorf("the server has agreed on %q, want %q", r.agreed, agreed)
	}
	if r.messages != deflateMessages {
		t.Errorf("the server has received %d messages, want %d", r.messages, deflateMessages)
	}
	if r.wrote > r.payload/2 {
		t.Errorf("the server has sent %d bytes for %d bytes of messages, want less than half", r.wrote, r.payload)
	}
	if small := r.received <= r.payload/2; small != compresses {
		t.Errorf("the client has sent %d bytes for %d bytes of messages, want less than half: %t", r.received, r.payload, compresses)
	}
}

// A recordSet holds a record for each connection. The server adds it before the connection ends.
type recordSet struct{ m sync.Map }

func (s *recordSet) get(run, name string) *record {
	r, ok := s.m.Load(run + "/" + name)
	if !ok {
		return new(record)
	}
	return r.(*record)
}

// handleCompressed serves the cases of TestCompression.
func (a *app) handleCompressed() *recordSet {
	records := new(recordSet)
	for _, name := range []string{deflateDefault, deflateTakeover, deflateAlone, deflateWindow} {
		a.mux.HandleFunc("GET /{run}/"+name, func(w http.ResponseWriter, r *http.Request) {
			run := r.PathValue("run")
			handle := websocket.Handle
			if strings.HasSuffix(run, concurrently) {
				handle = websocket.HandleConcurrent
			}
			rec := new(record)
			var end error
			handle(rec.echo, websocket.Compression(64), websocket.PropagateCommonErrors(true),
				websocket.OnError(func(_ *websocket.Conn, err error) { end = err })).ServeHTTP(w, r)
			counted := r.Context().Value(countedKey{}).(*countedConn)
			rec.received, rec.wrote = counted.received.Load(), counted.wrote.Load()
			records.m.Store(run+"/"+name, rec)
			a.end(run, name) <- end
		})
	}
	return records
}

// echo is echo that counts.
func (r *record) echo(c *websocket.Conn) error {
	r.agreed = c.Extensions()
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		r.messages++
		r.payload += int64(len(msg.Data))
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}

// serveCounted serves s without TLS until the test ends, and counts the bytes of each connection.
func serveCounted(t *testing.T, s *http.Server) string {
	t.Helper()
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, countedKey{}, c)
	}
	l := countedListener{listen(t)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

type countedKey struct{}

type countedListener struct{ net.Listener }

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: c}, nil
}

type countedConn struct {
	net.Conn
	received, wrote atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote.Add(int64(n))
	return n, err
}

// variedMessage returns message i of a client: JSON of different sizes, bytes that do not become
// smaller, and empty messages.
func variedMessage(i int, r *rand.Rand) (websocket.Opcode, []byte) {
	switch i % 10 {
	case 0:
		return websocket.Text, []byte(strings.Repeat("é", i/10%5))
	case 1:
		b := make([]byte, r.IntN(200))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		return websocket.Binary, b
	case 2:
		return websocket.Binary, variedJSON(i, 1+r.IntN(5), r)
	case 3:
		return websocket.Text, variedJSON(i, 1+r.IntN(300), r)
	}
	return websocket.Text, variedJSON(i, 1, r)
}

// variedJSON returns count prices.
func variedJSON(i, count int, r *rand.Rand) []byte {
	var b []byte
	for j := range count {
		b = fmt.Appendf(b, `{"type":"ticker","sequence":%d,"price":"%.2f","side":"%s","name":"Größe %d"},`,
			i*1000+j, r.Float64()*1000, []string{"buy", "sell"}[r.IntN(2)], r.IntN(1000))
	}
	return b
}

func init() {
	for _, name := range []string{deflateDefault, deflateTakeover, deflateAlone, deflateWindow} {
		cases[name] = func(t caseRun) error {
			r := rand.New(rand.NewPCG(7692, uint64(len(name))))
			for i := range deflateMessages {
				op, data := variedMessage(i, r)
				if err := t.echo(op, data); err != nil {
					return fmt.Errorf("message %d: %w", i, err)
				}
			}
			return nil
		}
	}
}

// deflateGoClients holds the Go clients with compression.
var deflateGoClients = []client{
	goClient("github.com/gorilla/websocket", func(ctx context.Context, url string, config *tls.Config, _ ...string) (session, error) {
		return dialGorillaWith(ctx, url, gorilla.Dialer{TLSClientConfig: config, EnableCompression: true})
	}),
	goClient("github.com/coder/websocket", func(ctx context.Context, url string, config *tls.Config, _ ...string) (session, error) {
		mode := coder.CompressionContextTakeover
		if strings.HasSuffix(url, deflateAlone) {
			mode = coder.CompressionNoContextTakeover
		}
		return dialCoderWith(ctx, url, config, coder.DialOptions{CompressionMode: mode})
	}),
	goClient("github.com/lxzan/gws", func(_ context.Context, url string, config *tls.Config, _ ...string) (session, error) {
		options := gws.PermessageDeflate{Enabled: true}
		if !strings.HasSuffix(url, deflateDefault) {
			options.ServerContextTakeover, options.ClientContextTakeover = true, true
		}
		if strings.HasSuffix(url, deflateWindow) {
			options.ServerMaxWindowBits, options.ClientMaxWindowBits = 9, 9
		}
		return dialGWSWith(gws.ClientOption{Addr: url, TlsConfig: config, PermessageDeflate: options})
	}),
}
