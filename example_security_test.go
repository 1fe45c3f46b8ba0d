package websocket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/f44ffc3b/websocket"
)

// A server accepts only the names that it serves. In an attack by DNS rebinding, the name
// of the attacker's page has the address of this server. Origin and Host then agree, so
// SameOrigin alone accepts the page.
func ExampleAcceptConnection_host() {
	names := map[string]bool{"app.example.com": true, "www.example.com": true}
	accept := func(r *http.Request) bool {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host // without a port
		}
		return names[host] && websocket.SameOrigin(r)
	}
	server := &http.Server{
		Handler:           websocket.Handle(feed, websocket.AcceptConnection(accept)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
	}
	defer server.Close()
	addr := start(server)
	for _, host := range []string{"app.example.com", "www.example.com:8080", "attacker.example"} {
		client, status := connect(addr, http.Header{"Host": {host}, "Origin": {"http://" + host}})
		fmt.Println(host, status)
		if client != nil {
			client.Close()
		}
	}
	// Output:
	// app.example.com 101 Switching Protocols
	// www.example.com:8080 101 Switching Protocols
	// attacker.example 403 Forbidden
}

// A message must arrive within a second of its beginning. Between messages, a client may be
// silent: the keepalive finds out whether it is still there. Every byte restarts
// ConnectionTimeout, so ConnectionTimeout alone does not limit a message that arrives one
// byte at a time.
func ExampleConn_SetReadDeadline_slowMessages() {
	receive := func(c *websocket.Conn) (op websocket.Opcode, data []byte, err error) {
		c.SetReadDeadline(time.Time{})
		op, r, err := c.MessageReader() // waits for the beginning of a message
		if err != nil {
			return 0, nil, err
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		data, err = io.ReadAll(r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "the message is late"}
		}
		return op, data, err
	}
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			op, data, err := receive(c)
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	})
	talk(h, "in time")
	// Output:
	// server sends text "in time"
	// server closes with 1000 (normal closure) ""
}
