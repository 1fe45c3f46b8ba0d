package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A proxy is a program that a test starts. It runs in front of the backend until the test
// ends. Its process may listen on several addresses.
type proxy struct {
	name    string
	find    func() (program string, err error)
	version []string // the arguments that print its version
	args    func(s setup) []string
	config  *template.Template // nil if it has no configuration file
	listens []listener
	sample  bool // see path
}

// A listener is one address of a proxy.
type listener struct {
	tls bool
	timeout
}

// four holds the listeners of a proxy with TLS and a timeout.
var four = []listener{
	{timeout: longTimeout}, {timeout: longTimeout, tls: true},
	{timeout: shortTimeout}, {timeout: shortTimeout, tls: true},
}

// setup holds the values for the arguments and the configuration of a proxy.
type setup struct {
	Addrs                    []string // one for each listener
	Backend                  string   // its address for TCP
	UnixBackend              string   // its Unix socket
	Certificate, Dir, Config string
	IdleTimeout              time.Duration
}

// A backend has the addresses of the server behind the proxies.
type backend struct{ tcp, unix string }

// The addresses of a proxy with the listeners four.
func (s setup) Plain() string    { return s.Addrs[0] }
func (s setup) TLS() string      { return s.Addrs[1] }
func (s setup) Short() string    { return s.Addrs[2] }
func (s setup) ShortTLS() string { return s.Addrs[3] }

func (s setup) BackendHost() string {
	host, _, _ := strings.Cut(s.Backend, ":")
	return host
}

func (s setup) BackendPort() string {
	_, port, _ := strings.Cut(s.Backend, ":")
	return port
}

var (
	nginx = proxy{
		name:    "nginx",
		find:    daemon("nginx"),
		version: []string{"-v"},
		args:    func(s setup) []string { return []string{"-p", s.Dir, "-e", "stderr", "-c", s.Config} },
		config:  template.Must(template.New("nginx").Parse(nginxConfig)),
		listens: four,
	}
	nginxUnix = proxy{
		name:    "nginx-unix",
		find:    nginx.find,
		version: nginx.version,
		args:    nginx.args,
		config:  template.Must(template.New("nginx-unix").Parse(nginxUnixConfig)),
		listens: []listener{{timeout: longTimeout}},
		sample:  true,
	}
	haproxy = proxy{
		name:    "haproxy",
		find:    daemon("haproxy"),
		version: []string{"-v"},
		args:    func(s setup) []string { return []string{"-db", "-f", s.Config} },
		config:  template.Must(template.New("haproxy").Parse(haproxyConfig)),
		listens: four,
	}
	varnish = varnishProxy(longTimeout)
	// shortVarnish is a process of its own, because pipe_timeout is a parameter of the
	// process.
	shortVarnish = varnishProxy(shortTimeout, "-p", "pipe_timeout="+fmt.Sprint(idleTimeout.Seconds()))
	vite         = proxy{
		name:    "vite",
		find:    func() (string, error) { return exec.LookPath("node") },
		version: []string{"-e", `console.log(require("vite/package.json").version, "on Node", process.version)`},
		args:    func(s setup) []string { return []string{"proxies/vite.mjs", s.Addrs[0], s.Backend, s.Dir} },
		listens: []listener{{}},
		sample:  true,
	}
	proxies = []proxy{nginx, nginxUnix, haproxy, varnish, shortVarnish, vite}
)

// varnishProxy returns Varnish with this timeout, which the parameters set.
func varnishProxy(t timeout, parameters ...string) proxy {
	return proxy{
		name:    "varnish",
		find:    daemon("varnishd"),
		version: []string{"-V"},
		args: func(s setup) []string {
			return append([]string{"-F", "-j", "none", "-n", filepath.Join(s.Dir, "work"), "-a", s.Addrs[0], "-f", s.Config, "-s", "malloc,16m"}, parameters...)
		},
		config:  template.Must(template.New("varnish").Parse(varnishConfig)),
		listens: []listener{{timeout: t}},
		sample:  true,
	}
}

// start runs the proxy in front of backend until the test ends, and returns the address of
// each listener. If the proxy is missing and INTEROP_SKIP_MISSING is set, it returns none.
func (p proxy) start(t *testing.T, b backend, cert certificate) []string {
	t.Helper()
	program, err := p.find()
	version := ""
	if err == nil {
		version, err = output(program, p.version...)
	}
	version, _, _ = strings.Cut(version, "\n")
	if err != nil && skipMissing() {
		t.Logf("%s is missing: %v", p.name, err)
		return nil
	}
	require(t, p.name, version, err)

	// Another process may take a free port before the proxy listens on it, so try again.
	for range 3 {
		dir := t.TempDir()
		s := setup{Addrs: freeAddrs(t, len(p.listens)), Backend: b.tcp, UnixBackend: b.unix, Certificate: cert.both, Dir: dir,
			Config: filepath.Join(dir, p.name+".conf"), IdleTimeout: idleTimeout}
		if err = p.run(t, program, s); err == nil {
			return s.Addrs
		}
	}
	t.Fatal(err)
	return nil
}

// paths starts the proxy and returns the path through each of its listeners.
func (p proxy) paths(t *testing.T, b backend, cert certificate) []path {
	t.Helper()
	var all []path
	for i, addr := range p.start(t, b, cert) {
		l := p.listens[i]
		name := p.name
		if l.tls {
			name += "-tls"
		}
		path := cert.path(name, addr, l.tls)
		path.timeout, path.proxied, path.sample = l.timeout, true, p.sample
		all = append(all, path)
	}
	return all
}

// daemon returns a function that finds a program. The function also looks in /usr/sbin,
// because Debian installs daemons there and only root has it in PATH.
func daemon(name string) func() (string, error) {
	return func() (string, error) {
		program, err := exec.LookPath(name)
		if err != nil {
			return exec.LookPath("/usr/sbin/" + name)
		}
		return program, nil
	}
}

// freeAddrs returns n free addresses.
func freeAddrs(t *testing.T, n int) (free []string) {
	t.Helper()
	for range n {
		free = append(free, wstest.FreeAddr(t))
	}
	return free
}

// run starts the proxy. It returns nil when the proxy accepts connections, or an error if
// the proxy has ended or does not listen.
func (p proxy) run(t *testing.T, program string, s setup) error {
	t.Helper()
	if p.config != nil {
		var text bytes.Buffer
		if err := p.config.Execute(&text, s); err != nil {
			return err
		}
		if err := os.WriteFile(s.Config, text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, p.args(s)...)
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
	return awaitListener(s.Addrs[len(s.Addrs)-1], ended, &log)
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
	for _, p := range startPaths(t, a, &a.mux).idle {
		if p.timeout == noTimeout {
			continue
		}
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
