package websocket

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// manyHeaders returns n header lines with different names.
func manyHeaders(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "%04x:\r\n", i)
	}
	return lines.String()
}

// net/http needs about a hundred bytes for each header line. A connection must not hold
// them. Middleware is between net/http and the Handler, but does not copy the request.
func TestConn_holds_at_most_twice_the_size_of_many_headers(t *testing.T) {
	const lines = 4000
	headers := manyHeaders(lines)
	served := make(chan struct{}, 1)
	useRequest := func(c *Conn) error {
		if r := c.Request(); len(r.Header) < lines || r.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("the request has %d headers, want all %d", len(r.Header), lines)
		}
		served <- struct{}{}
		return receiveAll(c)
	}
	tests := []struct {
		name    string
		handler http.Handler
	}{
		{"Handle", Handle(useRequest)},
		{"HandleConcurrent", HandleConcurrent(useRequest)},
		{"Detached", Handle(useRequest, Detached(true))},
		{"Detached behind middleware that copies the request", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Handle(useRequest, Detached(true)).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connKey{}, nil)))
		})},
		{"Upgrade", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, err := Upgrade(w, r); err == nil {
				useRequest(c)
				c.Close(StatusNormalClosure, "")
			}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dialTCP(t, wstest.Serve(t, tt.handler))
			before := wstest.Measure()
			p.Handshake(headers)
			<-served
			const connection = 64 << 10 // of both sides
			if got, most := wstest.Measure().Growth(before), uint64(2*len(headers)+connection); got > most {
				t.Errorf("the connection holds %d bytes for %d bytes of headers, want at most %d", got, len(headers), most)
			}
			p.Close()
			runtime.KeepAlive(headers)
		})
	}
	awaitDetached(t)
}

// Ordinary requests are kept as they are. A packed header is returned without a change.
func TestPackRequest(t *testing.T) {
	long := strings.Repeat("long", 10_000)
	strange := http.Header{
		"":       {"no name"},
		"X-None": nil,
		"X-Text": {"", "\x00\r\n", long, "\xff", strings.Repeat("x", 127), strings.Repeat("x", 128)},
		long:     {long},
	}
	tests := []struct {
		name   string
		lines  int // beside the strange ones
		header http.Header
		packed bool
	}{
		{"no header", 0, http.Header{}, false},
		{"few lines", 10, strange, false},
		{"the most lines", manyLines - 8, strange, false},
		{"one line more", manyLines - 7, strange, true},
		{"many names", 5000, strange, true},
		{"one name", 0, http.Header{"A": make([]string, 5000)}, true},
		{"long lines", 0, http.Header{"A": {long}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := maps.Clone(tt.header)
			for i := range tt.lines {
				want[fmt.Sprintf("X-%d", i)] = []string{fmt.Sprint(i)}
			}
			r := httptest.NewRequest("GET", "/path?query", nil)
			r.SetPathValue("id", "4711")
			r.Header = maps.Clone(want)
			c := newRequestConn(packRequest(r), wstest.NewSocket(), nil)
			defer c.Close(StatusNormalClosure, "")
			got := c.Request()
			if (got != r) != tt.packed || tt.packed != (len(r.Header) == 0 && len(want) > 0) {
				t.Errorf("packed: %t, with %d headers left in the first request, want packed: %t", got != r, len(r.Header), tt.packed)
			}
			checkHeader(t, got.Header, want)
			if again := c.Request(); again != got {
				t.Error("a second call returned another request while the first one is in use")
			}
			if got.URL.RawQuery != "query" || got.PathValue("id") != "4711" || got.Context().Value(http.ServerContextKey) != nil {
				t.Errorf("got the request %+v, want all that was in the first one", got)
			}
			runtime.KeepAlive(got)
		})
	}
}

// checkHeader compares two headers. A name without values may have nil or an empty slice.
func checkHeader(t *testing.T, got, want http.Header) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d headers, want %d", len(got), len(want))
	}
	for name, values := range want {
		gotValues, ok := got[name]
		if !ok || len(values) != len(gotValues) || len(values) > 0 && !reflect.DeepEqual(gotValues, values) {
			t.Errorf("header %.20q: got %.20q, want %.20q", name, gotValues, values)
		}
		if cap(gotValues) > len(gotValues) && len(values) > 0 {
			t.Errorf("header %.20q: append would overwrite the value of another header", name)
		}
	}
}

// Requests are made anew and released while other goroutines use them.
func TestConn_Request_with_many_headers_from_many_goroutines(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	for i := range 2 * manyLines {
		r.Header.Set(fmt.Sprintf("X-%d", i), "value")
	}
	c := newRequestConn(packRequest(r), wstest.NewSocket(), nil)
	defer c.Close(StatusNormalClosure, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 20 {
				if got := c.Request().Header.Get("X-7"); got != "value" {
					t.Errorf("got the header %q, want value", got)
				}
				if i%5 == 0 {
					runtime.GC()
				}
			}
		})
	}
	wg.Wait()
	if got, ok := FromContext(c.Context()); !ok || got != c {
		t.Errorf("FromContext returned %v, %t, want the Conn", got, ok)
	}
}

// The handshake of an ordinary request does not pay for the others.
func TestPackRequest_allocates_nothing(t *testing.T) {
	r := wstest.ReadRequest(wstest.Request("Cookie: a=b", "User-Agent: x", "Accept: */*", "Accept-Language: en"))
	checkAllocs(t, "packRequest", 0, func() { packRequest(r) })
}
