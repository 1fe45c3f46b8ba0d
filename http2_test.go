package websocket

import (
	"testing"

	_ "github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func dialH2(t testing.TB, fn HandlerFunc, opts ...Option) (*wstest.HTTP2, *peer) {
	t.Helper()
	srv := wstest.ServeHTTP2(t, Handle(fn, opts...))
	c := wstest.DialHTTP2(t, srv.Listener.Addr().String(), 0)
	return c, &peer{c.ConnectClient(t), t}
}

func TestHTTP2_echo(t *testing.T) {
	for _, size := range []int{0, 1, 125, 4090, 4096, 8192, 8193, 65536, 300 << 10} {
		_, p := dialH2(t, echoAll)
		p.send(Binary, stars(size))
		p.expect(Binary, stars(size))
		p.Close()
	}
}
