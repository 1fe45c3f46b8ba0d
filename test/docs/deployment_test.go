package docs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// SetURL of httputil.ProxyRequest removes the Host header of the client, so Origin and Host
// differ. The program in docs/deployment.md sets it again.
func TestDeployment_ReverseProxy(t *testing.T) {
	backend := wstest.Serve(t, websocket.Handle(func(c *websocket.Conn) error {
		for msg, err := range c.Messages() {
			if err != nil {
				return err
			}
			if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
				return err
			}
		}
		return nil
	}))
	target, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(host func(*httputil.ProxyRequest)) *httputil.ReverseProxy {
		return &httputil.ReverseProxy{ErrorLog: wstest.NoLog, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			host(r)
			r.SetXForwarded()
		}}
	}
	page := []string{"Origin: http://" + wstest.Host} // of the site that the proxy serves
	tests := []struct {
		name   string
		proxy  http.Handler
		lines  []string // of the handshake
		status int
	}{
		{"SetURL alone", rewrite(func(*httputil.ProxyRequest) {}), page, http.StatusForbidden},
		{"SetURL alone, with a browser that sends Sec-Fetch-Site", rewrite(func(*httputil.ProxyRequest) {}), []string{page[0], "Sec-Fetch-Site: same-origin"}, http.StatusSwitchingProtocols},
		{"SetURL and the client's Host", rewrite(func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }), page, http.StatusSwitchingProtocols},
		{"SetURL and the client's Host, with a page of another origin", rewrite(func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }), []string{"Origin: http://evil.example"}, http.StatusForbidden},
		{"NewSingleHostReverseProxy", httputil.NewSingleHostReverseProxy(target), page, http.StatusSwitchingProtocols},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxy := httptest.NewServer(tt.proxy)
			defer proxy.Close()
			client := wstest.Dial(t, proxy.Listener.Addr().String())
			client.Write([]byte(wstest.Request(tt.lines...)))
			if tt.status == http.StatusSwitchingProtocols {
				if err := client.ReadUpgrade(); err != nil {
					t.Fatal(err)
				}
				if err := client.RoundTrip("through the proxy"); err != nil {
					t.Error(err)
				}
				return
			}
			resp, err := http.ReadResponse(client.Buffer, nil)
			if err != nil || resp.StatusCode != tt.status {
				t.Errorf("got the response %v with error %v, want %d", resp, err, tt.status)
			}
		})
	}
}

// A proxy that forwards raw bytes after any request with an Upgrade header does not check what
// follows. So the server must not serve a second request after a refusal. docs/deployment.md says
// which patterns of a ServeMux are safe.
func TestDeployment_requests_behind_a_refusal(t *testing.T) {
	const host = wstest.Host
	ws := func(opts ...websocket.Option) http.Handler {
		return websocket.Handle(func(*websocket.Conn) error { return nil }, opts...)
	}
	accept := func(ok func(r *http.Request) bool) websocket.Option { return websocket.AcceptConnection(ok) }
	own := accept(func(r *http.Request) bool { return r.Host == host && websocket.SameOrigin(r) })
	none := accept(func(*http.Request) bool { return false })
	muxes := []struct {
		name     string
		handlers map[string]http.Handler
		unsafe   []string // the requests after which the server serves another one
	}{
		{"AcceptConnection", map[string]http.Handler{"/ws": ws(own)}, nil},
		{"a host, and a handler for other names", map[string]http.Handler{host + "/ws": ws(), "/ws": ws(none)}, nil},
		{"a host", map[string]http.Handler{host + "/ws": ws()}, []string{"another host"}},
		{"a method", map[string]http.Handler{"GET /ws": ws(own)}, []string{"another method"}},
	}
	requests := map[string]string{
		"another host":    requestFor("GET", "Host: other.example"),
		"another method":  requestFor("POST"),
		"another version": requestFor("GET", "Sec-WebSocket-Version: 8"),
		"another origin":  requestFor("GET", "Origin: https://evil.example"),
	}
	for _, tt := range muxes {
		for name, request := range requests {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				served := make(chan bool, 1)
				mux := http.NewServeMux()
				for pattern, h := range tt.handlers {
					mux.Handle(pattern, h)
				}
				mux.HandleFunc("/admin", func(w http.ResponseWriter, r *http.Request) {
					served <- true
					w.Header().Set("Connection", "close")
				})
				client := wstest.Dial(t, wstest.Serve(t, mux).Listener.Addr().String())
				client.Write([]byte(request + "GET /admin HTTP/1.1\r\nHost: " + host + "\r\n\r\n"))
				io.ReadAll(client.Buffer) // until the server closes the connection
				if got, want := len(served) > 0, slices.Contains(tt.unsafe, name); got != want {
					t.Errorf("the second request is served: %t, want %t", got, want)
				}
			})
		}
	}
}

// requestFor returns a handshake for /ws with this method and changes.
func requestFor(method string, changes ...string) string {
	return method + " /ws" + strings.TrimPrefix(wstest.Request(changes...), "GET /")
}
