package websocket

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func noop(*Conn) error { return nil }

func TestOptions_defaults(t *testing.T) {
	o := newOptions(nil)
	tests := []struct {
		option    string
		got, want any
	}{
		{"PingInterval", o.pingInterval, 15 * time.Second},
		{"CloseTimeout", o.closeTimeout, 5 * time.Second},
		{"ConnectionTimeout", o.connectionTimeout, 60 * time.Second},
		{"WriteTimeout", o.writeTimeout, 60 * time.Second},
		{"AcceptConnection", funcPointer(o.acceptConnection), funcPointer(SameOrigin)},
		{"AccessDenied", o.accessDenied, nil},
		{"DropIncomingPings", o.dropIncomingPings, false},
		{"PropagateCommonErrors", o.propagateCommonErrors, false},
		{"MaxFrameSize", o.maxFrameSize, int64(1 << 20)},
		{"MaxMessageSize", o.maxMessageSize, int64(1 << 20)},
		{"MaxFragments", o.maxFragments, 131072},
		{"Subprotocols", len(o.subprotocols), 0},
		{"OnError", o.onError == nil, true},
		{"OnClose", o.onClose == nil, true},
		{"MaxLifetime", o.maxLifetime, time.Duration(0)},
		{"Detached", o.detached, false},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got default %v, want %v", tt.option, tt.got, tt.want)
		}
	}
}

// funcPointer returns the address of a function, to compare functions.
func funcPointer(f func(*http.Request) bool) uintptr { return reflect.ValueOf(f).Pointer() }

func TestOptions_panic_out_of_range(t *testing.T) {
	tests := []struct {
		name string
		set  func()
		want []string // the option, the value, the range
	}{
		{"PingInterval", func() { PingInterval(-1) }, []string{"PingInterval(-1ns)", "0 or more"}},
		{"CloseTimeout", func() { CloseTimeout(-time.Second) }, []string{"CloseTimeout(-1s)", "0 or more"}},
		{"ConnectionTimeout", func() { ConnectionTimeout(math.MinInt64) }, []string{"ConnectionTimeout(-2562047h", "0 or more"}},
		{"WriteTimeout", func() { WriteTimeout(-time.Minute) }, []string{"WriteTimeout(-1m0s)", "0 or more"}},
		{"MaxFrameSize zero", func() { MaxFrameSize(0) }, []string{"MaxFrameSize(0)", "1 to 1073741824"}},
		{"MaxFrameSize negative", func() { MaxFrameSize(-1) }, []string{"MaxFrameSize(-1)", "1 to 1073741824"}},
		{"MaxFrameSize over 1 GiB", func() { MaxFrameSize(1<<30 + 1) }, []string{"MaxFrameSize(1073741825)", "1 to 1073741824"}},
		{"MaxMessageSize zero", func() { MaxMessageSize(0) }, []string{"MaxMessageSize(0)", "1 to 1073741824"}},
		{"MaxMessageSize over 1 GiB", func() { MaxMessageSize(math.MaxInt64) }, []string{"MaxMessageSize(9223372036854775807)", "1 to 1073741824"}},
		{"MaxFragments zero", func() { MaxFragments(0) }, []string{"MaxFragments(0)", "1 to 2147483647"}},
		{"MaxFragments negative", func() { MaxFragments(-7) }, []string{"MaxFragments(-7)", "1 to 2147483647"}},
		{"AcceptConnection nil", func() { AcceptConnection(nil) }, []string{"AcceptConnection(nil)", "function"}},
		{"AccessDenied nil", func() { AccessDenied(nil) }, []string{"AccessDenied(nil)", "http.Handler"}},
		{"MaxLifetime", func() { MaxLifetime(-time.Hour) }, []string{"MaxLifetime(-1h0m0s)", "0 or more"}},
		{"OnClose nil", func() { OnClose(nil) }, []string{"OnClose(nil)", "function"}},
		{"OnError nil", func() { OnError(nil) }, []string{"OnError(nil)", "function"}},
		{"Subprotocols empty name", func() { Subprotocols("chat", "") }, []string{`Subprotocols("")`, "token"}},
		{"Subprotocols with a space", func() { Subprotocols("a b") }, []string{`Subprotocols("a b")`, "token"}},
		{"Subprotocols with a line end", func() { Subprotocols("a\r\nSet-Cookie: b") }, []string{`Subprotocols("a\r\nSet-Cookie: b")`, "token"}},
		{"Subprotocols twice", func() { Subprotocols("a", "b", "a") }, []string{`Subprotocols("a")`, "twice"}},
		{"Handle nil", func() { Handle(nil) }, []string{"Handle(nil)", "HandlerFunc"}},
		{"HandleConcurrent nil", func() { HandleConcurrent(nil) }, []string{"Handle(nil)", "HandlerFunc"}},
		{"nil option of Handle", func() { Handle(noop, PingInterval(0), nil) }, []string{"option 2 is nil"}},
		{"nil option of HandleConcurrent", func() { HandleConcurrent(noop, nil) }, []string{"option 1 is nil"}},
		{"nil option of Upgrade", func() { Upgrade(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), nil) }, []string{"option 1 is nil"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				got := fmt.Sprint(recover())
				for _, want := range append(tt.want, "websocket: ") {
					if !strings.Contains(got, want) {
						t.Errorf("got panic %q, want one with %q", got, want)
					}
				}
			}()
			tt.set()
		})
	}
}

func TestOptions_accept_the_ends_of_their_ranges(t *testing.T) {
	o := newOptions([]Option{
		PingInterval(0), CloseTimeout(0), ConnectionTimeout(0), WriteTimeout(math.MaxInt64),
		MaxFrameSize(1), MaxMessageSize(1 << 30), MaxFragments(math.MaxInt32), Subprotocols(),
		AccessDenied(http.NotFoundHandler()),
	})
	if o.maxFrameSize != 1 || o.maxMessageSize != 1<<30 || o.maxFragments != math.MaxInt32 || o.writeTimeout != math.MaxInt64 || o.accessDenied == nil {
		t.Errorf("got %+v", o)
	}
}

func TestOptions_later_overrides_earlier(t *testing.T) {
	o := newOptions([]Option{
		PingInterval(1), PingInterval(2),
		EggDefaults(), DropIncomingPings(false), AcceptConnection(SameOrigin),
		Subprotocols("a", "b"), Subprotocols("c"),
	})
	if o.pingInterval != 2 || o.dropIncomingPings || funcPointer(o.acceptConnection) != funcPointer(SameOrigin) || len(o.subprotocols) != 1 {
		t.Errorf("got %+v", o)
	}
}

func TestOptions_keep_no_slice_of_the_caller(t *testing.T) {
	names := []string{"a", "b"}
	o := newOptions([]Option{Subprotocols(names...)})
	names[0] = "evil"
	if o.subprotocols[0] != "a" {
		t.Errorf("got subprotocols %q after the caller changed its slice", o.subprotocols)
	}
}

func TestDropIncomingPings(t *testing.T) {
	tests := []struct {
		name string
		opt  Option
		want bool
	}{
		{"default", DropIncomingPings(false), true},
		{"dropped", DropIncomingPings(true), false},
		{"EggDefaults", EggDefaults(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dialServer(t, startServer(t, echoAll, tt.opt))
			p.Write(slices.Concat(clientFrame(true, Ping, "there?"), clientFrame(true, Text, "after it")))
			if tt.want {
				p.expect(Pong, "there?")
			}
			p.expect(Text, "after it")
			p.Close()
		})
	}
}

func TestEggDefaults_accept_every_origin(t *testing.T) {
	const foreign = "Origin: https://evil.example\r\n"
	p := dialServer(t, startServer(t, echoAll, EggDefaults()), foreign)
	p.Close()

	p = dialTCP(t, startServer(t, echoAll))
	p.Write([]byte(wstest.Handshake(foreign)))
	resp, err := http.ReadResponse(p.Buffer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without EggDefaults: got %s, want 403", resp.Status)
	}
}
