// Package firefox starts a Firefox for tests and runs scripts in its pages. It speaks Marionette, the protocol of
// Firefox: messages of JSON, each behind its length and a colon.
package firefox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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

// startTime is for the start of Firefox, on a machine with other load.
const startTime = time.Minute

// A Browser is a Firefox that a test controls. It has one page, so it is not safe for use by several goroutines at the
// same time.
type Browser struct {
	conn net.Conn
	in   *bufio.Reader
	last int
}

// Find returns the path of Firefox.
func Find() (string, error) {
	for _, name := range []string{"firefox-esr", "firefox"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", errors.New("there is no Firefox in PATH")
}

// Start starts a Firefox without a window and with its default settings, until the test ends.
func Start(t testing.TB, program string) (*Browser, error) {
	profile, err := os.MkdirTemp("", "firefox") // not t.TempDir, because a process may still write to it
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	// With the port 0, Firefox writes the port to a file of the profile.
	prefs := `user_pref("marionette.port", 0); user_pref("app.update.enabled", false); user_pref("browser.shell.checkDefaultBrowser", false);`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "--headless", "--marionette", "--no-remote", "--profile", profile)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	port, err := awaitPort(ctx, filepath.Join(profile, "MarionetteActivePort"))
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	b := &Browser{conn: conn, in: bufio.NewReader(conn)}
	defer b.limit(ctx)()
	if _, err := b.receive(); err != nil {
		return nil, err
	}
	// The context of Run is the limit of a script.
	capabilities := map[string]any{"acceptInsecureCerts": true, "timeouts": map[string]any{"script": time.Hour.Milliseconds()}}
	return b, b.call("WebDriver:NewSession", capabilities, nil)
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
			return "", fmt.Errorf("the browser has not said on which port it listens: %w", ctx.Err())
		}
	}
}

// Run opens url, and runs a script there as the body of an async function. It decodes what the script returns. The
// Browser cannot be used again if ctx is done first.
func (b *Browser) Run(ctx context.Context, url, script string, result any) error {
	defer b.limit(ctx)()
	if err := b.call("WebDriver:Navigate", map[string]any{"url": url}, nil); err != nil {
		return err
	}
	// The page evaluates the script, so that the script can import modules.
	page, err := json.Marshal("(async () => {" + script + "})()")
	if err != nil {
		return err
	}
	wrapped := "const done = arguments[arguments.length - 1]; window.eval(" + string(page) +
		").then((value) => done({ value }), (e) => done({ error: String(e) }))"
	var answer struct {
		Value struct {
			Value json.RawMessage
			Error string
		}
	}
	if err := b.call("WebDriver:ExecuteAsyncScript", map[string]any{"script": wrapped, "args": []any{}}, &answer); err != nil {
		return err
	}
	if answer.Value.Error != "" {
		return errors.New(answer.Value.Error)
	}
	return json.Unmarshal(answer.Value.Value, result)
}

// limit ends the calls when ctx is done, until the function that it returns is called.
func (b *Browser) limit(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { b.conn.SetDeadline(time.Unix(1, 0)) })
}

// receive returns the next message.
func (b *Browser) receive() ([]byte, error) {
	head, err := b.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil {
		return nil, err
	}
	msg := make([]byte, n)
	_, err = io.ReadFull(b.in, msg)
	return msg, err
}

// call sends a command and decodes its result, unless result is nil.
func (b *Browser) call(name string, params map[string]any, result any) error {
	b.last++
	msg, err := json.Marshal([]any{0, b.last, name, params})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(b.conn, "%d:%s", len(msg), msg); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if msg, err = b.receive(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var answer [4]json.RawMessage // the kind, the number, the error and the result
	if err := json.Unmarshal(msg, &answer); err != nil {
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
