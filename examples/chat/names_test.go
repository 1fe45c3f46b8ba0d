package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanName(t *testing.T) {
	tests := []struct{ name, given, want string }{
		{"spaces", " Ada \t Lovelace\n", "Ada Lovelace"},
		{"an accent", "Zoé", "Zoé"},
		{"digits and punctuation", "R2-D2!", "R2-D2!"},
		{"Cyrillic", "Йосиф", "Йосиф"},
		{"Arabic with a vowel", "مُحمد", "مُحمد"},
		{"Devanagari with marks", "प्रिया", "प्रिया"},
		{"Thai with marks", "น้ำ", "น้ำ"},
		{"Japanese", "山田 エリー ひろ", "山田 エリー ひろ"},
		{"Japanese with Latin letters", "DJ タカ", "DJ タカ"},
		{"Korean", "김민준", "김민준"},
		{"Emoji", "😀", "😀"},
		{"Emoji with a variation selector", "❤\ufe0f", "❤"},
		{"Hawaiian with ʻokina", "Kaʻiulani", "Kaʻiulani"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := cleanName(tt.given); got != tt.want || err != nil {
				t.Errorf("cleanName(%+q) is %+q with error %v, want %+q", tt.given, got, err, tt.want)
			}
		})
	}
}

const (
	blankName = "want a name of 1 to 24 visible characters"
	disguised = "want a name in one script, with composed letters"
)

var refusedNames = []struct{ name, given, reason string }{
	{"nothing", "", blankName},
	{"spaces alone", "\u2003\u3000\u1680 \t", blankName},
	{"Hangul filler", "\u3164", blankName},
	{"halfwidth Hangul filler", "\uffa0", blankName},
	{"Hangul choseong filler", "\u115f\u1160", blankName},
	{"braille pattern blank", "\u2800", blankName},
	{"zero width space", "\u200b", blankName},
	{"zero width joiner", "\u200d", blankName},
	{"byte order mark", "\ufeff", blankName},
	{"word joiner", "\u2060", blankName},
	{"soft hyphen", "\u00ad", blankName},
	{"combining grapheme joiner", "\u034f", blankName},
	{"Khmer inherent vowels", "\u17b4\u17b5", blankName},
	{"Mongolian vowel separator", "\u180e", blankName},
	{"variation selectors", "\ufe0f\ufe0e", blankName},
	{"variation selector 1", "\ufe00", blankName},
	{"variation selector supplement", "\U000e0100", blankName},
	{"tags", "\U000e0041\U000e0001", blankName},
	{"unassigned ignorable", "\U000e0fff", blankName},
	{"null notehead", "\U0001d159", blankName},
	{"blank hieroglyphs", "\U00013441\U00013442", blankName},
	{"object replacement", "\ufffc", blankName},
	{"an accent alone", "\u0301", blankName},
	{"an accent on a space", "Ada \u0301", blankName},
	{"private use", "\ue000", blankName},
	{"control character", "Ada\x00", blankName},
	{"filler within a name", "Ada\u3164", blankName},
	{"direction override", "\u202eadA", blankName},
	{"direction isolate", "\u2067Ada", blankName},
	{"25 characters", strings.Repeat("ä", 25), blankName},
	{"many marks", "ב" + strings.Repeat("\u05b0", 4), blankName},
	{"Cyrillic А beside Latin letters", "Аda", disguised},
	{"Greek ο beside Latin letters", "Bοb", disguised},
	{"Cherokee beside Latin letters", "Ꭺda", disguised},
	{"accent as a second character", "Zoe\u0301", disguised},
	{"kana with the voiced mark as a second character", "か\u3099", disguised},
	{"Hangul as parts", "\u1112\u1161\u11ab", disguised},
	{"bold letters for mathematics", "𝐀𝐝𝐚", disguised},
	{"bold digit for mathematics", "Ada 𝟏", disguised},
	{"the page's word for its user", "You", "the name You is taken"},
	{"the same in another case", "yOU", "the name yOU is taken"},
	{"the page's mark of its user", "Ada (you)", "the name Ada (you) is taken"},
	{"the same in another width", "Ada （you）", "the name Ada （you） is taken"},
}

func TestCleanName_refuses(t *testing.T) {
	for _, tt := range refusedNames {
		t.Run(tt.name, func(t *testing.T) {
			got, err := cleanName(tt.given)
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("cleanName(%+q) is %+q with error %v, want the error %q", tt.given, got, err, tt.reason)
			}
		})
	}
}

// No name of one invisible character is accepted, whichever it is.
func TestCleanName_refuses_every_invisible_character(t *testing.T) {
	for _, table := range []*unicode.RangeTable{
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
		unicode.Cc, unicode.Cf, unicode.Z, unicode.M, blank,
	} {
		for r := range rune(unicode.MaxRune + 1) {
			if !unicode.Is(table, r) || !utf8.ValidRune(r) {
				continue
			}
			if name, err := cleanName(string(r)); err == nil {
				t.Fatalf("cleanName(%U) is %+q, want an error", r, name)
			}
		}
	}
}

func TestAlike(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       bool
	}{
		{"the same", "Ada", "Ada", true},
		{"case", "Ada", "aDA", true},
		{"case of Greek, with both forms of sigma", "Σίσυφος", "ΣΊΣΥΦΟΣ", true},
		{"Kelvin sign", "Kim", "\u212aim", true},
		{"spaces", "Ada Lovelace", "AdaLovelace", true},
		{"width", "Ada!", "Ａｄａ！", true},
		{"marks", "מרים", "מִרְיָם", true},
		{"I for l", "Ali", "AIi", true},
		{"1 for l", "Bill", "Bi1l", true},
		{"0 for O", "Otto", "0tto", true},
		{"dotless i for l", "Alan", "Aıan", true},
		{"different letters", "Ada", "Adam", false},
		{"I and l that differ in case", "Ian", "Lan", false},
		{"a visible accent", "Zoe", "Zoé", false},
		{"another digit", "Ada 1", "Ada 2", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if alike(tt.a, tt.b) != tt.want || alike(tt.b, tt.a) != tt.want {
				t.Errorf("alike(%q, %q) is not %v", tt.a, tt.b, tt.want)
			}
		})
	}
}

func TestCleanText(t *testing.T) {
	for _, blank := range []string{"", "\n \u2003", "\u3164", "\u2800\u2800", "\u200b\u200d", "\U000e0100"} {
		if text, err := cleanText(blank); err == nil {
			t.Errorf("cleanText(%+q) is %+q, want an error", blank, text)
		}
	}
	for _, visible := range []string{"a", "?", "❤\ufe0f", "👩\u200d💻", "a\nb", "می\u200cخواهم"} {
		if text, err := cleanText(visible); text != visible || err != nil {
			t.Errorf("cleanText(%+q) is %+q with error %v, want the same text", visible, text, err)
		}
	}
}
