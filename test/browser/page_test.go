package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait; a machine with two slow cores needs some.
const patience = 30 * time.Second

// A tab is a tab of the browser, with a user in front of it.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openTab opens a tab that records with what codes its WebSockets are closed. The
// scripts run before those of the page.
func openTab(t *testing.T, url string, scripts ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	// The first Run makes the tab, which lives as long as the context of that call.
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	p := &tab{t, ctx}
	chromedp.ListenTarget(ctx, p.watch)
	p.run(log.Enable())
	for _, script := range append(scripts, recordCloses) {
		p.run(chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := page.AddScriptToEvaluateOnNewDocument(script).Do(ctx)
			return err
		}))
	}
	p.run(chromedp.Navigate(url))
	return p
}

const recordCloses = `
	window.closeCodes = [];
	const Plain = WebSocket;
	window.WebSocket = class extends Plain {
		constructor(...args) {
			super(...args);
			this.addEventListener("close", ({ code }) => closeCodes.push(code));
		}
	};`

// watch fails the test for what the page does not handle, and for what its
// Content-Security-Policy has to stop.
func (p *tab) watch(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.t.Errorf("the page threw %v", e.ExceptionDetails)
	case *log.EventEntryAdded:
		if e.Entry.Source == log.SourceSecurity || e.Entry.Source == log.SourceViolation {
			p.t.Errorf("the browser complains: %s", e.Entry.Text)
		}
	}
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval runs JavaScript and waits for its promise, if it gives one.
func (p *tab) eval(result any, js string) {
	p.t.Helper()
	p.run(chromedp.Evaluate(js, result, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
		return e.WithAwaitPromise(true)
	}))
}

// script makes JavaScript of a format, with args as JSON in place of its verbs.
func script(format string, args ...any) string {
	for i, arg := range args {
		b, err := json.Marshal(arg)
		if err != nil {
			panic(err)
		}
		args[i] = b
	}
	return fmt.Sprintf(format, args...)
}

// until waits until a condition of JavaScript is true. (Poll of chromedp compiles
// its condition in the page, which the page's policy forbids.)
func (p *tab) until(what, format string, args ...any) {
	p.t.Helper()
	condition := fmt.Sprintf("Boolean(%s)", script(format, args...))
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var met bool
		p.eval(&met, condition)
		if met {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			var text string
			p.eval(&text, "document.body.innerText")
			p.t.Fatalf("not after %v: %s; the page shows %q", patience, what, text)
		}
	}
}

// join opens the chat and goes in, as somebody with a keyboard would.
func join(t *testing.T, url, name string, scripts ...string) *tab {
	t.Helper()
	p := openTab(t, url, scripts...)
	p.until("the name can be typed", `document.activeElement?.id === "name"`)
	p.run(chromedp.KeyEvent(name), enter)
	p.online()
	return p
}

func (p *tab) online() {
	p.t.Helper()
	p.until("connected", `document.querySelector("#status.online")`)
}

func (p *tab) offline() {
	p.t.Helper()
	p.until("not connected", `document.querySelector("#status:not(.online)")`)
}

// say types a message and sends it. The keyboard's focus must be where it belongs.
func (p *tab) say(text string) {
	p.t.Helper()
	p.until("a message can be typed", `document.activeElement?.id === "text"`)
	p.run(input.InsertText(text), enter)
	p.until("the message is on its way", `document.activeElement.value === ""`)
}

// enter is the key. KeyEvent would type a line break even where the page takes
// the key for something else.
var enter = chromedp.Tasks{
	input.DispatchKeyEvent(input.KeyDown).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r').WithText("\r"),
	input.DispatchKeyEvent(input.KeyUp).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r'),
}

// sees waits for a message, which must be there once.
func (p *tab) sees(name, text string) {
	p.t.Helper()
	const count = `[...document.querySelectorAll(".message:not(.pending)")].filter((m) =>
		m.dataset.name === %s && m.querySelector(".words").textContent === %s).length`
	p.until(fmt.Sprintf("%s says %q", name, text), count+" > 0", name, text)
	var n int
	p.eval(&n, script(count, name, text))
	if n != 1 {
		p.t.Errorf("%s says %q %d times", name, text, n)
	}
}

// seesPeople waits until the list of who is here shows these names, sorted.
func (p *tab) seesPeople(names ...string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%q are here", names),
		`JSON.stringify([...document.querySelectorAll("#people bdi")].map((b) => b.textContent)) === JSON.stringify(%s)
			&& document.querySelector("#count").textContent === String(%s.length)`, names, names)
}

// screenshot leaves a picture where SCREENSHOTS says.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	p.until("all is still", "document.getAnimations().length === 0")
	var png []byte
	p.run(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o666); err != nil {
		p.t.Fatal(err)
	}
}
