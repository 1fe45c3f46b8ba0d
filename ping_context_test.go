package websocket

import (
	"context"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// The end of the context leaves the connection usable.
func TestPing_context(t *testing.T) {
	tests := []struct {
		name    string
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
		timeout bool
		took    time.Duration
	}{
		{"a timeout", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, context.DeadlineExceeded, true, time.Second},
		{"a timeout that has passed", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 0)
		}, context.DeadlineExceeded, true, 0},
		{"a cancellation", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, false, time.Second},
	}
	for _, tt := range tests {
		for _, receives := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t, PingInterval(0))
					if receives {
						go func() { echoAll(c) }()
					}
					ctx, cancel := tt.context(t.Context())
					defer cancel()
					result := startPing(ctx, c)
					if tt.took > 0 {
						p.readPing()
					}
					got := <-result
					wantError(t, got.err, tt.want)
					if got.took != tt.took {
						t.Errorf("Ping took %v, want %v", got.took, tt.took)
					}
					timeout, ok := got.err.(net.Error)
					if !ok || timeout.Timeout() != tt.timeout || os.IsTimeout(got.err) != tt.timeout {
						t.Errorf("got error %v, want a net.Error with Timeout() = %t", got.err, tt.timeout)
					}
					wantMention(t, got.err.Error(), "Ping", tt.took.String())
					if !receives {
						go func() { echoAll(c) }()
					}
					checkEcho(p)
					result = startPing(context.Background(), c)
					p.send(Pong, p.readPing())
					wantRTT(t, <-result, 0)
					c.CloseNow()
				})
			})
		}
	}
}

// A sender is blocked in a write, so the ping cannot be sent in time, and never is.
func TestPing_context_while_a_sender_is_blocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		go c.SendMessage(Text, []byte("blocked"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := <-startPing(ctx, c)
		wantError(t, got.err, context.DeadlineExceeded)
		if got.took != time.Second {
			t.Errorf("Ping took %v, want 1s", got.took)
		}
		p.expect(Text, "blocked")
		c.CloseNow()
		p.ExpectEOF() // and no ping, because its call has returned
	})
}
