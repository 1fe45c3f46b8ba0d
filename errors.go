package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"unicode/utf8"
)

// The errors that this package returns wrap one of these, with the detail and
// the section of RFC 6455 in their text; test for them with [errors.Is].
//
// The end of a connection has these other shapes: a [*CloseError] when the
// peer closed it, an error that is [net.ErrClosed] when it was closed here,
// and the wrapped error of the network when the TCP connection died.
var (
	// ErrProtocol is a broken rule of RFC 6455. When the peer broke it, the
	// connection was failed with 1002; when the caller of a sending method
	// was about to break it, nothing was sent.
	ErrProtocol = errors.New("websocket: protocol error")

	// ErrInvalidUTF8 is text, or a close reason, that is not valid UTF-8
	// (RFC 6455 section 8.1). Received, it fails the connection with 1007; to be
	// sent, it is refused and nothing is sent.
	ErrInvalidUTF8 = errors.New("websocket: invalid UTF-8")

	// ErrMessageTooLarge is a frame or message from the peer over MaxFrameSize,
	// MaxMessageSize or MaxFragments. The connection was failed with 1009.
	ErrMessageTooLarge = errors.New("websocket: message too large")

	// ErrConnectionTimeout is a peer that was silent for ConnectionTimeout.
	// The connection was closed with 1001.
	ErrConnectionTimeout = errors.New("websocket: connection timeout")

	// ErrCloseTimeout is a peer that did not answer a close frame within
	// CloseTimeout. The socket was closed without its answer.
	ErrCloseTimeout = errors.New("websocket: close timeout")

	// ErrInvalidOpcode is an opcode that cannot be sent as a message
	// (Continuation, or one that RFC 6455 section 5.2 reserves), or a reserved
	// one that was received; the latter is ErrProtocol too.
	ErrInvalidOpcode = errors.New("websocket: invalid opcode")
)

// StatusCode is the status code of a close frame (RFC 6455 section 7.4). The
// codes 3000 to 3999 are registered by libraries and frameworks, 4000 to 4999
// are free for applications.
type StatusCode uint16

// The status codes of RFC 6455 section 7.4.1 and of the IANA registry that it
// founded. 1005, 1006 and 1015 are never on the wire: they stand for what
// happened without a code.
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

// String returns the code with its name, as in "1001 (going away)", or the
// bare number of a code that has none.
func (code StatusCode) String() string {
	if name, ok := statusNames[code]; ok {
		return fmt.Sprintf("%d (%s)", uint16(code), name)
	}
	return fmt.Sprint(uint16(code))
}

// sendable reports whether code may stand in a close frame: RFC 6455 section
// 7.4.2 for the ranges, 7.4.1 and the IANA registry for what is in use of the
// first. 1004 is reserved, 1005, 1006 and 1015 must not be set by an endpoint.
func (code StatusCode) sendable() bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code < StatusNormalClosure || code > StatusBadGateway:
		return false
	}
	return code != 1004 && code != StatusNoStatusReceived && code != StatusAbnormalClosure
}

// A CloseError is the code and reason of a close frame: what the peer closed
// the connection with, or what a [HandlerFunc] returns to close it with.
//
// It is [io.EOF] to [errors.Is] when Code says that nothing went wrong: 1000,
// 1001, or 1005 for a close frame without a code.
type CloseError struct {
	Code   StatusCode
	Reason string // UTF-8, at most 123 bytes
}

// Error names the code, and quotes the reason where there is one.
func (e *CloseError) Error() string {
	if e == nil {
		return "websocket: closed with nothing: a nil *CloseError"
	}
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed with %v", e.Code)
	}
	return fmt.Sprintf("websocket: closed with %v: %q", e.Code, e.Reason)
}

// Is makes a close without a failure io.EOF.
func (e *CloseError) Is(target error) bool {
	if target != io.EOF || e == nil {
		return false
	}
	return e.Code == StatusNormalClosure || e.Code == StatusGoingAway || e.Code == StatusNoStatusReceived
}

// A HandshakeError is a request that [Upgrade] refused: what was answered over
// HTTP. No connection was made, and nothing is left for the caller to answer.
type HandshakeError struct {
	Status int    // the HTTP status that was sent; 403 when AccessDenied's handler chose another
	Reason string // what was wrong with the request, as its sender was told
}

// Error names the status and what was wrong.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("websocket: handshake refused with %d: %s", e.Status, e.Reason)
}

// closedError is the end of a connection that was closed here. When the peer
// has answered, peer is what with.
type closedError struct {
	CloseError
	peer *CloseError
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

// deadError is the end of a connection whose TCP connection died: no close
// frame came.
type deadError struct {
	doing string
	err   error
}

func (e *deadError) Error() string { return "websocket: " + e.doing + ": " + e.err.Error() }
func (e *deadError) Unwrap() error { return e.err }

// errTimedOut is in a deadError for a write that took too long. It is not
// os.ErrDeadlineExceeded, which every later call would then return, to a caller
// who takes it for a connection that stays usable and tries again for ever.
var errTimedOut = errors.New("i/o timeout")

// cutOffError is what the senders get of it, whose write took too long.
type cutOffError struct{ error }

func (e cutOffError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
func (e cutOffError) Unwrap() error        { return e.error }

// CloseStatus returns the close code that err carries (a [*CloseError]) or
// stands for: 1002 for ErrProtocol, 1006 for a TCP connection that died, the
// code sent when the connection was closed here, and so on. It returns 0 for
// an error that says nothing about a connection's end, and for nil.
func CloseStatus(err error) StatusCode {
	var (
		peer *CloseError
		here *closedError
		dead *deadError
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

// protocolError is a rule that was broken: what happened and the section that
// forbids it.
func protocolError(section, format string, args ...any) error {
	return fmt.Errorf("%w: %s (RFC 6455 section %s)", ErrProtocol, fmt.Sprintf(format, args...), section)
}

// maxReason is what a control frame's 125 bytes leave behind the code.
const maxReason = maxControlPayload - 2

// closePayload builds the body of a close frame. StatusNoStatusReceived makes
// an empty one, which is what that code stands for.
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

// closeBytes is closePayload without the rules.
func closeBytes(code StatusCode, reason string) []byte {
	payload := make([]byte, 0, 2+len(reason))
	return append(append(payload, byte(code>>8), byte(code)), reason...)
}

// parseClosePayload reads the body of a close frame by the rules of RFC 6455
// section 5.5.1: nothing at all, or a valid code and a reason in UTF-8.
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
