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
	"testing/synctest"
	"time"
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
		{"OnRefused", o.onRefused == nil, true},
		{"Detached", o.detached, false},
		{"Compression", o.minCompressed, -1},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got default %v, want %v", tt.option, tt.got, tt.want)
		}
	}
}

// funcPointer returns the address of a function, to compare functions.
func funcPointer(f func(*http.Request) bool) uintptr { return reflect.ValueOf(f).Pointer() }

func TestOptions_out_of_range(t *testing.T) {
	tests := []struct {
		name string
		opt  Option
		want []string // the option, the value, the range
	}{
		{"Compression", Compression(-1), []string{"Compression(-1)", "0 or more"}},
		{"PingInterval", PingInterval(-1), []string{"PingInterval(-1ns)", "0 or more"}},
		{"CloseTimeout", CloseTimeout(-time.Second), []string{"CloseTimeout(-1s)", "0 or more"}},
		{"ConnectionTimeout", ConnectionTimeout(math.MinInt64), []string{"ConnectionTimeout(-2562047h", "0 or more"}},
		{"WriteTimeout", WriteTimeout(-time.Minute), []string{"WriteTimeout(-1m0s)", "0 or more"}},
		{"MaxFrameSize zero", MaxFrameSize(0), []string{"MaxFrameSize(0)", "1 to 1073741824"}},
		{"MaxFrameSize negative", MaxFrameSize(-1), []string{"MaxFrameSize(-1)", "1 to 1073741824"}},
		{"MaxFrameSize over MaxSize", MaxFrameSize(MaxSize + 1), []string{"MaxFrameSize(1073741825)", "1 to 1073741824"}},
		{"MaxMessageSize zero", MaxMessageSize(0), []string{"MaxMessageSize(0)", "1 to 1073741824"}},
		{"MaxMessageSize over MaxSize", MaxMessageSize(MaxSize + 1), []string{"MaxMessageSize(1073741825)", "1 to 1073741824"}},
		{"MaxMessageSize over 32 bits", MaxMessageSize(1<<32 + 1), []string{"MaxMessageSize(4294967297)", "1 to 1073741824"}},
		{"MaxMessageSize over all", MaxMessageSize(math.MaxInt64), []string{"MaxMessageSize(9223372036854775807)", "1 to 1073741824"}},
		{"MaxFragments zero", MaxFragments(0), []string{"MaxFragments(0)", "1 to 2147483647"}},
		{"MaxFragments negative", MaxFragments(-7), []string{"MaxFragments(-7)", "1 to 2147483647"}},
		{"AcceptConnection nil", AcceptConnection(nil), []string{"AcceptConnection(nil)", "function"}},
		{"AccessDenied nil", AccessDenied(nil), []string{"AccessDenied(nil)", "http.Handler"}},
		{"OnError nil", OnError(nil), []string{"OnError(nil)", "function"}},
		{"MaxLifetime", MaxLifetime(-time.Hour), []string{"MaxLifetime(-1h0m0s)", "0 or more"}},
		{"OnClose nil", OnClose(nil), []string{"OnClose(nil)", "function"}},
		{"OnRefused nil", OnRefused(nil), []string{"OnRefused(nil)", "function"}},
		{"Subprotocols empty name", Subprotocols("chat", ""), []string{`Subprotocols("")`, "token"}},
		{"Subprotocols with a space", Subprotocols("a b"), []string{`Subprotocols("a b")`, "token"}},
		{"Subprotocols with a line end", Subprotocols("a\r\nSet-Cookie: b"), []string{`Subprotocols("a\r\nSet-Cookie: b")`, "token"}},
		{"Subprotocols twice", Subprotocols("a", "b", "a"), []string{`Subprotocols("a")`, "twice"}},
		{"nil", nil, []string{"option 2 is nil"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts := []Option{PingInterval(0), tt.opt, PingInterval(time.Second)}
			for name, f := range map[string]func(){
				"Handle":           func() { Handle(noop, opts...) },
				"HandleConcurrent": func() { HandleConcurrent(noop, opts...) },
			} {
				wantMention(t, panicOf(f), append(tt.want, "websocket: ")...)
				if t.Failed() {
					t.Fatalf("by %s", name)
				}
			}
			_, err := Upgrade(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), opts...)
			if err == nil {
				t.Fatal("Upgrade returned no error")
			}
			wantMention(t, err.Error(), append(tt.want, "500")...)
		})
	}
}

// panicOf returns the text with which f panics, or "<nil>".
func panicOf(f func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestHandle_panics_without_a_function(t *testing.T) {
	for _, f := range []func(){func() { Handle(nil) }, func() { HandleConcurrent(nil) }} {
		wantMention(t, panicOf(f), "websocket: Handle(nil)", "HandlerFunc")
	}
}

// If ConnectionTimeout is not given, it follows PingInterval, because an idle peer sends
// nothing but the answers to pings.
func TestOptions_ConnectionTimeout_and_PingInterval(t *testing.T) {
	const invalid = -1
	tests := []struct {
		name             string
		opts             []Option
		ping, connection time.Duration
	}{
		{"defaults", nil, 15 * time.Second, 60 * time.Second},
		{"short interval", []Option{PingInterval(time.Second)}, time.Second, 60 * time.Second},
		{"a quarter of the default", []Option{PingInterval(15 * time.Second)}, 15 * time.Second, 60 * time.Second},
		{"more than a quarter", []Option{PingInterval(15*time.Second + 1)}, 15*time.Second + 1, 60*time.Second + 4},
		{"longer than the default", []Option{PingInterval(5 * time.Minute)}, 5 * time.Minute, 20 * time.Minute},
		{"longest", []Option{PingInterval(math.MaxInt64)}, math.MaxInt64, math.MaxInt64},
		{"four times as long as possible", []Option{PingInterval(math.MaxInt64/4 + 1)}, math.MaxInt64/4 + 1, math.MaxInt64},
		{"no pings", []Option{PingInterval(0)}, 0, 0},
		{"no pings and EggDefaults", []Option{EggDefaults(), PingInterval(0), EggDefaults()}, 0, 0},
		{"no pings and a timeout", []Option{PingInterval(0), ConnectionTimeout(time.Second)}, 0, time.Second},
		{"no pings and a timeout before", []Option{ConnectionTimeout(time.Second), PingInterval(0)}, 0, time.Second},
		{"no timeout", []Option{ConnectionTimeout(0)}, 15 * time.Second, 0},
		{"no timeout and an interval", []Option{PingInterval(time.Hour), ConnectionTimeout(0)}, time.Hour, 0},
		{"a timeout alone, shorter than the default interval", []Option{ConnectionTimeout(time.Second)}, 15 * time.Second, time.Second},
		{"shorter", []Option{PingInterval(time.Second), ConnectionTimeout(time.Second + 1)}, time.Second, time.Second + 1},
		{"equal", []Option{PingInterval(time.Second), ConnectionTimeout(time.Second)}, invalid, 0},
		{"longer", []Option{PingInterval(time.Hour), ConnectionTimeout(time.Minute)}, invalid, 0},
		{"longer in the other order", []Option{ConnectionTimeout(time.Minute), PingInterval(time.Hour)}, invalid, 0},
		{"the default interval given", []Option{PingInterval(15 * time.Second), ConnectionTimeout(15 * time.Second)}, invalid, 0},
		{"longer, then replaced", []Option{PingInterval(time.Hour), ConnectionTimeout(time.Minute), PingInterval(time.Second)}, time.Second, time.Minute},
		{"shorter, then replaced", []Option{PingInterval(time.Second), ConnectionTimeout(time.Minute), PingInterval(time.Hour)}, invalid, 0},
		{"replaced by no limit", []Option{PingInterval(time.Hour), ConnectionTimeout(time.Minute), ConnectionTimeout(0)}, time.Hour, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := applyOptions(tt.opts)
			if tt.ping == invalid {
				if o.err == nil {
					t.Fatalf("got PingInterval %v, ConnectionTimeout %v, want an error", o.pingInterval, o.connectionTimeout)
				}
				wantMention(t, o.err.Error(), "PingInterval(", "ConnectionTimeout(", "set a ConnectionTimeout that is longer than PingInterval")
				return
			}
			if o.err != nil || o.pingInterval != tt.ping || o.connectionTimeout != tt.connection {
				t.Errorf("got PingInterval %v, ConnectionTimeout %v, error %v, want %v, %v", o.pingInterval, o.connectionTimeout, o.err, tt.ping, tt.connection)
			}
		})
	}
}

// An idle client that answers pings stays connected, however long the interval is, and a
// client without pings does too.
func TestPingInterval_keeps_idle_clients_connected(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Minute, 10 * time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, PingInterval(interval))
				done := runHandler(c, receiveAll)
				r := record(p, true)
				time.Sleep(time.Hour)
				if err := endOf(c); err != nil {
					t.Errorf("the connection ended with %v, want it open", err)
				}
				r.hangUp()
				<-done
			})
		})
	}
}

// Browsers send a message as one frame.
func TestMaxFrameSize_follows_MaxMessageSize(t *testing.T) {
	computes(t)
	tests := []struct {
		name           string
		opts           []Option
		frame, message int64
	}{
		{"defaults", nil, 1 << 20, 1 << 20},
		{"larger messages", []Option{MaxMessageSize(32 << 20)}, 32 << 20, 32 << 20},
		{"smaller messages", []Option{MaxMessageSize(10)}, 10, 10},
		{"the largest messages", []Option{MaxMessageSize(MaxSize)}, MaxSize, MaxSize},
		{"smaller frames", []Option{MaxFrameSize(10), MaxMessageSize(32 << 20)}, 10, 32 << 20},
		{"larger frames", []Option{MaxMessageSize(10), MaxFrameSize(32 << 20)}, 32 << 20, 10},
		{"frames alone", []Option{MaxFrameSize(10)}, 10, 1 << 20},
		{"the last one wins", []Option{MaxMessageSize(10), MaxMessageSize(20)}, 20, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if o := newOptions(tt.opts); o.maxFrameSize != tt.frame || o.maxMessageSize != tt.message {
				t.Errorf("got MaxFrameSize %d, MaxMessageSize %d, want %d, %d", o.maxFrameSize, o.maxMessageSize, tt.frame, tt.message)
			}
		})
	}
	t.Run("on a connection", func(t *testing.T) {
		p := dialServer(t, startServer(t, func(c *Conn) error {
			_, data, err := c.ReceiveMessage()
			if err == nil {
				c.SendMessage(Text, fmt.Append(nil, len(data)))
			}
			return receiveAll(c)
		}, MaxMessageSize(32<<20)))
		p.send(Binary, strings.Repeat("x", 2<<20))
		p.expect(Text, "2097152")
		p.Write(clientHeader(true, Binary, 32<<20+1))
		wantMention(t, p.expectClose(StatusMessageTooBig), "message of 33554433 bytes exceeds MaxMessageSize 33554432 and MaxFrameSize 33554432")
	})
	t.Run("with a length that overflows", func(t *testing.T) {
		p := dialServer(t, startServer(t, echoAll))
		p.Write(clientFrame(false, Binary, "x"))
		p.Write(clientHeader(true, Continuation, math.MaxInt64))
		wantMention(t, p.expectClose(StatusMessageTooBig), "message of 9223372036854775808 bytes exceeds MaxMessageSize 1048576")
	})
}

func TestOptions_accept_the_ends_of_their_ranges(t *testing.T) {
	o := newOptions([]Option{
		PingInterval(0), CloseTimeout(0), ConnectionTimeout(0), WriteTimeout(math.MaxInt64),
		MaxFrameSize(1), MaxMessageSize(MaxSize), MaxFragments(math.MaxInt32), Subprotocols(),
		AccessDenied(http.NotFoundHandler()), OnRefused(func(*http.Request, *HandshakeError) {}),
	})
	if o.maxFrameSize != 1 || o.maxMessageSize != 1<<30 || o.maxFragments != math.MaxInt32 || o.writeTimeout != math.MaxInt64 || o.accessDenied == nil || o.onRefused == nil {
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

// A policy of the application must not be lost because of the order of the options.
func TestEggDefaults_give_way_to_options_that_are_given(t *testing.T) {
	given := []Option{AcceptConnection(SameOrigin), DropIncomingPings(false)}
	for name, opts := range map[string][]Option{
		"before":  append([]Option{EggDefaults()}, given...),
		"after":   append(slices.Clone(given), EggDefaults()),
		"between": {given[0], EggDefaults(), given[1]},
	} {
		if o := newOptions(opts); o.dropIncomingPings || funcPointer(o.acceptConnection) != funcPointer(SameOrigin) {
			t.Errorf("EggDefaults %s: got %+v, want the options that were given", name, o)
		}
	}
	for name, opts := range map[string][]Option{"alone": {EggDefaults()}, "twice": {EggDefaults(), EggDefaults()}} {
		if o := newOptions(opts); !o.dropIncomingPings || funcPointer(o.acceptConnection) != funcPointer(AnyOrigin) {
			t.Errorf("EggDefaults %s: got %+v, want the defaults of the egg", name, o)
		}
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
