package load

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// streamsPerConn is how many streams an HTTP/2 connection has: as many as net/http allows.
const streamsPerConn = 250

// A dialer opens the connections of a workload. Over HTTP/2 they are streams that share
// connections.
type dialer struct {
	addr, path string
	protocol   servers.Protocol
	conns      []*wstest.HTTP2
	streams    int // on the last of conns
}

func (d *dialer) dial() (net.Conn, error) {
	switch d.protocol {
	case servers.HTTP1:
		return dial(d.addr, d.path)
	case servers.HTTP1TLS:
		c, err := d.dialTLS("http/1.1")
		if err != nil {
			return nil, err
		}
		return upgrade(c, d.path)
	}
	if len(d.conns) == 0 || d.streams == streamsPerConn {
		if err := d.connect(); err != nil {
			return nil, err
		}
	}
	d.streams++
	s, err := d.conns[len(d.conns)-1].Connect(":path: " + d.path)
	if err == nil && s.Status != http.StatusOK {
		err = fmt.Errorf("handshake: got the status %d, want 200", s.Status)
	}
	if err != nil {
		return nil, err
	}
	s.SetDeadline(time.Now().Add(timeout))
	return s, nil
}

// connect opens one more HTTP/2 connection.
func (d *dialer) connect() error {
	var c net.Conn
	var err error
	if d.protocol.TLS() {
		c, err = d.dialTLS("h2")
	} else {
		c, err = dial(d.addr, "")
	}
	if err != nil {
		return err
	}
	c.SetDeadline(time.Time{}) // the streams have deadlines
	h, err := wstest.NewHTTP2(c, 0)
	if err == nil {
		d.conns, d.streams = append(d.conns, h), 0
	}
	return err
}

func (d *dialer) dialTLS(protocol string) (net.Conn, error) {
	c, err := dial(d.addr, "")
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

func (d *dialer) close() {
	for _, c := range d.conns {
		c.Close()
	}
}
