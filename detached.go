package websocket

import (
	"net/http"
	"runtime"
)

// logPanic is deferred on a goroutine that is nobody's but the connection's, where
// a panic that is not recovered would be the end of the process. So it does what
// net/http does with one, and words it the same, for those who look for that in
// their logs.
func (c *Conn) logPanic() {
	v := recover()
	if v == nil || v == http.ErrAbortHandler {
		return
	}
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, false)]
	c.logf("http: panic serving %v: %v\n%s", c.RemoteAddr(), v, stack)
}
