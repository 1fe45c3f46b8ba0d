package http2

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A marionette is the connection to a Firefox that a test controls. The protocol is that of
// Firefox: messages of JSON, each behind its length and a colon.
type marionette struct {
	conn net.Conn
	in   *bufio.Reader
	last int
}

// startFirefox starts Firefox without a window, until the test ends.
func startFirefox(ctx context.Context, t *testing.T, program string) (*marionette, error) {
	profile, err := os.MkdirTemp("", "http2-firefox") // not t.TempDir, because a process may still write to it
	if err != nil {
		return nil, err
	}
	// With the port 0, Firefox writes the port to a file of the profile.
	prefs := `user_pref("marionette.port", 0); user_pref("app.update.enabled", false); user_pref("browser.shell.checkDefaultBrowser", false);`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "--headless", "--marionette", "--no-remote", "--profile", profile)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(profile)
	})
	port, err := awaitPort(ctx, filepath.Join(profile, "MarionetteActivePort"))
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	if limit, ok := ctx.Deadline(); ok {
		conn.SetDeadline(limit)
	}
	m := &marionette{conn: conn, in: bufio.NewReader(conn)}
	if _, err := m.receive(); err != nil {
		return nil, err
	}
	capabilities := map[string]any{"acceptInsecureCerts": true, "timeouts": map[string]any{"script": clientTime.Milliseconds()}}
	return m, m.call("WebDriver:NewSession", capabilities, nil)
}

// awaitPort waits until Firefox has written its port to file.
func awaitPort(ctx context.Context, file string) (string, error) {
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for {
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			return strings.TrimSpace(string(b)), nil
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return "", fmt.Errorf("Firefox has not said on which port it listens: %w", ctx.Err())
		}
	}
}

// receive returns the next message.
func (m *marionette) receive() ([]byte, error) {
	head, err := m.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(m.in, b)
	return b, err
}

// call sends a command and decodes its result, unless result is nil.
func (m *marionette) call(name string, params map[string]any, result any) error {
	m.last++
	b, err := json.Marshal([]any{0, m.last, name, params})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		return err
	}
	if b, err = m.receive(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var answer [4]json.RawMessage // the kind, the number, the error and the result
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	if string(answer[2]) != "null" {
		return fmt.Errorf("%s: %s", name, answer[2])
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer[3], result)
}
