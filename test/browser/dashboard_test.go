package browser

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/f44ffc3b/websocket"
)

// The button opens clients, all charts show their numbers, and the other button closes them.
func TestDashboard_Clients(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.shows("open", 0, "0")
	p.shows("rtt", 0, "–")
	p.set("count", "7")
	p.run(chromedp.Click("#open-clients"))
	p.shows("open", 0, "7")
	p.until("the page counts its clients", `document.querySelector("#clients-now").textContent === "7 clients are open."`)
	p.set("rate", "20")
	p.until("the setting is shown", `document.querySelector("#rate-now").textContent === "20 messages/s"`)
	for i, direction := range []string{"received", "sent"} {
		p.until("messages are "+direction, `parseFloat(%s) > 100`, p.value("messages", i))
	}
	p.until("pings are answered", `/^[\d.]+ m?s$/.test(%s) && /^[\d.]+ m?s$/.test(%s)`, p.value("rtt", 0), p.value("rtt", 1))
	p.until("each chart has a line", `[...document.querySelectorAll(".chart")].every((c) => c.querySelector(".line"))`)

	p.run(chromedp.Click("#open-clients"))
	p.shows("open", 0, "14")
	p.run(chromedp.Click("#close-clients"))
	p.shows("open", 0, "0")
	p.until("the page has no clients", `document.querySelector("#clients-now").textContent === "No clients are open." && document.querySelector("#close-clients").disabled`)
	p.until("the ends are counted", `document.querySelector("#ended-now").textContent === "14" && /^1000\s+normal closure/.test(document.querySelector("#codes tbody").innerText)`)
}

// No page opens more than 100 clients, however often the button is pressed.
func TestDashboard_TooManyClients(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.set("rate", "0")
	p.set("count", "80")
	p.eval(nil, `document.querySelector("#open-clients").click(); document.querySelector("#open-clients").click(); 0`)
	p.shows("open", 0, "100")
	p.until("the button is off", `document.querySelector("#open-clients").disabled`)
	p.run(chromedp.Click("#close-clients"))
	p.shows("open", 0, "0")
	p.until("the button is on", `!document.querySelector("#open-clients").disabled`)
}

// Answers to clients that read slowly wait in the queues, which the page shows.
func TestDashboard_Queues(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.set("count", "5")
	p.set("size", "16384")
	p.set("answers", "100")
	p.set("rate", "2")
	p.run(chromedp.Click("#slow"))
	p.run(chromedp.Click("#open-clients"))
	for i, which := range []string{"all", "the longest"} {
		p.until("the chart shows "+which, `/KiB|MiB/.test(%s)`, p.value("queues", i))
	}
}

// The page says that the server is away, and reconnects to the next one, as its clients do not.
func TestDashboard_Restart(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.run(chromedp.Click("#open-clients"))
	p.shows("open", 0, "20")

	s.stop()
	p.until("the page says why it is not connected", `document.querySelector("#status").textContent === "Server restarting…" || closeCodes.length > 1`)
	p.until("the connection was closed with 1001", "closeCodes[0] === %s", websocket.StatusGoingAway)
	p.until("the page offers to connect", `!document.querySelector("body.live") && !document.querySelector("#now").hidden`)
	p.until("the clients are gone", `document.querySelector("#clients-now").textContent === "No clients are open. 20 ended with 1001 (going away)."`)

	startServer(t, "dashboard", s.addr)
	p.live()
	p.shows("open", 0, "0")
	p.until("the button is hidden", `document.querySelector("#now").hidden`)
	p.until("the numbers are those of the new server", `document.querySelector("#accepted").textContent === "0"`)
	p.until("the line is interrupted at the restart, however short it was", `document.querySelectorAll("#open .line").length === 2`)
}

// If the connection fails without any event, the page reconnects.
func TestDashboard_SilentServer(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	s.signal(syscall.SIGSTOP)
	p.until("the page says that the server is silent", `document.querySelector("#status").textContent === "No answer…"`)
	s.signal(syscall.SIGCONT)
	p.live()
}

func TestDashboard_BackOff(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url(), fastClock)
	s.stop()
	p.backsOff()
	startServer(t, "dashboard", s.addr)
	p.live()
}

// The numbers of every moment can be read with the keyboard and with the pointer.
func TestDashboard_Cursor(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.until("there are samples", `document.querySelector("#open .line").getAttribute("d").split("L").length >= 4`)
	const text = `document.querySelector("#open .plot").getAttribute("aria-valuetext")`
	p.run(chromedp.Focus("#open .plot"), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
	p.until("the cursor is at an older sample", `/^\d+ s ago: Open 0$/.test(%s)`, js(text))
	p.until("all charts show the cursor", `document.querySelectorAll(".cursor").length === 4`)
	p.run(chromedp.KeyEvent(kb.Escape))
	p.until("the cursor is at the newest sample", `%s === "now: Open 0" && !document.querySelector(".cursor")`, js(text))

	p.eval(nil, `const plot = document.querySelector("#open .plot"), box = plot.getBoundingClientRect();
		plot.dispatchEvent(new PointerEvent("pointermove", { clientX: box.right - 40, clientY: box.top + 50 })); 0`)
	p.until("the cursor is where the pointer is", `/^\d+ s ago/.test(%s)`, js(text))
	p.eval(nil, `document.querySelector("#open .plot").dispatchEvent(new PointerEvent("pointerleave")); 0`)
	p.until("the cursor is gone", `!document.querySelector(".cursor")`)
}

// In every view, nothing is cut off, every text has enough contrast and every control a name.
func TestDashboard_Layout(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.run(chromedp.Click("#open-clients"))
	p.shows("open", 0, "20")
	forEachView(t, func(t *testing.T, name string, resize func(*tab)) {
		view := &tab{t, p.ctx}
		resize(view)
		view.until("the page is not wider than the window", `document.documentElement.scrollWidth <= innerWidth`)
		view.until("nothing is cut off", `[...document.querySelectorAll("main *:not(svg *)")].every((e) => e.closest(".visually-hidden") || e.scrollWidth <= e.clientWidth + 1 || getComputedStyle(e).display === "inline")`)
		view.until("no label of a chart is cut off", `[...document.querySelectorAll(".plot text")].every((e) => {
			const it = e.getBoundingClientRect(), plot = e.ownerSVGElement.getBoundingClientRect();
			return it.left >= plot.left && it.right <= plot.right && it.top >= plot.top && it.bottom <= plot.bottom;
		})`)
		view.until("the page is light or dark", `(luminance(getComputedStyle(document.body).backgroundColor) < 0.2) === %s`, js(fmt.Sprint(strings.HasSuffix(name, "dark"))))
		var faint []string
		view.eval(&faint, faintTexts)
		if len(faint) > 0 {
			t.Errorf("these texts have a contrast below 4.5:1: %q", faint)
		}
		view.screenshot("dashboard-" + name)
	})
	p.until("every control has a name", `[...document.querySelectorAll("input, select")].every((e) => e.labels.length === 1)
		&& [...document.querySelectorAll("[role=slider]")].every((e) => e.getAttribute("aria-label"))`)
}

// luminance is a script that defines the function of this name (WCAG 2.2, relative luminance).
const luminance = `
	window.luminance = (color) => {
		const [r, g, b] = color.match(/[\d.]+/g).map((n) => n / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};`

// faintTexts returns the texts whose contrast to their background is below 4.5, in JavaScript.
const faintTexts = `[...document.querySelectorAll("body *")]
	.filter((e) => !e.disabled && [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()) && e.getClientRects().length)
	.filter((e) => {
		let ground = e;
		while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)" && ground.parentElement) ground = ground.parentElement;
		const style = getComputedStyle(e);
		const [a, b] = [e instanceof SVGElement ? style.fill : style.color, getComputedStyle(ground).backgroundColor].map(luminance);
		return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
	}).map((e) => e.textContent)`

// TestDashboard_Readme makes the screenshots of the README, with lines over the whole minute.
func TestDashboard_Readme(t *testing.T) {
	if os.Getenv("SCREENSHOTS") == "" {
		t.Skip("it takes a minute, and SCREENSHOTS is not set")
	}
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.size(1280, 880, false, "light")
	rest := func(seconds time.Duration) { time.Sleep(seconds * time.Second) }
	rest(3)
	p.run(chromedp.Click("#open-clients"))
	rest(8)
	p.set("rate", "25")
	rest(7)
	p.set("size", "16384")
	p.set("answers", "100")
	p.set("rate", "2")
	p.run(chromedp.Click("#slow"))
	p.until("answers wait", `/KiB|MiB/.test(%s)`, p.value("queues", 0))
	p.set("rate", "0")
	rest(4)
	p.run(chromedp.Click("#slow"))
	p.set("size", "1024")
	p.set("answers", "1")
	p.set("rate", "40")
	rest(8)
	p.set("count", "15")
	p.run(chromedp.Click("#open-clients"))
	rest(9)
	p.set("rate", "30")
	rest(9)
	p.set("count", "10")
	p.run(chromedp.Click("#open-clients"))
	rest(8)
	p.eval(nil, `document.activeElement.blur(); 0`)
	p.screenshot("dashboard-readme-light")
	p.size(1280, 880, false, "dark")
	p.screenshot("dashboard-readme-dark")
}

// openDashboard opens the page and waits until it gets samples.
func openDashboard(t *testing.T, url string, scripts ...string) *tab {
	t.Helper()
	p := openTab(t, url, append(scripts, luminance)...)
	p.live()
	return p
}

// live waits until the page gets samples.
func (p *tab) live() {
	p.t.Helper()
	p.until("the page is live", `document.querySelector("body.live") && document.querySelector("#uptime").textContent !== "–"`)
}

// value returns the current value of a series of a chart, in JavaScript.
func (p *tab) value(chart string, series int) js {
	return js(fmt.Sprintf(`document.querySelectorAll("#%s .value")[%d].textContent`, chart, series))
}

// shows waits until a chart shows the value.
func (p *tab) shows(chart string, series int, value string) {
	p.t.Helper()
	p.until(fmt.Sprintf("series %d of the chart %s shows %s", series, chart, value), `%s === %s`, p.value(chart, series), value)
}

// set changes a control of the page, as a user does.
func (p *tab) set(control, value string) {
	p.t.Helper()
	p.eval(nil, script(`{ const it = document.getElementById(%s); it.value = %s; it.dispatchEvent(new Event("input")); } 0`, control, value))
}
