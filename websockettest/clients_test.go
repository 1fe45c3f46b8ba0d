package websockettest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// The cleanup of one client waits for a handler that may wait for another client, whose cleanup comes
// later.
func TestDial_cleanups_of_several_clients(t *testing.T) {
	noLimits := []websocket.Option{websocket.PingInterval(0), websocket.ConnectionTimeout(0), websocket.WriteTimeout(0)}
	tests := []struct {
		name string
		dial func(slow, fast func())
	}{
		{"the client that does not read is younger", func(slow, fast func()) { fast(); slow() }},
		{"the client that does not read is older", func(slow, fast func()) { slow(); fast() }},
		{"the client that does not read is the oldest of four", func(slow, fast func()) { slow(); fast(); fast(); fast() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runFake(t, func(t testing.TB) {
					to := make(chan *websocket.Conn, 1)
					receiver := websocket.Handle(func(c *websocket.Conn) error {
						to <- c
						return c.Discard()
					}, noLimits...)
					sender := websocket.Handle(func(*websocket.Conn) error {
						c := <-to
						to <- c
						for {
							if err := c.SendMessage(websocket.Binary, make([]byte, 1<<20)); err != nil {
								return nil
							}
						}
					}, noLimits...)
					tt.dial(
						func() { websockettest.Dial(t, receiver).StopReading() },
						func() { websockettest.Dial(t, sender) },
					)
					synctest.Wait()
				}).wantFailure(t, "")
			})
		})
	}
}

// A cleanup of the test may use its client, although a younger client has ended.
func TestDial_leaves_the_client_of_a_later_cleanup_open(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		runFake(t, func(t testing.TB) {
			for range 3 {
				c := websockettest.Dial(t, websocket.Handle(echo))
				t.Cleanup(func() { c.Close(websocket.StatusNormalClosure, "") })
			}
		}).wantFailure(t, "")
	})
}

// Each detached function that has not ended is reported once.
func TestDial_waits_for_detached_functions_of_several_clients(t *testing.T) {
	stayOpen := func(*websocket.Conn) error { return nil }
	tests := []struct {
		name     string
		first    websocket.HandlerFunc
		sleep    time.Duration
		failures int
	}{
		{"functions that end", stayOpen, time.Hour, 0},
		{"functions that close their connections at once", (*websocket.Conn).CloseNow, time.Hour, 0},
		{"functions that do not end", stayOpen, 1000 * time.Hour, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				fake := runFake(t, func(t testing.TB) {
					for range 3 {
						websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
							tt.first(c)
							time.Sleep(tt.sleep)
							return nil
						}, websocket.Detached(true)))
					}
				})
				if got := len(fake.failures); got != tt.failures {
					t.Errorf("got the failures %q, want %d", fake.failures, tt.failures)
				}
				if took := time.Since(begin); took < min(tt.sleep, 3*48*time.Hour) {
					t.Errorf("the cleanups took %v", took)
				}
				time.Sleep(tt.sleep) // for the functions
			})
		})
	}
}

// A wrapper of a testing.TB may be of a type whose values cannot be compared.
func TestDial_with_a_wrapper(t *testing.T) {
	type wrapper struct {
		testing.TB
		_ []func()
	}
	websockettest.Dial(wrapper{TB: t}, websocket.Handle(echo)).Close(websocket.StatusNormalClosure, "")
}
