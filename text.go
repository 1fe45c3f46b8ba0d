package websocket

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// cut returns the first bytes of s, limit at most, and does not end inside a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for end := limit; end > limit-utf8.UTFMax && end > 0; end-- {
		if utf8.RuneStart(s[end]) {
			return s[:end]
		}
	}
	return s[:limit] // it is not UTF-8
}

// headerText returns the name of a header and its quoted values, or "no" and the name if
// the header is absent.
func headerText(name string, values []string) string {
	if len(values) == 0 {
		return "no " + name
	}
	return name + " " + quoted(strings.Join(values, ", "))
}

// maxQuoted is how many bytes of a text of the peer an error repeats.
const maxQuoted = 100

// quoted returns text of the peer as a quoted string on one line. Of a text of more than
// 100 bytes it keeps the first 100.
func quoted(s string) string { return quotedUpTo(maxQuoted, s) }

// quotedUpTo is quoted for another limit. The quoted text has at most twice as many bytes,
// so of a text that consists of escapes it keeps less.
func quotedUpTo(limit int, s string) string {
	kept := cut(s, limit)
	q := strconv.Quote(kept)
	for len(q) > 2*limit {
		kept = cut(kept, len(kept)*3/4)
		q = strconv.Quote(kept)
	}
	if len(kept) < len(s) {
		return q[:len(q)-1] + `..."`
	}
	return q
}

// oneLine returns the text of an error that may repeat text of the peer: cut, and quoted
// if it is not plain text on one line.
func oneLine(text string) string {
	kept := cut(text, maxErrorText)
	unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
	if !utf8.ValidString(kept) || strings.ContainsFunc(kept, unprintable) {
		return quotedUpTo(maxErrorText, text)
	}
	if len(kept) < len(text) {
		kept += "..."
	}
	return kept
}
