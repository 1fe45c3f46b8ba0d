package websocket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// hostileTexts are what a peer may send where a text is expected. Their parts are of
// different widths when they are quoted.
var hostileTexts = map[string]string{
	"letters":              strings.Repeat("9", 1<<16),
	"bytes of no text":     strings.Repeat("\xff", 1<<16),
	"control characters":   strings.Repeat("\x01", 1<<16),
	"line ends":            strings.Repeat("\r\n2026/01/01 forged: ", 1<<11),
	"long characters":      strings.Repeat("\U0001F44B", 1<<14),
	"quotes":               strings.Repeat(`"\`, 1<<15),
	"invisible characters": strings.Repeat("\u200b\U000E0001", 1<<13),
}

// wantShort checks that a text has at most a kilobyte, all of it text on one line.
func wantShort(t testing.TB, what, text string) {
	t.Helper()
	if len(text) > 1024 || len(text) == 0 {
		t.Errorf("%s: got a text of %d bytes, want 1 to 1024: %.100q", what, len(text), text)
	}
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x01\r\n\u200b") {
		t.Errorf("%s: got %.100q, want printable text on one line", what, text)
	}
}

func TestErrors_repeat_little_of_what_the_peer_sends(t *testing.T) {
	header := func(name string) func(text string) error {
		return func(text string) error {
			r := httptest.NewRequest("GET", "/", nil)
			for key, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
				r.Header.Set(key, value)
			}
			r.Header[name] = []string{text, text + ";"}
			return checkRequest(r)
		}
	}
	errs := map[string]func(text string) error{
		"CloseError":               func(text string) error { return &CloseError{4000, text} },
		"CloseError of ParseClose": func(text string) error { return parseCloseErr("\x0f\xa0" + text[:123]) },
		"reason that is not UTF-8": func(text string) error { return parseCloseErr("\x0f\xa0\xff" + text[:122]) },
		"failed TCP connection":    func(text string) error { return &connError{"receiving", errors.New(text)} },
		"Upgrade and Connection": func(text string) error {
			return checkRequest(&http.Request{Method: "GET", Host: "h", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Upgrade": {text}, "Connection": {text}}})
		},
		"method": func(text string) error {
			return checkRequest(&http.Request{Method: text, ProtoMajor: 1, ProtoMinor: 1})
		},
		"version":    header("Sec-Websocket-Version"),
		"key":        header("Sec-Websocket-Key"),
		"extensions": header("Sec-Websocket-Extensions"),
		"denied origin": func(text string) error {
			h := http.Header{"Origin": {text}, "Sec-Fetch-Site": {text}}
			return &HandshakeError{403, denial(&http.Request{Host: text, Header: h})}
		},
		"denied for another reason": func(text string) error {
			return &HandshakeError{403, denial(&http.Request{Host: text, Header: http.Header{}})}
		},
	}
	for what, text := range hostileTexts {
		for name, err := range errs {
			wantShort(t, name+" of "+what, err(text).Error())
		}
	}
}

// parseCloseErr returns the result of ParseClose, which is an error in both cases.
func parseCloseErr(payload string) error {
	parsed, err := ParseClose([]byte(payload))
	if err != nil {
		return err
	}
	return parsed
}

// A rejectedText is a type of an application whose error repeats the peer's text.
type rejectedText string

func (r *rejectedText) UnmarshalJSON(b []byte) error { return fmt.Errorf("rejected: %s", b) }

func TestReceiveJSON_errors_are_short(t *testing.T) {
	computes(t)
	big9 := strings.Repeat("9", 1<<19)
	type named struct{ A int }
	tests := []struct {
		name string
		json string
		v    any
	}{
		{"a number with too many digits", `{"A":` + big9 + `}`, new(named)},
		{"a number with too many digits, alone", big9, new(int8)},
		{"a name with many bytes", `{"` + big9 + `":1}`, new(map[int]int)},
		{"a text where a number is expected", `{"A":"` + big9 + `"}`, new(named)},
		{"a text that is not a time", `"` + big9 + `"`, new(time.Time)},
		{"a text that is not a big number", `"` + strings.Repeat("x", 1<<19) + `"`, new(big.Float)},
		{"a text of line ends that a type rejects", `["` + strings.Repeat(`\r\n`, 1000) + "\"\n\n]", new(rejectedText)},
		{"a type that rejects a long text", `"` + big9 + `"`, new(rejectedText)},
		{"not JSON", strings.Repeat("x", 1<<19), new(any)},
		{"invisible characters", strings.Repeat("\u200b", 1<<17), new(any)},
		{"deep", strings.Repeat("[", 20000), new(any)},
		{"empty", "", new(any)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, tt.json), clientFrame(true, Text, "1"))))
			err := c.ReceiveJSON(tt.v)
			wantError(t, err, ErrInvalidJSON)
			if got := CloseStatus(err); got != StatusInvalidPayload {
				t.Errorf("got close status %v, want 1007", got)
			}
			wantShort(t, "the error", err.Error())
			wantMention(t, err.Error(), "invalid JSON", fmt.Sprintf("%d bytes", len(tt.json)), fmt.Sprintf("%T", tt.v))
			for inner := range innerErrors(err) {
				if mismatch, ok := inner.(*json.UnmarshalTypeError); ok {
					wantShort(t, "the json.UnmarshalTypeError", mismatch.Error())
				}
			}
			if c.ReceiveJSON(new(int)) != nil || endOf(c) != nil {
				t.Errorf("the connection has ended: %v", endOf(c))
			}
		})
	}
}

func TestReceiveJSON_errors_are_those_of_encoding_json(t *testing.T) {
	receive := func(text string, v any) error {
		c, _ := newScriptConn(t, segments(clientFrame(true, Text, text)))
		return c.ReceiveJSON(v)
	}
	var syntax *json.SyntaxError
	if err := receive(`{"A":x}`, new(any)); !errors.As(err, &syntax) || syntax.Offset != 6 {
		t.Errorf("got error %v, want a json.SyntaxError at offset 6", err)
	}
	var mismatch *json.UnmarshalTypeError
	err := receive(`{"A":`+strings.Repeat("9", 1<<19)+`}`, new(struct{ A int }))
	if !errors.As(err, &mismatch) || mismatch.Field != "A" {
		t.Fatalf("got error %v, want a json.UnmarshalTypeError of the field A", err)
	}
	wantMention(t, mismatch.Value, "number 999", "9...")
	wantMention(t, err.Error(), "number 999", "field .A of type int")
	err = receive(`1`, new(readError))
	wantError(t, err, ErrInvalidJSON, io.ErrNoProgress)
}

// A readError is a type whose method fails with io.ErrNoProgress.
type readError struct{}

func (*readError) UnmarshalJSON([]byte) error { return io.ErrNoProgress }

// innerErrors yields err and the errors that it wraps.
func innerErrors(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		if !yield(err) {
			return
		}
		if wrapper, ok := err.(interface{ Unwrap() []error }); ok {
			for _, err := range wrapper.Unwrap() {
				if !yield(err) {
					return
				}
			}
		}
	}
}

func TestHandle_logs_one_short_line(t *testing.T) {
	for what, text := range hostileTexts {
		for name, fn := range map[string]HandlerFunc{
			"an error":    func(*Conn) error { return errors.New(text) },
			"an argument": func(c *Conn) error { return c.Close(999, text) },
			"a code":      func(*Conn) error { return fmt.Errorf("%s: %w", text, &CloseError{999, text}) },
		} {
			t.Run(name+" of "+what, func(t *testing.T) {
				logged := make(logLines, 16)
				server := &http.Server{ErrorLog: log.New(logged, "", log.LstdFlags)}
				r := (&http.Request{URL: &url.URL{Path: "/" + text}}).WithContext(context.WithValue(t.Context(), http.ServerContextKey, server))
				near, far := net.Pipe()
				c, p := newRequestConn(r, near, nil), newPeer(t, far)
				done := runHandler(c, fn)
				p.expectClose(StatusInternalError)
				p.send(Close, "")
				await(t, done)
				line, ok := strings.CutSuffix(await(t, logged), "\n")
				wantShort(t, "the line", line)
				wantMention(t, line, "websocket: handler of ", "for "+c.RemoteAddr().String())
				if !ok || len(logged) > 0 {
					t.Errorf("got %q and %d more writes, want one line", line, len(logged))
				}
			})
		}
	}
}
