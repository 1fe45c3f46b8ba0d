package docs

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
