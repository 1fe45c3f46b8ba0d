package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// A client that joins gets the text, and then each change in order.
func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{text: []byte("0")}
		h := websocket.Handle(func(c *websocket.Conn) error {
			if err := b.join(c); err != nil {
				return err
			}
			return c.Discard()
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 1000 {
				b.set(fmt.Append(nil, i+1))
			}
		}()
		c := websockettest.Dial(t, h)
		<-done
		_, data := c.Receive()
		var n int
		fmt.Sscan(string(data), &n)
		for n < 1000 {
			n++
			if _, data := c.Receive(); string(data) != fmt.Sprint(n) {
				t.Fatalf("got the text %s, want %d", data, n)
			}
		}
		c.Close(websocket.StatusNormalClosure, "")
	})
}

func TestBoard_larger_than_the_queue(t *testing.T) {
	b := &board{text: make([]byte, 2000)}
	c := websockettest.Dial(t, websocket.Handle(b.join, websocket.SendQueue(1000)))
	c.WantClose(websocket.StatusTryAgainLater) // what a HandlerFunc that returns ErrSendQueueFull closes with
}

func TestBroadcastTo(t *testing.T) {
	type nameKey struct{}
	synctest.Test(t, func(t *testing.T) {
		var members websocket.Group
		ws := websocket.Handle(func(c *websocket.Conn) error {
			members.Join(c)
			return c.Discard()
		})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, r.URL.Query().Get("name"))))
		})
		ada, bob := websockettest.Dial(t, h, websockettest.URL("/?name=Ada")), websockettest.Dial(t, h, websockettest.URL("/?name=Bob"))
		synctest.Wait()
		notAda := func(c *websocket.Conn) bool { return c.Context().Value(nameKey{}) != "Ada" }
		if err := broadcastTo(&members, notAda, websocket.Text, []byte("to others")); err != nil {
			t.Fatal(err)
		}
		if err := members.Broadcast(websocket.Text, []byte("to all")); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			client *websockettest.Client
			want   string
		}{{ada, "to all"}, {bob, "to others"}, {bob, "to all"}} {
			if _, data := tt.client.Receive(); string(data) != tt.want {
				t.Errorf("got %q, want %q", data, tt.want)
			}
		}
	})
}

// A viewer that does not read misses frames and stays connected.
func TestSendFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var viewers websocket.Group
		h := websocket.Handle(func(c *websocket.Conn) error {
			viewers.Join(c)
			return c.Discard()
		}, websocket.SendQueue(128<<10))
		slow, fast := websockettest.Dial(t, h), websockettest.Dial(t, h)
		synctest.Wait()
		slow.StopReading()
		const frames = 50
		for i := range frames {
			if err := sendFrame(&viewers, bytes.Repeat([]byte{byte(i)}, 16<<10)); err != nil {
				t.Fatal(err)
			}
			if _, data := fast.Receive(); data[0] != byte(i) {
				t.Fatalf("got frame %d, want %d", data[0], i)
			}
			synctest.Wait()
		}
		slow.StartReading()
		got := 0
		for range 4 { // what the network has taken
			slow.Receive()
			got++
		}
		synctest.Wait()
		if err := sendFrame(&viewers, bytes.Repeat([]byte{frames}, 16<<10)); err != nil {
			t.Fatal(err)
		}
		for {
			_, data := slow.Receive()
			got++
			if data[0] == frames {
				break
			}
		}
		if got > 8 {
			t.Errorf("the slow viewer got %d frames, want those in the network, one or two behind them, and the last", got)
		}
		if err := sendFrame(&viewers, make([]byte, 200<<10)); !errors.Is(err, websocket.ErrSendQueueFull) {
			t.Errorf("a frame that is larger than the queue: got %v, want ErrSendQueueFull", err)
		}
	})
}

// The queues of all connections share the bytes of a broadcast.
func TestBroadcast_memory_of_full_queues(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector allocates memory")
	}
	synctest.Test(t, func(t *testing.T) {
		const members, messages, size = 100, 50, 16 << 10
		var g websocket.Group
		h := websocket.Handle(func(c *websocket.Conn) error {
			g.Join(c)
			return c.Discard()
		})
		for range members {
			websockettest.Dial(t, h).StopReading()
		}
		synctest.Wait()
		var stats runtime.MemStats
		heap := func() int {
			runtime.GC()
			runtime.ReadMemStats(&stats)
			return int(stats.HeapAlloc)
		}
		// What the networks hold is not shared.
		for range 8 {
			g.Broadcast(websocket.Binary, make([]byte, size))
		}
		synctest.Wait()
		before := heap()
		for range messages {
			g.Broadcast(websocket.Binary, make([]byte, size))
		}
		synctest.Wait()
		queued := 0
		for c := range g.All() {
			queued += c.Stats().Queued
		}
		if least := members * messages * size; queued < least {
			t.Fatalf("%d bytes wait in the queues, want at least %d", queued, least)
		}
		grown := heap() - before
		t.Logf("%d bytes wait in %d queues, for which the heap has grown by %d bytes", queued, members, grown)
		if most := 4 * messages * size; grown > most {
			t.Errorf("the heap has grown by %d bytes, want at most %d, because the queues share the messages", grown, most)
		}
	})
}

// If a function has sent more than the client reads, a loop of TrySend gets an error and may
// decide itself.
func TestTrySend_leaves_the_connection_open(t *testing.T) {
	result := make(chan error, 1)
	resume := make(chan struct{})
	c := websockettest.Dial(t, websocket.Handle(func(c *websocket.Conn) error {
		if _, _, err := c.ReceiveMessage(); err != nil {
			return err
		}
		var err error
		for err == nil {
			err = c.TrySend(websocket.Binary, make([]byte, 16<<10))
		}
		result <- err
		<-resume
		return c.SendMessage(websocket.Text, []byte("still here"))
	}))
	c.StopReading()
	c.Send(websocket.Text, []byte("begin"))
	if err := <-result; !errors.Is(err, websocket.ErrSendQueueFull) {
		t.Fatalf("TrySend returned %v, want ErrSendQueueFull", err)
	}
	c.StartReading()
	close(resume)
	for {
		if op, data := c.Receive(); op == websocket.Text {
			if string(data) != "still here" {
				t.Errorf("got %q, want the message of SendMessage", data)
			}
			break
		}
	}
	c.WantClose(websocket.StatusNormalClosure)
}
