package interop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	gorilla "github.com/gorilla/websocket"

	"github.com/f44ffc3b/websocket"
)

// A proxy is a program that a test starts with a generated configuration.
type proxy struct {
	name    string
	version []string // the arguments that print its version
	args    func(dir, config string) []string
	config  *template.Template
}

// addrs holds the addresses that a proxy listens on. On the short ones it closes
// connections that are silent for idleTimeout.
type addrs struct{ plain, tls, short, shortTLS string }

// setup holds the values for the template of a configuration.
type setup struct {
	addrs
	Backend, Certificate, Dir string
	IdleTimeout               time.Duration
}

func (s setup) Plain() string    { return s.plain }
func (s setup) TLS() string      { return s.tls }
func (s setup) Short() string    { return s.short }
func (s setup) ShortTLS() string { return s.shortTLS }

var proxies = []proxy{
	{
		name:    "nginx",
		version: []string{"-v"},
		args: func(dir, config string) []string {
			return []string{"-p", dir, "-e", "stderr", "-c", config}
		},
		config: template.Must(template.New("nginx").Parse(nginxConfig)),
	},
	{
		name:    "haproxy",
		version: []string{"-v"},
		args:    func(_, config string) []string { return []string{"-db", "-f", config} },
		config:  template.Must(template.New("haproxy").Parse(haproxyConfig)),
	},
}

const nginxConfig = `
daemon off;
master_process off; # the master process would need root
pid {{.Dir}}/nginx.pid;
error_log stderr error;
events { worker_connections 1000; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	ssl_certificate {{.Certificate}};
	ssl_certificate_key {{.Certificate}};

	server {
		listen {{.Plain}};
		listen {{.TLS}} ssl http2;
		location / {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
		}
		location /default/ {
			proxy_pass http://{{.Backend}};
		}
		location /without-upgrade/ {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
		}
		location /without-host/ {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
		}
	}
	server {
		listen {{.Short}};
		listen {{.ShortTLS}} ssl http2;
		location / {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
			proxy_read_timeout {{.IdleTimeout}};
			proxy_send_timeout {{.IdleTimeout}};
		}
	}
}
`

// haproxyConfig has the timeouts of Debian's default configuration, except in the backend
// short.
const haproxyConfig = `
global
	maxconn 1000

defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s

frontend default
	bind {{.Plain}}
	bind {{.TLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend default

backend default
	server app {{.Backend}}

frontend short
	bind {{.Short}}
	bind {{.ShortTLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend short

backend short
	timeout tunnel {{.IdleTimeout}}
	server app {{.Backend}}
`

// start runs the proxy in front of backend until the test ends.
func (p proxy) start(t *testing.T, backend string, cert certificate) addrs {
	t.Helper()
	program, err := lookProxy(p.name)
	version := ""
	if err == nil {
		version, err = output(program, p.version...)
	}
	version, _, _ = strings.Cut(version, "\n")
	require(t, p.name, version, err)

	// Another process may take a free port before the proxy listens on it, so try again.
	for range 3 {
		s := setup{addrs: freeAddrs(t), Backend: backend, Certificate: cert.both, Dir: t.TempDir(), IdleTimeout: idleTimeout}
		if err = p.run(t, program, s); err == nil {
			return s.addrs
		}
	}
	t.Fatal(err)
	return addrs{}
}

// lookProxy returns the path of a proxy. It also looks in /usr/sbin, because Debian
// installs daemons there and only root has it in PATH.
func lookProxy(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err != nil {
		return exec.LookPath("/usr/sbin/" + name)
	}
	return program, nil
}

// freeAddrs returns four free addresses. It listens on all of them at the same time, so
// that they differ.
func freeAddrs(t *testing.T) addrs {
	t.Helper()
	var free [4]string
	for i := range free {
		l := listen(t)
		defer l.Close()
		free[i] = l.Addr().String()
	}
	return addrs{free[0], free[1], free[2], free[3]}
}

// run starts the proxy. It returns nil when the proxy accepts connections, or an error if
// the proxy has ended or does not listen.
func (p proxy) run(t *testing.T, program string, s setup) error {
	t.Helper()
	config := filepath.Join(s.Dir, p.name+".conf")
	var text bytes.Buffer
	if err := p.config.Execute(&text, s); err != nil {
		return err
	}
	if err := os.WriteFile(config, text.Bytes(), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, p.args(s.Dir, config)...)
	cmd.WaitDelay = time.Second
	killWithParent(cmd)
	var log syncBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("output of %s: %s", p.name, log.String())
		}
	})
	return awaitListener(s.shortTLS, ended, &log)
}

// awaitListener waits until a proxy listens on addr, the last of its addresses.
func awaitListener(addr string, ended <-chan struct{}, log *syncBuffer) error {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("the proxy ended with the output: " + log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("the proxy does not listen after 20 seconds; its output: " + log.String())
}

// TestProxyTimeout checks why connections need a keepalive: without pings, proxies close
// a silent connection, and both sides notice it.
func TestProxyTimeout(t *testing.T) {
	t.Parallel()
	a := newApp()
	for _, p := range startPaths(t, a, &a.mux).idle[2:] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), caseTime+*idleFor)
			defer cancel()
			s, err := dialGorilla(ctx, p.websocket+"/"+p.name+"/quiet", p.tls)
			if err != nil {
				t.Fatal(err)
			}
			defer s.disconnect()
			if msg, err := s.inbox().receive(ctx); !errors.Is(err, errCut) {
				t.Errorf("the client got the message %q and the error %v, want an end without a close frame", msg.data, err)
			}
			select {
			case err := <-a.end(p.name, "quiet"):
				if code := websocket.CloseStatus(err); code != websocket.StatusAbnormalClosure {
					t.Errorf("the connection on the server ended with %v (code %v), want 1006", err, code)
				}
			case <-ctx.Done():
				t.Error("the connection on the server has not ended")
			}
		})
	}
}

// TestNginxWithoutSettings checks the responses if settings for WebSocket are missing
// from the configuration of nginx.
func TestNginxWithoutSettings(t *testing.T) {
	a := newApp()
	nginx := startPaths(t, a, &a.mux).common[2]
	for _, test := range []struct{ location, origin, status, body string }{
		{"default", "", "426 Upgrade Required", "HTTP/1.0"},
		{"without-upgrade", "", "426 Upgrade Required", "Upgrade"},
		{"without-host", "", "101 Switching Protocols", ""},
		{"without-host", nginx.http, "403 Forbidden", nginx.http},
	} {
		t.Run(test.location+" "+test.status, func(t *testing.T) {
			header := http.Header{}
			if test.origin != "" {
				header.Set("Origin", test.origin)
			}
			status, body := handshake(t, nginx.websocket+"/"+test.location+"/echo", header)
			if status != test.status || !strings.Contains(body, test.body) {
				t.Errorf("got %s with %q, want %s with %q", status, body, test.status, test.body)
			}
		})
	}
}

// handshake sends a handshake and returns the status and body of the response.
func handshake(t *testing.T, url string, header http.Header) (status, body string) {
	t.Helper()
	conn, resp, err := gorilla.DefaultDialer.DialContext(t.Context(), url, header)
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
