package hostile

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// cause returns the error that ended the connection, or nil while it is open.
func cause(c *websocket.Conn) error { return context.Cause(c.Context()) }

// useConcurrently calls methods of every kind from several goroutines until the
// connection ends. The watchdog, the peer or Close, which is called after d, ends it. The
// result is the error that ended the connection.
func useConcurrently(c *websocket.Conn, d time.Duration) error {
	var wg sync.WaitGroup
	repeat := func(f func() error) {
		for range 2 {
			wg.Go(func() {
				for cause(c) == nil {
					f()
				}
			})
		}
	}
	repeat(func() error { return c.SendMessage(websocket.Text, []byte("text")) })
	repeat(func() error { _, _, err := c.ReceiveMessage(); return err })
	repeat(func() error { return c.SendMessage(websocket.Ping, nil) })
	repeat(func() error { return c.SetReadDeadline(time.Now().Add(time.Millisecond)) })
	repeat(func() error { return sendStream(c) })
	for range 2 {
		wg.Go(func() {
			select {
			case <-time.After(d):
				c.Close(websocket.StatusNormalClosure, "")
			case <-c.Context().Done():
			}
		})
	}
	wg.Wait()
	return cause(c)
}

func sendStream(c *websocket.Conn) error {
	w, err := c.MessageWriter(websocket.Binary)
	if err != nil {
		return err
	}
	_, err = w.Write(make([]byte, 5000))
	return errors.Join(err, w.Close())
}

// receiveReadAhead receives the messages that HandleConcurrent has read ahead. They come before
// the error. The read deadline of useConcurrently has passed, so it does not wait for one that
// the goroutine of the library has read and not passed on yet.
func receiveReadAhead(c *websocket.Conn) {
	wstest.Eventually(func() bool {
		_, _, err := c.ReceiveMessage()
		return err == cause(c) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	})
}

// methods are the methods that return the error of an ended connection. With
// HandleConcurrent, ReadFrame and ReceiveFragments cannot be used.
var methods = map[string]func(c *websocket.Conn) error{
	"ReceiveMessage":    func(c *websocket.Conn) error { _, _, err := c.ReceiveMessage(); return err },
	"AppendMessage":     func(c *websocket.Conn) error { _, _, err := c.AppendMessage(nil); return err },
	"MessageReader":     func(c *websocket.Conn) error { _, _, err := c.MessageReader(); return err },
	"ReceiveJSON":       func(c *websocket.Conn) error { return c.ReceiveJSON(new(any)) },
	"SetReadDeadline":   func(c *websocket.Conn) error { return c.SetReadDeadline(time.Time{}) },
	"SetWriteDeadline":  func(c *websocket.Conn) error { return c.SetWriteDeadline(time.Time{}) },
	"Close":             func(c *websocket.Conn) error { return c.Close(websocket.StatusNormalClosure, "") },
	"SendMessage/Text":  func(c *websocket.Conn) error { return c.SendMessage(websocket.Text, nil) },
	"SendMessage/Ping":  func(c *websocket.Conn) error { return c.SendMessage(websocket.Ping, nil) },
	"SendMessage/Close": func(c *websocket.Conn) error { return c.SendMessage(websocket.Close, nil) },
	"SendJSON":          func(c *websocket.Conn) error { return c.SendJSON(1) },
	"MessageWriter":     func(c *websocket.Conn) error { _, err := c.MessageWriter(websocket.Text); return err },
	"WriteFrame":        func(c *websocket.Conn) error { return c.WriteFrame(websocket.Frame{}) },
	"Messages": func(c *websocket.Conn) error {
		for _, err := range c.Messages() {
			if err != nil {
				return err
			}
		}
		return errors.New("Messages ended without an error")
	},
	"ReadFrame":        func(c *websocket.Conn) error { _, err := c.ReadFrame(); return err },
	"ReceiveFragments": func(c *websocket.Conn) error { _, err := c.ReceiveFragments(); return err },
}

// wantSticky checks that every method returns the error that ended the connection,
// again and again. A sending method may return it inside another error, which also
// says that WriteTimeout has passed.
func wantSticky(t *testing.T, c *websocket.Conn, want error, without ...string) {
	t.Helper()
	for range 2 {
		for name, call := range methods {
			if slices.Contains(without, name) {
				continue
			}
			if got := call(c); got == nil || got != want && errors.Unwrap(got) != want {
				t.Errorf("%s: got error %v, want the error that ended the connection: %v", name, got, want)
			}
		}
	}
}

// Close, Send, Receive and the watchdog race on each connection, in a dozen
// goroutines. Any of them may end the connection.
func TestHostile_100_races_of_Close_Send_Receive_and_the_watchdog(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    kind
		without []string
	}{
		{"Handle", handle, nil},
		{"HandleConcurrent", handleConcurrent, []string{"ReadFrame", "ReceiveFragments"}},
		{"HandleMessages", passTo(ignore), []string{"ReceiveMessage", "AppendMessage", "MessageReader", "ReceiveJSON", "Messages", "ReadFrame", "ReceiveFragments"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fn := func(c *websocket.Conn) error {
				err := useConcurrently(c, time.Duration(rand.IntN(10))*time.Millisecond)
				receiveReadAhead(c)
				wantSticky(t, c, err, tt.without...)
				return err
			}
			attackServer(t, tt.kind, nil, fn, func(l *wstest.Load) {
				n := wstest.Scale(t, 100, 40)
				l.Each(n, 8, func(int) error { return chat(l) })
				l.WantEnds(n, anyError)
				t.Log(countCodes(l.Ends()))
			}, websocket.PingInterval(time.Millisecond), websocket.ConnectionTimeout(4*time.Millisecond),
				websocket.CloseTimeout(5*time.Millisecond), websocket.WriteTimeout(50*time.Millisecond))
		})
	}
}

// chat connects a client that reads everything, sends a little, and then is silent
// or leaves.
func chat(l *wstest.Load) error {
	c, err := l.Connect()
	if err != nil {
		return err
	}
	defer c.Conn.Close()
	if c.Upgrade() != nil {
		return nil // the watchdog may end the connection that early
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, c.Conn) })
	for range rand.IntN(50) {
		c.Conn.Write(slices.Concat(wstest.Message(wstest.Ping, "!"), wstest.ClientFrame(0x01, "1"), wstest.ClientFrame(0x80, "2")))
	}
	switch rand.IntN(4) {
	case 0:
		c.Conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1001, "")))
	case 1:
		c.Reset()
	}
	wg.Wait()
	return nil
}

// countCodes counts the errors that handlers have returned, by close code.
func countCodes(ends []error) map[websocket.StatusCode]int {
	counts := map[websocket.StatusCode]int{}
	for _, err := range ends {
		counts[websocket.CloseStatus(err)]++
	}
	return counts
}
