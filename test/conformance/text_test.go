package conformance

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// stressTexts returns the sequences of Markus Kuhn's UTF-8 decoder stress test, made from
// its description. Sequences of five and six bytes are invalid here, because RFC 3629 does
// not have them.
func stressTexts() (valid, invalid map[string][]string) {
	valid = map[string][]string{
		"accents":            {"Hello-µ@ßöäüàá-UTF-8!!"},
		"Greek":              {"κ", "κ\u1f79", "κ\u1f79σ", "κ\u1f79σμ", "κ\u1f79σμε"},
		"first of a length":  {"\x00", "\u0080", "\u0800", "\U00010000"},
		"last of a length":   {"\u007f", "\u07ff", "\uffff"},
		"other boundaries":   {"\ud7ff", "\ue000", "\ufffd", "\U0010ffff"},
		"noncharacters":      nonCharacters(),
		"specials":           {"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd"},
		"beyond U+FFFF":      {"\U0001f600", "\U000fffff", "\U00100000"},
		"byte order mark":    {"\ufeff"},
		"long, of one width": {strings.Repeat("ж", 100), strings.Repeat("€", 100), strings.Repeat("😀", 100)},
	}
	invalid = map[string][]string{
		"five and six bytes": {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		"beyond U+10FFFF":    {"\xf7\xbf\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"},
		"impossible bytes":   {"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		"overlong slash":     {"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		"longest overlong":   {"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		"overlong NUL":       {"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		"surrogate": {"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf",
			"\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		"surrogate pair": {"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"},
		"Greek cut short":              {"\xce", "κ\xe1", "κ\xe1\xbd", "κ\u1f79\xcf", "κ\u1f79σ\xce", "κ\u1f79σμ\xce"},
		"surrogate inside Greek":       {"κ\u1f79σμε\xed\xa0\x80edited"},
		"beyond U+10FFFF inside Greek": {"κ\u1f79σμε\xf4\x90\x80\x80edited"},
		"Latin-1":                      {"\xe4\xf6\xfc", "gr\xfcn"},
	}
	for n := 1; n <= 7; n++ {
		invalid["continuation bytes alone"] = append(invalid["continuation bytes alone"], "\x80\xbf\x80\xbf\x80\xbf\x80"[:n])
	}
	for b := 0x80; b <= 0xbf; b++ {
		invalid["continuation byte alone"] = append(invalid["continuation byte alone"], string([]byte{byte(b)}))
	}
	for b := 0xc0; b <= 0xfd; b++ {
		invalid["first byte alone"] = append(invalid["first byte alone"], string([]byte{byte(b), ' '}))
	}
	cut := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}
	invalid["last byte missing"] = append(cut, strings.Join(cut, ""))
	return valid, invalid
}

func nonCharacters() []string {
	var s []string
	for plane := rune(0); plane <= 0x10; plane++ {
		s = append(s, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	for r := rune(0xfdd0); r <= 0xfdef; r++ {
		s = append(s, string(r))
	}
	return s
}

// firstBad returns the index of the first byte that makes s invalid, whatever follows. If
// s only ends inside a character, it returns the length of s.
func firstBad(s string) int {
	end := 0
	for i := range len(s) {
		r, size := utf8.DecodeRuneInString(s[end : i+1])
		switch {
		case !utf8.FullRuneInString(s[end : i+1]): // a character that has begun
		case r == utf8.RuneError && size == 1:
			return i
		default:
			end = i + 1
		}
	}
	return len(s)
}

// failedAlone is failed(1007) without the cases in which more frames follow. Other tests
// have those cases, and here are many texts.
var failedAlone = ending{check: failed(1007).check}

// textCases returns cases that send a text in one frame, in fragments of one octet, and
// inside a longer text. The longer text is for a checker that reads many octets at once.
func textCases(name, s string, valid bool) []wireCase {
	before, after := strings.Repeat("0123456789", 4)+"κ", "ό"+strings.Repeat("9876543210", 4)
	result := func(s string) ([]byte, ending) {
		if valid {
			return fromServer(0x81, s), stillOpen
		}
		return nil, failedAlone
	}
	var cases []wireCase
	add := func(how, s string, sent [][]byte) {
		want, end := result(s)
		cases = append(cases, wireCase{fmt.Sprintf("%s % x%s", name, s[:min(len(s), 12)], how), sent, want, end})
	}
	add("", s, fromClient(0x81, s))
	add(" by octets", s, fragmented(0x81, s, 1))
	add(" inside text", before+s+after, fromClient(0x81, before+s+after))
	return cases
}

// failFastCases returns cases that send nothing after the first bad byte. The rest of its
// frame and of its message never comes.
func failFastCases(name, s string) []wireCase {
	bad := firstBad(s)
	if bad == len(s) {
		return nil
	}
	name = fmt.Sprintf("%s % x up to its byte %d", name, s[:min(len(s), 12)], bad)
	s = s[:bad+1]
	long := strings.Repeat("ж", 50)
	return []wireCase{
		{name + " in a frame", fromClient(unfinished(0x81, s, 100)), nil, failedAlone},
		{name + " across fragments", fromClient(0x01, s[:bad], unfinished(0x00, s[bad:], 100)), nil, failedAlone},
		{name + " in a large frame", fromClient(unfinished(0x81, s, 100_000)), nil, failedAlone},
		{name + " far inside a frame", fromClient(unfinished(0x81, long+s, 100)), nil, failedAlone},
		{name + " in a fragment", fromClient(0x01, "κόσμε", unfinished(0x00, s, 100)), nil, failedAlone},
		{name + " at the end of a fragment", fromClient(0x01, s), nil, failedAlone},
	}
}

// Every way to receive gets the first text of each kind, sent in every way. ReceiveMessage
// also gets the other texts.
func TestConformance_8_1_UTF_8(t *testing.T) {
	var all, some []wireCase
	add := func(kinds map[string][]string, valid bool) {
		for name, texts := range kinds {
			for i, s := range texts {
				cases := textCases(name, s, valid)
				if !valid {
					cases = append(cases, failFastCases(name, s)...)
				}
				if i == 0 {
					some = append(some, cases...)
				} else { // the three of textCases and the first two of failFastCases
					all = append(all, cases[:min(len(cases), 3+2)]...)
				}
			}
		}
	}
	valid, invalid := stressTexts()
	add(valid, true)
	add(invalid, false)
	conform(t, some)
	conformOn(t, dialer(serve(t, echo)), all)
}

// The tables above say which texts are valid. This test compares them with the standard
// library, because a typing error in a table would look like a rule.
func TestConformance_stress_texts(t *testing.T) {
	valid, invalid := stressTexts()
	for want, groups := range map[bool]map[string][]string{true: valid, false: invalid} {
		for name, texts := range groups {
			for _, s := range texts {
				if utf8.ValidString(s) != want {
					t.Errorf("%s: %x is listed as valid=%t", name, s, want)
				}
			}
		}
	}
}

func TestConformance_5_6_text_and_binary(t *testing.T) {
	conform(t, []wireCase{
		{"character across fragments", fromClient(0x01, "\xf0\x9f", 0x80, "\x98\x80"), fromServer(0x81, "😀"), stillOpen},
		{"character across three fragments with a ping inside", fromClient(0x01, "a\xe2", 0x00, "\x82", 0x89, "\xff", 0x80, "\xacb"),
			fromServer(0x8A, "\xff", 0x81, "a€b"), stillOpen},
		{"character across empty fragments", fromClient(0x01, "\xce", 0x00, "", 0x80, "\xba"), fromServer(0x81, "κ"), stillOpen},
		{"character that the next message would finish", fromClient(0x81, "\xce", 0x81, "\xba"), nil, failed(1007)},
		{"message that ends inside a character", fromClient(0x01, "κόσμε\xce", 0x80, ""), nil, failed(1007)},
		{"bad text after a good one", fromClient(0x81, "κόσμε", 0x81, "\xff"), fromServer(0x81, "κόσμε"), failed(1007)},
		{"good text, text in fragments, bad text", fromClient(0x81, "a", 0x01, "b", 0x80, "c", 0x81, "\xc0"), fromServer(0x81, "a", 0x81, "bc"), failed(1007)},
		{"binary need not be UTF-8", fromClient(0x82, "\xff\xfe\xed\xa0\x80"), fromServer(0x82, "\xff\xfe\xed\xa0\x80"), stillOpen},
		{"binary in fragments need not be UTF-8", fromClient(0x02, "\xce", 0x80, "\xff"), fromServer(0x82, "\xce\xff"), stillOpen},
		{"ping and pong need not be UTF-8", fromClient(0x8A, "\xff", 0x89, "\xed\xa0\x80"), fromServer(0x8A, "\xed\xa0\x80"), stillOpen},
		{"text after a binary is checked", fromClient(0x82, "\xff", 0x81, "\xff"), fromServer(0x82, "\xff"), failed(1007)},
	})
}
