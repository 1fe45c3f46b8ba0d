package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket/test/interop/internal/firefox"
)

// chromium returns the browser as a client: the WebSocket of a page of the app. It starts
// one browser for the test. Each path gets a tab.
func chromium(t *testing.T) client {
	program, err := lookChromium()
	browser := context.Background()
	if err == nil {
		browser, err = startChromium(t, program)
	}
	return client{
		name:        "chromium",
		unsupported: []string{"send-fragments", "client-ping"},
		version: sync.OnceValues(func() (string, error) {
			if err != nil {
				return "", err
			}
			version, err := output(program, "--version")
			return version[strings.LastIndex(version, "\n")+1:], err
		}),
		run: func(ctx context.Context, p path, run string, cases []string) map[string]error {
			if err != nil {
				return map[string]error{"": err}
			}
			return runTab(ctx, browser, p, run, cases)
		},
	}
}

// lookChromium returns the path of Chromium or Chrome.
func lookChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", errors.New("there is no Chromium in PATH")
}

// startChromium starts a browser with more flags and returns its context. The folder of its
// profile is not a t.TempDir, because a process of the browser may still write to it when the
// test ends.
func startChromium(t *testing.T, program string, flags ...chromedp.ExecAllocatorOption) (context.Context, error) {
	profile, err := os.MkdirTemp(temporary, "chromium")
	if err != nil {
		return nil, err
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), append(flags,
		chromedp.ExecPath(program),
		chromedp.UserDataDir(profile),
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Headless,
		chromedp.NoSandbox, // the sandbox does not work as root or in most containers
		chromedp.DisableGPU,
		chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-dev-shm-usage", true))...)
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	return browser, chromedp.Run(browser)
}

// runTab opens a page of the app in a tab and runs the cases in it.
func runTab(ctx, browser context.Context, p path, run string, cases []string) map[string]error {
	tab, cancel := chromedp.NewContext(browser)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	problems := map[string]string{}
	err := chromedp.Run(tab,
		chromedp.Navigate(p.http+"/"+run+"/"),
		chromedp.Evaluate("(async () => {"+pageScript(cases)+"})()", &problems, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
			return e.WithAwaitPromise(true)
		}))
	return pageResults(problems, err)
}

// firefoxClient returns Firefox as a client, like chromium. Its paths have one page in turn.
func firefoxClient(t *testing.T) client {
	program, err := firefox.Find()
	var browser *firefox.Browser
	if err == nil {
		browser, err = firefox.Start(t, program)
	}
	return client{
		name:        "firefox",
		unsupported: []string{"send-fragments", "client-ping"},
		version: sync.OnceValues(func() (string, error) {
			if err != nil {
				return "", err
			}
			return output(program, "--version")
		}),
		run: func(ctx context.Context, p path, run string, cases []string) map[string]error {
			if err != nil {
				return map[string]error{"": err}
			}
			problems := map[string]string{}
			err := browser.Run(ctx, p.http+"/"+run+"/", pageScript(cases), &problems)
			return pageResults(problems, err)
		},
	}
}

// pageScript returns the body of an async function that runs the cases in a page of the app and returns their
// problems.
func pageScript(cases []string) string {
	return fmt.Sprintf(`
		const { run } = await import(location.href + "cases.mjs");
		const results = {};
		const url = location.href.replace(/^http/, "ws");
		await run({ WebSocket }, url, %s, (name, error) => (results[name] = error ?? ""));
		return results;`, quoteAll(cases))
}

// pageResults returns the results of pageScript. err is not nil if it has failed itself.
func pageResults(problems map[string]string, err error) map[string]error {
	results := map[string]error{}
	for name, problem := range problems {
		results[name] = nil
		if problem != "" {
			results[name] = errors.New(problem)
		}
	}
	if err != nil {
		results[""] = err
	}
	return results
}

// quoteAll returns names as a JavaScript array.
func quoteAll(names []string) string {
	list := "["
	for _, name := range names {
		list += fmt.Sprintf("%q,", name)
	}
	return list + "]"
}
