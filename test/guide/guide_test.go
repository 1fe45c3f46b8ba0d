package guide

import (
	"context"
	"errors"
	"net/http"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func TestOrigin(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/greet", websocket.Handle(greet))
	for origin, want := range map[string]int{
		"https://example.com":       http.StatusSwitchingProtocols, // the host of the request
		"https://elsewhere.example": http.StatusForbidden,
	} {
		c := websockettest.Dial(t, mux, websockettest.URL("/greet"), websockettest.Header("Origin", origin))
		if got := c.Response().StatusCode; got != want {
			t.Errorf("a page of %s gets %d, want %d", origin, got, want)
		}
	}
}

func TestEmptyName(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(greet))
	c.Send(websocket.Text, nil)
	if reason := c.WantClose(websocket.StatusPolicyViolation); reason != "want a name" {
		t.Errorf("got the reason %q, want that a name is missing", reason)
	}
}

// tick sends the time once per minute, and drops what the client sends.
func tick(c *websocket.Conn) error {
	go c.Discard() // which answers pings, and ends with the connection
	for {
		select {
		case now := <-time.After(time.Minute):
			if err := c.SendJSON(now); err != nil {
				return err
			}
		case <-c.Context().Done():
			return context.Cause(c.Context())
		}
	}
}

func TestTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := websockettest.Dial(t, websocket.Handle(tick))
		start := time.Now()
		for i := range 60 {
			var now time.Time
			c.ReceiveJSON(&now)
			if want := start.Add(time.Duration(i+1) * time.Minute); !now.Equal(want) {
				t.Errorf("got the time %v, want %v", now, want)
			}
		}
	})
}

func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := websockettest.Dial(t, websocket.Handle(greet, websocket.ConnectionTimeout(time.Minute)))
		time.Sleep(2 * time.Minute) // the client answers no pings meanwhile
		c.WantClose(websocket.StatusGoingAway)
	})
}

// snapshot answers each message with a megabyte.
func snapshot(c *websocket.Conn) error {
	for {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
		if err := c.SendMessage(websocket.Binary, make([]byte, 1<<20)); err != nil {
			return err
		}
	}
}

func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := make(chan error, 1)
		c := websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
			err := snapshot(c)
			result <- err
			return err
		}, websocket.WriteTimeout(10*time.Second)))

		c.StopReading()
		c.Send(websocket.Text, []byte("everything"))
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the function returned %v, want a timeout", err)
		}
	})
}

func TestLostConnection(t *testing.T) {
	result := make(chan error, 1)
	c := websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
		err := greet(c)
		result <- err
		return err
	}))
	c.Abort()
	if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the function returned %v, want a reset", err)
	}
}

func TestBrokenRule(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(greet))
	c.SendFrame(websocket.Frame{
		Header:  websocket.Header{Fin: true, RSV2: true, Opcode: websocket.Text},
		Payload: []byte("Ada"),
	})
	c.WantClose(websocket.StatusProtocolError)
}
