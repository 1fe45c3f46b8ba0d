package http2

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestNode(t *testing.T) {
	program, err := find("node")
	if err != nil {
		missing(t, err)
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			s := startSite(t, secure)
			ctx, cancel := context.WithTimeout(t.Context(), clientTime)
			defer cancel()
			out, err := exec.CommandContext(ctx, program, "client.mjs", s.URL).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "ok" {
				t.Fatalf("got %q and error %v, want ok", out, err)
			}
			s.wantHTTP2(t, 22)
		})
	}
}

// haproxyConfig makes HAProxy speak HTTP/2 to the server, also for WebSockets.
const haproxyConfig = `
defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s
	timeout tunnel 1h

listen app
	bind %s
	server app %s proto h2 ws h2
`

// A client of HTTP/1.1 and one of HTTP/2 connect through HAProxy.
func TestHAProxy(t *testing.T) {
	program, err := find("haproxy")
	if err != nil {
		missing(t, err)
	}
	s := startSite(t, false)
	addr := startHAProxy(t, program, s.Listener.Addr().String())
	for range 10 {
		p := wstest.Dial(t, addr)
		p.Write([]byte(strings.Replace(wstest.Handshake(), "GET / ", "GET /ws ", 1)))
		if err := p.ReadUpgrade(); err != nil {
			t.Fatal(err)
		}
		p.Send(wstest.Text, "over HTTP/1.1 to the proxy")
		p.Expect(wstest.Text, "over HTTP/1.1 to the proxy")
		p.Send(wstest.Text, "close")
		if reason := p.ExpectClose(4002); reason != "closed by the server: ✓" {
			t.Errorf("got the reason %q", reason)
		}
		p.Send(wstest.Close, wstest.ClosePayload(4002, ""))
		p.ExpectEOF()
	}
	p := wstest.DialHTTP2(t, addr, 0).ConnectClient(t, ":path: /ws")
	p.Send(wstest.Text, "over HTTP/2")
	p.Expect(wstest.Text, "over HTTP/2")
	p.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions["HTTP/2.0"] != 11 || len(s.versions) != 1 {
		t.Errorf("got WebSockets over %v, want 11 over HTTP/2.0", s.versions)
	}
}

// startHAProxy starts HAProxy in front of backend, until the test ends.
func startHAProxy(t *testing.T, program, backend string) (addr string) {
	t.Helper()
	addr = wstest.FreeAddr(t)
	config := filepath.Join(t.TempDir(), "haproxy.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, haproxyConfig, addr, backend), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, "-db", "-f", config)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for limit := time.Now().Add(wstest.Patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		}
	}
	t.Fatalf("HAProxy does not listen: %s", out.String())
	return ""
}
