// Package extendedconnect switches WebSocket over HTTP/2 (RFC 8441) on, for the whole process:
//
//	import _ "github.com/f44ffc3b/websocket/extendedconnect"
//
// net/http serves the extended CONNECT requests of RFC 8441 only if the environment variable
// GODEBUG contains http2xconnect=1 when the process starts. This package makes that unnecessary.
// When main begins, the environment is as it was before, so child processes see no change. If
// GODEBUG has http2xconnect=0, this package changes nothing.
//
// From then on, every HTTP/2 server of the process offers WebSocket over HTTP/2 to its clients,
// and browsers then use it for all WebSockets of that server. So every WebSocket endpoint of
// these servers must serve it. The handlers of package websocket do. Those of other libraries,
// and reverse proxies, mostly refuse such requests.
package extendedconnect

import (
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect/internal/on"
)

func init() { on.Restore() } // net/http is initialized

// What Configure sets.
const (
	writeByteTimeout = 60 * time.Second
	sendPingTimeout  = 15 * time.Second
	receiveBuffer    = 64 << 10
)

// Configure sets the fields of s.HTTP2 that a server of WebSockets needs, if they are zero. Call
// it before the server starts.
//
//   - WriteByteTimeout, to 60 s: a TCP connection ends if its client takes no byte for that
//     time. Without it, a client that opens its window but does not read can block handlers for
//     ever.
//   - SendPingTimeout, to 15 s: a TCP connection on which nothing arrives gets an HTTP/2 ping,
//     and ends if the ping is not answered in time.
//   - MaxReceiveBufferPerStream, to 64 KiB: data that a handler does not receive fills the
//     buffer of its own stream, and not that of the TCP connection, so other streams continue.
//     It also limits how much of an upload is on its way.
func Configure(s *http.Server) {
	if s.HTTP2 == nil {
		s.HTTP2 = new(http.HTTP2Config)
	}
	if s.HTTP2.WriteByteTimeout == 0 {
		s.HTTP2.WriteByteTimeout = writeByteTimeout
	}
	if s.HTTP2.SendPingTimeout == 0 {
		s.HTTP2.SendPingTimeout = sendPingTimeout
	}
	if s.HTTP2.MaxReceiveBufferPerStream == 0 {
		s.HTTP2.MaxReceiveBufferPerStream = receiveBuffer
	}
}
