package websocket

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// answer is the response to most offers.
const answer = "permessage-deflate; client_no_context_takeover; server_max_window_bits="

func TestNegotiate(t *testing.T) {
	tests := []struct {
		name   string
		header []string
		want   string
	}{
		{"no header", nil, ""},
		{"Chromium", []string{"permessage-deflate; client_max_window_bits"}, answer + "12"},
		{"Firefox and Safari", []string{"permessage-deflate"}, answer + "12"},
		{"gorilla", []string{"permessage-deflate; server_no_context_takeover; client_no_context_takeover"}, answer + "12; server_no_context_takeover"},
		{"python websockets", []string{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"}, answer + "12"},
		{"another extension", []string{"x-webkit-deflate-frame"}, ""},
		{"another extension first", []string{"bbf-usp-protocol, permessage-deflate"}, answer + "12"},
		{"another extension with its parameter", []string{"permessage-bzip2; server_max_window_bits=8"}, ""},
		{"server_no_context_takeover", []string{"permessage-deflate; server_no_context_takeover"}, answer + "12; server_no_context_takeover"},
		{"client_no_context_takeover", []string{"permessage-deflate; client_no_context_takeover"}, answer + "12"},
		{"the smallest windows", []string{"permessage-deflate; server_max_window_bits=8; client_max_window_bits=8"}, answer + "8"},
		{"the largest windows", []string{"permessage-deflate; server_max_window_bits=15; client_max_window_bits=15"}, answer + "12"},
		{"all parameters", []string{"permessage-deflate; client_max_window_bits=9; server_max_window_bits=10; client_no_context_takeover; server_no_context_takeover"},
			answer + "10; server_no_context_takeover"},
		{"quoted value", []string{`permessage-deflate; server_max_window_bits="10"`}, answer + "10"},
		{"quoted value with a backslash", []string{`permessage-deflate; server_max_window_bits="1\0"`}, answer + "10"},
		{"no whitespace", []string{"permessage-deflate;server_max_window_bits=9;client_max_window_bits"}, answer + "9"},
		{"much whitespace", []string{"\t permessage-deflate\t;  server_max_window_bits = 9 ;client_max_window_bits \t"}, answer + "9"},
		{"several lines", []string{"foo", "permessage-deflate; server_max_window_bits=11"}, answer + "11"},
		{"empty elements", []string{", ,permessage-deflate,,"}, answer + "12"},

		{"the first of two offers", []string{"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, answer + "10"},
		{"the first of two lines", []string{"permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=9"}, answer + "10"},
		{"the second offer, because the first has an unknown parameter", []string{"permessage-deflate; x, permessage-deflate; server_max_window_bits=10"}, answer + "10"},
		{"the second offer, because the first has a wrong value", []string{"permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=9"}, answer + "9"},
		{"the third offer", []string{"permessage-deflate; y=1, foo; bar=2", "permessage-deflate; server_no_context_takeover"}, answer + "12; server_no_context_takeover"},

		{"unknown parameter", []string{"permessage-deflate; server_max_windows=10"}, ""},
		{"a parameter that comes twice", []string{"permessage-deflate; server_no_context_takeover; server_no_context_takeover"}, ""},
		{"server_max_window_bits twice", []string{"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"}, ""},
		{"client_max_window_bits twice", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits=10"}, ""},
		{"client_no_context_takeover twice", []string{"permessage-deflate; client_no_context_takeover; client_no_context_takeover"}, ""},
		{"server_no_context_takeover with a value", []string{"permessage-deflate; server_no_context_takeover=1"}, ""},
		{"client_no_context_takeover with a value", []string{`permessage-deflate; client_no_context_takeover="true"`}, ""},
		{"server_max_window_bits without a value", []string{"permessage-deflate; server_max_window_bits"}, ""},
		{"7 bits", []string{"permessage-deflate; server_max_window_bits=7"}, ""},
		{"16 bits", []string{"permessage-deflate; server_max_window_bits=16"}, ""},
		{"16 bits of the client", []string{"permessage-deflate; client_max_window_bits=16"}, ""},
		{"7 bits of the client", []string{"permessage-deflate; client_max_window_bits=7"}, ""},
		{"a zero in front", []string{"permessage-deflate; server_max_window_bits=010"}, ""},
		{"a zero in front of one digit", []string{"permessage-deflate; server_max_window_bits=09"}, ""},
		{"a sign", []string{"permessage-deflate; server_max_window_bits=+9"}, ""},
		{"not a number", []string{"permessage-deflate; server_max_window_bits=1x"}, ""},
		{"a large number", []string{"permessage-deflate; server_max_window_bits=4294967306"}, ""},
		{"the name in another case", []string{"Permessage-Deflate"}, ""},
		{"a parameter in another case", []string{"permessage-deflate; Server_max_window_bits=10"}, ""},
		{"a name that begins with it", []string{"permessage-deflate2"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !validExtensions(tt.header) {
				t.Fatalf("%q is not valid, so negotiate is not called", tt.header)
			}
			if got := negotiate(tt.header).String(); got != tt.want {
				t.Errorf("got %q for %q, want %q", got, tt.header, tt.want)
			}
		})
	}
}

// Whatever is offered, the agreement is one that the client has asked for, and the encoder can
// keep.
func FuzzNegotiate(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits")
	f.Add("foo, permessage-deflate; x; permessage-deflate; server_max_window_bits=9")
	f.Add(`permessage-deflate; server_max_window_bits="1\0"; server_no_context_takeover`)
	f.Fuzz(func(t *testing.T, header string) {
		if !validExtensions([]string{header}) {
			return
		}
		a := negotiate([]string{header})
		if !a.agreed() {
			if a != (agreement{}) {
				t.Errorf("got %+v for %q, want nothing", a, header)
			}
			return
		}
		if a.windowBits < 8 || a.windowBits > 12 || !strings.Contains(header, deflateName) {
			t.Errorf("got %v for %q", a, header)
		}
		if a.noTakeover && !strings.Contains(header, "server_no_context_takeover") {
			t.Errorf("got %v for %q, want context takeover", a, header)
		}
		if a.windowBits < 12 && !strings.Contains(header, "server_max_window_bits") {
			t.Errorf("got %v for %q, want 12 bits", a, header)
		}
		// The answer is an offer with the same meaning.
		if again := negotiate([]string{a.String()}); again != a || !validExtensions([]string{a.String()}) {
			t.Errorf("got %v for the answer %v", again, a)
		}
	})
}

func TestCompression_handshake(t *testing.T) {
	chromium := "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	tests := []struct {
		name    string
		opts    []Option
		headers string
		want    string
	}{
		{"off", nil, chromium, ""},
		{"on", []Option{Compression(0)}, chromium, answer + "12"},
		{"on, and not offered", []Option{Compression(0)}, "", ""},
		{"on, and declined", []Option{Compression(64)}, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n", ""},
		{"the last option wins", []Option{Compression(64), Compression(1 << 30)}, chromium, answer + "12"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, func(c *Conn) error { return c.SendMessage(Text, []byte("<"+c.Extensions()+">")) }, tt.opts...)
			p := dialTCP(t, srv)
			fmt.Fprint(p.Conn, wstest.Handshake(tt.headers))
			response, err := http.ReadResponse(p.Buffer, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := response.Header["Sec-Websocket-Extensions"]
			if tt.want == "" && got != nil || tt.want != "" && fmt.Sprint(got) != fmt.Sprint([]string{tt.want}) {
				t.Errorf("got Sec-WebSocket-Extensions %q, want %q", got, tt.want)
			}
			p.expect(Text, "<"+tt.want+">")
			p.expectClose(StatusNormalClosure)
		})
	}
}

// Middleware cannot agree on an extension.
func TestCompression_header_of_middleware(t *testing.T) {
	raw := appendResponse(nil, wstest.Key, "", agreement{windowBits: 9}, map[string][]string{"Sec-Websocket-Extensions": {"foo"}})
	if got := string(raw); strings.Contains(got, "foo") || strings.Count(got, "Sec-WebSocket-Extensions: "+answer+"9\r\n") != 1 {
		t.Errorf("got the response %q", got)
	}
}
