package browser

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/f44ffc3b/websocket"
)

// openDashboard opens the page and waits until it gets samples.
func openDashboard(t *testing.T, url string, scripts ...string) *tab {
	t.Helper()
	p := openTab(t, url, scripts...)
	p.live()
	return p
}

// live waits until the page gets samples.
func (p *tab) live() {
	p.t.Helper()
	p.until("the page is live", `document.querySelector("body.live") && document.querySelector("#uptime").textContent !== "–"`)
}

func TestDashboard_tmp(t *testing.T) {
	s := startServer(t, "dashboard", "127.0.0.1:0")
	p := openDashboard(t, s.url())
	p.size(1280, 800, false, "light")
	p.run(chromedp.Click("#open-clients"))
	time.Sleep(6 * time.Second)
	p.run(chromedp.SetValue("#rate", "40"))
	p.eval(nil, `document.querySelector("#rate").dispatchEvent(new Event("input")); 0`)
	time.Sleep(6 * time.Second)
	p.screenshot("tmp-1")
	p.eval(nil, `document.querySelector("#size").value="16384";document.querySelector("#answers").value="100";document.querySelector("#rate").value="2";document.querySelector("#slow").checked=true; document.querySelector("#slow").dispatchEvent(new Event("input")); 0`)
	for i := range 5 {
		time.Sleep(3 * time.Second)
		var text string
		p.eval(&text, `document.querySelector("#queues dl").innerText + document.querySelector("#rtt dl").innerText + document.querySelector("#messages dl").innerText + document.querySelector("#clients-now").innerText`)
		t.Log(i, text)
	}
	p.screenshot("tmp-2")
	p.eval(nil, `document.querySelector("#slow").checked=false;document.querySelector("#size").value="32"; document.querySelector("#rate").value="10";document.querySelector("#slow").dispatchEvent(new Event("input")); document.querySelector("#open-clients").click(); 0`)
	for i := range 4 {
		time.Sleep(2 * time.Second)
		var text string
		p.eval(&text, `document.querySelector("#queues dl").innerText + document.querySelector("#rtt dl").innerText + document.querySelector("#messages dl").innerText + document.querySelector("#clients-now").innerText`)
		t.Log(i, text)
	}
	p.run(chromedp.Click("#close-clients"))
	time.Sleep(4 * time.Second)
	p.size(1280, 800, false, "dark")
	time.Sleep(1 * time.Second)
	p.screenshot("tmp-3")
	p.size(390, 1800, true, "light")
	time.Sleep(1 * time.Second)
	p.screenshot("tmp-4")
	_ = websocket.Text
}
