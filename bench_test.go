package websocket

import (
	"fmt"
	"io"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// benchmarkSizes are the size of a chat line, of a document, of a write that a socket
// accepts at once, and of a larger one.
var benchmarkSizes = []struct {
	name string
	size int
}{{"16B", 16}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// benchmarkText returns a text with ASCII and other characters.
func benchmarkText(size int) string {
	const line = "The quick brown fox jumps over the lazy dog – Zwölf Boxkämpfer jagen Viktor. "
	text := strings.Repeat(line, size/len(line)+1)[:size]
	return strings.ToValidUTF8(text, "?")
}

// forEachSize runs a benchmark for text and binary of each size.
func forEachSize(b *testing.B, run func(b *testing.B, op Opcode, payload string)) {
	for _, op := range []Opcode{Text, Binary} {
		for _, s := range benchmarkSizes {
			b.Run(fmt.Sprintf("%v/%s", op, s.name), func(b *testing.B) {
				payload := benchmarkText(s.size)
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				run(b, op, payload)
			})
		}
	}
}

// BenchmarkEcho measures a round trip over loopback TCP. The kernel takes most of the time.
func BenchmarkEcho(b *testing.B) {
	forEachSize(b, func(b *testing.B, op Opcode, payload string) {
		p := dialServer(b, startServer(b, appendEcho))
		request := clientFrame(true, op, payload)
		response := make([]byte, len(request)-len(testMaskKey))
		// A frame that is larger than the buffers must be sent and received at the
		// same time.
		requests, errs := make(chan bool), make(chan error, 1)
		go func() {
			for range requests {
				if _, err := p.Conn.Write(request); err != nil {
					errs <- err
					return
				}
			}
		}()
		for b.Loop() {
			requests <- true
			if _, err := io.ReadFull(p.Buffer, response); err != nil {
				b.Fatal(err)
			}
		}
		close(requests)
		select {
		case err := <-errs:
			b.Fatal(err)
		default:
		}
		p.Close()
	})
}

// BenchmarkEcho_in_memory measures the part of this package in BenchmarkEcho.
func BenchmarkEcho_in_memory(b *testing.B) {
	forEachSize(b, func(b *testing.B, op Opcode, payload string) {
		c := newRepeatConn(b, clientFrame(true, op, payload))
		buf := make([]byte, 0, len(payload))
		for b.Loop() {
			op, data, err := c.AppendMessage(buf[:0])
			if err == nil {
				err = c.SendMessage(op, data)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBuffered compares the fast path, for a message that is in the buffer as a
// whole, with the general path.
func BenchmarkBuffered(b *testing.B) {
	for _, size := range []int{16, 1 << 10} {
		ways := map[string]func(*Conn, []byte) (Opcode, []byte, error){
			"whole": func(c *Conn, dst []byte) (Opcode, []byte, error) { return c.in.message(dst) },
			"any":   func(c *Conn, dst []byte) (Opcode, []byte, error) { return c.in.fragments(dst) },
		}
		for name, receive := range ways {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) {
				c := newRepeatConn(b, clientFrame(true, Binary, strings.Repeat("x", size)))
				buf := make([]byte, 0, size)
				for b.Loop() {
					if _, data, err := receive(c, buf); err != nil || len(data) != size {
						b.Fatal(len(data), err)
					}
				}
			})
		}
	}
}

func BenchmarkReceiveMessage(b *testing.B) {
	forEachSize(b, func(b *testing.B, op Opcode, payload string) {
		c := newRepeatConn(b, clientFrame(true, op, payload))
		for b.Loop() {
			if _, _, err := c.ReceiveMessage(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSendMessage(b *testing.B) {
	forEachSize(b, func(b *testing.B, op Opcode, payload string) {
		c := newRepeatConn(b, clientFrame(true, op, ""))
		data := []byte(payload)
		for b.Loop() {
			if err := c.SendMessage(op, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Messages of JSON, which differ a little.
func BenchmarkSendMessage_compressed(b *testing.B) {
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; server_no_context_takeover"} {
		for _, n := range []int{2, 9, 140} {
			var messages [][]byte
			for i := range 16 {
				var text strings.Builder
				for j := range n {
					text.WriteString(tick(i*n + j))
				}
				messages = append(messages, []byte(text.String()))
			}
			b.Run(fmt.Sprintf("%s/%dB", offer, len(messages[0])), func(b *testing.B) {
				c := offeringOn(b, wstest.Repeat(clientFrame(true, Pong, "")), offer)
				for i := 0; b.Loop(); i++ {
					if err := c.SendMessage(Text, messages[i%len(messages)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAppendMessage_compressed(b *testing.B) {
	for _, n := range []int{2, 9, 140} {
		text := strings.Repeat(tick(1), n)
		b.Run(fmt.Sprintf("%dB", len(text)), func(b *testing.B) {
			c := newSocketConn(b, wstest.Repeat(compressedMessage(Text, text)), Compression(0))
			buf := make([]byte, 0, len(text))
			for b.Loop() {
				if _, _, err := c.AppendMessage(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMessageReader(b *testing.B) {
	forEachSize(b, func(b *testing.B, op Opcode, payload string) {
		c := newRepeatConn(b, clientFrame(true, op, payload))
		buf := make([]byte, 32<<10)
		for b.Loop() {
			_, r, err := c.MessageReader()
			for err == nil {
				_, err = r.Read(buf)
			}
			if err != io.EOF {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkMessageWriter writes lines, as an encoder does, and large pieces.
func BenchmarkMessageWriter(b *testing.B) {
	for _, piece := range []int{100, 32 << 10} {
		b.Run(fmt.Sprintf("pieces of %dB", piece), func(b *testing.B) {
			data := []byte(benchmarkText(piece))
			b.SetBytes(int64(64 * len(data)))
			b.ReportAllocs()
			c := newRepeatConn(b, clientFrame(true, Text, ""))
			for b.Loop() {
				w := openWriter(b, c, Text)
				for range 64 {
					if _, err := w.Write(data); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReceiveMessage_fragmented receives a message in many small frames with a ping
// between any two.
func BenchmarkReceiveMessage_fragmented(b *testing.B) {
	wire := clientFrame(false, Text, "sixteen bytes it")
	for range 62 {
		wire = slices.Concat(wire, clientFrame(true, Ping, "p"), clientFrame(false, Continuation, "sixteen bytes it"))
	}
	wire = slices.Concat(wire, clientFrame(true, Continuation, "sixteen bytes it"))
	c := newRepeatConn(b, wire)
	buf := make([]byte, 0, 64*16)
	b.SetBytes(64 * 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.AppendMessage(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceiveMessage_in_fragments receives messages whose length is not known before
// their last frame. "in memory" gets as many bytes as the read buffer holds, and "TCP" gets
// what the kernel has.
func BenchmarkReceiveMessage_in_fragments(b *testing.B) {
	for _, size := range []struct{ message, fragment int }{{64 << 10, 1 << 10}, {16 << 10, 125}, {2048, 2048}, {1 << 20, 64 << 10}} {
		wire := fragmentedMessage(size.message, size.fragment)
		name := fmt.Sprintf("%dB in %dB", size.message, size.fragment)
		b.Run("in memory/"+name, func(b *testing.B) {
			c := newRepeatConn(b, wire)
			b.SetBytes(int64(size.message))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.ReceiveMessage(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("TCP/"+name, func(b *testing.B) {
			c, p := newTCPConn(b)
			b.SetBytes(int64(size.message))
			b.ReportAllocs()
			for b.Loop() {
				go p.Conn.Write(wire)
				if _, _, err := c.ReceiveMessage(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fragmentedMessage returns a message of size bytes in fragments, with an empty last frame.
func fragmentedMessage(size, fragment int) []byte {
	wire := clientFrame(false, Binary, strings.Repeat("x", fragment))
	for range size/fragment - 1 {
		wire = append(wire, clientFrame(false, Continuation, strings.Repeat("x", fragment))...)
	}
	return append(wire, clientFrame(true, Continuation, "")...)
}

// BenchmarkReadBuffer shows how much the larger buffer saves, with 32 messages of 1 KiB at
// a time.
func BenchmarkReadBuffer(b *testing.B) {
	for _, large := range []bool{true, false} {
		b.Run(fmt.Sprint(large), func(b *testing.B) {
			benchmarkBursts(b, 1024, startServer(b, func(c *Conn) error {
				var buf []byte
				for {
					c.in.buf.large = c.in.buf.large && large
					op, data, err := c.AppendMessage(buf[:0])
					if err != nil {
						return err
					}
					buf = data
					if err := c.SendMessage(op, data); err != nil {
						return err
					}
				}
			}))
		})
	}
}

// BenchmarkWriteCoalescing shows how much coalescing saves, with 32 messages of 16 bytes at
// a time.
func BenchmarkWriteCoalescing(b *testing.B) {
	for _, on := range []bool{true, false} {
		b.Run(fmt.Sprint(on), func(b *testing.B) {
			benchmarkBursts(b, 16, startServer(b, appendEcho, WriteCoalescing(on)))
		})
	}
}

// benchmarkBursts sends 32 messages at once to an echo over loopback, and reads the echoes.
func benchmarkBursts(b *testing.B, size int, srv *httptest.Server) {
	const n = 32
	p := dialServer(b, srv)
	wire := messageBurst(n, strings.Repeat("x", size))
	answer := make([]byte, len(wire)-n*len(testMaskKey))
	b.ReportAllocs()
	for range b.N {
		p.Write(wire)
		if _, err := io.ReadFull(p.Buffer, answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
}

// BenchmarkStack measures the stack of a goroutine that has echoed a message and waits
// for the next message. The smallest stack has 2 KiB. Without Detached, the handler runs
// on net/http's goroutine.
func BenchmarkStack(b *testing.B) {
	for _, detached := range []bool{false, true} {
		b.Run(fmt.Sprintf("Detached(%t)", detached), func(b *testing.B) {
			srv := httptest.NewServer(Handle(appendEcho, Detached(detached)))
			defer srv.Close()
			before := stackInUse()
			for range b.N {
				p := dialServer(b, srv)
				p.send(Binary, strings.Repeat("x", 1024))
				p.expect(Binary, strings.Repeat("x", 1024))
			}
			b.ReportMetric(float64(stackInUse()-before)/float64(b.N), "B-stack/conn")
		})
	}
}

// appendEcho echoes messages and allocates nothing.
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

func lendEcho(c *Conn) error {
	for {
		if err := c.ReceiveFunc(c.SendMessage); err != nil {
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

// BenchmarkReceiveFunc compares the ways to receive without an allocation, in an echo over
// loopback TCP on many connections: the buffers of AppendMessage are not in the cache.
func BenchmarkReceiveFunc(b *testing.B) {
	ways := []struct {
		name  string
		start func(testing.TB) *httptest.Server
	}{
		{"AppendMessage", func(b testing.TB) *httptest.Server { return startServer(b, appendEcho) }},
		{"ReceiveFunc", func(b testing.TB) *httptest.Server { return startServer(b, lendEcho) }},
		{"HandleMessages", func(b testing.TB) *httptest.Server { return startMessages(b, openEcho).Server }},
	}
	for _, size := range benchmarkSizes {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%s/%s", size.name, way.name), func(b *testing.B) {
				benchmarkEchoes(b, way.start(b), size.size, 64)
			})
		}
	}
}

// benchmarkEchoes sends messages on many connections in turn and waits for the echo of each.
func benchmarkEchoes(b *testing.B, srv *httptest.Server, size, conns int) {
	request := clientFrame(true, Binary, strings.Repeat("x", size))
	response := make([]byte, len(request)-len(testMaskKey))
	peers := make([]*peer, conns)
	for i := range peers {
		peers[i] = dialServer(b, srv)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	requests := make(chan *peer, 1)
	go func() {
		for p := range requests {
			p.Conn.Write(request)
		}
	}()
	for i := 0; b.Loop(); i++ {
		p := peers[i%conns]
		requests <- p
		if _, err := io.ReadFull(p.Buffer, response); err != nil {
			b.Fatal(err)
		}
	}
	close(requests)
}
