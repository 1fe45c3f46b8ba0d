package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"
)

// A peer inflates the messages of one Encoder as a client does that has agreed to a window: one stream with
// compress/flate, and a decoder of its own that checks each distance.
type peer struct {
	windowBits int
	in         bytes.Buffer
	flate      io.Reader
	history    []byte
}

func newPeer(windowBits int) *peer {
	p := &peer{windowBits: windowBits}
	p.flate = flate.NewReader(&p.in)
	return p
}

// receive returns an error if the message is not want, or refers to bytes that the peer does not have any more.
func (p *peer) receive(msg, want []byte) error {
	p.in.Write(msg)
	p.in.WriteString(messageTail)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.flate, got); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("compress/flate: got %d bytes with a difference at %d, %v", len(got), difference(got, want), err)
	}
	before := len(p.history)
	var err error
	if p.history, err = strictInflate(p.history, msg, 1<<p.windowBits); err != nil {
		return fmt.Errorf("strict decoder: %w", err)
	}
	if !bytes.Equal(p.history[before:], want) {
		got := p.history[before:]
		return fmt.Errorf("strict decoder: got %d bytes with a difference at %d; want %d", len(got), difference(got, want), len(want))
	}
	if window := 1 << p.windowBits; len(p.history) > window {
		p.history = append(p.history[:0], p.history[len(p.history)-window:]...)
	}
	return nil
}

// difference returns where a and b differ.
func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// strictInflate appends the message to history. It is the simplest decoder that there is: it shares no code with
// Decoder, except its tables of lengths.
func strictInflate(history, msg []byte, window int) ([]byte, error) {
	b := &bitReader{in: append(bytes.Clone(msg), messageTail...)}
	for b.pos < 8*len(b.in) {
		if b.take(1) == 1 {
			return history, errors.New("BFINAL")
		}
		var lit, dist map[[2]int]int
		switch b.take(2) {
		case 0:
			b.pos = (b.pos + 7) &^ 7
			n := b.take(16)
			if b.take(16) != n^0xffff {
				return history, errors.New("the length of a stored block")
			}
			for range n {
				history = append(history, byte(b.take(8)))
			}
			continue
		case 1:
			lit, dist = fixedMaps()
		case 2:
			lit, dist = b.header()
		default:
			return history, errors.New("block type 3")
		}
		for {
			symbol := b.symbol(lit)
			if symbol < 256 && symbol >= 0 {
				history = append(history, byte(symbol))
				continue
			}
			if symbol == 256 {
				break
			}
			if symbol < 0 || symbol > 285 {
				return history, errors.New("a literal or length code")
			}
			n, extra := lengthBase(symbol)
			n += b.take(extra)
			d := b.symbol(dist)
			if d < 0 || d > 29 {
				return history, errors.New("a distance code")
			}
			if d >= 4 {
				d = (2+d%2)<<(d/2-1) + b.take(d/2-1)
			}
			if d+1 > window || d+1 > len(history) {
				return history, fmt.Errorf("distance %d with a window of %d and a history of %d", d+1, window, len(history))
			}
			for range n {
				history = append(history, history[len(history)-d-1])
			}
		}
	}
	return history, nil
}

var fixedMaps = sync.OnceValues(func() (lit, dist map[[2]int]int) {
	var lens [numLit]int
	for i := range lens {
		lens[i] = int(fixedBits(i))
	}
	lit = codeMap(lens[:])
	for i := range numDist {
		lens[i] = 5
	}
	return lit, codeMap(lens[:numDist])
})

// A bitReader reads bits; behind the end of its input they are 0.
type bitReader struct {
	in  []byte
	pos int
}

func (b *bitReader) take(n int) (v int) {
	for i := range n {
		if at := b.pos / 8; at < len(b.in) {
			v |= int(b.in[at]>>(b.pos%8)&1) << i
		}
		b.pos++
	}
	return v
}

func (b *bitReader) symbol(codes map[[2]int]int) int {
	code := 0
	for n := 1; n <= maxBits; n++ {
		code = code<<1 | b.take(1)
		if symbol, ok := codes[[2]int{n, code}]; ok {
			return symbol
		}
	}
	return -1
}

// codeMap returns the symbols by the length and the bits of their codes.
func codeMap(lens []int) map[[2]int]int {
	codes := make(map[[2]int]int)
	code := 0
	for n := 1; n <= maxBits; n++ {
		for symbol, l := range lens {
			if l == n {
				codes[[2]int{n, code}] = symbol
				code++
			}
		}
		code <<= 1
	}
	return codes
}

func (b *bitReader) header() (lit, dist map[[2]int]int) {
	lits, dists, lens := b.take(5)+257, b.take(5)+1, b.take(4)+4
	var first [numLens]int
	for i := range lens {
		first[lensOrder[i]] = b.take(3)
	}
	codes := codeMap(first[:])
	var all []int
	for len(all) < lits+dists {
		symbol := b.symbol(codes)
		n, value := 1, symbol
		switch symbol {
		case -1:
			return nil, nil
		case 16:
			n, value = 3+b.take(2), all[len(all)-1]
		case 17:
			n, value = 3+b.take(3), 0
		case 18:
			n, value = 11+b.take(7), 0
		}
		for range n {
			all = append(all, value)
		}
	}
	return codeMap(all[:lits]), codeMap(all[lits:])
}

// streams are series of messages, each for one connection.
func streams() map[string][][]byte {
	r := rand.New(rand.NewPCG(9, 10))
	var mixed, pieces [][]byte
	all := texts()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mixed = append(mixed, all[name])
	}
	text := bytes.Join(longChat(300), nil)
	for range 600 {
		// Pieces of one text repeat at all distances.
		at, n := r.IntN(len(text)/4), r.IntN(3000)
		pieces = append(pieces, text[at:at+n])
		if n%5 == 0 {
			random := make([]byte, r.IntN(10000))
			for i := range random {
				random[i] = byte(r.Uint32())
			}
			pieces = append(pieces, random)
		}
	}
	mixed = append(mixed, mixed...)
	return map[string][][]byte{"ticks": ticks(1000), "chat": chat(1000), "long chat": longChat(200), "mixed": mixed, "pieces": pieces}
}

func TestEncoder_takeover(t *testing.T) {
	for name, messages := range streams() {
		for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
			t.Run(fmt.Sprintf("%s with %d bits", name, windowBits), func(t *testing.T) {
				t.Parallel()
				var e Encoder
				e.Reset(windowBits)
				p := newPeer(windowBits)
				for i, src := range messages {
					dst := []byte("before")
					out, ok := e.Append(dst, src)
					if !bytes.HasPrefix(out, dst) || !ok && len(out) != len(dst) || ok && len(out) >= len(dst)+len(src) {
						t.Fatalf("message %d of %d bytes: got %d bytes, %v", i, len(src), len(out), ok)
					}
					if !ok {
						continue
					}
					if err := p.receive(out[len(dst):], src); err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
				}
			})
		}
	}
}

func TestEncoder_Forget(t *testing.T) {
	for _, takeover := range []string{"Forget", "Reset"} {
		var e Encoder
		e.Reset(MaxWindowBits)
		for i, src := range chat(300) {
			if takeover == "Forget" {
				e.Forget()
			} else {
				e.Reset(MinWindowBits + i%5)
			}
			out, ok := e.Append(nil, src)
			if !ok {
				continue
			}
			if err := newPeer(MaxWindowBits).receive(out, src); err != nil {
				t.Fatalf("%s, message %d: %v", takeover, i, err)
			}
		}
	}
}

// A message that is not sent compressed does not become part of the history, and does not shorten it either.
func TestEncoder_history_without_incompressible_messages(t *testing.T) {
	random := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(11, 12))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for _, size := range []int{0, 1, 2, 3, 10, 100, 4000, 4096, 8192, 9000, len(random)} {
		for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
			var e Encoder
			e.Reset(windowBits)
			p := newPeer(windowBits)
			for i, src := range ticks(60) {
				out, ok := e.Append(nil, src)
				if !ok {
					if i > 0 {
						t.Fatalf("%d bits: message %d is not compressed", windowBits, i)
					}
					continue
				}
				if windowBits > 9 && i > 20 && len(out) > len(src)*7/10 {
					t.Errorf("%d bits, random messages of %d bytes: message %d has %d of %d bytes", windowBits, size, i, len(out), len(src))
				}
				if err := p.receive(out, src); err != nil {
					t.Fatalf("%d bits, random messages of %d bytes, message %d: %v", windowBits, size, i, err)
				}
				if out, ok := e.Append(nil, random[:size]); ok {
					t.Fatalf("%d random bytes: got %d", size, len(out))
				}
			}
		}
	}
}

func TestEncoder_Append_uses_the_capacity(t *testing.T) {
	var e Encoder
	e.Reset(MaxWindowBits)
	dst := make([]byte, 3, 1000)
	for i, src := range ticks(10) {
		if out, ok := e.Append(dst, src); ok && &out[0] != &dst[0] {
			t.Errorf("message %d: the result is not in dst, which has room for it", i)
		}
	}
}

func TestEncoder_is_small_and_does_not_allocate(t *testing.T) {
	for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
		var e Encoder
		e.Reset(windowBits)
		size := int(unsafe.Sizeof(e)) + cap(e.buf) + 2*cap(e.table)
		if want := 3<<windowBits + 128; size > want {
			t.Errorf("%d bits: an Encoder has %d bytes, want at most %d", windowBits, size, want)
		}
		messages := longChat(20)
		dst := make([]byte, 0, 4096)
		if n := testing.AllocsPerRun(10, func() {
			for _, src := range messages {
				e.Append(dst, src)
			}
			e.Reset(windowBits)
		}); n > 0 {
			t.Errorf("%d bits: got %v allocations for each message", windowBits, n)
		}
	}
}

func TestEncoder_Reset_refuses_other_windows(t *testing.T) {
	for _, windowBits := range []int{-1, 0, 7, 13, 15} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bits: no panic", windowBits)
				}
			}()
			new(Encoder).Reset(windowBits)
		}()
	}
}

// The same bytes come out for the same messages, whatever the Encoder was used for before Reset.
func TestEncoder_Reset_makes_an_Encoder_as_new(t *testing.T) {
	var used, fresh Encoder
	used.Reset(MaxWindowBits)
	for _, src := range ticks(300) {
		used.Append(nil, src)
	}
	for _, windowBits := range []int{MaxWindowBits, 10} {
		used.Reset(windowBits)
		if slices.Max(used.table) > 0 {
			t.Errorf("%d bits: the table has positions of before Reset", windowBits)
		}
		fresh = Encoder{}
		fresh.Reset(windowBits)
		for i, src := range append(longChat(50), ticks(100)...) {
			got, _ := used.Append(nil, src)
			want, _ := fresh.Append(nil, src)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bits, message %d: got %x, want %x", windowBits, i, got, want)
			}
		}
	}
}

// TestEncoder_ratio keeps the sizes of compressed messages from growing.
func TestEncoder_ratio(t *testing.T) {
	tests := []struct {
		name             string
		messages         [][]byte
		most, mostForget float64 // percent
	}{
		{"ticks", ticks(500), 31, 73},
		{"chat", chat(500), 34, 77},
		{"long chat", longChat(500), 44, 50},
		{"zeros", [][]byte{make([]byte, 1<<20)}, 1, 1},
		{"large", [][]byte{bytes.Join(ticks(1000), nil)}, 20, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, forget := range []bool{false, true} {
				var e Encoder
				e.Reset(MaxWindowBits)
				var plain, sent, std int
				for _, src := range tt.messages {
					out, ok := e.Append(nil, src)
					if !ok {
						out = src
					}
					if forget {
						e.Forget()
						std += min(len(src), len(deflateStd(t, src, flate.BestSpeed)))
					}
					plain += len(src)
					sent += len(out)
				}
				want := tt.most
				if forget {
					want = tt.mostForget
				}
				got := 100 * float64(sent) / float64(plain)
				t.Logf("forget %v: %.2f %%, compress/flate %.2f %%", forget, got, 100*float64(std)/float64(plain))
				if got > want {
					t.Errorf("forget %v: got %.1f %%, want at most %.1f %%", forget, got, want)
				}
			}
		})
	}
}

// encodeAll sends data as messages, whose sizes are in it.
func encodeAll(t *testing.T, windowBits int, data []byte) {
	t.Helper()
	var e Encoder
	var d Decoder
	e.Reset(windowBits)
	p := newPeer(windowBits)
	for len(data) > 0 {
		n := min(len(data), 1+int(data[0])*8)
		src := data[:n]
		data = data[n:]
		forget := src[0]%16 == 0
		if forget {
			e.Forget()
		}
		out, ok := e.Append(nil, src)
		if !ok {
			continue
		}
		if err := p.receive(out, src); err != nil {
			t.Fatal(err)
		}
		if !forget {
			continue
		}
		d.Reset(int64(len(src)))
		if got, err := d.Append(nil, out, true); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("Decoder: got %q, %v; want %q", got, err, src)
		}
	}
}

func FuzzEncoder(f *testing.F) {
	f.Add(uint8(4), []byte("hello, hello, hello, hello, hello"))
	f.Fuzz(func(t *testing.T, windowBits uint8, data []byte) {
		encodeAll(t, MinWindowBits+int(windowBits)%(MaxWindowBits-MinWindowBits+1), data)
	})
}
