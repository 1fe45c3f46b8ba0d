package websocket

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// An Option changes one default of [Handle], [HandleConcurrent] or [Upgrade].
// Options are named after the egg's parameters. If an option is given twice, the
// last one wins.
//
// A nil or out-of-range value is a programming error: the function that makes the
// Option panics with a text that names the option, the value and the range. Handle,
// HandleConcurrent and Upgrade panic if an Option itself is nil.
type Option func(*options)

// options holds the settings of a connection. A Handler makes one, and all of its
// connections share it. It does not change after newOptions has returned.
type options struct {
	config // of each connection

	acceptConnection func(*http.Request) bool
	accessDenied     http.Handler
	subprotocols     []string

	propagateCommonErrors bool
	onError               func(*Conn, error)
	onClose               func(*Conn, error)
	detached              bool
}

// sizeLimit is the largest value of MaxFrameSize and MaxMessageSize, in bytes. It
// fits an int on every platform.
const sizeLimit = 1 << 30

// defaultOptions returns the default of every option.
func defaultOptions() *options {
	return &options{
		config: config{
			timeouts: timeouts{
				pingInterval:      15 * time.Second,
				closeTimeout:      5 * time.Second,
				connectionTimeout: 60 * time.Second,
				writeTimeout:      60 * time.Second,
			},
			limits: limits{
				maxFrameSize:   1 << 20,
				maxMessageSize: 1 << 20,
				maxFragments:   131072,
			},
			writeCoalescing: true,
		},
		acceptConnection: SameOrigin,
	}
}

// newOptions applies opts to the defaults, in order. It panics if one of them is
// nil; the functions that make the Options have checked their values.
func newOptions(opts []Option) *options {
	o := defaultOptions()
	for i, opt := range opts {
		if opt == nil {
			panic(fmt.Sprintf("websocket: option %d is nil: leave it out", i+1))
		}
		opt(o)
	}
	return o
}

// PingInterval sets how often the keepalive sends a ping. The default is 15 s; 0
// sends no pings. Pings keep proxies from closing an idle connection, and the peer's
// answers show that it is still there, see [ConnectionTimeout].
//
// While no method is receiving, the library handles the control frames that have
// arrived ahead of the next message after each ping. PingInterval is then also how
// often it answers the peer's pings and notices a close frame.
func PingInterval(d time.Duration) Option {
	checkDuration("PingInterval", d)
	return func(o *options) { o.pingInterval = d }
}

// CloseTimeout limits the duration of the close handshake: sending a close frame
// and waiting for the peer's close frame. The default is 5 s. After that time the
// socket is closed without the peer's close frame, and [Conn.Close] returns
// [ErrCloseTimeout]. With 0 this limit is off: the wait then ends when the peer
// has sent nothing for ConnectionTimeout.
func CloseTimeout(d time.Duration) Option {
	checkDuration("CloseTimeout", d)
	return func(o *options) { o.closeTimeout = d }
}

// ConnectionTimeout sets how long the peer may be silent. If no byte arrives from
// the peer for d, the connection is closed with 1001 and [ErrConnectionTimeout]: after a
// tenth of d more at the latest, and never earlier. The default is 60 s; 0 means no limit. Make it longer than PingInterval, because an
// idle peer sends nothing but the answers to pings.
func ConnectionTimeout(d time.Duration) Option {
	checkDuration("ConnectionTimeout", d)
	return func(o *options) { o.connectionTimeout = d }
}

// WriteTimeout sets how long one write to the socket may take. The default is 60 s.
// A write takes long if the peer does not read. If it takes longer than d, the
// connection ends without a close frame, and sending methods return an error that is
// [os.ErrDeadlineExceeded]. 0 means no limit: a peer that stops reading can then
// block the goroutines that send to it for ever.
func WriteTimeout(d time.Duration) Option {
	checkDuration("WriteTimeout", d)
	return func(o *options) { o.writeTimeout = d }
}

// AcceptConnection sets the policy that decides which requests may open a
// connection. accept is called with every request that is a valid handshake. If it
// returns false, the handler of [AccessDenied] answers the request. Many goroutines
// may call accept at the same time.
//
// The default is [SameOrigin]. The other policies of this package are [AllowOrigins]
// and [AnyOrigin]. A policy of the application can call them, and check a session
// cookie or a token as well.
func AcceptConnection(accept func(*http.Request) bool) Option {
	if accept == nil {
		panic("websocket: AcceptConnection(nil): want a function; use AnyOrigin to accept every request")
	}
	return func(o *options) { o.acceptConnection = accept }
}

// AccessDenied sets the handler that answers the requests that AcceptConnection
// refused. The default handler answers 403 with <h1>Access denied</h1> and the
// reason.
func AccessDenied(h http.Handler) Option {
	if h == nil {
		panic("websocket: AccessDenied(nil): want an http.Handler")
	}
	return func(o *options) { o.accessDenied = h }
}

// DropIncomingPings sets whether the peer's pings are ignored. The default is false:
// each ping is answered with a pong. The egg ignores pings by default, although RFC
// 6455 section 5.5.2 requires an answer.
func DropIncomingPings(drop bool) Option {
	return func(o *options) { o.dropIncomingPings = drop }
}

// PropagateCommonErrors sets whether OnError also receives common errors. The
// default is false. An error is common if it only tells how the connection ended, as
// listed at [Conn]: for example, the peer closed the connection, broke a rule, was
// silent for too long, or its TCP connection failed.
func PropagateCommonErrors(propagate bool) Option {
	return func(o *options) { o.propagateCommonErrors = propagate }
}

// MaxFrameSize sets the largest payload of one frame from the peer, in bytes, from 1
// to 1 GiB. The default is 1 MiB. A larger frame fails the connection with 1009 and
// [ErrMessageTooLarge] as soon as its header has arrived; the library does not wait
// for its payload.
func MaxFrameSize(n int64) Option {
	checkRange("MaxFrameSize", n, 1, sizeLimit)
	return func(o *options) { o.maxFrameSize = n }
}

// MaxMessageSize sets the largest message from the peer, as the sum of the payloads
// of its frames, in bytes, from 1 to 1 GiB. The default is 1 MiB. If a frame would
// make a message larger, the connection fails with 1009 and [ErrMessageTooLarge] as
// soon as the header of that frame has arrived.
func MaxMessageSize(n int64) Option {
	checkRange("MaxMessageSize", n, 1, sizeLimit)
	return func(o *options) { o.maxMessageSize = n }
}

// MaxFragments sets the largest number of frames in one message from the peer, from 1
// to 2147483647. The default is 131072. If a message has more frames, the connection
// fails with 1009 and [ErrMessageTooLarge].
func MaxFragments(n int) Option {
	checkRange("MaxFragments", int64(n), 1, 1<<31-1)
	return func(o *options) { o.maxFragments = n }
}

// WriteCoalescing sets whether several sent frames may be written together. The
// default is true: if another frame from the peer is already buffered, a sent frame
// may wait so that one system call writes several replies. For peers that pipeline
// small messages, this cuts the work to a tenth. With false, each frame is written
// when it is sent.
//
// A frame waits until a receiving method has to wait for the peer, until 64 KiB of
// frames are waiting, or until the connection is closed, but not longer than 100 µs.
// No frame waits while a write deadline is set.
func WriteCoalescing(coalesce bool) Option {
	return func(o *options) { o.writeCoalescing = coalesce }
}

// Subprotocols sets the names of the subprotocols that the server supports, in order
// of preference (RFC 6455 section 1.9). The connection uses the first of them that
// the client offers, see [Conn.Subprotocol]. If the client offers none of them, the
// connection is made without a subprotocol. The default is no names. The slice is
// copied.
func Subprotocols(names ...string) Option {
	for i, name := range names {
		if !isToken(name) {
			panic(fmt.Sprintf("websocket: Subprotocols(%q): want a token (RFC 9110 section 5.6.2), such as chat.v1", name))
		}
		if slices.Contains(names[:i], name) {
			panic(fmt.Sprintf("websocket: Subprotocols(%q): listed twice; list each name once", name))
		}
	}
	names = slices.Clone(names)
	return func(o *options) { o.subprotocols = names }
}

// OnError sets the function that receives unexpected errors: an error that a
// [HandlerFunc] returned and that is not a common one (see [PropagateCommonErrors]),
// or an error that describes its panic. A panic with [http.ErrAbortHandler] is not
// reported. f is called on the goroutine of the HandlerFunc, after the connection is
// closed. Many goroutines may call f at the same time.
//
// By default an error is written to the ErrorLog of the [http.Server]. A panic is not,
// because net/http logs it. With [Detached], this package logs it.
func OnError(f func(c *Conn, err error)) Option {
	if f == nil {
		panic("websocket: OnError(nil): want a function")
	}
	return func(o *options) { o.onError = f }
}

// OnClose sets the function that is called once for each connection after it is closed,
// however it ended. err is why it ended: the same error that the methods of the Conn return,
// and the cause of [Conn.Context], which is done by then. [CloseStatus] gives its code. f may
// block.
//
// With a Handler, f is called on the goroutine of the HandlerFunc, after the function and that
// of [OnError], and before ServeHTTP and [Handler.Shutdown] return. A panic of f is treated as
// one of the HandlerFunc, but is not reported to OnError. With [Upgrade], f is called on a new
// goroutine as soon as the socket is closed, and its panic is logged.
func OnClose(f func(c *Conn, err error)) Option {
	if f == nil {
		panic("websocket: OnClose(nil): want a function")
	}
	return func(o *options) { o.onClose = f }
}

// MaxLifetime sets how long a connection lives. It is closed with 1001 after 90 to 100 % of d.
// The time is chosen at random for each connection, so that clients that came at the same time,
// as after a restart of the server, do not all come back at the same time. The default is 0,
// which means no limit. A limit lets a load balancer distribute long-lived connections again,
// and makes clients authenticate again.
func MaxLifetime(d time.Duration) Option {
	checkDuration("MaxLifetime", d)
	return func(o *options) { o.maxLifetime = d }
}

// Detached sets whether the [HandlerFunc] runs on a new goroutine, so that ServeHTTP
// returns as soon as the connection is upgraded. The default is false. net/http and
// middleware can then release the memory they hold for the request: an idle
// connection takes 6 KiB instead of 9, plus the memory that the function holds.
// Nothing else about the connection changes: the function's result decides how the
// connection is closed, and [Conn.Context] has the values of the request's context.
//
// Detached is off by default because other code sees the request end when the
// connection begins:
//
//   - Middleware logs the request at that time and measures only the handshake. It
//     releases its resources, and does not recover a panic of the function. Instead,
//     this package logs the panic with its stack, as net/http does, and closes the
//     connection with 1011. The server keeps running.
//   - The context of [Conn.Request] is done from then on. The request must not be
//     changed any more, because the connection reads it.
//   - Routers that recycle per-request data (chi, and others with their own context
//     type) may already have reused it when the function runs: copy the values you
//     need in middleware. The PathValue of a [http.ServeMux] keeps working.
//
// [Upgrade] ignores Detached, because it does not run a HandlerFunc.
func Detached(detached bool) Option {
	return func(o *options) { o.detached = detached }
}

// EggDefaults restores the two defaults of the CHICKEN Scheme egg that this package
// changes: it accepts every origin, as AcceptConnection(AnyOrigin) does, and ignores
// incoming pings, as DropIncomingPings(true) does. With the first, any web page can
// use the WebSocket with the cookies of its visitor. The second breaks RFC 6455
// section 5.5.2.
func EggDefaults() Option {
	return func(o *options) {
		o.acceptConnection = AnyOrigin
		o.dropIncomingPings = true
	}
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.Contains("!#$%&'*+-.^_`|~", s[i:i+1]) {
			return false
		}
	}
	return s != ""
}

// checkDuration panics if d, the value of the named option, is negative.
func checkDuration(option string, d time.Duration) {
	if d < 0 {
		panic(fmt.Sprintf("websocket: %s(%v): want 0 or more", option, d))
	}
}

// checkRange panics if n, the value of the named option, is not from low to high.
func checkRange(option string, n, low, high int64) {
	if n < low || n > high {
		panic(fmt.Sprintf("websocket: %s(%d): want %d to %d", option, n, low, high))
	}
}
