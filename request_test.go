package websocket

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// manyHeaders returns n header lines with different names.
func manyHeaders(n int, value string) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "%05x:%s\r\n", i, value)
	}
	return lines.String()
}

// requestLines is how many header lines of wstest.Request are in the header of the request.
var requestLines = headerLines(wstest.ReadRequest(wstest.Request()).Header)

func withContext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connKey{}, nil)))
	})
}

// net/http needs about a hundred bytes for each header line, also where middleware has copied
// the request. A connection holds them until it ends, so there must not be many.
func TestConn_holds_at_most_twice_the_size_of_many_headers(t *testing.T) {
	served := make(chan struct{}, 1)
	useRequest := func(c *Conn) error {
		if got := headerLines(c.Request().Header); got != maxHeaderLines {
			t.Errorf("the request has %d header lines, want all %d", got, maxHeaderLines)
		}
		served <- struct{}{}
		return receiveAll(c)
	}
	handlers := map[string]http.Handler{
		"Handle":                                Handle(useRequest),
		"HandleConcurrent":                      HandleConcurrent(useRequest),
		"Detached":                              Handle(useRequest, Detached(true)),
		"Detached behind a copy of the request": withContext(Handle(useRequest, Detached(true))),
		"StripPrefix":                           http.StripPrefix("/", Handle(useRequest)),
		"WithContext":                           withContext(Handle(useRequest)),
		"Upgrade": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, err := Upgrade(w, r); err == nil {
				useRequest(c)
				c.Close(StatusNormalClosure, "")
			}
		}),
	}
	for name, h := range handlers {
		for _, value := range []string{"", strings.Repeat("x", 1000)} {
			t.Run(fmt.Sprintf("%s/lines of %d bytes", name, len(value)+8), func(t *testing.T) {
				headers := manyHeaders(maxHeaderLines-requestLines, value)
				p := dialTCP(t, wstest.Serve(t, h))
				before := wstest.Measure()
				p.Handshake(headers)
				<-served
				const lines, connection = 64 << 10, 64 << 10 // the connection has two sides
				if got, most := wstest.Measure().Growth(before), uint64(2*len(headers)+lines+connection); got > most {
					t.Errorf("the connection holds %d bytes for %d bytes of headers, want at most %d", got, len(headers), most)
				}
				p.Close()
				runtime.KeepAlive(headers)
			})
		}
	}
}

func TestUpgrade_refuses_too_many_header_lines(t *testing.T) {
	const reason = "this request has %d header lines; send at most 400, because the connection keeps them until it ends"
	for _, tt := range []struct {
		name    string
		headers string
		lines   int // beside those of the handshake
	}{
		{"one more", manyHeaders(maxHeaderLines-requestLines+1, ""), maxHeaderLines - requestLines + 1},
		{"one more of one name", strings.Repeat("a: b\r\n", maxHeaderLines-requestLines+1), maxHeaderLines - requestLines + 1},
		{"one more subprotocol", strings.Repeat("Sec-WebSocket-Protocol: a\r\n", maxHeaderLines-requestLines+1), maxHeaderLines - requestLines + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newUpgradeServer(t, nil, AcceptConnection(func(*http.Request) bool {
				t.Error("the policy was called")
				return true
			}))
			_, br := s.dial(t, strings.TrimSuffix(wstest.Request(), "\r\n")+tt.headers+"\r\n"+nextRequest)
			resp, body := readRefusal(t, br)
			want := fmt.Sprintf(reason, tt.lines+requestLines)
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || body != want+"\n" {
				t.Errorf("got %s %q, want 431 %q", resp.Status, body, want)
			}
			checkRefusal(t, s.result(t), http.StatusRequestHeaderFieldsTooLarge, want)
		})
	}
}

// Middleware reads the header of its request after ServeHTTP, for a log, or at the same time
// (the race detector sees a write).
func TestConn_leaves_the_header_of_its_request_alone(t *testing.T) {
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("Detached(%t)", detached), func(t *testing.T) {
			h := Handle(func(c *Conn) error {
				if first, second := c.Request(), c.Request(); first != second {
					t.Error("Request returned two requests")
				}
				return receiveAll(c)
			}, Detached(detached))
			logged := make(chan string, 2)
			srv := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				log := func() { logged <- r.Header.Get("User-Agent") }
				go func() {
					time.Sleep(time.Millisecond)
					log()
				}()
				h.ServeHTTP(w, r)
				log()
			}))
			p := dialTCP(t, srv)
			p.Handshake("User-Agent: test\r\n", manyHeaders(maxHeaderLines-requestLines-1, ""))
			p.send(Text, "")
			p.Close()
			for range cap(logged) {
				if got := await(t, logged); got != "test" {
					t.Errorf("middleware read the User-Agent %q, want test", got)
				}
			}
			awaitEnd(t, h)
		})
	}
}
