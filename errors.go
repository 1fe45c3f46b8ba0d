package websocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// The errors of this package wrap one of these. Their texts add the detail and the
// section of RFC 6455. Use [errors.Is] to test for them.
//
// If a [Conn] ends for another reason, the error is a [*CloseError] (the peer
// closed it), an error that is [net.ErrClosed] (it was closed on this side), or the
// wrapped error of the network (the TCP connection failed).
//
// The texts are short, whatever the peer sends: text of the peer is quoted and cut.
var (
	// ErrProtocol means that a rule of RFC 6455 was broken, or of RFC 7692 for compressed
	// messages. If the peer of a Conn broke it, the connection was closed with 1002, or with
	// 1007 if a compressed message cannot be inflated. If the arguments of a call would have
	// broken it, the call has sent nothing.
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
	// The connection was closed with 1001. The error is a [net.Error] whose Timeout
	// method returns true.
	ErrConnectionTimeout error = &timeoutError{text: "websocket: connection timeout", ended: true}

	// ErrCloseTimeout means that the peer did not answer a close frame within
	// CloseTimeout, or was silent for ConnectionTimeout or did not read for WriteTimeout
	// before that. After a close frame of SendMessage or WriteFrame, these two limits give
	// the errors of an open connection. The socket was closed without the peer's close
	// frame. The error is a [net.Error] whose Timeout method returns true.
	ErrCloseTimeout error = &timeoutError{text: "websocket: close timeout", ended: true}

	// ErrInvalidOpcode means that a call got an opcode that cannot be sent as a
	// message: Continuation, or one that RFC 6455 section 5.2 reserves. If the peer
	// sent a reserved opcode, the error is ErrInvalidOpcode and ErrProtocol.
	ErrInvalidOpcode = errors.New("websocket: invalid opcode")

	// ErrInvalidJSON means that a message of the peer is not JSON for the argument of
	// [Conn.ReceiveJSON]. The error is also that of encoding/json. The connection stays
	// usable. If a [HandlerFunc] returns the error, the connection is closed with 1007.
	ErrInvalidJSON = errors.New("websocket: invalid JSON")

	// ErrSendQueueFull means that a peer reads too slowly: a message does not fit into the
	// queue of its connection, see [SendQueue]. [Conn.TrySend] has sent nothing then, and the
	// connection stays as it is. [Broadcast] closes such a connection with 1013; from then on its
	// methods return an error that is also [net.ErrClosed].
	ErrSendQueueFull = errors.New("websocket: send queue full")
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
	Reason string // UTF-8; of more than 123 bytes, only the first characters are sent
}

// Error returns a text with the code and, if there is one, the quoted reason.
func (e *CloseError) Error() string {
	if e == nil {
		return "websocket: closed with nothing: a nil *CloseError"
	}
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed with %v", e.Code)
	}
	return fmt.Sprintf("websocket: closed with %v: %s", e.Code, quotedUpTo(maxReason, e.Reason))
}

// Is reports whether target is io.EOF and the code is that of a normal end: 1000, 1001
// or 1005.
func (e *CloseError) Is(target error) bool {
	if target != io.EOF || e == nil {
		return false
	}
	return e.Code == StatusNormalClosure || e.Code == StatusGoingAway || e.Code == StatusNoStatusReceived
}

// A HandshakeError says why [Upgrade] refused a request. The request has been answered over HTTP,
// and no connection was made. [OnRefused] gets it too.
//
// Reason says what is wrong with the request, and the default response has the same text. If
// an [Option] of Upgrade is invalid, Status is 500 and Reason says what is wrong with that
// option; the response does not say it.
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
// frame arrived. It is a net.Error, as the errors of package net are.
type connError struct {
	doing string // the operation that failed, such as "receiving"
	err   error
}

func (e *connError) Error() string {
	return "websocket: " + e.doing + ": " + strings.TrimPrefix(oneLine(e.err.Error()), "websocket: ")
}

func (e *connError) Unwrap() error { return e.err }

// Timeout reports whether a timeout was the cause: WriteTimeout, a deadline, or a timeout
// of TCP.
func (e *connError) Timeout() bool {
	var cause interface{ Timeout() bool }
	return errors.As(e.err, &cause) && cause.Timeout()
}

// Temporary returns false, because the connection has ended.
func (e *connError) Temporary() bool { return false }

// A timeoutError is an error that a timeout caused. It is a [net.Error] itself, because
// many programs look for one with a type assertion, and os.IsTimeout does not unwrap.
type timeoutError struct {
	text  string
	err   error // the error that it wraps, nil for none
	ended bool  // the connection has ended with it
}

func (e *timeoutError) Error() string { return e.text }
func (e *timeoutError) Unwrap() error { return e.err }
func (e *timeoutError) Timeout() bool { return true }

// Temporary reports whether a later call can succeed. The errors of package net have this
// deprecated method too. A program that retries after temporary errors would never stop if
// those of an ended connection were temporary.
func (e *timeoutError) Temporary() bool { return !e.ended }

// endedByTimeout returns the error of a connection that was ended by a timeout: the
// sentinel err with the details.
func endedByTimeout(err error, format string, args ...any) error {
	return &timeoutError{text: err.Error() + ": " + fmt.Sprintf(format, args...), err: err, ended: true}
}

// The errors of a call whose deadline has passed. The connection is still usable.
var (
	errReadDeadline  error = &timeoutError{text: "websocket: receiving: the read deadline has passed: i/o timeout", err: os.ErrDeadlineExceeded}
	errWriteDeadline error = &timeoutError{text: "websocket: sending: the write deadline has passed: i/o timeout", err: os.ErrDeadlineExceeded}
)

// messageCutOff is the error of a MessageWriter whose last frame could not be sent before the
// write deadline. The message cannot be completed, so the connection has ended with end.
func messageCutOff(end error) error {
	return &timeoutError{
		text:  "websocket: sending the last frame of a message: i/o timeout, which ends the connection",
		err:   errors.Join(os.ErrDeadlineExceeded, end),
		ended: true,
	}
}

// errTimedOut is wrapped by the connError of a connection whose write took too long.
// It must not be os.ErrDeadlineExceeded, because receiving methods return it from then
// on, and their callers retry after os.ErrDeadlineExceeded.
var errTimedOut error = &timeoutError{text: "i/o timeout", ended: true}

// errSocketDeadline is wrapped by the connError of a connection of HandleConcurrent whose
// net.Conn sets read deadlines itself. It is not os.ErrDeadlineExceeded, for the same reason.
// It is not errTimedOut either, because sending methods would return that as
// os.ErrDeadlineExceeded.
var errSocketDeadline error = &timeoutError{text: "i/o timeout", ended: true}

// cutOffError wraps a connError with errTimedOut for the callers of sending methods.
// It is also os.ErrDeadlineExceeded, because a deadline for writing has passed.
type cutOffError struct{ error }

func (e cutOffError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
func (e cutOffError) Unwrap() error        { return e.error }
func (e cutOffError) Timeout() bool        { return true }
func (e cutOffError) Temporary() bool      { return false }

// A jsonError is an ErrInvalidJSON. Its text is short, although that of err may repeat the
// whole message.
type jsonError struct {
	text string
	err  error // of encoding/json, or of a method that it has called
}

func (e *jsonError) Error() string   { return e.text }
func (e *jsonError) Unwrap() []error { return []error{ErrInvalidJSON, e.err} }

// invalidJSON returns the ErrInvalidJSON for a message of size bytes that is not JSON for
// v, as err says.
func invalidJSON(size int, v any, err error) error {
	if mismatch, ok := err.(*json.UnmarshalTypeError); ok && len(mismatch.Error()) > maxErrorText {
		short := *mismatch // Value can hold a number of the peer, and Field a name
		short.Value, short.Field = cut(short.Value, maxQuoted)+"...", cut(short.Field, maxQuoted)
		if inner := reflect.ValueOf(&short).Elem().FieldByName("Err"); inner.IsValid() {
			inner.SetZero() // since Go 1.27, and it repeats the text
		}
		err = &short
	}
	text := fmt.Sprintf("%v: message of %d bytes is not JSON for %T: %s", ErrInvalidJSON, size, v, oneLine(err.Error()))
	return &jsonError{text, err}
}

// CloseStatus returns the close code that err contains or stands for:
//
//   - a [*CloseError]: its code
//   - an error of a connection that was closed on this side: the code that was sent
//   - [ErrProtocol] and [ErrInvalidOpcode]: 1002
//   - [ErrInvalidUTF8], [ErrInvalidJSON], and [ErrProtocol] for a compressed message that cannot
//     be inflated: 1007
//   - [ErrMessageTooLarge]: 1009
//   - [ErrConnectionTimeout]: 1001
//   - [ErrSendQueueFull]: 1013
//   - [ErrCloseTimeout], and the error of a TCP connection that failed: 1006
//
// For nil and for every other error it returns 0.
func CloseStatus(err error) StatusCode {
	switch err := err.(type) { // the most common errors, without the allocations of errors.As
	case *closedError:
		return err.Code
	case *CloseError:
		if err != nil {
			return err.Code
		}
	case *connError:
		return StatusAbnormalClosure
	}
	return wrappedStatus(err)
}

// wrappedStatus is CloseStatus for an error that may be wrapped.
func wrappedStatus(err error) StatusCode {
	var (
		peer *CloseError
		here *closedError
		dead *connError
		data *inflateError
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
	case errors.Is(err, ErrInvalidUTF8), errors.Is(err, ErrInvalidJSON), errors.As(err, &data):
		return StatusInvalidPayload
	case errors.Is(err, ErrMessageTooLarge):
		return StatusMessageTooBig
	case errors.Is(err, ErrConnectionTimeout):
		return StatusGoingAway
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrInvalidOpcode):
		return StatusProtocolError
	case errors.Is(err, ErrSendQueueFull):
		return StatusTryAgainLater
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

// AppendClose appends the payload of a close frame to dst, and returns the extended slice:
// the code in two bytes, and the reason (RFC 6455 section 5.5.1). A control frame has room
// for 123 bytes of reason, so a longer one is cut between two characters. Bytes of the
// reason that are not UTF-8 become U+FFFD, because otherwise the peer would have to fail
// the connection.
//
// For [StatusNoStatusReceived] it appends nothing, because that code stands for an empty
// payload. Other codes are appended as they are. RFC 6455 section 7.4 forbids some of them;
// [Conn.SendMessage] refuses those.
func AppendClose(dst []byte, code StatusCode, reason string) []byte {
	if code == StatusNoStatusReceived {
		return dst
	}
	reason = closeReason(reason)
	dst = slices.Grow(dst, 2+len(reason))
	return append(append(dst, byte(code>>8), byte(code)), reason...)
}

// ParseClose parses the payload of a close frame, unmasked (RFC 6455 section 5.5.1): it is
// empty, or a code followed by a reason. For an empty payload, the code of the result is
// [StatusNoStatusReceived].
//
// A payload of one byte or of more than 125 bytes, and a code that must not be sent (RFC
// 6455 section 7.4), are [ErrProtocol]. A reason that is not UTF-8 is [ErrInvalidUTF8].
func ParseClose(payload []byte) (*CloseError, error) {
	closed, err := parseClose(payload)
	if err != nil {
		return nil, err
	}
	return &closed, nil
}

// parseClose is ParseClose without an allocation.
func parseClose(payload []byte) (CloseError, error) {
	switch {
	case len(payload) == 0:
		return CloseError{Code: StatusNoStatusReceived}, nil
	case len(payload) == 1:
		return CloseError{}, protocolError("5.5.1", "close payload of 1 byte, which is too short for a code")
	case len(payload) > 2+maxReason:
		return CloseError{}, protocolError("5.5", "close payload of %d bytes exceeds %d", len(payload), 2+maxReason)
	}
	code := StatusCode(payload[0])<<8 | StatusCode(payload[1])
	if !code.sendable() {
		return CloseError{}, protocolError("7.4", "close code %v must not be sent", code)
	}
	reason := payload[2:]
	if !utf8.Valid(reason) {
		return CloseError{}, fmt.Errorf("%w: in the close reason %s (RFC 6455 section 5.5.1)", ErrInvalidUTF8, quotedUpTo(maxReason, string(reason)))
	}
	return CloseError{Code: code, Reason: string(reason)}, nil
}

// closePayload is AppendClose for a code that may be sent. Other codes are ErrProtocol, and
// so is StatusNoStatusReceived with a reason, which cannot be sent without a code.
func closePayload(code StatusCode, reason string) ([]byte, error) {
	if !code.sendable() && (code != StatusNoStatusReceived || reason != "") {
		return nil, protocolError("7.4", "close code %v must not be sent", code)
	}
	return AppendClose(nil, code, reason), nil
}

// closeReason returns the part of reason that fits a close frame, in valid UTF-8.
func closeReason(reason string) string {
	return cut(strings.ToValidUTF8(reason, "\uFFFD"), maxReason)
}

// maxErrorText is how many bytes are kept of an error text that may repeat text of the
// peer. The errors and the log lines that contain it have less than a kilobyte.
const maxErrorText = 300

// An inflateError is the error of a connection whose peer has sent a compressed message that
// cannot be inflated. It is an ErrProtocol, but the connection is closed with 1007.
type inflateError struct{ cause error }

func (e *inflateError) Error() string {
	return fmt.Sprintf("%v: a compressed message cannot be inflated: %v (RFC 7692 section 7.2.2)", ErrProtocol, e.cause)
}

func (e *inflateError) Unwrap() error { return ErrProtocol }

// errFrameCutOff is the error of a connection whose write was cut off in the middle of a frame.
var errFrameCutOff = &connError{"sending: the deadline cut a frame off", errTimedOut}
