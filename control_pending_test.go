package websocket

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A deadline cuts off a write of earlier frames, behind which a control frame has to leave. The
// control frame is not lost, and its call does not wait longer than its deadline.
func TestSetWriteDeadline_loses_no_control_frame(t *testing.T) {
	large := stars(pendingSize + 1000)
	before := map[string]struct {
		add  func(c *Conn, frame []byte)
		text string
	}{
		"nothing is pending": {func(*Conn, []byte) {}, ""},
		"a frame is queued": {func(c *Conn, frame []byte) {
			c.out.enqueue(&c.out.seldomUsed().queue, queuedFrame{bytes: frame})
		}, "queued"},
		"a large frame is pending": {func(c *Conn, frame []byte) {
			c.out.pendingOf().frames = slices.Clip(frame)
			c.out.hasPending.Store(true)
		}, large},
	}
	requested := func(c *Conn, by func(func(time.Time) error), request func()) error {
		c.out.lock.Lock()
		request()
		synctest.Wait()
		by(c.SetWriteDeadline)
		c.out.release(bySender)
		return nil
	}
	controls := map[string]struct {
		send  func(c *Conn, p *peer, by func(func(time.Time) error)) error
		want  func(p *peer)
		first bool // it does not wait for the queue
	}{
		"the close frame of SendMessage": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			by(c.SetWriteDeadline)
			return c.SendMessage(Close, []byte(closeBody(4000, "")))
		}, func(p *peer) { p.expectClose(4000) }, false},
		"the close frame of WriteFrame": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			by(c.SetWriteDeadline)
			return c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Close}, closeBody(4000, "")))
		}, func(p *peer) { p.expectClose(4000) }, false},
		"a close frame that breaks the rules": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			by(c.SetWriteDeadline)
			return c.WriteFrame(unmaskedFrame(Header{Fin: true, Opcode: Close}, large))
		}, func(p *peer) { p.expect(Close, large) }, false},
		"a pong of a receiving method": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			by(c.SetReadDeadline)
			c.out.pong(byReceiver, []byte("ping"))
			return nil
		}, func(p *peer) { p.expect(Pong, "ping") }, true},
		"a ping of the keepalive": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			return requested(c, by, c.out.ping)
		}, func(p *peer) { p.expect(Ping, "") }, true},
		"the ping of a call": {func(c *Conn, p *peer, by func(func(time.Time) error)) error {
			return requested(c, by, func() {
				for range 2 {
					go c.Ping(context.Background())
				}
			})
		}, func(p *peer) {
			for range 2 {
				if f := p.read(); f.Opcode != Ping || len(f.Payload) != 8 {
					p.t.Errorf("got %v with a payload of %d bytes, want a ping", f.Opcode, len(f.Payload))
				}
			}
		}, true},
	}
	for place, before := range before {
		for name, control := range controls {
			for _, by := range setBy {
				t.Run(fmt.Sprintf("%s, %s, %s", name, place, by.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, p := newPipeConn(t, PingInterval(0), ConnectionTimeout(0), WriteTimeout(0), CloseTimeout(0))
						p.Frames.AnyFrame = true
						before.add(c, wstest.ServerFrame(first(true, Text), before.text))
						start := time.Now()
						if err := control.send(c, p, by.set); err != nil {
							wantError(t, err, os.ErrDeadlineExceeded)
						}
						if took := time.Since(start); took > by.want {
							t.Errorf("the call took %v, want at most %v", took, by.want)
						}
						expect := []func(){func() { control.want(p) }}
						if earlier := func() { p.expect(Text, before.text) }; before.text == "queued" && control.first {
							expect = append(expect, earlier)
						} else if before.text != "" {
							expect = slices.Insert(expect, 0, earlier)
						}
						got := make(chan struct{})
						go func() {
							defer close(got)
							for _, next := range expect {
								next()
							}
						}()
						select {
						case <-got:
						case <-time.After(time.Minute):
							t.Error("the frame is lost")
						}
						endConn(c, p)
						<-got
					})
				})
			}
		}
	}
}
