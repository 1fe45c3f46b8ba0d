package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// isTemporary calls the method Temporary of err. Programs that are older than its deprecation
// call it to decide whether to retry.
func isTemporary(err error) bool {
	temporary, ok := err.(interface{ Temporary() bool })
	return ok && temporary.Temporary()
}

// wantTimeout checks that err is a net.Error of a timeout without unwrapping, and that its
// Temporary method says whether the connection is still usable.
func wantTimeout(t testing.TB, what string, err error, usable bool) {
	t.Helper()
	netErr, ok := err.(net.Error)
	if !ok || !netErr.Timeout() || isTemporary(err) != usable {
		t.Errorf("%s: got error %v (%T), want a net.Error with Timeout true and Temporary %t", what, err, err, usable)
	}
	if !os.IsTimeout(err) {
		t.Errorf("%s: os.IsTimeout(%v) is false", what, err)
	}
	if wrapped := fmt.Errorf("wrapped: %w", err); !errors.As(wrapped, &netErr) || !netErr.Timeout() {
		t.Errorf("%s: errors.As finds no net.Error with Timeout true in %v", what, wrapped)
	}
}

func TestTimeout_of_a_read_deadline_is_a_net_Error(t *testing.T) {
	t.Parallel()
	sent := map[string][]byte{
		"between messages":           nil,
		"in the middle of a message": clientFrame(false, Text, "begun"),
		"in the middle of a header":  {0x81},
	}
	for where, sent := range sent {
		for _, ahead := range []bool{false, true} {
			for _, name := range receivingMethods {
				if ahead && slices.Contains(frameMethods, name) || name == "MessageReader" && where == "in the middle of a message" {
					continue
				}
				t.Run(fmt.Sprintf("%s %s, ahead=%t", name, where, ahead), func(t *testing.T) {
					c, p := newTCPConn(t)
					if ahead {
						beginReadAhead(c)
					}
					p.Write(sent)
					c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
					err := allMethods[name](c)
					for name == "ReadFrame" && err == nil { // it has returned the frame
						err = allMethods[name](c)
					}
					wantTimeout(t, name, err, true)
					wantError(t, err, os.ErrDeadlineExceeded)
				})
			}
		}
	}
	t.Run("Read of a MessageReader", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(clientFrame(false, Text, "begun"), nil))
		_, r, err := c.MessageReader()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		wantTimeout(t, "Read", err, true)
		wantError(t, err, os.ErrDeadlineExceeded)
	})
}

// The peer does not read the ping of the keepalive, which holds the sending side.
func TestTimeout_of_a_write_deadline_is_a_net_Error(t *testing.T) {
	for _, name := range append([]string{"Write of a MessageWriter"}, sendingMethods...) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, WriteTimeout(0), ConnectionTimeout(0))
				call := allMethods[name]
				if call == nil {
					w := openWriter(t, c, Binary)
					call = func(*Conn) error { _, err := w.Write(make([]byte, 2*fragmentSize)); return err }
				}
				time.Sleep(16 * time.Second)
				c.SetWriteDeadline(time.Now().Add(time.Second))
				err := call(c)
				wantTimeout(t, name, err, true)
				wantError(t, err, os.ErrDeadlineExceeded)
				p.Conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestTimeout_that_ends_a_connection_is_a_net_Error(t *testing.T) {
	tests := []struct {
		name    string
		opts    []Option
		end     func(t *testing.T, c *Conn, p *peer) error
		code    StatusCode
		is      error // every method
		sending bool  // the error is os.ErrDeadlineExceeded for sending methods
	}{
		{"a write deadline cuts a frame off", nil, func(t *testing.T, c *Conn, p *peer) error {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			return sendPartly(t, c, p)
		}, 1006, errTimedOut, true},
		{"WriteTimeout", []Option{WriteTimeout(time.Second)}, func(t *testing.T, c *Conn, p *peer) error {
			return c.SendMessage(Text, []byte("never read"))
		}, 1006, errTimedOut, true},
		{"WriteTimeout, without a call", []Option{PingInterval(time.Second), WriteTimeout(time.Second)}, func(t *testing.T, c *Conn, p *peer) error {
			return waitForEnd(c)
		}, 1006, errTimedOut, true},
		{"ConnectionTimeout", []Option{PingInterval(0), ConnectionTimeout(time.Second)}, func(t *testing.T, c *Conn, p *peer) error {
			return receiveAll(c)
		}, 1001, ErrConnectionTimeout, false},
		{"ConnectionTimeout with a goroutine that reads ahead", []Option{PingInterval(0), ConnectionTimeout(time.Second)}, func(t *testing.T, c *Conn, p *peer) error {
			beginReadAhead(c)
			return receiveAll(c)
		}, 1001, ErrConnectionTimeout, false},
		{"CloseTimeout after SendMessage(Close)", nil, func(t *testing.T, c *Conn, p *peer) error {
			record(p, true)
			if err := c.SendMessage(Close, nil); err != nil {
				t.Error(err)
			}
			return receiveAll(c)
		}, 1006, ErrCloseTimeout, false},
		{"a timeout of TCP", nil, func(t *testing.T, c *Conn, p *peer) error {
			failConn(c, &connError{"receiving", os.NewSyscallError("read", syscall.ETIMEDOUT)})
			return receiveAll(c)
		}, 1006, syscall.ETIMEDOUT, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opts...)
				wantTimeout(t, "the call", tt.end(t, c, p), false)
				for name, call := range allMethods {
					if readsAhead(c) && slices.Contains(frameMethods, name) {
						continue
					}
					err := call(c)
					wantTimeout(t, name, err, false)
					wantError(t, err, tt.is)
					if want := tt.sending && slices.Contains(sendingMethods, name); isTimeout(err) != want {
						t.Errorf("%s: os.ErrDeadlineExceeded = %t for %v, want %t", name, !want, err, want)
					}
					if got := CloseStatus(err); got != tt.code {
						t.Errorf("%s: got close status %v of %v, want %v", name, got, err, tt.code)
					}
				}
				c.Close(StatusNormalClosure, "")
				p.Conn.Close()
			})
		})
	}
}

// The write deadline passes before the last frame of a message, so the connection ends.
func TestTimeout_of_the_last_frame_of_a_message_is_not_temporary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		record(p, true)
		w := openWriter(t, c, Binary)
		mustWrite(t, w, stars(2*fragmentSize))
		c.SetWriteDeadline(pastTime)
		err := w.Close()
		wantTimeout(t, "Close", err, false)
		wantError(t, err, os.ErrDeadlineExceeded)
		for _, err := range []error{err, endOf(c)} {
			if CloseStatus(err) != StatusInternalError {
				t.Errorf("got %v, want an error with 1011", err)
			}
		}
	})
}

// A peer that answers nothing ends Close by one of three limits. Each gives ErrCloseTimeout.
func TestTimeout_of_Close_is_a_net_Error(t *testing.T) {
	tests := []struct {
		name  string
		opts  []Option
		reads bool // the peer takes the close frame
	}{
		{"CloseTimeout 1s", []Option{CloseTimeout(time.Second)}, true},
		{"ConnectionTimeout 1m0s", []Option{CloseTimeout(0)}, true},
		{"WriteTimeout 10s", []Option{CloseTimeout(time.Hour), WriteTimeout(10 * time.Second)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, tt.opts...)
				if tt.reads {
					go io.Copy(io.Discard, p.Conn)
				}
				err := c.Close(StatusNormalClosure, "")
				wantTimeout(t, "Close", err, false)
				wantError(t, err, ErrCloseTimeout)
				wantMention(t, err.Error(), tt.name)
				p.Conn.Close()
			})
		})
	}
}

// The shortest timeout is not 0, which would be no limit. Half of it and a tenth of it are not 0 either.
func TestWriteTimeout_of_a_nanosecond(t *testing.T) {
	for _, writes := range []int{0, manyWrites/oneWrite + 1} { // without and with a time for each write
		t.Run(fmt.Sprintf("after %d writes", writes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(0), WriteTimeout(1))
				go func() {
					for range writes {
						p.read()
					}
				}()
				for range writes {
					c.SendMessage(Text, nil)
				}
				start := time.Now()
				wantError(t, c.SendMessage(Text, []byte("blocked")), os.ErrDeadlineExceeded)
				if took := time.Since(start); took > 2*pingPoll {
					t.Errorf("the write took %v, want %v at most", took, 2*pingPoll)
				}
				p.Conn.Close()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
}

func TestTimeout_errors_alone(t *testing.T) {
	for _, err := range []error{ErrConnectionTimeout, ErrCloseTimeout, errTimedOut, messageCutOff(nil)} {
		wantTimeout(t, err.Error(), err, false)
	}
	wantTimeout(t, "a response that could not be written", &connError{"sending", &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}}, false)
}

func TestErrors_that_no_timeout_caused(t *testing.T) {
	tests := []error{
		ErrProtocol, ErrInvalidUTF8, ErrMessageTooLarge, ErrInvalidOpcode, ErrInvalidJSON,
		&CloseError{Code: 1001}, &closedError{CloseError: CloseError{Code: 1000}}, &HandshakeError{Status: 408},
		&connError{"receiving", io.ErrUnexpectedEOF},
		&connError{"sending", os.NewSyscallError("write", syscall.ECONNRESET)},
		&connError{"sending", &net.OpError{Op: "write", Err: net.ErrClosed}},
		invalidJSON(1, new(int), io.ErrUnexpectedEOF),
		errMessageClosed, errMessageDropped,
	}
	for _, err := range tests {
		if netErr, ok := err.(net.Error); ok && netErr.Timeout() || isTemporary(err) {
			t.Errorf("%v: got a timeout or a temporary error, want neither", err)
		}
		if os.IsTimeout(err) {
			t.Errorf("os.IsTimeout(%v) is true", err)
		}
	}
}
