package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

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
				for i, src := range messages[:wstest.Scale(t, len(messages), len(messages)/5)] {
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
		for i, src := range chat(500) { // more than the 64 KiB after which the positions of the table repeat
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

// A message may be much larger than the buffer and a block, and some of its blocks may be incompressible.
func TestEncoder_large_message(t *testing.T) {
	random := texts()["random"]
	var src []byte
	for i := range 40 {
		if i%3 == 0 {
			src = append(src, bytes.Repeat(random, 5)...) // it repeats beyond the window
		} else {
			src = append(src, bytes.Join(ticks(10*i), nil)...)
		}
	}
	for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
		var e Encoder
		e.Reset(windowBits)
		out, ok := e.Append(nil, src)
		if !ok || len(out) > len(src)*3/4 {
			t.Fatalf("%d bits: got %d of %d bytes, %v", windowBits, len(out), len(src), ok)
		}
		if got, err := inflate(out, int64(len(src))); err != nil || !bytes.Equal(got, src) {
			t.Errorf("%d bits: got %d bytes, %v; want %d", windowBits, len(got), err, len(src))
		}
		// What Append writes, also with a message that it does not compress, is little more than the message.
		for _, src := range [][]byte{src, bytes.Repeat(random, 100), random[:4000], random[:20]} {
			room := len(src) + min(len(src)/8+64, 6000)
			dst := make([]byte, 0, room)
			for i := range dst[:room] {
				dst[:room][i] = 0xa5
			}
			if out, ok := e.Append(dst, src); ok && cap(out) != room {
				t.Errorf("%d bits: dst has grown from %d to %d bytes for a message of %d", windowBits, room, cap(out), len(src))
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
		}); n > 0 && !wstest.RaceEnabled() { // the detector empties pools
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
	if wstest.RaceEnabled() {
		t.Skip("the race detector finds nothing in the sizes, and takes long")
	}
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
		switch {
		case forget:
			e.Forget()
		case src[0]%16 == 1:
			learnAlone(t, &e, p, src)
			continue
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

// learnAlone sends src as a message that another Encoder has compressed, and e learns it.
func learnAlone(t *testing.T, e *Encoder, p *peer, src []byte) {
	t.Helper()
	var other Encoder
	other.Reset(p.windowBits)
	out, ok := other.Append(nil, src)
	if !ok {
		return
	}
	if err := p.receive(out, src); err != nil {
		t.Fatal(err)
	}
	e.Learn(src)
}

// Messages that another Encoder has compressed, of up to three windows, between those of the Encoder.
func TestEncoder_Learn(t *testing.T) {
	for name, messages := range streams() {
		for windowBits := MinWindowBits; windowBits <= MaxWindowBits; windowBits++ {
			t.Run(fmt.Sprintf("%s with %d bits", name, windowBits), func(t *testing.T) {
				t.Parallel()
				var e Encoder
				e.Reset(windowBits)
				p := newPeer(windowBits)
				r := rand.New(rand.NewPCG(uint64(windowBits), 1))
				all := bytes.Join(messages, nil)
				for i, src := range messages[:wstest.Scale(t, len(messages)/2, len(messages)/10)] {
					for range r.IntN(3) {
						from := r.IntN(len(all))
						learnAlone(t, &e, p, all[from:min(len(all), from+1+r.IntN(3<<windowBits))])
					}
					if r.IntN(20) == 0 {
						e.Forget()
					}
					out, ok := e.Append(nil, src)
					if !ok {
						continue
					}
					if err := p.receive(out, src); err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
				}
			})
		}
	}
}

// The next message refers to all bytes that Learn has added, as far as the window reaches.
func TestEncoder_Learn_is_the_history(t *testing.T) {
	random := make([]byte, 1<<MaxWindowBits)
	rand.NewChaCha8([32]byte{1}).Read(random)
	tests := []struct {
		name  string
		learn func(e *Encoder)
		from  int // of the message, in random
		most  int
	}{
		{"nothing", func(*Encoder) {}, 0, 99},
		{"one message", func(e *Encoder) { e.Learn(random[:100]) }, 0, 10},
		{"two messages", func(e *Encoder) { e.Learn(random[:50]); e.Learn(random[50:100]) }, 0, 15},
		{"a window", func(e *Encoder) { e.Learn(random) }, 0, 10},
		{"two windows, the first of them", func(e *Encoder) { e.Learn(random); e.Learn(make([]byte, len(random))) }, 0, 99},
		{"the end of two windows", func(e *Encoder) { e.Learn(append(make([]byte, len(random)), random...)) }, len(random) - 100, 10},
		{"Forget behind it", func(e *Encoder) { e.Learn(random[:100]); e.Forget() }, 0, 99},
		{"Reset behind it", func(e *Encoder) { e.Learn(random[:100]); e.Reset(MaxWindowBits) }, 0, 99},
		{"a compressed message behind it", func(e *Encoder) { e.Learn(random[:100]); e.Append(nil, make([]byte, 500)) }, 0, 10},
		{"an incompressible message behind it", func(e *Encoder) { e.Learn(random[:100]); e.Append(nil, random[1000:]) }, 0, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e Encoder
			e.Reset(MaxWindowBits)
			tt.learn(&e)
			out, ok := e.Append(nil, random[tt.from:tt.from+100])
			if tt.most == 99 {
				if ok {
					t.Fatalf("got %d bytes, want the message not to be compressed", len(out))
				}
			} else if !ok || len(out) > tt.most {
				t.Fatalf("got %d bytes and %v, want at most %d", len(out), ok, tt.most)
			}
		})
	}
}

func FuzzEncoder(f *testing.F) {
	f.Add(uint8(4), []byte("hello, hello, hello, hello, hello"))
	f.Add(uint8(0), []byte(strings.Repeat("\x01learned\x02sent", 100)))
	f.Fuzz(func(t *testing.T, windowBits uint8, data []byte) {
		encodeAll(t, MinWindowBits+int(windowBits)%(MaxWindowBits-MinWindowBits+1), data)
	})
}
