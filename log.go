package websocket

import (
	"fmt"
	"log"
	"net/http"
	"runtime"
)

// maxLogLine leaves room for what the logger adds, so that a line has less than a kilobyte.
const maxLogLine = 960

// logPanic recovers and logs a panic of a detached HandlerFunc, with the words of
// net/http, because people search their logs for those. Without it the panic would
// end the process. The value is cut to one line, because it may repeat what the peer has
// sent.
func logPanic(c *Conn) {
	v := recover()
	if _, logged := v.(loggedPanic); v == nil || v == http.ErrAbortHandler || logged {
		return
	}
	logPanicOf(c, v)
}

// logPanicOf logs a panic with the stack of the goroutine. It has to run in a deferred call,
// because the stack still shows there where the function has panicked.
func logPanicOf(c *Conn, v any) {
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, false)]
	logf(c, "http: panic serving %v: %s\n%s", c.RemoteAddr(), oneLine(fmt.Sprint(v)), stack)
}

// serverOf returns the http.Server of a connection, or nil.
func serverOf(c *Conn) *http.Server {
	if r := c.request.Load(); r != nil {
		srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		return srv
	}
	return c.inbox.server
}

// pathOf returns the path of the request.
func pathOf(c *Conn) string {
	if r := c.request.Load(); r != nil {
		return r.URL.Path
	}
	return c.inbox.path.Value()
}

// logf writes to the log of the http.Server.
func logf(c *Conn, format string, args ...any) {
	logTo(serverOf(c), format, args...)
}

// logTo writes to the log of srv, which may be nil.
func logTo(srv *http.Server, format string, args ...any) {
	if srv != nil && srv.ErrorLog != nil {
		srv.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// A loggedPanic is the value of a panic that was logged on the goroutine on which it happened.
type loggedPanic struct{ value any }

// panicText returns what a function has panicked with.
func panicText(v any) string {
	if logged, ok := v.(loggedPanic); ok {
		v = logged.value
	}
	return fmt.Sprint(v)
}
