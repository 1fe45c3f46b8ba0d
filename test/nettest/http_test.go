package nettest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// net/http works over a stream, whichever end is the server of HTTP.
func TestHTTP(t *testing.T) {
	for network := range networks {
		for name, handle := range handlers {
			for _, reverse := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s with %s, reverse = %t", network, name, reverse), func(t *testing.T) {
					s, err := newStream(network, handle)
					if err != nil {
						t.Fatal(err)
					}
					defer s.stop()
					if reverse { // the peer of the WebSocket serves HTTP
						testHTTP(t, s.client, s.server)
					} else {
						testHTTP(t, s.server, s.client)
					}
				})
			}
		}
	}
}

// testHTTP serves HTTP on one end of a connection and sends requests from the other end.
func testHTTP(t *testing.T, server, client net.Conn) {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			t.Errorf("reading the request: %v", err)
		}
		fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Write(large) })
	mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		for i := range 20 {
			fmt.Fprintf(w, "%d\n", i)
			w.(http.Flusher).Flush()
		}
	})
	srv := &http.Server{Handler: mux, ReadTimeout: time.Minute, WriteTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(&oneListener{conn: server, closed: make(chan struct{})}) })
	defer serving.Wait()
	defer srv.Close()

	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: time.Minute}
	for range 3 {
		want(t, c, "/hello", nil, "hello")
		want(t, c, "/sum", large, fmt.Sprintf("%d %x", len(large), sha256.Sum256(large)))
		want(t, c, "/large", nil, string(large))
		want(t, c, "/flush", nil, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n")
	}
}

// large is larger than the buffers of a socket and MaxMessageSize together.
var large = bytes.Repeat([]byte("0123456789abcdef"), 3<<16)

// want sends a request with the body and compares the response.
func want(t *testing.T, c *http.Client, path string, body []byte, want string) {
	t.Helper()
	method := "GET"
	if body != nil {
		method = "POST"
	}
	req, err := http.NewRequest(method, "http://app.example"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != want {
		t.Fatalf("%s: got %d bytes %.40q and error %v, want %d bytes %.40q", path, len(got), got, err, len(want), strings.TrimSpace(want))
	}
}

// A oneListener accepts one connection.
type oneListener struct {
	conn   net.Conn
	closed chan struct{}
	accept sync.Once
	close  sync.Once
}

func (l *oneListener) Accept() (conn net.Conn, err error) {
	l.accept.Do(func() { conn = l.conn })
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return l.conn.LocalAddr() }
