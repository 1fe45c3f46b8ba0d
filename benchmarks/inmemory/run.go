package inmemory

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Case is one row of the table.
type Case struct {
	load.Workload
	Batched bool // the messages come many in a read, not one
}

// Cases are all rows.
func Cases() []Case {
	var all []Case
	for _, batched := range []bool{false, true} {
		for _, size := range []int{16, 1 << 10, 64 << 10, 1 << 20} {
			if size <= batch/2 || !batched {
				all = append(all, newCase(load.Binary, size, batched))
			}
		}
		for _, text := range []load.Text{load.ASCII, load.MultiByte} {
			all = append(all, newCase(text, 64<<10, batched))
		}
	}
	return all
}

func newCase(text load.Text, size int, batched bool) Case {
	group, suffix := "In memory, a message a read", ""
	if batched {
		group, suffix = "In memory, reads of many messages", "-batched"
	}
	kind := string(text)
	if text == load.Binary {
		kind = "binary"
	}
	w := load.Workload{
		Name:  fmt.Sprintf("%s-%s%s", kind, load.SizeName(size), suffix),
		Group: group, Size: size, Text: text, Burst: 1,
	}
	return Case{w, batched}
}

// Baseline names the hand-written contestant that the case is compared with.
func (c Case) Baseline() string {
	if c.Batched {
		return "rawbatch"
	}
	return "rawframe"
}

// Admits reports whether contestant can run without a kernel.
func (c Case) Admits(contestant servers.Contestant) bool { return contestant.Handler != nil }

// batch is how much a batched read can find.
const batch = 256 << 10

// Run drives a connection of the contestant through warmup and then n messages.
// start is called in between, with the number of messages that are still to come,
// and end behind the last.
func (c Case) Run(contestant servers.Contestant, warmup, n int, start func(n int), end func()) error {
	return c.run(contestant, warmup, n, start, end, nil)
}

func (c Case) run(contestant servers.Contestant, warmup, n int, start func(int), end func(), sink io.Writer) error {
	several := 1
	if c.Batched {
		several = max(1, batch/c.Size)
	}
	wire, _ := c.Wire(several)
	size := len(wire) / several
	ended := make(chan struct{})
	nc := &conn{
		wire: wire, size: size, batched: c.Batched,
		start: warmup * size, total: (warmup + n) * size,
		onStart: func(fed int) { start(warmup + n - fed/size) },
		onEnd:   func() { end(); close(ended) },
		sink:    sink, closed: make(chan struct{}),
	}
	m := contestant.Modes[0]
	go contestant.Handler(m).ServeHTTP(&responseWriter{conn: nc}, newRequest())
	return wait(ended, nc.closed)
}

// wait waits for the last message to be read and the connection to be closed.
func wait(ended, closed <-chan struct{}) error {
	late := time.After(time.Minute)
	select {
	case <-ended:
	case <-closed:
		// Both may have happened.
		select {
		case <-ended:
		default:
			return errors.New("the connection was closed before the last message")
		}
	case <-late:
		return errors.New("the messages are not being read")
	}
	select {
	case <-closed:
		return nil
	case <-late:
		return errors.New("the connection is not being closed")
	}
}

func newRequest() *http.Request {
	head := "GET " + servers.EchoPath + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte(head))))
	if err != nil {
		panic(err)
	}
	return r
}

// A responseWriter is hijacked, as net/http's is, with two buffers of 4 KiB.
type responseWriter struct {
	conn   *conn
	header http.Header
}

func (w *responseWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *responseWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *responseWriter) WriteHeader(int)             {}

func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	br, bw := bufio.NewReaderSize(w.conn, 4096), bufio.NewWriterSize(w.conn, 4096)
	return w.conn, bufio.NewReadWriter(br, bw), nil
}
