package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect"
)

// A Protocol is what the connections of a workload speak below WebSocket.
type Protocol string

// The protocols. The first one is the default.
const (
	HTTP1    Protocol = ""      // HTTP/1.1
	HTTP1TLS Protocol = "tls"   // HTTP/1.1 over TLS
	HTTP2    Protocol = "h2c"   // HTTP/2 without TLS
	HTTP2TLS Protocol = "h2tls" // HTTP/2 over TLS
)

// TLS reports whether p has TLS.
func (p Protocol) TLS() bool { return p == HTTP1TLS || p == HTTP2TLS }

// Streams reports whether connections are streams of HTTP/2.
func (p Protocol) Streams() bool { return p == HTTP2 || p == HTTP2TLS }

// serve serves ln with srv.
func (p Protocol) serve(srv *http.Server, ln net.Listener) error {
	if p == HTTP1 {
		return srv.Serve(ln)
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(!p.Streams())
	srv.Protocols.SetHTTP2(p == HTTP2TLS)
	srv.Protocols.SetUnencryptedHTTP2(p == HTTP2)
	extendedconnect.Configure(srv)
	if !p.TLS() {
		return srv.Serve(ln)
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	return srv.ServeTLS(ln, "", "")
}

// selfSigned makes a certificate, which the load generator does not check.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// A rawStream is a stream of HTTP/2 for a hand-written server. Only Read, Write and Close of its
// net.Conn exist.
type rawStream struct {
	net.Conn
	r   *http.Request
	w   http.ResponseWriter
	ctl *http.ResponseController
}

// openRawStream answers an extended CONNECT.
func openRawStream(w http.ResponseWriter, r *http.Request) (net.Conn, error) {
	s := &rawStream{r: r, w: w, ctl: http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	return s, s.ctl.Flush()
}

func (s *rawStream) Read(p []byte) (int, error) { return s.r.Body.Read(p) }

func (s *rawStream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.ctl.Flush()
	}
	return n, err
}

func (s *rawStream) Close() error { return nil }
