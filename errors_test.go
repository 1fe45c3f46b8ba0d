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
		_, receiveErr := parseClosePayload([]byte(closeBody(StatusCode(code), "why")))
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

func TestClosePayload(t *testing.T) {
	longest := strings.Repeat("x", 123)
	tests := []struct {
		name   string
		code   StatusCode
		reason string
		want   string
		err    error
	}{
		{"code alone", 1000, "", "\x03\xe8", nil},
		{"code and reason", 1001, "bye", "\x03\xe9bye", nil},
		{"no code", StatusNoStatusReceived, "", "", nil},
		{"a reason without a code", StatusNoStatusReceived, "bye", "", ErrProtocol},
		{"longest reason", 4999, longest, "\x13\x87" + longest, nil},
		{"reason too long", 4999, longest + "x", "", ErrProtocol},
		{"reason that is not UTF-8", 1000, "\xff", "", ErrInvalidUTF8},
		{"reason cut inside a character", 1000, "\xe2\x82", "", ErrInvalidUTF8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := closePayload(tt.code, tt.reason)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %s, error %v; want %s, %v", wstest.Hex(got), err, wstest.Hex([]byte(tt.want)), tt.err)
			}
		})
	}
}

// plausibleClose reports whether b is a valid body of a close frame. It is a second
// implementation of RFC 6455 section 5.5.1.
func plausibleClose(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	return len(b) >= 2 && mayBeSent(int(b[0])*256+int(b[1])) && utf8.Valid(b[2:])
}

func FuzzClosePayload(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got, err := parseClosePayload(b)
		if (err == nil) != plausibleClose(before) {
			t.Fatalf("%s: got error %v, want accepted = %t", wstest.Hex(b), err, plausibleClose(before))
		}
		if err != nil {
			if code := CloseStatus(err); code != StatusProtocolError && code != StatusInvalidPayload {
				t.Fatalf("%s: error %v has the close code %v, want 1002 or 1007", wstest.Hex(b), err, code)
			}
			return
		}
		again, err := closePayload(got.Code, got.Reason)
		if len(before) > maxControlPayload {
			wantError(t, err, ErrProtocol)
		} else if err != nil || !bytes.Equal(again, before) {
			t.Fatalf("parsed and encoded %s: got %s, error %v", wstest.Hex(before), wstest.Hex(again), err)
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
