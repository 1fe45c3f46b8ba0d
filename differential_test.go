//go:build unix

package websocket

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// An fdConn gives a scriptSocket a file descriptor, from which the segments of the script
// are read. So the reader can wait without a buffer, as it can on TCP. Before each
// segment, one read finds no bytes.
type fdConn struct {
	syscall.RawConn // nil: only Read is used
	socket          scriptSocket
	from, to        int
}

// An fdTransport waits without a buffer, as TCP does, and writes to the script.
type fdTransport struct {
	netTransport
	filler *tcpTransport
}

func (t *fdTransport) fill() error              { return t.filler.fill() }
func (t *fdTransport) waitsWithoutBuffer() bool { return true }

// newReadyConn returns a Conn as newScriptConn does, but on an fdConn. like is any TCP
// connection.
func newReadyConn(t *testing.T, like net.Conn, cut [][]byte, opts ...Option) (*Conn, scriptSocket) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.SetNonblock(fds[0], true)
	syscall.SetNonblock(fds[1], true)
	t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
	c, s := newScriptConn(t, cut, opts...)
	f := &fdConn{socket: s, from: fds[0], to: fds[1]}
	s.Hook = f.operate
	c.socket.transport = &fdTransport{netTransport{s, &c.in.buf, true}, newTCPTransport(like.(*net.TCPConn), f, &c.in.buf)}
	return c, s
}

// operate does the operations of the net.Conn.
func (f *fdConn) operate(op *wstest.Op) (n int, err error) {
	if op.Write {
		return op.Do(op.P)
	}
	err = f.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), op.P)
		return err != syscall.EAGAIN
	})
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// Read calls read until read returns true, as the Read of a syscall.RawConn does.
func (f *fdConn) Read(read func(fd uintptr) bool) error {
	for !read(uintptr(f.from)) {
		if f.socket.Closed() {
			return net.ErrClosed
		}
		unread := f.socket.Unread()
		switch {
		case len(unread) == 0:
			syscall.Shutdown(f.to, syscall.SHUT_WR)
			continue
		case len(unread[0]) == 0:
			f.socket.Skip(0)
			return os.ErrDeadlineExceeded
		}
		n, err := syscall.Write(f.to, unread[0])
		if err != nil {
			return err
		}
		f.socket.Skip(n)
	}
	return nil
}

// edgeLengths are payload lengths on both sides of a change: another form of the header,
// another loop of the assembly, or a frame that no longer fits a buffer.
var edgeLengths = []int{
	0, 1, 31, 32, 33, 63, 64, 65, 124, 125, 126, 127, 1023, 1024, 1025, 4081, 4082, 4083, 4087, 4088, 4089, 4095, 4096, 4097,
	8191, 65521, 65527, 65528, 65529, 65535, 65536, 65537, 73713, 73714, 73715, 73719, 73720, 73721, 73727, 73728, 73729, 131072,
}

// A streamGenerator makes random streams of a client.
type streamGenerator struct {
	*rand.Rand
	wire []byte
}

func (f *streamGenerator) text(size int) string {
	fillings := []string{"a", "ä", "€", "𝄞", "aä€𝄞", strings.Repeat("x", 70) + "é"}
	text := strings.Repeat(fillings[f.IntN(len(fillings))], size+1)
	return strings.ToValidUTF8(text[:size], "?")
}

func (f *streamGenerator) frame(h Header, payload string) {
	h.Masked = true
	for i := range h.MaskKey {
		h.MaskKey[i] = byte(f.Uint32())
	}
	b := []byte(payload)
	Mask(b, h.MaskKey, 0)
	f.wire = AppendFrame(f.wire, Frame{h, b})
}

func (f *streamGenerator) control() {
	f.frame(Header{Fin: true, Opcode: []Opcode{Ping, Pong}[f.IntN(2)]}, f.text(f.IntN(40)))
}

func (f *streamGenerator) message(op Opcode, payload string, fragments int) {
	for ; fragments > 1; fragments-- {
		n := f.IntN(len(payload) + 1)
		f.frame(Header{Opcode: op}, payload[:n])
		op, payload = Continuation, payload[n:]
		if f.IntN(2) == 0 {
			f.control()
		}
	}
	f.frame(Header{Fin: true, Opcode: op}, payload)
}

// violation appends something that ends the connection: frames that break a rule, a close
// frame, or the end of the stream inside a frame.
func (f *streamGenerator) violation(size int) {
	switch f.IntN(11) {
	case 0:
		b := []byte(f.text(size) + "x")
		b[f.IntN(len(b))] = 0xFF
		f.message(Text, string(b), 1+f.IntN(3))
	case 1:
		f.message(Text, f.text(size)+"\xF0\x9D\x84"[:1+f.IntN(3)], 1+f.IntN(3))
	case 2:
		f.wire = append(f.wire, "\x82\xFE\x00\x05abcdhello"...)
	case 3:
		f.wire = append(f.wire, "\x81\xFF\x00\x00\x00\x00\x00\x00\x00\x05abcdhello"...)
	case 4:
		f.frame(Header{Fin: f.IntN(2) == 0, Opcode: Opcode(f.IntN(16))}, f.text(size))
	case 5:
		f.wire = AppendFrame(f.wire, Frame{Header{Fin: true, Opcode: Text}, []byte(f.text(size))})
	case 6:
		f.frame(Header{Fin: true, Opcode: Continuation}, f.text(size))
	case 7:
		f.frame(Header{Fin: true, Opcode: Close}, []string{"", "\x03", "\x03\xe8", "\x0f\xa0bye", "\x0f\xa0\xff", "\x03\xed"}[f.IntN(6)])
	case 8:
		f.wire = append(f.wire, clientHeader(true, Binary, f.Uint64()>>(1+f.IntN(60)))...)
	case 9:
		f.message(Binary, f.text(size), 1)
		f.wire = f.wire[:len(f.wire)-f.IntN(size+1)]
		return
	case 10:
		reserved := []int{1, 2, 4, 7}[f.IntN(4)]
		f.frame(Header{Fin: true, RSV1: reserved&4 > 0, RSV2: reserved&2 > 0, RSV3: reserved&1 > 0, Opcode: []Opcode{Text, Binary}[f.IntN(2)]}, f.text(size))
	}
	f.message(Binary, "after it", 1)
}

// stream returns what a client sends: messages and control frames, and a violation at
// the end.
func (f *streamGenerator) stream() []byte {
	size := func() int {
		if f.IntN(3) > 0 {
			return f.IntN(200)
		}
		return edgeLengths[f.IntN(len(edgeLengths))]
	}
	for range f.IntN(20) {
		switch f.IntN(6) {
		case 0:
			f.control()
		case 1:
			f.message(Text, f.text(size()), 1+f.IntN(5))
		default:
			f.message([]Opcode{Text, Binary}[f.IntN(2)], f.text(size()), 1)
		}
	}
	f.violation(size())
	return f.wire
}

// cut cuts the stream into segments of all sizes, with deadlines that expire in between.
func (f *streamGenerator) cut(deadlines bool) (cut [][]byte) {
	for wire := f.wire; len(wire) > 0; {
		n := min(len(wire), 1+f.IntN([]int{10, 200, 9000, 90000}[f.IntN(4)]))
		cut = append(cut, wire[:n])
		wire = wire[n:]
		if deadlines && f.IntN(3) == 0 {
			cut = append(cut, nil)
		}
	}
	return cut
}

// transcript receives the messages of c in several ways, in turn, and describes everything
// that the handler and the peer get. ways are indexes of receivers.
func transcript(t *testing.T, c *Conn, s scriptSocket, ways []int) string {
	var b strings.Builder
	note := func(what any, data []byte) {
		sum := fnv.New64a()
		sum.Write(data)
		fmt.Fprintf(&b, "%v of %d bytes, %x\n", what, len(data), sum.Sum64())
	}
	for i := 0; ; i++ {
		op, data, err := receivers[ways[i%len(ways)]].receive(c, new(int))
		if err != nil {
			fmt.Fprintln(&b, err)
			break
		}
		note(op, data)
		c.SendMessage(op, data[:min(len(data), 70)])
	}
	c.Close(StatusNormalClosure, "")
	for _, f := range s.frames(t) {
		note(f.Opcode, f.Payload)
	}
	return b.String()
}

// The result is the same for every way to receive, for every way in which the stream is
// cut into segments, and wherever deadlines expire. So the fast path for messages that
// are in the buffer as a whole is equivalent to the general one.
func TestReceivers_are_equivalent(t *testing.T) {
	t.Parallel()
	like, _ := newTCPConn(t)
	if !like.socket.waitsWithoutBuffer() {
		t.Skip("this platform waits with a buffer")
	}
	const seeds, parts = 100, 4
	for part := range uint64(parts) {
		t.Run(fmt.Sprintf("part %d", part), func(t *testing.T) {
			computes(t)
			for seed := part; seed < seeds; seed += parts {
				checkReceivers(t, like, seed)
			}
		})
	}
}

// checkReceivers compares the ways to receive for the stream of a seed.
func checkReceivers(t *testing.T, like *Conn, seed uint64) {
	f := &streamGenerator{Rand: rand.New(rand.NewPCG(seed, 0))}
	wire := f.stream()
	var opts []Option
	if f.IntN(3) == 0 {
		opts = []Option{MaxFrameSize(int64(1 + edgeLengths[f.IntN(len(edgeLengths))])), MaxMessageSize(int64(1 + edgeLengths[f.IntN(len(edgeLengths))])), MaxFragments(1 + f.IntN(3))}
	}
	ways := [][]int{{0}, {1}, {0, 1, 2, 3, 0, 0, 3, 1}}[f.IntN(3)]
	cuts := [][][]byte{segments(wire), f.cut(false), f.cut(true)}
	if len(wire) < 4000 {
		cuts = append(cuts, oneByOne(wire))
	}
	want := "" // of ReceiveFragments, which has no fast path
	synctest.Test(t, func(t *testing.T) {
		c, s := newScriptConn(t, segments(wire), opts...)
		want = transcript(t, c, s, []int{3})
	})
	for i, cut := range cuts {
		for _, ready := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var c *Conn
				var s scriptSocket
				if ready {
					c, s = newReadyConn(t, like.NetConn(), cut, opts...)
				} else {
					c, s = newScriptConn(t, cut, opts...)
				}
				got := transcript(t, c, s, ways)
				if got != want {
					t.Fatalf("seed %d, ways %v, cut %d, ready %t: got\n%s\nwant\n%s", seed, ways, i, ready, got, want)
				}
			})
		}
	}
}
