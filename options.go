package websocket

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// An Option changes one default of [Handle], [HandleConcurrent] or [Upgrade].
// They are named after the parameters of the egg; a later one overrides an
// earlier one of the same name.
//
// A nil or out-of-range value is a mistake in the program, and makes those
// functions panic with the option, the value and the range.
type Option func(*options)

// options is what a connection runs with. It is made once for a Handler and
// shared, unchanged, by all its connections.
type options struct {
	pingInterval      time.Duration
	closeTimeout      time.Duration
	connectionTimeout time.Duration
	writeTimeout      time.Duration

	acceptConnection  func(*http.Request) bool
	accessDenied      http.Handler
	dropIncomingPings bool
	writeCoalescing   bool
	subprotocols      []string

	maxFrameSize   int64
	maxMessageSize int64
	maxFragments   int

	propagateCommonErrors bool
	onError               func(*Conn, error)
	detached              bool
}

// sizeLimit is the most that MaxFrameSize and MaxMessageSize can be set to. It
// fits an int on every platform.
const sizeLimit = 1 << 30

// defaultOptions holds every default, in one place.
func defaultOptions() *options {
	return &options{
		pingInterval:      15 * time.Second,
		closeTimeout:      5 * time.Second,
		connectionTimeout: 60 * time.Second,
		writeTimeout:      60 * time.Second,

		acceptConnection: SameOrigin,
		writeCoalescing:  true,

		maxFrameSize:   1 << 20,
		maxMessageSize: 1 << 20,
		maxFragments:   131072,
	}
}

// newOptions applies opts to the defaults. It panics on a value out of range.
func newOptions(opts []Option) *options {
	o := defaultOptions()
	for i, opt := range opts {
		if opt == nil {
			panic(fmt.Sprintf("websocket: option %d is nil", i+1))
		}
		opt(o)
	}
	return o
}

// PingInterval sets how often the keepalive sends a ping, so that the peer and
// every proxy on the way see a live connection (15 s). 0 sends none. While no
// method is receiving, this is also how often pings and the close of the peer are
// looked for.
func PingInterval(d time.Duration) Option {
	checkDuration("PingInterval", d)
	return func(o *options) { o.pingInterval = d }
}

// CloseTimeout bounds the close handshake, from the close frame sent here to
// the answer of the peer (5 s). 0 waits for as long as the peer is not silent
// for ConnectionTimeout.
func CloseTimeout(d time.Duration) Option {
	checkDuration("CloseTimeout", d)
	return func(o *options) { o.closeTimeout = d }
}

// ConnectionTimeout sets after how long without a single byte from the peer
// the connection is closed, with 1001 and [ErrConnectionTimeout] (60 s). A
// living peer answers the pings of PingInterval, so keep this the longer of the
// two. 0 waits for ever.
func ConnectionTimeout(d time.Duration) Option {
	checkDuration("ConnectionTimeout", d)
	return func(o *options) { o.connectionTimeout = d }
}

// WriteTimeout sets how long one write to the socket may wait for a peer that
// does not read (60 s). A connection whose write takes longer is dead, and the
// sender's error is [os.ErrDeadlineExceeded]. 0 waits for ever: a peer that stops reading
// then holds its senders for as long as it likes.
func WriteTimeout(d time.Duration) Option {
	checkDuration("WriteTimeout", d)
	return func(o *options) { o.writeTimeout = d }
}

// AcceptConnection sets who gets in: accept sees every request that is a valid
// handshake, and one that it returns false for is answered by AccessDenied's
// handler. The default is [SameOrigin]; [AllowOrigins] and [AnyOrigin] are the
// other ready-made policies. It may be called by many goroutines at once.
func AcceptConnection(accept func(*http.Request) bool) Option {
	if accept == nil {
		panic("websocket: AcceptConnection(nil): want a function, AnyOrigin to accept every request")
	}
	return func(o *options) { o.acceptConnection = accept }
}

// AccessDenied sets the handler that answers what AcceptConnection refused. The
// default answers 403 with <h1>Access denied</h1> and the reason.
func AccessDenied(h http.Handler) Option {
	if h == nil {
		panic("websocket: AccessDenied(nil): want an http.Handler")
	}
	return func(o *options) { o.accessDenied = h }
}

// DropIncomingPings, set to true, leaves the pings of the peer unanswered, as
// the egg does by default and RFC 6455 section 5.5.2 forbids (false).
func DropIncomingPings(drop bool) Option {
	return func(o *options) { o.dropIncomingPings = drop }
}

// PropagateCommonErrors, set to true, reports the everyday ends of a connection
// (the peer closed it, broke a rule, fell silent, went away) through OnError as
// well (false).
func PropagateCommonErrors(propagate bool) Option {
	return func(o *options) { o.propagateCommonErrors = propagate }
}

// MaxFrameSize sets the largest payload of one frame from the peer, in bytes
// (1 MiB, 1 GiB at most). A frame over it fails the connection with 1009 as soon
// as its header is there: its payload is never waited for.
func MaxFrameSize(n int64) Option {
	checkRange("MaxFrameSize", n, 1, sizeLimit)
	return func(o *options) { o.maxFrameSize = n }
}

// MaxMessageSize sets the largest message from the peer, all its fragments
// together, in bytes (1 MiB, 1 GiB at most). The header of the frame that would
// exceed it fails the connection with 1009.
func MaxMessageSize(n int64) Option {
	checkRange("MaxMessageSize", n, 1, sizeLimit)
	return func(o *options) { o.maxMessageSize = n }
}

// MaxFragments sets the most frames that one message from the peer may be split
// into (131072). The frame that exceeds it fails the connection with 1009.
func MaxFragments(n int) Option {
	checkRange("MaxFragments", int64(n), 1, 1<<31-1)
	return func(o *options) { o.maxFragments = n }
}

// WriteCoalescing, set to false, makes every sent frame a write of its own. By
// default (true) a frame that is sent while the peer's next frame has arrived
// already, but was not yet received, may wait to be written together with what is
// sent in answer to that one: a tenth of the work where a peer sends many small
// messages at once. It waits until a receiving method has to wait for the peer,
// 64 KiB are together, or a connection is closed, but for no longer than 100 µs.
func WriteCoalescing(coalesce bool) Option {
	return func(o *options) { o.writeCoalescing = coalesce }
}

// Subprotocols names the subprotocols that the server speaks, the one it likes
// best first (RFC 6455 section 1.9). The first that the client offers is agreed
// on, see [Conn.Subprotocol]; with none in common the connection is made
// without one. By default none is.
func Subprotocols(names ...string) Option {
	for i, name := range names {
		if !isToken(name) {
			panic(fmt.Sprintf("websocket: Subprotocols(%q): want a token of RFC 9110 section 5.6.2", name))
		}
		if slices.Contains(names[:i], name) {
			panic(fmt.Sprintf("websocket: Subprotocols(%q): named twice", name))
		}
	}
	names = slices.Clone(names)
	return func(o *options) { o.subprotocols = names }
}

// OnError sets who is told of unexpected errors: what a [HandlerFunc] returned
// or panicked with that is no everyday end of a connection (for those too, see
// PropagateCommonErrors). f is called on the goroutine of the HandlerFunc once the
// connection is closed. By default the error is written to the ErrorLog of the
// [http.Server]; a panic is not, as net/http, or [Detached], writes it there itself.
func OnError(f func(c *Conn, err error)) Option {
	if f == nil {
		panic("websocket: OnError(nil): want a function")
	}
	return func(o *options) { o.onError = f }
}

// Detached, set to true, has ServeHTTP return as soon as the connection is upgraded,
// and the [HandlerFunc] run on a goroutine of its own (false). What net/http holds for
// a request and the middleware on its stack are then collected, 3 KiB of 9 for each idle
// connection. Nothing else about the connection changes: how the function ends is how
// it is closed, and [Conn.Context] has the values of the request's context.
//
// It is off by default because of what else sees the request end:
//
//   - Middleware does. It logs the request when the connection is made, measures the
//     handshake, gives back what it holds, and recovers no panic of the function. That
//     is logged as net/http would, with its stack, and closes with 1011; the server
//     goes on.
//   - The context of [Conn.Request] is done from then on, and nobody may change the
//     request any more: the connection reads it.
//   - A router that uses what it puts into a request again for the next one, as chi
//     and those with a context of their own do, has done so by the time the function
//     looks. The PathValue of a [http.ServeMux] stays.
//
// It is for a HandlerFunc: [Upgrade] has none, and ignores it.
func Detached(detached bool) Option {
	return func(o *options) { o.detached = detached }
}

// EggDefaults restores the two defaults of the CHICKEN Scheme egg that this
// package changes: every origin is accepted and incoming pings are dropped. The
// first lets any web page use the connection in the name of its visitor, the
// second breaks RFC 6455 section 5.5.2.
func EggDefaults() Option {
	return func(o *options) {
		o.acceptConnection = AnyOrigin
		o.dropIncomingPings = true
	}
}

func checkDuration(option string, d time.Duration) {
	if d < 0 {
		panic(fmt.Sprintf("websocket: %s(%v): want 0 or more", option, d))
	}
}

func checkRange(option string, n, low, high int64) {
	if n < low || n > high {
		panic(fmt.Sprintf("websocket: %s(%d): want %d to %d", option, n, low, high))
	}
}
