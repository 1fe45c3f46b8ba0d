package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestCloseStatus(t *testing.T) {
	peer := &CloseError{Code: 4001, Reason: "bye"}
	tests := []struct {
		name string
		err  error
		want StatusCode
	}{
		{"nil", nil, 0},
		{"an error of another package", errors.New("no"), 0},
		{"io.EOF has no close code", io.EOF, 0},
		{"a deadline of the user does not end the connection", errReadDeadline, 0},
		{"a refused handshake has no close code", &HandshakeError{Status: 400}, 0},
		{"CloseError", peer, 4001},
		{"CloseError without a code", &CloseError{Code: StatusNoStatusReceived}, 1005},
		{"CloseError, wrapped", fmt.Errorf("reading: %w", peer), 4001},
		{"CloseError, joined", errors.Join(io.ErrNoProgress, peer), 4001},
		{"closed here", &closedError{CloseError: CloseError{Code: 1001}}, 1001},
		{"the code that was sent counts, not that of the answer", &closedError{CloseError: CloseError{Code: 1001}, peer: peer}, 1001},
		{"closed here, wrapped", fmt.Errorf("sending: %w", &closedError{CloseError: CloseError{Code: 1001}}), 1001},
		{"ErrProtocol", ErrProtocol, 1002},
		{"ErrProtocol with detail", protocolError("5.2", "reserved bits"), 1002},
		{"ErrInvalidOpcode", ErrInvalidOpcode, 1002},
		{"ErrInvalidUTF8", fmt.Errorf("%w: here", ErrInvalidUTF8), 1007},
		{"ErrMessageTooLarge", tooLarge("frame of %d bytes", 9), 1009},
		{"ErrInvalidJSON", invalidJSON(1, new(int), io.ErrUnexpectedEOF), 1007},
		{"ErrInvalidJSON alone", ErrInvalidJSON, 1007},
		{"ErrConnectionTimeout", fmt.Errorf("%w: there", ErrConnectionTimeout), 1001},
		{"ErrCloseTimeout", ErrCloseTimeout, 1006},
		{"a failed TCP connection", &connError{"receiving", io.ErrUnexpectedEOF}, 1006},
		{"a failed TCP connection, wrapped", fmt.Errorf("x: %w", &connError{"sending", os.ErrDeadlineExceeded}), 1006},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := CloseStatus(tt.err); got != tt.want {
				t.Errorf("CloseStatus(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
}

func TestErrorTexts(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"CloseError with a reason", &CloseError{1001, "back \"soon\""}, `websocket: closed with 1001 (going away): "back \"soon\""`},
		{"CloseError with the longest reason", &CloseError{1001, stars(123)}, `websocket: closed with 1001 (going away): "` + stars(123) + `"`},
		{"CloseError without a reason", &CloseError{Code: 1005}, "websocket: closed with 1005 (no status received)"},
		{"CloseError with a private code", &CloseError{Code: 4999}, "websocket: closed with 4999"},
		{"closed here", &closedError{CloseError: CloseError{Code: 1000}}, "websocket: use of a closed connection: closed here with 1000 (normal closure)"},
		{"HandshakeError", &HandshakeError{400, "no key"}, "websocket: handshake refused with 400: no key"},
		{"a failed TCP connection", &connError{"receiving", io.ErrUnexpectedEOF}, "websocket: receiving: unexpected EOF"},
		{"a broken rule names its section", protocolError("5.4", "%v frame", Ping), "websocket: protocol error: ping frame (RFC 6455 section 5.4)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestErrorIs(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		target error
		want   bool
	}{
		{"1000 is io.EOF", &CloseError{Code: 1000}, io.EOF, true},
		{"1001 is io.EOF", &CloseError{Code: 1001}, io.EOF, true},
		{"1005 is io.EOF", &CloseError{Code: 1005}, io.EOF, true},
		{"1002 is not io.EOF", &CloseError{Code: 1002}, io.EOF, false},
		{"1006 is not io.EOF", &CloseError{Code: 1006}, io.EOF, false},
		{"4000 is not io.EOF", &CloseError{Code: 4000}, io.EOF, false},
		{"the peer's close is not net.ErrClosed", &CloseError{Code: 1000}, net.ErrClosed, false},
		{"1000 is not another error", &CloseError{Code: 1000}, io.ErrUnexpectedEOF, false},
		{"closed here is net.ErrClosed", &closedError{CloseError: CloseError{Code: 1000}}, net.ErrClosed, true},
		{"closed here, unanswered, is not io.EOF", &closedError{CloseError: CloseError{Code: 1000}}, io.EOF, false},
		{"a failed TCP connection is the network's error", &connError{"x", io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF, true},
		{"a failed TCP connection is not io.EOF", &connError{"x", io.ErrUnexpectedEOF}, io.EOF, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := errors.Is(fmt.Errorf("wrapped: %w", tt.err), tt.target); got != tt.want {
				t.Errorf("errors.Is(%v, %v) = %t, want %t", tt.err, tt.target, got, tt.want)
			}
		})
	}
}

func TestStatusCode_String(t *testing.T) {
	tests := map[StatusCode]string{
		0:                        "0",
		StatusNormalClosure:      "1000 (normal closure)",
		StatusGoingAway:          "1001 (going away)",
		StatusProtocolError:      "1002 (protocol error)",
		StatusUnsupportedData:    "1003 (unsupported data)",
		1004:                     "1004",
		StatusNoStatusReceived:   "1005 (no status received)",
		StatusAbnormalClosure:    "1006 (abnormal closure)",
		StatusInvalidPayload:     "1007 (invalid payload)",
		StatusPolicyViolation:    "1008 (policy violation)",
		StatusMessageTooBig:      "1009 (message too big)",
		StatusMandatoryExtension: "1010 (mandatory extension)",
		StatusInternalError:      "1011 (internal error)",
		StatusServiceRestart:     "1012 (service restart)",
		StatusTryAgainLater:      "1013 (try again later)",
		StatusBadGateway:         "1014 (bad gateway)",
		StatusTLSHandshake:       "1015 (TLS handshake)",
		4000:                     "4000",
		65535:                    "65535",
	}
	for code, want := range tests {
		if got := code.String(); got != want {
			t.Errorf("StatusCode(%d).String() = %q, want %q", uint16(code), got, want)
		}
	}
}

// mayBeSent reports whether RFC 6455 section 7.4 or the IANA registry allows code. It is a
// list, and the tests compare the ranges of the library with it.
func mayBeSent(code int) bool {
	switch code {
	case 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

func TestCloseCodes(t *testing.T) {
	for code := range 6000 {
		_, sendErr := closePayload(StatusCode(code), "why")
		_, receiveErr := ParseClose([]byte(closeBody(StatusCode(code), "why")))
		for doing, err := range map[string]error{"sending": sendErr, "receiving": receiveErr} {
			if ok := err == nil; ok != mayBeSent(code) {
				t.Errorf("%s code %d: got error %v, want allowed = %t", doing, code, err, mayBeSent(code))
			}
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Errorf("%s code %d: got error %v, want ErrProtocol", doing, code, err)
			}
		}
	}
}

// closeReasons are reasons, and what a close frame contains of them.
var closeReasons = []struct{ name, reason, sent string }{
	{"none", "", ""},
	{"short", "bye", "bye"},
	{"not ASCII", "Auf Wiederhören", "Auf Wiederhören"},
	{"as many bytes as fit", stars(123), stars(123)},
	{"one byte too many", stars(124), stars(123)},
	{"200 bytes", stars(200), stars(123)},
	{"a megabyte", stars(1 << 20), stars(123)},
	{"a character of 2 bytes that fits", stars(121) + "é", stars(121) + "é"},
	{"a character of 2 bytes that does not fit", stars(122) + "é", stars(122)},
	{"a character of 3 bytes of which 2 fit", stars(121) + "€", stars(121)},
	{"a character of 3 bytes of which 1 fits", stars(122) + "€", stars(122)},
	{"a character of 4 bytes of which 3 fit", stars(120) + "\U0001F44B", stars(120)},
	{"a character of 4 bytes of which 1 fits", stars(122) + "\U0001F44B", stars(122)},
	{"200 characters of 3 bytes", strings.Repeat("€", 200), strings.Repeat("€", 41)},
	{"a byte that is not UTF-8", "\xff", "\uFFFD"},
	{"text around a byte that is not UTF-8", "a\xffb", "a\uFFFDb"},
	{"half a character at the end", "so\xe2\x82", "so\uFFFD"},
	{"a surrogate", "\xed\xa0\x80", "\uFFFD"},
	{"no room for U+FFFD", stars(121) + "\xff", stars(121)},
	{"room for U+FFFD", stars(120) + "\xffx", stars(120) + "\uFFFD"},
	{"200 bytes in the middle of a character", strings.Repeat("\x80", 200), "\uFFFD"},
}

func TestAppendClose(t *testing.T) {
	for _, tt := range closeReasons {
		t.Run(tt.name, func(t *testing.T) {
			dst := append(make([]byte, 0, 4), "dst:"...)
			got := AppendClose(dst, 4000, tt.reason)
			if want := "dst:" + closeBody(4000, tt.sent); string(got) != want {
				t.Errorf("got %s, want %s", wstest.Hex(got), wstest.Hex([]byte(want)))
			}
			if parsed, err := ParseClose(got[4:]); err != nil || *parsed != (CloseError{4000, tt.sent}) {
				t.Errorf("parsed: got %v and error %v, want 4000 and %q", parsed, err, tt.sent)
			}
		})
	}
	for _, code := range []StatusCode{0, 999, 1004, 1006, 1015, 2999, 65535} {
		if got := AppendClose(nil, code, "x"); string(got) != closeBody(code, "x") {
			t.Errorf("code %v: got %s, want it as it is", code, wstest.Hex(got))
		}
	}
	for _, reason := range []string{"", "x"} {
		if got := AppendClose([]byte("dst"), StatusNoStatusReceived, reason); string(got) != "dst" {
			t.Errorf("no code, reason %q: got %s, want nothing appended", reason, wstest.Hex(got))
		}
	}
}

func TestParseClose(t *testing.T) {
	tests := []struct {
		name    string
		payload string
		want    CloseError
		err     error
	}{
		{"empty", "", CloseError{Code: StatusNoStatusReceived}, nil},
		{"one byte", "\x03", CloseError{}, ErrProtocol},
		{"a code", "\x03\xe8", CloseError{Code: 1000}, nil},
		{"a code and a reason", "\x03\xe9bye", CloseError{1001, "bye"}, nil},
		{"the longest reason", "\x13\x87" + stars(123), CloseError{4999, stars(123)}, nil},
		{"more than fits a control frame", "\x13\x87" + stars(124), CloseError{}, ErrProtocol},
		{"a code that must not be sent", "\x03\xee", CloseError{}, ErrProtocol},
		{"a reason that is not UTF-8", "\x03\xe8\xff", CloseError{}, ErrInvalidUTF8},
		{"a reason that ends inside a character", "\x03\xe8\xe2\x82", CloseError{}, ErrInvalidUTF8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseClose([]byte(tt.payload))
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) || (got == nil) != (err != nil) {
				t.Fatalf("got %v and error %v, want %v", got, err, tt.err)
			}
			if got != nil && *got != tt.want {
				t.Errorf("got %v, want %v", got, &tt.want)
			}
		})
	}
}

// plausibleClose reports whether b is a valid payload of a close frame. It is a second
// implementation of RFC 6455 section 5.5.1.
func plausibleClose(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	return len(b) >= 2 && len(b) <= 125 && mayBeSent(int(b[0])*256+int(b[1])) && utf8.Valid(b[2:])
}

func FuzzParseClose(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got, err := ParseClose(b)
		if (err == nil) != plausibleClose(before) {
			t.Fatalf("%s: got error %v, want accepted = %t", wstest.Hex(b), err, plausibleClose(before))
		}
		if len(b) >= 2 { // whatever the code and the reason are, they can be appended
			code := StatusCode(b[0])<<8 | StatusCode(b[1])
			again := AppendClose(nil, code, string(b[2:]))
			if mayBeSent(int(code)) != plausibleClose(again) && code != StatusNoStatusReceived {
				t.Fatalf("%s: appended as %s, want a valid reason", wstest.Hex(b), wstest.Hex(again))
			}
		}
		if err != nil {
			if code := CloseStatus(err); code != StatusProtocolError && code != StatusInvalidPayload {
				t.Fatalf("%s: error %v has the close code %v, want 1002 or 1007", wstest.Hex(b), err, code)
			}
			if len(err.Error()) > 1024 {
				t.Fatalf("%s: an error of %d bytes", wstest.Hex(b), len(err.Error()))
			}
			return
		}
		if again := AppendClose(nil, got.Code, got.Reason); !bytes.Equal(again, before) {
			t.Fatalf("parsed and appended %s: got %s", wstest.Hex(before), wstest.Hex(again))
		}
	})
}

func TestCloseError_nil_has_no_close_code(t *testing.T) {
	var none *CloseError
	for name, err := range map[string]error{"alone": none, "wrapped": fmt.Errorf("late: %w", none)} {
		if got := CloseStatus(err); got != 0 {
			t.Errorf("%s: got close status %v, want none", name, got)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%s: the error is io.EOF, want a different error", name)
		}
		wantMention(t, err.Error(), "nil *CloseError")
	}
}
