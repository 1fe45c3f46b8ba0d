package websocket

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestSmoke(t *testing.T) {
	srv := startServer(t, echoAll)
	p := dialServer(t, srv)
	p.send(Text, "hello")
	p.expect(Text, "hello")
	big := string(make([]byte, 1<<20))
	go p.send(Binary, big)
	p.expect(Binary, big)
	p.ExpectNothing()
	p.Close()
}

func TestConn_accessors(t *testing.T) {
	conns := make(chan *Conn, 1)
	srv := startServer(t, func(c *Conn) error { conns <- c; return receiveAll(c) }, Subprotocols("soap", "chat"))
	p := dialServer(t, srv, "Sec-WebSocket-Protocol: other, chat\r\n", "X-Test: yes\r\n")
	c := await(t, conns)
	tests := []struct{ what, got, want string }{
		{"Subprotocol", c.Subprotocol(), "chat"},
		{"Request header", c.Request().Header.Get("X-Test"), "yes"},
		{"Request host", c.Request().Host, wstest.Host},
		{"LocalAddr", c.LocalAddr().String(), srv.Listener.Addr().String()},
		{"RemoteAddr", c.RemoteAddr().String(), p.Conn.LocalAddr().String()},
		{"NetConn", fmt.Sprintf("%T", c.NetConn()), "*net.TCPConn"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	p.Close()
}

func TestHandle_receives_frames_sent_with_the_handshake(t *testing.T) {
	handshake := []byte(wstest.Handshake())
	tests := []struct {
		name string
		size int // of each message
		n    int
		cut  int // bytes at the end that come in a separate segment
	}{
		{"one message", 5, 1, 0},
		{"empty messages", 0, 7, 0},
		{"small messages", 100, 20, 0},
		{"more than the buffer of net/http", 1000, 20, 0},
		{"a message larger than the buffer of net/http", 100_000, 1, 0},
		{"cut within a header", 100, 3, 103},
		{"cut within a payload", 100, 3, 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dialTCP(t, startServer(t, echoAll))
			segment := slices.Clone(handshake)
			message := func(i int) string { return strings.Repeat(string(rune('a'+i)), tt.size) }
			for i := range tt.n {
				segment = append(segment, clientFrame(true, Text, message(i))...)
			}
			now := len(segment) - tt.cut
			p.Write(segment[:now])
			if err := p.ReadUpgrade(); err != nil {
				t.Fatal(err)
			}
			p.Write(segment[now:])
			for i := range tt.n {
				p.expect(Text, message(i))
			}
			p.Close()
		})
	}
}

type contextKey struct{}

func TestContext_has_the_values_of_the_request_but_not_its_cancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "value"))
	socket := wstest.NewSocket()
	c := newRequestConn(httptest.NewRequestWithContext(ctx, "GET", "/", nil), socket, nil)
	cancel()
	if err := c.Context().Err(); err != nil {
		t.Errorf("got a context that is done with the request: %v", err)
	}
	if got := c.Context().Value(contextKey{}); got != "value" {
		t.Errorf("got value %v, want that of the request", got)
	}
	if got, ok := FromContext(context.WithValue(c.Context(), contextKey{}, 1)); got != c || !ok {
		t.Errorf("FromContext = %p, %t, want %p", got, ok, c)
	}
	if got, ok := FromContext(ctx); got != nil || ok {
		t.Errorf("FromContext of another context = %p, %t, want none", got, ok)
	}
	if c.Context() != c.Context() {
		t.Error("got two contexts for one connection")
	}
	socket.Close()
	c.Close(StatusNormalClosure, "")
}

// misbehaviours are the ways in which other peers misbehave. Meanwhile, a healthy client
// must be served.
var misbehaviours = map[string]func(p *peer){
	"reads nothing": func(p *peer) {
		b := clientFrame(true, Binary, string(make([]byte, 100_000)))
		p.Conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for range 100 {
			p.Conn.Write(b)
		}
	},
	"floods with pings":     func(p *peer) { p.Conn.Write(bytes.Repeat(clientFrame(true, Ping, "now?"), 10_000)) },
	"breaks a rule":         func(p *peer) { p.Conn.Write([]byte{0x81, 0x00}) },
	"stops inside a header": func(p *peer) { p.Conn.Write([]byte{0x81}) },
	"stops inside a frame":  func(p *peer) { p.Conn.Write(clientFrame(true, Text, "hello")[:8]) },
	"hangs up":              hangUp,
	"resets":                resetPeer,
	"panics":                func(p *peer) { p.Conn.Write(clientFrame(true, Text, "panic")) },
}

func TestHandle_serves_a_healthy_client_beside_misbehaving_ones(t *testing.T) {
	computes(t)
	srv := startServer(t, func(c *Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err
			}
			if string(data) == "panic" {
				panic("the message asked for it")
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}, PingInterval(0), CloseTimeout(100*time.Millisecond))
	healthy := dialServer(t, srv)
	var wg sync.WaitGroup
	for _, misbehave := range misbehaviours {
		p := dialServer(t, srv)
		wg.Go(func() { misbehave(p) })
	}
	for i := range 100 {
		message := fmt.Sprint("still here ", i)
		healthy.send(Text, message)
		healthy.expect(Text, message)
	}
	wg.Wait()
	healthy.ExpectNothing()
	healthy.Close()
}

func TestHandle_has_one_goroutine_per_connection(t *testing.T) {
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("Detached(%t)", detached), func(t *testing.T) {
			const conns = 200
			srv := startServer(t, receiveAll, PingInterval(100*time.Millisecond), Detached(detached))
			before := runtime.NumGoroutine()
			var peers []*peer
			for range conns {
				peers = append(peers, dialServer(t, srv))
			}
			for _, p := range peers {
				p.read() // a ping, so the keepalive runs
			}
			// While a tick of the keepalive runs, it has a goroutine too.
			most := before + conns
			got := runtime.NumGoroutine()
			for deadline := time.Now().Add(wstest.Patience); got > most && time.Now().Before(deadline); got = runtime.NumGoroutine() {
				runtime.Gosched()
			}
			if got > most {
				t.Errorf("%d connections cost %d goroutines, want one each", conns, got-before)
			}
		})
	}
}

// A Conn is the largest object of an idle connection.
func TestConn_is_small(t *testing.T) {
	// 512 is a size class. With one more byte, the runtime puts 8 bytes before the object,
	// because it has pointers, and takes 576 for it.
	const most = 512
	if size := reflect.TypeOf(Conn{}).Size(); size > most {
		t.Errorf("a Conn has %d bytes, want at most %d", size, most)
	}
}

func TestConn_idle_holds_only_the_parts_that_were_used(t *testing.T) {
	c, p := newTCPConn(t)
	skipIfBuffered(t, c)
	done := runHandler(c, echoAll)
	for range 2 {
		p.send(Text, strings.Repeat("x", 1024))
		p.expect(Text, strings.Repeat("x", 1024))
	}
	for what, held := range heldByConn(c) {
		if held {
			t.Errorf("an idle connection holds %s", what)
		}
	}
	p.finish(done)
}

// stackSettings make the stacks of a process depend on its code alone: a goroutine begins with
// 2 KiB, and not with the average of the process at its last collection, and no signal
// interrupts a goroutine, which takes stack.
const stackSettings = "adaptivestackstart=0,asyncpreemptoff=1"

// The stack of a goroutine that has echoed a message and waits for the next one has
// 2 KiB, or the 4 KiB of net/http's goroutine. A deeper stack would be doubled. The limits
// lie in between, because the numbers of the runtime include unused stacks.
func TestConn_stack_stays_small(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector needs more stack")
	}
	if os.Getenv("GODEBUG") != stackSettings {
		computes(t)
		runAlone(t, "GODEBUG="+stackSettings)
		return
	}
	ways := []struct {
		name string
		fn   HandlerFunc
	}{
		{"AppendMessage", appendEcho},
		{"ReceiveMessage", echoAll},
		{"ReceiveFunc", lendEcho},
	}
	limits := map[bool]uint64{true: 3 << 10, false: stackLimit()}
	if runtime.GOARCH != "amd64" || !sock.Supported {
		limits[true] = stackLimit() // frames are larger there: a detached goroutine has 4 KiB
	}
	for _, way := range ways {
		for _, detached := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/Detached(%t)", way.name, detached), func(t *testing.T) {
				got := stackPerConn(t, way.fn, detached)
				t.Logf("a connection has a stack of %d bytes", got)
				if got > limits[detached] {
					t.Errorf("got a stack of %d bytes, want at most %d", got, limits[detached])
				}
			})
		}
	}
}

// stackLimit is the most that the stack of a connection in its handler may take: 4 KiB, and what
// unused stacks take. On Windows, the smallest stack of a goroutine has 8 KiB.
func stackLimit() uint64 {
	if runtime.GOOS == "windows" {
		return 10 << 10
	}
	return 6 << 10
}

// stackPerConn returns the stack that a connection holds after fn has echoed a message on it.
func stackPerConn(t *testing.T, fn HandlerFunc, detached bool) uint64 {
	const conns = 200
	srv, message := startServer(t, fn, Detached(detached)), strings.Repeat("x", 1024)
	before := stackInUse()
	for range conns {
		p := dialServer(t, srv)
		p.send(Binary, message)
		p.expect(Binary, message)
	}
	return (max(stackInUse(), before) - before) / conns
}

// runAlone runs this test in a process of its own, with env in its environment.
func runAlone(t *testing.T, env ...string) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("the process that runs the test alone: %v\n%s", err, output)
	}
}
