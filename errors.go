package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The errors of this package wrap one of these. Their texts add the detail and the
// section of RFC 6455. Use [errors.Is] to test for them.
//
// If a [Conn] ends for another reason, the error is a [*CloseError] (the peer
// closed it), an error that is [net.ErrClosed] (it was closed on this side), or the
// wrapped error of the network (the TCP connection failed).
var (
	// ErrProtocol means that a rule of RFC 6455 was broken. If the peer of a Conn
	// broke it, the connection was closed with 1002. If the arguments of a call
	// would have broken it, the call has sent nothing.
	ErrProtocol = errors.New("websocket: protocol error")

	// ErrInvalidUTF8 means that a text message or a close reason is not valid UTF-8
	// (RFC 6455 section 8.1). If the peer of a Conn sent it, the connection was
	// closed with 1007. If it is the argument of a call, the call has sent nothing.
	ErrInvalidUTF8 = errors.New("websocket: invalid UTF-8")

	// ErrMessageTooLarge means that a message exceeds MaxFrameSize, MaxMessageSize
	// or MaxFragments, and that the connection was closed with 1009. [ReadFrame]
	// returns it for a frame over its limit.
	ErrMessageTooLarge = errors.New("websocket: message too large")

	// ErrConnectionTimeout means that the peer was silent for ConnectionTimeout.
	// The connection was closed with 1001.
	ErrConnectionTimeout = errors.New("websocket: connection timeout")

	// ErrCloseTimeout means that the peer did not answer a close frame within
	// CloseTimeout. The socket was closed without the peer's close frame.
	ErrCloseTimeout = errors.New("websocket: close timeout")

	// ErrInvalidOpcode means that a call got an opcode that no message can be sent
	// with: Continuation, or one that RFC 6455 section 5.2 reserves. If the peer
	// sent a reserved opcode, the error is ErrInvalidOpcode and ErrProtocol.
	ErrInvalidOpcode = errors.New("websocket: invalid opcode")
)

// A StatusCode is the status code of a close frame (RFC 6455 section 7.4).
// Applications may use the codes 4000 to 4999. The codes 3000 to 3999 are registered
// with IANA for libraries and frameworks.
type StatusCode uint16

// The status codes of RFC 6455 section 7.4.1 and of the IANA registry that section
// 11.7 creates. 1005, 1006 and 1015 are never sent, because they describe connections
// that ended without a code.
const (
	StatusNormalClosure      StatusCode = 1000
	StatusGoingAway          StatusCode = 1001
	StatusProtocolError      StatusCode = 1002
	StatusUnsupportedData    StatusCode = 1003
	StatusNoStatusReceived   StatusCode = 1005 // the close frame had no code
	StatusAbnormalClosure    StatusCode = 1006 // there was no close frame
	StatusInvalidPayload     StatusCode = 1007
	StatusPolicyViolation    StatusCode = 1008
	StatusMessageTooBig      StatusCode = 1009
	StatusMandatoryExtension StatusCode = 1010
	StatusInternalError      StatusCode = 1011
	StatusServiceRestart     StatusCode = 1012
	StatusTryAgainLater      StatusCode = 1013
	StatusBadGateway         StatusCode = 1014
	StatusTLSHandshake       StatusCode = 1015 // the TLS handshake failed
)

var statusNames = map[StatusCode]string{
	StatusNormalClosure:      "normal closure",
	StatusGoingAway:          "going away",
	StatusProtocolError:      "protocol error",
	StatusUnsupportedData:    "unsupported data",
	StatusNoStatusReceived:   "no status received",
	StatusAbnormalClosure:    "abnormal closure",
	StatusInvalidPayload:     "invalid payload",
	StatusPolicyViolation:    "policy violation",
	StatusMessageTooBig:      "message too big",
	StatusMandatoryExtension: "mandatory extension",
	StatusInternalError:      "internal error",
	StatusServiceRestart:     "service restart",
	StatusTryAgainLater:      "try again later",
	StatusBadGateway:         "bad gateway",
	StatusTLSHandshake:       "TLS handshake",
}

// String returns the code with its name, such as "1001 (going away)". For a code
// without a name it returns only the number.
func (code StatusCode) String() string {
	if name, ok := statusNames[code]; ok {
		return fmt.Sprintf("%d (%s)", uint16(code), name)
	}
	return fmt.Sprint(uint16(code))
}

// sendable reports whether a close frame may contain code. RFC 6455 section 7.4.2
// defines the ranges; section 7.4.1 and the IANA registry assign 1000 to 1015. Of
// those, 1004 is reserved, and an endpoint must not send 1005, 1006 or 1015.
func (code StatusCode) sendable() bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code < StatusNormalClosure || code > StatusBadGateway:
		return false
	}
	return code != 1004 && code != StatusNoStatusReceived && code != StatusAbnormalClosure
}

// A CloseError holds the code and reason of a close frame. The methods of a [Conn]
// return it if the peer closed the connection. A [HandlerFunc] returns it to close the
// connection with that code and reason.
//
// errors.Is(err, io.EOF) is true if Code says that nothing failed: 1000, 1001, or 1005
// for a close frame without a code.
type CloseError struct {
	Code   StatusCode
	Reason string // UTF-8, at most 123 bytes
}

// Error returns a text with the code and, if there is one, the quoted reason.
func (e *CloseError) Error() string {
	if e == nil {
		return "websocket: closed with nothing: a nil *CloseError"
	}
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed with %v", e.Code)
	}
	return fmt.Sprintf("websocket: closed with %v: %q", e.Code, e.Reason)
}

// Is reports whether target is io.EOF and the code is that of a normal end: 1000, 1001
// or 1005.
func (e *CloseError) Is(target error) bool {
	if target != io.EOF || e == nil {
		return false
	}
	return e.Code == StatusNormalClosure || e.Code == StatusGoingAway || e.Code == StatusNoStatusReceived
}

// A HandshakeError tells why [Upgrade] refused a request. The request has been
// answered over HTTP, and no connection was made. [OnRefused] gets it too.
//
// Reason is the fault of the request, and the default response has the same text. If an
// [Option] of Upgrade is invalid, Status is 500 and Reason is the fault of that option,
// which the response does not contain.
type HandshakeError struct {
	Status int // the HTTP status of the response; 403 if AcceptConnection refused, even if AccessDenied's handler sent another
	Reason string
}

// Error returns a text with the status and the reason.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("websocket: handshake refused with %d: %s", e.Status, e.Reason)
}

// closedError is the error of a connection that was closed on this side, with the code
// and reason that were sent. It is net.ErrClosed.
type closedError struct {
	CloseError
	peer *CloseError // the peer's close frame; nil if none has arrived
}

func (e *closedError) Error() string {
	return "websocket: use of a closed connection: closed here with " + e.Code.String()
}

func (e *closedError) Is(target error) bool { return target == net.ErrClosed }

func (e *closedError) Unwrap() error {
	if e.peer == nil {
		return nil
	}
	return e.peer
}

// connError is the error of a connection whose TCP connection failed before a close
// frame arrived.
type connError struct {
	doing string // the operation that failed, such as "receiving"
	err   error
}

func (e *connError) Error() string {
	return "websocket: " + e.doing + ": " + strings.TrimPrefix(e.err.Error(), "websocket: ")
}
func (e *connError) Unwrap() error { return e.err }

// errTimedOut is wrapped by the connError of a connection whose write took too long.
// It must not be os.ErrDeadlineExceeded, because receiving methods return it from then
// on, and their callers retry after os.ErrDeadlineExceeded.
var errTimedOut = errors.New("i/o timeout")

// cutOffError wraps a connError with errTimedOut for the callers of sending methods.
// It is also os.ErrDeadlineExceeded, because a deadline for writing has passed.
type cutOffError struct{ error }

func (e cutOffError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
func (e cutOffError) Unwrap() error        { return e.error }

// CloseStatus returns the close code that err contains or stands for:
//
//   - a [*CloseError]: its code
//   - an error of a connection that was closed on this side: the code that was sent
//   - [ErrProtocol] and [ErrInvalidOpcode]: 1002
//   - [ErrInvalidUTF8]: 1007
//   - [ErrMessageTooLarge]: 1009
//   - [ErrConnectionTimeout]: 1001
//   - [ErrCloseTimeout], and the error of a TCP connection that failed: 1006
//
// For nil and for every other error it returns 0.
func CloseStatus(err error) StatusCode {
	var (
		peer *CloseError
		here *closedError
		dead *connError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &here):
		return here.Code
	case errors.As(err, &peer) && peer != nil:
		return peer.Code
	case errors.As(err, &dead), errors.Is(err, ErrCloseTimeout):
		return StatusAbnormalClosure
	case errors.Is(err, ErrInvalidUTF8):
		return StatusInvalidPayload
	case errors.Is(err, ErrMessageTooLarge):
		return StatusMessageTooBig
	case errors.Is(err, ErrConnectionTimeout):
		return StatusGoingAway
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrInvalidOpcode):
		return StatusProtocolError
	}
	return 0
}

// protocolError returns an ErrProtocol with a text that describes the fault and names
// the section of RFC 6455 that forbids it.
func protocolError(section, format string, args ...any) error {
	return fmt.Errorf("%w: %s (RFC 6455 section %s)", ErrProtocol, fmt.Sprintf(format, args...), section)
}

// maxReason is the largest length of a close reason: a control frame has at most 125
// bytes, and the code takes 2 of them.
const maxReason = 125 - 2

// closePayload returns the payload of a close frame with code and reason, or an error
// if RFC 6455 forbids them. StatusNoStatusReceived stands for a close frame without a
// code, so its payload is empty.
func closePayload(code StatusCode, reason string) ([]byte, error) {
	if code == StatusNoStatusReceived && reason == "" {
		return nil, nil
	}
	if !code.sendable() {
		return nil, protocolError("7.4", "close code %v must not be sent", code)
	}
	if len(reason) > maxReason {
		return nil, protocolError("5.5", "close reason of %d bytes exceeds %d", len(reason), maxReason)
	}
	if !utf8.ValidString(reason) {
		return nil, fmt.Errorf("%w: in the close reason %q (RFC 6455 section 5.5.1)", ErrInvalidUTF8, reason)
	}
	return closeBytes(code, reason), nil
}

// closeBytes returns the payload of a close frame without checking code and reason.
func closeBytes(code StatusCode, reason string) []byte {
	payload := make([]byte, 0, 2+len(reason))
	return append(append(payload, byte(code>>8), byte(code)), reason...)
}

// parseClosePayload parses the payload of a close frame (RFC 6455 section 5.5.1): it is
// empty, or a code that may be sent followed by a reason in UTF-8. For an empty payload
// the code is StatusNoStatusReceived.
func parseClosePayload(payload []byte) (*CloseError, error) {
	switch len(payload) {
	case 0:
		return &CloseError{Code: StatusNoStatusReceived}, nil
	case 1:
		return nil, protocolError("5.5.1", "close payload of 1 byte, which is too short for a code")
	}
	code := StatusCode(payload[0])<<8 | StatusCode(payload[1])
	if !code.sendable() {
		return nil, protocolError("7.4", "close code %v must not be sent", code)
	}
	reason := payload[2:]
	if !utf8.Valid(reason) {
		return nil, fmt.Errorf("%w: in the close reason %q (RFC 6455 section 5.5.1)", ErrInvalidUTF8, reason)
	}
	return &CloseError{Code: code, Reason: string(reason)}, nil
}

// headerText returns the name of a header and its quoted values, or "no" and the name if
// the header is absent.
func headerText(name string, values []string) string {
	if len(values) == 0 {
		return "no " + name
	}
	return name + " " + quoted(strings.Join(values, ", "))
}

// quoted returns text of the peer as a quoted string on one line. Of a longer text it keeps
// the first 100 bytes or, if most of them must be escaped, less: the result has at most 205
// bytes.
func quoted(s string) string {
	const limit, quotedLimit = 100, 205
	short := s[:min(len(s), limit)]
	for {
		text := short
		if len(short) < len(s) {
			text += "..."
		}
		if q := strconv.Quote(text); len(q) <= quotedLimit {
			return q
		}
		short = short[:len(short)*9/10]
	}
}
