package utf8

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	std "unicode/utf8"

	"github.com/f44ffc3b/websocket/internal/asmtest"
)

// validPrefix reports whether b is the start of valid text, according to the standard
// library.
func validPrefix(b []byte) bool {
	for len(b) > 0 {
		r, size := std.DecodeRune(b)
		if r == std.RuneError && size == 1 {
			return !std.FullRune(b)
		}
		b = b[size:]
	}
	return true
}

// fillings surround the bytes under test. A text that begins with ASCII stays in the
// first loop of Check. The last filling puts ASCII after another character, so that
// checkBlocks gets it.
var fillings = []string{"a", "é", "日", "🙂", "é" + strings.Repeat("a", 300)}

// fill returns size bytes: copies of filling, and ASCII where no whole copy fits.
func fill(size int, filling string) string {
	text := strings.ToValidUTF8(strings.Repeat(filling, size/len(filling)+1)[:size], "")
	return text + strings.Repeat("z", size-len(text))
}

// compare checks b as a whole and byte by byte. Check must return false at the first
// byte that makes the text invalid.
func compare(t *testing.T, b []byte) {
	t.Helper()
	if got, want := Valid(b), std.Valid(b); got != want {
		t.Fatalf("Valid(% x): got %v, want %v", b, got, want)
	}
	var c Checker
	for i := range b {
		got, want := c.Check(b[i:i+1]), validPrefix(b[:i+1])
		if got != want {
			t.Fatalf("byte %d of % x: got %v, want %v", i, b, got, want)
		}
		if want := std.Valid(b[:i+1]); c.Complete() != want {
			t.Fatalf("Complete after byte %d of % x: got %v, want %v", i, b, !want, want)
		}
	}
}

func TestValid(t *testing.T) {
	for _, test := range []struct {
		name string
		text string
		want bool
	}{
		{"empty", "", true},
		{"ASCII with NUL and DEL", "a\x00\x7F", true},
		{"two bytes, lowest and highest", "\u0080\u07FF", true},
		{"three bytes, lowest and highest", "\u0800\uFFFF", true},
		{"on both sides of the surrogates", "\uD7FF\uE000", true},
		{"four bytes, lowest and highest", "\U00010000\U0010FFFF", true},
		{"byte order mark", "\uFEFFa", true},
		{"noncharacters", "\uFFFE\uFDD0\U0001FFFF", true},
		{"RFC 3629 section 7", "A\u2262\u0391. 日本語 \U000233B4", true},
		{"unexpected tail byte", "a\x80", false},
		{"overlong NUL", "\xC0\x80", false},
		{"overlong slash in two bytes", "\xC0\xAF", false},
		{"overlong DEL", "\xC1\xBF", false},
		{"overlong in three bytes", "\xE0\x9F\xBF", false},
		{"overlong in four bytes", "\xF0\x8F\xBF\xBF", false},
		{"first surrogate", "\xED\xA0\x80", false},
		{"last surrogate", "\xED\xBF\xBF", false},
		{"surrogate pair", "\xED\xA0\xBD\xED\xB8\x80", false},
		{"beyond U+10FFFF", "\xF4\x90\x80\x80", false},
		{"five bytes", "\xF8\x88\x80\x80\x80", false},
		{"FE and FF", "\xFE\xFF", false},
		{"Latin-1", "caf\xE9 au lait", false},
		{"cut in two bytes", "\xC3", false},
		{"cut in three bytes", "\xE2\x82", false},
		{"cut in four bytes", "\xF0\x9F\x99", false},
		{"lead instead of tail", "\xE2\x82\xC3\xA9", false},
		{"tail byte too many", "\xC3\xA9\xA9", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Valid([]byte(test.text)); got != test.want {
				t.Errorf("Valid(% x): got %v, want %v", test.text, got, test.want)
			}
			compare(t, []byte(test.text))
			asmtest.WithAndWithoutAVX2(t, func(t *testing.T) { compareAnywhere(t, test.text) })
		})
	}
}

// compareAnywhere checks b before, after and between other text, so that it comes
// at every place in a block and across every border between two blocks.
func compareAnywhere(t *testing.T, b string) {
	t.Helper()
	for _, filling := range fillings {
		for before := range 135 {
			text := fill(before, filling) + b
			for _, after := range []int{0, 9, 40, 130} {
				text := []byte(text + fill(after, filling))
				var c Checker
				if got, want := c.Check(text), validPrefix(text); got != want {
					t.Fatalf("Check(% x): got %v, want %v", text, got, want)
				}
				if got, want := c.Complete(), std.Valid(text); got != want {
					t.Fatalf("Complete after % x: got %v, want %v", text, got, want)
				}
			}
		}
	}
}

func TestChecker_agrees_with_the_standard_library(t *testing.T) {
	t.Run("all of one and two bytes", func(t *testing.T) {
		for a := range 256 {
			compare(t, []byte{byte(a)})
			for b := range 256 {
				compare(t, []byte{byte(a), byte(b)})
			}
		}
	})
	// Both ends of every range in the syntax of RFC 3629.
	edges := []byte{
		0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
		0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
	}
	t.Run("edges in three and four bytes", func(t *testing.T) {
		for _, a := range edges {
			for _, b := range edges {
				for _, c := range edges {
					compare(t, []byte{a, b, c})
					for _, d := range edges {
						compare(t, []byte{a, b, c, d})
					}
				}
			}
		}
	})
	t.Run("in a longer text", func(t *testing.T) {
		for a := range 256 {
			for b := range 256 {
				compareInASCII(t, []byte{byte(a), byte(b)})
			}
		}
		for _, a := range edges {
			for _, b := range edges {
				for _, c := range edges {
					compareInASCII(t, []byte{a, b, c})
					for _, d := range edges {
						compareInASCII(t, []byte{a, b, c, d})
					}
				}
			}
		}
	})
	t.Run("every character", func(t *testing.T) {
		var all []byte
		for r := range rune(std.MaxRune + 1) {
			if std.ValidRune(r) {
				all = std.AppendRune(all, r)
			}
		}
		asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
			if !Valid(all) {
				t.Errorf("got false for all %d characters in a row, want true", std.RuneCount(all))
			}
			for _, at := range []int{0, 40, 1<<20 - 3, 1<<20 - 2, 1<<20 - 1, 1 << 20, 2 << 20, 3<<20 + 1, len(all) - 1} {
				was := all[at]
				all[at] = 0xFF
				if Valid(all) {
					t.Errorf("got true with FF for byte %d of all characters, want false", at)
				}
				all[at] = was
			}
		})
	})
}

// compareInASCII checks b inside a block, at both ends of a block, and across two
// blocks.
func compareInASCII(t *testing.T, b []byte) {
	t.Helper()
	want := std.Valid(b)
	const size = 300
	text := []byte("é" + fill(size-len("é"), "a"))
	// Blocks begin at byte 3. In ASCII, they have 128 bytes from byte 131 on. The last
	// block ends with the text.
	for _, at := range []int{2, 32, 33, 34, 66, 130, 132, 164, 196, 228, size - len(b) - 1, size - len(b)} {
		copy(text[at:], b)
		if got := Valid(text); got != want {
			t.Fatalf("% x at %d of %d: got %v, want %v", b, at, size, got, want)
		}
		for i := range b {
			text[at+i] = 'a'
		}
	}
}

func TestChecker_in_pieces(t *testing.T) {
	const start = "plain ASCII for a while, then héllo wörld, привет, 日本語 and 🙂🙃"
	for _, test := range []struct{ name, text string }{
		{"valid", start + " and ASCII again to the end, but for a short word: größer, and 色は匂へど散りぬるを我が世誰ぞ"},
		{"surrogate", start + " and ASCII again \xED\xA0\x80 and ASCII again to the end of it, twice sixteen bytes at least."},
		{"cut at the end", start + start + ", and then an unfinished \xF0\x9F\x99"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asmtest.WithAndWithoutAVX2(t, func(t *testing.T) { compareInPieces(t, []byte(test.text)) })
		})
	}
}

// compareInPieces checks text in three pieces, cut at every two places.
func compareInPieces(t *testing.T, text []byte) {
	t.Helper()
	want := make([]bool, len(text)+1)
	for i := range want {
		want[i] = validPrefix(text[:i])
	}
	for i := range len(text) + 1 {
		for j := i; j <= len(text); j++ {
			var c Checker
			for _, cut := range [][2]int{{0, i}, {i, j}, {j, len(text)}} {
				if got := c.Check(text[cut[0]:cut[1]]); got != want[cut[1]] {
					t.Fatalf("pieces end at %d and %d: up to %d got %v, want %v: % x", i, j, cut[1], got, want[cut[1]], text)
				}
			}
			if got, want := c.Complete(), std.Valid(text); got != want {
				t.Fatalf("pieces end at %d and %d: Complete: got %v, want %v", i, j, got, want)
			}
		}
	}
}

// Check refuses a character at the first byte that makes it invalid, before the rest
// of the character has arrived.
func TestChecker_fails_at_the_first_wrong_byte(t *testing.T) {
	for _, test := range []string{
		"\xC0", "\xC1", "\xF5", "\xFF", "\x80",
		"\xE0\x80", "\xE0\x9F", "\xED\xA0", "\xF0\x8F", "\xF4\x90", "\xC3\x28", "\xE2\x82\x28", "\xF0\x9F\x99\xC0",
	} {
		t.Run(fmt.Sprintf("% x", test), func(t *testing.T) {
			asmtest.WithAndWithoutAVX2(t, func(t *testing.T) {
				for before := range 70 {
					for _, filling := range fillings {
						failsFast(t, fill(before, filling)+test)
					}
				}
			})
		})
	}
}

// failsFast checks that Check refuses the last byte of text and everything after it.
func failsFast(t *testing.T, text string) {
	t.Helper()
	last := len(text) - 1
	var c Checker
	if !c.Check([]byte(text[:last])) {
		t.Fatalf("refused at % x, want at the next byte", text[:last])
	}
	var whole Checker
	if c.Check([]byte(text[last:])) || whole.Check([]byte(text)) {
		t.Fatalf("accepted % x", text)
	}
	for _, more := range []string{"", "\x80", "a", strings.Repeat("a", 100), strings.Repeat("é", 100), strings.Repeat("a", 2000)} {
		if c.Check([]byte(more)) || c.Complete() {
			t.Fatalf("accepted % x after % x", more, text)
		}
	}
}

func TestValid_allocates_nothing(t *testing.T) {
	text := sample(texts[1].text, 4<<10)
	if n := testing.AllocsPerRun(100, func() { Valid(text) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzChecker(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s.text), uint8(3), uint8(40))
	}
	f.Add([]byte("\xED\xA0\x80"), uint8(1), uint8(1))
	f.Add(bytes.Repeat([]byte("日本語🙂"), 30), uint8(49), uint8(200))
	f.Add(append(bytes.Repeat([]byte("a"), 60), "\xF4\x8F\xBF\xBF\xF4\x90"...), uint8(61), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, first, next uint8) {
		// Repeated, the text comes at every place in a block.
		long := bytes.Repeat(text, 1+300/(len(text)+1))
		for _, avx2 := range []bool{true, false} {
			asmtest.UseAVX2(t, avx2)
			compareCut(t, text, int(first), int(next))
			compareCut(t, long, int(first), int(next))
		}
	})
}

// compareCut checks text as a whole, and in a first piece of one size and further
// pieces of another.
func compareCut(t *testing.T, text []byte, first, next int) {
	t.Helper()
	valid := std.Valid(text)
	if got := Valid(text); got != valid {
		t.Fatalf("Valid(% x): got %v, want %v", text, got, valid)
	}
	var c Checker
	for done, size := 0, first; done < len(text); size = max(1, next) {
		end := min(done+size, len(text))
		got, want := c.Check(text[done:end]), validPrefix(text[:end])
		if got != want {
			t.Fatalf("% x up to %d: got %v, want %v", text, end, got, want)
		}
		done = end
	}
	if got := c.Complete(); got != valid {
		t.Fatalf("% x: Complete: got %v, want %v", text, got, valid)
	}
}

var texts = []struct{ name, text string }{
	{"ascii", "The quick brown fox jumps over the lazy dog, and 12 boxing wizards jump quickly. "},
	{"latin", "Über die Brücke führt für Größen ein schöner Weg, où l'été français s'achève déjà. "},
	{"cyrillic", "Съешь же ещё этих мягких французских булок, да выпей чаю. "},
	{"cjk", "色は匂へど散りぬるを我が世誰ぞ常ならむ、有為の奥山今日越えて、浅き夢見じ酔ひもせず。"},
	{"emoji", "😀😃🚀🎉🦊🐻🍕🎸🌍🌞🔥✨👍🏽👩🏽‍🚀"},
	{"json", `{"id":123456,"name":"Jürgen Müller","city":"Kraków","note":"日本語 text","tags":["a","b","c"],"value":3.14159},`},
}

// sample repeats text up to size bytes, or a little less, so that it ends between
// two characters.
func sample(text string, size int) []byte {
	b := bytes.Repeat([]byte(text), size/len(text)+1)
	for !std.Valid(b[:size]) {
		size--
	}
	return b[:size]
}

// BenchmarkChecker compares Valid with AVX2, the states alone, and unicode/utf8.
// Blocks begin to pay between the sizes 40 and 64.
func BenchmarkChecker(b *testing.B) {
	for _, s := range texts {
		for _, size := range []int{16, 40, 64, 125, 1 << 10, 64 << 10} {
			text := sample(s.text, size)
			for _, bench := range []struct {
				name  string
				avx2  bool
				valid func([]byte) bool
			}{
				{"Valid", true, Valid}, {"states", false, Valid}, {"unicode", true, std.Valid},
			} {
				b.Run(fmt.Sprintf("%s/%d/%s", s.name, size, bench.name), func(b *testing.B) {
					asmtest.UseAVX2(b, bench.avx2)
					b.SetBytes(int64(len(text)))
					for b.Loop() {
						if !bench.valid(text) {
							b.Fatal("got false, want true")
						}
					}
				})
			}
		}
	}
}
