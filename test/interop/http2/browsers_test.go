package http2

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket/test/interop/internal/firefox"
)

// sockets is how many WebSockets the page opens at the same time, beside those that it closes.
const sockets = 60

// pageScript returns how each of the WebSockets of a page has ended. A browser runs it as the
// body of an async function.
const pageScript = `
	const results = {};
	const open = () => new Promise((resolve, reject) => {
		const ws = new WebSocket("wss://" + location.host + "/ws");
		ws.binaryType = "arraybuffer";
		ws.onopen = () => resolve(ws);
		ws.onerror = () => reject(new Error("not connected"));
	});
	const next = (ws) => new Promise((resolve) => (ws.onmessage = (e) => resolve(e.data)));
	const end = (ws) => new Promise((resolve) => (ws.onclose = (e) => resolve(e.code + " " + e.reason.slice(0, 30) + " " + e.wasClean)));
	const echo = async (ws, data) => {
		const got = next(ws);
		ws.send(data);
		return got;
	};
	const many = await Promise.all(Array.from({ length: 60 }, open));
	const echoes = await Promise.all(many.map((ws, i) => echo(ws, "message " + i)));
	results.echoes = String(echoes.filter((data, i) => data === "message " + i).length);
	const large = new Uint8Array(600000).map((_, i) => i % 251);
	const back = new Uint8Array(await echo(many[0], large));
	results.large = String(back.length === large.length && back.every((b, i) => b === large[i]));
	const ended = async (f) => {
		const ws = await open();
		const result = end(ws);
		f(ws);
		return result;
	};
	results.client = await ended((ws) => ws.close(4001, "closed by the client: ✓"));
	results.server = await ended((ws) => ws.send("close"));
	results.failed = await ended((ws) => ws.send("fail"));
	results.tooLarge = await ended((ws) => ws.send(new Uint8Array(2000000)));
	results.cut = await ended((ws) => ws.send("cut"));
	results.still = await echo(many[1], "still here");
	const ends = many.map(end);
	many.forEach((ws) => ws.close(1000));
	results.closed = String((await Promise.all(ends)).filter((e) => e === "1000  true").length);
	return results;
`

// checkResults compares the results of pageScript.
func checkResults(t *testing.T, s *site, results map[string]string) {
	t.Helper()
	want := map[string]string{
		"echoes":   "60",
		"large":    "true",
		"client":   "4001  true",
		"server":   "4002 closed by the server: ✓ true",
		"failed":   "1011  true",
		"tooLarge": "1009 ",
		"cut":      "1006  false",
		"still":    "still here",
		"closed":   "60",
	}
	for name, want := range want {
		if got := results[name]; got != want && !(name == "tooLarge" && strings.HasPrefix(got, want)) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	s.wantHTTP2(t, sockets+5)
}

// missing skips or fails a test whose program is not installed.
func missing(t *testing.T, err error) {
	t.Helper()
	if skipMissing() {
		t.Skip(err)
	}
	t.Fatal(err)
}

func TestChromium(t *testing.T) {
	program, err := find("chromium", "chromium-browser", "google-chrome")
	if err != nil {
		missing(t, err)
	}
	s := startSite(t, true)
	profile, err := os.MkdirTemp("", "http2-chromium")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.Headless,
		chromedp.NoSandbox, // the sandbox does not work as root or in most containers
		chromedp.DisableGPU, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-dev-shm-usage", true))
	defer cancel()
	tab, cancel := chromedp.NewContext(allocator)
	defer cancel()
	ctx, cancel := context.WithTimeout(tab, clientTime)
	defer cancel()
	results := map[string]string{}
	err = chromedp.Run(ctx, chromedp.Navigate(s.URL),
		chromedp.Evaluate("(async () => {"+pageScript+"})()", &results, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
			return e.WithAwaitPromise(true)
		}))
	if err != nil {
		t.Fatal(err)
	}
	checkResults(t, s, results)
}

func TestFirefox(t *testing.T) {
	program, err := firefox.Find()
	if err != nil {
		missing(t, err)
	}
	s := startSite(t, true)
	browser, err := firefox.Start(t, program)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	results := map[string]string{}
	if err := browser.Run(ctx, s.URL, pageScript, &results); err != nil {
		t.Fatal(err)
	}
	checkResults(t, s, results)
}

// find returns the path of the first program that exists.
func find(names ...string) (string, error) {
	for _, name := range names {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
		if program, err := exec.LookPath("/usr/sbin/" + name); err == nil { // only root has it in PATH
			return program, nil
		}
	}
	return "", errors.New("none of these programs is in PATH: " + strings.Join(names, ", "))
}
