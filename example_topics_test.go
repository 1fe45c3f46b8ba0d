package websocket_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

// http.Server.Shutdown neither closes nor waits for connections that were upgraded. So it also
// starts the Shutdown of the handler, which closes all of them with 1001 (going away). A second
// call waits for their functions. When its ctx is done, it closes the sockets that are left.
func Example_shutdown() {
	greet := websocket.Handle(func(c *websocket.Conn) error {
		if err := c.SendMessage(websocket.Text, []byte("welcome")); err != nil {
			return err
		}
		_, _, err := c.ReceiveMessage() // returns an error when Shutdown closes c
		return err
	})
	server := &http.Server{Handler: greet, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	server.RegisterOnShutdown(func() { greet.Shutdown(context.Background()) })

	addr := start(server)
	client, _ := connect(addr, nil)
	fmt.Println(receive(client))
	done := make(chan error)
	go func() { // when the program gets a signal, see signal.NotifyContext
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- errors.Join(server.Shutdown(ctx), greet.Shutdown(ctx))
	}()
	fmt.Println(receive(client))
	client.Close()
	fmt.Println("shutdown:", <-done)
	// Output:
	// text "welcome"
	// closed with 1001 (going away) ""
	// shutdown: <nil>
}

// The statistics of a handler are published with package expvar, which serves them as JSON at
// /debug/vars. OnClose logs why each connection has ended.
func ExampleHandler_Stats() {
	greet := websocket.Handle(func(c *websocket.Conn) error {
		return c.SendMessage(websocket.Text, []byte("welcome"))
	}, websocket.OnClose(func(c *websocket.Conn, err error) {
		fmt.Println("log:", websocket.CloseStatus(err), "after messages:", c.Stats().MessagesSent)
	}))
	expvar.Publish("websocket", expvar.Func(func() any { return greet.Stats() }))

	server := &http.Server{Handler: greet, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	defer server.Close()
	addr := start(server)
	client, _ := connect(addr, nil)
	fmt.Println(receive(client))
	fmt.Println(receive(client))
	client.Close()
	greet.Shutdown(context.Background()) // waits for the end
	fmt.Println(expvar.Get("websocket"))
	// Output:
	// text "welcome"
	// closed with 1000 (normal closure) ""
	// log: 1000 (normal closure) after messages: 1
	// {"Open":0,"Accepted":1,"Refused":0,"MessagesReceived":0,"MessagesSent":1,"BytesReceived":8,"BytesSent":13,"Closed":{"1000":1}}
}

// The handshake is authenticated by a session cookie: AcceptConnection refuses a
// request without a valid one, and the function finds the user through Request.
func Example_authentication() {
	sessions := map[string]string{"4f2c8a": "Ada"} // user names by the value of the cookie
	userOf := func(r *http.Request) (name string, ok bool) {
		cookie, err := r.Cookie("session")
		if err != nil {
			return "", false
		}
		name, ok = sessions[cookie.Value]
		return name, ok
	}
	// SameOrigin is needed too: a browser sends the cookie with every handshake, also
	// if a page of another site has opened the WebSocket.
	accept := func(r *http.Request) bool {
		_, ok := userOf(r)
		return ok && websocket.SameOrigin(r)
	}
	greet := websocket.Handle(func(c *websocket.Conn) error {
		name, ok := userOf(c.Request())
		if !ok { // the session has ended since the handshake
			return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "log in again"}
		}
		return c.SendMessage(websocket.Text, []byte("hello "+name))
	}, websocket.AcceptConnection(accept))

	server := &http.Server{Handler: greet, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	defer server.Close()
	addr := start(server)
	for _, header := range []http.Header{
		{},
		{"Cookie": {"session=4f2c8a"}, "Origin": {"https://evil.example"}},
		{"Cookie": {"session=4f2c8a"}, "Origin": {"http://" + addr}},
	} {
		client, status := connect(addr, header)
		fmt.Println(status)
		if client != nil {
			fmt.Println(receive(client))
			client.Close()
		}
	}
	// Output:
	// 403 Forbidden
	// 403 Forbidden
	// 101 Switching Protocols
	// text "hello Ada"
}

// start serves on a free port of this machine and returns its address.
func start(server *http.Server) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(l)
	return l.Addr().String()
}

// connect sends a handshake to addr with these headers. It returns the status of the
// response, and the connection if the status is 101.
func connect(addr string, header http.Header) (conn io.ReadWriteCloser, status string) {
	req, err := http.NewRequest("GET", "http://"+addr, nil)
	if err != nil {
		panic(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Host = req.Header.Get("Host") // if it is empty, Host is the host of the URL
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err.Error()
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, resp.Status
	}
	return resp.Body.(io.ReadWriteCloser), resp.Status
}

// receive reads one frame from the server and describes it. It answers a close frame.
func receive(conn io.ReadWriter) string {
	f, err := websocket.ReadFrame(conn, 1<<10)
	if err != nil {
		return err.Error()
	}
	if f.Opcode != websocket.Close || len(f.Payload) < 2 {
		return fmt.Sprintf("%v %q", f.Opcode, f.Payload)
	}
	code := websocket.StatusCode(f.Payload[0])<<8 | websocket.StatusCode(f.Payload[1])
	reason := f.Payload[2:]
	f.Payload = f.Payload[:2]
	f.Masked = true // clients must mask their frames; the zero MaskKey changes no byte
	if err := websocket.WriteFrame(conn, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("closed with %v %q", code, reason)
}
