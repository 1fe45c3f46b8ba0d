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

// A Case is one row of the tables.
type Case struct {
	load.Workload
	Batched bool // a read gets several messages, not one
}

// Cases returns all cases in the order of the tables.
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

// Baseline returns the name of the hand-written contestant that the case is compared with.
func (c Case) Baseline() string {
	if c.Batched {
		return "rawbatch"
	}
	return "rawframe"
}

// Admits reports whether contestant can run in memory.
func (c Case) Admits(contestant servers.Contestant) bool { return contestant.Handler != nil }

// batch is the number of bytes that are available to a batched read.
const batch = 256 << 10

// Run sends warmup messages and then n messages on a connection to the contestant. It calls
// start after the warm-up, with the number of messages that follow, and end after the last
// message.
func (c Case) Run(contestant servers.Contestant, warmup, n int, start func(n int), end func()) error {
	return c.run(contestant, warmup, n, start, end, nil)
}

// run is Run with a sink that gets the bytes that the contestant writes, if it is not nil.
func (c Case) run(contestant servers.Contestant, warmup, n int, start func(int), end func(), sink io.Writer) error {
	messages := c.perRead()
	wire, _ := c.Wire(messages)
	size := len(wire) / messages
	ended := make(chan struct{})
	nc := &conn{
		wire: wire, size: size, batched: c.Batched,
		start: warmup * size, total: (warmup + n) * size,
		onStart: func(sent int) { start(warmup + n - sent/size) },
		onEnd:   func() { end(); close(ended) },
		sink:    sink, closed: make(chan struct{}),
	}
	m := contestant.Modes[0]
	go contestant.Handler(m).ServeHTTP(&responseWriter{conn: nc}, newRequest())
	return wait(ended, nc.closed)
}

// perRead returns the largest number of whole messages in a read.
func (c Case) perRead() int {
	if !c.Batched {
		return 1
	}
	return max(1, batch/c.Size)
}

// wait waits until the last message has been read and the connection has been closed.
func wait(ended, closed <-chan struct{}) error {
	timeout := time.After(time.Minute)
	select {
	case <-ended:
	case <-closed:
		// select chooses at random if both channels are closed.
		select {
		case <-ended:
		default:
			return errors.New("the contestant closed the connection before the last message")
		}
	case <-timeout:
		return errors.New("the contestant has not read all messages within a minute")
	}
	select {
	case <-closed:
		return nil
	case <-timeout:
		return errors.New("the contestant has not closed the connection within a minute")
	}
}

// newRequest returns a handshake.
func newRequest() *http.Request {
	head := "GET " + servers.EchoPath + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte(head))))
	if err != nil {
		panic(err)
	}
	return r
}

// A responseWriter can be hijacked. It has two buffers of 4 KiB, as the ResponseWriter of
// net/http has.
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
