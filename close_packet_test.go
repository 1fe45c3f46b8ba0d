package websocket

import (
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
)

// TestClose_frame_and_end_of_stream_leave_together checks writer.write.
func TestClose_frame_and_end_of_stream_leave_together(t *testing.T) {
	if !sock.MoreSupported {
		t.Skip("this system has no sock.WriteMore")
	}
	tests := []struct {
		name string
		send []byte // by the peer
		echo []string
		code StatusCode
	}{
		{"after the peer's close frame", clientFrame(true, Close, closeBody(1001, "")), nil, 1001},
		{"after answers that waited", append(clientFrame(true, Text, "a"), append(clientFrame(true, Text, "b"), clientFrame(true, Close, "")...)...), []string{"a", "b"}, 1005},
		{"after a broken rule", clientFrame(true, 3, ""), nil, 1002},
		{"after a message that is too large", clientFrame(true, Binary, stars(1001)), nil, 1009},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, echoAll, MaxMessageSize(1000))
			for range 20 { // sometimes both arrive before the peer looks, although they left one after the other
				p := dialServer(t, srv)
				p.Write(tt.send)
				for _, text := range tt.echo {
					p.expect(Text, text)
				}
				p.expectClose(tt.code)
				if unread, ended, ok := behind(p.Conn); unread != 0 || !ended || !ok {
					t.Fatalf("got %d bytes behind the close frame, end of the stream %v, known %v; want 0, true, true", unread, ended, ok)
				}
				p.Conn.Close()
			}
		})
	}
}

// TestClose_frame_does_not_wait_for_the_end_of_the_stream checks that a close frame which begins the
// close handshake is not sent with MSG_MORE: the kernel would hold it back for 200 ms.
func TestClose_frame_does_not_wait_for_the_end_of_the_stream(t *testing.T) {
	tests := []struct {
		name string
		end  HandlerFunc
	}{
		{"Close", func(c *Conn) error { c.Close(StatusNormalClosure, ""); return nil }},
		{"StartClose", func(c *Conn) error { c.StartClose(StatusNormalClosure, ""); return receiveAll(c) }},
		{"SendMessage", func(c *Conn) error {
			c.SendMessage(Close, []byte(closeBody(StatusNormalClosure, "")))
			return receiveAll(c)
		}},
		{"the return of the function", func(c *Conn) error { return nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, tt.end)
			fastest := time.Hour
			for range 5 { // a busy machine may delay some of them
				p := dialServer(t, srv)
				start := time.Now()
				p.expectClose(StatusNormalClosure)
				fastest = min(fastest, time.Since(start))
				p.Conn.Close()
			}
			if fastest >= 150*time.Millisecond {
				t.Errorf("the close frame took at least %v, want it at once", fastest)
			}
		})
	}
}
