//go:build unix

package stress

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy passes TCP connections on to the server. It cuts what the two sides send into other segments,
// and delays some of them.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	p.running.Go(p.accept)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// close waits for the end of all connections, whose clients have ended.
func (p *proxy) close() {
	p.listener.Close()
	p.running.Wait()
}

func (p *proxy) accept() {
	for n := 0; ; n++ {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		r := newRandom(0, n)
		p.running.Go(func() { p.pass(r, client.(*net.TCPConn)) })
	}
}

func (p *proxy) pass(r random, client *net.TCPConn) {
	defer client.Close()
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	back := newRandom(1, r.Int())
	var passing sync.WaitGroup
	passing.Go(func() { passOn(back, client, server) })
	passOn(r, server, client)
	passing.Wait()
}

// The delays are short, so that a pong does not come too late.
const (
	proxyDelay   = 20 * time.Millisecond
	proxySegment = 8 << 10
)

// passOn copies from one side to the other, with the end of the stream. A reset of one side resets the other.
func passOn(r random, to, from *net.TCPConn) {
	b := make([]byte, proxySegment)
	for {
		n, err := from.Read(b[:1+r.IntN(len(b))])
		if n > 0 && r.oneIn(4) {
			time.Sleep(r.between(0, proxyDelay))
		}
		if _, failed := to.Write(b[:n]); failed != nil && err == nil {
			err = failed
		}
		if err == nil {
			continue
		}
		var broken *net.OpError
		if errors.As(err, &broken) { // the end of the stream is io.EOF
			to.SetLinger(0)
			to.Close()
			from.SetLinger(0)
			from.Close()
			return
		}
		to.CloseWrite()
		return
	}
}
