package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// testTimeout limits every wait. It is long, because a browser is slow on a machine with
// two cores.
const testTimeout = 30 * time.Second

// A tab is a tab of the browser. Its methods do the steps and checks of a user.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openTab opens url in a new tab. The scripts run before those of the page, and so does
// recordCloses.
func openTab(t *testing.T, url string, scripts ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	// The first Run makes the tab. The tab is closed when the context of that call is
	// done, so this context has no timeout.
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

// recordCloses is a script that records the close codes of the page's WebSockets in the
// variable closeCodes.
const recordCloses = `
	window.closeCodes = [];
	const Plain = WebSocket;
	window.WebSocket = class extends Plain {
		constructor(...args) {
			super(...args);
			this.addEventListener("close", ({ code }) => closeCodes.push(code));
		}
	};`

// watch fails the test if the page does not catch an exception, or if the browser
// reports a violation of the page's Content-Security-Policy or another security error.
func (p *tab) watch(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.t.Errorf("the page threw %v", e.ExceptionDetails)
	case *log.EventEntryAdded:
		if e.Entry.Source == log.SourceSecurity || e.Entry.Source == log.SourceViolation {
			p.t.Errorf("the browser reported: %s", e.Entry.Text)
		}
	}
}

// run runs the actions within testTimeout.
func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, testTimeout)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval runs JavaScript and stores its value in result. If the value is a promise, eval
// waits for it.
func (p *tab) eval(result any, js string) {
	p.t.Helper()
	p.run(chromedp.Evaluate(js, result, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
		return e.WithAwaitPromise(true)
	}))
}

// js is JavaScript as an argument of script, which does not encode it.
type js string

// script returns JavaScript: format with args, encoded as JSON, in place of its verbs.
func script(format string, args ...any) string {
	for i, arg := range args {
		if _, ok := arg.(js); ok {
			continue
		}
		b, err := json.Marshal(arg)
		if err != nil {
			panic(err)
		}
		args[i] = b
	}
	return fmt.Sprintf(format, args...)
}

// until waits until a condition in JavaScript is true. description says in the failure
// text which condition it is. (chromedp.Poll cannot be used, because it compiles its
// condition in the page, which the page's policy forbids.)
func (p *tab) until(description, format string, args ...any) {
	p.t.Helper()
	condition := fmt.Sprintf("Boolean(%s)", script(format, args...))
	deadline := time.After(testTimeout)
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
			p.t.Fatalf("after %v this is still false: %s; the page shows %q", testTimeout, description, text)
		}
	}
}

// enter presses and releases the Enter key. chromedp.KeyEvent would also type a line
// break, even if the page handles the key in another way.
var enter = chromedp.Tasks{
	input.DispatchKeyEvent(input.KeyDown).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r').WithText("\r"),
	input.DispatchKeyEvent(input.KeyUp).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r'),
}

// backsOff checks the delays between the page's attempts to connect. Its clock is fastClock.
func (p *tab) backsOff() {
	p.t.Helper()
	p.until("ten delays are recorded", "delays.length >= 10")
	var delays []float64
	p.eval(&delays, "delays")
	for i, got := range delays {
		most := min(500*float64(int(1)<<i), 30_000)
		if got < most/2 || got > most {
			p.t.Errorf("delay %d is %.0f ms, want %.0f to %.0f", i+1, got, most/2, most)
		}
	}
}

// fastClock is a script that makes the page's clock run fifty times as fast and records
// the page's delays. It does not shorten the times in which the page waits for the server.
const fastClock = `
	window.delays = [];
	const [set, now] = [setTimeout, Date.now];
	Date.now = () => 50 * now();
	window.setTimeout = (f, ms) => {
		if (ms === 10_000 || ms === 50_000) return set(f, ms);
		delays.push(ms);
		return set(f, ms / 50);
	};`
