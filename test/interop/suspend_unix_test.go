//go:build unix

package interop

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// TestSuspended checks what happens if the system suspends a client's process, as phones do
// with apps in the background. The system of the client still acknowledges what the server
// sends, so only the missing pongs show that the client does not run.
func TestSuspended(t *testing.T) {
	t.Parallel()
	a := newApp()
	suspended, sent := make(chan struct{}), make(chan error, 1)
	a.handle("suspended", func(c *websocket.Conn) error {
		<-suspended
		sent <- c.SendMessage(websocket.Text, []byte("while the client is suspended"))
		return echo(c)
	}, websocket.PingInterval(idleTimeout/10), websocket.ConnectionTimeout(idleTimeout))
	p := startDirect(t, a, &a.mux)
	version, err := scripts[0].version()
	require(t, scripts[0].name, version, err)

	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "clients/suspended.mjs", p.websocket+"/run/suspended")
	killWithParent(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	lines := bufio.NewScanner(stdout)
	expectLine(t, lines, "ready")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	close(suspended)
	a.expectStatus(t, "run", "suspended", silent)
	if took := time.Since(start); took < idleTimeout-time.Second {
		t.Errorf("the server has ended the connection after %v, want %v", took, idleTimeout)
	}
	if err := <-sent; err != nil {
		t.Errorf("SendMessage to the suspended client returned %v, want nil", err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	expectLine(t, lines, "message: while the client is suspended")
	expectLine(t, lines, "closed: 1001")
}

// expectLine checks the next line of a client's output.
func expectLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	lines.Scan()
	if got := strings.TrimSpace(lines.Text()); got != want {
		t.Fatalf("the client printed %q, want %q", got, want)
	}
}
