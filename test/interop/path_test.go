package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A path is a way from a client to the server: directly or through a proxy, with or
// without TLS.
type path struct {
	name        string
	websocket   string // the URL of the server with ws:// or wss://, without a path
	http        string // the same with http:// or https://
	certificate string // the PEM file with the server's certificate, which clients must trust
	tls         *tls.Config
	timeout
	proxied bool
	sample  bool // only the clients of sample use the path, because every test of a client takes time
}

// A timeout says how long a path may be silent.
type timeout int

const (
	noTimeout    timeout = iota
	longTimeout          // the default of the proxy
	shortTimeout         // idleTimeout
)

// paths holds paths to one server: common for most tests, and idle for tests with silent
// connections. With -idle 70s, both are the same.
type paths struct{ common, idle []path }

func (all *paths) add(p path) {
	if p.timeout != shortTimeout {
		all.common = append(all.common, p)
	}
	if p.timeout == noTimeout || (p.timeout == longTimeout) == byDefault() {
		all.idle = append(all.idle, p)
	}
}

// startPaths serves h directly, over TLS, and through each proxy, until the test ends.
func startPaths(t *testing.T, a *app, h http.Handler) paths {
	t.Helper()
	cert := makeCertificate(t)
	b := startBackend(t, a, h)
	var all paths
	all.add(cert.path("direct", b.tcp, false))
	all.add(cert.path("tls", serve(t, a.server(h), cert.server), true))
	reverse := cert.path("httputil", serve(t, a.server(a.reverseProxy(t, b.tcp, keepHost)), nil), false)
	reverse.proxied, reverse.sample = true, true
	all.add(reverse)
	for _, p := range proxies {
		for _, path := range p.paths(t, b, cert) {
			all.add(path)
		}
	}
	return all
}

// startBackend serves h over TCP and over a Unix socket.
func startBackend(t *testing.T, a *app, h http.Handler) backend {
	t.Helper()
	return backend{tcp: serve(t, a.server(h), nil), unix: serveOn(t, wstest.ListenUnix(t), a.server(h), nil)}
}

// startDirect serves h without TLS and without a proxy.
func startDirect(t *testing.T, a *app, h http.Handler) path {
	t.Helper()
	return makeCertificate(t).path("direct", serve(t, a.server(h), nil), false)
}

// listen listens on a free port of this machine.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs s until the test ends and returns its address. If config is not nil, it
// serves TLS and offers HTTP/2, as net/http does by default. WebSocket clients must
// choose HTTP/1.1.
func serve(t *testing.T, s *http.Server, config *tls.Config) string {
	t.Helper()
	return serveOn(t, listen(t), s, config)
}

// serveOn is serve with a listener.
func serveOn(t *testing.T, l net.Listener, s *http.Server, config *tls.Config) string {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		if config == nil {
			done <- s.Serve(l)
			return
		}
		s.TLSConfig = config
		done <- s.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A certificate is a self-signed certificate for 127.0.0.1.
type certificate struct {
	file   string // the PEM file with the certificate
	both   string // the PEM file with the certificate and its key
	server *tls.Config
	client *tls.Config // trusts the certificate
}

func makeCertificate(t *testing.T) certificate {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "interop"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	fatal(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	fatal(err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})

	dir := t.TempDir()
	c := certificate{file: filepath.Join(dir, "cert.pem"), both: filepath.Join(dir, "both.pem")}
	fatal(os.WriteFile(c.file, certPEM, 0o600))
	fatal(os.WriteFile(c.both, append(certPEM, keyPEM...), 0o600))
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	fatal(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	c.server = &tls.Config{Certificates: []tls.Certificate{pair}}
	c.client = &tls.Config{RootCAs: roots}
	return c
}

// path returns the path to the server at addr.
func (c certificate) path(name, addr string, secure bool) path {
	p := path{name: name, websocket: "ws://" + addr, http: "http://" + addr, certificate: c.file, tls: c.client}
	if secure {
		p.websocket, p.http = "wss://"+addr, "https://"+addr
	}
	return p
}
