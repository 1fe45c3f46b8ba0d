package websocket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// validPrefix reports, by unicode/utf8, whether b is the start of valid text.
func validPrefix(b []byte) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			return !utf8.FullRune(b)
		}
		b = b[size:]
	}
	return true
}

// utf8Fillings come in front of what is tested and behind it. ASCII that text begins
// with gets no further than the first loop of check; behind another character it
// does.
var utf8Fillings = []string{"a", "é", "日", "🙂", "é" + strings.Repeat("a", 300)}

// fillUTF8 is size bytes of filling, and of ASCII where no more of it fits.
func fillUTF8(size int, filling string) string {
	text := strings.ToValidUTF8(strings.Repeat(filling, size/len(filling)+1)[:size], "")
	return text + strings.Repeat("z", size-len(text))
}

// compareUTF8 checks b against unicode/utf8: whole, and a byte at a time, where
// the first byte that makes it invalid must be told.
func compareUTF8(t *testing.T, b []byte) {
	t.Helper()
	if got, want := ValidUTF8(b), utf8.Valid(b); got != want {
		t.Fatalf("ValidUTF8(% x): got %v, want %v", b, got, want)
	}
	var u utf8Checker
	for i := range b {
		got, want := u.check(b[i:i+1]), validPrefix(b[:i+1])
		if got != want {
			t.Fatalf("byte %d of % x: got %v, want %v", i, b, got, want)
		}
		if want := utf8.Valid(b[:i+1]); u.complete() != want {
			t.Fatalf("complete behind byte %d of % x: got %v, want %v", i, b, !want, want)
		}
	}
}

func TestValidUTF8(t *testing.T) {
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
			if got := ValidUTF8([]byte(test.text)); got != test.want {
				t.Errorf("ValidUTF8(% x): got %v, want %v", test.text, got, test.want)
			}
			compareUTF8(t, []byte(test.text))
			withAndWithoutAVX2(t, func(t *testing.T) { compareUTF8Anywhere(t, test.text) })
		})
	}
}

// compareUTF8Anywhere checks what b is in front of, behind and between other text,
// so that it is at every place of a block, and across any two of them.
func compareUTF8Anywhere(t *testing.T, b string) {
	t.Helper()
	for _, filling := range utf8Fillings {
		for before := range 135 {
			text := fillUTF8(before, filling) + b
			for _, after := range []int{0, 9, 40, 130} {
				text := []byte(text + fillUTF8(after, filling))
				var u utf8Checker
				if got, want := u.check(text), validPrefix(text); got != want {
					t.Fatalf("check(% x): got %v, want %v", text, got, want)
				}
				if got, want := u.complete(), utf8.Valid(text); got != want {
					t.Fatalf("complete behind % x: got %v, want %v", text, got, want)
				}
			}
		}
	}
}

func TestUTF8AgainstUnicode(t *testing.T) {
	t.Run("all of one and two bytes", func(t *testing.T) {
		for a := range 256 {
			compareUTF8(t, []byte{byte(a)})
			for b := range 256 {
				compareUTF8(t, []byte{byte(a), byte(b)})
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
					compareUTF8(t, []byte{a, b, c})
					for _, d := range edges {
						compareUTF8(t, []byte{a, b, c, d})
					}
				}
			}
		}
	})
	t.Run("in a longer text", func(t *testing.T) {
		for a := range 256 {
			for b := range 256 {
				compareUTF8InASCII(t, []byte{byte(a), byte(b)})
			}
		}
		for _, a := range edges {
			for _, b := range edges {
				for _, c := range edges {
					compareUTF8InASCII(t, []byte{a, b, c})
					for _, d := range edges {
						compareUTF8InASCII(t, []byte{a, b, c, d})
					}
				}
			}
		}
	})
	t.Run("every character", func(t *testing.T) {
		var all []byte
		for r := range rune(utf8.MaxRune + 1) {
			if utf8.ValidRune(r) {
				all = utf8.AppendRune(all, r)
			}
		}
		withAndWithoutAVX2(t, func(t *testing.T) {
			if !ValidUTF8(all) {
				t.Errorf("got false for all %d characters in a row, want true", utf8.RuneCount(all))
			}
			for _, at := range []int{0, 40, 1<<20 - 3, 1<<20 - 2, 1<<20 - 1, 1 << 20, 2 << 20, 3<<20 + 1, len(all) - 1} {
				was := all[at]
				all[at] = 0xFF
				if ValidUTF8(all) {
					t.Errorf("got true with FF for byte %d of all characters, want false", at)
				}
				all[at] = was
			}
		})
	})
}

// compareUTF8InASCII checks b where it is in one block, at both ends of one, and
// across two.
func compareUTF8InASCII(t *testing.T, b []byte) {
	t.Helper()
	want := utf8.Valid(b)
	const size = 300
	text := []byte("é" + fillUTF8(size-len("é"), "a"))
	// Blocks begin at 3 and, where there is much ASCII, are of 128 bytes from 131 on.
	// The last one ends where the text does.
	for _, at := range []int{2, 32, 33, 34, 66, 130, 132, 164, 196, 228, size - len(b) - 1, size - len(b)} {
		copy(text[at:], b)
		if got := ValidUTF8(text); got != want {
			t.Fatalf("% x at %d of %d: got %v, want %v", b, at, size, got, want)
		}
		for i := range b {
			text[at+i] = 'a'
		}
	}
}

func TestUTF8CheckerInPieces(t *testing.T) {
	const start = "plain ASCII for a while, then héllo wörld, привет, 日本語 and 🙂🙃"
	for _, test := range []struct{ name, text string }{
		{"valid", start + " and ASCII again to the end, but for a short word: größer, and 色は匂へど散りぬるを我が世誰ぞ"},
		{"surrogate", start + " and ASCII again \xED\xA0\x80 and ASCII again to the end of it, twice sixteen bytes at least."},
		{"cut at the end", start + start + ", and then an unfinished \xF0\x9F\x99"},
	} {
		t.Run(test.name, func(t *testing.T) {
			withAndWithoutAVX2(t, func(t *testing.T) { compareUTF8InPieces(t, []byte(test.text)) })
		})
	}
}

// compareUTF8InPieces checks text cut at any two places.
func compareUTF8InPieces(t *testing.T, text []byte) {
	t.Helper()
	want := make([]bool, len(text)+1)
	for i := range want {
		want[i] = validPrefix(text[:i])
	}
	for i := range len(text) + 1 {
		for j := i; j <= len(text); j++ {
			var u utf8Checker
			for _, cut := range [][2]int{{0, i}, {i, j}, {j, len(text)}} {
				if got := u.check(text[cut[0]:cut[1]]); got != want[cut[1]] {
					t.Fatalf("pieces end at %d and %d: up to %d got %v, want %v: % x", i, j, cut[1], got, want[cut[1]], text)
				}
			}
			if got, want := u.complete(), utf8.Valid(text); got != want {
				t.Fatalf("pieces end at %d and %d: complete: got %v, want %v", i, j, got, want)
			}
		}
	}
}

// A sequence that nothing can complete is refused at the byte that shows it, with
// the rest of the character still to come.
func TestUTF8CheckerFailsFast(t *testing.T) {
	for _, test := range []string{
		"\xC0", "\xC1", "\xF5", "\xFF", "\x80",
		"\xE0\x80", "\xE0\x9F", "\xED\xA0", "\xF0\x8F", "\xF4\x90", "\xC3\x28", "\xE2\x82\x28", "\xF0\x9F\x99\xC0",
	} {
		t.Run(fmt.Sprintf("% x", test), func(t *testing.T) {
			withAndWithoutAVX2(t, func(t *testing.T) {
				for before := range 70 {
					for _, filling := range utf8Fillings {
						failsFast(t, fillUTF8(before, filling)+test)
					}
				}
			})
		})
	}
}

// failsFast checks that the last byte of text is what makes it invalid, for good.
func failsFast(t *testing.T, text string) {
	t.Helper()
	last := len(text) - 1
	var u utf8Checker
	if !u.check([]byte(text[:last])) {
		t.Fatalf("refused at % x, want at the next byte", text[:last])
	}
	var whole utf8Checker
	if u.check([]byte(text[last:])) || whole.check([]byte(text)) {
		t.Fatalf("accepted % x", text)
	}
	for _, more := range []string{"", "\x80", "a", strings.Repeat("a", 100), strings.Repeat("é", 100), strings.Repeat("a", 2000)} {
		if u.check([]byte(more)) || u.complete() {
			t.Fatalf("accepted % x behind % x", more, text)
		}
	}
}

func TestUTF8AllocatesNothing(t *testing.T) {
	text := utf8Sample(utf8Texts[1].text, 4<<10)
	if n := testing.AllocsPerRun(100, func() { ValidUTF8(text) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzUTF8(f *testing.F) {
	for _, s := range utf8Texts {
		f.Add([]byte(s.text), uint8(3), uint8(40))
	}
	f.Add([]byte("\xED\xA0\x80"), uint8(1), uint8(1))
	f.Add(bytes.Repeat([]byte("日本語🙂"), 30), uint8(49), uint8(200))
	f.Add(append(bytes.Repeat([]byte("a"), 60), "\xF4\x8F\xBF\xBF\xF4\x90"...), uint8(61), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, first, next uint8) {
		// Many times over, it has what it has at every place of a block.
		long := bytes.Repeat(text, 1+300/(len(text)+1))
		for _, avx2 := range []bool{true, false} {
			useAVX2(t, avx2)
			compareUTF8Cut(t, text, int(first), int(next))
			compareUTF8Cut(t, long, int(first), int(next))
		}
	})
}

// compareUTF8Cut checks text whole, and in pieces of which the first and all others
// have a size.
func compareUTF8Cut(t *testing.T, text []byte, first, next int) {
	t.Helper()
	valid := utf8.Valid(text)
	if got := ValidUTF8(text); got != valid {
		t.Fatalf("ValidUTF8(% x): got %v, want %v", text, got, valid)
	}
	var u utf8Checker
	for done, size := 0, first; done < len(text); size = max(1, next) {
		end := min(done+size, len(text))
		got, want := u.check(text[done:end]), validPrefix(text[:end])
		if got != want {
			t.Fatalf("% x up to %d: got %v, want %v", text, end, got, want)
		}
		done = end
	}
	if got := u.complete(); got != valid {
		t.Fatalf("% x complete: got %v, want %v", text, got, valid)
	}
}

var utf8Texts = []struct{ name, text string }{
	{"ascii", "The quick brown fox jumps over the lazy dog, and 12 boxing wizards jump quickly. "},
	{"latin", "Über die Brücke führt für Größen ein schöner Weg, où l'été français s'achève déjà. "},
	{"cyrillic", "Съешь же ещё этих мягких французских булок, да выпей чаю. "},
	{"cjk", "色は匂へど散りぬるを我が世誰ぞ常ならむ、有為の奥山今日越えて、浅き夢見じ酔ひもせず。"},
	{"emoji", "😀😃🚀🎉🦊🐻🍕🎸🌍🌞🔥✨👍🏽👩🏽‍🚀"},
	{"json", `{"id":123456,"name":"Jürgen Müller","city":"Kraków","note":"日本語 text","tags":["a","b","c"],"value":3.14159},`},
}

// utf8Sample is text over and over, cut at a character to size bytes or just less.
func utf8Sample(text string, size int) []byte {
	b := bytes.Repeat([]byte(text), size/len(text)+1)
	for !utf8.Valid(b[:size]) {
		size--
	}
	return b[:size]
}

// BenchmarkUTF8 has the states alone and unicode/utf8 beside ValidUTF8. The sizes of
// 40 and 64 are on both sides of where blocks begin to pay.
func BenchmarkUTF8(b *testing.B) {
	for _, s := range utf8Texts {
		for _, size := range []int{16, 40, 64, 125, 1 << 10, 64 << 10} {
			text := utf8Sample(s.text, size)
			for _, bench := range []struct {
				name  string
				avx2  bool
				valid func([]byte) bool
			}{
				{"ValidUTF8", true, ValidUTF8}, {"states", false, ValidUTF8}, {"unicode", true, utf8.Valid},
			} {
				b.Run(fmt.Sprintf("%s/%d/%s", s.name, size, bench.name), func(b *testing.B) {
					useAVX2(b, bench.avx2)
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
