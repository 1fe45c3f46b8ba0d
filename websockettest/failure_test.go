package websockettest_test

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

// raw returns a handler that accepts the handshake by hand, sends wire and waits until the
// client has closed the connection.
func raw(wire ...string) http.Handler {
	return rawHandshake("", func(conn net.Conn, in *bufio.Reader) {
		fmt.Fprint(conn, strings.Join(wire, ""))
		io.Copy(io.Discard, in)
	})
}

// rawHandshake accepts the handshake by hand, with more header lines, and runs serve.
func rawHandshake(headers string, serve func(conn net.Conn, in *bufio.Reader)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
			websocket.AcceptKey(r.Header.Get("Sec-WebSocket-Key")), headers)
		serve(conn, brw.Reader)
	})
}

// frame is a frame as a server sends it.
func frame(first byte, payload string) string { return string(wstest.ServerFrame(first, payload)) }

func closing(code uint16, reason string) string {
	return frame(0x88, wstest.ClosePayload(code, reason))
}

// sends returns a handler that sends the frames and ends the connection.
func sends(frames ...string) http.Handler {
	return rawHandshake("", func(conn net.Conn, in *bufio.Reader) { fmt.Fprint(conn, strings.Join(frames, "")) })
}

// silent accepts the handshake and waits for the end of the connection.
var silent = rawHandshake("", func(conn net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })

func receive(c *websockettest.Client)      { c.Receive() }
func receiveFrame(c *websockettest.Client) { c.ReceiveFrame() }
func wantClose(code websocket.StatusCode) func(c *websockettest.Client) {
	return func(c *websockettest.Client) { c.WantClose(code) }
}
func close1000(c *websockettest.Client) { c.Close(websocket.StatusNormalClosure, "") }

const policy = websocket.StatusPolicyViolation

// A method that cannot succeed fails the test and says what arrived instead.
func TestClient_failures(t *testing.T) {
	tests := []struct {
		name    string
		handler http.Handler
		call    func(c *websockettest.Client)
		want    string // behind "websockettest: "; "" for a call that succeeds
	}{
		{"a close frame, not a message", sends(closing(1008, "bad hello")), receive,
			`Receive: got a close frame 1008 (policy violation) "bad hello", want a message`},
		{"a close frame without a code", sends(frame(0x88, "")), receive,
			`Receive: got a close frame 1005 (no status received), want a message`},
		{"a close frame that is not valid", sends(frame(0x88, "\x03")), receive,
			`Receive: got a close frame with the payload "\x03", want a message`},
		{"the end, not a message", sends(), receive,
			`Receive: got the end of the connection without a close frame (EOF), want a message`},
		{"the end inside a frame", sends("\x81\x05he"), receive,
			`Receive: got the end of the connection without a close frame (unexpected EOF), want a message`},
		{"the end after a ping and two pongs", sends(frame(0x89, "1"), frame(0x8A, "2"), frame(0x8A, "3")), receive,
			`Receive: got the end of the connection without a close frame (EOF) after 1 ping and 2 pongs, want a message`},
		{"nothing", silent, receive, `Receive: got nothing in 48h0m0s, want a message`},
		{"a masked frame", sends("\x81\x81\x00\x00\x00\x00a"), receive,
			`Receive: got a text frame with "a", which is masked (RFC 6455 section 5.1), want a message`},
		{"a reserved bit", sends(frame(0xA1, "a")), receive,
			`Receive: got a text frame with "a", which has reserved bits without an extension (RFC 6455 section 5.2), want a message`},
		{"RSV1 without compression", sends(frame(0xC1, "a")), receive,
			`Receive: got a text frame with "a", which has reserved bits without an extension (RFC 6455 section 5.2), want a message`},
		{"a reserved opcode", sends(frame(0x83, "a")), receive,
			`Receive: got a reserved opcode 0x3 frame with "a", which has a reserved opcode (RFC 6455 section 5.2), want a message`},
		{"a fragmented ping", sends(frame(0x09, "a")), receive,
			`Receive: got a ping frame with "a", which is a fragmented control frame (RFC 6455 section 5.5), want a message`},
		{"a long ping", sends(frame(0x89, strings.Repeat("a", 126))), receive, `Receive: got a ping frame with "aaa…`},
		{"a length that is not the shortest", sends("\x81\x7e\x00\x05hello"), receive,
			`Receive: got a frame with a header that is not valid (websocket: protocol error: length 5 in 16 bits…`},
		{"a length that is too large", sends("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), receive,
			`Receive: got a frame with a header that is not valid (websocket: message too large…`},
		{"a continuation without a beginning", sends(frame(0x80, "a")), receive,
			`Receive: got a continuation frame with "a", which continues no message (RFC 6455 section 5.4), want a message`},
		{"a message inside a message", sends(frame(0x01, "a"), frame(0x81, "b")), receive,
			`Receive: got a text frame with "b", which is in the middle of another message (RFC 6455 section 5.4), want a message`},
		{"text that is not UTF-8", sends(frame(0x81, "\xff")), receive,
			`Receive: got the text message "\xff", which is not UTF-8 (RFC 6455 section 8.1), want a message`},
		{"a long message is cut", sends(frame(0x81, strings.Repeat("\xff", 1000))), receive,
			`Receive: got the text message "` + strings.Repeat(`\xff`, 200) + `"… (1000 bytes), which is not UTF-8 (RFC 6455 section 8.1), want a message`},
		{"the second of two calls", sends(frame(0x81, "a"), closing(1000, "")),
			func(c *websockettest.Client) { c.Receive(); c.Receive() },
			`Receive: got a close frame 1000 (normal closure), want a message`},

		{"pongs without an end", raw(strings.Repeat(frame(0x8A, ""), 250_001)), receive,
			`Receive: got more than 250000 frames (250000 pongs), want a message`},
		{"fragments without an end", raw(frame(0x02, "") + strings.Repeat(frame(0x00, ""), 250_000)), receive,
			`Receive: got more than 250000 frames (no whole message), want a message`},
		{"messages without an end, not a close frame", raw(frame(0x89, "") + strings.Repeat(frame(0x82, ""), 250_000)), wantClose(policy),
			`WantClose: got more than 250000 frames (249999 messages and 1 ping), want a close frame 1008 (policy violation)`},

		{"not JSON", sends(frame(0x81, "{")), func(c *websockettest.Client) { var v []int; c.ReceiveJSON(&v) },
			`ReceiveJSON: got the text message "{", want JSON for *[]int: unexpected end of JSON input`},
		{"JSON of another type", sends(frame(0x82, `"a"`)), func(c *websockettest.Client) { var v []int; c.ReceiveJSON(&v) },
			`ReceiveJSON: got the binary message "\"a\"", want JSON for *[]int: json: cannot unmarshal string into Go value of type []int`},
		{"a close frame, not JSON", sends(closing(1000, "")), func(c *websockettest.Client) { c.ReceiveJSON(new(int)) },
			`ReceiveJSON: got a close frame 1000 (normal closure), want a message`},

		{"the end, not a frame", sends(), receiveFrame,
			`ReceiveFrame: got the end of the connection without a close frame (EOF), want a frame`},
		{"nothing, not a frame", silent, receiveFrame, `ReceiveFrame: got nothing in 48h0m0s, want a frame`},
		{"the end after a close frame", sends(closing(1000, "")), func(c *websockettest.Client) { c.ReceiveFrame(); c.ReceiveFrame() },
			`ReceiveFrame: got the end of the connection, which was closed with a close frame 1000 (normal closure), want a frame`},
		{"a continuation behind a message of ReceiveFrame", sends(frame(0x01, "a"), frame(0x80, "b"), frame(0x80, "c")),
			func(c *websockettest.Client) { c.ReceiveFrame(); c.Receive() },
			`Receive: got a continuation frame with "c", which continues no message (RFC 6455 section 5.4), want a message`},

		{"a message inside a message of ReceiveFrame", sends(frame(0x01, "a"), frame(0x00, "b"), frame(0x81, "c")),
			func(c *websockettest.Client) { c.ReceiveFrame(); c.Receive() },
			`Receive: got a text frame with "c", which is in the middle of another message (RFC 6455 section 5.4), want a message`},

		{"another code", raw(frame(0x81, "a"), frame(0x89, ""), closing(1011, "oops")), wantClose(policy),
			`WantClose: got a close frame 1011 (internal error) "oops" after 1 message and 1 ping, want a close frame 1008 (policy violation)`},
		{"the end, not a close frame", sends(frame(0x81, "a"), frame(0x82, "b")), wantClose(policy),
			`WantClose: got the end of the connection without a close frame (EOF) after 2 messages, want a close frame 1008 (policy violation)`},
		{"nothing, not a close frame", silent, wantClose(policy),
			`WantClose: got nothing in 48h0m0s, want a close frame 1008 (policy violation)`},
		{"a code that must not be sent", raw(closing(1006, "")), wantClose(policy),
			`WantClose: got a close frame with the payload "\x03\xee", which is not valid: the code 1006 (abnormal closure) must not be sent (RFC 6455 section 7.4), want a close frame 1008 (policy violation)`},
		{"a second close", raw(closing(1008, "")), func(c *websockettest.Client) { c.WantClose(policy); c.WantClose(policy) },
			`WantClose: the connection is closed: got a close frame 1008 (policy violation) before`},
		{"a message after the close", raw(closing(1008, "")), func(c *websockettest.Client) { c.WantClose(policy); c.Send(websocket.Text, nil) },
			`Send: the connection is closed: got a close frame 1008 (policy violation) before`},
		{"a close frame, not the end", raw(closing(1008, "")), wantClose(websocket.StatusAbnormalClosure),
			`WantClose: got a close frame 1008 (policy violation), want the end of the connection without a close frame`},
		{"the end after a close frame, not without", sends(closing(1008, "")), func(c *websockettest.Client) { c.ReceiveFrame(); c.WantClose(1006) },
			`WantClose: got the end of the connection, which was closed with a close frame 1008 (policy violation), want the end of the connection without a close frame`},
		{"text that is not UTF-8, before the end", sends(frame(0x81, "a"), frame(0x81, "\xff")), wantClose(websocket.StatusAbnormalClosure),
			`WantClose: got the text message "\xff", which is not UTF-8 (RFC 6455 section 8.1) after 1 message, want the end of the connection without a close frame`},
		{"a continuation without a beginning, before the end", sends(frame(0x80, "a")), wantClose(websocket.StatusAbnormalClosure),
			`WantClose: got a continuation frame with "a", which continues no message (RFC 6455 section 5.4), want the end of the connection without a close frame`},
		{"a message inside a message, before the end", sends(frame(0x01, "a"), frame(0x81, "b")), wantClose(websocket.StatusAbnormalClosure),
			`WantClose: got a text frame with "b", which is in the middle of another message (RFC 6455 section 5.4), want the end of the connection without a close frame`},
		{"nothing, not the end", silent, wantClose(websocket.StatusAbnormalClosure),
			`WantClose: got nothing in 48h0m0s, want the end of the connection without a close frame`},

		{"no answer to the close frame", silent, close1000,
			`Close: got nothing in 48h0m0s, want a close frame 1000 (normal closure) as the answer`},
		{"the end, not an answer", sends(), close1000, `Close: …`},
		{"an answer with another code", raw(closing(1002, "wrong")), close1000,
			`Close: got a close frame 1002 (protocol error) "wrong", want a close frame 1000 (normal closure) as the answer`},
		{"a frame after the answer", raw(closing(1000, ""), frame(0x81, "late")), close1000,
			`Close: got a text frame with "late" after the close frame, want the end of the connection after the close handshake`},
		{"bytes after the answer", raw(closing(1000, ""), "\x81"), close1000,
			`Close: got bytes after the close frame that are not a frame (unexpected EOF), want the end of the connection after the close handshake`},
		{"a code that Close must not send", silent, func(c *websockettest.Client) { c.Close(1006, "") },
			`Close: the code 1006 (abnormal closure) must not be sent (RFC 6455 section 7.4): use SendFrame for such a close frame`},
		{"a reason that is too long", silent, func(c *websockettest.Client) { c.Close(1000, strings.Repeat("x", 124)) },
			`Close: the reason has 124 bytes, and at most 123 are allowed (RFC 6455 section 5.5): use SendFrame for such a close frame`},
		{"a reason that is not UTF-8", silent, func(c *websockettest.Client) { c.Close(1000, "\xff") },
			`Close: the reason "\xff" is not UTF-8 (RFC 6455 section 5.5.1): use SendFrame for such a close frame`},
		{"a second close frame", silent, func(c *websockettest.Client) { c.Send(websocket.Close, nil); close1000(c) },
			`Close: a close frame was sent before: use WantClose for the answer`},

		{"a message of a continuation", silent, func(c *websockettest.Client) { c.Send(websocket.Continuation, nil) },
			`Send: a message cannot have the opcode continuation: use SendFrame`},
		{"a message of a reserved opcode", silent, func(c *websockettest.Client) { c.Send(0xB, nil) },
			`Send: a message cannot have the opcode reserved opcode 0xb: use SendFrame`},
		{"JSON that cannot be encoded", silent, func(c *websockettest.Client) { c.SendJSON(math.Inf(1)) },
			`SendJSON: json: unsupported value: +Inf`},
		{"sending after the end", sends(frame(0x81, "a"), closing(1008, "bad hello")), func(c *websockettest.Client) { sendUntilItFails(c) },
			`Send: the connection has ended: got a close frame 1008 (policy violation) "bad hello"`},
		{"sending after the end without a close frame", sends(frame(0x81, "a")), func(c *websockettest.Client) { sendUntilItFails(c) },
			`Send: the connection has ended: got the end of the connection without a close frame (EOF)`},
		{"sending to a handler that does not read", rawHandshake("", func(net.Conn, *bufio.Reader) { time.Sleep(50 * time.Hour) }),
			func(c *websockettest.Client) { c.Send(websocket.Binary, make([]byte, 4<<20)) },
			`Send: the handler has not read for 48h0m0s, and 4 MiB wait to be read by it`},

		{"receiving while stopped", silent, func(c *websockettest.Client) { c.StopReading(); c.Receive() },
			`Receive: StopReading was called before: call StartReading first`},
		{"receiving after Abort", silent, func(c *websockettest.Client) { c.Abort(); c.Receive() }, `Receive: Abort was called before`},
		{"sending after Abort", silent, func(c *websockettest.Client) { c.Abort(); c.Abort(); c.SendFrame(websocket.Frame{}) }, `SendFrame: Abort was called before`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := runFake(t, func(t testing.TB) {
					tt.call(websockettest.Dial(t, tt.handler))
					t.Fatalf("the call has not failed the test")
				})
				fake.wantFailure(t, "websockettest: "+tt.want)
			})
		})
	}
}

// sendUntilItFails sends messages, because the first of them may come before the end.
func sendUntilItFails(c *websockettest.Client) {
	synctest.Wait()
	for range 100 {
		c.Send(websocket.Text, nil)
	}
}

// After a refusal, methods that send or receive fail the test with the response.
func TestClient_failures_after_a_refusal(t *testing.T) {
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "log in first", http.StatusUnauthorized) })
	calls := map[string]func(c *websockettest.Client){
		"Send":         func(c *websockettest.Client) { c.Send(websocket.Text, nil) },
		"SendJSON":     func(c *websockettest.Client) { c.SendJSON(1) },
		"SendFrame":    func(c *websockettest.Client) { c.SendFrame(websocket.Frame{}) },
		"Receive":      receive,
		"ReceiveJSON":  func(c *websockettest.Client) { c.ReceiveJSON(new(int)) },
		"ReceiveFrame": receiveFrame,
		"WantClose":    wantClose(policy),
		"Close":        close1000,
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			fake := runFake(t, func(t testing.TB) { call(websockettest.Dial(t, refuse)) })
			fake.wantFailure(t, `websockettest: `+name+`: the handshake was refused with 401 Unauthorized: "log in first\n"`)
		})
	}
	for name, call := range map[string]func(c *websockettest.Client){
		"Abort":        (*websockettest.Client).Abort,
		"StopReading":  (*websockettest.Client).StopReading,
		"StartReading": (*websockettest.Client).StartReading,
	} {
		t.Run(name+" does not fail", func(t *testing.T) {
			runFake(t, func(t testing.TB) { call(websockettest.Dial(t, refuse)) }).wantFailure(t, "")
		})
	}
}
