package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// inflate decodes a message in one call.
func inflate(src []byte, max int64) ([]byte, error) {
	var d Decoder
	d.Reset(max)
	return d.Append(nil, src, true)
}

// inflateStream decodes a message with Read, with the given sizes of the input and the output. Every third time, the
// output has only a byte.
func inflateStream(src []byte, max int64, in, out int) ([]byte, error) {
	var d Decoder
	d.Reset(max)
	var got []byte
	buf := make([]byte, out)
	for i := 0; ; i++ {
		p := buf
		if i%3 == 0 {
			p = buf[:1]
		}
		chunk := src[:min(in, len(src))]
		n, used, err := d.Read(p, chunk, len(chunk) == len(src))
		got = append(got, p[:n]...)
		src = src[used:]
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if n == 0 && used == 0 && len(chunk) > 0 {
			return got, errors.New("Read makes no progress")
		}
	}
}

// reference decodes a message with compress/flate. It accepts a message without the header of the empty block, too.
func reference(src []byte) ([]byte, error) {
	const final = "\x01\x00\x00\xff\xff"
	got, err := blocks(append(bytes.Clone(src), messageTail+final...))
	if err != nil {
		// The bits above the lowest three are padding only if these three are the header.
		before, _ := blocks(src)
		if short, err := blocks(append(bytes.Clone(src), "\xf8"+messageTail+final...)); err == nil && len(short) == len(before) {
			return short, nil
		}
		return got, err
	}
	// If the message ends inside a stored block, the block may have just the bytes of final.
	if whole, _ := blocks(append(bytes.Clone(src), messageTail...)); len(whole) != len(got) {
		return whole, io.ErrUnexpectedEOF
	}
	return got, nil
}

// blocks decodes src with compress/flate. Behind a block with BFINAL it continues with the next byte.
func blocks(src []byte) ([]byte, error) {
	in := bytes.NewReader(src)
	var got []byte
	for in.Len() > 0 {
		r := flate.NewReaderDict(in, got[max(0, len(got)-windowSize):])
		b, err := io.ReadAll(r)
		got = append(got, b...)
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// stdWriters are writers of compress/flate for each level, because each has about a megabyte.
var stdWriters [flate.BestCompression + 1 - flate.HuffmanOnly]sync.Pool

// deflateStd compresses src with compress/flate as a message.
func deflateStd(tb testing.TB, src []byte, level int) []byte {
	tb.Helper()
	var b bytes.Buffer
	pool := &stdWriters[level-flate.HuffmanOnly]
	w, ok := pool.Get().(*flate.Writer)
	if !ok {
		var err error
		if w, err = flate.NewWriter(&b, level); err != nil {
			tb.Fatal(err)
		}
	}
	defer pool.Put(w)
	w.Reset(&b)
	if _, err := w.Write(src); err != nil {
		tb.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte(messageTail))
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// texts are messages of many kinds.
func texts() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	few := make([]byte, 5000)
	for i := range few {
		few[i] = "abcdefgh"[int(min(7, r.ExpFloat64()*2))]
	}
	// Literals with frequencies that double, so that their codes are longer than the index of the table.
	var skewed []byte
	for i := range 14 {
		skewed = append(skewed, bytes.Repeat([]byte{byte('A' + i)}, 1<<i)...)
	}
	r.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	// More matches than an Encoder puts into one block.
	var short []byte
	for range 7000 {
		at := 5 * r.IntN(200)
		short = append(short, random[at:at+5]...)
	}
	far := append(append(bytes.Clone(random[:1000]), make([]byte, windowSize-1000)...), random[:1000]...)
	return map[string][]byte{
		"empty": nil, "one byte": []byte("x"), "random": random, "few symbols": few, "skewed": skewed,
		"zeros": make([]byte, 100000), "largest distance": far, "far": bytes.Repeat(random, 12), "farther": bytes.Repeat(far[:30000], 3),
		"short matches": short,
		"json":          ticks(1)[0], "chat": longChat(1)[0], "many": bytes.Join(ticks(300), nil),
	}
}

func TestDecoder_messages_of_compress_flate(t *testing.T) {
	var d Decoder // one for all messages, so that bytes of an earlier message would be noticed
	all := texts()
	step := 1
	if wstest.RaceEnabled() {
		step = 4
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want := all[name]
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level += step {
			t.Run(fmt.Sprint(name, " at level ", level), func(t *testing.T) {
				src := deflateStd(t, want, level)
				d.Reset(int64(len(want)))
				got, err := d.Append(nil, src, true)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
				}
				for _, sizes := range [][2]int{{1, 100}, {3, 1}, {1000, 700}, {1 << 20, 40000}} {
					got, err = inflateStream(src, int64(len(want)), sizes[0], sizes[1])
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d: got %d bytes, %v; want %d", sizes, len(got), err, len(want))
					}
				}
			})
		}
	}
}

func TestDecoder_message_cut_at_every_byte(t *testing.T) {
	want := longChat(1)[0]
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		src := deflateStd(t, want, level)
		var d Decoder
		for i := range len(src) + 1 {
			d.Reset(int64(len(want)))
			dst, err := d.Append([]byte("before "), src[:i], false)
			if err == nil {
				dst, err = d.Append(dst, nil, false)
			}
			if err == nil {
				dst, err = d.Append(dst, src[i:], true)
			}
			if err != nil || string(dst) != "before "+string(want) {
				t.Fatalf("level %d, cut at %d: got %q, %v", level, i, dst, err)
			}
			// Without its rest, the message is an error, except where a block ends.
			got, err := inflate(src[:i], -1)
			want, wantErr := reference(src[:i])
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("level %d, only %d bytes: got %q, %v; compress/flate %q, %v", level, i, got, err, want, wantErr)
			}
		}
	}
}

func TestDecoder_limit(t *testing.T) {
	for name, text := range map[string][]byte{"chat": longChat(1)[0], "zeros": make([]byte, 1000), "stored": texts()["random"][:1000]} {
		src := deflateStd(t, text, 6)
		for max := range int64(len(text) + 3) {
			got, err := inflate(src, max)
			fits := max >= int64(len(text))
			if fits && (err != nil || !bytes.Equal(got, text)) || !fits && err != ErrTooLarge {
				t.Fatalf("%s, limit %d: got %d bytes, %v", name, max, len(got), err)
			}
			if int64(len(got)) > max || int64(cap(got)) > max {
				t.Fatalf("%s, limit %d: got %d bytes with a capacity of %d", name, max, len(got), cap(got))
			}
			got, err = inflateStream(src, max, 100, 300)
			if fits && (err != nil || !bytes.Equal(got, text)) || !fits && err != ErrTooLarge {
				t.Fatalf("%s, limit %d, streaming: got %d bytes, %v", name, max, len(got), err)
			}
		}
	}
}

// A message that inflates to 1 GiB takes no more memory than its limit, and no more than a window when it is read in pieces.
func TestDecoder_bomb(t *testing.T) {
	block := deflateStd(t, make([]byte, 1<<20), 9)
	block = append(block, messageTail...)
	var d Decoder
	d.Reset(3 << 20)
	var dst []byte
	var err error
	for i := 0; err == nil; i++ {
		if i > 4 {
			t.Fatal("the limit has no effect")
		}
		dst, err = d.Append(dst, block, false)
	}
	if err != ErrTooLarge || cap(dst) > 3<<20 {
		t.Errorf("got %v and a capacity of %d", err, cap(dst))
	}
	d.Reset(-1)
	p := make([]byte, 4096)
	var all int
	allocated := testing.AllocsPerRun(1, func() {
		for range 32 {
			for rest := block; len(rest) > 0; {
				n, used, err := d.Read(p, rest, false)
				if err != nil {
					t.Fatal(err)
				}
				all += n
				rest = rest[used:]
			}
		}
	})
	if want := 2 * 32 << 20; all > want || all < want-4096 || allocated > 1 && !wstest.RaceEnabled() {
		t.Errorf("got %d bytes with %v allocations; want %d", all, allocated, want)
	}
}

func TestDecoder_keeps_the_bytes_before_the_message(t *testing.T) {
	text := longChat(1)[0]
	src := deflateStd(t, text, 6)
	before := bytes.Repeat([]byte("before"), 100)
	dst := append(make([]byte, 0, 4000), before...)
	var d Decoder
	d.Reset(int64(len(text)))
	got, err := d.Append(dst, src, true)
	if err != nil || !bytes.Equal(got, append(bytes.Clone(before), text...)) {
		t.Errorf("got %q, %v", got, err)
	}
	if &got[0] != &dst[0] {
		t.Error("the result is not in dst, which has room for it")
	}
	// A distance into the bytes before the message is an error, also with room for many more bytes.
	for literals := range 30 {
		b := new(bitWriter)
		b.bits(2, 3)
		b.literal('a')
		b.match(3, 2)
		for range literals {
			b.literal('b')
		}
		b.code(0, 7)
		b.bits(0, 3)
		d.Reset(-1)
		if got, err := d.Append(dst, b.done(), true); err == nil {
			t.Errorf("a distance before the message: got %q", got[len(dst):])
		}
	}
}

func TestDecoder_is_small_and_does_not_allocate(t *testing.T) {
	if size := unsafe.Sizeof(Decoder{}); size > 8<<10 {
		t.Errorf("a Decoder has %d bytes, want at most 8 KiB", size)
	}
	text := longChat(1)[0]
	src := deflateStd(t, text, 6)
	dst := make([]byte, 0, 4096)
	var d Decoder
	if n := testing.AllocsPerRun(100, func() {
		d.Reset(4096)
		if _, err := d.Append(dst, src, true); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("Append: got %v allocations", n)
	}
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		d.Reset(4096)
		for rest := src; ; {
			_, used, err := d.Read(p, rest, true)
			rest = rest[used:]
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}); n > 0 && !wstest.RaceEnabled() { // the detector empties pools
		t.Errorf("Read: got %v allocations", n)
	}
}

// agree fails the test if the Decoder and compress/flate do not agree about a message.
func agree(t *testing.T, src []byte, in, out int) {
	t.Helper()
	const limit = 1 << 20
	got, err := inflate(src, limit)
	if err == ErrTooLarge {
		return
	}
	streamed, streamErr := inflateStream(src, limit, in, out)
	if (err == nil) != (streamErr == nil) || err == nil && !bytes.Equal(got, streamed) {
		t.Fatalf("%x: Append %x, %v; Read with %d and %d bytes %x, %v", src, got, err, in, out, streamed, streamErr)
	}
	want, wantErr := reference(src)
	var corrupt *CorruptError
	if wantErr == nil && errors.As(err, &corrupt) && (strings.Contains(corrupt.Reason, "code length code") || strings.Contains(corrupt.Reason, "for its end")) {
		return // compress/flate accepts these, zlib does not
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%x: got %x, %v; compress/flate %x, %v", src, got, err, want, wantErr)
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Fatalf("%x: got %x; compress/flate %x", src, got, want)
	}
}

func TestDecoder_agrees_with_compress_flate_about_damaged_messages(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, text := range texts() {
		text = text[:min(len(text), 1500)]
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6} {
			src := deflateStd(t, text, level)
			for range 60 {
				b := bytes.Clone(src)
				for range 1 + r.IntN(2) {
					b[min(r.IntN(len(b)), r.IntN(len(b)))] ^= 1 << r.IntN(8)
				}
				agree(t, b, 1+r.IntN(20), 1+r.IntN(300))
			}
		}
	}
	for range 3000 {
		b := make([]byte, 1+r.IntN(60))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] = b[0]&^7 | byte(r.IntN(6))
		agree(t, b, 1+r.IntN(20), 1+r.IntN(300))
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), uint8(0), uint16(0))
	f.Fuzz(func(t *testing.T, src []byte, in uint8, out uint16) {
		agree(t, src, 1+int(in), 1+int(out))
	})
}
