package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName  = 24   // characters
	maxText  = 1000 // characters
	maxMarks = 3    // combining marks in a row, in a name
)

// cleanName returns the name with single spaces. It refuses a name that is blank, that
// changes the text around it, or that is written to look like another name. No rule
// finds every lookalike: a chat with accounts would show who the account belongs to.
func cleanName(name string) (string, error) {
	name = strings.Join(strings.Fields(strings.Map(dropStyle, name)), " ")
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName || !isVisibleName(name) {
		return "", refuse("want a name of 1 to %d visible characters", maxName)
	}
	if isDisguised(name) {
		return "", refuse("want a name in one script, with composed letters")
	}
	// The page calls its user "You", and writes "(you)" behind the name.
	if plain := fold(name, sameLetter); plain == "YOU" || strings.HasSuffix(plain, "(YOU)") {
		return "", refuse("the name %s is taken", name)
	}
	return name, nil
}

// dropStyle removes the variation selectors that choose between a symbol and its emoji.
// The keyboards of phones add them, and two names must not differ only by them.
func dropStyle(r rune) rune {
	if r == '\ufe0e' || r == '\ufe0f' {
		return -1
	}
	return r
}

// isVisibleName reports whether the name begins with a visible character and has only
// visible characters, spaces and a few combining marks on each character.
func isVisibleName(name string) bool {
	marks := maxMarks // none at the beginning, because a mark changes the character before it
	for _, r := range name {
		switch {
		case isVisible(r):
			marks = 0
		case r == ' ':
			marks = maxMarks
		case unicode.IsMark(r) && !isIgnorable(r) && marks < maxMarks:
			marks++
		default:
			return false
		}
	}
	return true
}

// isVisible reports whether r is a letter, a number, a punctuation mark or a symbol that
// leaves a mark on the screen.
func isVisible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !isIgnorable(r) && !unicode.Is(blank, r)
}

// isIgnorable reports whether programs show nothing for r: whether it has the property
// Default_Ignorable_Code_Point of Unicode. Some of these characters are letters, for
// example U+3164, the Hangul filler.
func isIgnorable(r rune) bool {
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Cf)
}

// blank has the letters and symbols that look like a space but do not have the property:
// the braille pattern without dots, the object replacement character, the blank Egyptian
// hieroglyphs and the null notehead.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}, {Lo: 0xfffc, Hi: 0xfffc, Stride: 1}},
	R32: []unicode.Range32{{Lo: 0x13441, Hi: 0x13442, Stride: 1}, {Lo: 0x1d159, Hi: 0x1d159, Stride: 1}},
}

// isDisguised reports whether the name uses characters that people take for others: an А
// of Cyrillic beside Latin letters, a letter and its accent as two characters, or an 𝐀 for
// mathematics. The page sends names in the form NFKC, which has none of the last two.
func isDisguised(name string) bool {
	scripts := make(map[string]bool)
	composed := false // the last character belongs to a script whose accents are composed
	for _, r := range name {
		if unicode.IsMark(r) {
			if composed {
				return true
			}
			continue
		}
		if r > unicode.MaxASCII && unicode.Is(unicode.Common, r) && unicode.In(r, unicode.Lu, unicode.Ll, unicode.Nd) {
			return true
		}
		if unicode.Is(jamo, r) {
			return true
		}
		composed = unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Hiragana, unicode.Katakana)
		if unicode.IsLetter(r) && !unicode.Is(unicode.Common, r) {
			scripts[script(r)] = true
		}
	}
	return !areUsedTogether(scripts)
}

// jamo has the parts of Hangul syllables. Programs compose them.
var jamo = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x1100, Hi: 0x11ff, Stride: 1}, {Lo: 0xa960, Hi: 0xa97f, Stride: 1}, {Lo: 0xd7b0, Hi: 0xd7ff, Stride: 1},
}}

// script returns the name of the script of r.
func script(r rune) string {
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return ""
}

// areUsedTogether reports whether there is one script, or several that people use in one
// word: those of Japanese, Chinese and Korean, also with Latin letters (the level "highly
// restrictive" of Unicode Technical Standard 39).
func areUsedTogether(scripts map[string]bool) bool {
	if len(scripts) <= 1 {
		return true
	}
	for _, together := range []string{"Latin Han Hiragana Katakana", "Latin Han Bopomofo", "Latin Han Hangul"} {
		known := 0
		for _, name := range strings.Fields(together) {
			if scripts[name] {
				known++
			}
		}
		if known == len(scripts) {
			return true
		}
	}
	return false
}

// alike reports whether people take one name for the other: whether the names differ only
// by case, or only by letters and digits that have the same shape.
func alike(a, b string) bool {
	return fold(a, sameLetter) == fold(b, sameLetter) || fold(a, sameShape) == fold(b, sameShape)
}

// fold returns name with each character replaced by the same, without spaces and marks. A
// wide character becomes the character of ASCII.
func fold(name string, same func(rune) rune) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsMark(r) {
			return -1
		}
		if '！' <= r && r <= '～' {
			r -= '！' - '!'
		}
		return same(r)
	}, name)
}

// sameLetter returns the same character for r in every case.
func sameLetter(r rune) rune {
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return least
}

// sameShape returns the same character for those that look the same in many fonts.
func sameShape(r rune) rune {
	switch r {
	case 'I', '1', '|', 'ı':
		return 'l'
	case '0':
		return 'O'
	}
	return r
}

// cleanText returns the text without space around it.
func cleanText(text string) (string, error) {
	text = strings.TrimSpace(text)
	if n := utf8.RuneCountInString(text); n == 0 || n > maxText || !strings.ContainsFunc(text, isVisible) {
		return "", refuse("want a visible text of 1 to %d characters", maxText)
	}
	return text, nil
}
