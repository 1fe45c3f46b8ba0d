package inmemory

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
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
	for _, w := range load.Workloads() {
		if w.Text == load.JSON && w.Kind == load.Echo {
			w.Name = strings.TrimSuffix(w.Name, "-64c")
			w.Group, w.Conns = "In memory, compressed JSON", 0
			all = append(all, Case{w, false})
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
func (c Case) Admits(contestant servers.Contestant) bool {
	return contestant.Handler != nil && (c.Text != load.JSON || c.Workload.Admits(contestant))
}

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
	wire, ends := c.frames()
	ended := make(chan struct{})
	nc := &conn{
		wire: wire, ends: ends, batched: c.Batched,
		start: offset(ends, warmup), total: offset(ends, warmup+n),
		onStart: func(sent int) { start(warmup + n - count(ends, sent)) },
		onEnd:   func() { end(); close(ended) },
		sink:    sink, closed: make(chan struct{}),
	}
	m := contestant.Modes[0]
	go contestant.Handler(m).ServeHTTP(&responseWriter{conn: nc}, newRequest(c.Workload))
	return wait(ended, nc.closed)
}

// frames returns the bytes that a client sends again and again, and where each message ends.
func (c Case) frames() (wire []byte, ends []int) {
	if c.Text == load.JSON {
		for _, f := range c.CompressedFrames() {
			wire = append(wire, f...)
			ends = append(ends, len(wire))
		}
		return wire, ends
	}
	n := c.perRead()
	wire, _ = c.Wire(n)
	for i := range n {
		ends = append(ends, (i+1)*len(wire)/n)
	}
	return wire, ends
}

// offset returns how many bytes the first n messages have.
func offset(ends []int, n int) int {
	laps, rest := n/len(ends), n%len(ends)
	bytes := laps * ends[len(ends)-1]
	if rest > 0 {
		bytes += ends[rest-1]
	}
	return bytes
}

// count returns how many messages are complete in the first bytes.
func count(ends []int, bytes int) int {
	lap := ends[len(ends)-1]
	n, _ := slices.BinarySearch(ends, bytes%lap+1) // the first that ends after them
	return bytes/lap*len(ends) + n
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

// newRequest returns a handshake for the service of w.
func newRequest(w load.Workload) *http.Request {
	path := w.Service
	if path == "" {
		path = servers.EchoPath
	}
	head := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if offer := load.Offer(path); offer != "" {
		head += "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	head += "\r\n"
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
