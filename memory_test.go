package websocket

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// A Conn is the largest thing that a connection holds while it is idle.
func TestConn_is_small(t *testing.T) {
	const most = 576 // a size class: one byte more is 64 more for each connection
	if size := reflect.TypeOf(Conn{}).Size(); size > most {
		t.Errorf("a Conn has %d bytes, want at most %d", size, most)
	}
}

func TestConn_makes_only_what_is_used(t *testing.T) {
	c, p := dialConn(t)
	if !c.in.ready.waits() {
		t.Skip("this platform waits with a buffer")
	}
	done := serveConn(c, echo)
	for range 2 {
		p.send(Text, strings.Repeat("x", 1024))
		p.expect(Text, strings.Repeat("x", 1024))
	}
	held := map[string]bool{
		"the user's deadlines":           c.deadlines.user != nil,
		"a context":                      c.ctx.Load() != nil,
		"a channel for its end":          made(&c.gone, "over"),
		"a buffer of pending frames":     c.out.deferred.Load(),
		"a timer for pending frames":     made(&c.out.flushAlarm, "timer"),
		"a channel of who wants to send": made(&c.out.lock, "freed"),
	}
	for what, held := range held {
		if held {
			t.Errorf("an idle connection holds %s", what)
		}
	}
	p.finish(done)
}

// made reports whether a field of a type of another package is set. These types make
// a channel or a timer only when it is needed.
func made(v any, field string) bool {
	return !reflect.ValueOf(v).Elem().FieldByName(field).IsZero()
}

// BenchmarkStack is the stack of a goroutine that has served an echo and waits for
// more: 2 KiB is the least there is. In the handler it is net/http's.
func BenchmarkStack(b *testing.B) {
	for _, detached := range []bool{false, true} {
		b.Run(fmt.Sprintf("Detached(%t)", detached), func(b *testing.B) {
			srv := httptest.NewServer(Handle(appendEcho, Detached(detached)))
			defer srv.Close()
			before := stackInUse()
			for range b.N {
				p := dial(b, srv)
				p.send(Binary, strings.Repeat("x", 1024))
				p.expect(Binary, strings.Repeat("x", 1024))
			}
			b.ReportMetric(float64(stackInUse()-before)/float64(b.N), "B-stack/conn")
		})
	}
}

// appendEcho is an echo that allocates nothing.
func appendEcho(c *Conn) error {
	var buf []byte
	for {
		op, data, err := c.AppendMessage(buf[:0])
		if err != nil {
			return err
		}
		buf = data
		if err := c.SendMessage(op, data); err != nil {
			return err
		}
	}
}

func stackInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.StackInuse
}
