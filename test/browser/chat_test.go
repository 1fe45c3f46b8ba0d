package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket"
)

func TestChat_Messages(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	bob := join(t, s.url(), "Bob")
	ada.seesPeople("Ada", "Bob")
	bob.seesPeople("Ada", "Bob")

	const markup = `<img src=x onerror="alert(1)"> & <b>bold</b>`
	ada.say("Hello, Bob")
	bob.sees("Ada", "Hello, Bob")
	bob.say(markup)
	for _, p := range []*tab{ada, bob} {
		p.sees("Ada", "Hello, Bob")
		p.sees("Bob", markup)
	}

	late := join(t, s.url(), "Cy")
	late.sees("Ada", "Hello, Bob")
	late.sees("Bob", markup)
	ada.seesPeople("Ada", "Bob", "Cy")

	bob.run(chromedp.Click("#leave"))
	ada.seesPeople("Ada", "Cy")
	bob.until("the page shows the form to join", `!document.querySelector("#login").hidden && document.querySelector("#room").hidden`)
	bob.run(chromedp.SetValue("#name", "cy"), chromedp.Click("#join button"))
	bob.until("the page says that the name is taken", `document.querySelector("#refusal").textContent === "The name cy is taken"`)

	ada.run(chromedp.Reload())
	ada.online()
	ada.seesPeople("Ada", "Cy")
	ada.sees("Ada", "Hello, Bob")
}

func TestChat_Reset(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	network := startProxy(t, s.addr)
	ada := join(t, s.url(), "Ada")
	bob := join(t, "http://"+network.addr, "Bob")
	ada.say("Before")
	bob.sees("Ada", "Before")

	network.cut()
	bob.offline()
	ada.seesPeople("Ada")
	bob.until("the connection was closed without a close frame", "closeCodes[0] === %s", websocket.StatusAbnormalClosure)
	ada.say("Sent while Bob is offline")
	bob.say("Sent by Bob while he is offline")

	network.restore()
	bob.online()
	ada.seesPeople("Ada", "Bob")
	ada.sees("Bob", "Sent by Bob while he is offline")
	ada.say("After")
	for _, text := range []string{"Before", "Sent while Bob is offline", "After"} {
		bob.sees("Ada", text)
	}
	bob.say("Back again")
	ada.sees("Bob", "Back again")
	bob.sees("Bob", "Sent by Bob while he is offline")
}

// TestChat_SilentServer checks that the page reconnects if the connection fails without any
// event. Here the server process is stopped for a while.
func TestChat_SilentServer(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	bob := join(t, s.url(), "Bob")

	s.signal(syscall.SIGSTOP)
	ada.say("Sent to a stopped server")
	ada.offline()

	s.signal(syscall.SIGCONT)
	ada.online()
	for _, p := range []*tab{ada, bob} {
		p.sees("Ada", "Sent to a stopped server")
		p.seesPeople("Ada", "Bob")
	}
	bob.say("The answer")
	ada.sees("Bob", "The answer")
	bob.sees("Ada", "Sent to a stopped server")
}

// TestChat_SilentServer_without_questions checks that a page that sends nothing reconnects too.
func TestChat_SilentServer_without_questions(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	bob := join(t, s.url(), "Bob")
	ada := join(t, s.url(), "Ada", impatient)
	// The server takes two messages per second, so these take longer than Ada's page waits.
	for i := range 24 {
		text := fmt.Sprint("Message ", i)
		bob.say(text)
		ada.sees("Bob", text)
	}
	ada.until("the page has not reconnected meanwhile", "closeCodes.length === 0")

	s.signal(syscall.SIGSTOP)
	ada.offline()
	s.signal(syscall.SIGCONT)
	ada.online()
	ada.seesPeople("Ada", "Bob")
}

// impatient is a script that shortens the time in which the page waits for an event to a tenth.
const impatient = `
	const set = setTimeout;
	window.setTimeout = (f, ms) => set(f, ms === 50_000 ? 5_000 : ms);`

func TestChat_Restart(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	bob := join(t, s.url(), "Bob")
	ada.say("Before")
	bob.sees("Ada", "Before")

	s.stop()
	for _, p := range []*tab{ada, bob} {
		p.until("the connection was closed with 1001", "closeCodes[0] === %s", websocket.StatusGoingAway)
		p.offline()
	}

	startServer(t, "chat", s.addr)
	for _, p := range []*tab{ada, bob} {
		p.online()
		p.seesPeople("Ada", "Bob")
	}
	bob.say("After")
	ada.sees("Bob", "After")
	ada.sees("Ada", "Before")
}

// TestChat_BackOff checks the delays between the attempts to connect.
func TestChat_BackOff(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada", fastClock)
	s.stop()
	ada.backsOff()
	startServer(t, "chat", s.addr)
	ada.online()
}

// TestChat_ForeignOrigin checks that a page of another origin cannot connect.
func TestChat_ForeignOrigin(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>Elsewhere</title>")
	}))
	defer elsewhere.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(elsewhere.URL, "http://"), ":")

	for name, origin := range map[string]string{
		"another port": elsewhere.URL,
		"another host": "http://localhost:" + port,
	} {
		t.Run(name, func(t *testing.T) {
			p := openTab(t, origin)
			refusals := make(chan string, 1)
			chromedp.ListenTarget(p.ctx, func(event any) {
				if e, ok := event.(*network.EventWebSocketFrameError); ok {
					refusals <- e.ErrorMessage
				}
			})
			p.run(network.Enable())
			p.eval(nil, script(`window.seen = []; const ws = new WebSocket(%s);
				for (const type of ["open", "error", "close"]) ws.addEventListener(type, () => seen.push(type)); 0`,
				"ws://"+s.addr+"/chat"))
			p.until("the connection was refused", `seen.join() === "error,close" && closeCodes[0] === %s`, websocket.StatusAbnormalClosure)
			if refusal := <-refusals; !strings.Contains(refusal, "403") {
				t.Errorf("the browser reported %q, want the status 403", refusal)
			}
		})
	}
}

func TestChat_Layout(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	bob := join(t, s.url(), "Bob")
	join(t, s.url(), "Grace Hopper")
	ada.say("Have you tried the new frames example?")
	bob.sees("Ada", "Have you tried the new frames example?")
	bob.say("Yes, it uploads a file and shows the progress of the upload.")
	bob.say("I did not know that a ping may come in the middle of a message. See section 5.4 of https://www.rfc-editor.org/rfc/rfc6455")
	ada.sees("Bob", "I did not know that a ping may come in the middle of a message. See section 5.4 of https://www.rfc-editor.org/rfc/rfc6455")
	ada.say(strings.Repeat("Averylongwordthatcannotbebroken", 5))
	ada.say("😀 مرحبا بالعالم")
	bob.sees("Ada", "😀 مرحبا بالعالم")

	forEachView(t, func(t *testing.T, name string, resize func(*tab)) {
		view := openTab(t, s.url())
		resize(view)
		view.fits("#name")
		view.screenshot("chat-" + name + "-login")
		view.run(chromedp.SendKeys("#name", "Edsger"), chromedp.Click("#join button"))
		view.online()
		view.sees("Ada", "😀 مرحبا بالعالم")
		greeting := "Good evening from " + name
		view.say(greeting)
		view.sees("Edsger", greeting)
		view.fits("#text")
		view.fits("#composer button")
		view.fits("#leave")
		view.fits("#messages > :last-child")
		view.screenshot("chat-" + name)
	})
}

// TestChat_Readme makes the screenshot of the README.
func TestChat_Readme(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	grace := join(t, s.url(), "Grace")
	grace.size(1000, 620, false, "light")
	ada := join(t, s.url(), "Ada")
	edsger := join(t, s.url(), "Edsger")
	for _, line := range []struct {
		author *tab
		name   string
		text   string
	}{
		{ada, "Ada", "How do you close all connections when the server stops?"},
		{edsger, "Edsger", "Handler.Shutdown closes them with 1001, all at the same time."},
		{edsger, "Edsger", "It then waits until their functions have returned."},
		{grace, "Grace", "And the pages connect again when it is back."},
		{ada, "Ada", "Let us try: I restart it now."},
	} {
		line.author.say(line.text)
		grace.sees(line.name, line.text)
	}
	grace.seesPeople("Ada", "Edsger", "Grace")
	grace.screenshot("chat-readme")
}

// TestChat_TallMessage checks that a message of many lines, or of many accents on one character,
// does not push the others out of the window or cover them.
func TestChat_TallMessage(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	ada.run(emulation.SetDeviceMetricsOverride(390, 600, 2, true))
	ada.say("Hello")
	lines := "first line" + strings.Repeat("\n", 400) + "last line"
	ada.say(lines)
	ada.sees("Ada", lines)
	ada.fits("#messages > :last-child")
	ada.say("a" + strings.Repeat("\u0301", 900))
	ada.fits("#messages > :last-child")
	ada.until("the accents are within their message", `[...document.querySelectorAll(".bubble")].every((b) =>
		b.clientHeight < innerHeight && getComputedStyle(b).overflowY === "auto")`)
}

// TestChat_ScrolledBack checks that a new message does not scroll the list while the user
// reads older messages, and that a button then leads to the new message.
func TestChat_ScrolledBack(t *testing.T) {
	s := startServer(t, "chat", "127.0.0.1:0")
	ada := join(t, s.url(), "Ada")
	long := strings.TrimSpace(strings.Repeat("many words ", 80))
	ada.say(long)
	ada.say("The end")

	reader := openTab(t, s.url())
	reader.run(emulation.SetDeviceMetricsOverride(390, 500, 2, true),
		chromedp.SendKeys("#name", "Reader"), chromedp.Click("#join button"))
	reader.sees("Ada", "The end")
	reader.fits("#messages > :last-child")
	reader.eval(nil, `document.querySelector("#log").scrollTop = 0;
		new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(() => painted(0))))`)
	ada.say("Not yet")
	reader.sees("Ada", "Not yet")
	reader.fits("#newer")
	reader.until("the list is still at its beginning", `document.querySelector("#log").scrollTop === 0`)
	reader.run(chromedp.Click("#newer"))
	reader.fits("#messages > :last-child")
	reader.until("the button is hidden", `document.querySelector("#newer").hidden`)
}

// fits checks that the element of selector is in the window and not covered by another
// element, and that only the list of messages can be scrolled.
func (p *tab) fits(selector string) {
	p.t.Helper()
	p.until(selector+" is in the window", `(() => {
		const it = document.querySelector(%s), r = it.getBoundingClientRect();
		const page = document.documentElement, log = document.querySelector("#log");
		return r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight
			&& it.contains(document.elementFromPoint((r.left + r.right) / 2, (r.top + r.bottom) / 2))
			&& page.scrollWidth <= innerWidth && page.scrollHeight <= innerHeight && log.scrollWidth <= log.clientWidth;
	})()`, selector)
}

// join opens the chat and joins the room with the keyboard alone.
func join(t *testing.T, url, name string, scripts ...string) *tab {
	t.Helper()
	p := openTab(t, url, scripts...)
	p.until("the field for the name has the focus", `document.activeElement?.id === "name"`)
	p.run(chromedp.KeyEvent(name), enter)
	p.online()
	return p
}

// online waits until the page is connected.
func (p *tab) online() {
	p.t.Helper()
	p.until("the page is connected", `document.querySelector("#status.online")`)
}

// offline waits until the page is not connected.
func (p *tab) offline() {
	p.t.Helper()
	p.until("the page is not connected", `document.querySelector("#status:not(.online)")`)
}

// say types a message and sends it. The field for messages must have the focus.
func (p *tab) say(text string) {
	p.t.Helper()
	p.until("the field for messages has the focus", `document.activeElement?.id === "text"`)
	p.run(input.InsertText(text), enter)
	p.until("the field for messages is empty", `document.activeElement.value === ""`)
}

// sees waits until the page shows a confirmed message, and checks that it shows the
// message once.
func (p *tab) sees(name, text string) {
	p.t.Helper()
	const count = `[...document.querySelectorAll(".message:not(.pending)")].filter((m) =>
		m.dataset.name === %s && m.querySelector(".words").textContent === %s).length`
	p.until(fmt.Sprintf("the page shows the message %q of %s", text, name), count+" > 0", name, text)
	var n int
	p.eval(&n, script(count, name, text))
	if n != 1 {
		p.t.Errorf("the page shows the message %q of %s %d times, want once", text, name, n)
	}
}

// seesPeople waits until the list of people shows these names, in this order.
func (p *tab) seesPeople(names ...string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the list of people is %q", names),
		`JSON.stringify([...document.querySelectorAll("#people bdi")].map((b) => b.textContent)) === JSON.stringify(%s)
			&& document.querySelector("#count").textContent === String(%s.length)`, names, names)
}
