package websocket

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// newTimelessConn is newPipeConn on a connection without deadlines, as many tunnels are.
func newTimelessConn(t testing.TB, opts ...Option) (*Conn, *recorder) {
	c, p := newWrappedConn(t, func(conn net.Conn) net.Conn {
		socket := wstest.Wrap(conn)
		socket.NoDeadlines = true
		return socket
	}, opts...)
	return c, record(p, false)
}

func TestConn_without_deadlines(t *testing.T) {
	// The message comes between two pings. The handler begins to receive before or after it.
	for _, comes := range []time.Duration{0, 31 * time.Second, 33 * time.Second} {
		t.Run(fmt.Sprintf("sends pings and receives messages, from %v on", comes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := newTimelessConn(t)
				time.AfterFunc(32*time.Second, func() { w.Send(clientFrame(true, Text, "hello")) })
				time.Sleep(comes)
				_, got, err := c.ReceiveMessage()
				if string(got) != "hello" || err != nil {
					t.Errorf("got message %q, error %v", got, err)
				}
				wantDuration(t, "receiving", w.Start, max(comes, 32*time.Second))
				synctest.Wait()
				w.expect("15s ping", "30s ping")
				w.hangUp()
				c.Close(StatusNormalClosure, "")
			})
		})
	}
	for _, use := range handlerUses {
		t.Run("is closed for silence/"+use.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := newTimelessConn(t, PingInterval(0), ConnectionTimeout(10*time.Second))
				done := use.serve(c, use.fn)
				wantError(t, timedCall(t, "the handler", 11*time.Second+pingPoll, func() error { return <-done }), ErrConnectionTimeout)
				wantSocketClosed(t, c)
				synctest.Wait()
				w.expect("10.01s close 1001", "11.01s end")
			})
		})
	}
	ends := []struct {
		name string
		sent []byte // by the peer
		fn   HandlerFunc
		wire []string
	}{
		{"a broken rule", []byte{0x81, 0x00}, receiveAll, []string{"0s close 1002", "1s end"}},
		{"the peer's close", clientFrame(true, Close, closeBody(4000, "")), receiveAll, []string{"0s close 4000", "0s end"}},
		{"Close", nil, func(c *Conn) error { return c.Close(4001, "") }, []string{"0s close 4001", "5s end"}},
		{"Close beside a reader", nil, func(c *Conn) error { go receiveAll(c); synctest.Wait(); return c.Close(4001, "") }, []string{"0s close 4001", "5s end"}},
		{"Close, answered", clientFrame(true, Close, closeBody(4000, "")), func(c *Conn) error { return c.Close(4001, "") }, []string{"0s close 4001", "0s end"}},
	}
	for _, tt := range ends {
		t.Run("is closed by "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, w := newTimelessConn(t)
				if tt.sent != nil {
					w.Send(tt.sent)
				}
				done := runHandler(c, tt.fn)
				select {
				case <-done:
				case <-time.After(time.Hour):
					t.Error("the handler has not returned")
					w.hangUp()
				}
				synctest.Wait()
				w.expect(tt.wire...)
			})
		})
	}
}

// newTLSConn is newPipeConn over TLS. The Close of a tls.Conn writes an alert, and waits up
// to five seconds for the peer to read it.
func newTLSConn(t *testing.T, certificates []tls.Certificate, opts ...Option) (*Conn, *peer) {
	t.Helper()
	s, p := newPipeTLS(t, certificates)
	return newTestConn(s, nil, opts...), p
}

// newPipeTLS returns the server's end of a TLS connection over a net.Pipe, and its peer.
func newPipeTLS(t *testing.T, certificates []tls.Certificate) (*tls.Conn, *peer) {
	t.Helper()
	server, client := net.Pipe()
	// From TLS 1.3 on, the server also writes after the handshake.
	s := tls.Server(server, &tls.Config{Certificates: certificates, MaxVersion: tls.VersionTLS12})
	p := newPeer(t, tls.Client(client, &tls.Config{InsecureSkipVerify: true}))
	go p.Conn.(*tls.Conn).Handshake()
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return s, p
}

// testCertificates returns the certificates of a server of package httptest.
func testCertificates() []tls.Certificate {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	return srv.TLS.Certificates
}

func TestEnds_over_TLS_are_bounded_where_the_peer_does_not_read(t *testing.T) {
	computes(t)
	certificates := testCertificates()
	closes := func(c *Conn) error { return c.Close(4000, "") }
	tests := []struct {
		name string
		peer func(p *peer)
		fn   HandlerFunc
		want time.Duration
		end  error
	}{
		{"Close, and the peer reads nothing", func(p *peer) {}, closes, 3 * time.Second, net.ErrClosed},
		{"Close, and the peer reads only the close frame", func(p *peer) { p.expectClose(4000) }, closes, 3 * time.Second, net.ErrClosed},
		{"Close, answered by a peer that then does not read", func(p *peer) { p.expectClose(4000); p.send(Close, "") }, closes, drainTime, net.ErrClosed},
		{"failing", func(p *peer) { p.Write([]byte{0x81, 0x00}); p.expectClose(1002) }, receiveAll, drainTime, ErrProtocol},
		{"failing, and the peer reads nothing", func(p *peer) { p.Write([]byte{0x81, 0x00}) }, receiveAll, 3 * time.Second, ErrProtocol},
		{"the peer's close", func(p *peer) { p.send(Close, ""); p.expectClose(1005) }, receiveAll, drainTime, io.EOF},
		{"silence", func(p *peer) { p.expectClose(1001) }, receiveAll, 10*time.Second + pingPoll + drainTime, ErrConnectionTimeout},
		{"WriteTimeout", func(p *peer) {}, func(c *Conn) error {
			time.Sleep(time.Second)
			return c.SendMessage(Text, []byte("x"))
		}, 8*time.Second + pingPoll, errTimedOut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newTLSConn(t, certificates, PingInterval(0), CloseTimeout(3*time.Second), WriteTimeout(7*time.Second), ConnectionTimeout(10*time.Second))
				go tt.peer(p)
				done := runHandler(c, tt.fn)
				timedCall(t, "the handler", tt.want, func() error { return <-done })
				wantError(t, endOf(c), tt.end)
				wantSocketClosed(t, c)
			})
		})
	}
}

func TestHandle_over_TLS_closes_in_order(t *testing.T) {
	p := dialTLS(t, echoAll)
	p.send(Text, "secret")
	p.expect(Text, "secret")
	p.Write(slices.Concat(clientFrame(true, Close, closeBody(4000, "")), make([]byte, 1000)))
	p.expectClose(4000)
	p.ExpectEOF()
}

func TestSetWriteDeadline_over_TLS_ends_the_connection(t *testing.T) {
	computes(t)
	conns := make(chan *Conn, 1)
	p := dialTLS(t, func(c *Conn) error {
		conns <- c
		<-c.Context().Done()
		return nil
	})
	c := await(t, conns)
	c.SetWriteDeadline(time.Now().Add(-time.Second))
	err := c.SendMessage(Text, []byte("late"))
	wantError(t, err, os.ErrDeadlineExceeded)
	if CloseStatus(endOf(c)) != StatusAbnormalClosure {
		t.Errorf("got end %v, want the error of a failed write, because TLS may have cut off a record", endOf(c))
	}
	p.Conn.Close()
}

// A busy connection is asked about its socket several times a second.
func TestTransport_asks_the_kernel_without_allocation(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector makes sync.Pool drop items")
	}
	c, _ := newTCPConn(t, PingInterval(0))
	checkAllocs(t, "behind", 0, func() { c.socket.behind() })
	checkAllocs(t, "acked", 0, func() { c.socket.acked() })
}

// A socket that is closed tells nothing.
func TestTransport_asks_a_closed_socket(t *testing.T) {
	c, _ := newTCPConn(t, PingInterval(0))
	c.socket.behind() // so that the pool has a query with an answer
	c.socket.acked()
	c.CloseNow()
	if unread, ended, ok := c.socket.behind(); unread != 0 || ended || ok {
		t.Errorf("got %d unread bytes, end %t, known %t of a closed socket, want nothing", unread, ended, ok)
	}
	if a, ok := c.socket.acked(); ok || a != (acks{}) {
		t.Errorf("got %+v, known %t of a closed socket, want nothing", a, ok)
	}
}
