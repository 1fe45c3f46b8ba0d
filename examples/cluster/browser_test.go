package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket"
)

// startBrowser starts Chromium. Without Chromium the test fails, unless BROWSERTEST=skip is
// set.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("BROWSERTEST") == "skip" {
		t.Skip("BROWSERTEST=skip is set")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium in PATH: install one, or set BROWSERTEST=skip")
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path),
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Headless,
		chromedp.NoSandbox, // the sandbox does not work as root or in most containers
		chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(cancel)
	browser, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() { chromedp.Cancel(browser) }) // which waits for Chromium
	if err := chromedp.Run(browser); err != nil {
		t.Fatalf("starting %s: %v; set BROWSERTEST=skip to skip this test", path, err)
	}
	return browser
}

// A tab is a tab of the browser with the page.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openTab opens the page and joins the chat. The scripts run before those of the page.
func openTab(t *testing.T, browser context.Context, url, name string, scripts ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil { // makes the tab; without a timeout, which would close it
		t.Fatal(err)
	}
	p := &tab{t, ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page threw %v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			if e.Entry.Source == log.SourceSecurity || e.Entry.Source == log.SourceViolation {
				t.Errorf("the browser reported: %s", e.Entry.Text)
			}
		}
	})
	p.run(log.Enable(), emulation.SetDeviceMetricsOverride(900, 620, 1, false))
	for _, script := range scripts {
		p.run(chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := page.AddScriptToEvaluateOnNewDocument(script).Do(ctx)
			return err
		}))
	}
	p.run(chromedp.Navigate(url))
	p.until("the field for the name has the focus", `document.activeElement?.id === "name"`)
	p.run(chromedp.KeyEvent(name), enterKey)
	p.online()
	return p
}

// enterKey presses and releases the Enter key. chromedp.KeyEvent would also type a line break.
var enterKey = chromedp.Tasks{
	input.DispatchKeyEvent(input.KeyDown).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r').WithText("\r"),
	input.DispatchKeyEvent(input.KeyUp).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode('\r'),
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// until waits until a condition in JavaScript is true. The verbs are replaced by args in JSON.
func (p *tab) until(description, format string, args ...any) {
	p.t.Helper()
	for i, arg := range args {
		b, err := json.Marshal(arg)
		if err != nil {
			p.t.Fatal(err)
		}
		args[i] = b
	}
	condition := fmt.Sprintf("Boolean(%s)", fmt.Sprintf(format, args...))
	deadline := time.After(patience)
	for {
		var met bool
		p.run(chromedp.Evaluate(condition, &met))
		if met {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			var text string
			p.run(chromedp.Evaluate("document.body.innerText", &text))
			p.t.Fatalf("after %v this is still false: %s; the page shows %q", patience, description, text)
		}
	}
}

func (p *tab) online() {
	p.t.Helper()
	p.until("the page is connected", `document.querySelector("#status.live")`)
}

// say types a message and sends it.
func (p *tab) say(text string) {
	p.t.Helper()
	p.run(chromedp.Focus("#text"), input.InsertText(text), enterKey)
	p.until("the field for messages is empty", `document.activeElement.value === ""`)
}

// shows waits until the page shows exactly these messages, all of them confirmed.
func (p *tab) shows(texts ...string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the messages are %q", texts),
		`JSON.stringify([...document.querySelectorAll(".message:not(.pending) .words")].map((w) => w.textContent)) === JSON.stringify(%s)
			&& !document.querySelector(".pending")`, texts)
}

// screenshot writes a screenshot to the directory that SCREENSHOTS names, if it is set.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	p.run(page.BringToFront()) // a hidden page does not finish its animations
	p.until("all animations have ended", "document.getAnimations().length === 0")
	var png []byte
	p.run(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// startBalancer returns the URL of a load balancer: each connection goes to the first of the
// processes that accepts it.
func startBalancer(t *testing.T, urls ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { balance(ctx, c, urls) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		running.Wait()
	})
	return "http://" + l.Addr().String()
}

func balance(ctx context.Context, c net.Conn, urls []string) {
	defer c.Close()
	for _, url := range urls {
		target, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			continue
		}
		defer target.Close()
		defer context.AfterFunc(ctx, func() { c.Close(); target.Close() })()
		var both sync.WaitGroup
		both.Go(func() { io.Copy(target, c); target.Close() })
		both.Go(func() { io.Copy(c, target); c.Close() })
		both.Wait()
		return
	}
}

// Two pages are connected to two processes. One process is killed, and then NATS is away.
func TestBrowser(t *testing.T) {
	browser := startBrowser(t)
	dir := t.TempDir()
	n := testNATS(t, embeddedConfig{dir: dir})
	first := startProcess(t, "-nats", n.url(), "-name", "server 1")
	second := startProcess(t, "-nats", n.url(), "-name", "server 2")
	ada := openTab(t, browser, startBalancer(t, first.url, second.url), "Ada")
	bob := openTab(t, browser, second.url, "Bob")

	var said []string
	say := func(from *tab, text string) {
		t.Helper()
		from.say(text)
		said = append(said, text)
	}
	say(ada, "Hello from the first server!")
	bob.shows(said...)
	say(bob, "Hello Ada, I am on the second one. <b>This is text.</b>")
	ada.shows(said...)
	ada.until("the page says which process the author is connected to",
		`[...document.querySelectorAll(".via")].map((v) => v.textContent).join() === "via server 1,via server 2"`)

	first.kill()
	ada.until("the connection is lost", `document.querySelector("#status:not(.live)")`)
	say(bob, "Your server was killed just now.")
	say(bob, "You get these two messages as soon as you are back.")
	ada.online()
	ada.shows(said...)
	ada.until("the page is connected to the other process", `document.querySelector("#status").textContent === "Connected to server 2"`)
	say(ada, "And nothing is missing.")
	bob.shows(said...)

	address := n.server.Addr().String()
	n.stop()
	for _, p := range []*tab{ada, bob} {
		p.until("the page says that NATS is away", `!document.querySelector("#away").hidden`)
	}
	say(ada, "This one waits for NATS.")
	ada.until("the message is pending", `document.querySelectorAll(".pending").length === 1`)
	ada.screenshot("away")
	testNATS(t, embeddedConfig{listen: address, dir: dir})
	bob.shows(said...)
	ada.shows(said...)
	bob.until("the page says nothing of NATS", `document.querySelector("#away").hidden`)

	ada.run(chromedp.Reload())
	ada.online()
	ada.shows(said...)
	ada.screenshot("light")
	ada.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	ada.screenshot("dark")
	ada.run(emulation.SetDeviceMetricsOverride(360, 640, 1, true))
	ada.screenshot("phone")
	ada.until("the page fits a phone", "document.documentElement.scrollWidth <= 360")
}

// The network drops all bytes, without an event, while the page only reads. The page notices it,
// reconnects, and gets what it has missed.
func TestBrowser_silent_network(t *testing.T) {
	browser := startBrowser(t)
	r, _ := testRoom(1, 1, defaultLimits())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go r.sayAlive(ctx, aliveEvery/10)
	srv := httptest.NewServer(routes(r))
	defer srv.Close()
	network := newNetwork(t, srv.Listener.Addr().String())
	ada := openTab(t, browser, "http://"+network.addr, "Ada", impatient)
	ada.shows("message 1")
	ada.until("four events say that the server is alive", `events.filter((e) => e === "alive").length >= 4`)
	ada.until("the page has not reconnected meanwhile", "connections === 1")

	network.setSilent(true)
	ada.until("the page has noticed it", `document.querySelector("#status").textContent === "No answer…"`)
	deliverText(r, 2)
	network.setSilent(false)
	ada.online()
	ada.shows("message 1", "message 2")
}

// impatient is a script that shortens the time in which the page waits for an event to a tenth. It
// counts the connections of the page and records the types of the events.
const impatient = `
	const set = setTimeout;
	window.setTimeout = (f, ms) => set(f, ms === 50_000 ? 5_000 : ms);
	window.connections = 0;
	window.events = [];
	const Plain = WebSocket;
	window.WebSocket = class extends Plain {
		constructor(...args) {
			super(...args);
			connections++;
			this.addEventListener("message", ({ data }) => events.push(JSON.parse(data).type));
		}
	};`

// The page sends the position of its last event, also if that is the welcome.
func TestBrowser_position(t *testing.T) {
	browser := startBrowser(t)
	at := time.Now()
	replies := [][]event{
		{{Type: "welcome", Stream: "s1", Seq: 30, Time: at}},
		{{Type: "welcome", Stream: "s1", Seq: 30, Time: at}, {Type: "said", Seq: 31, ID: "a", Text: "Hello", Time: at.Add(time.Hour)}},
		{{Type: "welcome", Stream: "s1", Seq: 31, Time: at.Add(time.Hour)}, {Type: "missed", Seq: 40, Count: 9}},
		{{Type: "welcome", Stream: "s2", Reset: true}},
		{{Type: "welcome", Stream: "s2"}, {Type: "live", Connected: new(bool)}},
	}
	want := []hello{
		{},
		{Stream: "s1", Last: 30, Time: at},
		{Stream: "s1", Last: 31, Time: at.Add(time.Hour)},
		{Stream: "s1", Last: 40},
		{Stream: "s2"},
	}
	got := make(chan hello, len(want))
	mux := http.NewServeMux()
	mux.Handle("/", routes(newRoom("test", defaultLimits())))
	mux.Handle("/chat", websocket.Handle(func(c *websocket.Conn) error {
		var in hello
		if err := c.ReceiveJSON(&in); err != nil {
			return err
		}
		for _, e := range replies[len(got)] {
			e.Name, e.Server = in.Name, "test"
			if err := c.SendMessage(websocket.Text, e.encode()); err != nil {
				return err
			}
		}
		if got <- in; len(got) < len(want) {
			return nil // and the page connects again
		}
		return c.Discard()
	}))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	openTab(t, browser, srv.URL, "Ada", "const set = setTimeout; window.setTimeout = (f, ms) => set(f, ms < 10_000 ? ms / 20 : ms);")
	for i, want := range want {
		in := <-got
		if in.Stream != want.Stream || in.Last != want.Last || !in.Time.Equal(want.Time) {
			t.Errorf("the position of connection %d is %q, %d, %v; want %q, %d, %v", i+1, in.Stream, in.Last, in.Time, want.Stream, want.Last, want.Time)
		}
	}
}
