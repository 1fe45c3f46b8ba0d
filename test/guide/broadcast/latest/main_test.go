package main

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// A client that reads gets every price, and one that did not read gets what was on its way
// and then the latest price.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		price = newCell()
		version := func(i int) []byte { return append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte("x"), 8<<10)...) }
		received := func(c *websockettest.Client) (n int) {
			_, data := c.Receive()
			fmt.Sscan(string(data), &n)
			return n
		}
		price.set(version(0))
		h := websocket.Handle(serve)
		slow, fast := websockettest.Dial(t, h), websockettest.Dial(t, h)
		received(slow)
		received(fast)
		slow.StopReading()
		const last = 100
		for i := range last {
			synctest.Wait()
			price.set(version(i + 1))
			if got := received(fast); got != i+1 {
				t.Fatalf("got price %d, want %d", got, i+1)
			}
		}

		slow.StartReading()
		messages, got := 0, 0
		for got != last {
			got = received(slow)
			messages++
		}
		if messages > 12 {
			t.Errorf("the slow client got %d old prices, want those in the 64 KiB of the network", messages)
		}
		fast.Close(websocket.StatusNormalClosure, "")
		slow.Close(websocket.StatusNormalClosure, "")
	})
}

// A client that sends more than the buffers hold stays connected, because its pongs arrive.
func TestServe_client_that_sends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		price = newCell()
		price.set([]byte("0"))
		c := websockettest.Dial(t, websocket.Handle(serve))
		c.Receive()
		for range 10 {
			c.Send(websocket.Binary, make([]byte, 12<<10))
		}
		for i := range 40 {
			time.AfterFunc(5*time.Second, func() { price.set(fmt.Append(nil, i+1)) })
			if _, data := c.Receive(); string(data) != fmt.Sprint(i+1) {
				t.Fatalf("got the price %s, want %d", data, i+1)
			}
		}
		c.Close(websocket.StatusNormalClosure, "")
	})
}
