package interop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket"
)

// sentOrigin returns the Origin headers that a client sends by default on a path. Browsers
// send the origin of the page, which the app has served.
func sentOrigin(client string, p path) []string {
	switch client {
	case "chromium", "x-net": // the user of x-net must choose one
		return []string{p.http}
	case "websocket-client": // the scheme http, even over TLS
		_, host, _ := strings.Cut(p.http, "://")
		return []string{"http://" + host}
	}
	return nil
}

// expectOrigin checks the Origin headers of a run.
func (a *app) expectOrigin(t *testing.T, c client, p path, run string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if got, want := a.origins[run], sentOrigin(c.name, p); !slices.Equal(got, want) {
		t.Errorf("the client sent the Origin headers %q, want %q", got, want)
	}
}

// TestAllowOrigins checks the origins of app shells with the patterns that docs/clients.md
// recommends. Each pattern must accept its origin only.
func TestAllowOrigins(t *testing.T) {
	for _, test := range []struct{ pattern, origin, refused string }{
		{"capacitor://localhost", "capacitor://localhost", "ionic://localhost"},
		{"ionic://localhost", "ionic://localhost", "capacitor://localhost"},
		{"tauri://localhost", "tauri://localhost", "tauri://localhost.evil.example"},
		{"http://tauri.localhost", "http://tauri.localhost", "https://tauri.localhost"},
		{"https://localhost", "https://localhost", "http://localhost"},
		{"app://localhost", "app://localhost", "app://"},
		{"app://", "app://", "app://localhost"},
		{"file://", "file://", "null"},
		{"chrome-extension://abcdefghijklmnopabcdefghijklmnop", "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
			"chrome-extension://ponmlkjihgfedcbaponmlkjihgfedcba"},
		{"moz-extension://0b5dc04e-6bdd-4a0c-8d3b-3a1d3b6b9e0c", "moz-extension://0b5dc04e-6bdd-4a0c-8d3b-3a1d3b6b9e0c", "null"},
	} {
		t.Run(test.pattern, func(t *testing.T) {
			a := newApp()
			p := startDirect(t, a, websocket.Handle(echo, websocket.AcceptConnection(websocket.AllowOrigins(test.pattern))))
			for origin, want := range map[string]string{
				test.origin:  "101 Switching Protocols",
				test.refused: "403 Forbidden",
				p.http:       "101 Switching Protocols",
				p.http + "/": "403 Forbidden",
				"":           "101 Switching Protocols",
			} {
				header := http.Header{}
				if origin != "" {
					header.Set("Origin", origin)
				}
				if status, _ := handshake(t, p.websocket, header); status != want {
					t.Errorf("the origin %q: got %s, want %s", origin, status, want)
				}
			}
		})
	}
}

// TestChromiumOrigins checks which Origin Chromium sends from documents that no web server
// has served, and whether a pattern accepts them. With access to files, which some app
// shells switch on, the pages of file:// have an origin.
func TestChromiumOrigins(t *testing.T) {
	program, err := lookChromium()
	require(t, "chromium", "", err)
	extension, err := filepath.Abs("clients/extension")
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(page, []byte("<!doctype html><title>interop</title>"), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := []chromedp.ExecAllocatorOption{
		chromedp.Flag("load-extension", extension),
		chromedp.Flag("disable-features", "DisableLoadExtensionCommandLineSwitch"),
	}
	access := []chromedp.ExecAllocatorOption{chromedp.Flag("allow-file-access-from-files", true)}
	id := "chrome-extension://" + extensionID(extension)

	browsers := map[string]context.Context{}
	for name, flags := range map[string][]chromedp.ExecAllocatorOption{"strict": strict, "access": access} {
		if browsers[name], err = startChromium(t, program, flags...); err != nil {
			t.Fatal(err)
		}
	}
	origins := make(chan []string, 1)
	handler := websocket.Handle(func(c *websocket.Conn) error {
		return c.SendMessage(websocket.Text, []byte("accepted"))
	}, websocket.AcceptConnection(websocket.AllowOrigins("file://", id)))
	a := newApp()
	mux := http.NewServeMux()
	mux.HandleFunc("/origin", func(w http.ResponseWriter, r *http.Request) {
		origins <- r.Header["Origin"]
		handler.ServeHTTP(w, r)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<!doctype html>") })
	p := startDirect(t, a, mux)

	for _, test := range []struct {
		name, browser, url, script, origin string
		accepted                           bool
	}{
		{"a page of the server", "strict", p.http + "/page", "open(%q)", p.http, true},
		{"a page of an extension", "strict", id + "/page.html", "open(%q)", id, true},
		{"a file", "strict", "file://" + page, "open(%q)", "null", false},
		{"a file with access to files", "access", "file://" + page, "open(%q)", "file://", true},
		{"a sandboxed frame", "strict", p.http + "/page", "openInFrame(%q)", "null", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := openFrom(browsers[test.browser], test.url, fmt.Sprintf(test.script, p.websocket+"/origin"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(<-origins, ", "); got != test.origin {
				t.Errorf("got the origin %q, want %q", got, test.origin)
			}
			if got := answer == "accepted"; got != test.accepted {
				t.Errorf("got the answer %q, accepted: %v, want %v", answer, got, test.accepted)
			}
		})
	}
}

// openers defines open, which opens a WebSocket and returns the first message or "refused",
// and openInFrame, which does so in a sandboxed frame.
const openers = `
const open = (url) => new Promise((resolve) => {
	const socket = new WebSocket(url);
	socket.onmessage = ({ data }) => resolve(data);
	socket.onerror = () => resolve("refused");
});
const openInFrame = (url) => new Promise((resolve) => {
	addEventListener("message", ({ data }) => resolve(data));
	const frame = document.createElement("iframe");
	frame.sandbox = "allow-scripts";
	const script = "const open = " + open + "; open(" + JSON.stringify(url) + ").then((answer) => parent.postMessage(answer, '*'));";
	frame.srcdoc = "<script>" + script + "</" + "script>";
	document.body.append(frame);
});
`

// openFrom evaluates a script with the openers in a page of url and returns its result.
func openFrom(browser context.Context, url, script string) (answer string, err error) {
	tab, cancel := chromedp.NewContext(browser)
	defer cancel()
	ctx, cancel := context.WithTimeout(tab, caseTime)
	defer cancel()
	err = chromedp.Run(ctx,
		chromedp.Navigate(url),
		chromedp.Evaluate("(() => {"+openers+"return "+script+"})()", &answer, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
			return e.WithAwaitPromise(true)
		}))
	return answer, err
}

// extensionID returns the id that Chromium gives to an unpacked extension: the first 16
// bytes of the hash of its folder, with the letters a to p as digits.
func extensionID(folder string) string {
	hash := sha256.Sum256([]byte(folder))
	return strings.Map(func(digit rune) rune {
		if digit >= 'a' {
			return digit - 'a' + 'k'
		}
		return digit - '0' + 'a'
	}, hex.EncodeToString(hash[:16]))
}
