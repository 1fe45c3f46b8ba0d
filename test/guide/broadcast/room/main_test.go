package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

func TestServe_sends_to_all_members(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := websocket.Handle(serve)
		ada, bob := websockettest.Dial(t, h), websockettest.Dial(t, h)
		synctest.Wait() // until both have joined
		ada.Send(websocket.Text, []byte("hello"))
		for _, c := range []*websockettest.Client{ada, bob} {
			if _, data := c.Receive(); string(data) != "hello" {
				t.Errorf("got %q, want the message", data)
			}
		}
		bob.Close(websocket.StatusNormalClosure, "")
		synctest.Wait()
		if n := room.Len(); n != 1 {
			t.Errorf("the room has %d members, want the one that is left", n)
		}
	})
}

// fill broadcasts messages until the queue of a client that does not read is full. It
// returns how many messages there were.
func fill(t *testing.T, ended <-chan error) (messages int) {
	t.Helper()
	message := []byte(strings.Repeat("x", 16<<10))
	for messages < 1000 {
		if err := room.Broadcast(websocket.Binary, message); err != nil {
			t.Fatal(err)
		}
		messages++
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, websocket.ErrSendQueueFull) {
				t.Fatalf("the connection ended with %v, want a full queue", err)
			}
			return messages
		default:
		}
	}
	t.Fatal("the slow client is still a member")
	return 0
}

func TestSlowClient(t *testing.T) {
	tests := []struct {
		name   string
		pause  time.Duration // of the client, after its queue was full
		closed websocket.StatusCode
	}{
		{"that reads again within CloseTimeout, gets its queue and 1013", 4 * time.Second, websocket.StatusTryAgainLater},
		{"that does not, gets the end of the TCP connection", 6 * time.Second, websocket.StatusAbnormalClosure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				room = websocket.Group{}
				ended := make(chan error, 2)
				h := websocket.Handle(func(c *websocket.Conn) error {
					context.AfterFunc(c.Context(), func() { ended <- context.Cause(c.Context()) })
					return serve(c)
				}, websocket.SendQueue(256<<10))
				slow := websockettest.Dial(t, h)
				synctest.Wait()
				slow.StopReading()
				messages := fill(t, ended)
				if messages < 16 || messages > 24 {
					t.Errorf("the queue was full after %d messages of 16 KiB, want about 20: 64 KiB in the network, and 256 KiB in the queue", messages)
				}
				if n := room.Len(); n != 0 {
					t.Errorf("the room has %d members, want 0", n)
				}

				time.Sleep(tt.pause)
				slow.StartReading()
				if tt.closed == websocket.StatusTryAgainLater {
					for range messages - 1 {
						slow.Receive()
					}
				}
				slow.WantClose(tt.closed)
				synctest.Wait()
				if got := h.Stats().Closed; got[websocket.StatusTryAgainLater] != 1 {
					t.Errorf("Stats has the ends %v, want 1013 once", got)
				}
			})
		})
	}
}

// A broadcast does not wait for a client that does not read.
func TestSlowClient_delays_no_other(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room = websocket.Group{}
		h := websocket.Handle(serve)
		slow, fast := websockettest.Dial(t, h), websockettest.Dial(t, h)
		synctest.Wait()
		slow.StopReading()
		begin := time.Now()
		for range 100 { // more than 64 KiB, and less than SendQueue
			fast.Send(websocket.Binary, make([]byte, 4<<10))
			fast.Receive()
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("100 broadcasts took %v, want no waiting", took)
		}
		if n := room.Len(); n != 2 {
			t.Errorf("the room has %d members, want 2", n)
		}
	})
}

// A client whose queue is not full is disconnected too, if it reads nothing for
// WriteTimeout.
func TestSlowClient_WriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room = websocket.Group{}
		ended := make(chan error, 1)
		h := websocket.Handle(serve, websocket.WriteTimeout(10*time.Second),
			websocket.OnClose(func(c *websocket.Conn, err error) { ended <- err }))
		slow := websockettest.Dial(t, h)
		synctest.Wait()
		slow.StopReading()
		begin := time.Now()
		for range 20 {
			room.Broadcast(websocket.Binary, make([]byte, 16<<10))
		}
		err := <-ended
		if took := time.Since(begin); took < 10*time.Second || took > 12*time.Second || websocket.CloseStatus(err) != websocket.StatusAbnormalClosure {
			t.Errorf("the connection ended after %v with %v, want 1006 after WriteTimeout", took, err)
		}
	})
}
