package websocket

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

// An Option changes one default of [Handle], [HandleConcurrent], [HandleMessages] or [Upgrade].
// Options are named after the egg's parameters. They can come in any order. If an
// option is given twice, the last one wins.
//
// An Option that is nil, or that was made with a nil or out-of-range value, is a
// programming error. Handle, HandleConcurrent and HandleMessages panic with a text that names the
// option, the value and the range. Upgrade, whose options may come from a
// configuration, answers the request with 500 and returns that text as the Reason of a
// [*HandshakeError].
type Option func(*options)

// options holds the settings of a connection. A Handler makes one, and all of its
// connections share it. It does not change after applyOptions has returned.
type options struct {
	config // of each connection

	eggDefaults    bool // see EggDefaults
	dropPingsGiven bool // DropIncomingPings was given

	acceptConnection func(*http.Request) bool
	accessDenied     http.Handler
	onRefused        func(*http.Request, *HandshakeError)
	subprotocols     []string

	propagateCommonErrors bool
	onError               func(*Conn, error)
	onClose               func(*Conn, error)
	detached              bool

	err error // the first invalid option
}

// The defaults of options on which other defaults depend. See options.settle.
const (
	defaultPingInterval      = 15 * time.Second
	defaultConnectionTimeout = 60 * time.Second
)

// notGiven is the value of an option that was not given and whose default depends on
// other options.
const notGiven = -1

// defaultOptions returns the default of every option. Some of them are notGiven.
func defaultOptions() *options {
	return &options{
		config: config{
			timeouts: timeouts{
				pingInterval:      notGiven,
				closeTimeout:      5 * time.Second,
				connectionTimeout: notGiven,
				writeTimeout:      60 * time.Second,
				sendQueue:         1 << 20,
			},
			limits: limits{
				maxFrameSize:   notGiven,
				maxMessageSize: 1 << 20,
				maxFragments:   131072,
			},
			writeCoalescing: true,
			minCompressed:   -1,
		},
	}
}

// newOptions is applyOptions for options that are made at start-up. It panics if one of
// them is invalid, as http.ServeMux does for an invalid pattern.
func newOptions(opts []Option) *options {
	o := applyOptions(opts)
	if o.err != nil {
		panic(o.err.Error())
	}
	return o
}

// applyOptions applies opts to the defaults, in order. The err of the result is not nil if
// one of them is invalid.
func applyOptions(opts []Option) *options {
	o := defaultOptions()
	for i, opt := range opts {
		if opt == nil {
			opt = invalid("option %d is nil: leave it out", i+1)
		}
		opt(o)
	}
	o.settle()
	return o
}

// invalid returns the Option for a value that is nil or out of range.
func invalid(format string, args ...any) Option {
	err := fmt.Errorf("websocket: "+format, args...)
	return func(o *options) { o.fail(err) }
}

// fail notes that an option is invalid. The first error is kept.
func (o *options) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// settle sets the options that were not given and depend on others, and checks those that
// must fit together.
func (o *options) settle() {
	o.settleEggDefaults()
	o.frameSizeGiven = o.maxFrameSize != notGiven
	if !o.frameSizeGiven {
		o.maxFrameSize = o.maxMessageSize
	}
	pingGiven := o.pingInterval != notGiven
	if !pingGiven {
		o.pingInterval = defaultPingInterval
	}
	switch ping, limit := o.pingInterval, o.connectionTimeout; {
	case limit == notGiven:
		o.connectionTimeout = timeoutFor(ping)
	case pingGiven && limit > 0 && ping >= limit:
		o.fail(fmt.Errorf("websocket: PingInterval(%v) with ConnectionTimeout(%v) would disconnect healthy peers, because an idle peer sends only the answers to pings: "+
			"set a ConnectionTimeout that is longer than PingInterval, or leave ConnectionTimeout out", ping, limit))
	}
}

// settleEggDefaults sets the defaults that EggDefaults changes. A policy that was given stays in any
// order of the options, because it may check who the client is.
func (o *options) settleEggDefaults() {
	switch {
	case o.acceptConnection != nil:
	case o.eggDefaults:
		o.acceptConnection = AnyOrigin
	default:
		o.acceptConnection = SameOrigin
	}
	if !o.dropPingsGiven {
		o.dropIncomingPings = o.eggDefaults
	}
}

// timeoutFor returns the ConnectionTimeout for a PingInterval: a peer that has lost three
// answers is still connected. Without pings there is no limit, because an idle peer
// sends nothing.
func timeoutFor(ping time.Duration) time.Duration {
	switch {
	case ping == 0:
		return 0
	case ping > math.MaxInt64/4:
		return math.MaxInt64
	}
	return max(defaultConnectionTimeout, 4*ping)
}

// PingInterval sets how often the keepalive sends a ping. The default is 15 s; 0
// sends no pings. Pings keep proxies from closing an idle connection, and the peer's
// answers show that it is still there. The default of [ConnectionTimeout] follows
// PingInterval.
//
// Over TLS, a connection that has been quiet for a PingInterval gives its read buffer of 4 KiB
// back until something arrives; with 0 it does so after 15 s. On a Unix system, a connection without
// TLS holds no buffer while it waits. If the [net.Listener] wraps its connections in a type of its
// own, with or without TLS, and on other systems, a connection keeps its buffer.
//
// PingInterval does not change how fast the peer's control frames are answered. While a method is
// receiving, they are answered at once; otherwise once a second, even after up to 4 KiB of unread
// messages. Only a close frame waits for the messages in front of it while methods receive them.
func PingInterval(d time.Duration) Option {
	return duration("PingInterval", d, func(o *options) { o.pingInterval = d })
}

// CloseTimeout limits the duration of the close handshake: sending a close frame
// and waiting for the peer's close frame. The default is 5 s. After that time the
// socket is closed without the peer's close frame, and [Conn.Close] returns
// [ErrCloseTimeout]. With 0 this limit is off: the wait then ends when the peer
// has sent nothing for ConnectionTimeout, or never if that is 0 too.
func CloseTimeout(d time.Duration) Option {
	return duration("CloseTimeout", d, func(o *options) { o.closeTimeout = d })
}

// ConnectionTimeout sets how long the peer may be silent. If no byte arrives from the peer
// for d, and the peer takes none of the bytes that wait to be sent to it, the connection is
// closed with 1001 and [ErrConnectionTimeout]. It is never closed earlier. It is closed at most a
// tenth of d and 10 ms later, a second more if no method is receiving, or half of d later if the
// peer has stopped taking bytes. A pause of the process does not count as silence if it begins
// within the first half of d, because no pings are sent during it.
//
// 0 means no limit. The default is 60 s, or four times [PingInterval] if that is longer, because an
// idle peer sends nothing but the answers to pings. With PingInterval(0) the default is no limit.
//
// If you lower ConnectionTimeout, lower PingInterval too: it does not follow. If only
// ConnectionTimeout is given and it is shorter than the default PingInterval, a peer
// must send something by itself within d. If both options are given, PingInterval must be
// shorter than ConnectionTimeout. PingInterval(0) is allowed, because clients may have a
// heartbeat of their own.
func ConnectionTimeout(d time.Duration) Option {
	return duration("ConnectionTimeout", d, func(o *options) { o.connectionTimeout = d })
}

// WriteTimeout sets how long a write to the socket may take without progress. The
// default is 60 s. A write takes long if the peer does not read. If it takes longer
// than d, the connection ends without a close frame, and sending methods return an
// error that is [os.ErrDeadlineExceeded]. 0 means no limit: a peer that stops reading
// can then block the goroutines that send to it for ever. A write is never cut off early. It is
// cut off 10 ms late, because the library first looks for a close frame of the peer. If there were
// many writes just before, it is cut off up to a tenth of d later, because the library does not
// read the clock for each of them. If the process is paused in the first half of d, the write has d
// again.
//
// Each 64 KiB of a large frame that the socket takes are progress: the time starts again,
// and the peer counts as alive for ConnectionTimeout. Over TCP on Unix systems other than
// Linux, a piece of progress has 256 KiB. Except for TCP and Unix sockets on Linux, the first piece
// also contains the frames that waited to be written before it, 64 KiB at most. On Linux, but not
// over a Unix socket, 32 KiB that the peer acknowledges in the second half of d are progress too,
// because the socket may take nothing for a long time while the peer reads what the kernel holds. So
// a peer gets a frame of any size, if it reads at least that much within d and within
// ConnectionTimeout.
func WriteTimeout(d time.Duration) Option {
	return duration("WriteTimeout", d, func(o *options) { o.writeTimeout = d })
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
		return invalid("AcceptConnection(nil): want a function; use AnyOrigin to accept every request")
	}
	return func(o *options) { o.acceptConnection = accept }
}

// AccessDenied sets the handler that answers the requests that AcceptConnection
// refused. The default handler answers 403 with <h1>Access denied</h1> and the
// reason.
//
// Over HTTP/1, the header of the response already has Connection: close. The handler must leave
// it there, because the HTTP connection must end after a refused handshake, see [Upgrade]. Over
// HTTP/2, a status 2xx would accept the WebSocket, so 403 is sent instead. It is also sent if the
// handler writes nothing.
func AccessDenied(h http.Handler) Option {
	if h == nil {
		return invalid("AccessDenied(nil): want an http.Handler")
	}
	return func(o *options) { o.accessDenied = h }
}

// OnRefused sets the function that gets refused handshakes, for a log or a counter. It is called
// on the goroutine of the request when the answer is written, but net/http usually sends the answer
// when f has returned: f must not block or panic. Many goroutines may call f at the same time.
// err has the status and the reason. Its status is 403 if AcceptConnection refused the request, even
// if the handler of [AccessDenied] answered with another status. By default nothing is logged, because
// any client can send such requests.
//
// f is not called if the connection fails while the 101 response is sent, or if a policy or
// the handler of AccessDenied panics.
func OnRefused(f func(r *http.Request, err *HandshakeError)) Option {
	if f == nil {
		return invalid("OnRefused(nil): want a function; leave it out to ignore refused handshakes")
	}
	return func(o *options) { o.onRefused = f }
}

// DropIncomingPings sets whether the peer's pings are ignored. The default is false:
// each ping is answered with a pong. The egg ignores pings by default, although RFC
// 6455 section 5.5.2 requires an answer.
func DropIncomingPings(drop bool) Option {
	return func(o *options) { o.dropIncomingPings, o.dropPingsGiven = drop, true }
}

// PropagateCommonErrors sets whether OnError also receives common errors. The default is false. An
// error is common if it only says how the connection ended, as listed at [Conn]: for example, the
// peer closed the connection, broke a rule, was silent for too long, or its TCP connection failed.
func PropagateCommonErrors(propagate bool) Option {
	return func(o *options) { o.propagateCommonErrors = propagate }
}

// MaxFrameSize sets the largest payload of one frame from the peer, in bytes, from 1
// to [MaxSize]. The default is the value of [MaxMessageSize], because browsers send each
// message as one frame. A larger frame fails the connection with 1009 and
// [ErrMessageTooLarge] as soon as its header has arrived; the library does not wait
// for its payload. A MaxFrameSize above MaxMessageSize has an effect only on
// [Conn.ReadFrame], on [Conn.Stream] and on compressed messages.
//
// The payload of a compressed frame counts as it is on the wire. If MaxFrameSize is not given,
// such a frame may be larger by an eighth, because data that cannot be compressed grows.
func MaxFrameSize(n int64) Option {
	return inRange("MaxFrameSize", n, MaxSize, func(o *options) { o.maxFrameSize = n })
}

// MaxMessageSize sets the largest message from the peer, as the sum of the payloads
// of its frames, in bytes, from 1 to [MaxSize]. The default is 1 MiB. If a frame would
// make a message larger, the connection fails with 1009 and [ErrMessageTooLarge] as
// soon as the header of that frame has arrived. [MaxFrameSize] follows MaxMessageSize
// unless it is given.
//
// Of a compressed message, the inflated bytes count. The connection fails as soon as they
// exceed the limit, before there is memory for more.
func MaxMessageSize(n int64) Option {
	return inRange("MaxMessageSize", n, MaxSize, func(o *options) { o.maxMessageSize = n })
}

// MaxFragments sets the largest number of frames in one message from the peer, from 1
// to 2147483647. The default is 131072. If a message has more frames, the connection
// fails with 1009 and [ErrMessageTooLarge].
func MaxFragments(n int) Option {
	return inRange("MaxFragments", int64(n), 1<<31-1, func(o *options) { o.maxFragments = n })
}

// SendQueue sets how many bytes may wait for a peer that reads too slowly, from 1 to [MaxSize]:
// messages of [Conn.TrySend] and [Broadcast] that the socket does not take at once. The default is
// 1 MiB. Each message counts with the memory that it takes, until the library begins to write it:
// its size, up to a quarter more because the allocator rounds up, and 80 bytes at most. So a
// connection whose peer does not read holds no more than SendQueue and the frames of one write,
// which are 64 KiB or one larger frame. Most messages of TrySend are compressed only when they are
// written; they count with their uncompressed size. A message that is compressed for all
// connections counts with its compressed size, with the end of the uncompressed message, up to 4
// KiB plus a quarter, which the connection keeps for its history, and with 130 bytes instead of
// 80. If a message does not fit, TrySend returns [ErrSendQueueFull], and Broadcast closes the
// connection with 1013. A message of Broadcast fits into an empty queue whatever its size, because
// the connections share its bytes. The methods that wait for the peer do not use the queue.
//
// Messages are written at once only to a [*net.TCPConn] or a [*net.UnixConn], on a Unix system. Over TLS
// and HTTP/2, on Windows, and if the [net.Listener] wraps its connections, every message of TrySend and
// Broadcast waits in the queue until a goroutine writes it, because only that goroutine may wait for the
// socket. There, SendQueue has to hold the largest burst of messages that are sent without a pause, even
// if all peers read fast.
func SendQueue(n int) Option {
	return inRange("SendQueue", int64(n), MaxSize, func(o *options) { o.sendQueue = n })
}

// WriteCoalescing sets whether several sent frames may be written together. The
// default is true: if another frame from the peer is already buffered, a sent frame
// may wait so that one system call writes several replies. For peers that pipeline
// small messages, this cuts the work to a tenth. With false, each frame is written
// when it is sent.
//
// A frame waits until a receiving method has to wait for the peer, until 64 KiB of
// frames are waiting, or until the connection is closed, but not longer than 100 µs.
// Only pongs wait while a write deadline is set.
func WriteCoalescing(coalesce bool) Option {
	return func(o *options) { o.writeCoalescing = coalesce }
}

// Compression sets that messages may be compressed with permessage-deflate (RFC 7692), if the
// client offers that, as browsers do. Messages that are sent are compressed if they have at
// least minSize bytes and become smaller. Messages of the client are inflated, whatever their
// size. The default is no compression: nothing is agreed on then.
//
// A minSize of 64 suits most applications, because messages refer to earlier ones, so that even
// small ones shrink to a third. [Conn.SetCompression] changes it for one connection, and
// [Conn.Extensions] says what was agreed on.
//
// The length of a compressed message reveals something about its content. Do not compress
// messages that have both a secret and text that an attacker can choose, or that could refer to
// such text in earlier messages: call SetCompression(-1) before you send a secret.
//
// A compressed message is sent as one frame, because some clients cannot read compressed fragments.
// [MaxMessageSize] limits the inflated size of received messages, and [MaxFrameSize] the size of
// frames on the wire. A connection holds about 12 KiB while it sends compressed messages, and less
// than 200 bytes when it has sent none for one or two times [PingInterval].
func Compression(minSize int) Option {
	if minSize < 0 {
		return invalid("Compression(%d): want 0 or more; leave it out for no compression", minSize)
	}
	return func(o *options) { o.minCompressed = minSize }
}

// Subprotocols sets the names of the subprotocols that the server supports, in order
// of preference (RFC 6455 section 1.9). The connection uses the first of them that
// the client offers, see [Conn.Subprotocol]. If the client offers none of them, the
// connection is made without a subprotocol. The default is no names. The slice is
// copied.
func Subprotocols(names ...string) Option {
	for i, name := range names {
		if !isToken(name) {
			return invalid("Subprotocols(%q): want a token (RFC 9110 section 5.6.2), such as chat.v1", name)
		}
		if slices.Contains(names[:i], name) {
			return invalid("Subprotocols(%q): listed twice; list each name once", name)
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
// because net/http logs it. With [Detached] and [HandleMessages], this package logs it.
func OnError(f func(c *Conn, err error)) Option {
	if f == nil {
		return invalid("OnError(nil): want a function; leave it out to log the errors")
	}
	return func(o *options) { o.onError = f }
}

// OnClose sets the function that is called once for each connection after it is closed,
// however it ended. err says why it ended: it is the error that the methods of the Conn return,
// and the cause of [Conn.Context], which is done by then. [CloseStatus] gives its code. f may
// block.
//
// With a Handler, f is called on the goroutine of the HandlerFunc, after the function and that
// of [OnError], and before ServeHTTP and [Handler.Shutdown] return. A panic of f is treated as
// one of the HandlerFunc, but is not reported to OnError. With [HandleMessages], f is called after
// the last call of the MessageFunc, on any goroutine. With [Upgrade], f is called on a new goroutine
// as soon as the socket is closed, and its panic is logged.
func OnClose(f func(c *Conn, err error)) Option {
	if f == nil {
		return invalid("OnClose(nil): want a function; leave it out to ignore the ends of connections")
	}
	return func(o *options) { o.onClose = f }
}

// MaxLifetime sets how long a connection lives. It is closed with 1001 after 90 to 100 % of d. The
// time is chosen at random for each connection, so that clients that connected at the same time, as
// after a restart of the server, do not all reconnect at the same time. The default is 0, which
// means no limit. A limit lets a load balancer distribute long-lived connections again, and makes
// clients authenticate again.
func MaxLifetime(d time.Duration) Option {
	return duration("MaxLifetime", d, func(o *options) { o.maxLifetime = d })
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
// [Upgrade] and [HandleMessages] ignore Detached, because they do not run a HandlerFunc. It has
// no effect over HTTP/2, where net/http ends the stream when its handler returns.
func Detached(detached bool) Option {
	return func(o *options) { o.detached = detached }
}

// EggDefaults restores the two defaults of the CHICKEN Scheme egg that this package
// changes: it accepts every origin, as AcceptConnection(AnyOrigin) does, and ignores
// incoming pings, as DropIncomingPings(true) does. With the first, any web page can
// use the WebSocket with the cookies of its visitor. The second breaks RFC 6455
// section 5.5.2. Like other defaults, they do not apply if AcceptConnection or DropIncomingPings is
// given, before or after EggDefaults.
func EggDefaults() Option { return func(o *options) { o.eggDefaults = true } }

// duration returns set as an Option, or an invalid one if d, the value of the named option,
// is negative.
func duration(option string, d time.Duration, set Option) Option {
	if d < 0 {
		return invalid("%s(%v): want 0 or more", option, d)
	}
	return set
}

// inRange returns set as an Option, or an invalid one if n, the value of the named option,
// is not from 1 to high.
func inRange(option string, n, high int64, set Option) Option {
	if n < 1 || n > high {
		return invalid("%s(%d): want 1 to %d", option, n, high)
	}
	return set
}
