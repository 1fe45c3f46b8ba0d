package websocket_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/f44ffc3b/websocket"
)

// handshake connects to the WebSocket at url. The body of the response is the connection:
// an io.ReadWriteCloser.
func handshake(url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	return http.DefaultTransport.RoundTrip(req)
}

// The handler works before the handshake and after the connection.
func ExampleUpgrade() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "4711")
		c, err := websocket.Upgrade(w, r)
		if err != nil {
			return // the request has been answered
		}
		defer c.Close(websocket.StatusNormalClosure, "that was all")
		c.SendMessage(websocket.Text, []byte("hello"))
	}))
	defer server.Close()

	resp, err := handshake(server.URL, http.Header{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("X-Request-Id"))
	for range 2 {
		f, err := websocket.ReadFrame(resp.Body, 1<<10)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v: %q\n", f.Opcode, f.Payload)
	}
	// Output:
	// 101 Switching Protocols 4711
	// text: "hello"
	// close: "\x03\xe8that was all"
}

// A browser opens the address of a WebSocket as a page. It gets an explanation, and the
// handler gets a HandshakeError.
func ExampleUpgrade_refused() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := websocket.Upgrade(w, r)
		if refused := new(websocket.HandshakeError); errors.As(err, &refused) {
			fmt.Println("answered with", refused.Status)
		}
	}))
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n%s", resp.Status, body)
	// Output:
	// answered with 426
	// 426 Upgrade Required
	// this is a WebSocket endpoint: connect with a WebSocket client, which sends Upgrade: websocket and Connection: Upgrade; this request has no Upgrade and no Connection
}

// The server's preference decides, not the order of the client's offer.
func ExampleSubprotocols() {
	server := httptest.NewServer(websocket.Handle(func(c *websocket.Conn) error {
		return c.SendMessage(websocket.Text, []byte("we speak "+c.Subprotocol()))
	}, websocket.Subprotocols("chat.v2", "chat.v1")))
	defer server.Close()

	resp, err := handshake(server.URL, http.Header{"Sec-Websocket-Protocol": {"chat.v1, chat.v2, chat.v3"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Header.Get("Sec-WebSocket-Protocol"))
	if f, err := websocket.ReadFrame(resp.Body, 1<<10); err == nil {
		fmt.Printf("%s\n", f.Payload)
	}
	// Output:
	// chat.v2
	// we speak chat.v2
}

// Pages of other hosts of the application may connect, and also pages of the server's own
// origin.
func ExampleAllowOrigins() {
	policy := websocket.AllowOrigins("https://app.example.com", "*.partner.example")
	http.Handle("/feed", websocket.Handle(feed, websocket.AcceptConnection(policy)))

	for _, origin := range []string{
		"https://api.example.com", // the same origin
		"https://app.example.com",
		"http://app.example.com",
		"https://eu.partner.example",
		"https://partner.example",
		"https://evilpartner.example",
		"null",
	} {
		r := httptest.NewRequest("GET", "https://api.example.com/feed", nil)
		r.Header.Set("Origin", origin)
		fmt.Println(origin, policy(r))
	}
	// Output:
	// https://api.example.com true
	// https://app.example.com true
	// http://app.example.com false
	// https://eu.partner.example true
	// https://partner.example false
	// https://evilpartner.example false
	// null false
}

func feed(c *websocket.Conn) error { return c.SendMessage(websocket.Text, []byte("news")) }

// The Sec-WebSocket-Key and Sec-WebSocket-Accept are those of RFC 6455 section 1.3.
func ExampleAcceptKey() {
	fmt.Println(websocket.AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="))
	// Output: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
}
