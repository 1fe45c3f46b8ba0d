package nettest

import (
	"net"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/f44ffc3b/websocket"
)

// networks are the networks below the connections.
var networks = map[string]func() net.Listener{
	"TCP": func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		return l
	},
	"memory": func() net.Listener { return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})} },
}

// handlers are the ways to serve a connection.
var handlers = map[string]func(websocket.HandlerFunc, ...websocket.Option) *websocket.Handler{
	"Handle":           websocket.Handle,
	"HandleConcurrent": websocket.HandleConcurrent,
}

// A stream has both ends of a connection. The server's end is that of Conn.Stream.
type stream struct {
	server net.Conn
	client *clientConn
	stop   func()
}

// newStream serves one connection on the network.
func newStream(network string, handle func(websocket.HandlerFunc, ...websocket.Option) *websocket.Handler) (*stream, error) {
	l := networks[network]()
	streams := make(chan net.Conn, 1)
	done := make(chan struct{})
	server := &http.Server{Handler: handle(func(c *websocket.Conn) error {
		streams <- c.Stream(websocket.Binary)
		<-done
		return nil
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	dial := net.Dial
	if pipes, ok := l.(*pipeListener); ok {
		dial = pipes.dial
	}
	conn, err := dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	client, err := newClient(conn)
	if err != nil {
		return nil, err
	}
	s := &stream{<-streams, client, nil}
	s.stop = func() {
		s.client.Conn.Close()
		s.server.Close()
		close(done)
		server.Close()
		serving.Wait()
	}
	return s, nil
}

func TestStream(t *testing.T) {
	for network := range networks {
		for name, handle := range handlers {
			t.Run(network+" with "+name, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					s, err := newStream(network, handle)
					if err != nil {
						return nil, nil, nil, err
					}
					return s.server, s.client, s.stop, nil
				})
			})
		}
	}
}

// A pipeListener accepts connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(string, string) (net.Conn, error) {
	server, client := net.Pipe()
	l.conns <- server
	return client, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
