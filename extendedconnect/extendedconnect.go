// Package extendedconnect switches on extended CONNECT (RFC 8441), which WebSocket over HTTP/2 needs, in the servers of net/http:
//
//	import _ "github.com/f44ffc3b/websocket/extendedconnect"
//
// The import acts on the whole process: every HTTP/2 server of net/http then advertises SETTINGS_ENABLE_CONNECT_PROTOCOL. Browsers
// then open WebSockets of that origin over HTTP/2, so each WebSocket endpoint of the process must accept the method CONNECT.
//
// net/http reads this setting from the environment variable GODEBUG when it is initialized. The import sets http2xconnect=1
// before that and restores GODEBUG afterwards. If GODEBUG already has http2xconnect, that value wins: http2xconnect=0 keeps
// extended CONNECT off.
package extendedconnect

import (
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect/internal/on"
)

// net/http is imported by this file, so it is initialized when this function runs.
func init() { on.Restore() }

// Configure sets the fields of s.HTTP2 that bound a peer which stops reading or sending, if they are zero: WriteByteTimeout to
// 60 seconds, SendPingTimeout to 15 seconds, and MaxReceiveBufferPerStream to 64 KiB. It changes no other field.
// Call it before the server starts.
func Configure(s *http.Server) {
	if s.HTTP2 == nil {
		s.HTTP2 = &http.HTTP2Config{}
	}
	c := s.HTTP2
	if c.WriteByteTimeout == 0 {
		c.WriteByteTimeout = 60 * time.Second
	}
	if c.SendPingTimeout == 0 {
		c.SendPingTimeout = 15 * time.Second
	}
	if c.MaxReceiveBufferPerStream == 0 {
		c.MaxReceiveBufferPerStream = 64 << 10
	}
}
