package load

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// Offer returns the extensions that a client offers for the service with this path. The client
// never refers to its earlier messages, because all connections send the same prepared frames.
func Offer(path string) string {
	switch path {
	case servers.DeflatePath:
		return "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	case servers.TakeoverPath, servers.QuietPath:
		return "permessage-deflate; client_no_context_takeover"
	}
	return ""
}

// checkAgreement checks the answer to the offer for path: a server that does not compress, or
// not as the row says, would be compared with others that do.
func checkAgreement(path string, res []byte) error {
	res = bytes.ToLower(res)
	if Offer(path) != "" && !bytes.Contains(res, []byte("\nsec-websocket-extensions: permessage-deflate")) {
		return fmt.Errorf("handshake: got the response %q, want permessage-deflate", res)
	}
	alone := bytes.Contains(res, []byte("server_no_context_takeover"))
	if path == servers.DeflatePath && !alone || path == servers.TakeoverPath && alone {
		return fmt.Errorf("handshake for %s: got the response %q, with the wrong context takeover", path, res)
	}
	return nil
}

// deflates returns the workloads with permessage-deflate.
func deflates() []Workload {
	var all []Workload
	for _, path := range []string{servers.TakeoverPath, servers.DeflatePath} {
		for _, size := range []int{tickSize, 1 << 10, 16 << 10} {
			w := Workload{
				Name:  fmt.Sprintf("deflate-%s-64c", SizeName(size)),
				Group: "Compressed JSON", Kind: Echo, Conns: 64, Size: size, Text: JSON, Burst: 1, Service: path,
			}
			if path == servers.TakeoverPath {
				w.Name = "deflate-takeover-" + SizeName(size) + "-64c"
			}
			all = append(all, w)
		}
	}
	return append(all, Workload{
		Name: "deflate-idle-500c", Group: "Idle with compression", Kind: Idle, Conns: 500, Size: tickSize, Text: JSON,
		Burst: 1, Service: servers.QuietPath, Echoes: 10, Quiet: 3 * servers.QuietPing,
	})
}

// tickSize is the usual size of a price in JSON.
const tickSize = 244

// historySize is more than any window of a compressor. So no message finds itself in it when
// its turn comes again.
const historySize = 128 << 10

// A corpus holds different messages and the frames in which a client sends them.
type corpus struct{ messages, frames [][]byte }

// newCorpus returns messages of about size bytes. They are the same in every process.
func newCorpus(size int) *corpus {
	random := rand.New(rand.NewPCG(7692, 13))
	c := new(corpus)
	compress, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	for i := range max(16, historySize/size) {
		var m []byte
		switch {
		case size <= tickSize:
			m = appendTick(nil, i, random)
		case size <= 1<<10:
			m = appendChat(nil, i, random)
		default:
			m = []byte("[")
			for len(m) < size-tickSize/2 {
				m = append(appendTick(m, i*100+len(m)/tickSize, random), ',')
			}
			m[len(m)-1] = ']'
		}
		c.messages = append(c.messages, m)
		c.frames = append(c.frames, appendMasked(nil, fin|rsv1|1, deflate(compress, m), random.Uint32()))
	}
	return c
}

// CompressedFrames returns the frames that a client of w sends in turn, if w has compression.
func (w Workload) CompressedFrames() [][]byte { return newCorpus(w.Size).frames }

// appendTick appends a price of a market feed.
func appendTick(dst []byte, i int, random *rand.Rand) []byte {
	symbols := []string{"BTC-USD", "ETH-USD", "SOL-EUR", "ADA-EUR", "XRP-USD"}
	price := 100 + random.Float64()*60000
	return fmt.Appendf(dst, `{"type":"ticker","sequence":%d,"product_id":"%s","price":"%.2f","open_24h":"%.2f",`+
		`"best_bid":"%.2f","best_ask":"%.2f","side":"%s","time":"2026-05-14T12:%02d:%02d.%06dZ","trade_id":%d,"last_size":"%.8f"}`,
		37475248783+int64(i), symbols[random.IntN(len(symbols))], price, price*1.02, price-0.01, price+0.01,
		[]string{"buy", "sell"}[random.IntN(2)], i/60%60, i%60, random.IntN(1000000), 370843401+i, random.Float64())
}

var chatWords = bytes.Fields([]byte(`the a to of and is that it in you for on have with this be are not we can they what do at
	but if was so there just like about would think know when people really going time make good want some more how
	because than other could into should after then work look need new back where these first please thanks meeting
	server deploy release tomorrow morning question answer problem channel message update broken fixed review`))

// appendChat appends a long event of a chat. Frequent words come first in chatWords.
func appendChat(dst []byte, i int, random *rand.Rand) []byte {
	users := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}
	user := random.IntN(len(users))
	dst = fmt.Appendf(dst, `{"event":"message","room":"general","id":"%016x","user":{"id":%d,"name":"%s"},"ts":%d,"edited":false,"text":"`,
		random.Uint64(), 1000+user, users[user], 1778760000000+int64(i)*1371)
	for range 120 + random.IntN(190) {
		dst = append(dst, chatWords[int(float64(len(chatWords))*random.Float64()*random.Float64())]...)
		dst = append(dst, ' ')
	}
	return append(dst, `"}`...)
}

// syncTail is what RFC 7692 section 7.2.1 removes from the end of a compressed message.
const syncTail = "\x00\x00\xff\xff"

// deflate compresses m on its own.
func deflate(w *flate.Writer, m []byte) []byte {
	var b bytes.Buffer
	w.Reset(&b)
	w.Write(m) // a bytes.Buffer takes everything
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(syncTail))
}

// Bits of the first byte of a frame, and the opcode of a ping.
const (
	fin        = 0x80
	rsv1       = 0x40
	pingOpcode = 9
)

// A compressed holds what a stream needs for compressed messages. It sends the messages of the
// corpus in turn, and counts the bytes of the answers.
type compressed struct {
	*corpus
	next     int // the message that is sent next
	takeover bool
	in       *bufio.Reader
	bytes    int64 // in all frames that were received

	// Only a stream that verifies keeps these. So all runs that verify must come first.
	received []byte
	window   []byte // what a message with context takeover can refer to
}

func newCompressed(c *corpus, conn net.Conn, path string) *compressed {
	return &compressed{corpus: c, in: bufio.NewReader(conn), takeover: path != servers.DeflatePath}
}

// frame returns the next message that is sent.
func (c *compressed) frame() []byte {
	f := c.frames[c.next%len(c.frames)]
	c.next++
	return f
}

// receive reads the answer to the last message.
func (c *compressed) receive(verify bool) error {
	c.received = c.received[:0]
	deflated := false
	for first := true; ; {
		head, err := c.readFrame(verify)
		if err != nil {
			return fmt.Errorf("receiving the answer to the message %d: %w", c.next, err)
		}
		if head == fin|pingOpcode {
			continue // only in QuietPath, whose server does not insist on an answer so soon
		}
		if op := head & 0x0f; first && op != 1 || !first && op != 0 {
			return fmt.Errorf("got a frame with the opcode %d in the answer to the message %d", op, c.next)
		}
		first = false
		deflated = deflated || head&rsv1 != 0
		if head&fin != 0 {
			break
		}
	}
	if !verify {
		return nil
	}
	return c.check(deflated)
}

// readFrame reads a frame and returns its first byte. With keep it appends the payload to
// c.received, unless the frame is a ping.
func (c *compressed) readFrame(keep bool) (byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:2]); err != nil {
		return 0, err
	}
	size, header := int(head[1]), 2
	if size > 126 {
		return 0, fmt.Errorf("got a frame with the length %d in its header, want less than 64 KiB and no mask", size)
	}
	if size == 126 {
		if _, err := io.ReadFull(c.in, head[2:]); err != nil {
			return 0, err
		}
		size, header = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	c.bytes += int64(header + size)
	if !keep || head[0] == fin|pingOpcode {
		_, err := c.in.Discard(size)
		return head[0], err
	}
	n := len(c.received)
	c.received = slices.Grow(c.received, size)[:n+size]
	_, err := io.ReadFull(c.in, c.received[n:])
	return head[0], err
}

// check compares the answer with the last message.
func (c *compressed) check(deflated bool) error {
	got := c.received
	if deflated {
		var err error
		// The second tail is a last block that is empty, without which there is no io.EOF.
		tail := syncTail + "\x01\x00\x00\xff\xff"
		r := flate.NewReaderDict(io.MultiReader(bytes.NewReader(c.received), bytes.NewReader([]byte(tail))), c.window)
		if got, err = io.ReadAll(r); err != nil {
			return fmt.Errorf("inflating the answer to the message %d: %w", c.next, err)
		}
		if c.takeover {
			c.window = append(c.window, got...)
			c.window = append([]byte(nil), c.window[max(0, len(c.window)-32<<10):]...)
		}
	}
	if want := c.messages[(c.next-1)%len(c.messages)]; !bytes.Equal(got, want) {
		return fmt.Errorf("the answer to the message %d is %.50q, want %.50q", c.next, got, want)
	}
	return nil
}

// Received returns the bytes that were received on connections with compression, with the
// headers of the frames.
func (g *Generator) Received() (n int64) {
	for _, s := range g.streams {
		if s.compressed != nil {
			n += s.compressed.bytes
		}
	}
	return n
}

// PayloadSize returns the mean size of the messages of w before they are compressed.
func (w Workload) PayloadSize() float64 {
	if w.Text != JSON {
		return float64(w.Size)
	}
	n, all := 0, newCorpus(w.Size).messages
	for _, m := range all {
		n += len(m)
	}
	return float64(n) / float64(len(all))
}
