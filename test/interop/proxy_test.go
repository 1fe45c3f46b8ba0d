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

// A proxy is a program that is started for the test, with a configuration made
// for it.
type proxy struct {
	name    string
	version []string // arguments that print it
	args    func(dir, config string) []string
	config  *template.Template
}

// addrs are where a proxy listens.
type addrs struct{ plain, tls, impatient, impatientTLS string }

// setup is what the configurations are made of.
type setup struct {
	addrs
	Backend, Certificate, Dir string
	Patience                  time.Duration
}

func (s setup) Plain() string        { return s.plain }
func (s setup) TLS() string          { return s.tls }
func (s setup) Impatient() string    { return s.impatient }
func (s setup) ImpatientTLS() string { return s.impatientTLS }

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
master_process off; # which would want to be root
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
		listen {{.Impatient}};
		listen {{.ImpatientTLS}} ssl http2;
		location / {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
			proxy_read_timeout {{.Patience}};
			proxy_send_timeout {{.Patience}};
		}
	}
}
`

// The patient part has the time-outs of the configuration that Debian installs.
const haproxyConfig = `
global
	maxconn 1000

defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s

frontend patient
	bind {{.Plain}}
	bind {{.TLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend patient

backend patient
	server app {{.Backend}}

frontend impatient
	bind {{.Impatient}}
	bind {{.ImpatientTLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend impatient

backend impatient
	timeout tunnel {{.Patience}}
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

	// A free port may be taken again before the proxy listens on it.
	for range 3 {
		s := setup{addrs: freeAddrs(t), Backend: backend, Certificate: cert.both, Dir: t.TempDir(), Patience: patience}
		if err = p.run(t, program, s); err == nil {
			return s.addrs
		}
	}
	t.Fatal(err)
	return addrs{}
}

// lookProxy also looks where Debian has daemons, which is in the PATH of root alone.
func lookProxy(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err != nil {
		return exec.LookPath("/usr/sbin/" + name)
	}
	return program, nil
}

// freeAddrs holds all of them at once, so that no two are the same.
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

// run returns when the proxy accepts connections, or has ended.
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
	dieWithUs(cmd)
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
			t.Logf("%s said: %s", p.name, log.String())
		}
	})
	return awaitListener(s.impatientTLS, ended, &log)
}

// awaitListener waits for the last address that a proxy listens on.
func awaitListener(addr string, ended <-chan struct{}, log *syncBuffer) error {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("it ended: " + log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not listen: " + log.String())
}

// TestProxyCutsSilence shows what the keepalive is for: without it, proxies hang
// up, and both sides learn of it.
func TestProxyCutsSilence(t *testing.T) {
	t.Parallel()
	a := newApp()
	for _, p := range startPaths(t, a, &a.mux).impatient[2:] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), caseTime+*idleFor)
			defer cancel()
			s, err := dialGorilla(ctx, p.websocket+"/"+p.name+"/quiet", p.tls)
			if err != nil {
				t.Fatal(err)
			}
			defer s.hangUp()
			if msg, err := s.inbox().receive(ctx); !errors.Is(err, errCut) {
				t.Errorf("the client got %q, %v; want no close frame", msg.data, err)
			}
			select {
			case err := <-a.end(p.name, "quiet"):
				if code := websocket.CloseStatus(err); code != websocket.StatusAbnormalClosure {
					t.Errorf("the server got %v (%v), want 1006", err, code)
				}
			case <-ctx.Done():
				t.Error("the server has not noticed")
			}
		})
	}
}

// TestNginxWithoutSettings shows what somebody sees who has not told nginx all that
// it needs.
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

// handshake returns what a handshake was answered with.
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
