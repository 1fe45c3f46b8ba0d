package websocket

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// The close frame that HandleConcurrent has read is the cause of the end, also if a limit
// passes, or a write fails, while it waits for the function.
func TestHandleConcurrent_close_frame_in_hand_is_the_cause(t *testing.T) {
	for name, tt := range map[string]struct {
		opts   []Option
		do     func(c *Conn)
		wait   time.Duration // before the close frame
		hangUp bool
		reads  bool
	}{
		"a ping fails":      {opts: []Option{PingInterval(300 * time.Millisecond)}, hangUp: true},
		"WriteTimeout":      {opts: []Option{WriteTimeout(500 * time.Millisecond)}, do: func(c *Conn) { c.SendMessage(Binary, make([]byte, 1<<20)) }},
		"ConnectionTimeout": {opts: []Option{PingInterval(0), ConnectionTimeout(500 * time.Millisecond)}},
		"CloseTimeout":      {opts: []Option{CloseTimeout(5 * time.Second)}, do: func(c *Conn) { c.SendMessage(Close, nil) }, wait: 4500 * time.Millisecond, reads: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, client, _ := newMemoryConn(t, tt.opts...)
				go func() {
					client.Write(clientFrame(true, Text, "hi"))
					time.Sleep(tt.wait)
					client.Write(clientFrame(true, Close, closeBody(1000, "bye")))
					if tt.hangUp {
						time.Sleep(10 * time.Millisecond)
						client.Close()
					}
				}()
				if tt.reads {
					go io.Copy(io.Discard, client)
				}
				var last error
				<-runConcurrent(c, func(c *Conn) error {
					if _, _, err := c.ReceiveMessage(); err != nil {
						return err
					}
					if tt.do != nil {
						tt.do(c)
					}
					time.Sleep(800*time.Millisecond + tt.wait)
					_, _, last = c.ReceiveMessage()
					return last
				})
				if got := CloseStatus(last); got != 1000 && got != StatusNoStatusReceived {
					t.Errorf("got error %v, want the peer's close", last)
				}
				client.Close()
			})
		})
	}
}

// The goroutine that is receiving may be in the write of a pong when WriteTimeout passes.
func TestWriteTimeout_leaves_the_close_frame_to_a_blocked_receiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client, _ := newMemoryConn(t, WriteTimeout(10*time.Second))
		client.SetReadBuffer(0)
		done := make(chan error, 1)
		go func() { done <- receiveAll(c) }()
		client.Write(clientFrame(true, Ping, "x"))
		time.Sleep(time.Second)
		client.Write(clientFrame(true, Close, closeBody(1000, "bye")))
		if err := <-done; CloseStatus(err) != 1000 {
			t.Errorf("got error %v, want 1000", err)
		}
		client.Close()
		c.Close(1000, "")
	})
}

// A ping that blocks does not stop the polls.
func TestPoll_beside_a_blocked_ping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client, _ := newMemoryConn(t)
		client.SetReadBuffer(0)
		time.Sleep(15500 * time.Millisecond)
		client.Write(clientFrame(true, Close, closeBody(1000, "bye")))
		timedCallWithin(t, "the end", time.Second, func() { <-c.Context().Done() })
		client.Close()
		c.Close(1000, "")
	})
}

// A broken rule waits until the handler has answered the message in front of it.
func TestPoll_leaves_a_broken_rule_to_the_handler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client, _ := newMemoryConn(t)
		client.Write(append(clientFrame(true, Text, "hi"), clientFrame(true, 3, "")...))
		go io.Copy(io.Discard, client)
		<-runHandler(c, func(c *Conn) error {
			if _, _, err := c.ReceiveMessage(); err != nil {
				return err
			}
			time.Sleep(2 * time.Second)
			if err := c.SendMessage(Text, []byte("answer")); err != nil {
				t.Error(err)
			}
			_, _, err := c.ReceiveMessage()
			wantError(t, err, ErrInvalidOpcode)
			return err
		})
		client.Close()
	})
}

// A receiving call that finds its message in the buffer has not looked at the socket.
func TestConnectionTimeout_polls_after_a_buffered_message(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client, _ := newMemoryConn(t, PingInterval(0), ConnectionTimeout(10*time.Second))
		client.Write(messageBurst(3, "q"))
		c.ReceiveMessage()
		time.Sleep(9990 * time.Millisecond)
		client.Write(clientFrame(true, Ping, "x"))
		time.Sleep(10 * time.Millisecond)
		c.ReceiveMessage()
		time.Sleep(3 * time.Second)
		if err := endOf(c); err != nil {
			t.Errorf("the connection has ended: %v", err)
		}
		client.Close()
		c.Close(1000, "")
	})
}

// A message that was read completely ends with io.EOF, also when the connection ends.
func TestMessageReader_ends_a_complete_message_after_the_end(t *testing.T) {
	for _, busy := range []time.Duration{300 * time.Millisecond, 800 * time.Millisecond, 1200 * time.Millisecond, 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, client, _ := newMemoryConn(t)
			client.Write(append(clientFrame(true, Text, "0123456789"), clientFrame(true, Close, closeBody(1000, "bye"))...))
			_, r, err := c.MessageReader()
			if err != nil {
				t.Fatal(err)
			}
			r.Read(make([]byte, 100))
			time.Sleep(busy)
			if n, err := r.Read(make([]byte, 100)); n != 0 || err != io.EOF {
				t.Errorf("after %v: got %d bytes and error %v, want io.EOF", busy, n, err)
			}
			client.Close()
			c.Close(1000, "")
		})
	}
}
