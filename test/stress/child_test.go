//go:build unix

package stress

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
	_ "github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// The limits of the server. They are short, so that scripts that wait for them are short. They are
// not shorter, because a healthy client must answer a ping within half of connectionTimeout, even if
// it shares two processors with the server and the burners. HandleConcurrent needs one second and
// more: it gives its function no longer than connectionTimeout for answers after a close frame.
const (
	pingInterval      = 375 * time.Millisecond
	connectionTimeout = 1500 * time.Millisecond
	writeTimeout      = 1500 * time.Millisecond
	closeTimeout      = 1000 * time.Millisecond

	maxMessageSize = 256 << 10
	pollInterval   = time.Second // of the library, for functions that do not receive
)

// The headers with which a client chooses how it is served.
const (
	idHeader      = "X-Id"
	serverHeader  = "X-Server"
	receiveHeader = "X-Receive"
	workHeader    = "X-Work"
)

// A line is what the child process writes to its standard output, as JSON.
type line struct {
	Plain, TLS string  `json:",omitempty"` // the addresses, in the first line
	Report     *report `json:",omitempty"`
	Usage      bool    `json:",omitempty"` // the answer to a line of the parent
	Left       string  `json:",omitempty"` // the goroutines and descriptors that are left, with Usage
}

// A report tells how one connection has ended.
type report struct {
	ID       int
	Received int    // messages that the function has received
	Sum      uint64 // of these messages, see checksum
	Result   string // the kind of the error that a method has returned to the function
	End      string // the kind of the error that OnClose gets
	Text     string // of that error
	Code     uint16
}

// A child serves connections in the child process.
type child struct {
	handlers map[string]*websocket.Handler
	sessions sync.Map // *websocket.Conn to *session

	mu  sync.Mutex // guards the output
	out *json.Encoder
}

// runChild serves until the parent closes the standard input. A line of the input shuts the handlers
// down, and asks what is left of the connections then.
func runChild() {
	c := &child{out: json.NewEncoder(os.Stdout)}
	c.handlers = c.newHandlers()
	plain := c.serve((*httptest.Server).Start)
	tls := c.serve((*httptest.Server).StartTLS)
	goroutines, files := runtime.NumGoroutine()+1, wstest.OpenFiles() // one more reads the input
	c.write(line{Plain: plain, TLS: tls})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			asked <- struct{}{}
		}
	}()
	for range asked {
		c.shutdown()
		c.write(line{Usage: true, Left: whatIsLeft(goroutines, files)})
	}
}

func (c *child) serve(start func(*httptest.Server)) (addr string) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.handlers[r.Header.Get(serverHeader)].ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = wstest.NoLog // it gets the panics of the functions
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	start(srv)
	return srv.Listener.Addr().String()
}

func (c *child) write(l line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Encode(l)
}

// whatIsLeft waits until no more goroutines and descriptors are in use than before the first
// connection. It describes those that do not end.
func whatIsLeft(goroutines, files int) string {
	if wstest.Eventually(func() bool { return runtime.NumGoroutine() <= goroutines && wstest.OpenFiles() <= files }) {
		return ""
	}
	stacks := make([]byte, 1<<16)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Sprintf("%d goroutines and %d descriptors, before the first connection %d and %d\n%s",
		runtime.NumGoroutine(), wstest.OpenFiles(), goroutines, files, stacks)
}

// shutdown shuts all handlers down. Each returns when the functions of its connections have returned.
func (c *child) shutdown() {
	var running sync.WaitGroup
	for name, h := range c.handlers {
		running.Go(func() {
			if err := h.Shutdown(context.Background()); err != nil || h.Stats().Open > 0 {
				fmt.Fprintf(os.Stderr, "%s: Shutdown returns %v with %+v", name, err, h.Stats())
			}
		})
	}
	running.Wait()
}

// newSession returns the session of a connection that begins. Its request is gone later.
func (c *child) newSession(conn *websocket.Conn) *session {
	header := conn.Request().Header
	id, _ := strconv.Atoi(header.Get(idHeader))
	work, _ := time.ParseDuration(header.Get(workHeader))
	s := &session{Conn: conn, receive: header.Get(receiveHeader), work: work, report: report{ID: id, Result: "none"}}
	c.sessions.Store(conn, s)
	return s
}

// ended is the function of OnClose.
func (c *child) ended(conn *websocket.Conn, err error) {
	value, ok := c.sessions.LoadAndDelete(conn)
	if !ok {
		c.write(line{Report: &report{ID: -1, End: "closed twice, or without a session"}})
		return
	}
	r := value.(*session).report // the function has returned, so nothing changes it
	r.End, r.Text, r.Code = kindOf(err), fmt.Sprint(err), uint16(websocket.CloseStatus(err))
	c.write(line{Report: &r})
}
