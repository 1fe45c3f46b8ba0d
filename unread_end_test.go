package websocket

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A message arrives, and then a limit or a failed ping ends the connection, while the function is
// busy. The next receiving call still returns the message.
func TestReceive_what_arrived_before_the_end(t *testing.T) {
	tests := []struct {
		name  string
		opts  []Option
		begin func(c *Conn) error       // of the function
		end   func(client *memnet.Conn) // after the message
		want  error                     // nil for any
	}{
		{"ConnectionTimeout", []Option{PingInterval(0), ConnectionTimeout(1500 * time.Millisecond)}, nil, nil, ErrConnectionTimeout},
		{"CloseTimeout", []Option{PingInterval(0), CloseTimeout(time.Second)},
			func(c *Conn) error { return c.SendMessage(Close, nil) }, nil, ErrCloseTimeout},
		{"a ping after the end of the stream", []Option{PingInterval(300 * time.Millisecond), CloseTimeout(time.Second)},
			nil, func(client *memnet.Conn) { client.Close() }, nil},
	}
	for _, tt := range tests {
		for name, run := range runners {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, client, p := newMemoryConn(t, tt.opts...)
					done := run(c, func(c *Conn) error {
						if tt.begin != nil {
							if err := tt.begin(c); err != nil {
								t.Error(err)
							}
						}
						return receiveHello(t, c)
					})
					p.send(Text, "hello")
					if tt.end != nil {
						tt.end(client)
					}
					if err := <-done; err == nil || tt.want != nil && !errors.Is(err, tt.want) {
						t.Errorf("got error %v behind the message, want %v", err, tt.want)
					}
				})
			})
		}
	}
}

// receiveHello is a function that is busy until the connection has ended. It wants the message
// "hello", and returns the error behind it.
func receiveHello(t *testing.T, c *Conn) error {
	<-c.Context().Done()
	if _, data, err := c.ReceiveMessage(); string(data) != "hello" || err != nil {
		t.Errorf("got %q and error %v, want hello", data, err)
	}
	_, _, err := c.ReceiveMessage()
	return err
}

// The kernel keeps the bytes in front of a reset, so this test needs TCP. A ping finds the reset.
func TestReceive_what_arrived_before_a_reset(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	srv := startServer(t, func(c *Conn) error {
		err := receiveHello(t, c)
		result <- err
		return err
	}, PingInterval(300*time.Millisecond), CloseTimeout(time.Second), OnError(func(*Conn, error) {}))
	p := dialServer(t, srv)
	p.send(Text, "hello")
	p.Reset()
	if err := await(t, result); err == nil {
		t.Error("got no error behind the message")
	}
}

// The function of HandleMessages gets each message that arrived while it was running.
func TestHandleMessages_passes_on_what_arrived_before_the_end(t *testing.T) {
	t.Parallel()
	var got []string
	ended := make(chan error, 1)
	srv := wstest.Serve(t, HandleMessages(func(c *Conn) (MessageFunc, error) {
		return func(_ Opcode, data []byte) error {
			got = append(got, string(data))
			<-c.Context().Done() // busy
			return nil
		}, nil
	}, PingInterval(0), ConnectionTimeout(3*time.Second), OnClose(func(_ *Conn, err error) { ended <- err })))
	p := dialServer(t, srv)
	for _, message := range []string{"one", "two", "three"} {
		p.send(Text, message)
	}
	go io.Copy(io.Discard, p.Conn)
	wantError(t, await(t, ended), ErrConnectionTimeout)
	if fmt.Sprint(got) != "[one two three]" {
		t.Errorf("got %q, want all three messages", got)
	}
}
