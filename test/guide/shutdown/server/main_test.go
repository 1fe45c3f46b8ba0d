package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// The clients are closed at equal distances, and the server still accepts others.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := websocket.Handle(serve)
		for range 200 {
			websockettest.Dial(t, h)
		}
		synctest.Wait() // until Conns has all of them
		begin := time.Now()
		done := make(chan time.Duration)
		go func() {
			drain(h, 10*time.Second)
			done <- time.Since(begin)
		}()
		time.Sleep(4510 * time.Millisecond)
		ended := 0
		for c := range h.Conns() {
			if c.Context().Err() != nil {
				ended++
			}
		}
		if ended != 91 {
			t.Errorf("after 4.51 of 10 s, %d of 200 connections have ended, want 91", ended)
		}
		if c := websockettest.Dial(t, h); c.Response().StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("a client that comes meanwhile gets %s, want 101", c.Response().Status)
		}
		if took := <-done; took != 10*time.Second {
			t.Errorf("drain took %v, want 10s", took)
		}
	})
}

func TestDrain_of_few_connections(t *testing.T) {
	for conns, want := range map[int]time.Duration{0: 0, 1: 100 * time.Millisecond, 10: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := websocket.Handle(serve)
			for range conns {
				websockettest.Dial(t, h)
			}
			synctest.Wait()
			begin := time.Now()
			drain(h, 10*time.Second)
			if took := time.Since(begin); took != want {
				t.Errorf("drain of %d connections took %v, want %v", conns, took, want)
			}
		})
	}
}

// Very many connections are closed in groups, because a sleep takes a millisecond or more.
func TestDrain_in_groups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns, over = 60, 20 * time.Millisecond // three in each millisecond
		h := websocket.Handle(serve)
		for range conns {
			websockettest.Dial(t, h)
		}
		synctest.Wait()
		ends := make(chan time.Time, conns)
		for c := range h.Conns() {
			context.AfterFunc(c.Context(), func() { ends <- time.Now() })
		}
		begin := time.Now()
		drain(h, over)
		if took := time.Since(begin); took < over-time.Millisecond || took > over {
			t.Errorf("drain took %v, want %v", took, over)
		}
		synctest.Wait()
		groups := make(map[time.Time]int)
		for range conns {
			groups[<-ends]++
		}
		if most := int(over / time.Millisecond); len(groups) > most {
			t.Errorf("the connections were closed at %d times, want at most %d", len(groups), most)
		}
	})
}

// The times of docs/shutdown.md.
func TestShutdown_takes(t *testing.T) {
	tests := []struct {
		name   string
		client func(*websockettest.Client)
		least  time.Duration
		most   time.Duration
		err    error
	}{
		{"no time, if the client answers", func(c *websockettest.Client) { c.WantClose(websocket.StatusGoingAway) }, 0, 0, nil},
		{"CloseTimeout and at most a second, if it does not", func(c *websockettest.Client) { time.Sleep(20 * time.Second) }, 5 * time.Second, 6 * time.Second, nil},
		{"CloseTimeout and at most a second, if it does not read", func(c *websockettest.Client) { c.StopReading(); time.Sleep(20 * time.Second) }, 5 * time.Second, 6 * time.Second, nil},
		{"the time of ctx, if the function needs longer", func(c *websockettest.Client) {
			c.Send(websocket.Text, []byte("work"))
			time.Sleep(20 * time.Second)
		}, 10 * time.Second, 10 * time.Second, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := websocket.Handle(func(c *websocket.Conn) error {
					for _, err := range c.Messages() {
						if err != nil {
							return err
						}
						time.Sleep(time.Minute) // and does not look at c.Context
					}
					return nil
				})
				c := websockettest.Dial(t, h)
				synctest.Wait()
				begin := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					time.Sleep(time.Second)
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					defer cancel()
					err := h.Shutdown(ctx)
					if took := time.Since(begin) - time.Second; took < tt.least || took > tt.most || !errors.Is(err, tt.err) {
						t.Errorf("Shutdown took %v and returned %v, want %v to %v and %v", took, err, tt.least, tt.most, tt.err)
					}
				}()
				tt.client(c)
				<-done
			})
		})
	}
}
