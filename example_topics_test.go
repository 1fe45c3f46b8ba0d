package websocket_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

// A server that shuts down closes all of its connections with 1001 (going away), at
// the same time. It keeps a set of them, because http.Server.Shutdown neither closes
// nor waits for connections that were upgraded.
func Example_shutdown() {
	var (
		mu      sync.Mutex
		conns   = make(map[*websocket.Conn]bool) // nil once the server shuts down
		running sync.WaitGroup                   // functions and calls of Close
	)
	add := func(c *websocket.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		if conns == nil {
			return false
		}
		conns[c] = true
		running.Add(1)
		return true
	}
	remove := func(c *websocket.Conn) {
		mu.Lock()
		defer mu.Unlock()
		delete(conns, c)
		running.Done()
	}
	goingAway := &websocket.CloseError{Code: websocket.StatusGoingAway, Reason: "the server restarts"}
	greet := websocket.Handle(func(c *websocket.Conn) error {
		if !add(c) {
			return goingAway
		}
		defer remove(c)
		if err := c.SendMessage(websocket.Text, []byte("welcome")); err != nil {
			return err
		}
		_, _, err := c.ReceiveMessage() // returns an error when closeAll closes c
		return err
	})
	closeAll := func() {
		mu.Lock()
		for c := range conns {
			running.Go(func() { c.Close(goingAway.Code, goingAway.Reason) })
		}
		conns = nil
		mu.Unlock()
		running.Wait() // CloseTimeout limits each Close
	}

	server := &http.Server{Handler: greet, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	addr := start(server)
	client, _ := connect(addr, nil)
	fmt.Println(receive(client)) // the server has added the connection
	done := make(chan error)
	go func() {
		closeAll() // when the program gets a signal, see signal.NotifyContext
		done <- server.Shutdown(context.Background())
	}()
	fmt.Println(receive(client))
	fmt.Println("shutdown:", <-done)
	// Output:
	// text "welcome"
	// closed with 1001 (going away) "the server restarts"
	// shutdown: <nil>
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
