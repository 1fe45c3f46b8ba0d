package servers

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// When memory is measured, a loop holds no buffer of net/http. coder and gws use the buffers
// themselves, and have no option for that. In the handler, net/http still holds the bufio.ReadWriter,
// so only a server that empties it frees the buffers.
func TestMemory_without_buffers_of_net_http(t *testing.T) {
	KeepMessages = false
	defer func() { KeepMessages = true }()
	tests := []struct {
		mode        Mode
		contestants []Contestant
	}{
		{Detached, []Contestant{own, gorilla, gobwas, gobwasRaw, rawFrame, rawBatch}},
		{InHandler, []Contestant{own, ownLend, rawFrame, rawBatch}},
	}
	for _, tt := range tests {
		for _, c := range tt.contestants {
			t.Run(string(tt.mode)+"/"+c.Name, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				freed := make(chan struct{}, 2)
				rw := buffersOf(far, freed)
				var held *bufio.ReadWriter // by net/http
				if tt.mode == InHandler {
					held = rw
				}
				go c.Handler(tt.mode).ServeHTTP(&hijackable{httptest.NewRecorder(), far, rw}, handshake())
				if _, err := http.ReadResponse(bufio.NewReader(near), nil); err != nil {
					t.Fatal(err)
				}
				for range cap(freed) {
					awaitFreed(t, freed)
				}
				runtime.KeepAlive(held)
			})
		}
	}
}

// buffersOf returns new buffers of conn. freed gets a value when the garbage collector frees one.
func buffersOf(conn net.Conn, freed chan struct{}) *bufio.ReadWriter {
	note := func(struct{}) { freed <- struct{}{} }
	r, w := bufio.NewReader(strings.NewReader("x")), bufio.NewWriter(conn)
	b, _ := r.Peek(1)
	runtime.AddCleanup(&b[0], note, struct{}{})
	runtime.AddCleanup(&w.AvailableBuffer()[:1][0], note, struct{}{})
	r.Reset(conn)
	return bufio.NewReadWriter(r, w)
}

func awaitFreed(t *testing.T, freed <-chan struct{}) {
	t.Helper()
	for limit := time.After(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-freed:
			return
		case <-limit:
			t.Fatal("a buffer of net/http is still held")
		case <-time.After(time.Millisecond):
		}
	}
}

func handshake() *http.Request {
	r := httptest.NewRequest("GET", "http://localhost"+EchoPath, nil)
	for key, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(key, value)
	}
	return r
}

type hijackable struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }
