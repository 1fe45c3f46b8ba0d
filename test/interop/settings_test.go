package interop

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
)

// A settingTest is a handshake through a proxy with some of its settings.
type settingTest struct {
	setting      string // the first part of the path, for which the proxy has the settings
	origin       string // the Origin of a browser, "" for another client
	status, body string // the response, and a part of its text
}

// runSettings checks the response to each handshake.
func runSettings(t *testing.T, p path, tests []settingTest) {
	for _, test := range tests {
		t.Run(test.setting+" "+test.status, func(t *testing.T) {
			header := http.Header{}
			if test.origin != "" {
				header.Set("Origin", test.origin)
			}
			status, body := handshake(t, p.websocket+"/"+test.setting+"/echo", header)
			if status != test.status || !strings.Contains(body, test.body) {
				t.Errorf("got %s with %q, want %s with %q", status, body, test.status, test.body)
			}
		})
	}
}

// startProxy starts a proxy in front of the app and returns the path without TLS.
func (a *app) startProxy(t *testing.T, p proxy) path {
	t.Helper()
	all := p.paths(t, startBackend(t, a, &a.mux), makeCertificate(t))
	if len(all) == 0 {
		t.Skipf("%s is missing", p.name)
	}
	return all[0]
}

// TestNginxWithoutSettings checks the responses if settings for WebSocket are missing
// from the configuration of nginx.
func TestNginxWithoutSettings(t *testing.T) {
	p := newApp().startProxy(t, nginx)
	runSettings(t, p, []settingTest{
		{"default", "", "426 Upgrade Required", "HTTP/1.0"},
		{"without-upgrade", "", "426 Upgrade Required", "Upgrade"},
		{"without-host", "", "101 Switching Protocols", ""},
		{"without-host", p.http, "403 Forbidden", p.http},
	})
}

// TestViteSettings checks the responses with the settings of Vite's proxy that concern
// WebSockets.
func TestViteSettings(t *testing.T) {
	p := newApp().startProxy(t, vite)
	const evil = "http://evil.example"
	runSettings(t, p, []settingTest{
		{"ws", p.http, "101 Switching Protocols", ""},
		{"ws", evil, "403 Forbidden", evil},
		{"change-origin", "", "101 Switching Protocols", ""},
		{"change-origin", p.http, "403 Forbidden", p.http},
		{"rewrite-origin", p.http, "101 Switching Protocols", ""},
		{"rewrite-origin", evil, "101 Switching Protocols", ""},
	})
	t.Run("without ws", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, _, err := gorilla.DefaultDialer.DialContext(ctx, p.websocket+"/without-ws/echo", nil)
		if err == nil {
			conn.Close()
			t.Fatal("got a connection, want none")
		}
		if timeout := (net.Error)(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want no response", err)
		}
	})
}

// keepHost makes a httputil.ReverseProxy forward the Host of the client.
func keepHost(r *httputil.ProxyRequest, backend *url.URL) {
	r.SetURL(backend)
	r.Out.Host = r.In.Host
}

// rewriteHost is what SetURL alone does.
func rewriteHost(r *httputil.ProxyRequest, backend *url.URL) { r.SetURL(backend) }

// reverseProxy returns a httputil.ReverseProxy in front of the backend.
func (a *app) reverseProxy(t *testing.T, backend string, rewrite func(*httputil.ProxyRequest, *url.URL)) http.Handler {
	t.Helper()
	target, err := url.Parse("http://" + backend)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { rewrite(r, target) },
		ErrorLog: log.New(&a.log, "", 0),
	}
}

// TestReverseProxySettings checks the responses with several configurations of a
// httputil.ReverseProxy.
func TestReverseProxySettings(t *testing.T) {
	a := newApp()
	backend := serve(t, a.server(&a.mux), nil)
	target := &url.URL{Scheme: "http", Host: backend}
	mux := http.NewServeMux()
	mux.Handle("/keep-host/", a.reverseProxy(t, backend, keepHost))
	mux.Handle("/rewrite-host/", a.reverseProxy(t, backend, rewriteHost))
	mux.Handle("/single-host/", httputil.NewSingleHostReverseProxy(target))
	p := startDirect(t, a, mux)
	runSettings(t, p, []settingTest{
		{"keep-host", p.http, "101 Switching Protocols", ""},
		{"keep-host", "http://evil.example", "403 Forbidden", "http://evil.example"},
		{"rewrite-host", "", "101 Switching Protocols", ""},
		{"rewrite-host", p.http, "403 Forbidden", p.http},
		{"single-host", p.http, "101 Switching Protocols", ""},
	})
}

// TestThroughVarnish checks when a client can send requests past Varnish. Varnish forwards
// bytes in both directions as soon as a request has an Upgrade header, without a look at the
// response. A refused handshake must therefore end the connection. Other handlers of a server
// leave it open, so Varnish must forward bytes only for the paths of WebSockets.
func TestThroughVarnish(t *testing.T) {
	a := newApp()
	var reached atomic.Int64
	a.mux.HandleFunc("GET /forbidden/page", func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	p := a.startProxy(t, varnish)
	const forbidden = "GET /forbidden/page HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
	for _, test := range []struct {
		name, request, status string
		passes                int64 // the number of forbidden requests that the server gets
	}{
		{"a request without Upgrade", forbidden, "403", 0},
		{"another origin", upgrade("/run/echo", "Origin: http://evil.example", "Sec-WebSocket-Version: 13"), "403", 0},
		{"another version", upgrade("/run/echo", "Sec-WebSocket-Version: 12"), "426", 0},
		{"no version", upgrade("/run/echo", "X-Version: 13"), "426", 0},
		{"no key", strings.Replace(upgrade("/run/echo", "Sec-WebSocket-Version: 13"), "Sec-WebSocket-Key", "X-Key", 1), "400", 0},
		{"another handler", upgrade("/run/", "Sec-WebSocket-Version: 13"), "200", 1},
		{"another handler, for which Varnish does not pipe", upgrade("/checked/", "Sec-WebSocket-Version: 13"), "200", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.http, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(conn, test.request+forbidden); err != nil {
				t.Fatal(err)
			}
			response, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("the connection has not ended after the response %q: %v", response, err)
			}
			if !strings.HasPrefix(string(response), "HTTP/1.1 "+test.status) {
				t.Errorf("got the response %q, want the status %s", response, test.status)
			}
			if n := reached.Swap(0); n != test.passes {
				t.Errorf("the server has served %d forbidden requests, want %d; the responses: %q", n, test.passes, response)
			}
		})
	}
}

// upgrade returns a request with the headers of a handshake and more.
func upgrade(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
}

// handshake sends a handshake and returns the status and body of the response.
func handshake(t *testing.T, url string, header http.Header) (status, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	conn, resp, err := gorilla.DefaultDialer.DialContext(ctx, url, header)
	if conn != nil {
		conn.Close()
	}
	if resp == nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status, string(answer)
}
