package interop

import (
	"context"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWebKitOrigins checks which Origin WebKit sends from pages with the schemes of app
// shells. WebKitGTK is large, so install.sh does not install it, and the test is skipped
// without it. Debian has it in the packages gir1.2-webkit2-4.1, python3-gi, xvfb and xauth.
func TestWebKitOrigins(t *testing.T) {
	version, err := output(python, "-c", `import gi; gi.require_version("WebKit2", "4.1"); from gi.repository import WebKit2 as w
print(w.MAJOR_VERSION, w.MINOR_VERSION, w.MICRO_VERSION, sep=".")`)
	if err == nil {
		_, err = exec.LookPath("xvfb-run")
	}
	if err != nil {
		t.Skipf("WebKitGTK is missing: %v", err)
	}
	t.Log("WebKitGTK", version)

	pages := map[string]string{ // the page, and the Origin that it sends
		"tauri://localhost/":                                "tauri://localhost",
		"capacitor://localhost/index.html":                  "capacitor://localhost",
		"app:///index.html":                                 "app://",
		"file://" + filepath.Join(t.TempDir(), "page.html"): "null",
	}
	type opened struct {
		scheme  string
		origins []string
	}
	requests := make(chan opened, 100)
	a := newApp()
	p := startDirect(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- opened{strings.TrimPrefix(r.URL.Path, "/"), r.Header["Origin"]}
		http.Error(w, "enough", http.StatusForbidden)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	args := []string{"-a", python, "clients/webkit.py", p.websocket + "/"}
	for page := range maps.Keys(pages) {
		args = append(args, page)
	}
	cmd := exec.CommandContext(ctx, "xvfb-run", args...)
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe() // its end ends the client, and xvfb-run then ends its server
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	for len(pages) > 0 {
		select {
		case got := <-requests:
			for page, want := range pages {
				if strings.HasPrefix(page, got.scheme+":") {
					delete(pages, page)
					if origin := strings.Join(got.origins, ", "); origin != want {
						t.Errorf("%s: got the origin %q, want %q", page, origin, want)
					}
				}
			}
		case <-ctx.Done():
			t.Fatalf("no WebSocket from %v", pages)
		}
	}
}
