package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket"
)

// timeout limits a handshake, and a write.
const timeout = 30 * time.Second

// A dialer opens WebSockets to one URL.
type dialer struct {
	url  *url.URL
	from []net.Addr // in turns, if there are any
	tls  *tls.Config
	next atomic.Uint64 // in from
}

func newDialer(rawURL string, o options) (*dialer, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Port() == "" {
		return nil, fmt.Errorf("the URL is %q, want ws://host:port/path or wss://host:port/path", rawURL)
	}
	d := &dialer{url: u}
	if u.Scheme == "wss" {
		d.tls = &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: o.insecure}
	}
	for _, s := range o.from {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("-from: %w", err)
		}
		d.from = append(d.from, net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	}
	return d, nil
}

// dial opens a WebSocket (RFC 6455 section 4.1).
func (d *dialer) dial(ctx context.Context) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var nd net.Dialer
	if len(d.from) > 0 {
		nd.LocalAddr = d.from[d.next.Add(1)%uint64(len(d.from))]
	}
	conn, err := nd.DialContext(ctx, "tcp", d.url.Host)
	if err != nil {
		return nil, err
	}
	// Close resets the connection, which leaves no socket in TIME_WAIT: the next run needs the port.
	conn.(*net.TCPConn).SetLinger(0)
	if d.tls != nil {
		conn = tls.Client(conn, d.tls)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) // also after timeout
	early, err := d.handshake(conn)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &client{conn: conn, r: conn}
	if len(early) > 0 {
		c.r = io.MultiReader(bytes.NewReader(early), conn)
	}
	return c, nil
}

// handshake returns what has arrived behind the response.
func (d *dialer) handshake(conn net.Conn) (early []byte, err error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := &http.Request{Method: http.MethodGet, URL: d.url, Host: d.url.Host, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {key},
	}}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 1024)
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != websocket.AcceptKey(key) {
		return nil, fmt.Errorf("the server answered the handshake with %s, want 101 and the right Sec-WebSocket-Accept", res.Status)
	}
	early, err = r.Peek(r.Buffered())
	return bytes.Clone(early), err
}
