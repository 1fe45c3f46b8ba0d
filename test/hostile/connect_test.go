package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestHostile_200_handshakes_a_byte_at_a_time(t *testing.T) {
	const limit = 250 * time.Millisecond
	configure := func(srv *http.Server) { srv.ReadHeaderTimeout = limit }
	attackServer(t, handle, configure, echo, func(l *wstest.Load) {
		n := wstest.Scale(t, 200, 100)
		var slowest atomic.Int64
		l.Each(n, n, func(int) error {
			c, err := l.Connect()
			if err != nil {
				return err
			}
			start := time.Now()
			if err := sendSlowHandshake(c, limit); err != nil {
				return err
			}
			slowest.Store(max(slowest.Load(), int64(time.Since(start))))
			return nil
		})
		t.Logf("ReadHeaderTimeout %v cut off the last in %v", limit, time.Duration(slowest.Load()))
		if n := len(l.Ends()) + l.Running(); n > 0 {
			t.Errorf("%d handlers were run, want none", n)
		}
	})
}

// sendSlowHandshake sends a handshake in three times the limit, and checks that the
// server ends the connection instead of accepting it.
func sendSlowHandshake(c *wstest.Client, limit time.Duration) error {
	handshake := wstest.Handshake()
	cut := make(chan error, 1)
	go func() {
		answer, _ := io.ReadAll(c.Conn)
		if strings.Contains(string(answer), " 101 ") {
			cut <- errors.New("the handshake was accepted")
			return
		}
		cut <- nil
	}()
	pace := time.NewTicker(3 * limit / time.Duration(len(handshake)))
	defer pace.Stop()
	for i := range len(handshake) {
		select {
		case err := <-cut:
			return err
		case <-pace.C:
			io.WriteString(c.Conn, handshake[i:i+1])
		}
	}
	return <-cut
}

// ReadHeaderTimeout ends only the first of these connections. ReadTimeout ends all of them,
// and does not apply to a WebSocket.
func TestHostile_50_requests_of_each_kind_that_never_end(t *testing.T) {
	const limit = 250 * time.Millisecond
	kinds := []struct{ name, sent string }{
		{"half a handshake", wstest.Handshake()[:40]},
		{"half a body behind a handshake", wstest.Request("Content-Length: 10") + "12345"},
		{"half a body behind a request without an upgrade", wstest.Request("Upgrade", "Content-Length: 10") + "12345"},
		{"half a chunk", wstest.Request("Transfer-Encoding: chunked") + "a\r\n12345"},
		{"a refused request and then nothing", wstest.Request("Upgrade")},
		{"a refused request and half of the next", wstest.Request("Upgrade") + "GET / HT"},
	}
	configure := func(srv *http.Server) { srv.ReadHeaderTimeout, srv.ReadTimeout = limit, limit }
	attackServer(t, handle, configure, echo, func(l *wstest.Load) {
		n := len(kinds) * wstest.Scale(t, 50, 20)
		l.Each(n, n, func(i int) error {
			c, err := l.Connect()
			if err != nil {
				return err
			}
			kind := kinds[i%len(kinds)]
			c.Conn.SetDeadline(time.Now().Add(wstest.Patience))
			if _, err := io.WriteString(c.Conn, kind.sent); err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			if answer, err := io.ReadAll(c.Conn); errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(answer), " 101 ") {
				return fmt.Errorf("%s: got %q and error %v, want a refusal and the end of the connection", kind.name, answer, err)
			}
			return nil
		})
		if n := len(l.Ends()) + l.Running(); n > 0 {
			t.Errorf("%d handlers were run, want none", n)
		}
	})
}

// leaves are the ways in which a client ends a short connection.
var leaves = []func(c *wstest.Client) error{
	func(c *wstest.Client) error { return c.Conn.Close() },
	func(c *wstest.Client) error { c.Reset(); return nil },
	func(c *wstest.Client) error {
		c.Conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))
		_, err := c.ReadClose()
		return errors.Join(err, c.Conn.Close())
	},
}

func TestHostile_burst_of_5000_connects_and_disconnects(t *testing.T) {
	attack(t, echoes, func(l *wstest.Load) {
		n := wstest.Scale(t, 5000, 1500)
		start := time.Now()
		l.Each(n, 64, func(i int) error {
			conn, err := net.Dial("tcp", l.Server.Listener.Addr().String())
			if err != nil {
				return err
			}
			conn.SetDeadline(time.Now().Add(wstest.Patience))
			c := wstest.NewClient(nil, conn)
			if err := c.Upgrade(); err != nil {
				return err
			}
			return leaves[i%len(leaves)](c)
		})
		l.WantEnds(n, anyError)
		t.Logf("%d in %v", n, time.Since(start).Round(time.Millisecond))
	})
}

// The clients run in a separate process, because a process seldom has enough
// descriptors for both sides. Then the measured memory is only that of the server.
func TestHostile_10000_idle_connections(t *testing.T) {
	if addr := os.Getenv(idleTarget); addr != "" {
		runIdleClients(t, addr)
		return
	}
	attackServer(t, handle, nil, receiveAll, func(l *wstest.Load) {
		n := min(wstest.Scale(t, 10_000, 2_000), wstest.MaxFiles()-l.Before.Files-100)
		before := wstest.Measure()
		stop := startIdleClients(l, n)
		defer stop()
		if !wstest.Eventually(func() bool { return l.Running() == n }) {
			t.Errorf("%d connections are served, want %d", l.Running(), n)
			return
		}
		now := wstest.Measure()
		perConn := now.Growth(before) / uint64(n)
		t.Logf("%d idle connections: %v, %d bytes each", n, now, perConn)
		if most := uint64(24 << 10); perConn > most {
			t.Errorf("an idle connection takes %d bytes, want at most %d", perConn, most)
		}
		// The keepalive of a new connection ticks once, on a goroutine of its own.
		if !wstest.Eventually(func() bool { return runtime.NumGoroutine()-before.Goroutines <= n+20 }) {
			t.Errorf("%d idle connections have %d goroutines, want one each", n, runtime.NumGoroutine()-before.Goroutines)
		}
	})
}

const (
	idleTarget = "WEBSOCKET_TEST_IDLE_TARGET"
	idleCount  = "WEBSOCKET_TEST_IDLE_COUNT"
	idleEcho   = "WEBSOCKET_TEST_IDLE_ECHO" // unless empty, each client waits for an echo first
)

// startIdleClients runs a process with n clients until stop is called.
func startIdleClients(l *wstest.Load, n int, env ...string) (stop func()) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*wstest.Patience)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostile_10000_idle_connections$")
	cmd.Env = append(append(os.Environ(), env...), idleTarget+"="+l.Server.Listener.Addr().String(), fmt.Sprintf("%s=%d", idleCount, n))
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.Fatal(err)
	}
	return func() {
		defer cancel()
		hold.Close()
		if err := cmd.Wait(); err != nil {
			l.Errorf("the process of the clients: %v", err)
		}
	}
}

// runIdleClients is the process of the clients. It ends when its input ends.
func runIdleClients(t *testing.T, addr string) {
	n, err := strconv.Atoi(os.Getenv(idleCount))
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, n)
	wstest.NewLoad(t).Each(n, 32, func(i int) (err error) {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return err
		}
		c := wstest.NewClient(nil, conns[i])
		if err := c.Upgrade(); err != nil || os.Getenv(idleEcho) == "" {
			return err
		}
		conns[i].(*net.TCPConn).SetLinger(0) // so many ports must not wait after the end
		return c.RoundTrip(strings.Repeat("x", 1<<10))
	})
	io.Copy(io.Discard, os.Stdin)
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
}
