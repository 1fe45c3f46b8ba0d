package websocket

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// The size of the next message, after SetMaxMessageSize(n).
func TestSetMaxMessageSize(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options []Option
		n       int64
		sent    [][]byte   // frames of one message
		code    StatusCode // 0 if the message is accepted
	}{
		{"larger", []Option{MaxMessageSize(10)}, 20, segments(clientFrame(true, Text, strings.Repeat("x", 20))), 0},
		{"larger, exceeded", []Option{MaxMessageSize(10)}, 20, segments(clientFrame(true, Text, strings.Repeat("x", 21))), StatusMessageTooBig},
		{"larger, in fragments", []Option{MaxMessageSize(10)}, 20, segments(clientFrame(false, Text, strings.Repeat("x", 19)), clientFrame(true, Continuation, "x")), 0},
		{"larger, exceeded in fragments", []Option{MaxMessageSize(10)}, 20, segments(clientFrame(false, Text, strings.Repeat("x", 19)), clientFrame(true, Continuation, "xx")), StatusMessageTooBig},
		{"larger than the default", nil, 2 << 20, segments(clientFrame(true, Binary, strings.Repeat("x", 2<<20))), 0},
		{"smaller", nil, 5, segments(clientFrame(true, Text, "12345")), 0},
		{"smaller, exceeded", nil, 5, segments(clientFrame(true, Text, "123456")), StatusMessageTooBig},
		{"a given MaxFrameSize stays", []Option{MaxFrameSize(10)}, 20, segments(clientFrame(true, Text, strings.Repeat("x", 11))), StatusMessageTooBig},
		{"a given MaxFrameSize stays, fragments", []Option{MaxFrameSize(10)}, 20, segments(clientFrame(false, Text, strings.Repeat("x", 10)), clientFrame(true, Continuation, strings.Repeat("x", 10))), 0},
		{"a given MaxFrameSize stays, in any order", []Option{MaxFrameSize(10), MaxMessageSize(100)}, 20, segments(clientFrame(true, Text, strings.Repeat("x", 11))), StatusMessageTooBig},
		{"MaxFragments stays", []Option{MaxFragments(1)}, 20, segments(clientFrame(false, Text, "x"), clientFrame(true, Continuation, "x")), StatusMessageTooBig},
	}
	for _, tt := range tests {
		for method, receive := range receiveOnce {
			if method == "ReadFrame" {
				continue // see below
			}
			t.Run(tt.name+" and "+method, func(t *testing.T) {
				computes(t)
				c := newTestConn(wstest.NewSocket(append(segments(clientFrame(true, Text, "first")), tt.sent...)...), nil, tt.options...)
				defer c.CloseNow()
				if _, err := receive(c); err != nil {
					t.Fatal(err)
				}
				if err := c.SetMaxMessageSize(tt.n); err != nil {
					t.Fatal(err)
				}
				data, err := receive(c)
				if got := CloseStatus(err); got != tt.code {
					t.Errorf("got a message of %d bytes and error %v, want close status %v", len(data), err, tt.code)
				}
			})
		}
	}
}

func TestSetMaxMessageSize_of_ReadFrame(t *testing.T) {
	for name, tt := range map[string]struct {
		options []Option
		want    error
	}{
		"follows":                         {[]Option{MaxMessageSize(10)}, nil},
		"does not follow if it was given": {[]Option{MaxFrameSize(10)}, ErrMessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestConn(wstest.NewSocket(clientFrame(true, Text, strings.Repeat("x", 20))), nil, tt.options...)
			defer c.CloseNow()
			c.SetMaxMessageSize(20)
			if _, err := c.ReadFrame(); (err != nil) != (tt.want != nil) {
				t.Errorf("got error %v, want %v", err, tt.want)
			} else if tt.want != nil {
				wantError(t, err, tt.want)
			}
		})
	}
}

// The message in progress keeps its limit, whether the new one is larger or smaller.
func TestSetMaxMessageSize_in_the_middle_of_a_message(t *testing.T) {
	tests := []struct {
		name  string
		n     int64
		rest  int        // bytes after the first 10
		after int        // bytes of the next message
		code  StatusCode // of the message in progress
		next  StatusCode // of the next one
	}{
		{"smaller", 5, 10, 5, 0, 0},
		{"smaller, exceeded by the next message", 5, 10, 6, 0, StatusMessageTooBig},
		{"larger", 100, 11, 0, StatusMessageTooBig, 0},
		{"larger, used by the next message", 100, 10, 100, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := wstest.NewSocket(clientFrame(false, Text, strings.Repeat("x", 10)), nil,
				slices.Concat(clientFrame(true, Continuation, strings.Repeat("x", tt.rest)), clientFrame(true, Text, strings.Repeat("x", tt.after))))
			c := newTestConn(socket, nil, MaxMessageSize(20))
			defer c.CloseNow()
			if _, _, err := c.ReceiveMessage(); !isTimeout(err) {
				t.Fatalf("got error %v, want an expired deadline", err)
			}
			c.SetMaxMessageSize(tt.n)
			if _, _, err := c.ReceiveMessage(); CloseStatus(err) != tt.code {
				t.Fatalf("got error %v for the message in progress, want close status %v", err, tt.code)
			}
			if tt.code != 0 {
				return
			}
			if _, _, err := c.ReceiveMessage(); CloseStatus(err) != tt.next {
				t.Errorf("got error %v for the next message, want close status %v", err, tt.next)
			}
		})
	}
}

func TestSetMaxMessageSize_while_a_method_waits(t *testing.T) {
	for name, begin := range map[string]func(*Conn){"Handle": func(*Conn) {}, "HandleConcurrent": beginReadAhead} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, MaxMessageSize(10))
				begin(c)
				received := make(chan error)
				go func() { _, _, err := c.ReceiveMessage(); received <- err }()
				synctest.Wait()
				c.SetMaxMessageSize(20)
				p.send(Text, strings.Repeat("x", 20))
				if err := <-received; err != nil {
					t.Errorf("got error %v, want the message", err)
				}
				c.CloseNow()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

// Polls check the messages that wait for a busy handler. The limit of the next message is the latest.
func TestSetMaxMessageSize_during_a_poll(t *testing.T) {
	tests := []struct {
		name  string
		n     int64
		close bool
		want  StatusCode // 0 if the connection stays open
	}{
		{"larger", 20, false, 0},
		{"larger, before a close frame", 20, true, 4001},
		{"smaller", 19, false, StatusMessageTooBig},
		{"smaller, before a close frame", 19, true, StatusMessageTooBig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := int64(30)
				if tt.n == 20 {
					before = 10
				}
				c, p := newPipeConn(t, MaxMessageSize(before))
				w := record(p, true)
				w.Send(clientFrame(true, Text, "first")) // polls check frames after the first receiving call
				if _, _, err := c.ReceiveMessage(); err != nil {
					t.Fatal(err)
				}
				c.SetMaxMessageSize(tt.n)
				w.Send(clientFrame(true, Text, strings.Repeat("x", 20)))
				if tt.close {
					w.Send(clientFrame(true, Close, closeBody(4001, "")))
				}
				time.Sleep(10 * time.Second)
				if end := endOf(c); (end != nil) != (tt.want != 0) || end != nil && CloseStatus(end) != tt.want {
					t.Errorf("after the polls, the end is %v, want close status %d", end, tt.want)
				}
				_, data, err := c.ReceiveMessage()
				if tt.n == 20 && (len(data) != 20 || err != nil) || tt.n < 20 && CloseStatus(err) != tt.want {
					t.Errorf("got %d bytes and error %v", len(data), err)
				}
				c.CloseNow()
			})
		})
	}
}

// The connections of a Handler share its options. A limit that was set for one connection does
// not apply to another.
func TestSetMaxMessageSize_is_for_one_connection(t *testing.T) {
	t.Parallel()
	handler, results := captureError(func(c *Conn) error {
		if c.Request().Header.Get("X-Large") != "" {
			c.SetMaxMessageSize(20)
		}
		_, _, err := c.ReceiveMessage()
		return err
	})
	srv := startServer(t, handler, MaxMessageSize(10))
	for _, large := range []bool{true, false, true} {
		headers := []string{}
		if large {
			headers = append(headers, "X-Large: yes\r\n")
		}
		p := dialServer(t, srv, headers...)
		p.send(Text, strings.Repeat("x", 20))
		if err := await(t, results); (err == nil) != large {
			t.Errorf("with a larger limit = %t: got error %v", large, err)
		}
		p.Conn.Close()
	}
}

func TestSetMaxMessageSize_refuses(t *testing.T) {
	c := newTestConn(wstest.NewSocket(clientFrame(true, Text, "x")), nil)
	defer c.CloseNow()
	for _, n := range []int64{-1 << 63, -1, 0, MaxSize + 1, 1<<63 - 1} {
		err := c.SetMaxMessageSize(n)
		if err == nil {
			t.Errorf("SetMaxMessageSize(%d): got no error", n)
			continue
		}
		wantMention(t, err.Error(), "SetMaxMessageSize", "1 to 1073741824")
	}
	for _, n := range []int64{1, MaxSize} {
		if err := c.SetMaxMessageSize(n); err != nil {
			t.Errorf("SetMaxMessageSize(%d): %v", n, err)
		}
	}
	if _, _, err := c.ReceiveMessage(); err != nil {
		t.Errorf("got error %v, want the message", err)
	}
}

func TestSetMaxMessageSize_of_many_goroutines(t *testing.T) {
	c, p := newTCPConn(t)
	done := runHandler(c, echoAll)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 100 {
				c.SetMaxMessageSize(int64(1000 + 100*i + n))
			}
		})
	}
	for range 100 {
		checkEcho(p)
	}
	wg.Wait()
	p.finish(done)
}
