package interop

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// The clients with a heartbeat send a ping every 2 s in these tests. They stay connected
// for 7 s if nothing ends the connection. The scripts have copies of these values.
const holdTime = 7 * time.Second

// handleHabits serves the cases of TestHabits.
func (a *app) handleHabits() {
	noPings := []websocket.Option{websocket.PingInterval(0), websocket.ConnectionTimeout(idleTimeout)}
	heartbeats := []websocket.Option{websocket.PingInterval(0), websocket.ConnectionTimeout(5 * time.Second)} // more than the clients' heartbeat
	pings := []websocket.Option{websocket.PingInterval(idleTimeout / 10), websocket.ConnectionTimeout(idleTimeout)}
	a.handle("silent", echo, noPings...)
	a.handle("heartbeat", echo, heartbeats...)
	a.handle("heartbeat-send-only", sendOnly, heartbeats...) // a poll answers the pings of the client
	a.handle("heartbeat-unanswered", echo,
		websocket.DropIncomingPings(true), websocket.PingInterval(0), websocket.ConnectionTimeout(0))
	a.handle("not-receiving", greet, pings...)
	a.handle("blocked", greet, pings...)
	a.handle("close-unanswered", func(*websocket.Conn) error {
		return &websocket.CloseError{Code: serverCode, Reason: serverReason}
	}, websocket.CloseTimeout(time.Second))
}

// sendOnly sends messages until the connection ends. It never receives.
func sendOnly(c *websocket.Conn) error {
	for {
		if err := c.SendMessage(websocket.Text, []byte("news")); err != nil {
			return err
		}
		select {
		case <-time.After(holdTime / 100):
		case <-c.Context().Done():
			return context.Cause(c.Context())
		}
	}
}

// greet sends a message and then echoes.
func greet(c *websocket.Conn) error {
	if err := c.SendMessage(websocket.Text, []byte("hello")); err != nil {
		return err
	}
	return echo(c)
}

// The ends of a connection in TestHabits.
var (
	stays    = end{status: websocket.StatusNormalClosure}
	silent   = end{websocket.StatusGoingAway, websocket.ErrConnectionTimeout}
	cut      = end{status: websocket.StatusAbnormalClosure}
	late     = end{websocket.StatusAbnormalClosure, websocket.ErrCloseTimeout}
	answered = end{} // the client has answered the close frame of the server
)

// An end is how a connection ends on the server: with a status and, if err is not nil, with
// this error.
type end struct {
	status websocket.StatusCode
	err    error
}

// habits holds the ends that depend on what a client does without its user.
var habits = []struct {
	name    string
	clients map[string]end
}{
	{"silent", map[string]end{ // nothing is sent by either side
		"chromium": silent, "ws": silent, "undici": silent,
		"websockets": silent, "websocket-client": silent, "aiohttp": silent, "okhttp": silent,
	}},
	{"heartbeat", map[string]end{ // the client sends pings, and the server sends none
		"websockets": stays, "aiohttp": stays, "okhttp": stays,
	}},
	{"heartbeat-send-only", map[string]end{ // the function does not receive
		// aiohttp sends no pings while messages arrive, and this server sends none.
		"websockets": stays, "aiohttp": silent, "okhttp": stays,
	}},
	{"heartbeat-unanswered", map[string]end{ // the server ignores the pings
		"websockets": {status: websocket.StatusInternalError}, "aiohttp": cut, "okhttp": cut,
	}},
	{"not-receiving", map[string]end{ // the application does not receive
		"websockets": stays, "websocket-client": silent, "aiohttp": silent,
	}},
	{"blocked", map[string]end{ // the application does not let the client run
		"chromium": stays, "ws": silent, "undici": silent,
		"websockets": silent, "websocket-client": silent, "aiohttp": silent, "okhttp": silent,
	}},
	{"close-unanswered", map[string]end{ // the application does not react to the server's close
		"websockets": answered, "websocket-client": late, "aiohttp": late, "okhttp": late,
	}},
}

// TestHabits checks how connections end because of the clients' own pings, and because of
// what the clients do while the application is busy. All run at the same time, but
// not while TestIdle starts its clients.
func TestHabits(t *testing.T) {
	a := newApp()
	p := startDirect(t, a, &a.mux)
	all := clients(t)
	outcomes := map[string]<-chan error{}
	for _, h := range habits {
		for _, c := range all {
			if _, ok := h.clients[c.name]; ok {
				outcomes[h.name+c.name] = start(t.Context(), c, p, c.name, h.name, 2*caseTime)
				time.Sleep(startInterval)
			}
		}
	}
	for _, h := range habits {
		for _, c := range all {
			want, ok := h.clients[c.name]
			if !ok {
				continue
			}
			t.Run(h.name+"/"+c.name, func(t *testing.T) {
				requireClient(t, c)
				if err := <-outcomes[h.name+c.name]; err != nil {
					t.Fatal("the client failed:", err)
				}
				a.expectStatus(t, c.name, h.name, want)
			})
		}
	}
}

// expectStatus checks that the connection of run for the named case has ended in this way.
func (a *app) expectStatus(t *testing.T, run, name string, want end) {
	t.Helper()
	select {
	case err := <-a.end(run, name):
		if got := websocket.CloseStatus(err); got != want.status || want.err != nil && !errors.Is(err, want.err) {
			t.Errorf("the connection on the server ended with %v (code %v), want %v (code %v)", err, got, want.err, want.status)
		}
	case <-time.After(10 * time.Second):
		t.Error("the connection on the server has not ended within 10 seconds")
	}
}
